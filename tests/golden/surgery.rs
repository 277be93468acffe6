//! Surgery of a VGG against the official `vggprune.py` rules (`surgery.safetensors`): kept channels and weights exactly.

use std::sync::Arc;

use earlybird::autograd::StateDict;
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build};
use earlybird::ticket::{Surgery, SurgeryOptions, draw, plan_surgery};

use super::store::{Case, Golden};

pub fn network() -> Arc<Graph> {
    Arc::new(build("vgg11", &ModelOptions { width: 0.0625, ..Default::default() }).unwrap())
}

/// The dense state of a case: `dense/`, with one layer's scales replaced where the case starves a layer.
pub fn dense(golden: &Golden, case: &Case) -> StateDict {
    let mut state = golden.state("dense");
    if let Some(layer) = case.about["starved"].as_str() {
        state.get_mut(&format!("{layer}.weight")).unwrap().data = case.tensor("starved_scales").f32();
    }
    state
}

pub fn operate(graph: &Graph, case: &Case, state: &StateDict) -> Surgery {
    let scales: Vec<f32> =
        graph.bn_layers().iter().flat_map(|layer| state[&format!("{}.weight", layer.name)].data.clone()).collect();
    let mask = draw(&scales, &[case.number("ratio")]).unwrap().remove(0).mask;
    plan_surgery(graph, &mask, &scales, SurgeryOptions::default()).unwrap()
}

#[test]
fn surgery_keeps_the_official_channels_and_says_which_layer_it_saved() {
    let (golden, graph) = (Golden::open("surgery"), network());
    for case in golden.cases("surgery") {
        let surgery = operate(&graph, &case, &dense(&golden, &case));
        let expected = case.about["kept"].as_array().unwrap();
        assert_eq!(surgery.layers.len(), expected.len());
        for (layer, kept) in surgery.layers.iter().zip(expected) {
            let kept: Vec<u32> = kept.as_array().unwrap().iter().map(|c| c.as_u64().unwrap() as u32).collect();
            assert_eq!(layer.kept, kept, "{} {}", case.id, layer.layer);
            assert_eq!(layer.saved, layer.masked == 0, "{} {}", case.id, layer.layer);
        }
        let starved = case.about["starved"].as_str();
        assert!(
            starved.is_none_or(|name| surgery.layers.iter().any(|l| l.layer == name && l.saved && l.kept.len() == 1))
        );
    }
}

#[test]
fn surgery_cuts_the_same_weights_and_statistics() {
    let (golden, graph) = (Golden::open("surgery"), network());
    for case in golden.cases("surgery") {
        let state = dense(&golden, &case);
        let cut = operate(&graph, &case, &state).cut(&state).unwrap();
        let expected = golden.state(&format!("{}/pruned", case.id));
        assert_eq!(cut.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{}", case.id);
        for (name, tensor) in &expected {
            assert_eq!(&cut[name], tensor, "{} {name}", case.id);
        }
    }
}
