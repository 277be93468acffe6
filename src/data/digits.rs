//! The embedded data set: 1,797 real handwritten digits (UCI, CC BY 4.0; see `digits/README.md`), for a program that works at once and tests that need no file.
//!
//! Pixels 0..16 become 0..255, 8x8 becomes 32x32 bilinearly with half-pixel centres and clamped edges: `source = (target + 0.5) / 4 - 0.5`. In each class every
//! fifth image in the order of the file is a test image.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::{Dataset, ImageSet, Normalise, numbered};
use crate::{Error, Result};

const PACKED: &[u8] = include_bytes!("digits/digits.bin.gz");
const RECORD: usize = 65;
const SIDE: usize = 32;

/// Mean and standard deviation of the resized training images, on 0..1 (a test recomputes them).
const MEAN: f32 = 0.3051;
const STD: f32 = 0.3238;

/// Loads the digits.
pub fn load() -> Result<Dataset> {
    let mut records = Vec::new();
    let path = Path::new("digits (embedded)");
    GzDecoder::new(PACKED).read_to_end(&mut records).map_err(|e| Error::io("unpack", path, e))?;
    let empty = || ImageSet { images: Vec::new(), labels: Vec::new(), height: SIDE, width: SIDE, channels: 1 };
    let (mut train, mut test, mut seen) = (empty(), empty(), [0usize; 10]);
    for record in records.chunks_exact(RECORD) {
        let label = record[0];
        let count = &mut seen[usize::from(label) % 10];
        *count += 1;
        let part = if *count % 5 == 0 { &mut test } else { &mut train };
        part.images.extend(resize(&record[1..]));
        part.labels.push(u32::from(label));
    }
    Dataset {
        name: "digits".into(),
        classes: 10,
        class_names: numbered(10),
        train,
        test,
        normalise: Normalise::new(&[MEAN], &[STD]),
        flip: false,
        photos: None,
    }
    .check(path)
}

/// 8x8 pixels of 0..16 to 32x32 of 0..255.
fn resize(image: &[u8]) -> Vec<u8> {
    let axis = |target: usize| {
        let at = ((target as f32 + 0.5) / 4.0 - 0.5).clamp(0.0, 7.0);
        let low = at as usize;
        (low, (low + 1).min(7), at - low as f32)
    };
    let pixel = |y: usize, x: usize| f32::from(image[y * 8 + x]) * (255.0 / 16.0);
    let mut out = Vec::with_capacity(SIDE * SIDE);
    for (y0, y1, fy) in (0..SIDE).map(axis) {
        for (x0, x1, fx) in (0..SIDE).map(axis) {
            let top = pixel(y0, x0) + (pixel(y0, x1) - pixel(y0, x0)) * fx;
            let bottom = pixel(y1, x0) + (pixel(y1, x1) - pixel(y1, x0)) * fx;
            out.push((top + (bottom - top) * fy).round() as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_is_stratified_and_fixed() {
        let data = load().unwrap();
        let count =
            |set: &ImageSet| (0..10).map(|c| set.labels.iter().filter(|l| **l == c).count()).collect::<Vec<_>>();
        assert_eq!(count(&data.test), [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]);
        assert_eq!(count(&data.train), [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]);
        assert_eq!(data.train.len() + data.test.len(), 1797);
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_training_images() {
        let data = load().unwrap();
        let n = data.train.images.len() as f64;
        let mean = data.train.images.iter().map(|p| f64::from(*p) / 255.0).sum::<f64>() / n;
        let variance = data.train.images.iter().map(|p| (f64::from(*p) / 255.0 - mean).powi(2)).sum::<f64>() / n;
        assert!(
            (mean - f64::from(MEAN)).abs() < 1e-4 && (variance.sqrt() - f64::from(STD)).abs() < 1e-4,
            "{mean} {}",
            variance.sqrt()
        );
    }

    #[test]
    fn resizing_keeps_constants_and_interpolates_between_centres() {
        assert!(resize(&[16; 64]).iter().all(|p| *p == 255));
        let mut image = [0u8; 64];
        image[1] = 16; // row 0, column 1: its centre is at target column 5.5
        let out = resize(&image);
        // Columns 2..6 go from column 0's centre (1.5) to column 1's (5.5): quarters at 2, 3, 4, 5 are 1/8, 3/8, 5/8, 7/8.
        assert_eq!(out[2..6], [32, 96, 159, 223]);
    }
}
