//! Counters of a launch of which only some blocks run: which they are, and how many blocks each stands for.
//!
//! Blocks of one launch differ: phases do different work, tiles hang over borders. Evenly spread blocks alone would miss a phase that is short in blocks and long in work. So the
//! first and the last block run, too, and then, one by one, the middle between two neighbours that differ, where that may matter most: a border between phases is found by bisection.

use std::sync::atomic::Ordering::Relaxed;

use rayon::prelude::*;

use super::block::Block;
use super::count::Counts;
use super::{Harvest, Task};

/// Blocks that may run beside the evenly spread ones, for each of those.
const EXTRA: u64 = 4;
/// Two neighbours are looked between as long as their difference, times the blocks between them, is more than this part of the whole launch.
const MATTERS: u64 = 100;

/// Runs at most `most` evenly spread blocks of a launch, and some more where they differ. The sums are those of the whole launch, estimated. Also gives the number of blocks that ran.
pub(super) fn run(task: &Task<'_>, most: u64) -> (Harvest, u64) {
    let (blocks, most) = (task.blocks, most.max(1));
    let start: Vec<u64> = if blocks <= most {
        (0..blocks).collect()
    } else {
        // The middles of equal shares.
        let middle = |n: u64| ((2 * u128::from(n) + 1) * u128::from(blocks) / (2 * u128::from(most))) as u64;
        let mut start: Vec<u64> = (0..most).map(middle).collect();
        if most > 1 {
            start.extend([0, blocks - 1]);
        }
        start.sort_unstable();
        start.dedup();
        start
    };
    let one = |n: u64| {
        (
            n,
            if task.launch.profile {
                Block::<false, true>::new(task, None).only(n)
            } else {
                Block::<false, false>::new(task, None).only(n)
            },
        )
    };
    let mut ran: Vec<(u64, Harvest)> = match task.workers {
        0 | 1 => start.into_iter().map(one).collect(),
        _ => start.into_par_iter().map(one).collect(),
    };
    for _ in 0..if most > 1 { EXTRA * most } else { 0 } {
        if task.stop.load(Relaxed) {
            break;
        }
        let Some(between) = widest(&ran, blocks) else { break };
        ran.push(one(between));
        ran.sort_unstable_by_key(|(n, _)| *n);
    }
    let (count, shares) = (ran.len() as u64, shares(&ran, blocks));
    (sum(ran, &shares), count)
}

/// The middle of the two neighbours whose difference may matter most; none where no difference does.
fn widest(ran: &[(u64, Harvest)], blocks: u64) -> Option<u64> {
    let work = |i: usize| u128::from(ran[i].1.instructions);
    let total: u128 = shares(ran, blocks).iter().enumerate().map(|(i, share)| work(i) * u128::from(*share)).sum();
    let doubt = |i: usize| work(i).abs_diff(work(i + 1)) * u128::from(ran[i + 1].0 - ran[i].0 - 1);
    let most = (0..ran.len().saturating_sub(1)).max_by_key(|i| doubt(*i))?;
    (doubt(most) * u128::from(MATTERS) > total).then(|| ran[most].0.midpoint(ran[most + 1].0))
}

/// How many blocks each stands for: those that are nearer to it than to its neighbours.
fn shares(ran: &[(u64, Harvest)], blocks: u64) -> Vec<u64> {
    let border = |i: usize| if i == ran.len() { blocks } else { ran[i - 1].0.midpoint(ran[i].0) + 1 };
    (0..ran.len()).map(|i| border(i + 1) - if i == 0 { 0 } else { border(i) }).collect()
}

fn sum(ran: Vec<(u64, Harvest)>, shares: &[u64]) -> Harvest {
    let mut all = Harvest::default();
    for ((_, harvest), share) in ran.into_iter().zip(shares) {
        all.report.merge(harvest.report);
        all.output.extend(harvest.output);
        all.instructions += harvest.instructions;
        if let Some(counts) = harvest.counts {
            all.counts.get_or_insert_with(|| Counts::like(&counts)).merge(&counts, *share);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Block numbers and their work.
    fn ran(blocks: &[(u64, u64)]) -> Vec<(u64, Harvest)> {
        blocks
            .iter()
            .map(|(n, instructions)| (*n, Harvest { instructions: *instructions, ..Harvest::default() }))
            .collect()
    }

    #[test]
    fn shares_are_all_blocks() {
        assert_eq!(shares(&ran(&[(0, 1), (1, 1), (8, 1), (9, 1)]), 10), [1, 4, 4, 1]);
        assert_eq!(shares(&ran(&[(4, 1)]), 10), [10]);
        assert_eq!(shares(&ran(&[(0, 1), (1, 1)]), 2), [1, 1]);
    }

    #[test]
    fn looks_between_neighbours_that_differ() {
        assert_eq!(widest(&ran(&[(0, 50), (40, 50), (99, 50)]), 100), None);
        assert_eq!(widest(&ran(&[(0, 50), (40, 50), (99, 500)]), 100), Some(69));
        assert_eq!(widest(&ran(&[(0, 50), (98, 50), (99, 500)]), 100), None, "nothing lies between");
        assert_eq!(widest(&ran(&[(5, 50)]), 10), None);
    }
}
