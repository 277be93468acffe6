//! What a session does with a batch: a step, gradients, an evaluation; and the sums that it leaves.
//!
//! All of it is one series of calls (program, optimiser, advance), which a device that can record replays as a whole. Whatever changes from step to step lies in the
//! device's [`StepState`]; the host knows what it must be and uploads it only where it is not: at a new learning rate, at a new epoch, after an evaluation.

use std::sync::PoisonError;

use super::execute::execute;
use super::feed::Feed;
use super::layout::Arena;
use super::program::{Mode, Place};
use super::recorded::Work;
use super::session::{LOG, Ready, Session, StepEvent};
use crate::backend::Span;
use crate::ops::advance::{Advance, StepState};
use crate::ops::augment::Augment;
use crate::ops::sgd::{Segment, Sgd};
use crate::ops::{Call, Kernel, Metrics, Value};
use crate::{Error, Result};

/// What the state moves on by, where it moves.
fn advance(batch: usize, work: Work, feed: Option<Feed>) -> Option<Advance> {
    let steps = work == Work::Step;
    let images = if feed.is_some() { batch as u32 } else { 0 };
    let slots = if steps { LOG as u32 } else { 0 };
    (steps || feed.is_some()).then_some(Advance { images, steps: u32::from(steps), slots })
}

/// Runs one call, see [`Session::walk`].
pub type Issue<'a> = &'a dyn Fn() -> Result<()>;

