//! The self-test: every kernel of the build is reached and passes on a virtual GPU with every check on, and a wrong kernel is found, by name.
//!
//! Not here: what `doctor` prints (`tests/doctor.rs`), what `--device auto` makes of it (`src/cli/device.rs`).

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

mod common;

use std::sync::Arc;

use common::{Swap, gpu, have_kernels};
use earlybird::driver::observe::Observed;
use earlybird::driver::vgpu::Vgpu;
use earlybird::driver::{Driver, kernels};
use earlybird::selftest::{Outcome, Report, run, run_cases};
use earlybird::vgpu::device::Options;

/// Fails with every kernel that did not pass.
fn assert_passed(report: &Report) {
    let bad: Vec<_> = report.kernels.iter().filter(|k| !matches!(k.outcome, Outcome::Passed { .. })).collect();
    assert!(bad.is_empty() && report.errors.is_empty(), "{bad:#?} {:#?}", report.errors);
    assert!(report.passed());
    let entries: usize = kernels::MODULES.iter().map(|m| m.entries.len()).sum();
    assert_eq!((report.kernels.len(), report.counts()), (entries, [entries, 0, 0]));
    // A tolerance that nothing comes near is none, and one that is nearly used up is chance.
    let shares = report.kernels.iter().filter_map(|k| match k.outcome {
        Outcome::Passed { share } => Some((share, k.kernel)),
        _ => None,
    });
    let (most, kernel) = shares.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    println!(
        "{}: {} cases in {:.1} s; most of a tolerance: {most:.3} by {kernel}",
        report.device, report.cases, report.seconds
    );
    assert!(most > 0.01 && most < 0.7, "{kernel} takes {most} of its tolerance");
}

#[test]
fn every_kernel_is_reached_and_passes_on_the_virtual_gpu() {
    if have_kernels("self-test") {
        assert_passed(&run(Arc::new(Vgpu::new(Options::checked()))).unwrap());
    }
}

mod cuda {
    #[test]
    fn every_kernel_is_reached_and_passes() {
        if let Some(driver) = super::gpu() {
            super::assert_passed(&super::run(driver).unwrap());
        }
    }
}

/// The device with `from` replaced by `to` all over one kernel.
fn wrong(kernel: &str, from: &str, to: &str) -> Arc<dyn Driver> {
    let (module, _) = kernels::entry(kernel).unwrap();
    let start = module.ptx.find(&format!(".entry {kernel}(")).unwrap();
    let end = module.ptx[start + 1..].find(".entry ").map_or(module.ptx.len(), |next| start + 1 + next);
    let body = module.ptx[start..end].replace(from, to);
    assert_ne!(body, module.ptx[start..end], "{kernel} has no {from}");
    let ptx = format!("{}{body}{}", &module.ptx[..start], &module.ptx[end..]);
    Arc::new(Observed::new(Arc::new(Vgpu::new(Options::default())), Swap { module: module.name, ptx }))
}

#[test]
fn a_wrong_kernel_is_found_and_named() {
    if !have_kernels("self-test of wrong kernels") {
        return;
    }
    for (kernel, from, to, part) in [
        ("add_fwd_f32", "add.rn.f32", "sub.rn.f32", "add_fwd_f32"),
        ("cast_f32_u8", "cvt.rni.sat", "cvt.rzi.sat", "cast"),
        ("mask_step_f32", "shfl.sync.up", "shfl.sync.down", "mask"),
        ("sgd_step_f32", "setp.gt.f32", "setp.lt.f32", "sgd_step_f32"),
        ("maxpool_bwd_f32_any", "add.rn.f32", "sub.rn.f32", "maxpool"),
        ("conv2d_wgrad_sum_f32", "add.rn.f32", "sub.rn.f32", "conv2d_wgrad_f32"),
        ("batchnorm_bwd_coef_f32", "add.rn.f64", "sub.rn.f64", "batchnorm_bwd_f32"),
        ("linear_bias_bwd_f32", "add.rn.f32", "sub.rn.f32", "linear_wgrad_f32"),
        ("batchnorm_bwd_i8", "max.f32", "min.f32", "batchnorm_i8"),
        ("conv2d_fwd_i8_n32", "max.u32", "min.u32", "conv2d_i8, 2x9"),
    ] {
        let report = run_cases(wrong(kernel, from, to), part).unwrap();
        let verdict = report.kernels.iter().find(|k| k.kernel == kernel).unwrap();
        match &verdict.outcome {
            Outcome::Failed { case, what } => {
                println!("{kernel}: {case}: {}", what.lines().next().unwrap());
                assert!(case.contains(part) && !what.is_empty());
            }
            other => panic!("{kernel} with {to} for {from}: {other:?}"),
        }
        assert!(!report.passed() && report.summary().contains("failed"), "{}", report.summary());
        // Kernels that had no part in a failing case are not blamed.
        let other = if part == "mask" { "add_fwd_f32" } else { "mask_step_f32" };
        let other = report.kernels.iter().find(|k| k.kernel == other).unwrap();
        assert_eq!((&other.outcome, other.cases), (&Outcome::NotReached, 0));
    }
}

/// A device that dies in the middle is an outcome, not an error: what ran keeps its verdict, the rest was not reached.
#[test]
fn a_device_that_is_lost_fails_the_test() {
    if !have_kernels("self-test of a lost device") {
        return;
    }
    use earlybird::driver::{codes, fault::fault};
    let inner = Arc::new(Vgpu::new(Options::default()));
    let report =
        run_cases(Arc::new(fault(inner, Some("cuLaunchKernel"), 3, codes::ILLEGAL_ADDRESS, true)), "pool").unwrap();
    let [passed, failed, missed] = report.counts();
    assert!(!report.passed() && failed > 0 && missed > passed, "{}", report.summary());
    assert!(report.summary().contains("injected fault"), "{}", report.summary());
}
