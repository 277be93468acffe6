//! The sanitizer driven by hand: hooks called as the machine would call them.

use super::*;
use crate::vgpu::ir::{Ins, Source, Symbol};
use crate::vgpu::prof::Class;

/// A kernel of `op`s without source; `pc` stands for the line.
fn kernel(ops: &[Op]) -> Kernel {
    let code: Vec<Ins> = (0..64).map(|i| Ins::machine(ops.get(i).copied().unwrap_or(Op::Nop), Class::Mov)).collect();
    let source = (0..64).map(|pc| Source { ptx_line: pc, text: format!("instruction {pc}"), loc: None }).collect();
    Kernel {
        name: "k".into(),
        source,
        locs: Vec::new(),
        files: Vec::new(),
        rpo: vec![0; code.len()],
        code,
        rows: 0,
        preds: 4,
        constants: Vec::new(),
        undefined: Vec::new(),
        row_names: Vec::new(),
        lists: Vec::new(),
        targets: Vec::new(),
        accesses: Vec::new(),
        syscalls: Vec::new(),
        params: Vec::new(),
        param_bytes: 0,
        shared_bytes: 4096,
        local_bytes: 64,
        symbols: vec![Symbol { name: "tile".into(), space: Space::Shared, offset: 0, bytes: 4096 }],
        maxntid: None,
        reqntid: None,
        ordered_atomics: false,
        narrow_shared: false,
        lints: Vec::new(),
    }
}

/// What was found: kind, pc, other pc, error or warning.
type Found = Vec<(Kind, u32, Option<u32>)>;

struct Bench<'a> {
    san: San<'a>,
}

/// Runs `body` on one block after another of 64 threads; gives errors and warnings.
fn run(ops: &[Op], blocks: u64, body: impl Fn(&mut Bench, u64)) -> (Found, Found) {
    let kernel = kernel(ops);
    let mut init = GlobalInit::new();
    init.alloc(0, 4096);
    init.trust();
    init.alloc(1, 4096);
    let mut bench =
        Bench { san: San::new(&kernel, &mut init, [blocks as u32, 1, 1], [64, 1, 1], 4096, &CheckOptions::default()) };
    for block in 0..blocks {
        bench.san.block_begin(block, 2, 64);
        body(&mut bench, block);
        bench.san.block_end();
    }
    let report = bench.san.finish();
    let list = |findings: &[Finding]| {
        let pcs = |f: &Finding| (f.kind, f.at.as_ref().map_or(99, |s| s.pc), f.other.as_ref().map(|s| s.pc));
        findings.iter().map(pcs).collect::<Vec<_>>()
    };
    (list(&report.findings), list(&report.warnings))
}

fn errors(ops: &[Op], blocks: u64, body: impl Fn(&mut Bench, u64)) -> Found {
    let (errors, warnings) = run(ops, blocks, body);
    assert!(warnings.is_empty(), "{warnings:?}");
    errors
}

struct Same(bool, bool);

impl Values for Same {
    fn unchanged(&self, _: usize) -> bool {
        self.0
    }
    fn equal(&self, _: usize, _: usize) -> bool {
        self.1
    }
}

const BARRIERS: &[Op] = &[];
const FENCES: &[Op] = &[Op::Fence];

fn at(pc: u32, warp: u32, mask: u32) -> At {
    At { pc, warp, mask }
}

fn row<T>(f: impl Fn(usize) -> T) -> [T; 32] {
    std::array::from_fn(f)
}

impl Bench<'_> {
    fn shared(&mut self, pc: u32, warp: u32, kind: AccessKind, off: impl Fn(u32) -> u32) {
        self.san.shared(&at(pc, warp, u32::MAX), kind, &row(|l| off(l as u32)), 4, &NoValues);
    }

    fn lane(&mut self, pc: u32, warp: u32, lane: u32, kind: AccessKind, off: u32) {
        self.san.shared(&at(pc, warp, 1 << lane), kind, &[off; 32], 4, &NoValues);
    }

    fn global(&mut self, pc: u32, warp: u32, mask: u32, kind: AccessKind, slot: u32, off: impl Fn(u64) -> u64) {
        self.san.global(&at(pc, warp, mask), kind, &[slot; 32], &row(|l| off(l as u64)), 4, &NoValues);
    }

    fn barrier(&mut self) {
        self.san.barrier(0, 3, 0, true);
    }

    fn fence(&mut self, warp: u32, mask: u32, scope: Scope) {
        self.san.fence(&at(40, warp, mask), scope);
    }
}

