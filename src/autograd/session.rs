//! A network on a device: memory, lowered programs, and the three things one does with it: step, evaluate, read or write its state.
//!
//! Everything is allocated when a batch size is first seen; a step then only runs calls. Not here: epochs, schedules and data ([`crate::train`]), masks
//! ([`crate::ticket`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::execute::execute;
use super::layout::{Arena, Layout};
use super::plan::{Plan, plan};
use super::program::{Mode, Place, Program, lower};
use super::state::{StateDict, Tensor, from_torch, to_torch, torch_dims};
use crate::backend::{Backend, Memory, Span};
use crate::graph::Graph;
use crate::ops::sgd::Sgd;
use crate::ops::{Metrics, Value};
use crate::{Error, Result};

/// Constants of the optimiser; the learning rate comes with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Momentum.
    pub momentum: f32,
    /// Weight decay, on every parameter.
    pub weight_decay: f32,
    /// L1 factor on BN scales.
    pub l1: f32,
}

impl Default for Hyper {
    /// The official search settings (early-bird.md 1.1).
    fn default() -> Self {
        Hyper { momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 }
    }
}

/// What a step hook is told.
#[derive(Clone, Copy, Debug)]
pub struct StepEvent {
    /// Optimiser steps taken, this one included.
    pub step: u64,
    /// Images in the batch.
    pub batch: usize,
    /// Learning rate of the step.
    pub lr: f32,
}

/// A hook that runs after each optimiser step.
pub type StepHook = Box<dyn FnMut(&StepEvent) + Send>;

struct Ready {
    program: Program,
    plan: Plan,
}

/// A network on a device.
pub struct Session {
    graph: Arc<Graph>,
    backend: Arc<dyn Backend>,
    layout: Layout,
    hyper: Hyper,
    parameters: Memory,
    gradients: Memory,
    momenta: Memory,
    state: Memory,
    constants: Memory,
    metrics: Memory,
    lr: Memory,
    images: Memory,
    labels: Memory,
    arena: Memory,
    programs: BTreeMap<(usize, Mode), Ready>,
    steps: u64,
    /// Behind a lock only so that a session can be looked at from several threads.
    hooks: Mutex<Vec<StepHook>>,
}

impl Session {
    /// Puts `graph` on `backend`. Parameters are zero (running variances too) until [`Session::load_state`].
    pub fn new(graph: Arc<Graph>, backend: Arc<dyn Backend>, hyper: Hyper) -> Result<Session> {
        graph.check_classifier()?;
        let layout = Layout::new(&graph);
        let alloc = |elements: usize| backend.alloc(elements.max(1) * 4);
        let trained = layout.length(Arena::Parameters);
        let session = Session {
            parameters: alloc(trained)?,
            gradients: alloc(trained)?,
            momenta: alloc(trained)?,
            state: alloc(layout.length(Arena::State))?,
            constants: alloc(layout.length(Arena::Constants))?,
            metrics: backend.alloc(size_of::<Metrics>())?,
            lr: alloc(1)?,
            images: alloc(1)?,
            labels: alloc(1)?,
            arena: alloc(1)?,
            graph,
            backend,
            layout,
            hyper,
            programs: BTreeMap::new(),
            steps: 0,
            hooks: Mutex::default(),
        };
        session.upload_constants()?;
        Ok(session)
    }

    fn upload_constants(&self) -> Result<()> {
        for node in self.graph.nodes() {
            if let crate::graph::Op::Select(select) = &node.op
                && let Some(placed) = self.layout.get(&format!("{}.indexes", node.name))
            {
                let span = self.constants.span(placed.offset * 4, select.channels.len() * 4)?;
                self.backend.upload(bytemuck::cast_slice(&select.channels), span)?;
            }
        }
        Ok(())
    }

