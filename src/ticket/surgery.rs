//! Surgery: physical removal of pruned channels, with weights, running statistics and momenta.
//!
//! One algorithm over the graph, no list of architectures: [`plan_surgery`] decides for every channel which stays and says why where nothing can go;
//! [`Surgery::graph`] is the smaller network; [`Surgery::cut`] slices tensors. Two policies for residual networks, the same for sequential ones: see [`Policy`].
//! Invariant, tested: in eval mode the pruned network's outputs equal those of the dense one as [`masked_state`] leaves it.
//!
//! Not here: what shares channels ([`super::spaces`], [`super::streams`]) and how tensors are sliced ([`super::shrink`]).

use serde::{Deserialize, Serialize};

use super::mask::Mask;
use super::shrink::Cuts;
use super::spaces::Spaces;
use super::streams::{Reach, entry, own_producer, reach};
use crate::autograd::StateDict;
use crate::graph::{BnLayer, Graph};
use crate::{Error, Result};

/// What happens where an add ties the channels of several layers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The residual stream keeps its width and a channel gather feeds each block (the official PreResNet and ResNet-18, early-bird.md 3.2, 3.3).
    #[default]
    Select,
    /// Tied channels are scored and removed together, so that the stream itself gets narrower.
    Group,
}

impl Policy {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Select => "select",
            Policy::Group => "group",
        }
    }
}

impl std::str::FromStr for Policy {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "select" => Ok(Policy::Select),
            "group" => Ok(Policy::Group),
            _ => Err(format!("there is no surgery policy `{name}`; choose select or group")),
        }
    }
}

/// What surgery leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurgeryOptions {
    /// A layer keeps at least this many channels, those of the largest |gamma|.
    pub min_channels: usize,
    /// Layers are widened to a multiple of this, by the pruned channels of the largest |gamma|; 1 leaves them.
    pub round_to: usize,
    /// What happens to tied channels.
    pub policy: Policy,
}

impl Default for SurgeryOptions {
    fn default() -> Self {
        SurgeryOptions { min_channels: 1, round_to: 1, policy: Policy::Select }
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
    /// Channels that stay, but with scale and shift 0, because the stream keeps its width; they can grow again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silenced: Vec<u32>,
    /// Other batchnorms whose channels are scored and removed together with these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tied: Vec<String>,
}

/// A planned surgery.
#[derive(Clone, Debug)]
pub struct Surgery {
    /// What happens, layer by layer in mask order.
    pub layers: Vec<LayerPlan>,
    /// The pruned network.
    pub graph: Graph,
    dense: Graph,
    cuts: Cuts,
}

/// One batchnorm with what the mask and the scales say of it.
struct Scored<'a> {
    layer: BnLayer,
    masked: Vec<bool>,
    scales: &'a [f32],
}

impl Scored<'_> {
    fn count(&self) -> usize {
        self.masked.iter().filter(|kept| **kept).count()
    }

    fn plan(&self, kept: Vec<u32>, options: SurgeryOptions) -> LayerPlan {
        LayerPlan {
            layer: self.layer.name.clone(),
            before: self.layer.channels,
            kept,
            masked: self.count(),
            saved: self.count() < options.min_channels.min(self.layer.channels),
            obstacle: None,
            silenced: Vec::new(),
            tied: Vec::new(),
        }
    }

    fn whole(&self, options: SurgeryOptions, obstacle: &str) -> LayerPlan {
        let all = (0..self.layer.channels as u32).collect();
        LayerPlan { saved: false, obstacle: Some(obstacle.into()), ..self.plan(all, options) }
    }
}

/// Plans the removal of the channels that `mask` prunes from `graph`; `scales` are all BN scales in mask order and decide which channels save or widen a layer,
/// and which of a group's stay.
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
    options.check()?;
    let mut first = 0;
    let scored = graph.bn_layers().into_iter().map(|layer| {
        let range = first..first + layer.channels;
        first = range.end;
        Scored { layer, masked: range.clone().map(|i| mask.kept(i)).collect(), scales: &scales[range] }
    });
    let scored: Vec<Scored> = scored.collect();
    let (layers, mut cuts) = match options.policy {
        Policy::Select => by_select(graph, &scored, options),
        Policy::Group => by_group(graph, &scored, options),
    };
    // What keeps everything needs no cut and no gather.
    for (id, kept) in cuts.writes.iter_mut().enumerate() {
        *kept = kept.take().filter(|kept| kept.len() < graph.shape(crate::graph::NodeId(id)).c);
    }
    for (id, kept) in cuts.gathers.iter_mut().enumerate() {
        let input = graph.nodes()[id].inputs.first().map_or(0, |input| graph.shape(*input).c);
        *kept = kept.take().filter(|kept| kept.len() < input);
    }
    let pruned = cuts.apply(graph)?;
    Ok(Surgery { layers, graph: pruned, dense: graph.clone(), cuts })
}

/// Every batchnorm by its own mask; streams keep their width.
fn by_select(graph: &Graph, scored: &[Scored], options: SurgeryOptions) -> (Vec<LayerPlan>, Cuts) {
    let (mut layers, mut cuts) = (Vec::new(), Cuts::none(graph));
    for norm in scored {
        let (id, kept) = (norm.layer.node, keep(&norm.masked, norm.scales, options));
        layers.push(match reach(graph, id) {
            Reach::Fixed(why) => norm.whole(options, why),
            Reach::Stream => {
                for conv in graph.ids().filter(|conv| entry(graph, *conv) == Some(id)) {
                    cuts.gathers[conv.0] = Some(kept.clone());
                }
                let silenced = (0..norm.layer.channels as u32).filter(|c| kept.binary_search(c).is_err()).collect();
                LayerPlan { silenced, ..norm.whole(options, "the residual stream keeps its width") }
            }
            Reach::Block(inside) => {
                inside.iter().for_each(|node| cuts.writes[node.0] = Some(kept.clone()));
                match own_producer(graph, id) {
                    Some(producer) => cuts.writes[producer.0] = Some(kept.clone()),
                    None => cuts.gathers[id.0] = Some(kept.clone()),
                }
                norm.plan(kept, options)
            }
        });
    }
    (layers, cuts)
}

