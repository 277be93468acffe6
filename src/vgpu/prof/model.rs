//! A lower bound on the time of a launch: the slowest of its units at peak rate (roofline). *Modelled*, never measured.
//!
//! Known: counts, rates. Unknown, and therefore not in the bound: latency that is not hidden, cache hits beyond the footprint, DRAM pages, ptxas's
//! schedule, clocks under power limits, contention of atomics.
//!
//! One PTX instruction counts as one machine instruction, but for moves, which ptxas mostly does without. It makes one of some pairs, too (two logic operations, a shift and a sum), and several
//! of some (divisions, loads far from their base): the 8-bit convolutions have 0.86 to 1.08 times as many PTX instructions, moves left out, as machine instructions on sm_80, other kernels
//! fewer. Where a launch is bound by `issue` or `int`, the bound is as good as that.

use serde::Serialize;

use super::arch::Arch;
use super::{Class, Rate, Summary};

/// Least cost of starting a kernel, in seconds.
const LAUNCH_SECONDS: f64 = 2e-6;
/// Sectors of a 128-byte line: a multiprocessor moves one line, or one shared wavefront, per clock.
const SECTORS_PER_LINE: u64 = 4;

/// Time that one unit needs at the least.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Unit {
    /// `dram`, `issue`, `fp32` ..
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// The bound for one GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// `a100`.
    pub arch: &'static str,
    /// Always `modelled`: carried in the data so that no reader takes it for a measurement.
    pub kind: &'static str,
    /// The unit that takes longest.
    pub limit: &'static str,
    /// Least time in seconds, launch included.
    pub seconds: f64,
    /// The same where every sector comes from DRAM again, that is, without any reuse in L2.
    pub seconds_without_l2: f64,
    /// Every unit, slowest first.
    pub units: Vec<Unit>,
}

/// The least time of this launch on `arch`.
///
/// The busiest multiprocessor has at least `ceil(blocks / multiprocessors)` blocks, of which each is taken to do the same work, and at least the block that does most: a launch of few
/// blocks, or with few that do nearly all, is bound by one multiprocessor, not by the whole GPU.
pub fn bound(summary: &Summary, arch: &Arch) -> Bound {
    let clock = arch.clock_ghz * 1e9;
    let blocks = summary.blocks().max(1);
    let heaviest = summary.heaviest as f64 / summary.issued().warps.max(1) as f64;
    let busiest = (blocks.div_ceil(u64::from(arch.sms)) as f64 / blocks as f64).max(heaviest.min(1.0)); // share of all work on the busiest one
    let on_sm = |work: f64, per_clock: f64| work * busiest / (per_clock * clock);
    let lanes = |classes: &[Class]| classes.iter().map(|&c| summary.class(c).lanes).sum::<u64>() as f64;
    let dram = |sectors: u64| 32.0 * sectors as f64 / (arch.dram_gbs * 1e9);

    let lines = (summary.global_read.sectors + summary.global_write.sectors).div_ceil(SECTORS_PER_LINE);
    let tensor = |rate: Rate, peak: f64| {
        let macs: u64 = summary.mma.iter().filter(|m| m.rate == rate).map(|m| m.count * m.macs).sum();
        on_sm(macs as f64, peak * arch.mma_sync)
    };
    let mut units = vec![
        Unit {
            name: "dram",
            seconds: dram(summary.global_read.footprint_sectors + summary.global_write.footprint_sectors),
        },
        Unit { name: "load/store", seconds: on_sm((lines + summary.shared.wavefronts) as f64, 1.0) },
        Unit { name: "issue", seconds: on_sm((summary.issued().warps - summary.class(Class::Mov).warps) as f64, 4.0) },
        Unit { name: "fp32", seconds: on_sm(lanes(&[Class::Fma, Class::Fp32]), arch.fp32) },
        Unit { name: "fp64", seconds: on_sm(lanes(&[Class::Fp64]), arch.fp64) },
        Unit { name: "fp16", seconds: on_sm(lanes(&[Class::Fp16]), arch.fp16x2) },
        Unit { name: "int", seconds: on_sm(lanes(&[Class::Int, Class::Int64, Class::Logic, Class::Pred]), arch.int) },
        Unit { name: "cvt", seconds: on_sm(lanes(&[Class::Cvt]), arch.cvt) },
        Unit { name: "sfu", seconds: on_sm(lanes(&[Class::Sfu]), arch.sfu) },
        // Products of different types share the tensor cores.
        Unit {
            name: "tensor",
            seconds: tensor(Rate::I8, arch.mac_i8)
                + tensor(Rate::F16, arch.mac_f16)
                + tensor(Rate::Tf32, arch.mac_tf32)
                + tensor(Rate::Fp8, arch.mac_fp8)
                + tensor(Rate::I4, arch.mac_i4)
                + tensor(Rate::B1, arch.mac_b1)
                + tensor(Rate::F64, arch.mac_f64),
        },
    ];
    units.retain(|u| u.seconds > 0.0);
    units.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let slowest = units.first().copied().unwrap_or(Unit { name: "launch", seconds: 0.0 });
    let all_sectors = dram(summary.global_read.sectors + summary.global_write.sectors);
    Bound {
        arch: arch.name,
        kind: "modelled",
        limit: slowest.name,
        seconds: slowest.seconds + LAUNCH_SECONDS,
        seconds_without_l2: slowest.seconds.max(all_sectors) + LAUNCH_SECONDS,
        units,
    }
}

