//! Surgery: physical removal of pruned channels, with weights, running statistics and momenta.
//!
//! One algorithm over the graph: [`plan_surgery`] decides for every channel space which channels stay and says why where nothing can go; [`Surgery::graph`] is the
//! smaller network; [`Surgery::cut`] slices tensors. Invariant, tested: in eval mode the pruned network's outputs equal those of the dense one with the scales and
//! shifts of the removed channels set to 0, because such a channel is 0 behind its batchnorm and adds nothing further on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mask::Mask;
use super::spaces::Spaces;
use crate::autograd::{StateDict, Tensor};
use crate::graph::{Graph, Op, Parameter};
use crate::ops::ParameterKind;
use crate::{Error, Result};

/// How much stays whatever the mask says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurgeryOptions {
    /// A layer keeps at least this many channels, those of the largest |gamma|.
    pub min_channels: usize,
    /// Layers are widened to a multiple of this, by the pruned channels of the largest |gamma|; 1 leaves them.
    pub round_to: usize,
}

impl Default for SurgeryOptions {
    fn default() -> Self {
        SurgeryOptions { min_channels: 1, round_to: 1 }
    }
}

impl SurgeryOptions {
    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where one is 0.
    pub fn check(&self) -> Result<()> {
        if self.min_channels == 0 || self.round_to == 0 {
            let what = "a layer cannot keep 0 channels or be rounded to multiples of 0";
            return Err(Error::bad_setting("--min-channels, --round-to", what, "give at least 1"));
        }
        Ok(())
    }
}

/// What happens to one batchnorm layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// Name of the batchnorm node.
    pub layer: String,
    /// Channels before.
    pub before: usize,
    /// Channels that stay, ascending.
    pub kept: Vec<u32>,
    /// Channels the mask alone would have kept.
    pub masked: usize,
    /// Whether the mask left fewer than `min_channels` and the layer was saved.
    pub saved: bool,
    /// Why nothing could be removed here, if so.
    pub obstacle: Option<String>,
}

/// A planned surgery.
#[derive(Clone, Debug)]
pub struct Surgery {
    /// What happens, layer by layer in mask order.
    pub layers: Vec<LayerPlan>,
    /// The pruned network.
    pub graph: Graph,
    dense: Graph,
    /// Channels kept per space of the dense network; all of them where the space is missing.
    kept: BTreeMap<usize, Vec<u32>>,
    spaces: Spaces,
}

/// Plans the removal of the channels that `mask` prunes from `graph`; `scales` are all BN scales in mask order and decide which channels save or widen a layer.
///
/// # Errors
/// [`Error::BadSetting`] where mask or scales are of another network.
pub fn plan_surgery(graph: &Graph, mask: &Mask, scales: &[f32], options: SurgeryOptions) -> Result<Surgery> {
    if mask.len() != graph.bn_channels() || scales.len() != mask.len() {
        let what = format!(
            "the mask has {} channels, {} scales are given, the network has {} BN channels",
            mask.len(),
            scales.len(),
            graph.bn_channels()
        );
        return Err(Error::bad_setting("surgery", what, "use a mask drawn from this network"));
    }
    let spaces = Spaces::new(graph);
    let (mut layers, mut kept, mut first) = (Vec::new(), BTreeMap::new(), 0);
    for layer in graph.bn_layers() {
        let range = first..first + layer.channels;
        first = range.end;
        let number = spaces.of[layer.node.0];
        let obstacle = spaces.all.get(&number).and_then(|space| space.obstacle(graph));
        let masked: Vec<bool> = range.clone().map(|i| mask.kept(i)).collect();
        let plan = match obstacle {
            Some(_) => (0..layer.channels as u32).collect(),
            None => keep(&masked, &scales[range], options),
        };
        let count = masked.iter().filter(|kept| **kept).count();
        layers.push(LayerPlan {
            layer: layer.name,
            before: layer.channels,
            masked: count,
            saved: obstacle.is_none() && count < options.min_channels.min(layer.channels),
            obstacle: obstacle.map(str::to_string),
            kept: plan.clone(),
        });
        if obstacle.is_none() {
            kept.insert(number, plan);
        }
    }
    let pruned = shrink(graph, &spaces, &kept)?;
    Ok(Surgery { layers, graph: pruned, dense: graph.clone(), kept, spaces })
}

/// The channels of one layer that stay.
fn keep(masked: &[bool], scales: &[f32], options: SurgeryOptions) -> Vec<u32> {
    let count = masked.iter().filter(|kept| **kept).count();
    let least = options.min_channels.min(masked.len());
    let wanted = count.max(least).next_multiple_of(options.round_to.max(1)).min(masked.len());
    // Kept ones first, then the pruned ones by falling |gamma|; of equals the lower number.
    let mut order: Vec<usize> = (0..masked.len()).collect();
    order
        .sort_by(|a, b| masked[*b].cmp(&masked[*a]).then(scales[*b].abs().total_cmp(&scales[*a].abs())).then(a.cmp(b)));
    let mut kept: Vec<u32> = order[..wanted.max(count)].iter().map(|i| *i as u32).collect();
    kept.sort_unstable();
    kept
}

