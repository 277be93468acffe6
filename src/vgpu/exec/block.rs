//! A block: its warps with their registers and memories, who runs next, and what to say when nobody can. A worker keeps one `Block` and runs one block of
//! the grid after another in it. Not here: instructions (`warp`).

use std::sync::atomic::Ordering::Relaxed;

use super::barrier::Bar;
use super::count::Counts;
use super::warp::{State, Warp};
use super::{Halt, Harvest, Schedule, Task};
use crate::vgpu::ir::{File, Kernel, Row, TRUE};
use crate::vgpu::mem::POISON;
use crate::vgpu::report::{Finding, Kind, Report, Who};
use crate::vgpu::san::San;

/// Instructions that a warp runs before another one gets its turn.
const TURN: u32 = 1 << 16;

/// The state of a worker and of the block that it runs. `CHECK` calls the sanitizer, `COUNT` counts.
pub(super) struct Block<'a, const CHECK: bool, const COUNT: bool> {
    pub task: &'a Task<'a>,
    pub kernel: &'a Kernel,
    /// `kernel.rows` rows for each warp.
    rows: Vec<Row>,
    preds: Vec<u32>,
    /// Shared memory, in rows for its alignment.
    shared: Vec<Row>,
    /// Frames of the threads, `kernel.local_bytes` (rounded up to 16) each.
    local: Vec<Row>,
    pub local_stride: u32,
    pub warps: Vec<Warp>,
    pub bars: [Bar; 16],
    /// `%ctaid`.
    pub id: [u32; 3],
    pub linear: u64,
    pub san: Option<San<'a>>,
    pub counts: Counts,
    pub report: Report,
    pub output: Vec<(u64, u32, Vec<u8>)>,
    /// Warp instructions issued by this block so far.
    pub issued: u64,
    instructions: u64,
    /// Counts what can let somebody else go on: stores, atomics, barriers, exits.
    pub effects: u64,
    pub random: u64,
}

impl<'a, const CHECK: bool, const COUNT: bool> Block<'a, CHECK, COUNT> {
    pub fn new(task: &'a Task<'a>, san: Option<San<'a>>) -> Self {
        let kernel = task.launch.kernel;
        let warps = task.warps as usize;
        let mut rows = vec![Row([0xcbcb_cbcb; 32]); kernel.rows as usize * warps];
        // The first predicate of each warp is [`TRUE`].
        const { assert!(TRUE == 0) };
        let preds = vec![0; kernel.preds as usize * warps];
        for w in 0..warps {
            for &(row, value) in &kernel.constants {
                let at = w * kernel.rows as usize + row as usize;
                rows[at] = Row(std::array::from_fn(|i| value[i % 2]));
            }
        }
        let local_stride = kernel.local_bytes.next_multiple_of(16);
        Block {
            task,
            kernel,
            rows,
            preds,
            shared: vec![Row([0; 32]); (task.shared_bytes as usize).div_ceil(128)],
            local: vec![Row([0; 32]); (local_stride as usize * warps * 32).div_ceil(128)],
            local_stride,
            warps: (0..warps).map(|_| Warp::default()).collect(),
            bars: Default::default(),
            id: [0; 3],
            linear: 0,
            san,
            counts: Counts::new(kernel, COUNT),
            report: Report::new(&kernel.name),
            output: Vec::new(),
            issued: 0,
            instructions: 0,
            effects: 0,
            random: 0,
        }
    }

    /// Takes blocks until there are none left.
    pub fn work(mut self) -> Harvest {
        while let Some(n) = self.task.take() {
            if self.block(n) == Err(Halt) {
                break;
            }
        }
        self.end()
    }

    /// Runs block `n`, and no other.
    pub fn only(mut self, n: u64) -> Harvest {
        let _ = self.block(n); // the report says what was wrong, and the task is stopped
        self.end()
    }

    fn block(&mut self, n: u64) -> Result<(), Halt> {
        self.start(n);
        let end = self.run();
        self.instructions += self.issued;
        self.counts.heaviest = self.counts.heaviest.max(self.issued);
        if end == Err(Halt) {
            self.task.stop.store(true, Relaxed);
        } else if let Some(san) = &mut self.san {
            san.block_end();
        }
        end
    }

    fn end(mut self) -> Harvest {
        if let Some(san) = self.san.take() {
            self.report.merge(san.finish());
        }
        let counts = COUNT.then_some(self.counts);
        Harvest { report: self.report, counts, output: self.output, instructions: self.instructions }
    }

