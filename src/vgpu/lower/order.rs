//! Blocks of a kernel and the order in which lanes of a warp that went different ways run.
//!
//! The order is Bourdoncle's weak topological order: every loop's blocks stand together, entered from above, so that lanes that have left a loop wait for
//! those still in it, on reducible and irreducible graphs alike. Within that it is a reverse post-order.

use crate::vgpu::ir::{Ins, Op, TRUE};

/// Work on nested loops after which the order falls back to plain reverse post-order inside what is left.
const PATIENCE: usize = 20_000_000;

/// The control flow graph.
pub(super) struct Blocks {
    /// First pc of each block, ascending; the last entry is the end of the code.
    pub starts: Vec<u32>,
    /// Successors of block `b`: `edges[first[b]..first[b + 1]]`.
    edges: Vec<u32>,
    first: Vec<u32>,
    /// Place of each block in the order; unreachable ones come last.
    pub rank: Vec<u32>,
    /// How many can be reached.
    pub reachable: u32,
    /// Whether a block may end the kernel.
    pub exits: Vec<bool>,
}

impl Blocks {
    pub fn successors(&self, block: u32) -> &[u32] {
        let (a, b) = (self.first[block as usize] as usize, self.first[block as usize + 1] as usize);
        &self.edges[a..b]
    }

    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    pub fn is_reachable(&self, block: u32) -> bool {
        self.rank[block as usize] < self.reachable
    }

    /// The block that holds `pc`.
    pub fn of(&self, pc: u32) -> u32 {
        (self.starts.partition_point(|s| *s <= pc).max(1) - 1).min(self.len().saturating_sub(1)) as u32
    }

