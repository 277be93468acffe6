//! A warp as a set of splits, and the loop that executes instructions.
//!
//! A split is a set of lanes at one pc. A branch on which lanes disagree makes two of it; at every [`Op::Join`] those that can run meet again, and the one
//! whose block comes first in reverse post-order goes on. With reducible code lanes are together again at the immediate post-dominator at the latest,
//! whatever the layout of the text; and a lane that waits in a `.sync` instruction does not stop its siblings (independent thread scheduling).

use super::block::Block;
use super::copy::Copies;
use super::lanes;
use super::{Halt, Schedule};
use crate::vgpu::ir::{Kernel, Op};
use crate::vgpu::report::Kind;
use crate::vgpu::san::At;

/// Backward branches that a split may take before another one that can run gets its turn.
const PATIENCE: u32 = 1 << 14;

/// What a split does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It can run.
    Run,
    /// It waits in the `.sync` instruction at its pc for the other lanes of this mask.
    Sync(u32),
    /// It waits in the `.aligned` instruction at its pc for all lanes of the warp.
    Whole,
    /// It waits at the barrier instruction at its pc.
    Bar,
}

/// Lanes at one pc.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub pc: u32,
    pub mask: u32,
    pub state: State,
    /// Backward branches since its last turn began.
    spins: u32,
    /// How often it has used up its patience.
    rounds: u32,
}

impl Split {
    pub fn new(pc: u32, mask: u32) -> Split {
        Split { pc, mask, state: State::Run, spins: 0, rounds: 0 }
    }
}

/// A warp.
#[derive(Default)]
pub(super) struct Warp {
    /// Lanes that have not exited.
    pub live: u32,
    /// Where they are, but for the split that is executing right now.
    pub splits: Vec<Split>,
    /// Copies that `cp.async` has begun.
    pub copies: Copies,
}

/// Why the loop stopped.
enum End {
    /// Another split should be looked at.
    Again,
    /// The split waits.
    Parked(State),
    /// None of its lanes are in it any more: they have exited or are in splits of their own.
    Gone,
}

impl Warp {
    pub fn start(&mut self, live: u32) {
        self.live = live;
        self.splits.clear();
        self.splits.push(Split::new(0, live));
        self.copies.clear();
    }

    pub fn runnable(&self) -> bool {
        self.splits.iter().any(|s| s.state == State::Run)
    }

    /// Puts a split back; it joins one that is at the same place.
    pub fn put(&mut self, split: Split) {
        match self.splits.iter_mut().find(|s| s.pc == split.pc && s.state == split.state) {
            Some(same) => {
                same.mask |= split.mask;
                same.rounds = same.rounds.max(split.rounds);
            }
            None => self.splits.push(split),
        }
    }

    /// Takes the split that runs next: the most patient, then the first in reverse post-order.
    fn take(&mut self, kernel: &Kernel) -> Option<Split> {
        if self.splits.len() == 1 {
            return (self.splits[0].state == State::Run).then(|| self.splits.swap_remove(0));
        }
        let runnable = self.splits.iter().enumerate().filter(|(_, s)| s.state == State::Run);
        let (i, _) = runnable.min_by_key(|(_, s)| (s.rounds, kernel.rpo[s.pc as usize], s.pc))?;
        Some(self.splits.swap_remove(i))
    }

