//! Batches, made ahead by a background thread.
//!
//! A background thread makes one epoch's batches and is joined when the epoch ends or is dropped; if it fails, the epoch ends with an error that says why.
//!
//! The order of an epoch is a Fisher–Yates shuffle from (seed, epoch); crops and flips come from (seed, epoch, index in the data set). A batch is therefore the same
//! whoever makes it and whenever, and an epoch can begin at any batch.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::augment::{Augment, Normalise, write_image};
use super::photos::{Inputs, Part};
use super::{Dataset, ImageSet};
use crate::quant::philox::Stream;
use crate::{Error, Result};

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Images per batch; the last may be smaller.
    pub batch_size: usize,
    /// A new order every epoch.
    pub shuffle: bool,
    /// Random changes.
    pub augment: Augment,
    /// Seed of order and changes.
    pub seed: u64,
    /// Batches made ahead.
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        LoaderOptions { batch_size: 256, shuffle: true, augment: Augment::none(), seed: 1, prefetch: 2 }
    }
}

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised images, NHWC.
    pub images: Vec<f32>,
    /// Labels.
    pub labels: Vec<u32>,
    /// Number of the batch in its epoch.
    pub number: usize,
}

/// Makes batches of one part of a data set.
#[derive(Clone)]
pub struct Loader {
    data: Arc<Dataset>,
    part: Part,
    options: LoaderOptions,
    table: Arc<Vec<[f32; 256]>>,
}

impl Loader {
    /// Over the training images.
    pub fn train(data: &Arc<Dataset>, options: LoaderOptions) -> Result<Loader> {
        Loader::new(data, Part::Train, options)
    }

    /// Over the test images.
    pub fn test(data: &Arc<Dataset>, options: LoaderOptions) -> Result<Loader> {
        Loader::new(data, Part::Test, options)
    }

    fn new(data: &Arc<Dataset>, part: Part, options: LoaderOptions) -> Result<Loader> {
        let Normalise { mean, std } = &data.normalise;
        let channels = data.train.channels;
        if options.batch_size == 0 || mean.len() != channels || std.len() != channels {
            let what = format!("batches of {}, {} means for {channels} channels", options.batch_size, mean.len());
            return Err(Error::bad_setting("loader", what, "give at least one image per batch and a mean per channel"));
        }
        Ok(Loader { data: data.clone(), part, options, table: Arc::new(data.normalise.table()) })
    }

    /// Batches per epoch.
    pub fn batches(&self) -> usize {
        self.set().len().div_ceil(self.options.batch_size)
    }

    /// The images that batches are made of.
    pub fn set(&self) -> &ImageSet {
        match self.part {
            Part::Train => &self.data.train,
            Part::Test => &self.data.test,
        }
    }

    /// How they are normalised.
    pub fn normalise(&self) -> &Normalise {
        &self.data.normalise
    }

    /// How batches are made.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// Images of batch `number`; 0 behind the last.
    pub fn images(&self, number: usize) -> usize {
        self.set().len().saturating_sub(number * self.options.batch_size).min(self.options.batch_size)
    }

    /// The order of `epoch`.
    pub fn order(&self, epoch: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.set().len() as u32).collect();
        if self.options.shuffle {
            let mut stream = Stream::new(self.options.seed ^ 0x0DE2, epoch as u64);
            for i in (1..order.len()).rev() {
                order.swap(i, stream.below(i as u32 + 1) as usize);
            }
        }
        order
    }

    /// Whether all images lie in memory.
    pub fn in_memory(&self) -> bool {
        self.data.photos.is_none()
    }

    /// Batch `number` of the epoch with this `order`.
    fn batch(&self, order: &[u32], epoch: usize, number: usize) -> Result<Batch> {
        let (set, LoaderOptions { batch_size, augment, seed, .. }) = (self.set(), self.options);
        let start = number * batch_size;
        let indices = &order[start..(start + batch_size).min(order.len())];
        if let Some(photos) = &self.data.photos {
            let Inputs { images, labels } = photos.batch(self.part, indices, augment, (seed, epoch), &self.table)?;
            return Ok(Batch { images, labels, number });
        }
        let mut images = vec![0.0; indices.len() * set.stride()];
        for (index, out) in indices.iter().zip(images.chunks_exact_mut(set.stride().max(1))) {
            let change = augment.draw(seed, epoch, *index as usize);
            write_image(set.image(*index as usize), set.width, augment.pad, change, &self.table, out);
        }
        Ok(Batch { images, labels: indices.iter().map(|i| set.labels[*i as usize]).collect(), number })
    }

    /// Batches `numbers` of `epoch` (those it has), made ahead in the background.
    pub fn epoch(&self, epoch: usize, numbers: Range<usize>) -> Epoch {
        let numbers = numbers.start..numbers.end.min(self.batches());
        let loader = self.clone();
        Epoch::start(numbers.len(), self.options.prefetch, move |sender| {
            let order = loader.order(epoch);
            for number in numbers {
                let batch = loader.batch(&order, epoch, number);
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return; // nobody listens any more, or there is nothing more to say
                }
            }
        })
    }
}

