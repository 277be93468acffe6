//! State dicts as PyTorch code writes them (`residual.safetensors`): imported under the names they come with, the nets answer as PyTorch says.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict};
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build, import};
use earlybird::ops::Shape;

use super::device::cpu;
use super::store::{Case, Golden};

fn network(case: &Case) -> Graph {
    let side = case.size("side");
    let options = ModelOptions { width: case.number("width"), input: Shape::new(side, side, 3), ..Default::default() };
    build(case.about["model"].as_str().unwrap(), &options).unwrap()
}

/// The names of `nn.DataParallel`, and of a checkpoint that was wrapped once more.
fn wrapped(state: &StateDict, prefix: &str) -> StateDict {
    state.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect()
}

#[test]
fn imported_nets_answer_as_pytorch_says() {
    let golden = Golden::open("residual");
    for case in golden.cases("import") {
        let graph = Arc::new(network(&case));
        let state = golden.state(&format!("{}/state", case.id));
        let (images, want) = (case.tensor("images").channels_last().f32(), case.tensor("y"));
        let largest = want.data.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for device in cpu() {
            let mut session = Session::new(graph.clone(), device.backend, Hyper::default()).unwrap();
            for prefix in ["", "module."] {
                session.load_state(&import(&graph, wrapped(&state, prefix)).unwrap()).unwrap();
                let got = session.logits(&images).unwrap();
                assert_eq!(got.len(), want.data.len());
                for (got, want) in got.iter().zip(&want.data) {
                    assert!((f64::from(*got) - want).abs() <= 1e-5 * largest, "{}: logit {got} for {want}", case.about);
                }
            }
        }
    }
}