    fn start(&mut self, linear: u64) {
        let [gx, gy, _] = self.task.launch.grid.map(u64::from);
        self.linear = linear;
        self.id = [(linear % gx) as u32, (linear / gx % gy) as u32, (linear / gx / gy) as u32];
        self.issued = 0;
        let poison = Row([u32::from_ne_bytes([POISON; 4]); 32]);
        self.shared.fill(poison);
        self.local.fill(poison);
        self.bars = Default::default();
        let threads = self.task.threads;
        self.preds.fill(0);
        self.preds.iter_mut().step_by(self.kernel.preds.max(1) as usize).for_each(|p| *p = u32::MAX);
        for (w, warp) in self.warps.iter_mut().enumerate() {
            let lanes = (threads - w as u32 * 32).min(32);
            warp.start(u32::MAX >> (32 - lanes));
            for (row, _) in &self.kernel.undefined {
                self.rows[w * self.kernel.rows as usize + *row as usize] = poison;
            }
        }
        if let Schedule::Random(seed) = self.task.launch.schedule {
            self.random = mix(seed ^ mix(linear.wrapping_add(1)));
        }
        if let Some(san) = &mut self.san {
            san.block_begin(linear, self.task.warps, threads);
        }
    }

    fn run(&mut self) -> Result<(), Halt> {
        let mut snapshot: Option<(u64, u64)> = None; // effects and hash of all registers
        let mut rounds = 0u64;
        loop {
            let before = (self.issued, self.effects);
            let progress = match self.task.launch.schedule {
                Schedule::Random(_) => self.random_turn()?,
                schedule => self.turn(schedule == Schedule::Reverse)?,
            };
            if self.warps.iter().all(|w| w.live == 0) {
                self.task.budget.fetch_sub((self.issued - before.0) as i64, Relaxed);
                return Ok(());
            }
            if !progress {
                return Err(self.deadlock());
            }
            let left = self.task.budget.fetch_sub((self.issued - before.0) as i64, Relaxed);
            if left < (self.issued - before.0) as i64 {
                return Err(self.out_of_time(Kind::Timeout));
            }
            if self.task.stop.load(Relaxed) {
                return Err(Halt);
            }
            // A block that has changed nothing and is back in the very same state will never end. With several workers another block may still help it.
            rounds += 1;
            if self.effects == before.1 && self.task.workers <= 1 {
                let state = (self.effects, self.state_hash());
                if snapshot == Some(state) {
                    return Err(self.out_of_time(Kind::Livelock));
                }
                if rounds.is_power_of_two() || snapshot.is_none_or(|s| s.0 != state.0) {
                    snapshot = Some(state);
                }
            }
        }
    }

    /// Gives every warp a turn.
    fn turn(&mut self, reverse: bool) -> Result<bool, Halt> {
        let mut progress = false;
        for k in 0..self.warps.len() {
            let w = if reverse { self.warps.len() - 1 - k } else { k };
            if self.warps[w].runnable() {
                self.run_warp(w, TURN)?;
                progress = true;
            }
        }
        Ok(progress)
    }

    /// Gives many random warps a short turn each.
    fn random_turn(&mut self) -> Result<bool, Halt> {
        let mut progress = false;
        for _ in 0..1024 {
            let n = self.warps.iter().filter(|w| w.runnable()).count() as u64;
            if n == 0 {
                break;
            }
            let pick = (self.next_random() % n) as usize;
            let Some((w, _)) = self.warps.iter().enumerate().filter(|(_, w)| w.runnable()).nth(pick) else { break };
            let fuel = 1 + (self.next_random() % 64) as u32;
            self.run_warp(w, fuel)?;
            progress = true;
        }
        Ok(progress)
    }

