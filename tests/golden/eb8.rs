//! Rounding and training in `eb8` against QPyTorch, for equal random bits. `make_eb8.py` made the file and says how.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Precision, Session, StateDict};
use earlybird::graph::Graph;
use earlybird::ops::Shape;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::quantize::{Noise, Round};
use earlybird::quant::bfp::{Grid, MAX_EXPONENT, MIN_EXPONENT, exponent, round_stochastic, value};

use super::device::Device;
use super::store::Golden;

for_each_device!(rounding_is_qpytorchs_bit_for_bit, steps_are_those_of_the_official_code_on_qpytorch);

fn rounding_is_qpytorchs_bit_for_bit(device: &Device) {
    let (golden, mut packed) = (Golden::open("eb8"), 0);
    for case in golden.cases("block") {
        let (x, r) = (case.tensor("x"), case.tensor("r"));
        let (x, groups) = (x.f32(), x.dims[0]);
        let (y, nearest) = (case.tensor("y").f32(), case.tensor("nearest").f32());
        let length = x.len() / groups;
        for (group, values) in x.chunks_exact(length).enumerate() {
            let max = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            let grid = Grid::of(max);
            for (i, v) in values.iter().enumerate() {
                let at = group * length + i;
                let r = r.data[at] as u32;
                assert_eq!(grid.round(*v, r).to_bits(), y[at].to_bits(), "{} {at}: {v:e} of {max:e}", case.id);
                assert_eq!(grid.round(*v, 1 << 14).to_bits(), nearest[at].to_bits(), "{} {at}: to nearest", case.id);
                let e = exponent(max);
                if max == 0.0 || (MIN_EXPONENT + 1..MAX_EXPONENT).contains(&e) {
                    assert_eq!(value(round_stochastic(*v, e, r), e).to_bits(), y[at].to_bits(), "{} {at}", case.id);
                    packed += 1;
                }
            }
        }
        {
            let (x, step) = (device.put(&x), device.put(&[0u32]));
            let noise = Noise { seed: [0; 2], tensor: 0, stochastic: 0 };
            let p = Round { groups: groups as u32, length: length as u32, noise };
            device.backend.int8().unwrap().quantize_round_i8(&p, step.all(), x.all()).unwrap();
            let got: Vec<f32> = device.get(&x);
            assert!(got.iter().zip(&nearest).all(|(a, b)| a.to_bits() == b.to_bits()), "{} on the device", case.id);
        }
    }
    assert!(packed > 10_000);
}

/// The network of `make_eb8.py`.
fn network(side: usize) -> Arc<Graph> {
    let half = Window { kernel: 2, stride: 2, padding: 0 };
    let mut g = Graph::new("small vgg");
    let (mut x, mut module) = (g.input(Shape::new(side, side, 3)), 0);
    for width in [8, 0, 12, 16, 0] {
        if width == 0 {
            x = g.maxpool(x, &format!("feature.{module}"), half).unwrap();
            module += 1;
            continue;
        }
        x = g.conv2d(x, &format!("feature.{module}"), Conv2dAttr::square(width, 3, 1, 1)).unwrap();
        x = g.batchnorm(x, &format!("feature.{}", module + 1)).unwrap();
        x = g.relu(x, &format!("feature.{}", module + 2)).unwrap();
        module += 3;
    }
    x = g.avgpool(x, "avgpool", half).unwrap();
    g.linear(x, "classifier", 10).unwrap();
    Arc::new(g)
}

/// Elements that differ, and the norm of the difference over that of `want`.
fn differing(got: &StateDict, want: &StateDict) -> (usize, usize, f64) {
    let (mut count, mut all, mut off, mut norm) = (0, 0, 0.0, 0.0);
    for (name, want) in want {
        let got = &got[name];
        assert_eq!(got.dims, want.dims, "{name}");
        for (got, want) in got.data.iter().zip(&want.data) {
            count += usize::from(got.to_bits() != want.to_bits());
            all += 1;
            off += f64::from(got - want).powi(2);
            norm += f64::from(*want).powi(2);
        }
    }
    (count, all, (off / norm).sqrt())
}

/// Weights and momenta after one and after three steps. All of them are numbers of a coarse grid, so nearly all are equal bit for bit; f32 sums in another order may move a value of
/// `2^21` levels to the next, and one in `2^15` of those moves to another number of the grid. In PyTorch's two layouts none of this network does.
fn steps_are_those_of_the_official_code_on_qpytorch(device: &Device) {
    let golden = Golden::open("eb8");
    let case = golden.cases("train").remove(0);
    let (side, batch, lr) = (case.size("side"), case.size("batch"), case.number("lr") as f32);
    let [momentum, weight_decay, l1] = ["momentum", "weight_decay", "l1"].map(|key| case.number(key) as f32);
    let seed: u64 = case.about["seed"].as_str().unwrap().parse().unwrap();
    let images = case.tensor("images").channels_last().f32();
    let labels: Vec<u32> = case.tensor("labels").data.iter().map(|l| *l as u32).collect();
    let (graph, pixels, marks) = (network(side), images.len() / labels.len(), case.list("steps"));
    {
        let hyper = Hyper { momentum, weight_decay, l1 };
        let mut session =
            Session::with_precision(graph.clone(), device.backend.clone(), hyper, Precision::Eb8, seed).unwrap();
        session.load_state(&golden.state("init")).unwrap();
        for (step, loss) in case.list("losses").into_iter().enumerate() {
            let rows = step * batch..(step + 1) * batch;
            session.step(&images[rows.start * pixels..rows.end * pixels], &labels[rows], lr).unwrap();
            let got = session.take_metrics().unwrap().loss();
            assert!((got - loss).abs() < 2e-6 * loss, "step {}: loss {got}, QPyTorch has {loss}", step + 1);
            if !marks.contains(&((step + 1) as f64)) {
                continue;
            }
            let state = session.state_dict().unwrap();
            let trained = |name: &String| !name.contains("running");
            let weights: StateDict = golden.state(&format!("after{}", step + 1));
            let statistics: StateDict = weights.clone().into_iter().filter(|(name, _)| !trained(name)).collect();
            let weights: StateDict = weights.into_iter().filter(|(name, _)| trained(name)).collect();
            let momenta = golden.state(&format!("momenta{}", step + 1));
            for (what, got, want) in [("weights", &state, weights), ("momenta", &session.momenta().unwrap(), momenta)] {
                let (count, all, off) = differing(got, &want);
                println!("step {}: {count} of {all} {what} differ, {off:.1e} of the norm", step + 1);
                assert!(count * 200 <= all, "step {}: {count} of {all} {what} differ", step + 1);
                assert!(off < 1e-2, "step {}: {what} are {off:e} off", step + 1);
            }
            let (_, _, off) = differing(&state, &statistics);
            assert!(off < 1e-5, "step {}: running statistics are {off:e} off", step + 1);
        }
    }
}