use AccessKind::{Load, Store};
const ATOM: AccessKind = AccessKind::Atomic(Order::Relaxed, Scope::Gpu, 4);
const ATOM_CTA: AccessKind = AccessKind::Atomic(Order::Relaxed, Scope::Cta, 4);

#[test]
fn a_barrier_between_write_and_read() {
    let good = |b: &mut Bench, _| {
        for w in 0..2 {
            b.shared(1, w, Store, |l| w * 128 + l * 4);
        }
        b.barrier();
        for w in 0..2 {
            b.shared(2, w, Load, |l| (1 - w) * 128 + l * 4);
        }
    };
    assert_eq!(errors(BARRIERS, 3, good), []);
    let missing = |b: &mut Bench, _| {
        for w in 0..2 {
            b.shared(1, w, Store, |l| w * 128 + l * 4);
            b.shared(2, w, Load, |l| (1 - w) * 128 + l * 4);
        }
    };
    // Warp 0 reads before warp 1 writes: seen at the write; not an uninitialised read.
    assert_eq!(errors(BARRIERS, 1, missing), [(Kind::SharedRace, 1, Some(2)), (Kind::SharedRace, 2, Some(1))]);
    let reuse = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.barrier();
        b.shared(2, 1, Load, |l| l * 4);
        b.shared(3, 0, Store, |l| l * 4);
    };
    assert_eq!(errors(BARRIERS, 2, reuse), [(Kind::SharedRace, 3, Some(2))]);
}

#[test]
fn bytes_that_nobody_wrote() {
    let read = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.barrier();
        b.shared(2, 1, Load, |l| l * 4 + 4);
    };
    assert_eq!(errors(BARRIERS, 2, read), [(Kind::UninitialisedRead, 2, None)]);
    let own = |b: &mut Bench, _| {
        b.lane(1, 0, 3, Load, 12);
        b.lane(2, 0, 3, Store, 12);
    };
    assert_eq!(errors(BARRIERS, 1, own), [(Kind::UninitialisedRead, 1, None)]);
    // Shared memory of an earlier block does not count.
    let stale = |b: &mut Bench, block| match block {
        0 => b.shared(1, 0, Store, |l| l * 4),
        _ => b.shared(2, 0, Load, |l| l * 4),
    };
    assert_eq!(errors(BARRIERS, 2, stale), [(Kind::UninitialisedRead, 2, None)]);
    let global = |b: &mut Bench, _| {
        b.global(1, 0, 0xff, Store, 1, |l| l * 4);
        b.global(2, 0, 0xff, Load, 1, |l| l * 4);
        b.global(3, 0, 0x1ff, Load, 1, |l| l * 4);
    };
    assert_eq!(errors(BARRIERS, 1, global), [(Kind::UninitialisedRead, 3, None)]);
    let local = |b: &mut Bench, _| {
        b.san.local(&at(1, 0, 0xf), Store, &[8; 32], 4);
        b.san.local(&at(2, 0, 0xf), Load, &[8; 32], 4);
        b.san.local(&at(3, 0, 0x1f), Load, &[8; 32], 4);
        b.san.local(&at(4, 0, 0xf), Load, &[8; 32], 8);
    };
    assert_eq!(errors(BARRIERS, 1, local), [(Kind::UninitialisedRead, 3, None), (Kind::UninitialisedRead, 4, None)]);
}

