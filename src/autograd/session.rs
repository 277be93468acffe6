//! A network on a device: memory, lowered programs, and its state, to read and to write.
//!
//! Everything is allocated when a batch size is first seen; a step then only runs calls, or a recording of them (`step` beside this file). Not here: epochs, schedules
//! and data ([`crate::train`]), masks ([`crate::ticket`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::feed::Resident;
use super::layout::{Arena, Layout};
use super::packing::Packing;
use super::plan::{Plan, plan};
use super::precision::Precision;
use super::program::{Mode, Program, lower};
use super::recorded::Recorded;
use super::state::{StateDict, Tensor, from_torch, to_torch, torch_dims};
use crate::backend::{Backend, Memory, Span};
use crate::graph::Graph;
use crate::ops::Metrics;
use crate::ops::advance::StepState;
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

/// A program with its plan.
pub(super) struct Ready {
    pub(super) program: Program,
    pub(super) plan: Plan,
    /// What has been recorded of it.
    pub(super) recorded: Recorded,
}

/// Blocks of memory of a session.
pub(super) const MEMORIES: usize = 13;

/// Steps whose sums the device keeps until they are read, see [`Session::take_log`].
pub(super) const LOG: usize = 64;

/// A network on a device.
pub struct Session {
    pub(super) graph: Arc<Graph>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) layout: Layout,
    pub(super) hyper: Hyper,
    pub(super) packing: Packing,
    pub(super) parameters: Memory,
    pub(super) gradients: Memory,
    pub(super) momenta: Memory,
    pub(super) state: Memory,
    pub(super) constants: Memory,
    /// The 8-bit optimiser's table.
    pub(super) table: Memory,
    /// Weights for the integer products.
    pub(super) packed: Memory,
    /// Whether those are the weights of now.
    pub(super) is_packed: bool,
    /// Sums of batches that have not gone to the log.
    pub(super) metrics: Memory,
    /// Sums of the last [`LOG`] steps.
    pub(super) log: Memory,
    /// The device's [`StepState`].
    pub(super) place: Memory,
    pub(super) images: Memory,
    pub(super) labels: Memory,
    pub(super) arena: Memory,
    /// Images on the device that batches are made from, not counted as the session's own.
    pub(super) feeds: Vec<Resident>,
    pub(super) programs: BTreeMap<(usize, Mode), Ready>,
    /// What the device's state is to be; `steps` taken are here.
    pub(super) now: StepState,
    /// Whether it is that.
    pub(super) synced: bool,
    /// Steps in the log that nobody has read.
    pub(super) unread: usize,
    /// Sums of steps that fell out of the log unread.
    pub(super) spilled: Metrics,
    /// Behind a lock only so that a session can be looked at from several threads.
    pub(super) hooks: Mutex<Vec<StepHook>>,
}

impl Session {
    /// Puts `graph` on `backend`, to train in f32. Parameters are zero (running variances too) until [`Session::load_state`].
    pub fn new(graph: Arc<Graph>, backend: Arc<dyn Backend>, hyper: Hyper) -> Result<Session> {
        Session::with_precision(graph, backend, hyper, Precision::F32, 0)
    }