    /// The network.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The device.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Optimiser steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sets the step counter, when a run is resumed.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Runs `hook` after every optimiser step.
    pub fn on_step(&mut self, hook: StepHook) {
        self.hooks.get_mut().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Bytes of device memory that the session holds.
    pub fn device_bytes(&self) -> usize {
        let all = [
            &self.parameters,
            &self.gradients,
            &self.momenta,
            &self.state,
            &self.constants,
            &self.metrics,
            &self.lr,
            &self.images,
            &self.labels,
            &self.arena,
        ];
        all.iter().map(|memory| memory.bytes()).sum()
    }

    /// Lowers and plans for batches of `batch` images, if not done yet. [`Session::step`] and the others do it by themselves.
    pub fn prepare(&mut self, batch: usize, mode: Mode) -> Result<()> {
        if self.programs.contains_key(&(batch, mode)) {
            return Ok(());
        }
        let backend = self.backend.clone();
        let program = lower(&self.graph, &self.layout, batch, mode, &|kernel| backend.workspace(kernel))?;
        let plan = plan(&program)?;
        let grow = |memory: &mut Memory, bytes: usize| -> Result<()> {
            if memory.bytes() < bytes {
                *memory = backend.alloc(4)?; // the old block goes before the new one comes
                *memory = backend.alloc(bytes)?;
            }
            Ok(())
        };
        grow(&mut self.arena, plan.bytes)?;
        grow(&mut self.images, batch * self.graph.input_shape().elements() * 4)?;
        grow(&mut self.labels, batch * 4)?;
        self.programs.insert((batch, mode), Ready { program, plan });
        Ok(())
    }

    /// One optimiser step on a batch: `images` NHWC, as long as `labels` says; `lr` the learning rate. Loss and hits are added to the running
    /// metrics, see [`Session::take_metrics`].
    pub fn step(&mut self, images: &[f32], labels: &[u32], lr: f32) -> Result<()> {
        self.differentiate(images, labels)?;
        let p = Sgd {
            count: self.layout.length(Arena::Parameters) as u32,
            scales: self.layout.scales() as u32,
            momentum: self.hyper.momentum,
            weight_decay: self.hyper.weight_decay,
            l1: self.hyper.l1,
        };
        self.backend.upload(bytemuck::bytes_of(&lr), self.lr.all().part(0, 4)?)?;
        let length = p.count as usize * 4;
        let (g, v, w) =
            (self.gradients.span(0, length)?, self.momenta.span(0, length)?, self.parameters.span(0, length)?);
        self.backend.sgd_step_f32(&p, self.lr.span(0, 4)?, g, v, w)?;
        self.steps += 1;
        let event = StepEvent { step: self.steps, batch: labels.len(), lr };
        for hook in self.hooks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            hook(&event);
        }
        Ok(())
    }

    /// Forward and backward in training mode without a step: gradients are left for [`Session::gradients`]; running statistics move.
    pub fn differentiate(&mut self, images: &[f32], labels: &[u32]) -> Result<()> {
        self.run(images, labels, Mode::Train)
    }

    /// Forward with running statistics; loss and hits are added to the running metrics.
    pub fn evaluate(&mut self, images: &[f32], labels: &[u32]) -> Result<()> {
        self.run(images, labels, Mode::Evaluate)
    }