/// What one call of a step does, see [`Session::walk`].
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Makes the batch from images on the device.
    Batch(&'a Augment),
    /// An operator, or the optimiser.
    Operator(&'a Kernel),
    /// Moves the step on.
    Advance(&'a Advance),
}

impl Session {
    /// Steps that the device remembers: [`Session::take_log`] must be called at least this often to see each of them.
    pub const LOG: usize = LOG;

    /// One optimiser step on a batch: `images` NHWC, as long as `labels` says; `lr` the learning rate. Loss and hits stay on the device until
    /// [`Session::take_log`] or [`Session::take_metrics`].
    pub fn step(&mut self, images: &[f32], labels: &[u32], lr: f32) -> Result<()> {
        self.bring(images, labels, Mode::Train)?;
        self.keep_log()?;
        self.go_on(StepState { lr, ..self.now })?;
        self.run(labels.len(), Work::Step, None)?;
        self.stepped(labels.len())
    }

    /// Forward and backward in training mode without a step: gradients are left for [`Session::gradients`]; running statistics move.
    pub fn differentiate(&mut self, images: &[f32], labels: &[u32]) -> Result<()> {
        self.bring(images, labels, Mode::Train)?;
        self.go_on(self.now)?;
        self.run(labels.len(), Work::Differentiate, None)
    }

    /// Forward with running statistics; loss and hits are added to the running metrics.
    pub fn evaluate(&mut self, images: &[f32], labels: &[u32]) -> Result<()> {
        self.bring(images, labels, Mode::Evaluate)?;
        self.run(labels.len(), Work::Evaluate, None)
    }

    /// Forward in training mode and in f32: running statistics move by those of the batch; loss and hits are added to the running metrics.
    pub fn estimate(&mut self, images: &[f32], labels: &[u32]) -> Result<()> {
        self.bring(images, labels, Mode::Statistics)?;
        self.run(labels.len(), Work::Estimate, None)
    }

    /// Logits `[N][classes]` with running statistics.
    pub fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>> {
        let batch = images.len() / self.graph.input_shape().elements().max(1);
        let mut metrics = Metrics::default();
        self.backend.download(self.metrics.all(), bytemuck::bytes_of_mut(&mut metrics))?;
        self.evaluate(images, &vec![0; batch])?;
        self.backend.upload(bytemuck::bytes_of(&metrics), self.metrics.all())?;
        let mut logits = vec![0.0f32; batch * self.graph.classes()];
        if let Some(ready) = self.programs.get(&(batch, Mode::Evaluate)) {
            self.backend.download(self.resolve(ready, ready.program.logits)?, bytemuck::cast_slice_mut(&mut logits))?;
        }
        Ok(logits)
    }

    /// Sums over all batches since the last call, those of [`Session::take_log`] left out.
    pub fn take_metrics(&mut self) -> Result<Metrics> {
        let mut sums = std::mem::take(&mut self.spilled);
        self.read_log(&mut |step| sums.merge(step))?;
        sums.merge(&self.backend.take_metrics(self.metrics.all())?);
        Ok(sums)
    }

    /// Steps whose sums nobody has read.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// Sums of each step since the last call, oldest first. Waits for the device.
    pub fn take_log(&mut self) -> Result<Vec<Metrics>> {
        let mut steps = Vec::with_capacity(self.unread);
        self.read_log(&mut |step| steps.push(*step))?;
        Ok(steps)
    }

    fn read_log(&mut self, each: &mut dyn FnMut(&Metrics)) -> Result<()> {
        let mut sums = [Metrics::default(); LOG];
        let first = (self.now.slot as usize + LOG - self.unread) % LOG;
        // The unread part may go round the end.
        let (before, after) = (self.unread.min(LOG - first), self.unread.saturating_sub(LOG - first));
        for (to, from, count) in [(0, first, before), (before, 0, after)] {
            if count > 0 {
                let span = self.log.span(from * size_of::<Metrics>(), count * size_of::<Metrics>())?;
                self.backend.download(span, bytemuck::cast_slice_mut(&mut sums[to..to + count]))?;
            }
        }
        sums[..self.unread].iter().for_each(each);
        self.unread = 0;
        Ok(())
    }

    /// Puts a batch of the host's on the device.
    fn bring(&mut self, images: &[f32], labels: &[u32], mode: Mode) -> Result<()> {
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
        self.pack()?;
        self.backend.upload(bytemuck::cast_slice(images), self.images.span(0, images.len() * 4)?)?;
        self.backend.upload(bytemuck::cast_slice(labels), self.labels.span(0, batch * 4)?)
    }

    /// Rounds loaded weights to the 8-bit grid and packs them for the integer products. The noise is that of the step that left them, so that
    /// a run that goes on from a file packs what the interrupted one had.
    pub(super) fn pack(&mut self) -> Result<()> {
        let wanted = self.packing.rounds_loaded() && !self.is_packed;
        let Some(p) = self.packing.sgd(self.sgd()).filter(|_| wanted) else { return Ok(()) };
        self.synced = false;
        let before = StepState { step: self.now.step.wrapping_sub(1), ..self.now };
        self.backend.upload(bytemuck::bytes_of(&before), self.place.all())?;
        let table = self.table.span(0, p.segments as usize * size_of::<Segment>())?;
        let weights = self.parameters.span(0, p.sgd.count as usize * 4)?;
        self.backend.int8()?.sgd_pack_i8(&p, table, self.place.span(0, 4)?, weights, self.packed.all())?;
        self.backend.upload(bytemuck::bytes_of(&self.now), self.place.all())?;
        (self.synced, self.is_packed) = (true, true);
        Ok(())
    }

    /// Makes room in the log for another step.
    pub(super) fn keep_log(&mut self) -> Result<()> {
        if self.unread == LOG {
            let mut sums = Metrics::default();
            self.read_log(&mut |step| sums.merge(step))?;
            self.spilled.merge(&sums);
        }
        Ok(())
    }

    /// Sees to it that the device's state is `state`.
    pub(super) fn go_on(&mut self, state: StepState) -> Result<()> {
        if !self.synced || state != self.now {
            self.backend.upload(bytemuck::bytes_of(&state), self.place.all())?;
            (self.now, self.synced) = (state, true);
        }
        Ok(())
    }

    /// Counts a step and tells the hooks.
    pub(super) fn stepped(&mut self, batch: usize) -> Result<()> {
        self.unread += 1;
        let event = StepEvent { step: self.now.step, batch, lr: self.now.lr };
        for hook in self.hooks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            hook(&event);
        }
        Ok(())
    }

    /// Runs the program of a batch, and what belongs before and behind it.
    pub(super) fn run(&mut self, batch: usize, work: Work, feed: Option<Feed>) -> Result<()> {
        let mode = match work {
            Work::Differentiate | Work::Step => Mode::Train,
            Work::Estimate => Mode::Statistics,
            Work::Evaluate => Mode::Evaluate,
        };
        let Some(ready) = self.programs.get_mut(&(batch, mode)) else { return Ok(()) };
        let mut recorded = std::mem::take(&mut ready.recorded);
        let moves = advance(batch, work, feed);
        self.synced &= moves.is_none(); // until it has worked
        let done = match self.programs.get(&(batch, mode)) {
            Some(ready) => {
                let mut issue = || self.issue(ready, work, feed);
                recorded.run((work, feed), &*self.backend, &self.kept(feed), &mut issue)
            }
            None => Ok(()),
        };
        if let Some(ready) = self.programs.get_mut(&(batch, mode)) {
            ready.recorded = recorded;
        }
        done?;
        if let Some(moves) = moves {
            (self.now, self.synced) = (moves.next(self.now), true);
        }
        Ok(())
    }

    /// Issues the calls.
    fn issue(&self, ready: &Ready, work: Work, feed: Option<Feed>) -> Result<()> {
        if let Some(feed) = feed {
            self.make(feed, ready.program.batch)?;
        }
        ready.program.calls.iter().try_for_each(|call| self.call(ready, call))?;
        if work == Work::Step {
            self.optimise(&self.optimiser())?;
        }
        advance(ready.program.batch, work, feed).map_or(Ok(()), |p| self.move_on(&p))
    }

    /// Issues the call that moves the step on.
    fn move_on(&self, p: &Advance) -> Result<()> {
        self.backend.advance_step_u64(p, self.place.all(), self.metrics.all(), self.log.all())
    }

    /// Issues one call of a program.
    fn call(&self, ready: &Ready, call: &Call) -> Result<()> {
        execute(&*self.backend, call, &|value| self.resolve(ready, value))
    }

    /// The optimiser's constants.
    fn sgd(&self) -> Sgd {
        Sgd {
            count: self.layout.length(Arena::Parameters) as u32,
            scales: self.layout.scales() as u32,
            momentum: self.hyper.momentum,
            weight_decay: self.hyper.weight_decay,
            l1: self.hyper.l1,
        }
    }

    /// The optimiser's step as a kernel.
    fn optimiser(&self) -> Kernel {
        let p = self.sgd();
        self.packing.sgd(p).map_or(Kernel::SgdStep(p), Kernel::SgdStepI8)
    }

    /// Issues the optimiser's step.
    fn optimise(&self, kernel: &Kernel) -> Result<()> {
        let length = self.layout.length(Arena::Parameters) * 4;
        let (g, v, w) =
            (self.gradients.span(0, length)?, self.momenta.span(0, length)?, self.parameters.span(0, length)?);
        let (lr, step) = (self.place.span(StepState::LR, 4)?, self.place.span(0, 4)?);
        match kernel {
            Kernel::SgdStepI8(p) => {
                let table = self.table.span(0, p.segments as usize * size_of::<Segment>())?;
                self.backend.int8()?.sgd_step_i8(p, table, lr, step, g, v, w, self.packed.all())
            }
            _ => self.backend.sgd_step_f32(&self.sgd(), lr, g, v, w),
        }
    }

    /// Goes through the calls of a training step on batches of `batch` images, from `feed` or whatever is in memory: `each` is given the name of the first value that a call
    /// writes (which names the layer), what it does, and what runs it. For those who count calls: numbers in memory move as they run; the steps counted here do not.
    ///
    /// # Errors
    /// What `each` says; a batch that does not fit.
    pub fn walk(
        &mut self,
        batch: usize,
        feed: Option<Feed>,
        each: &mut dyn FnMut(&str, Part<'_>, Issue<'_>) -> Result<()>,
    ) -> Result<()> {
        self.prepare(batch, Mode::Train)?;
        self.pack()?;
        self.synced = false; // the device's counter moves where its call is run
        let Some(ready) = self.programs.get(&(batch, Mode::Train)) else { return Ok(()) };
        if let Some((feed, p)) = feed.and_then(|feed| Some((feed, self.changes(feed, batch)?))) {
            each("images", Part::Batch(&p), &|| self.make(feed, batch))?;
        }
        for call in &ready.program.calls {
            let layer = call.outputs.first().map_or("", |v| &ready.program.values[v.0 as usize].name);
            each(layer, Part::Operator(&call.kernel), &|| self.call(ready, call))?;
        }
        let optimiser = self.optimiser();
        each("all parameters", Part::Operator(&optimiser), &|| self.optimise(&optimiser))?;
        match advance(batch, Work::Step, feed) {
            Some(p) => each("step", Part::Advance(&p), &|| self.move_on(&p)),
            None => Ok(()),
        }
    }

    pub(super) fn resolve<'m>(&'m self, ready: &Ready, value: Value) -> Result<Span<'m>> {
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
            Place::Step => (&self.place, 0),
            Place::Packed(byte) => (&self.packed, byte),
        };
        memory.span(offset, info.bytes)
    }
}