#[test]
fn lanes_of_a_warp_need_syncwarp() {
    let bad = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.shared(2, 0, Load, |l| (l ^ 1) * 4);
    };
    assert_eq!(errors(BARRIERS, 1, bad), [(Kind::IntraWarpRace, 2, Some(1))]);
    let good = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.warp_sync(0, u32::MAX);
        b.shared(2, 0, Load, |l| (l ^ 1) * 4);
        b.san.warp_sync(0, u32::MAX);
        b.shared(3, 0, Store, |l| l * 4);
        b.shared(4, 0, Load, |l| l * 4);
    };
    assert_eq!(errors(BARRIERS, 1, good), []);
    // A sync of half of the warp orders that half only.
    let half = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.warp_sync(0, 0xffff);
        b.lane(2, 0, 0, Load, 15 * 4);
        b.lane(3, 0, 0, Load, 16 * 4);
    };
    assert_eq!(errors(BARRIERS, 1, half), [(Kind::IntraWarpRace, 3, Some(1))]);
    let chain = |b: &mut Bench, _| {
        b.lane(1, 0, 0, Store, 0);
        b.san.warp_sync(0, 0b11);
        b.san.warp_sync(0, 0b110);
        b.lane(2, 0, 2, Load, 0);
        b.lane(3, 0, 3, Load, 0);
    };
    assert_eq!(errors(BARRIERS, 1, chain), [(Kind::IntraWarpRace, 3, Some(1))]);
    // Threads that have exited need not be in the mask.
    let exited = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.exit(&at(9, 0, 0xffff_0000));
        b.san.warp_sync(0, 0xffff);
        b.lane(2, 0, 1, Load, 31 * 4);
    };
    assert_eq!(errors(BARRIERS, 1, exited), []);
    let broadcast = |b: &mut Bench, _| {
        b.lane(1, 0, 0, Store, 0);
        b.san.warp_sync(0, u32::MAX);
        b.shared(2, 0, Load, |_| 0);
        b.lane(3, 0, 0, Store, 0);
    };
    assert_eq!(errors(BARRIERS, 1, broadcast), [(Kind::IntraWarpRace, 3, Some(2))]);
}

#[test]
fn lanes_of_one_store_must_agree() {
    let same = |values: Same| move |b: &mut Bench, _| b.san.shared(&at(1, 0, u32::MAX), Store, &[0; 32], 4, &values);
    assert_eq!(errors(BARRIERS, 1, same(Same(false, true))), []);
    assert_eq!(errors(BARRIERS, 1, same(Same(false, false))), [(Kind::IntraWarpRace, 1, None)]);
    let atomics = |b: &mut Bench, _| b.shared(1, 0, ATOM, |_| 0);
    // (All of them read what nobody wrote.)
    assert_eq!(errors(BARRIERS, 1, atomics), [(Kind::UninitialisedRead, 1, None)]);
    let warps = |b: &mut Bench, _| {
        b.lane(1, 0, 0, Store, 0);
        b.san.shared(&at(2, 1, 1), Store, &[0; 32], 4, &Same(true, true));
    };
    assert_eq!(run(BARRIERS, 1, warps), (vec![], vec![(Kind::SharedRace, 2, Some(1))]));
}

#[test]
fn narrow_accesses_are_told_apart() {
    let bytes = |b: &mut Bench, _| {
        for w in 0..2 {
            b.san.shared(&at(1, w, u32::MAX), Store, &row(|l| l as u32 * 2 + w), 1, &NoValues);
        }
    };
    assert_eq!(errors(BARRIERS, 1, bytes), []);
    let late = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.shared(&at(2, 1, 1), Load, &[6; 32], 2, &NoValues);
    };
    assert_eq!(errors(BARRIERS, 1, late), [(Kind::SharedRace, 2, Some(1))]);
    let global = |b: &mut Bench, block| {
        b.san.global(&at(1, 0, 1), Store, &[0; 32], &[block; 32], 1, &NoValues);
    };
    assert_eq!(errors(BARRIERS, 4, global), []);
}