    /// Logits `[N][classes]` with running statistics.
    pub fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        let batch = images.len() / self.graph.input_shape().elements().max(1);
        let metrics = self.take_metrics()?;
        self.run(images, &vec![0; batch], Mode::Evaluate)?;
        self.backend.upload(bytemuck::bytes_of(&metrics), self.metrics.all())?;
        let mut logits = vec![0.0f32; batch * self.graph.classes()];
        if let Some(ready) = self.programs.get(&(batch, Mode::Evaluate)) {
            self.backend.download(self.resolve(ready, ready.program.logits)?, bytemuck::cast_slice_mut(&mut logits))?;
        }
        Ok(logits)
    }

    /// Sums over all batches since the last call.
    pub fn take_metrics(&mut self) -> Result<Metrics> {
        self.backend.take_metrics(self.metrics.all())
    }

    fn run(&mut self, images: &[f32], labels: &[u32], mode: Mode) -> Result<()> {
        let (batch, shape) = (labels.len(), self.graph.input_shape());
        if images.len() != batch * shape.elements() || batch == 0 {
            let what = format!("{} values for {batch} images of {shape}", images.len());
            return Err(Error::bad_setting("batch", what, "give whole NHWC images of the network's input shape"));
        }
        if let Some(bad) = labels.iter().find(|label| **label as usize >= self.graph.classes()) {
            let what = format!("label {bad} with {} classes", self.graph.classes());
            return Err(Error::bad_setting("batch", what, "give the network as many classes as the data set has"));
        }
        self.prepare(batch, mode)?;
        self.backend.upload(bytemuck::cast_slice(images), self.images.span(0, images.len() * 4)?)?;
        self.backend.upload(bytemuck::cast_slice(labels), self.labels.span(0, batch * 4)?)?;
        let Some(ready) = self.programs.get(&(batch, mode)) else { return Ok(()) };
        let resolve = |value| self.resolve(ready, value);
        self.backend
            .together(&mut || ready.program.calls.iter().try_for_each(|call| execute(&*self.backend, call, &resolve)))
    }

    fn resolve<'m>(&'m self, ready: &Ready, value: Value) -> Result<Span<'m>> {
        let info = &ready.program.values[value.0 as usize];
        let (memory, offset) = match info.place {
            Place::Arena => (&self.arena, ready.plan.offsets[value.0 as usize]),
            Place::Parameter(Arena::Parameters, element) => (&self.parameters, element * 4),
            Place::Parameter(Arena::State, element) => (&self.state, element * 4),
            Place::Parameter(Arena::Constants, element) => (&self.constants, element * 4),
            Place::Gradient(element) => (&self.gradients, element * 4),
            Place::Images => (&self.images, 0),
            Place::Labels => (&self.labels, 0),
            Place::Metrics => (&self.metrics, 0),
        };
        memory.span(offset, info.bytes)
    }

    // ---- state ----------------------------------------------------------------------------------------------------

    /// Parameters and running statistics, by PyTorch name and in PyTorch's layout.
    pub fn state_dict(&self) -> Result<StateDict> {
        self.collect(|arena| match arena {
            Arena::Parameters => Some(&self.parameters),
            Arena::State => Some(&self.state),
            Arena::Constants => None,
        })
    }

    /// Gradients of the last batch, by the names of their parameters.
    pub fn gradients(&self) -> Result<StateDict> {
        self.collect(|arena| (arena == Arena::Parameters).then_some(&self.gradients))
    }

    /// Momenta of the optimiser, by the names of their parameters.
    pub fn momenta(&self) -> Result<StateDict> {
        self.collect(|arena| (arena == Arena::Parameters).then_some(&self.momenta))
    }

    fn collect<'m>(&'m self, memory: impl Fn(Arena) -> Option<&'m Memory>) -> Result<StateDict> {
        let mut all = StateDict::new();
        for placed in self.layout.entries() {
            let Some(memory) = memory(placed.arena) else { continue };
            let mut data = vec![0.0f32; placed.parameter.elements()];
            self.backend
                .download(memory.span(placed.offset * 4, data.len() * 4)?, bytemuck::cast_slice_mut(&mut data))?;
            all.insert(placed.parameter.name.clone(), to_torch(&placed.parameter, &data));
        }
        Ok(all)
    }

    /// Sets all parameters and running statistics. Tensors that the network does not have (PyTorch's `num_batches_tracked`) are ignored.
    ///
    /// # Errors
    /// [`Error::Graph`] naming the first tensor that is missing or has another shape.
    pub fn load_state(&mut self, state: &StateDict) -> Result<()> {
        self.distribute(state, |arena| match arena {
            Arena::Parameters => Some(&self.parameters),
            Arena::State => Some(&self.state),
            Arena::Constants => None,
        })
    }

    /// Sets all momenta.
    pub fn load_momenta(&mut self, momenta: &StateDict) -> Result<()> {
        self.distribute(momenta, |arena| (arena == Arena::Parameters).then_some(&self.momenta))
    }

    fn distribute<'m>(&'m self, state: &StateDict, memory: impl Fn(Arena) -> Option<&'m Memory>) -> Result<()> {
        for placed in self.layout.entries() {
            let parameter = &placed.parameter;
            let Some(memory) = memory(placed.arena) else { continue };
            let tensor = find(state, &parameter.name, &torch_dims(parameter))?;
            let data = from_torch(parameter, &tensor.data);
            self.backend.upload(bytemuck::cast_slice(&data), memory.span(placed.offset * 4, data.len() * 4)?)?;
        }
        Ok(())
    }

    /// All BN scales in mask order.
    pub fn bn_scales(&self) -> Result<Vec<f32>> {
        let mut scales = vec![0.0f32; self.layout.scales()];
        self.backend.download(self.parameters.span(0, scales.len() * 4)?, bytemuck::cast_slice_mut(&mut scales))?;
        Ok(scales)
    }
}

