//! Made-up data for tests and benches.

use super::{Dataset, ImageSet, Normalise, numbered};
use crate::quant::philox::Stream;

/// `n` training and `n / 4` test images: each class has a pattern of its own, each image is its class's pattern under noise, so that a network can learn them.
pub fn synthetic(n: usize, height: usize, width: usize, channels: usize, classes: usize, seed: u64) -> Dataset {
    let stride = height * width * channels;
    let patterns: Vec<Vec<u8>> = (0..classes)
        .map(|class| {
            let mut stream = Stream::new(seed, class as u64);
            (0..stride).map(|_| (stream.word() >> 24) as u8).collect()
        })
        .collect();
    let part = |n: usize, salt: u64| {
        let labels: Vec<u32> = (0..n).map(|i| (i % classes) as u32).collect();
        let mut stream = Stream::new(seed ^ salt, 1 << 40);
        let images = labels
            .iter()
            .flat_map(|label| patterns[*label as usize].clone())
            .map(|pixel| (u32::from(pixel) / 2 + (stream.word() >> 25)) as u8)
            .collect();
        ImageSet { images, labels, height, width, channels }
    };
    Dataset {
        name: "synthetic".into(),
        classes,
        class_names: numbered(classes),
        train: part(n, 0x1111),
        test: part(n.div_ceil(4), 0x2222),
        normalise: Normalise::new(&vec![0.5; channels], &vec![0.25; channels]),
        flip: false,
        photos: None,
    }
}

/// `n` standard normal numbers.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 0x0153);
    (0..n).map(|_| stream.normal() as f32).collect()
}
