//! augment: batches made on the device are those of the host's loader, bit for bit; images that are not there are reported.

use std::sync::Arc;

use earlybird::backend::{AugmentSource, Memory};
use earlybird::data::{Augment as Change, Dataset, Loader, LoaderOptions, Normalise, noise, synthetic};
use earlybird::ops::advance::StepState;
use earlybird::ops::augment::Augment;
use earlybird::quant::philox::key;
use proptest::prelude::*;

use crate::device::Device;

for_each_device!(
    random_batches_are_the_loaders,
    more_than_one_block_of_an_image,
    images_that_are_not_there_are_reported
);

/// A data set on a device, with the spans of one call.
struct Fed {
    p: Augment,
    images: Memory,
    labels: Memory,
    mean: Memory,
    std: Memory,
}

impl Fed {
    fn new(device: &Device, data: &Dataset, change: Change, seed: u64) -> Fed {
        let set = &data.train;
        let p = Augment {
            seed: key(Change::key(seed)),
            n: 0,
            h: set.height as u32,
            w: set.width as u32,
            c: set.channels as u32,
            count: set.len() as u32,
            order: 0,
            pad: change.pad as u32,
            crop: u32::from(change.crop),
            flip: u32::from(change.flip),
        };
        let Normalise { mean, std } = &data.normalise;
        // Room for whole words: images need not come in fours.
        let mut bytes = set.images.clone();
        bytes.resize(bytes.len().next_multiple_of(4), 0xff);
        let (images, labels) = (device.put(&bytes), device.put(&set.labels));
        Fed { p, images, labels, mean: device.put(mean), std: device.put(std) }
    }

    /// `n` images from `state.cursor` on.
    fn batch(
        &self,
        device: &Device,
        order: &[u32],
        n: usize,
        state: StepState,
    ) -> earlybird::Result<(Vec<f32>, Vec<u32>)> {
        let p = Augment { n: n as u32, order: order.len() as u32, ..self.p };
        let (order, state) = (device.put(order), device.put(&[state]));
        let from = AugmentSource {
            images: self.images.all(),
            labels: self.labels.all(),
            order: order.all(),
            state: state.all(),
            mean: self.mean.all(),
            std: self.std.all(),
        };
        let (images, labels) = (device.out(n * p.elements()), device.out(n));
        device.backend.augment_fwd_f32(&p, from, images.all(), labels.all())?;
        Ok((device.get(&images), device.get(&labels)))
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// A data set of random bytes, so that a wrong pixel is seen.
fn dataset(n: usize, h: usize, w: usize, c: usize, seed: u64) -> Dataset {
    let mut data = synthetic(n, h, w, c, 5, seed);
    let random = noise(data.train.images.len(), seed);
    data.train.images = random.iter().map(|v| (v.to_bits() >> 3) as u8).collect();
    data.train.labels = (0..n as u32).map(|i| (i * i + i / 3) % 5).collect();
    let constants = |first: f32| (0..c).map(|i| first + i as f32 * 0.037).collect::<Vec<f32>>();
    data.normalise = Normalise::new(&constants(0.4321), &constants(0.2023));
    data
}

fn agree(device: &Device, data: Dataset, change: Change, batch_size: usize, epoch: usize, seed: u64) {
    let fed = Fed::new(device, &data, change, seed);
    let options = LoaderOptions { batch_size, shuffle: true, augment: change, seed, prefetch: 1 };
    let loader = Loader::train(&Arc::new(data), options).unwrap();
    let order = loader.order(epoch);
    for want in loader.epoch(epoch, 0..3).map(Result::unwrap) {
        let cursor = (want.number * batch_size) as u32;
        let state = StepState { epoch: epoch as u32, cursor, step: 1 << 40, lr: 0.5, slot: 3 };
        let (images, labels) = fed.batch(device, &order, want.labels.len(), state).unwrap();
        let what = format!("{}: batch {} of {:?}", device.name, want.number, fed.p);
        assert_eq!(labels, want.labels, "{what}");
        assert_eq!(bits(&images), bits(&want.images), "{what}");
    }
}

fn random_batches_are_the_loaders(device: &Device) {
    let shape = (1usize..=9, 1usize..=9, prop_oneof![Just(3usize), 1usize..=5]);
    let change = (0usize..=5, any::<bool>(), any::<bool>());
    let sizes = (1usize..=20, 1usize..=7, prop_oneof![0usize..=3, Just(70_000)]);
    device.check((shape, change, sizes, any::<u64>()), |((h, w, c), (pad, crop, flip), (n, batch, epoch), seed)| {
        agree(device, dataset(n, h, w, c, seed), Change { pad, crop, flip }, batch, epoch, seed);
    });
}

/// Images larger than what a block makes, with a last part that is not full: one in fours, one not.
fn more_than_one_block_of_an_image(device: &Device) {
    agree(device, dataset(3, 41, 35, 3, 1), Change { pad: 4, crop: true, flip: true }, 2, 5, 1);
    agree(device, dataset(3, 44, 32, 3, 2), Change { pad: 4, crop: true, flip: true }, 2, 5, 1);
}

fn images_that_are_not_there_are_reported(device: &Device) {
    let data = dataset(4, 5, 3, 3, 1);
    let fed = Fed::new(device, &data, Change::none(), 1);
    // An image behind the data set's end; an order that ends too early; a cursor far behind its end.
    for (order, cursor, bad) in
        [(&[0, 4, 1][..], 0, [1].to_vec()), (&[0, 1], 1, vec![1, 2]), (&[2], u32::MAX, vec![0, 1, 2])]
    {
        let made = fed.batch(device, order, 3, StepState { cursor, ..StepState::default() });
        if device.checks_indices {
            let message = made.expect_err("must be refused").to_string();
            assert!(message.contains("augment") && message.contains("image"), "{message}");
            continue;
        }
        let (images, labels) = made.unwrap();
        for (i, image) in images.chunks_exact(45).enumerate() {
            assert_eq!(labels[i] == Augment::NO_LABEL, bad.contains(&i), "{labels:?}");
            let black = (0..45).all(|e| image[e] == (0.0 - data.normalise.mean[e % 3]) / data.normalise.std[e % 3]);
            assert_eq!(black, bad.contains(&i));
        }
    }
}
