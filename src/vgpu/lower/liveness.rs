//! What the events of a pass tell about registers: which may be read before they are written, and which can share a row.
//!
//! A register is followed backwards from each read that no write in its block comes before; most registers live in one block and cost nothing. Writes
//! under a guard do not end the search. Lanes that do not take part in an instruction keep their values, so what holds for a thread holds for a row.

use super::context::Context;
use super::names::RegId;
use super::operands::Result;
use super::order::Blocks;
use super::types;
use crate::vgpu::ir::{FIRST_PRED, NO_ROW, RowId};
use crate::vgpu::ptx::ast::Ty;

/// Rows from which on registers share them. Below, every register keeps its own: names in messages stay exact.
const MOST_ROWS: u32 = 4096;
/// Steps after which a search is given up and the register taken as live everywhere.
const PATIENCE: u64 = 200_000_000;

/// Blocks in which each register is read before it is written, and blocks that write it for sure.
struct Uses {
    /// Register and block, sorted: read there before any sure write.
    exposed: Vec<(RegId, u32)>,
    /// Register and block, sorted: written there for sure.
    killed: Vec<(RegId, u32)>,
}

fn uses(context: &Context<'_>, blocks: &Blocks) -> Uses {
    let mut uses = Uses { exposed: Vec::new(), killed: Vec::new() };
    let mut last_read = vec![u32::MAX; context.regs.len()];
    let mut last_kill = vec![u32::MAX; context.regs.len()];
    let mut block = 0u32;
    for event in &context.events {
        while blocks.starts.get(block as usize + 1).is_some_and(|end| *end <= event.pc) {
            block += 1;
        }
        if blocks.starts[block as usize] > event.pc {
            block = blocks.of(event.pc);
        }
        let r = event.reg as usize;
        if event.write {
            if event.sure && last_kill[r] != block {
                last_kill[r] = block;
                uses.killed.push((event.reg, block));
            }
        } else if last_kill[r] != block && last_read[r] != block {
            last_read[r] = block;
            uses.exposed.push((event.reg, block));
        }
    }
    uses.exposed.sort_unstable();
    uses.killed.sort_unstable();
    uses
}

/// Predecessors of every block.
fn predecessors(blocks: &Blocks) -> (Vec<u32>, Vec<u32>) {
    let n = blocks.len();
    let mut first = vec![0u32; n + 1];
    let reachable = (0..n as u32).filter(|b| blocks.is_reachable(*b));
    for b in reachable.clone() {
        for s in blocks.successors(b) {
            first[*s as usize + 1] += 1;
        }
    }
    for b in 0..n {
        first[b + 1] += first[b];
    }
    let mut fill = first.clone();
    let mut list = vec![0u32; first[n] as usize];
    for b in reachable {
        for s in blocks.successors(b) {
            list[fill[*s as usize] as usize] = b;
            fill[*s as usize] += 1;
        }
    }
    (first, list)
}

/// Calls `each` with every register that is live into some block, and those blocks; `None` where the search was given up.
fn live_in(context: &Context<'_>, blocks: &Blocks, mut each: impl FnMut(RegId, Option<&[u32]>)) {
    let uses = uses(context, blocks);
    let (first, list) = predecessors(blocks);
    let mut seen = vec![u32::MAX; blocks.len()];
    let mut kills = vec![u32::MAX; blocks.len()];
    let mut live: Vec<u32> = Vec::new();
    let mut spent = 0u64;
    let mut k = 0;
    for group in uses.exposed.chunk_by(|a, b| a.0 == b.0) {
        let reg = group[0].0;
        if spent > PATIENCE {
            each(reg, None);
            continue;
        }
        while uses.killed.get(k).is_some_and(|kill| kill.0 < reg) {
            k += 1;
        }
        for kill in uses.killed[k..].iter().take_while(|kill| kill.0 == reg) {
            kills[kill.1 as usize] = reg;
        }
        live.clear();
        for (_, block) in group.iter().filter(|g| blocks.is_reachable(g.1)) {
            seen[*block as usize] = reg;
            live.push(*block);
        }
        let mut i = 0;
        while i < live.len() {
            let b = live[i] as usize;
            i += 1;
            for p in &list[first[b] as usize..first[b + 1] as usize] {
                spent += 1;
                if seen[*p as usize] != reg && kills[*p as usize] != reg {
                    seen[*p as usize] = reg;
                    live.push(*p);
                }
            }
        }
        if !live.is_empty() {
            each(reg, Some(&live));
        }
    }
}

