//! Which part of a photograph becomes an input, and at which size: torchvision's `RandomResizedCrop` for training, `Resize` and `CenterCrop` for evaluation.
//!
//! Rules and constants are those of torchvision.transforms (RandomResizedCrop with scale 0.08 to 1 and ratio 3/4 to 4/3, ten tries, then the largest middle crop of an
//! allowed ratio); the random numbers are ours. Pixels are scaled as Pillow scales them: a triangle filter that widens with the reduction (antialiasing), rounded to 8
//! bits between the two passes, within one level of Pillow's.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::picture::Picture;
use crate::quant::philox::Stream;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Columns to its left.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Least and largest share of the image's area.
const AREA: (f64, f64) = (0.08, 1.0);
/// Least and largest width per height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
const TRIES: usize = 10;

/// A random part of a `width` x `height` image.
pub fn random(stream: &mut Stream, width: u32, height: u32) -> Crop {
    let between = |u: f64, (low, high): (f64, f64)| low + u * (high - low);
    let (full_width, full_height) = (f64::from(width), f64::from(height));
    for _ in 0..TRIES {
        let area = full_width * full_height * between(stream.unit(), AREA);
        let ratio = between(stream.unit(), (RATIO.0.ln(), RATIO.1.ln())).exp();
        let (w, h) = ((area * ratio).sqrt().round_ties_even(), (area / ratio).sqrt().round_ties_even());
        if (1.0..=full_width).contains(&w) && (1.0..=full_height).contains(&h) {
            let (w, h) = (w as u32, h as u32);
            let top = stream.below(height - h + 1);
            return Crop { left: stream.below(width - w + 1), top, width: w, height: h };
        }
    }
    let ratio = full_width / full_height;
    let (w, h) = if ratio < RATIO.0 {
        (width, (full_width / RATIO.0).round_ties_even() as u32)
    } else if ratio > RATIO.1 {
        ((full_height * RATIO.1).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// Scales pictures; it keeps its scratch memory.
#[derive(Default)]
pub struct Scaler {
    resizer: Resizer,
}

impl Scaler {
    /// `crop` of `picture`, scaled to `side` x `side`, in `out` (`side * side * 3` bytes). Nothing outside the crop is looked at.
    ///
    /// # Errors
    /// In words, where the crop does not lie in the picture or `out` has another length.
    pub fn train(&mut self, picture: &Picture, crop: Crop, side: u32, out: &mut [u8]) -> Result<(), String> {
        self.scale(picture, crop, &bilinear(), side, side, out)
    }

    /// The middle `side` x `side` of `picture`, scaled so that its shorter side is `resize` (at least `side`). Only that part is computed, so that a picture of 1 x 100,000
    /// pixels costs no more than others.
    ///
    /// # Errors
    /// As [`Scaler::train`].
    pub fn evaluate(&mut self, picture: &Picture, resize: u32, side: u32, out: &mut [u8]) -> Result<(), String> {
        let (width, height) = scaled(picture.width, picture.height, resize);
        // torchvision: int(round((size - crop) / 2)), which rounds halves to even.
        let middle = |size: u64| (size.saturating_sub(side.into()) as f64 / 2.0).round_ties_even();
        let step = |from: u32, to: u64| f64::from(from) / to as f64;
        let (x, y) = (step(picture.width, width), step(picture.height, height));
        let (left, top) = (middle(width) * x, middle(height) * y);
        let part = |step: f64, start: f64, size: u32| (f64::from(side) * step).min(f64::from(size) - start);
        let options = bilinear().crop(left, top, part(x, left, picture.width), part(y, top, picture.height));
        self.scale(picture, whole(picture), &options, side, side, out)
    }

    /// `picture` with its shorter side at most `side`.
    ///
    /// # Errors
    /// In words; none is known.
    pub fn shrink(&mut self, picture: Picture, side: u32) -> Result<Picture, String> {
        if side == 0 || picture.width.min(picture.height) <= side {
            return Ok(picture);
        }
        let (width, height) = scaled(picture.width, picture.height, side);
        let (width, height) = (width as u32, height as u32); // smaller than the picture's own
        let mut rgb = vec![0; width as usize * height as usize * 3];
        self.scale(&picture, whole(&picture), &bilinear(), width, height, &mut rgb)?;
        Ok(Picture { width, height, rgb })
    }

    /// `crop` of `picture` as `width` x `height` pixels in `out`. All scaling goes through here, by the typed call: the untyped one compiles each of the crate's 13 kinds
    /// of pixels for each kind of image into this crate, a third of all its code.
    fn scale(
        &mut self,
        picture: &Picture,
        crop: Crop,
        options: &ResizeOptions,
        width: u32,
        height: u32,
        out: &mut [u8],
    ) -> Result<(), String> {
        let image = TypedImageRef::<U8x3>::from_buffer(picture.width, picture.height, &picture.rgb).map_err(text)?;
        let part = TypedCroppedImage::from_ref(&image, crop.left, crop.top, crop.width, crop.height).map_err(text)?;
        let mut out = TypedImage::<U8x3>::from_buffer(width, height, out).map_err(text)?;
        self.resizer.resize_typed(&part, &mut out, options).map_err(text)
    }
}

/// Size with `shorter` as the shorter side; the other one is rounded down, as torchvision does.
fn scaled(width: u32, height: u32, shorter: u32) -> (u64, u64) {
    let other = |long: u32, short: u32| u64::from(shorter) * u64::from(long) / u64::from(short.max(1));
    if width <= height { (shorter.into(), other(height, width)) } else { (other(width, height), shorter.into()) }
}

fn bilinear() -> ResizeOptions {
    ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false)
}

fn whole(picture: &Picture) -> Crop {
    Crop { left: 0, top: 0, width: picture.width, height: picture.height }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crops(width: u32, height: u32, n: usize) -> Vec<Crop> {
        let mut stream = Stream::new(1, 2);
        (0..n).map(|_| random(&mut stream, width, height)).collect()
    }

    #[test]
    fn crops_have_torchvisions_distribution() {
        let all = crops(500, 375, 20_000);
        let mean = |f: &dyn Fn(&Crop) -> f64| all.iter().map(f).sum::<f64>() / all.len() as f64;
        let area = |c: &Crop| f64::from(c.width) * f64::from(c.height) / (500.0 * 375.0);
        let ratio = |c: &Crop| (f64::from(c.width) / f64::from(c.height)).ln();
        assert!(all.iter().all(|c| c.left + c.width <= 500 && c.top + c.height <= 375));
        assert!(all.iter().all(|c| (0.079..=1.0).contains(&area(c)) && ratio(c).abs() < 0.30));
        // Means of 100,000 draws of torchvision 0.29 on this size, good to 0.0007 and 0.0005; these 20,000 are good to 0.0015 and 0.0012.
        assert!((mean(&area) - 0.4338).abs() < 0.007, "area {}", mean(&area));
        assert!((mean(&ratio) - 0.0310).abs() < 0.006, "log ratio {}", mean(&ratio));
        // Places are uniform: in the mean the crop lies in the middle.
        let off_middle = |c: &Crop| f64::from(c.left) - f64::from(500 - c.width) / 2.0;
        assert!(mean(&off_middle).abs() < 2.0);
    }

    #[test]
    fn extreme_shapes_fall_back_to_the_middle() {
        assert!(crops(1, 1, 50).iter().all(|c| *c == Crop { left: 0, top: 0, width: 1, height: 1 }));
        for crop in crops(1000, 10, 200) {
            assert!(crop.height <= 10 && crop.width <= 14, "{crop:?}");
        }
        let mut fallback = crops(100_000, 1, 20);
        fallback.retain(|c| *c == Crop { left: 49_999, top: 0, width: 1, height: 1 });
        assert!(!fallback.is_empty());
    }

    #[test]
    fn scaling_keeps_flat_pictures_and_ramps() {
        let flat = Picture { width: 300, height: 200, rgb: [10, 200, 77].repeat(60_000) };
        let ramp = |width: u32, height: u32| Picture {
            width,
            height,
            rgb: (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, 7])).collect(),
        };
        let mut scaler = Scaler::default();
        let mut out = vec![0; 64 * 64 * 3];
        scaler.evaluate(&flat, 73, 64, &mut out).unwrap();
        assert!(out.chunks_exact(3).all(|p| *p == [10, 200, 77]));
        scaler.train(&flat, Crop { left: 3, top: 9, width: 31, height: 120 }, 64, &mut out).unwrap();
        assert!(out.chunks_exact(3).all(|p| *p == [10, 200, 77]));
        // Shorter side 256 of 256 rows: nothing is scaled, and the middle of 250 x 256 columns begins at 13 and 16.
        let mut whole = vec![0; 224 * 224 * 3];
        scaler.evaluate(&ramp(250, 250), 250, 224, &mut whole).unwrap();
        assert_eq!(whole[..3], [13, 13, 7]);
        assert_eq!(whole[(224 * 224 - 1) * 3..], [236, 236, 7]);
    }

    #[test]
    fn a_long_thin_picture_costs_no_more_than_others() {
        let thin = Picture { width: 60_000, height: 1, rgb: vec![9; 180_000] };
        let mut out = vec![0; 32 * 32 * 3];
        let mut scaler = Scaler::default();
        scaler.evaluate(&thin, 36, 32, &mut out).unwrap();
        assert!(out.iter().all(|byte| *byte == 9));
        let small = scaler.shrink(Picture { width: 400, height: 200, rgb: vec![3; 240_000] }, 50).unwrap();
        assert_eq!((small.width, small.height, small.rgb.len()), (100, 50, 15_000));
        assert!(scaler.train(&small, Crop { left: 90, top: 0, width: 11, height: 5 }, 32, &mut out).is_err());
    }

    /// `resized_crop` of torchvision on Pillow's images (tests/data/make_photos.py): parts that are reduced, enlarged, and of one pixel.
    #[test]
    fn parts_are_scaled_as_torchvision_does_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/fixtures/photos.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensor = |case: &str, key: &str| file.tensor(&format!("{case}/{key}")).unwrap().data().to_vec();
        for (case, most) in
            [("png", 1), ("wide", 1), ("small", 1), ("one", 0), ("line", 1), ("jpeg", 2), ("jpeg420", 8)]
        {
            let picture = super::super::picture::decode(&tensor(case, "file")).unwrap();
            let apart = |got: &[u8], want: &[u8]| got.iter().zip(want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            let decoded = apart(&picture.rgb, &tensor(case, "rgb"));
            let number = |i: usize| u32::from_le_bytes(tensor(case, "box")[4 * i..4 * i + 4].try_into().unwrap());
            let crop = Crop { top: number(0), left: number(1), height: number(2), width: number(3) };
            let mut out = vec![0; 32 * 32 * 3];
            Scaler::default().train(&picture, crop, 32, &mut out).unwrap();
            let off = apart(&out, &tensor(case, "crop"));
            assert!(off <= most, "{case}: {off} levels off, {decoded} as decoded");
        }
    }
}