#[cfg(test)]
mod tests {
    use super::super::arch::A100;
    use super::super::{Global, Issued, Mma};
    use super::*;

    fn launch(blocks: u32) -> Summary {
        Summary { grid: [blocks, 1, 1], block: [256, 1, 1], ..Summary::default() }
    }

    #[test]
    fn a_hundred_teraops_of_int8_are_bound_by_the_tensor_cores() {
        // A100: 624 TOPS int8 = 2 * 2048 * 108 * 1.41e9 (white paper), so 312e12 multiply-adds are one second.
        let form = "m16n8k32.s32.s8.s8.s32".to_string();
        let mma = Mma { form, count: 312_000_000_000_000 / 4096, macs: 4096, rate: Rate::I8 };
        let b = bound(&Summary { mma: vec![mma], ..launch(108 * 64) }, &A100);
        assert_eq!((b.limit, b.kind), ("tensor", "modelled"));
        assert!((b.seconds - 1.0).abs() < 1e-3, "{b:?}");
    }

    #[test]
    fn one_block_that_does_half_of_the_work_is_half_of_the_time() {
        let work = Issued { warps: 1_410_000, lanes: 32 * 1_410_000 };
        let time = |heaviest| {
            let s = Summary { classes: vec![(Class::Fma, work)], heaviest, ..launch(108 * 64) };
            bound(&s, &A100).seconds - LAUNCH_SECONDS
        };
        assert!((time(work.warps / 2) / time(0) - 54.0).abs() < 1e-6 && time(work.warps / 200) == time(0));
    }

    #[test]
    fn few_blocks_are_bound_by_their_multiprocessors() {
        let work = Issued { warps: 1_410_000, lanes: 32 * 1_410_000 };
        let of = |blocks| {
            bound(&Summary { classes: vec![(Class::Fma, work)], ..launch(blocks) }, &A100).seconds - LAUNCH_SECONDS
        };
        // 32 lanes of 64 per clock: half a clock per instruction on one multiprocessor.
        assert!((of(1) - 0.5e-3).abs() < 1e-9);
        assert!((of(108) - 0.5e-3 / 108.0).abs() < 1e-12);
        assert!((of(109) - 0.5e-3 * 2.0 / 109.0).abs() < 1e-12, "one multiprocessor has two blocks");
    }

    #[test]
    fn dram_counts_the_footprint_once_and_every_sector_without_l2() {
        let read =
            Global { requests: 1, bytes: 0, sectors: 2_039_000_000 / 32 * 3, footprint_sectors: 2_039_000_000 / 32 };
        let b = bound(&Summary { global_read: read, ..launch(100_000) }, &A100);
        assert_eq!(b.limit, "dram");
        assert!((b.seconds - LAUNCH_SECONDS - 1e-3).abs() < 1e-7, "{b:?}");
        assert!((b.seconds_without_l2 - LAUNCH_SECONDS - 3e-3).abs() < 1e-7, "{b:?}");
    }
}