    /// Takes the `n`-th split that can run.
    fn take_nth(&mut self, n: usize) -> Option<Split> {
        let (i, _) = self.splits.iter().enumerate().filter(|(_, s)| s.state == State::Run).nth(n)?;
        Some(self.splits.swap_remove(i))
    }
}

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// Runs splits of warp `w` for at most `fuel` instructions.
    pub fn run_warp(&mut self, w: usize, mut fuel: u32) -> Result<(), Halt> {
        let random = matches!(self.task.launch.schedule, Schedule::Random(_));
        while fuel > 0 {
            let split = if random {
                let n = self.warps[w].splits.iter().filter(|s| s.state == State::Run).count() as u64;
                let nth = self.next_random().checked_rem(n);
                nth.and_then(|nth| self.warps[w].take_nth(nth as usize))
            } else {
                self.warps[w].take(self.kernel)
            };
            let Some(mut split) = split else { break };
            match self.run_split(w, &mut split, &mut fuel)? {
                End::Again => self.warps[w].put(split),
                End::Parked(state) => {
                    split.state = state;
                    self.warps[w].put(split);
                    self.settle(w)?;
                }
                End::Gone => self.settle(w)?,
            }
        }
        Ok(())
    }

    /// Leaves the lanes of `split` that the guard holds back to run on behind the instruction; the split keeps those of `m`.
    fn leave_behind(&mut self, w: usize, split: &mut Split, m: u32) {
        if split.mask != m {
            let rest = Split { pc: split.pc + 1, mask: split.mask & !m, ..*split };
            self.warps[w].put(rest);
            split.mask = m;
        }
    }

    /// Executes instructions of one split until it must wait, has exited, or another one may be first.
    fn run_split(&mut self, w: usize, split: &mut Split, fuel: &mut u32) -> Result<End, Halt> {
        let file = self.file(w);
        let code = self.kernel.code.as_ptr();
        let mut pc = split.pc;
        let mut mask = split.mask;
        let mut left = *fuel;
        // Counted once on the way out: instructions started are the fuel used, less the joins.
        macro_rules! leave {
            ($end:expr) => {{
                split.pc = pc;
                split.mask = mask;
                self.issued += u64::from(*fuel - left);
                *fuel = left;
                return Ok($end);
            }};
        }
        loop {
            // SAFETY: pcs are those of the kernel: lowering ends the code with an exit and checks every branch target.
            let ins = unsafe { &*code.add(pc as usize) };
            // SAFETY: guards are predicates of the kernel.
            let m = mask & (unsafe { lanes::pred(&file, ins.guard) } ^ ins.flip);
            if left == 0 {
                leave!(End::Again);
            }
            left -= 1;
            if COUNT && ins.op != Op::Join {
                self.counts.issue(pc, m);
            }
            match ins.op {
                Op::Row => {
                    if m != 0 {
                        // SAFETY: lowering gave the instruction rows that exist.
                        unsafe { (ins.row)(&file, ins, m) };
                    }
                    pc += 1;
                }
                Op::Load | Op::Store => {
                    if m != 0 {
                        let access = &self.kernel.accesses[ins.x as usize];
                        if ins.op == Op::Load {
                            self.load(w, pc, &file, ins, access, m)?;
                        } else {
                            self.store(w, pc, &file, ins, access, m)?;
                        }
                    }
                    pc += 1;
                }
                Op::Join => {
                    left += 1;
                    pc += 1;
                    if !self.warps[w].splits.is_empty() {
                        leave!(End::Again);
                    }
                }
                Op::Bra => {
                    let target = ins.x;
                    if m == mask {
                        split.spins += u32::from(target <= pc);
                        pc = target;
                        if split.spins > PATIENCE && !self.warps[w].splits.is_empty() {
                            split.spins = 0;
                            split.rounds += 1;
                            leave!(End::Again);
                        }
                    } else if m == 0 {
                        pc += 1;
                    } else {
                        if COUNT {
                            self.counts.divergent += 1;
                        }
                        split.spins += u32::from(target <= pc);
                        self.warps[w].put(Split { pc: pc + 1, mask: mask & !m, ..*split });
                        (pc, mask) = (target, m);
                        leave!(End::Again);
                    }
                }
                Op::Brx => {
                    if m != mask {
                        self.warps[w].put(Split { pc: pc + 1, mask: mask & !m, ..*split });
                    }
                    // SAFETY: lowering gave the instruction a row that exists.
                    let index = unsafe { lanes::get(&file, ins.a) };
                    let mut rest = m;
                    while rest != 0 {
                        let i = index[rest.trailing_zeros() as usize];
                        let same = rest & lanes::bits(|lane| index[lane] == i);
                        rest &= !same;
                        if i >= u32::from(ins.b) {
                            let what = format!("brx.idx with index {i} into a list of {} targets", ins.b);
                            self.fault(Kind::Trap, what, pc, w, same.trailing_zeros())?;
                            return Err(Halt);
                        }
                        self.warps[w].put(Split {
                            pc: self.kernel.targets[(ins.x + i) as usize],
                            mask: same,
                            ..*split
                        });
                    }
                    leave!(End::Gone);
                }
                Op::Exit => {
                    pc += 1;
                    if m != 0 {
                        self.effects += 1;
                        if let Some(san) = &mut self.san {
                            san.exit(&At { pc: pc - 1, warp: w as u32, mask: m });
                        }
                        self.warps[w].live &= !m;
                        mask &= !m;
                        // Lanes that wait for those that went may go on now; the rest of this split takes its turn among them.
                        if mask == 0 || !self.warps[w].splits.is_empty() {
                            if mask != 0 {
                                self.warps[w].put(Split { pc, mask, ..*split });
                            }
                            leave!(End::Gone);
                        }
                    }
                }
                Op::Trap => {
                    if m != 0 {
                        self.fault(Kind::Trap, "the kernel executed a trap".into(), pc, w, m.trailing_zeros())?;
                        return Err(Halt);
                    }
                    pc += 1;
                }
                Op::WholeWarp | Op::Ldmatrix | Op::Stmatrix => {
                    if m == u32::MAX {
                        self.whole(w, pc)?;
                        pc += 1;
                    } else if m == 0 {
                        pc += 1;
                    } else {
                        (split.pc, split.mask) = (pc, mask);
                        self.leave_behind(w, split, m);
                        mask = m;
                        leave!(End::Parked(State::Whole));
                    }
                }
                Op::BarSync | Op::BarArrive | Op::BarRed => {
                    if m == 0 {
                        pc += 1;
                    } else {
                        (split.pc, split.mask) = (pc, mask);
                        self.leave_behind(w, split, m);
                        mask = m;
                        leave!(End::Parked(State::Bar));
                    }
                }
                Op::Shfl | Op::Vote | Op::Match | Op::Redux | Op::Elect | Op::WarpBar => {
                    // SAFETY: lowering gave the instruction a row that exists.
                    let members = unsafe { lanes::get(&file, ins.e) };
                    let first = members[m.trailing_zeros() as usize & 31];
                    let live = self.warps[w].live;
                    let uniform = m & !lanes::bits(|lane| members[lane] == first) == 0;
                    if m == 0 {
                        pc += 1;
                    } else if uniform && first & live == m {
                        self.sync(w, &[(pc, m)], first)?;
                        pc += 1;
                    } else {
                        (split.pc, split.mask) = (pc, mask);
                        self.leave_behind(w, split, m);
                        // Lanes that name different masks wait for different partners.
                        let same = m & lanes::bits(|lane| members[lane] == first);
                        if same != m {
                            let rest = Split { mask: m & !same, ..*split };
                            self.warps[w].put(rest);
                        }
                        let outside = same & !first;
                        let mut same = same;
                        if outside != 0 {
                            let what = format!("the thread is not in its own member mask {first:#010x}");
                            self.fault(Kind::SyncMask, what, pc, w, outside.trailing_zeros())?;
                            self.warps[w].put(Split { pc: pc + 1, mask: outside, ..*split });
                            same &= first;
                        }
                        mask = same;
                        if mask == 0 {
                            leave!(End::Gone);
                        }
                        leave!(End::Parked(State::Sync(first)));
                    }
                }
                Op::Nop => pc += 1,
                Op::Yield => {
                    pc += 1;
                    split.rounds += u32::from(!self.warps[w].splits.is_empty());
                    (split.pc, split.mask) = (pc, mask);
                    self.issued += u64::from(*fuel - left);
                    *fuel = 0; // the turn goes to another warp
                    return Ok(End::Again);
                }
                Op::Atom
                | Op::CpAsync
                | Op::CpCommit
                | Op::CpWait
                | Op::Activemask
                | Op::Fence
                | Op::Special
                | Op::Cvta
                | Op::Isspacep
                | Op::Syscall => {
                    if m != 0 {
                        match ins.op {
                            Op::Atom => self.atom(w, pc, &file, ins, m)?,
                            Op::CpAsync => self.copy_async(w, pc, &file, ins, m)?,
                            Op::CpCommit => self.copy_commit(w, m),
                            Op::CpWait => self.copy_wait(w, pc, m, ins.x, ins.d == 1)?,
                            Op::Fence => self.fence(w, pc, m, ins.x),
                            // SAFETY: lowering gave the instruction a row that exists.
                            Op::Activemask => unsafe { lanes::put(&file, ins.d, m, &[mask; 32]) },
                            Op::Special => {
                                let now = self.issued + u64::from(*fuel - left);
                                self.special(w, &file, ins, m, now);
                            }
                            Op::Cvta => self.cvta(w, pc, &file, ins, m)?,
                            Op::Isspacep => self.isspacep(&file, ins, m),
                            _ => self.syscall(w, pc, &file, ins, m)?,
                        }
                    }
                    pc += 1;
                }
            }
        }
    }
}