    /// Like [`Session::new`], to train in `precision`. `seed` keys the rounding of 8-bit numbers, together with the step counter ([`Session::set_steps`]).
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the device has no 8-bit operators.
    pub fn with_precision(
        graph: Arc<Graph>,
        backend: Arc<dyn Backend>,
        hyper: Hyper,
        precision: Precision,
        seed: u64,
    ) -> Result<Session> {
        graph.check_classifier()?;
        let layout = Layout::new(&graph);
        let packing = Packing::new(&graph, &layout, precision, seed)?;
        if precision != Precision::F32 {
            backend.int8()?;
        }
        let alloc = |elements: usize| backend.alloc(elements.max(1) * 4);
        let trained = layout.length(Arena::Parameters);
        let session = Session {
            parameters: alloc(trained)?,
            gradients: alloc(trained)?,
            momenta: alloc(trained)?,
            state: alloc(layout.length(Arena::State))?,
            constants: alloc(layout.length(Arena::Constants))?,
            table: backend.alloc(size_of_val(&packing.table[..]).max(4))?,
            packed: backend.alloc(packing.bytes.max(4))?,
            is_packed: false,
            metrics: backend.alloc(size_of::<Metrics>())?,
            log: backend.alloc(LOG * size_of::<Metrics>())?,
            place: backend.alloc(size_of::<StepState>())?,
            images: alloc(1)?,
            labels: alloc(1)?,
            arena: alloc(1)?,
            graph,
            backend,
            layout,
            hyper,
            packing,
            feeds: Vec::new(),
            programs: BTreeMap::new(),
            now: StepState::default(),
            synced: true,
            unread: 0,
            spilled: Metrics::default(),
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
        let table: &[u8] = bytemuck::cast_slice(&self.packing.table);
        match table.len() {
            0 => Ok(()),
            bytes => self.backend.upload(table, self.table.span(0, bytes)?),
        }
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
        self.now.step
    }

    /// Arithmetic of the training step.
    pub fn precision(&self) -> Precision {
        self.packing.precision
    }

    /// Sets the step counter, when a run is resumed.
    pub fn set_steps(&mut self, steps: u64) {
        self.now.step = steps;
        (self.synced, self.is_packed) = (false, false);
    }

    /// Runs `hook` after every optimiser step.
    pub fn on_step(&mut self, hook: StepHook) {
        self.hooks.get_mut().unwrap_or_else(PoisonError::into_inner).push(hook);
    }

    /// Bytes of device memory that the session holds.
    pub fn device_bytes(&self) -> usize {
        self.memories().iter().map(|memory| memory.bytes()).sum()
    }

    /// Everything it holds.
    pub(super) fn memories(&self) -> [&Memory; MEMORIES] {
        let Session { parameters, gradients, momenta, state, constants, metrics, log, place, .. } = self;
        let Session { images, labels, arena, table, packed, .. } = self;
        [parameters, gradients, momenta, state, constants, metrics, log, place, images, labels, arena, table, packed]
    }

    /// Lowers and plans for batches of `batch` images, if not done yet. [`Session::step`] and the others do it by themselves.
    pub fn prepare(&mut self, batch: usize, mode: Mode) -> Result<()> {
        if self.programs.contains_key(&(batch, mode)) {
            return Ok(());
        }
        let backend = self.backend.clone();
        let program =
            lower(&self.graph, &self.layout, &self.packing, batch, mode, &|kernel| backend.workspace(kernel))?;
        let plan = plan(&program)?;
        let programs = &mut self.programs;
        let mut grow = |memory: &mut Memory, bytes: usize| -> Result<()> {
            if memory.bytes() < bytes {
                // What was recorded names the old block, and would keep it.
                programs.values_mut().for_each(|ready| ready.recorded = Recorded::default());
                *memory = backend.alloc(4)?; // the old block goes before the new one comes
                *memory = backend.alloc(bytes)?;
            }
            Ok(())
        };
        grow(&mut self.arena, plan.bytes)?;
        grow(&mut self.images, batch * self.graph.input_shape().elements() * 4)?;
        grow(&mut self.labels, batch * 4)?;
        self.programs.insert((batch, mode), Ready { program, plan, recorded: Recorded::default() });
        Ok(())
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

    /// Running statistics alone.
    pub fn running_statistics(&self) -> Result<StateDict> {
        self.collect(|arena| (arena == Arena::State).then_some(&self.state))
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
        self.is_packed = false;
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

    /// All BN scales in mask order, where they are.
    pub fn scales(&self) -> Result<Span<'_>> {
        self.parameters.span(0, self.layout.scales() * 4)
    }

    /// All BN scales in mask order.
    pub fn bn_scales(&self) -> Result<Vec<f32>> {
        let mut scales = vec![0.0f32; self.layout.scales()];
        self.backend.download(self.scales()?, bytemuck::cast_slice_mut(&mut scales))?;
        Ok(scales)
    }
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
