//! Weights from elsewhere: state dicts of torchvision's ResNets and of the official Early-Bird code, renamed to a network's own tensors and checked against them.
//!
//! Names may begin with `module.` (`nn.DataParallel`) or `model.`, batch counters and the gathers of the official `channel_selection` layers are known, quantizer-wrapped
//! layers (`conv1.0.weight` of the official low-precision code) are unwrapped. A tensor that the network has no place for is an error: a ResNet-34 would otherwise
//! load into a ResNet-18, half of it unread. Not here: files ([`crate::train::checkpoint`]).

use std::collections::BTreeSet;

use crate::autograd::{StateDict, torch_dims};
use crate::graph::Graph;
use crate::ops::ParameterKind;
use crate::{Error, Result};

/// What wrappers put before every name.
const WRAPPERS: [&str; 3] = ["module.", "model.", "state_dict."];
/// Names listed in a message at most.
const LISTED: usize = 3;

/// The tensors of `state` as those of `graph`: every trained parameter and all running statistics, nothing else. Statistics may be missing as a whole, as in a file of
/// parameters only; they are then mean 0 and variance 1.
///
/// # Errors
/// [`Error::Graph`] naming the tensor that is missing, that has another shape, or that the network does not have, and what to do.
pub fn import(graph: &Graph, state: StateDict) -> Result<StateDict> {
    let parameters: Vec<_> = graph.parameters().into_iter().filter(|p| p.kind != ParameterKind::Index).collect();
    let known: BTreeSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
    let mut found = StateDict::new();
    let mut strange = Vec::new();
    for (given, tensor) in state {
        let name = own_name(&given, &known);
        match name {
            Some(name) if found.contains_key(&name) => {
                return Err(fail(&given, format!("is there twice: {name} is one of its other names")));
            }
            Some(name) => drop(found.insert(name, tensor)),
            None if ignored(&given) => {}
            None if given.ends_with("indexes") => {
                if let Some(channel) = tensor.data.iter().position(|v| *v == 0.0) {
                    let what = format!(
                        "leaves out channel {channel}: these are weights of a net that was pruned already, and its structure is not in the file; give the weights of the dense net"
                    );
                    return Err(fail(&given, what));
                }
            }
            None => strange.push(given),
        }
    }
    let statistics = |kind| matches!(kind, ParameterKind::RunningMean | ParameterKind::RunningVar);
    let none = parameters.iter().filter(|p| statistics(p.kind)).all(|p| !found.contains_key(&p.name));
    for parameter in &parameters {
        let dims = torch_dims(parameter);
        match found.get(&parameter.name) {
            Some(tensor) if tensor.dims == dims => {}
            Some(tensor) => {
                let what =
                    format!("has shape {:?}, the network wants {dims:?}{}", tensor.dims, of_shape(parameter.kind));
                return Err(fail(&parameter.name, what));
            }
            None if none && statistics(parameter.kind) => {
                let value = if parameter.kind == ParameterKind::RunningVar { 1.0 } else { 0.0 };
                let data = vec![value; parameter.elements()];
                found.insert(parameter.name.clone(), crate::autograd::Tensor { dims, data });
            }
            None => {
                let (count, strange) = (found.len(), listed(&strange));
                let what =
                    format!("is missing; the file has {count} of {}'s {} tensors{strange}", graph.name(), known.len());
                return Err(fail(&parameter.name, what));
            }
        }
    }
    match strange.first() {
        None => Ok(found),
        Some(first) => {
            let bias = strange.iter().all(|name| name.ends_with("downsample.0.bias"));
            let hint = if bias { ": biased down-sample convolutions are those of resnet50-official" } else { "" };
            let what =
                format!("is no tensor of {}, which has all its own{hint}{}", graph.name(), listed(&strange[1..]));
            Err(fail(first, what))
        }
    }
}

/// The network's own name for `given`.
fn own_name(given: &str, known: &BTreeSet<&str>) -> Option<String> {
    let mut name = given;
    loop {
        if known.contains(name) {
            return Some(name.into());
        }
        // `conv1.0.weight` of a wrapped layer: the quantizer behind it, number 1, has no tensors.
        if let Some((module, tensor)) = name.rsplit_once('.')
            && let Some(layer) = module.strip_suffix(".0")
        {
            let unwrapped = format!("{layer}.{tensor}");
            if known.contains(unwrapped.as_str()) {
                return Some(unwrapped);
            }
        }
        name = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper))?;
    }
}

