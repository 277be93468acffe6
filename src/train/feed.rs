//! Where the batches of one part of the data come from: the host's loader, or images that lie on the device.
//!
//! Both give the same bits. On the device a batch costs no transfer and no thread of the host; it needs room for the images. Where the device works in the host's own memory
//! ([`crate::backend::Backend::room`] is `None`: the CPU) nothing is gained by a second copy of them, and the loader makes batches beside the training.

use crate::Result;
use crate::autograd::{self, Mode, Resident, Session, Take};
use crate::backend::cuda::MOST_BYTES;
use crate::data::{Augment, Loader};
use crate::ops::augment;
use crate::quant::philox::key;

/// Who makes batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// The device, where it has memory of its own and the images take at most half of what is free beside the session; else the host. Half, because surgery puts a second
    /// network beside the first, recordings need memory of the driver's, and others may want some.
    #[default]
    Auto,
    /// The host's loader.
    Host,
    /// The device, whatever there is room for.
    Device,
}

/// Images on the device, as a session knows them.
struct OnDevice {
    images: Resident,
    feed: autograd::Feed,
    /// Epoch of the order on the device.
    order: Option<usize>,
}

/// One part of the data.
pub(super) struct Source {
    loader: Loader,
    feed: Feed,
    /// `None` until it is decided.
    device: Option<Option<OnDevice>>,
}

impl Source {
    /// From `loader`; nothing is decided yet.
    pub(super) fn new(loader: Loader) -> Source {
        Source { loader, feed: Feed::Auto, device: None }
    }

    /// The host's side.
    pub(super) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Has batches made by `feed`.
    pub(super) fn set_feed(&mut self, feed: Feed) {
        *self = Source { feed, ..Source::new(self.loader.clone()) };
    }

    /// Goes on with another session on the same device. Images that are there stay there.
    pub(super) fn follow(&mut self, session: &mut Session) -> Result<()> {
        if let Some(Some(there)) = &mut self.device {
            there.feed = session.attach(&there.images)?;
        }
        Ok(())
    }

    /// The feed to take batches of `epoch` from, its order on the device; `None` where the host makes them.
    pub(super) fn on_device(
        &mut self,
        session: &mut Session,
        mode: Mode,
        epoch: usize,
    ) -> Result<Option<autograd::Feed>> {
        if self.device.is_none() {
            self.device = Some(self.bring(session, mode)?);
        }
        let Some(Some(there)) = &mut self.device else { return Ok(None) };
        if there.order != Some(epoch) {
            there.order = None; // until it has worked
            there.images.set_order(&**session.backend(), &self.loader.order(epoch))?;
            there.order = Some(epoch);
        }
        Ok(Some(there.feed))
    }

    /// Batch `number` of `epoch`.
    pub(super) fn take(&self, epoch: usize, number: usize) -> Take {
        let first = number * self.loader.options().batch_size;
        Take { epoch: epoch as u32, first: first as u32, images: self.loader.images(number) }
    }

    /// Puts the images on the device, where they are to go there.
    fn bring(&self, session: &mut Session, mode: Mode) -> Result<Option<OnDevice>> {
        let Some(p) = self.parameters() else { return Ok(None) };
        session.prepare(self.loader.images(0), mode)?; // what is free is what the session leaves
        let backend = session.backend().clone();
        let wanted = match (self.feed, backend.room()?) {
            (Feed::Host, _) | (Feed::Auto, None) => false,
            (Feed::Auto, Some(free)) => Resident::bytes(&p) <= free / 2,
            (Feed::Device, _) => true,
        };
        if !wanted {
            return Ok(None);
        }
        let (set, normalise) = (self.loader.set(), self.loader.normalise());
        let images = Resident::new(&*backend, p, &set.images, &set.labels, &normalise.mean, &normalise.std)?;
        Ok(Some(OnDevice { feed: session.attach(&images)?, images, order: None }))
    }

    /// What the kernel is told; `None` for images that it cannot count, and for photographs, which no memory holds.
    fn parameters(&self) -> Option<augment::Augment> {
        let (set, options) = (self.loader.set(), self.loader.options());
        let Augment { pad, crop, flip } = options.augment;
        let p = augment::Augment {
            seed: key(Augment::key(options.seed)),
            n: 0,
            h: u32::try_from(set.height).ok()?,
            w: u32::try_from(set.width).ok()?,
            c: u32::try_from(set.channels).ok()?,
            count: u32::try_from(set.len()).ok()?,
            order: 0,
            pad: u32::try_from(pad).ok().filter(|pad| *pad < 1 << 16)?,
            crop: u32::from(crop),
            flip: u32::from(flip),
        };
        (self.loader.in_memory() && set.images.len() <= MOST_BYTES && !set.is_empty()).then_some(p)
    }
}
