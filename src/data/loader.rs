//! Batches, made ahead by a background thread.
//!
//! The order of an epoch is a Fisher–Yates shuffle from (seed, epoch); crops and flips come from (seed, epoch, index in the data set). A batch is therefore the same
//! whoever makes it and whenever, and an epoch can begin at any batch.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::augment::{Augment, Normalise, write_image};
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
    part: fn(&Dataset) -> &ImageSet,
    options: LoaderOptions,
    table: Arc<Vec<[f32; 256]>>,
}

impl Loader {
    /// Over the training images.
    pub fn train(data: &Arc<Dataset>, options: LoaderOptions) -> Result<Loader> {
        Loader::new(data, |data| &data.train, options)
    }

    /// Over the test images.
    pub fn test(data: &Arc<Dataset>, options: LoaderOptions) -> Result<Loader> {
        Loader::new(data, |data| &data.test, options)
    }

    fn new(data: &Arc<Dataset>, part: fn(&Dataset) -> &ImageSet, options: LoaderOptions) -> Result<Loader> {
        let Normalise { mean, std } = &data.normalise;
        let channels = part(data).channels;
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

    fn set(&self) -> &ImageSet {
        (self.part)(&self.data)
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

    /// Batch `number` of the epoch with this `order`.
    fn batch(&self, order: &[u32], epoch: usize, number: usize) -> Batch {
        let (set, LoaderOptions { batch_size, augment, seed, .. }) = (self.set(), self.options);
        let start = number * batch_size;
        let indices = &order[start..(start + batch_size).min(order.len())];
        let mut images = vec![0.0; indices.len() * set.stride()];
        for (index, out) in indices.iter().zip(images.chunks_exact_mut(set.stride().max(1))) {
            let change = augment.draw(seed, epoch, *index as usize);
            write_image(set.image(*index as usize), set.width, augment.pad, change, &self.table, out);
        }
        Batch { images, labels: indices.iter().map(|i| set.labels[*i as usize]).collect(), number }
    }

    /// The batches of `epoch` from `first` on, made ahead in the background; the thread ends when the iterator is dropped.
    pub fn epoch(&self, epoch: usize, first: usize) -> Epoch {
        let (sender, receiver): (SyncSender<Batch>, _) = sync_channel(self.options.prefetch.max(1));
        let loader = self.clone();
        let expected = first..self.batches();
        let range = expected.clone();
        let made = std::thread::Builder::new().name("loader".into()).spawn(move || {
            let order = loader.order(epoch);
            for number in range {
                if sender.send(loader.batch(&order, epoch, number)).is_err() {
                    return; // nobody listens any more
                }
            }
        });
        Epoch { receiver, remaining: expected.len(), failed: made.err() }
    }
}

/// The rest of an epoch.
pub struct Epoch {
    receiver: Receiver<Batch>,
    remaining: usize,
    failed: Option<std::io::Error>,
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let what = "the loader thread";
        if let Some(error) = self.failed.take() {
            self.remaining = 0;
            return Some(Err(Error::io("start", what, error)));
        }
        self.remaining = self.remaining.checked_sub(1)?;
        Some(self.receiver.recv().map_err(|_| Error::io("hear from", what, std::io::ErrorKind::BrokenPipe.into())))
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
        let sizes: Vec<usize> = loader.epoch(5, 0).map(|batch| batch.unwrap().labels.len()).collect();
        assert_eq!((sizes.len(), sizes[..8].to_vec(), sizes[8]), (9, vec![12; 8], 4));
        assert_ne!(order, loader.order(6));
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn resuming_in_the_middle_gives_the_same_batches_whatever_is_made_ahead() {
        let whole: Vec<Batch> = loader(true, 1).epoch(3, 0).map(Result::unwrap).collect();
        for first in 0..9 {
            let rest: Vec<Batch> = loader(true, 4).epoch(3, first).map(Result::unwrap).collect();
            assert_eq!(rest, whole[first..]);
        }
    }

    #[test]
    fn without_shuffling_the_order_is_that_of_the_file() {
        assert_eq!(loader(false, 1).order(7), (0..100).collect::<Vec<u32>>());
    }

    #[test]
    fn dropping_an_epoch_early_ends_its_thread() {
        let loader = loader(true, 1);
        for _ in 0..50 {
            let _ = loader.epoch(0, 0).next();
        }
        // 50 threads blocked for ever would hold 50 clones of the data.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(Arc::strong_count(&loader.data) < 10, "{}", Arc::strong_count(&loader.data));
    }
}