/// What belongs to no network: PyTorch's batch counters and the momenta of our own files.
fn ignored(name: &str) -> bool {
    name.ends_with("num_batches_tracked") || name.starts_with("momentum.")
}

fn of_shape(kind: ParameterKind) -> &'static str {
    match kind {
        ParameterKind::LinearWeight => ": another number of classes, or another width?",
        _ => ": another model, or another width?",
    }
}

/// `, and it has layer1.2.bn1.weight, .. that the network has not`.
fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let more = if names.len() > LISTED { ", .." } else { "" };
    format!("; the file also has {}{more} ({} in all)", names[..names.len().min(LISTED)].join(", "), names.len())
}

fn fail(tensor: &str, what: String) -> Error {
    Error::Graph { node: tensor.into(), op: "state", what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{ModelOptions, build, init};

    fn narrow(model: &str) -> Graph {
        build(model, &ModelOptions { width: 0.05, ..Default::default() }).unwrap()
    }

    fn renamed(state: &StateDict, rename: impl Fn(&str) -> String) -> StateDict {
        state.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
    }

    fn refused(graph: &Graph, state: StateDict) -> String {
        import(graph, state).unwrap_err().to_string()
    }

    #[test]
    fn wrappers_of_every_kind_come_off() {
        for model in ["vgg11", "preresnet20", "resnet18", "resnet50-official"] {
            let graph = narrow(model);
            let state = init(&graph, 3);
            let quantized = |name: &str| {
                let (module, tensor) = name.rsplit_once('.').unwrap();
                let conv = state[&format!("{module}.weight")].dims.len() == 4;
                if conv { format!("{module}.0.{tensor}") } else { name.into() }
            };
            let mut official = renamed(&state, |name| format!("module.{}", quantized(name)));
            let index = crate::autograd::Tensor { dims: vec![3], data: vec![1.0; 3] };
            official.insert("module.layer1.0.select.indexes".into(), index);
            official.insert(
                "module.bn1.num_batches_tracked".into(),
                crate::autograd::Tensor { dims: vec![], data: vec![7.0] },
            );
            for given in [state.clone(), renamed(&state, |name| format!("module.model.{name}")), official] {
                assert_eq!(import(&graph, given).unwrap(), state, "{model}");
            }
        }
    }

    #[test]
    fn a_file_of_parameters_only_gets_fresh_statistics_and_one_that_lost_some_is_refused() {
        let graph = narrow("resnet18");
        let state = init(&graph, 3);
        let without: StateDict = state.clone().into_iter().filter(|(name, _)| !name.contains("running_")).collect();
        assert_eq!(import(&graph, without).unwrap(), state);
        let mut some = state;
        some.remove("layer2.0.downsample.1.running_var");
        let error = refused(&graph, some);
        assert!(error.contains("layer2.0.downsample.1.running_var") && error.contains("is missing"), "{error}");
    }

    #[test]
    fn a_larger_net_does_not_load_into_a_smaller_one() {
        let error = refused(&narrow("resnet18"), init(&narrow("resnet34"), 1));
        assert!(error.contains("layer1.2.bn1.bias") && error.contains("no tensor of resnet18"), "{error}");
        let error = refused(&narrow("resnet34"), init(&narrow("resnet18"), 1));
        assert!(error.contains("is missing") && error.contains("resnet34"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_what_to_do() {
        let graph = narrow("resnet50");
        let error = refused(&graph, init(&narrow("resnet50-official"), 1));
        assert!(error.contains("downsample.0.bias") && error.contains("resnet50-official"), "{error}");
        let classes = build("resnet50", &ModelOptions { width: 0.05, classes: 7, ..Default::default() }).unwrap();
        let error = refused(&graph, init(&classes, 1));
        assert!(error.contains("fc.") && error.contains("[7") && error.contains("[10"), "{error}");
        let mut pruned = init(&graph, 1);
        let index = crate::autograd::Tensor { dims: vec![4], data: vec![1.0, 1.0, 0.0, 1.0] };
        pruned.insert("layer1.0.select.indexes".into(), index);
        let error = refused(&graph, pruned);
        assert!(error.contains("channel 2") && error.contains("pruned already"), "{error}");
        let mut twice = init(&graph, 1);
        let tensor = twice["fc.weight"].clone();
        twice.insert("module.fc.weight".into(), tensor);
        assert!(refused(&graph, twice).contains("twice"));
        assert!(refused(&graph, StateDict::new()).contains("0 of resnet50's"));
    }
}
