//! Masks and detector against their definitions, on random histories with ties, equal scales, several ratios and several draws per epoch.
//!
//! Not here: the official rules on recorded scale vectors (`tests/golden`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "common/cases.rs"]
mod cases;

use cases::cases;
use earlybird::quant::philox::Stream;
use earlybird::ticket::{Criterion, Detector, DetectorOptions, Mask, draw};
use proptest::prelude::*;

/// The whole history as plain booleans, and the two rules on it (early-bird.md 1.5, 1.6).
struct History {
    masks: Vec<Vec<bool>>,
    options: DetectorOptions,
}

impl History {
    fn differing(&self, a: usize, b: usize) -> usize {
        self.masks[a].iter().zip(&self.masks[b]).filter(|(a, b)| a != b).count()
    }

    /// Whether the criterion holds at the newest draw: compared are masks whole epochs apart.
    fn settled(&self) -> bool {
        let DetectorOptions { criterion, eps, queue, draws_per_epoch } = self.options;
        let (newest, n) = (self.masks.len() - 1, self.masks[0].len() as f64);
        let epochs_ago = |epochs: usize| newest.checked_sub(epochs * draws_per_epoch);
        match criterion {
            Criterion::Consecutive => (0..queue).all(|back| match (epochs_ago(back), epochs_ago(back + 1)) {
                (Some(newer), Some(older)) => (self.differing(newer, older) as f64 / n) < eps,
                _ => false,
            }),
            // The official expression: 1 - equal/N in f64, at most eps.
            Criterion::Window => (1..queue).all(|back| match epochs_ago(back) {
                Some(older) => 1.0 - (n - self.differing(newest, older) as f64) / n <= eps,
                None => false,
            }),
        }
    }
}

fn options() -> impl Strategy<Value = DetectorOptions> {
    let criterion = prop_oneof![Just(Criterion::Consecutive), Just(Criterion::Window)];
    // Multiples of 1/20 meet distances of masks of 20, 40 and 100 channels exactly.
    let eps = prop_oneof![Just(0.1), (1u32..=20).prop_map(|i| f64::from(i) / 20.0), 0.01f64..1.0];
    (criterion, eps, 2usize..=6, 1usize..=4).prop_map(|(criterion, eps, queue, draws_per_epoch)| DetectorOptions {
        criterion,
        eps,
        queue,
        draws_per_epoch,
    })
}

proptest! {
    #![proptest_config(cases(400))]

    /// Scales that calm down, from a set so coarse that many are equal to the threshold; the first draws see them all equal.
    #[test]
    fn every_decision_is_the_rule_on_the_whole_history(
        options in options(),
        channels in prop_oneof![Just(20usize), Just(40), Just(100), 1usize..70],
        equal in 0usize..3,
        calm in 1u32..30,
        ratios in proptest::collection::vec(0.05f64..0.95, 1..4),
        seed in any::<u64>(),
    ) {
        options.check().unwrap();
        let mut stream = Stream::new(seed, 1);
        let mut scales = vec![0.5f32; channels];
        let watched = |_: &f64| (Detector::new(options), History { masks: Vec::new(), options });
        let mut watched: Vec<_> = ratios.iter().map(watched).collect();
        for time in 0..40u32 {
            if time >= equal as u32 {
                for scale in &mut scales {
                    if stream.below(1 + time * time / calm) == 0 {
                        *scale = (stream.below(17) as f32 - 8.0) / 8.0;
                    }
                }
            }
            // All ratios from one draw.
            for (cut, (ratio, (detector, history))) in draw(&scales, &ratios).unwrap().iter().zip(ratios.iter().zip(&mut watched)) {
                let mut sorted: Vec<f32> = scales.iter().map(|s| s.abs()).collect();
                sorted.sort_by(f32::total_cmp);
                let threshold = sorted[(channels as f64 * ratio).trunc() as usize];
                let kept: Vec<bool> = scales.iter().map(|s| s.abs() > threshold).collect();
                prop_assert_eq!(&cut.mask, &Mask::from_bools(kept.iter().copied()));
                history.masks.push(kept);
                let verdict = detector.update(&cut.mask).unwrap();
                prop_assert_eq!(verdict.settled, history.settled(), "time {}, ratio {}", time, ratio);
                let before = history.masks.len().checked_sub(1 + options.draws_per_epoch);
                let newest = history.masks.len() - 1;
                let distance = before.map(|older| 1.0 - (channels - history.differing(newest, older)) as f64 / channels as f64);
                prop_assert_eq!(verdict.distance, distance);
            }
        }
    }
}

/// All scales are equal before the first epoch, so the first mask keeps nothing: the paper's rule needs six masks more, the official one five.
#[test]
fn the_untrained_net_never_counts_towards_a_ticket() {
    for (criterion, first) in [(Criterion::Consecutive, 6), (Criterion::Window, 5)] {
        let mut detector = Detector::new(DetectorOptions { criterion, ..Default::default() });
        let trained: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let mut emerged = None;
        for draw_number in 0..12 {
            let scales = if draw_number == 0 { vec![0.5; 100] } else { trained.clone() };
            let cut = draw(&scales, &[0.5]).unwrap().remove(0);
            assert_eq!(cut.mask.count(), if draw_number == 0 { 0 } else { 49 });
            if detector.update(&cut.mask).unwrap().settled {
                emerged = emerged.or(Some(draw_number));
            }
        }
        assert_eq!(emerged, Some(first), "{criterion:?}");
    }
}

#[test]
fn masks_of_another_network_and_useless_constants_are_refused() {
    let mut detector = Detector::new(DetectorOptions::default());
    detector.update(&Mask::from_bools([true; 10])).unwrap();
    let error = detector.update(&Mask::from_bools([true; 11])).unwrap_err();
    assert!(error.to_string().contains("10") && error.to_string().contains("11"), "{error}");
    let bad = |options: DetectorOptions, flag: &str| {
        let error = options.check().unwrap_err();
        assert!(error.to_string().starts_with(flag) && error.exit_code() == 2, "{error}");
    };
    for eps in [0.0, -0.1, 1.1, f64::NAN] {
        bad(DetectorOptions { eps, ..Default::default() }, "--eps");
    }
    for queue in [0, 1, 1001] {
        bad(DetectorOptions { queue, ..Default::default() }, "--queue");
    }
    bad(DetectorOptions { draws_per_epoch: 0, ..Default::default() }, "--draws-per-epoch");
}