    pub fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.random)
    }

    fn state_hash(&self) -> u64 {
        let mut hash = 0u64;
        let mut eat = |v: u64| hash = mix(hash ^ v);
        for warp in &self.warps {
            for split in &warp.splits {
                eat(u64::from(split.pc) << 32 | u64::from(split.mask));
            }
        }
        for row in &self.rows {
            for pair in row.0.chunks_exact(2) {
                eat(u64::from(pair[0]) << 32 | u64::from(pair[1]));
            }
        }
        self.preds.iter().for_each(|p| eat(u64::from(*p)));
        hash
    }

    /// Nobody can go on: says who waits where.
    fn deadlock(&mut self) -> Halt {
        let mut details = Vec::new();
        let mut at = None;
        let mut inside_warp = false;
        for (w, warp) in self.warps.iter().enumerate() {
            for split in &warp.splits {
                let source = &self.kernel.source[split.pc as usize];
                inside_warp |= !matches!(split.state, State::Bar);
                at.get_or_insert((split.pc, w as u32, split.mask.trailing_zeros()));
                details.push(format!(
                    "warp {w}, lanes {:#010x}: waits at ptx line {}: {}",
                    split.mask, source.ptx_line, source.text
                ));
            }
        }
        let exited: Vec<String> =
            self.warps.iter().enumerate().filter(|(_, w)| w.live == 0).map(|(w, _)| w.to_string()).collect();
        if !exited.is_empty() {
            details.push(format!("exited: warps {}", exited.join(", ")));
        }
        let (pc, w, lane) = at.unwrap_or((0, 0, 0));
        let (kind, message) = match inside_warp {
            true => (Kind::WarpDeadlock, "threads of a warp wait for each other for ever"),
            false => (Kind::BarrierDeadlock, "no warp can go on: the barriers they wait at never complete"),
        };
        let mut finding = Finding::at(kind, message.into(), self.kernel, pc, Some(self.who(w, lane)));
        finding.details = details;
        self.note(finding);
        Halt
    }

    fn out_of_time(&mut self, kind: Kind) -> Halt {
        let running = self.warps.iter().enumerate().find_map(|(w, warp)| {
            warp.splits.iter().find(|s| s.state == State::Run).map(|s| (s.pc, w as u32, s.mask.trailing_zeros()))
        });
        let (pc, w, lane) = running.unwrap_or((0, 0, 0));
        let message = match kind {
            Kind::Livelock => "every thread of the block spins and nothing changes".to_string(),
            _ => format!("the launch used up its budget of {} warp instructions", self.task.launch.budget),
        };
        let mut finding = Finding::at(kind, message, self.kernel, pc, Some(self.who(w, lane)));
        for (w, warp) in self.warps.iter().enumerate() {
            for split in &warp.splits {
                let source = &self.kernel.source[split.pc as usize];
                finding.details.push(format!(
                    "warp {w}, lanes {:#010x}: at ptx line {}: {}",
                    split.mask, source.ptx_line, source.text
                ));
            }
        }
        finding.details.truncate(40);
        finding.hint = match kind {
            Kind::Livelock => "a loop waits for something that no other thread of this block will do".into(),
            _ => "a loop without end, or a larger budget is needed".into(),
        };
        self.note(finding);
        Halt
    }

    /// A thread of this block, for findings.
    pub fn who(&self, warp: u32, lane: u32) -> Who {
        Who::new(self.linear, warp, lane, self.task.launch.grid, self.task.launch.block)
    }

    /// Notes an error at `pc`; with checks on the launch goes on.
    pub fn fault(&mut self, kind: Kind, message: String, pc: u32, warp: usize, lane: u32) -> Result<(), Halt> {
        let finding = Finding::at(kind, message, self.kernel, pc, Some(self.who(warp as u32, lane)));
        self.found(finding)
    }

    /// Notes a finding; with checks on the launch goes on.
    pub fn found(&mut self, finding: Finding) -> Result<(), Halt> {
        self.note(finding);
        if CHECK { Ok(()) } else { Err(Halt) }
    }

    /// Puts a finding into the report.
    pub fn note(&mut self, finding: Finding) {
        match &mut self.san {
            Some(san) => san.report(finding),
            None => drop(self.report.add(finding)),
        }
    }

    /// The register file of a warp.
    #[inline(always)]
    pub fn file(&mut self, w: usize) -> File {
        // SAFETY: both vectors hold their part for every warp.
        unsafe {
            File {
                rows: self.rows.as_mut_ptr().add(w * self.kernel.rows as usize),
                preds: self.preds.as_mut_ptr().add(w * self.kernel.preds as usize),
                lists: self.kernel.lists.as_ptr(),
            }
        }
    }

    #[inline(always)]
    pub fn shared_ptr(&mut self) -> *mut u8 {
        self.shared.as_mut_ptr().cast()
    }

    #[inline(always)]
    pub fn local_ptr(&mut self) -> *mut u8 {
        self.local.as_mut_ptr().cast()
    }
}

/// A hash of 64 bits (the finaliser of splitmix64).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
