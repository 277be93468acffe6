//! Masks, distances and decisions against the official rules, on recorded scale vectors (`detector.safetensors`): bit for bit.

use earlybird::ticket::{Criterion, Detector, DetectorOptions, Mask, draw};

use super::store::{Case, Golden};

/// Calls `body` with each case, its scale vectors, and each of its runs: index, ratio, `about`.
fn each_run(mut body: impl FnMut(&Case, &[Vec<f32>], usize, f64)) {
    let golden = Golden::open("detector");
    for case in golden.cases("detector") {
        let scales = case.tensor("scales");
        let vectors: Vec<Vec<f32>> = scales.f32().chunks_exact(scales.dims[1]).map(<[f32]>::to_vec).collect();
        for (i, run) in case.about["runs"].as_array().unwrap().iter().enumerate() {
            body(&case, &vectors, i, run["ratio"].as_f64().unwrap());
        }
    }
}

#[test]
fn masks_equal_the_official_ones() {
    each_run(|case, vectors, i, ratio| {
        let masks = case.tensor(&format!("{i}/masks"));
        for (t, (vector, expected)) in vectors.iter().zip(masks.data.chunks_exact(masks.dims[1])).enumerate() {
            let cut = draw(vector, &[ratio]).unwrap().remove(0);
            let expected = Mask::from_bools(expected.iter().map(|kept| *kept == 1.0));
            assert_eq!(cut.mask, expected, "{}, ratio {ratio}, draw {t}", case.about["what"]);
        }
    });
}

#[test]
fn all_ratios_drawn_at_once_equal_each_drawn_alone() {
    each_run(|case, vectors, i, ratio| {
        let ratios: Vec<f64> =
            case.about["runs"].as_array().unwrap().iter().map(|r| r["ratio"].as_f64().unwrap()).collect();
        for vector in vectors {
            assert_eq!(draw(vector, &ratios).unwrap()[i], draw(vector, &[ratio]).unwrap()[0]);
        }
    });
}

fn decide(criterion: Criterion, name: &str) {
    each_run(|case, vectors, i, ratio| {
        let (what, queue) = (&case.about["what"], case.size("length"));
        let options = DetectorOptions { criterion, eps: case.number("eps"), queue, ..Default::default() };
        let mut detector = Detector::new(options);
        let distances = case.tensor(&format!("{i}/distances"));
        let decisions = case.tensor(&format!("{i}/{name}"));
        let mut first = None;
        for (t, vector) in vectors.iter().enumerate() {
            let verdict = detector.update(&draw(vector, &[ratio]).unwrap()[0].mask).unwrap();
            let at = |t: usize, lag: usize| distances.data[t * (queue - 1) + lag - 1];
            assert_eq!(verdict.distance.unwrap_or(-1.0), at(t, 1), "{what}, ratio {ratio}, draw {t}: distance");
            let expected: Vec<f64> = match criterion {
                Criterion::Window => (1..queue).filter(|lag| *lag <= t).map(|lag| at(t, lag)).collect(),
                Criterion::Consecutive => (0..queue).filter(|back| *back < t).map(|back| at(t - back, 1)).collect(),
            };
            assert_eq!(verdict.judged, expected, "{what}, ratio {ratio}, draw {t}: judged distances");
            assert_eq!(verdict.settled, decisions.data[t] == 1.0, "{what}, ratio {ratio}, draw {t}: {name} decision");
            first = first.or(verdict.settled.then_some(t as u64));
        }
        let recorded = case.about["runs"][i][format!("{name}_first")].as_u64();
        assert_eq!(first, recorded, "{what}, ratio {ratio}: first draw that settles");
    });
}

#[test]
fn the_window_criterion_decides_as_the_official_code() {
    decide(Criterion::Window, "window");
}

#[test]
fn the_consecutive_criterion_decides_as_the_paper() {
    decide(Criterion::Consecutive, "consecutive");
}

/// Distances go across one epoch: with two draws per epoch, the draws at the ends of epochs decide as they do alone, whatever lies between.
#[test]
fn draws_between_epochs_do_not_disturb_those_a_whole_epoch_apart() {
    for (criterion, name) in [(Criterion::Window, "window"), (Criterion::Consecutive, "consecutive")] {
        each_run(|case, vectors, i, ratio| {
            let (eps, queue) = (case.number("eps"), case.size("length"));
            let mut detector = Detector::new(DetectorOptions { criterion, eps, queue, draws_per_epoch: 2 });
            let decisions = case.tensor(&format!("{i}/{name}"));
            let mask = |vector: &[f32]| draw(vector, &[ratio]).unwrap().remove(0).mask;
            for (t, (vector, between)) in vectors.iter().zip(vectors.iter().rev()).enumerate() {
                detector.update(&mask(between)).unwrap();
                let settled = detector.update(&mask(vector)).unwrap().settled;
                assert_eq!(settled, decisions.data[t] == 1.0, "{}, ratio {ratio}, epoch {t}", case.about["what"]);
            }
        });
    }
}
