//! Batches that the device makes itself, from images that were uploaded once: what crosses to it for a step is nothing, for an epoch its order.
//!
//! [`Resident`] is the images, [`Session::attach`] lets a session take batches from them. Not here: which order and which images ([`crate::train`]).

use super::program::Mode;
use super::recorded::Work;
use super::session::{MEMORIES, Session};
use crate::backend::{AugmentSource, Backend, Memory};
use crate::ops::advance::StepState;
use crate::ops::augment::Augment;
use crate::{Error, Result};

/// Blocks of memory of resident images.
const BLOCKS: usize = 5;

/// Labelled u8 images in device memory, with an order to take them in. A clone is the same images.
#[derive(Clone)]
pub struct Resident {
    /// Batch 0: how images are changed, and how many there are.
    p: Augment,
    /// Largest label.
    largest: u32,
    images: Memory,
    labels: Memory,
    order: Memory,
    mean: Memory,
    std: Memory,
}

impl Resident {
    /// Bytes of device memory for the images of `p`.
    pub fn bytes(p: &Augment) -> u64 {
        u64::from(p.count) * (p.elements() as u64 + 8) + u64::from(p.c) * 8
    }

    /// Puts `images` (u8 NHWC, as many as `labels`) on the device. They are changed as `p` says (its sizes of batch and order do not matter) and normalised by `mean` and
    /// `std`, one per channel. The order is none yet.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where lengths do not fit; what the device says.
    pub fn new(
        backend: &dyn Backend,
        p: Augment,
        images: &[u8],
        labels: &[u32],
        mean: &[f32],
        std: &[f32],
    ) -> Result<Resident> {
        let (count, channels) = (p.count as usize, p.c as usize);
        if images.len() != count * p.elements()
            || labels.len() != count
            || mean.len() != channels
            || std.len() != channels
        {
            let what = format!("{} bytes, {} labels, {} means for {p:?}", images.len(), labels.len(), mean.len());
            return Err(Error::bad_setting("resident images", what, "give whole NHWC images, a label for each"));
        }
        let put = |bytes: &[u8]| -> Result<Memory> {
            let memory = backend.alloc(bytes.len().max(4))?;
            backend.upload(bytes, memory.span(0, bytes.len())?)?;
            Ok(memory)
        };
        Ok(Resident {
            p: Augment { n: 0, order: p.count, ..p },
            largest: labels.iter().copied().max().unwrap_or(0),
            images: put(images)?,
            labels: put(bytemuck::cast_slice(labels))?,
            order: backend.alloc((count * 4).max(4))?,
            mean: put(bytemuck::cast_slice(mean))?,
            std: put(bytemuck::cast_slice(std))?,
        })
    }

    /// Sets the order that batches are taken in: every image's number once, or some more often than others.
    ///
    /// # Errors
    /// [`Error::BadSetting`] unless it has as many entries as there are images, each the number of one.
    pub fn set_order(&self, backend: &dyn Backend, order: &[u32]) -> Result<()> {
        if order.len() != self.p.count as usize || order.iter().any(|index| *index >= self.p.count) {
            let what = format!("{} entries for {} images, or one that names none", order.len(), self.p.count);
            return Err(Error::bad_setting("order of the images", what, "give one image's number for each"));
        }
        backend.upload(bytemuck::cast_slice(order), self.order.span(0, order.len() * 4)?)
    }

    /// Everything it holds.
    fn memories(&self) -> [&Memory; BLOCKS] {
        [&self.images, &self.labels, &self.order, &self.mean, &self.std]
    }
}

/// Images that a session takes batches from: see [`Session::attach`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed(usize);

/// Which batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// Epoch, from 0: keys the changes.
    pub epoch: u32,
    /// First image, in the order.
    pub first: u32,
    /// Images.
    pub images: usize,
}

impl Session {
    /// Lets the session take batches from `images`.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where they are of another shape than the network's, or have more classes.
    pub fn attach(&mut self, images: &Resident) -> Result<Feed> {
        let (shape, p) = (self.graph.input_shape(), &images.p);
        if (shape.h, shape.w, shape.c) != (p.h as usize, p.w as usize, p.c as usize)
            || images.largest as usize >= self.graph.classes()
        {
            let what = format!("{}x{}x{} with label {} for a network of {shape}", p.h, p.w, p.c, images.largest);
            return Err(Error::bad_setting("resident images", what, "use the data set the model was made for"));
        }
        self.feeds.push(images.clone());
        Ok(Feed(self.feeds.len() - 1))
    }

    /// [`Session::step`] on a batch that the device makes.
    pub fn step_from(&mut self, feed: Feed, take: Take, lr: f32) -> Result<()> {
        self.take(feed, &take, Mode::Train)?;
        self.keep_log()?;
        self.go_on(StepState { lr, epoch: take.epoch, cursor: take.first, ..self.now })?;
        self.run(take.images, Work::Step, Some(feed))?;
        self.stepped(take.images)
    }

    /// [`Session::evaluate`] on a batch that the device makes.
    pub fn evaluate_from(&mut self, feed: Feed, take: Take) -> Result<()> {
        self.take(feed, &take, Mode::Evaluate)?;
        self.go_on(StepState { epoch: take.epoch, cursor: take.first, ..self.now })?;
        self.run(take.images, Work::Evaluate, Some(feed))
    }

    /// Checks what is to be taken and makes room for it.
    fn take(&mut self, feed: Feed, take: &Take, mode: Mode) -> Result<()> {
        let count = self.feeds.get(feed.0).map_or(0, |images| images.p.count as usize);
        if take.images == 0 || (take.first as usize).checked_add(take.images).is_none_or(|end| end > count) {
            let what = format!("{} images from {} on of {count}", take.images, take.first);
            return Err(Error::bad_setting("batch", what, "take images that are there, at least one"));
        }
        self.prepare(take.images, mode)?;
        self.pack()
    }

    /// How a batch is made.
    pub(super) fn changes(&self, feed: Feed, batch: usize) -> Option<Augment> {
        self.feeds.get(feed.0).map(|source| Augment { n: batch as u32, ..source.p })
    }

    /// Issues the call that makes a batch.
    pub(super) fn make(&self, feed: Feed, batch: usize) -> Result<()> {
        let Some((source, p)) = self.feeds.get(feed.0).zip(self.changes(feed, batch)) else { return Ok(()) };
        let from = AugmentSource {
            images: source.images.all(),
            labels: source.labels.all(),
            order: source.order.all(),
            state: self.place.all(),
            mean: source.mean.all(),
            std: source.std.all(),
        };
        self.backend.augment_fwd_f32(&p, from, self.images.all(), self.labels.all())
    }

    /// All that a recording of work on batches from `feed` uses. An array, because a step allocates nothing; what is missing is something else twice.
    pub(super) fn kept(&self, feed: Option<Feed>) -> [&Memory; MEMORIES + BLOCKS] {
        let own = self.memories();
        let fed = feed.and_then(|feed| self.feeds.get(feed.0)).map(Resident::memories);
        std::array::from_fn(|i| match (i.checked_sub(own.len()), fed) {
            (Some(i), Some(fed)) => fed[i],
            (None, _) => own[i],
            (Some(_), None) => own[0],
        })
    }
}
