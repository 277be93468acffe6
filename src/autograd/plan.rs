//! Places values in memory: each arena value gets an offset for the calls from its first write to its last use, so that operators never allocate.

use super::program::{Place, Program};
use crate::{Error, Result};

/// Offsets of a program's arena values.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Byte offset per value; 0 for those that do not live in the arena.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub bytes: usize,
}

/// Alignment of every value, for vector loads and separate cache lines.
const ALIGN: usize = 256;

/// Plans `program`: largest values first, each at the lowest offset where it meets no other value that lives at the same time.
///
/// # Errors
/// [`Error::Graph`] if a value is read before anything wrote it: a defect of an operator's lowering.
pub fn plan(program: &Program) -> Result<Plan> {
    let lives = lifetimes(program)?;
    let mut order: Vec<usize> = (0..program.values.len()).filter(|v| lives[*v].is_some()).collect();
    order.sort_by_key(|v| std::cmp::Reverse((program.values[*v].bytes, *v)));
    let mut offsets = vec![0; program.values.len()];
    let mut placed: Vec<(usize, usize, usize)> = Vec::new(); // value, start, end
    let mut total = 0;
    for value in order {
        let size = program.values[value].bytes.next_multiple_of(ALIGN);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, ..)| meet(lives[value], lives[*other]))
            .map(|(_, start, end)| (*start, *end))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + size <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[value] = offset;
        total = total.max(offset + size);
        placed.push((value, offset, offset + size));
    }
    Ok(Plan { offsets, bytes: total })
}

type Life = Option<(usize, usize)>;

fn meet(a: Life, b: Life) -> bool {
    matches!((a, b), (Some((a0, a1)), Some((b0, b1))) if a0 <= b1 && b0 <= a1)
}

/// First write and last use of every arena value, as call numbers.
fn lifetimes(program: &Program) -> Result<Vec<Life>> {
    let mut lives: Vec<Life> = vec![None; program.values.len()];
    for (at, call) in program.calls.iter().enumerate() {
        for input in &call.inputs {
            let (info, life) = (&program.values[input.0 as usize], &mut lives[input.0 as usize]);
            match life {
                Some((_, last)) => *last = at,
                None if info.place == Place::Arena => {
                    let what = format!("call {at} ({:?}) reads it before anything wrote it", call.kernel);
                    return Err(Error::Graph { node: info.name.clone(), op: "plan", what });
                }
                None => {}
            }
        }
        for output in call.outputs.iter().chain(&call.workspace) {
            if program.values[output.0 as usize].place == Place::Arena {
                let life = &mut lives[output.0 as usize];
                *life = Some((life.map_or(at, |(first, _)| first), at));
            }
        }
    }
    // The logits are read by callers after the last call.
    if let Some((_, last)) = &mut lives[program.logits.0 as usize] {
        *last = program.calls.len();
    }
    Ok(lives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Layout, Mode, Packing, lower};
    use crate::nn;

    #[test]
    fn values_that_live_together_never_share_a_byte() {
        let graph = nn::build("vgg16", &nn::ModelOptions { width: 0.25, ..Default::default() }).unwrap();
        let layout = Layout::new(&graph);
        for mode in [Mode::Train, Mode::Evaluate] {
            let program = lower(&graph, &layout, &Packing::default(), 4, mode, &|_| 1000).unwrap();
            let plan = plan(&program).unwrap();
            let lives = lifetimes(&program).unwrap();
            let end = |v: usize| plan.offsets[v] + program.values[v].bytes;
            let mut pairs = 0;
            for a in 0..lives.len() {
                for b in 0..a {
                    if meet(lives[a], lives[b]) {
                        pairs += 1;
                        assert!(end(a) <= plan.offsets[b] || end(b) <= plan.offsets[a], "{a} and {b} overlap");
                    }
                }
            }
            assert!(pairs > 100);
            assert!(plan.bytes < program.values.iter().map(|v| v.bytes).sum::<usize>());
        }
    }
}