#[test]
fn atomics_and_plain_accesses() {
    let histogram = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.barrier();
        for w in 0..2 {
            b.shared(2, w, ATOM_CTA, |l| l % 4 * 4);
        }
        b.barrier();
        b.shared(3, 1, Load, |l| l * 4);
    };
    assert_eq!(errors(BARRIERS, 2, histogram), []);
    let early = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.barrier();
        for w in 0..2 {
            b.shared(2, w, ATOM_CTA, |l| l % 4 * 4);
        }
        // Its own warp came last, but the other one's atomics are not ordered either.
        b.lane(3, 1, 31, Load, 12);
    };
    assert_eq!(errors(BARRIERS, 1, early), [(Kind::SharedRace, 3, Some(2))]);
    let sizes = |b: &mut Bench, _| {
        b.san.global(&at(1, 0, 1), ATOM, &[0; 32], &[0; 32], 4, &NoValues);
        b.san.global(&at(2, 1, 1), AccessKind::Atomic(Order::Relaxed, Scope::Gpu, 8), &[0; 32], &[0; 32], 8, &NoValues);
    };
    assert_eq!(errors(BARRIERS, 1, sizes), [(Kind::GlobalRace, 2, Some(1))]);
    let scope = |b: &mut Bench, _| b.global(1, 0, 1, ATOM_CTA, 0, |_| 0);
    assert_eq!(errors(BARRIERS, 2, scope), [(Kind::GlobalRace, 1, Some(1))]);
}

#[test]
fn blocks_race_in_global_memory() {
    let own = |b: &mut Bench, block: u64| b.global(1, 0, u32::MAX, Store, 0, |l| block * 128 + l * 4);
    assert_eq!(errors(BARRIERS, 4, own), []);
    let reads = |b: &mut Bench, _| b.global(1, 0, u32::MAX, Load, 0, |l| l * 4);
    assert_eq!(errors(BARRIERS, 4, reads), []);
    let both = |b: &mut Bench, _| b.global(1, 0, 1, Store, 0, |_| 64);
    assert_eq!(errors(BARRIERS, 2, both), [(Kind::GlobalRace, 1, Some(1))]);
    let halo = |b: &mut Bench, block: u64| {
        b.global(1, 0, 1, Load, 0, |_| block * 4 + 4);
        b.global(2, 0, 1, Store, 0, |_| block * 4);
    };
    assert_eq!(errors(BARRIERS, 3, halo), [(Kind::GlobalRace, 2, Some(1))]);
    let warps = |b: &mut Bench, _| {
        b.global(1, 0, 1, Store, 0, |_| 0);
        b.global(2, 1, 1, Load, 0, |_| 0);
    };
    assert_eq!(errors(BARRIERS, 1, warps), [(Kind::GlobalRace, 2, Some(1))]);
    let nc = |b: &mut Bench, _| {
        b.global(1, 0, 1, AccessKind::LoadNc, 0, |_| 0);
        b.barrier();
        b.global(2, 0, 1, Store, 0, |_| 0);
        b.barrier();
        b.global(3, 1, 1, AccessKind::LoadNc, 0, |_| 0);
    };
    let expected = [(Kind::ReadOnlyViolation, 2, Some(1)), (Kind::ReadOnlyViolation, 3, Some(2))];
    assert_eq!(errors(BARRIERS, 1, nc), expected);
}

/// Every thread stores a part, `fence`s where `fenced`, and thread 0 counts; the last block reads all parts and resets the counter.
fn last_block(scope: Option<Scope>, barrier: bool, kind: AccessKind, acquire: bool) -> Found {
    errors(FENCES, 4, move |b, block| {
        for w in 0..2 {
            b.global(1, w, u32::MAX, Store, 0, |l| 1024 + block * 256 + u64::from(w) * 128 + l * 4);
            if let Some(scope) = scope {
                b.fence(w, u32::MAX, scope);
            }
        }
        if barrier {
            b.barrier();
        }
        b.global(2, 0, 1, kind, 0, |_| 0);
        if acquire {
            b.barrier();
        }
        if block == 3 {
            for w in 0..2 {
                for other in 0..4 {
                    b.global(3, w, u32::MAX, Load, 0, |l| 1024 + other * 256 + u64::from(1 - w) * 128 + l * 4);
                }
            }
            b.global(4, 0, 1, Store, 0, |_| 0);
        }
    })
}