/// `graph` with each space narrowed to its kept channels.
fn shrink(graph: &Graph, spaces: &Spaces, kept: &BTreeMap<usize, Vec<u32>>) -> Result<Graph> {
    let mut pruned = Graph::new(graph.name());
    for id in graph.ids() {
        let mut node = graph.node(id).clone();
        match &mut node.op {
            Op::Conv2d(attr) => {
                if let Some(kept) = kept.get(&spaces.of[id.0]) {
                    attr.out_channels = kept.len();
                }
            }
            // A select reads numbers of its input's space: those that stay get new numbers.
            Op::Select(attr) => {
                if let Some(kept) = node.inputs.first().and_then(|input| kept.get(&spaces.of[input.0])) {
                    attr.channels =
                        attr.channels.iter().filter_map(|c| kept.binary_search(c).ok()).map(|c| c as u32).collect();
                }
            }
            _ => {}
        }
        pruned.push(node)?;
    }
    Ok(pruned)
}

impl Surgery {
    /// Slices the dense network's tensors (parameters and running statistics, or momenta) to the pruned network's. Tensors that are not parameters of the
    /// network are left out.
    ///
    /// # Errors
    /// [`Error::Graph`] where a tensor has not the dense network's shape.
    pub fn cut(&self, dense: &StateDict) -> Result<StateDict> {
        let mut cut = StateDict::new();
        for parameter in self.dense.parameters() {
            if let Some(tensor) = dense.get(&parameter.name) {
                cut.insert(parameter.name.clone(), self.slice(&parameter, tensor)?);
            }
        }
        Ok(cut)
    }

    /// Channels kept of BN channels before, over the whole network.
    pub fn kept_channels(&self) -> (usize, usize) {
        (self.layers.iter().map(|l| l.kept.len()).sum(), self.layers.iter().map(|l| l.before).sum())
    }

    fn slice(&self, parameter: &Parameter, tensor: &Tensor) -> Result<Tensor> {
        let expected = crate::autograd::torch_dims(parameter);
        if tensor.dims != expected || tensor.data.len() != expected.iter().product::<usize>() {
            let what = format!("{} has shape {:?}, the dense network has {expected:?}", parameter.name, tensor.dims);
            return Err(Error::Graph { node: parameter.name.clone(), op: "surgery", what });
        }
        let node = self.dense.node(parameter.node);
        let input = node.inputs.first().and_then(|input| self.kept.get(&self.spaces.of[input.0]));
        let output = self.kept.get(&self.spaces.of[parameter.node.0]);
        Ok(match (parameter.kind, &tensor.dims[..]) {
            (ParameterKind::ConvWeight, &[_, _, r, s]) => gather(&gather(tensor, 0, output, 1), 1, input, r * s),
            // Columns are CHW: a channel is a run of H*W columns.
            (ParameterKind::LinearWeight, _) => gather(tensor, 1, input, parameter.input.h * parameter.input.w),
            (ParameterKind::Bias, _) if matches!(node.op, Op::Linear(_)) => tensor.clone(),
            _ => gather(tensor, 0, output, 1),
        })
    }
}

/// Keeps some indices of dimension `dim`; for `dim` 1, an index is a run of `run` elements and leading dimension 0 stays.
fn gather(tensor: &Tensor, dim: usize, kept: Option<&Vec<u32>>, run: usize) -> Tensor {
    let Some(kept) = kept else { return tensor.clone() };
    let mut dims = tensor.dims.clone();
    let row: usize = tensor.dims[1..].iter().product();
    let data = match dim {
        0 => {
            dims[0] = kept.len();
            kept.iter().flat_map(|k| &tensor.data[*k as usize * row..][..row]).copied().collect()
        }
        _ => {
            dims[1] = if tensor.dims.len() == 2 { kept.len() * run } else { kept.len() };
            let rows = tensor.data.chunks_exact(row.max(1));
            rows.flat_map(|row| kept.iter().flat_map(|k| &row[*k as usize * run..][..run])).copied().collect()
        }
    };
    Tensor { dims, data }
}

/// Sets scale and shift of every channel that `mask` prunes and surgery would remove to 0: what the pruned network must equal in eval mode.
pub fn masked_state(surgery: &Surgery, dense: &StateDict) -> StateDict {
    let mut state = dense.clone();
    for layer in &surgery.layers {
        for suffix in ["weight", "bias"] {
            if let Some(tensor) = state.get_mut(&format!("{}.{suffix}", layer.layer)) {
                for (c, value) in tensor.data.iter_mut().enumerate() {
                    if layer.kept.binary_search(&(c as u32)).is_err() {
                        *value = 0.0;
                    }
                }
            }
        }
    }
    state
}