/// Batches of an epoch, in order. Dropping it ends and joins the thread that makes them.
pub struct Epoch {
    /// `None` once nothing more is wanted.
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<std::io::Result<JoinHandle<()>>>,
    remaining: usize,
}

impl Epoch {
    fn start(batches: usize, prefetch: usize, make: impl FnOnce(SyncSender<Result<Batch>>) + Send + 'static) -> Epoch {
        if batches == 0 {
            return Epoch { receiver: None, thread: None, remaining: 0 };
        }
        let (sender, receiver) = sync_channel(prefetch.max(1));
        let thread = std::thread::Builder::new().name("loader".into()).spawn(move || make(sender));
        Epoch { receiver: Some(receiver), thread: Some(thread), remaining: batches }
    }

    /// Waits for the thread, at most for the batch that it is at: its next one finds nobody listening. Why it failed, if it did.
    fn join(&mut self) -> Option<std::io::Error> {
        self.receiver = None;
        match self.thread.take()? {
            Err(error) => Some(error),
            Ok(thread) => thread.join().err().map(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                std::io::Error::other(format!("it panicked: {}", text.unwrap_or("without a message")))
            }),
        }
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        self.remaining = self.remaining.checked_sub(1)?;
        if let (Some(receiver), Some(Ok(_))) = (&self.receiver, &self.thread)
            && let Ok(batch) = receiver.recv()
        {
            if batch.is_err() {
                self.remaining = 0;
            }
            return Some(batch);
        }
        self.remaining = 0;
        let error = self.join().unwrap_or_else(|| std::io::Error::other("it ended early"));
        Some(Err(Error::io("make a batch in", "the loader thread", error)))
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let _ = self.join(); // a failure that nobody waited for concerns nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;

    fn loader(shuffle: bool, prefetch: usize) -> Loader {
        let data = Arc::new(synthetic(100, 8, 8, 3, 4, 1));
        let augment = Augment { pad: 2, crop: true, flip: true };
        Loader::train(&data, LoaderOptions { batch_size: 12, shuffle, augment, seed: 9, prefetch }).unwrap()
    }

    #[test]
    fn an_epoch_holds_every_image_once_and_the_last_batch_is_smaller() {
        let loader = loader(true, 2);
        let mut order = loader.order(5);
        let sizes: Vec<usize> = loader.epoch(5, 0..9).map(|batch| batch.unwrap().labels.len()).collect();
        assert_eq!((sizes.len(), sizes[..8].to_vec(), sizes[8]), (9, vec![12; 8], 4));
        assert_ne!(order, loader.order(6));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn resuming_in_the_middle_gives_the_same_batches_whatever_is_made_ahead() {
        let whole: Vec<Batch> = loader(true, 1).epoch(3, 0..9).map(Result::unwrap).collect();
        for first in 0..9 {
            for end in [first, first + 1, 9, 100] {
                let rest: Vec<Batch> = loader(true, 4).epoch(3, first..end).map(Result::unwrap).collect();
                assert_eq!(rest, whole[first..end.min(9)]);
            }
        }
    }

    #[test]
    fn without_shuffling_the_order_is_that_of_the_file() {
        assert_eq!(loader(false, 1).order(7), (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn dropping_an_epoch_early_ends_its_thread() {
        let loader = loader(true, 1);
        for taken in 0..9 {
            let mut epoch = loader.epoch(0, 0..9);
            (0..taken).for_each(|number| assert_eq!(epoch.next().unwrap().unwrap().number, number));
            drop(epoch);
            assert_eq!(Arc::strong_count(&loader.data), 1); // a thread at work would hold a clone
        }
        let mut done = loader.epoch(0, 0..9);
        assert_eq!(done.by_ref().count(), 9);
        assert!(done.next().is_none());
    }

    #[test]
    fn a_thread_that_fails_ends_the_epoch_with_its_reason() {
        let mut epoch = Epoch::start(3, 1, |sender| {
            sender.send(Ok(Batch { images: Vec::new(), labels: Vec::new(), number: 0 })).unwrap();
            panic!("no more of this");
        });
        assert_eq!(epoch.next().unwrap().unwrap().number, 0);
        let error = epoch.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("loader thread") && error.contains("no more of this"), "{error}");
        assert!(epoch.next().is_none());
    }

    #[test]
    fn batches_are_the_images_of_the_order_changed_by_their_own_draw() {
        let loader = loader(true, 2);
        let order = loader.order(4);
        let table = loader.data.normalise.table();
        for batch in loader.epoch(4, 0..9).map(Result::unwrap) {
            for (i, image) in batch.images.chunks_exact(192).enumerate() {
                let index = order[batch.number * 12 + i] as usize;
                let change = loader.options.augment.draw(9, 4, index);
                let mut expected = vec![0.0; 192];
                write_image(loader.data.train.image(index), 8, 2, change, &table, &mut expected);
                assert_eq!((image, batch.labels[i]), (&*expected, loader.data.train.labels[index]));
            }
        }
    }
}