#[test]
fn the_last_block_may_finish_the_reduction() {
    assert_eq!(last_block(Some(Scope::Gpu), true, ATOM, true), []);
    let release = AccessKind::Atomic(Order::AcqRel, Scope::Gpu, 4);
    assert_eq!(last_block(None, true, release, true), []);
    let race = (Kind::GlobalRace, 3, Some(1));
    // No fence; a fence for the block only; an atomic for the block only; no barrier before the count.
    assert!(last_block(None, true, ATOM, true).contains(&race));
    assert!(last_block(Some(Scope::Cta), true, ATOM, true).contains(&race));
    assert!(last_block(Some(Scope::Gpu), true, ATOM_CTA, true).contains(&race));
    assert!(last_block(Some(Scope::Gpu), false, ATOM, true).contains(&race));
}

#[test]
fn a_spin_lock_orders_what_it_guards() {
    let locked = |fences: bool| {
        move |b: &mut Bench, _| {
            for (w, lane) in [(0, 0), (0, 1), (1, 5)] {
                let mask = 1 << lane;
                b.global(1, w, mask, ATOM, 0, |_| 0);
                if fences {
                    b.fence(w, mask, Scope::Gpu);
                }
                b.global(2, w, mask, Load, 0, |_| 512);
                b.global(3, w, mask, Store, 0, |_| 512);
                if fences {
                    b.fence(w, mask, Scope::Gpu);
                }
                b.global(4, w, mask, ATOM, 0, |_| 0);
            }
        }
    };
    assert_eq!(errors(FENCES, 3, locked(true)), []);
    let found = errors(FENCES, 2, locked(false));
    assert!(found.contains(&(Kind::GlobalRace, 2, Some(3))), "{found:?}");
    assert!(found.contains(&(Kind::IntraWarpRace, 2, Some(3))), "{found:?}");
    let flag = |release: Order, acquire: Order| {
        errors(FENCES, 2, move |b, block| {
            if block == 0 {
                b.global(1, 0, 1, Store, 0, |_| 512);
                b.global(2, 0, 1, AccessKind::StrongStore(release, Scope::Gpu), 0, |_| 0);
            } else {
                b.global(3, 0, 1, AccessKind::StrongLoad(acquire, Scope::Gpu), 0, |_| 0);
                b.global(4, 0, 1, Load, 0, |_| 512);
            }
        })
    };
    assert_eq!(flag(Order::Release, Order::Acquire), []);
    assert_eq!(flag(Order::Relaxed, Order::Acquire), [(Kind::GlobalRace, 4, Some(1))]);
    assert_eq!(flag(Order::Release, Order::Relaxed), [(Kind::GlobalRace, 4, Some(1))]);
}

#[test]
fn named_barriers_order_who_takes_part() {
    let ops = &[Op::BarArrive];
    // Warp 0 produces and arrives; warp 1 waits and consumes; then the other way round before the buffer is used again.
    let good = |b: &mut Bench, _| {
        for _ in 0..2 {
            b.shared(1, 0, Store, |l| l * 4);
            b.san.arrive(1, 0);
            b.san.barrier(1, 1 << 1, 1 << 0, false);
            b.shared(2, 1, Load, |l| 124 - l * 4);
            b.san.arrive(2, 1);
            b.san.barrier(2, 1 << 0, 1 << 1, false);
        }
    };
    assert_eq!(errors(ops, 2, good), []);
    // Arriving orders nothing for who arrives.
    let bad = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.arrive(1, 0);
        b.san.barrier(1, 1 << 1, 1 << 0, false);
        b.shared(2, 1, Load, |l| l * 4);
        b.shared(3, 0, Store, |l| l * 4);
    };
    assert_eq!(errors(ops, 1, bad), [(Kind::SharedRace, 3, Some(2))]);
    let late = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.arrive(1, 0);
        b.shared(3, 0, Store, |l| l * 4);
        b.san.barrier(1, 1 << 1, 1 << 0, false);
        b.shared(2, 1, Load, |l| l * 4);
    };
    assert_eq!(errors(ops, 1, late), [(Kind::SharedRace, 2, Some(3))]);
    let wrong_id = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.san.barrier(1, 1 << 0, 0, false);
        b.san.barrier(2, 1 << 1, 0, false);
        b.shared(2, 1, Load, |l| l * 4);
    };
    assert_eq!(errors(ops, 1, wrong_id), [(Kind::SharedRace, 2, Some(1))]);
}