/// Channels of a space go together. A space with several batchnorms keeps as many channels as their masks do on average: those of the largest mean |gamma|.
fn by_group(graph: &Graph, scored: &[Scored], options: SurgeryOptions) -> (Vec<LayerPlan>, Cuts) {
    let spaces = Spaces::new(graph);
    let mut layers: Vec<Option<LayerPlan>> = scored.iter().map(|_| None).collect();
    let mut cuts = Cuts::none(graph);
    for (number, space) in spaces.all.iter().filter(|(_, space)| !space.norms.is_empty()) {
        let norms: Vec<usize> = (0..scored.len()).filter(|i| space.norms.contains(&scored[*i].layer.node)).collect();
        if let Some(why) = space.obstacle(graph) {
            norms.iter().for_each(|i| layers[*i] = Some(scored[*i].whole(options, why)));
            continue;
        }
        let mean = |c: usize| norms.iter().map(|i| f64::from(scored[*i].scales[c].abs())).sum::<f64>();
        let scores: Vec<f32> = (0..space.channels).map(|c| (mean(c) / norms.len() as f64) as f32).collect();
        let masked = match &norms[..] {
            [one] => scored[*one].masked.clone(),
            _ => {
                let total: usize = norms.iter().map(|i| scored[*i].count()).sum();
                let count = (total as f64 / norms.len() as f64).round() as usize;
                let mut order: Vec<usize> = (0..space.channels).collect();
                order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
                let mut masked = vec![false; space.channels];
                order[..count].iter().for_each(|c| masked[*c] = true);
                masked
            }
        };
        let kept = keep(&masked, &scores, options);
        let saved = masked.iter().filter(|kept| **kept).count() < options.min_channels.min(space.channels);
        for i in &norms {
            let others = norms.iter().filter(|other| *other != i);
            let tied = others.map(|other| scored[*other].layer.name.clone()).collect();
            layers[*i] = Some(LayerPlan { saved, tied, ..scored[*i].plan(kept.clone(), options) });
        }
        graph.ids().filter(|id| spaces.of[id.0] == *number).for_each(|id| cuts.writes[id.0] = Some(kept.clone()));
    }
    // Every batchnorm lies in one space, so none is left out.
    (layers.into_iter().flatten().collect(), cuts)
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

impl Surgery {
    /// Slices the dense network's tensors (parameters and running statistics, or momenta) to the pruned network's. Tensors that are not parameters of the
    /// network are left out.
    ///
    /// # Errors
    /// [`Error::Graph`] where a tensor has not the dense network's shape.
    pub fn cut(&self, dense: &StateDict) -> Result<StateDict> {
        let mut cut = StateDict::new();
        for parameter in self.dense.parameters() {
            let Some(tensor) = dense.get(&parameter.name) else { continue };
            let expected = crate::autograd::torch_dims(&parameter);
            if tensor.dims != expected || tensor.data.len() != expected.iter().product::<usize>() {
                let what =
                    format!("{} has shape {:?}, the dense network has {expected:?}", parameter.name, tensor.dims);
                return Err(Error::Graph { node: parameter.name.clone(), op: "surgery", what });
            }
            cut.insert(parameter.name.clone(), self.cuts.slice(&self.dense, &parameter, tensor));
        }
        for layer in &self.layers {
            zero(&mut cut, &layer.layer, &layer.silenced);
        }
        Ok(cut)
    }

    /// Channels kept of BN channels before, over the whole network.
    pub fn kept_channels(&self) -> (usize, usize) {
        (self.layers.iter().map(|l| l.kept.len()).sum(), self.layers.iter().map(|l| l.before).sum())
    }
}

/// Sets scale and shift (or their momenta) of some channels of a batchnorm to 0.
fn zero(state: &mut StateDict, layer: &str, channels: &[u32]) {
    for suffix in ["weight", "bias"] {
        if let Some(tensor) = state.get_mut(&format!("{layer}.{suffix}")) {
            channels.iter().for_each(|c| tensor.data[*c as usize] = 0.0);
        }
    }
}

/// What the pruned network must equal in eval mode: the dense one with scale and shift of every removed or silenced channel at 0. Where that alone does not silence
/// what surgery drops, the weights are 0 that read it (a block that a gather feeds from a stream; a convolution that reads a narrowed stream without a batchnorm
/// between) and those that write it to such a reader. Works on momenta as well.
///
/// Training: a removed channel that is 0 in front of a ReLU gets no gradient and stays 0, so the masked network trains as the pruned one, step by step. The exception
/// is a block that a gather feeds from a stream: the masked network's weights of 0 read channels that live, and grow again after the first step.
pub fn masked_state(surgery: &Surgery, dense: &StateDict) -> StateDict {
    let mut state = dense.clone();
    for layer in &surgery.layers {
        let dropped: Vec<u32> = (0..layer.before as u32).filter(|c| layer.kept.binary_search(c).is_err()).collect();
        zero(&mut state, &layer.layer, &dropped);
        zero(&mut state, &layer.layer, &layer.silenced);
    }
    surgery.cuts.silence(&surgery.dense, &mut state);
    state
}
