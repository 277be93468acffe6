//! From u8 images to normalised f32, with random crops and flips on the way.
//!
//! Order as in the official code (early-bird.md 1.1): pad the u8 image with zeros, crop, flip, scale to 0..1, subtract the mean, divide by the deviation. The
//! padding is thus black *before* normalisation.

use super::ImageSet;
use crate::quant::philox::Stream;

/// Mean and standard deviation per channel, on pixels scaled to 0..1.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalise {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel.
    pub std: Vec<f32>,
}

impl Normalise {
    /// From slices of equal length.
    pub fn new(mean: &[f32], std: &[f32]) -> Normalise {
        Normalise { mean: mean.to_vec(), std: std.to_vec() }
    }

    /// The official constants, used for CIFAR-10 and CIFAR-100 alike.
    pub fn cifar() -> Normalise {
        Normalise::new(&[0.4914, 0.4822, 0.4465], &[0.2023, 0.1994, 0.2010])
    }

    /// torchvision's constants for ImageNet.
    pub fn imagenet() -> Normalise {
        Normalise::new(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225])
    }

    /// Of the images of `set`, computed in f64. A channel without any contrast gets the deviation 1/255, so that nothing is divided by zero.
    pub fn of(set: &ImageSet) -> Normalise {
        let mut counts = vec![[0u64; 256]; set.channels];
        for pixel in set.images.chunks_exact(set.channels.max(1)) {
            counts.iter_mut().zip(pixel).for_each(|(count, byte)| count[usize::from(*byte)] += 1);
        }
        let moments = counts.iter().map(|count| {
            let n = count.iter().sum::<u64>().max(1) as f64;
            let sum = |f: &dyn Fn(f64) -> f64| (0..256).map(|b| count[b] as f64 * f(b as f64 / 255.0)).sum::<f64>();
            let mean = sum(&|v| v) / n;
            (mean as f32, (sum(&|v| (v - mean) * (v - mean)) / n).sqrt().max(1.0 / 255.0) as f32)
        });
        let (mean, std) = moments.unzip();
        Normalise { mean, std }
    }

    /// Normalised value of every byte in every channel, `[channel][byte]`: `(byte/255 - mean) / std`, each step rounded to f32 as in torchvision.
    pub fn table(&self) -> Vec<[f32; 256]> {
        let channel = |(mean, std): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(channel).collect()
    }
}

/// Random changes to training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augment {
    /// Zeros added at each side before the crop.
    pub pad: usize,
    /// Crop back to the image's size at a random place; otherwise in the middle. Of photographs ([`crate::data::photos`]) a random part at a random scale, without padding.
    pub crop: bool,
    /// Mirror every second image, left to right.
    pub flip: bool,
}

impl Augment {
    /// No changes.
    pub fn none() -> Augment {
        Augment { pad: 0, crop: false, flip: false }
    }

    /// The official augmentation for CIFAR: pad 4, random crop, flip.
    pub fn cifar() -> Augment {
        Augment { pad: 4, crop: true, flip: true }
    }

    /// Pad 4 and random crop, no flip: a mirrored digit is another sign.
    pub fn digits() -> Augment {
        Augment { pad: 4, crop: true, flip: false }
    }

    /// Key of the random bits of a run with this seed: Philox4x32-10, counter (0, 0, index, epoch), gives the words of an image's change.
    pub fn key(seed: u64) -> u64 {
        seed ^ 0xA06_3E17
    }

    /// The change for image `index` in `epoch`: (rows down, columns right, mirrored), offsets within 0..=2*pad.
    pub fn draw(&self, seed: u64, epoch: usize, index: usize) -> (usize, usize, bool) {
        let mut stream = Stream::new(Augment::key(seed), (epoch as u64) << 32 | index as u64);
        let (down, right, mirror) = (stream.word(), stream.word(), stream.word());
        let offset = |word: u32| {
            if self.crop { ((u64::from(word) * (2 * self.pad as u64 + 1)) >> 32) as usize } else { self.pad }
        };
        (offset(down), offset(right), self.flip && mirror >> 31 == 1)
    }
}

/// Writes one image, cropped and mirrored as `change` says, normalised by `table`, to `out` (HWC).
pub fn write_image(
    image: &[u8],
    width: usize,
    pad: usize,
    change: (usize, usize, bool),
    table: &[[f32; 256]],
    out: &mut [f32],
) {
    let channels = table.len();
    let height = image.len() / (width * channels);
    let (down, right, mirror) = change;
    for y in 0..height {
        let row = &mut out[y * width * channels..][..width * channels];
        let source = (y + down).checked_sub(pad).filter(|y| *y < height);
        for x in 0..width {
            let column = if mirror { width - 1 - x } else { x };
            let from = (column + right).checked_sub(pad).filter(|x| *x < width);
            let pixel = source.zip(from).map(|(y, x)| &image[(y * width + x) * channels..][..channels]);
            for (c, (value, table)) in row[x * channels..][..channels].iter_mut().zip(table).enumerate() {
                *value = table[pixel.map_or(0, |pixel| pixel[c] as usize)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_black_before_normalisation_and_crops_move_the_image() {
        let image: Vec<u8> = (0..16).map(|i| i * 10 + 5).collect();
        let table = Normalise::new(&[0.5], &[0.25]).table();
        let mut out = [0.0; 16];
        // Offset 0 of 0..=2 with pad 1 takes the window that starts in the padding: the image moves down and right by one.
        write_image(&image, 4, 1, (0, 0, false), &table, &mut out);
        let black = (0.0 - 0.5) / 0.25;
        for y in 0..4 {
            for x in 0..4 {
                let want =
                    if y == 0 || x == 0 { black } else { (f32::from(image[(y - 1) * 4 + x - 1]) / 255.0 - 0.5) / 0.25 };
                assert_eq!(out[y * 4 + x], want);
            }
        }
        let mut mirrored = [0.0; 16];
        write_image(&image, 4, 1, (1, 1, true), &table, &mut mirrored);
        assert_eq!(mirrored[0], (f32::from(image[3]) / 255.0 - 0.5) / 0.25);
    }

    #[test]
    fn changes_depend_on_seed_epoch_and_index_only_and_cover_all_offsets() {
        let augment = Augment::cifar();
        let all: Vec<_> = (0..2000).map(|i| augment.draw(1, 3, i)).collect();
        assert_eq!(all, (0..2000).map(|i| augment.draw(1, 3, i)).collect::<Vec<_>>());
        assert_ne!(all, (0..2000).map(|i| augment.draw(1, 4, i)).collect::<Vec<_>>());
        assert_ne!(all, (0..2000).map(|i| augment.draw(2, 3, i)).collect::<Vec<_>>());
        for offset in 0..=8 {
            assert!(all.iter().any(|c| c.0 == offset) && all.iter().any(|c| c.1 == offset));
        }
        let mirrored = all.iter().filter(|c| c.2).count();
        assert!((900..1100).contains(&mirrored), "{mirrored}");
        assert_eq!(Augment::none().draw(1, 3, 7), (0, 0, false));
    }
}