    /// Immediate post-dominator of each block that can be reached; `u32::MAX` stands for the end of the kernel.
    pub fn post_dominators(&self) -> Vec<u32> {
        let n = self.len();
        let end = n as u32;
        // Post-order of the reversed graph, from the end.
        let mut before: Vec<Vec<u32>> = vec![Vec::new(); n + 1];
        for b in (0..end).filter(|b| self.is_reachable(*b)) {
            let next = self.successors(b);
            for s in next.iter().copied().chain(self.exits[b as usize].then_some(end)) {
                before[s as usize].push(b);
            }
        }
        let mut number = vec![u32::MAX; n + 1];
        let mut order = Vec::with_capacity(n + 1);
        let mut seen = vec![false; n + 1];
        seen[n] = true;
        let mut path = vec![(end, 0usize)];
        while let Some(top) = path.last_mut() {
            let (block, at) = (top.0, top.1);
            top.1 += 1;
            match before[block as usize].get(at) {
                Some(&p) if !seen[p as usize] => {
                    seen[p as usize] = true;
                    path.push((p, 0));
                }
                Some(_) => {}
                None => {
                    number[block as usize] = order.len() as u32;
                    order.push(block);
                    path.pop();
                }
            }
        }
        let mut idom = vec![u32::MAX; n + 1];
        idom[n] = end;
        let meet = |idom: &[u32], mut a: u32, mut b: u32| {
            while a != b {
                while number[a as usize] < number[b as usize] {
                    a = idom[a as usize];
                }
                while number[b as usize] < number[a as usize] {
                    b = idom[b as usize];
                }
            }
            a
        };
        for _ in 0..16 {
            let mut changed = false;
            for &block in order.iter().rev().filter(|b| **b != end) {
                let leaves = self.exits[block as usize];
                let next = self.successors(block).iter().copied().chain(leaves.then_some(end));
                let known = next.filter(|s| idom[*s as usize] != u32::MAX);
                let new = known.reduce(|a, b| meet(&idom, a, b));
                if let Some(new) = new
                    && idom[block as usize] != new
                {
                    idom[block as usize] = new;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        idom.truncate(n);
        for d in &mut idom {
            if *d == end {
                *d = u32::MAX;
            }
        }
        idom
    }

    /// Blocks that run for some lanes only where lanes disagree at the end of one of `branches`: those between the branch and the place where its ways
    /// meet again. A way that leaves the kernel does not count: threads that have left are not waited for.
    pub fn dependent_on(&self, branches: &[u32]) -> Vec<bool> {
        let mut dependent = vec![false; self.len()];
        let idom = self.post_dominators();
        let mut spent = 0usize;
        for &branch in branches.iter().filter(|b| self.is_reachable(**b) && !self.exits[**b as usize]) {
            let meet = idom[branch as usize];
            if meet == u32::MAX {
                continue;
            }
            let mut seen = std::collections::HashSet::new();
            let mut work: Vec<u32> = self.successors(branch).to_vec();
            while let Some(block) = work.pop() {
                spent += 1;
                if block == meet || spent > PATIENCE || !seen.insert(block) {
                    continue;
                }
                dependent[block as usize] = true;
                work.extend_from_slice(self.successors(block));
            }
        }
        dependent
    }

    /// The place in the order of each pc's block.
    pub fn numbers(&self, code: usize) -> Vec<u32> {
        let mut out = vec![0; code];
        for b in 0..self.len() {
            let (start, end) = (self.starts[b] as usize, self.starts[b + 1] as usize);
            out[start..end].fill(self.rank[b]);
        }
        out
    }
}

/// Finds the blocks of `code`, whose last instruction must be an exit, and orders them.
pub(super) fn blocks(code: &[Ins], targets: &[u32]) -> Blocks {
    let mut leader = vec![false; code.len() + 1];
    leader[0] = true;
    for (pc, ins) in code.iter().enumerate() {
        match ins.op {
            Op::Bra => {
                leader[ins.x as usize] = true;
                leader[pc + 1] = true;
            }
            Op::Brx => {
                for t in &targets[ins.x as usize..ins.x as usize + ins.b as usize] {
                    leader[*t as usize] = true;
                }
                leader[pc + 1] = true;
            }
            Op::Exit | Op::Trap => leader[pc + 1] = true,
            Op::Join => leader[pc] = true,
            _ => {}
        }
    }
    leader[code.len()] = true;
    let starts: Vec<u32> = (0..=code.len()).filter(|&pc| leader[pc]).map(|pc| pc as u32).collect();
    let n = starts.len() - 1;
    let mut block_of = vec![0u32; code.len() + 1];
    for b in 0..n {
        block_of[starts[b] as usize] = b as u32;
    }
    let mut edges = Vec::with_capacity(2 * n);
    let mut first = Vec::with_capacity(n + 1);
    for b in 0..n {
        first.push(edges.len() as u32);
        let last = &code[starts[b + 1] as usize - 1];
        let next = (b + 1 < n).then_some(b as u32 + 1);
        let always = last.guard == TRUE && last.flip == 0;
        match last.op {
            // The target first: it is then last in reverse post-order, behind the fall-through.
            Op::Bra => {
                edges.push(block_of[last.x as usize]);
                edges.extend(next.filter(|_| !always));
            }
            Op::Brx => {
                let list = &targets[last.x as usize..last.x as usize + last.b as usize];
                let from = edges.len();
                edges.extend(list.iter().map(|t| block_of[*t as usize]));
                edges[from..].sort_unstable();
                let mut kept = edges.split_off(from);
                kept.dedup();
                edges.extend(kept);
                edges.extend(next.filter(|_| !always));
            }
            Op::Exit | Op::Trap => edges.extend(next.filter(|_| !always)),
            _ => edges.extend(next),
        }
    }
    first.push(edges.len() as u32);
    let exits = (0..n).map(|b| matches!(code[starts[b + 1] as usize - 1].op, Op::Exit | Op::Trap)).collect();
    let mut blocks = Blocks { starts, edges, first, rank: vec![u32::MAX; n], reachable: 0, exits };
    let order = order(&blocks);
    blocks.reachable = order.len() as u32;
    for (rank, b) in order.iter().enumerate() {
        blocks.rank[*b as usize] = rank as u32;
    }
    let left = blocks.rank.iter_mut().filter(|r| **r == u32::MAX);
    for (next, rank) in (blocks.reachable..).zip(left) {
        *rank = next;
    }
    blocks
}

/// What is left to do, next first.
enum Work {
    /// This block comes next.
    Emit(u32),
    /// The blocks of a part that these can reach come next.
    Order { roots: Vec<u32>, part: u32 },
}

/// Weak topological order of the blocks that can be reached from the first.
fn order(blocks: &Blocks) -> Vec<u32> {
    let n = blocks.len();
    let mut out = Vec::with_capacity(n);
    // The part of the graph that each block is in: a loop without its head is a part of its own.
    let mut part = vec![0u32; n];
    let mut parts = 0u32;
    let mut work = vec![Work::Order { roots: vec![0], part: 0 }];
    let mut search = Search::new(n);
    let mut spent = 0;
    while let Some(item) = work.pop() {
        let (roots, own) = match item {
            Work::Emit(block) => {
                out.push(block);
                continue;
            }
            Work::Order { roots, part } => (roots, part),
        };
        // Components come in reverse topological order, and the stack of work turns them round.
        for mut component in search.components(blocks, &roots, own, &part) {
            spent += component.len();
            let Some(&head) = component.last() else { continue };
            if component.len() > 1 && spent <= PATIENCE {
                parts += 1;
                for &block in &component {
                    part[block as usize] = parts;
                    search.index[block as usize] = u32::MAX;
                }
                part[head as usize] = u32::MAX;
                let inside = blocks.successors(head).iter().filter(|s| part[**s as usize] == parts);
                work.push(Work::Order { roots: inside.copied().collect(), part: parts });
                work.push(Work::Emit(head));
            } else {
                component.sort_unstable_by(|a, b| b.cmp(a));
                work.extend(component.into_iter().map(Work::Emit));
            }
        }
    }
    out
}

/// Tarjan's search for strongly connected components, without recursion.
struct Search {
    index: Vec<u32>,
    low: Vec<u32>,
    on_stack: Vec<bool>,
}

impl Search {
    fn new(n: usize) -> Search {
        Search { index: vec![u32::MAX; n], low: vec![0; n], on_stack: vec![false; n] }
    }

    /// Components of part `own` that can be reached from `roots`, those without successors first; the first block found of each is its last entry.
    fn components(&mut self, blocks: &Blocks, roots: &[u32], own: u32, part: &[u32]) -> Vec<Vec<u32>> {
        let mut found = Vec::new();
        let mut stack = Vec::new();
        let mut path: Vec<(u32, usize)> = Vec::new();
        let mut next = 0u32;
        for &root in roots {
            if self.index[root as usize] != u32::MAX {
                continue;
            }
            path.push((root, 0));
            while let Some(&(block, edge)) = path.last() {
                let b = block as usize;
                if edge == 0 {
                    self.index[b] = next;
                    self.low[b] = next;
                    next += 1;
                    stack.push(block);
                    self.on_stack[b] = true;
                }
                let successor = blocks.successors(block).get(edge).copied();
                if let (Some(top), Some(s)) = (path.last_mut(), successor) {
                    top.1 += 1;
                    let s = s as usize;
                    if part[s] != own {
                        continue;
                    }
                    if self.index[s] == u32::MAX {
                        path.push((s as u32, 0));
                    } else if self.on_stack[s] {
                        self.low[b] = self.low[b].min(self.index[s]);
                    }
                    continue;
                }
                path.pop();
                if let Some(&(parent, _)) = path.last() {
                    self.low[parent as usize] = self.low[parent as usize].min(self.low[b]);
                }
                if self.low[b] == self.index[b] {
                    let mut component = Vec::new();
                    while let Some(member) = stack.pop() {
                        self.on_stack[member as usize] = false;
                        component.push(member);
                        if member == block {
                            break;
                        }
                    }
                    found.push(component);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vgpu::ir::FIRST_PRED;
    use crate::vgpu::prof::Class;

    /// Code with one block a line: `-` falls through, `3` jumps there, `?3` may jump there, `x` exits.
    fn graph(lines: &[&str]) -> Blocks {
        let mut code = Vec::new();
        for line in lines {
            code.push(Ins::machine(Op::Join, Class::Other));
            let branch = |to: &str| Ins { x: 2 * to.parse::<u32>().unwrap(), ..Ins::machine(Op::Bra, Class::Branch) };
            code.push(match line.strip_prefix('?') {
                Some(to) => Ins { guard: FIRST_PRED, ..branch(to) },
                None if *line == "-" => Ins::machine(Op::Nop, Class::Other),
                None if *line == "x" => Ins::machine(Op::Exit, Class::Branch),
                None => branch(line),
            });
        }
        blocks(&code, &[])
    }

    fn ranked(blocks: &Blocks) -> Vec<u32> {
        let mut order: Vec<u32> = (0..blocks.len() as u32).filter(|b| blocks.is_reachable(*b)).collect();
        order.sort_by_key(|b| blocks.rank[*b as usize]);
        order
    }

    #[test]
    fn both_arms_come_before_the_place_where_they_meet() {
        // 0: if -> 2; 1: else, jumps to 3; 2: then; 3: end.
        assert_eq!(ranked(&graph(&["?2", "3", "-", "x"])), [0, 1, 2, 3]);
        // The arm of a rarely taken case far below in the text.
        assert_eq!(ranked(&graph(&["?3", "-", "x", "1"])), [0, 3, 1, 2]);
    }

    #[test]
    fn a_loop_comes_before_what_follows_it_wherever_the_text_has_it() {
        // 1: head, leaves to 3; 2: body.
        assert_eq!(ranked(&graph(&["-", "?3", "1", "x"])), [0, 1, 2, 3]);
        // The exit stands before the body in the text.
        assert_eq!(ranked(&graph(&["2", "x", "?1", "2"])), [0, 2, 3, 1]);
        // Nested: 1 outer head, 2 inner head, 3 inner body, 4 outer latch, 5 end.
        assert_eq!(ranked(&graph(&["-", "?5", "?4", "2", "1", "x"])), [0, 1, 2, 3, 4, 5]);
        // A break out of both loops from the inner body.
        assert_eq!(ranked(&graph(&["-", "?6", "?5", "?6", "2", "1", "x"])), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn irreducible_and_unreachable() {
        // Two entries, 1 and 2, into the loop of 1 and 2; 3 leaves.
        let blocks = graph(&["?2", "-", "?1", "x", "x"]);
        let order = ranked(&blocks);
        assert_eq!((order[0], order[3]), (0, 3), "the loop stands together, before its exit: {order:?}");
        assert!(!blocks.is_reachable(4));
        assert_eq!(blocks.reachable, 4);
    }

    #[test]
    fn long_chains_and_deep_nests_do_not_take_for_ever() {
        // Every block may jump back to every earlier head: one component in another.
        let n = 3000;
        let lines: Vec<String> = (0..n).map(|_| "-".to_string()).chain((0..n).rev().map(|h| format!("?{h}"))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain(["x"]).collect();
        let blocks = graph(&lines);
        assert_eq!(ranked(&blocks), (0..=2 * n as u32).collect::<Vec<_>>());
    }
}