#[test]
fn copies_in_flight() {
    let offs = row(|l| l as u32 * 16);
    let good = |b: &mut Bench, _| {
        for stage in 0..2 {
            b.san.async_issue(&at(1, 0, u32::MAX), &offs, 16);
            b.san.async_complete(&at(2, 0, u32::MAX), &offs, 16);
            b.barrier();
            b.shared(3, 1, Load, |l| l * 4);
            if stage == 0 {
                b.barrier();
            }
        }
    };
    assert_eq!(errors(BARRIERS, 2, good), []);
    let unwaited = |b: &mut Bench, _| {
        b.san.async_issue(&at(1, 0, u32::MAX), &offs, 16);
        b.barrier();
        b.shared(3, 1, Load, |l| l * 4);
    };
    let expected = (vec![(Kind::InFlightAccess, 3, Some(1))], vec![(Kind::OutstandingCopy, 1, None)]);
    assert_eq!(run(BARRIERS, 2, unwaited), expected);
    let no_barrier = |b: &mut Bench, _| {
        b.san.async_issue(&at(1, 0, u32::MAX), &offs, 16);
        b.san.async_complete(&at(2, 0, u32::MAX), &offs, 16);
        b.shared(3, 1, Load, |l| l * 4);
    };
    assert_eq!(errors(BARRIERS, 1, no_barrier), [(Kind::SharedRace, 3, Some(1))]);
    let reuse = |b: &mut Bench, _| {
        b.shared(1, 0, Store, |l| l * 4);
        b.barrier();
        b.shared(2, 1, Load, |l| l * 4);
        b.san.async_issue(&at(3, 0, u32::MAX), &offs, 16);
        b.san.async_issue(&at(4, 0, 1), &offs, 16);
        b.san.async_complete(&at(5, 0, u32::MAX), &offs, 16);
    };
    assert_eq!(errors(BARRIERS, 1, reuse), [(Kind::InFlightOverlap, 3, Some(2)), (Kind::InFlightOverlap, 4, Some(3))]);
}

#[test]
fn matrices_are_read_by_the_whole_warp() {
    let fill = |b: &mut Bench, sync: bool| {
        b.san.shared(&at(1, 0, u32::MAX), Store, &row(|l| l as u32 * 16), 16, &NoValues);
        if sync {
            b.san.warp_sync(0, u32::MAX);
        }
        b.san.shared(&at(2, 0, u32::MAX), AccessKind::LoadMatrix, &row(|l| l as u32 * 16), 16, &NoValues);
    };
    assert_eq!(errors(BARRIERS, 1, |b, _| fill(b, true)), []);
    assert_eq!(errors(BARRIERS, 1, |b, _| fill(b, false)), [(Kind::IntraWarpRace, 2, Some(1))]);
}

#[test]
fn findings_name_threads_and_buffers_and_can_be_allowed() {
    let kernel = kernel(&[]);
    let mut init = GlobalInit::new();
    init.alloc(2, 100);
    init.set_name(2, "x");
    let mut options = CheckOptions::default();
    let mut go = |options: &CheckOptions| {
        let mut san = San::new(&kernel, &mut init, [2, 2, 1], [8, 8, 1], 4096, options);
        san.block_begin(3, 2, 64);
        san.global(&at(7, 1, 1 << 5), Load, &[2; 32], &[8; 32], 4, &NoValues);
        san.block_end();
        san.finish()
    };
    let report = go(&options);
    let finding = &report.findings[0];
    let who = finding.at.as_ref().and_then(|s| s.who).expect("a thread");
    assert_eq!((who.block, who.thread, who.lane), ([1, 1, 0], [5, 4, 0], 5));
    assert_eq!(finding.address, Some(0x7f02_0001_0008));
    assert_eq!(finding.buffer.as_ref().map(|b| (b.name.as_str(), b.offset, b.size)), Some(("x", 8, 100)));
    let reason = "padding".into();
    options.allow.push(Allow { kind: Kind::UninitialisedRead, kernel: "k".into(), line: "ptx:7".into(), reason });
    let report = go(&options);
    assert_eq!((report.is_clean(), report.allowed), (true, 1));
    options.allow[0].line = "ptx:8".into();
    assert!(!go(&options).is_clean());
}