/// Checks that `state` has every parameter and running statistic of `graph`, in its shape.
///
/// # Errors
/// [`Error::Graph`] naming the first tensor that is missing or has another shape.
pub fn check_state(graph: &Graph, state: &StateDict) -> Result<()> {
    let stored = graph.parameters().into_iter().filter(|p| p.kind != crate::ops::ParameterKind::Index);
    for parameter in stored {
        find(state, &parameter.name, &torch_dims(&parameter))?;
    }
    Ok(())
}

/// The tensor `name` of `state` if it has `dims`; a clear error otherwise.
fn find<'s>(state: &'s StateDict, name: &str, dims: &[usize]) -> Result<&'s Tensor> {
    let fail = |what: String| Error::Graph { node: name.into(), op: "state", what };
    match state.get(name) {
        None => Err(fail(format!("is missing; the state has {} tensors, for another model?", state.len()))),
        Some(tensor) if tensor.dims != dims || tensor.data.len() != dims.iter().product::<usize>() => {
            Err(fail(format!("has shape {:?}, the network wants {dims:?}", tensor.dims)))
        }
        Some(tensor) => Ok(tensor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::ops::Shape;
    use crate::ops::conv2d::Conv2dAttr;

    /// The optimiser runs over the gaps between parameters too: they stay zero, with momentum, weight decay and L1.
    #[test]
    fn gaps_between_parameters_stay_zero() {
        let mut g = Graph::new("odd widths");
        let mut x = g.input(Shape::new(4, 4, 3));
        for (i, width) in [5, 7].into_iter().enumerate() {
            x = g.conv2d(x, &format!("conv{i}"), Conv2dAttr::square(width, 3, 1, 1)).unwrap();
            x = g.batchnorm(x, &format!("bn{i}")).unwrap();
        }
        g.linear(x, "head", 3).unwrap();
        let state = crate::nn::init(&g, 1);
        let mut session = Session::new(Arc::new(g), Cpu::new(), Hyper { l1: 0.1, ..Hyper::default() }).unwrap();
        session.load_state(&state).unwrap();
        for _ in 0..3 {
            session.step(&crate::data::noise(2 * 48, 1), &[0, 2], 0.1).unwrap();
        }
        let length = session.layout.length(Arena::Parameters);
        let mut gap = vec![true; length];
        for placed in session.layout.entries().iter().filter(|placed| placed.arena == Arena::Parameters) {
            gap[placed.offset..placed.offset + placed.parameter.elements()].fill(false);
        }
        assert!(gap.contains(&true));
        for memory in [&session.parameters, &session.gradients, &session.momenta] {
            let mut data = vec![f32::NAN; length];
            session.backend.download(memory.all(), bytemuck::cast_slice_mut(&mut data)).unwrap();
            for (value, gap) in data.iter().zip(&gap) {
                assert!(if *gap { value.to_bits() == 0 } else { value.is_finite() });
            }
        }
        let stored: usize = session.state_dict().unwrap().values().map(|t| t.data.len()).sum();
        assert_eq!(stored, session.graph.parameters().iter().map(|p| p.elements()).sum::<usize>());
    }
}
