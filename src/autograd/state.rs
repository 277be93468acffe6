//! Parameters by name, outside a device: PyTorch's names and layouts (OIHW convolutions, CHW-flattened linear columns).
//!
//! Not here: files ([`crate::train::checkpoint`]) and device memory ([`super::Session`]).

use std::collections::BTreeMap;

use crate::graph::Parameter;
use crate::ops::ParameterKind;

/// A host tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Dimensions in PyTorch's order.
    pub dims: Vec<usize>,
    /// Elements, last dimension fastest.
    pub data: Vec<f32>,
}

/// Tensors by PyTorch name.
pub type StateDict = BTreeMap<String, Tensor>;

/// PyTorch's dimensions of a parameter.
pub fn torch_dims(parameter: &Parameter) -> Vec<usize> {
    match (parameter.kind, &parameter.dims[..]) {
        (ParameterKind::ConvWeight, &[k, r, s, c]) => vec![k, c, r, s],
        (_, dims) => dims.to_vec(),
    }
}

/// For each element in PyTorch's order, its place in memory order; `None` where both orders are the same.
fn permutation(parameter: &Parameter) -> Option<Vec<usize>> {
    match (parameter.kind, &parameter.dims[..]) {
        (ParameterKind::ConvWeight, &[k, r, s, c]) if c > 1 && r * s > 1 => {
            let taps = r * s;
            Some((0..k * c * taps).map(|i| (i / (c * taps)) * taps * c + (i % taps) * c + (i / taps) % c).collect())
        }
        (ParameterKind::LinearWeight, &[k, features]) => {
            let (c, pixels) = (parameter.input.c, parameter.input.h * parameter.input.w);
            (pixels > 1 && c > 1).then(|| {
                (0..k * features).map(|i| (i / features) * features + (i % pixels) * c + (i / pixels) % c).collect()
            })
        }
        _ => None,
    }
}

/// From memory order to PyTorch's.
pub fn to_torch(parameter: &Parameter, memory: &[f32]) -> Tensor {
    let data = match permutation(parameter) {
        Some(places) => places.iter().map(|place| memory[*place]).collect(),
        None => memory.to_vec(),
    };
    Tensor { dims: torch_dims(parameter), data }
}

/// From PyTorch's order to memory order; `data` must have the parameter's length.
pub fn from_torch(parameter: &Parameter, data: &[f32]) -> Vec<f32> {
    match permutation(parameter) {
        Some(places) => {
            let mut memory = vec![0.0; data.len()];
            for (value, place) in data.iter().zip(places) {
                memory[place] = *value;
            }
            memory
        }
        None => data.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::NodeId;
    use crate::ops::Shape;

    fn parameter(kind: ParameterKind, dims: &[usize], input: Shape) -> Parameter {
        Parameter { name: "p".into(), node: NodeId(0), kind, dims: dims.to_vec(), input }
    }

    #[test]
    fn conv_weights_go_from_krsc_to_oihw_and_back() {
        let p = parameter(ParameterKind::ConvWeight, &[2, 3, 2, 5], Shape::new(9, 9, 5));
        let memory: Vec<f32> = (0..60).map(|i| i as f32).collect();
        let torch = to_torch(&p, &memory);
        assert_eq!(torch.dims, [2, 5, 3, 2]);
        for (k, c, r, s) in (0..60).map(|i| (i / 30, i / 6 % 5, i / 2 % 3, i % 2)) {
            assert_eq!(torch.data[((k * 5 + c) * 3 + r) * 2 + s], memory[((k * 3 + r) * 2 + s) * 5 + c]);
        }
        assert_eq!(from_torch(&p, &torch.data), memory);
    }

    #[test]
    fn linear_columns_go_from_hwc_to_chw_and_back() {
        let p = parameter(ParameterKind::LinearWeight, &[2, 12], Shape::new(2, 2, 3));
        let memory: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let torch = to_torch(&p, &memory);
        for (k, c, pixel) in (0..24).map(|i| (i / 12, i / 4 % 3, i % 4)) {
            assert_eq!(torch.data[k * 12 + c * 4 + pixel], memory[k * 12 + pixel * 3 + c]);
        }
        assert_eq!(from_torch(&p, &torch.data), memory);
    }
}