/// Rows of registers that some path reads before it writes them.
pub(super) fn undefined(context: &Context<'_>, blocks: &Blocks) -> Vec<(RowId, String)> {
    let mut found = Vec::new();
    live_in(context, blocks, |reg, live| {
        let reg = &context.regs[reg as usize];
        // The first block has no way in but the start.
        if reg.ty != Ty::Pred && live.is_none_or(|l| l.contains(&0)) {
            found.extend((0..types::rows(reg.ty) as u16).map(|k| (reg.row + k, reg.name.clone())));
        }
    });
    found
}

/// Rows for registers that share them, where there are too many to have one each: row of every register, rows and predicates used.
///
/// # Errors
/// Too many even so.
pub(super) fn share(context: &Context<'_>, blocks: &Blocks) -> Result<Option<(Vec<u16>, u32, u32)>> {
    if context.plan.shared_rows.is_some() {
        if context.rows > u32::from(NO_ROW) || context.preds > u32::from(u16::MAX) {
            let what = format!("`{}` needs {} registers at once", context.entry.name, context.rows.max(context.preds));
            let at = super::image::wrong(context.entry.pos, true, what, "the virtual GPU has 65535 rows of 32 bits");
            return Err(at);
        }
        return Ok(None);
    }
    if context.rows <= MOST_ROWS && context.preds <= MOST_ROWS {
        return Ok(None);
    }
    let end = context.code.len() as u32;
    let mut spans = vec![(u32::MAX, 0u32); context.regs.len()];
    let mut grow = |reg: RegId, from: u32, to: u32| {
        let span = &mut spans[reg as usize];
        *span = (span.0.min(from), span.1.max(to));
    };
    for event in &context.events {
        grow(event.reg, event.pc, event.pc);
    }
    live_in(context, blocks, |reg, live| match live {
        None => grow(reg, 0, end),
        Some(live) => {
            for b in live {
                // Live into a block, so live out of those before it: to the end of each, and from the start of the block.
                grow(reg, blocks.starts[*b as usize], blocks.starts[*b as usize]);
            }
        }
    });
    // A register live into a block is live at the end of its predecessors, which may stand anywhere.
    extend_over_edges(context, blocks, &mut spans);
    Ok(Some(scan(context, &spans)))
}

fn extend_over_edges(context: &Context<'_>, blocks: &Blocks, spans: &mut [(u32, u32)]) {
    let (first, list) = predecessors(blocks);
    live_in(context, blocks, |reg, live| {
        for b in live.unwrap_or_default() {
            let b = *b as usize;
            for p in &list[first[b] as usize..first[b + 1] as usize] {
                let last = blocks.starts[*p as usize + 1] - 1;
                let span = &mut spans[reg as usize];
                *span = (span.0.min(last), span.1.max(last));
            }
        }
    });
}

/// Linear scan: rows go to registers in the order in which those begin to live. A register that ends where another begins keeps its row: both may be
/// operands of one instruction whose parts read and write in turn.
fn scan(context: &Context<'_>, spans: &[(u32, u32)]) -> (Vec<u16>, u32, u32) {
    let mut order: Vec<RegId> = (0..spans.len() as u32).filter(|r| spans[*r as usize].0 != u32::MAX).collect();
    order.sort_by_key(|r| (spans[*r as usize], *r));
    let mut rows = vec![0u16; spans.len()];
    let (mut next_row, mut next_pred) = (0u32, u32::from(FIRST_PRED));
    // Free rows by class: predicates, 1, 2, 4 rows.
    let mut free: [Vec<u16>; 4] = Default::default();
    let mut busy: std::collections::BinaryHeap<std::cmp::Reverse<(u32, u8, u16)>> = Default::default();
    for reg in order {
        let (start, end) = spans[reg as usize];
        while let Some(std::cmp::Reverse((done, class, row))) = busy.peek().copied()
            && done < start
        {
            busy.pop();
            free[class as usize].push(row);
        }
        let ty = context.regs[reg as usize].ty;
        let (class, n) = match (ty, types::rows(ty)) {
            (Ty::Pred, _) => (0u8, 1),
            (_, 1) => (1, 1),
            (_, 2) => (2, 2),
            (_, n) => (3, n),
        };
        let next = if class == 0 { &mut next_pred } else { &mut next_row };
        let row = match free[class as usize].pop() {
            Some(row) => row,
            None => {
                let row = *next;
                *next += n;
                u16::try_from(row).unwrap_or(u16::MAX)
            }
        };
        rows[reg as usize] = row;
        busy.push(std::cmp::Reverse((end, class, row)));
    }
    (rows, next_row, next_pred)
}
