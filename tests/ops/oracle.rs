//! What the oracles share: input data, rounding bounds, and the comparison with its report.

use earlybird::quant::philox::Stream;
use ndarray::{Array, Dimension, IntoDimension, ShapeBuilder};

/// Unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Relative error of a sum of products after `n` roundings in any order, to be multiplied with the sum of the products' magnitudes: Higham, "Accuracy and
/// Stability of Numerical Algorithms", section 3.1, `n*u / (1 - n*u)`. A sum of `t` products has `t` roundings of products and sums and one for the store.
pub fn gamma(n: usize) -> f64 {
    let nu = n as f64 * U;
    nu / (1.0 - nu)
}

/// `len` normal numbers of standard deviation `scale`: a function of `seed` and `what`.
pub fn normal(seed: u64, what: &str, len: usize, scale: f64) -> Vec<f32> {
    let mut stream = Stream::new(seed, earlybird::quant::philox::stream_of(what));
    (0..len).map(|_| (stream.normal() * scale) as f32).collect()
}

/// `len` numbers from {-2, -1.5, .. 2}: many ties and zeros.
pub fn coarse(seed: u64, what: &str, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, earlybird::quant::philox::stream_of(what));
    (0..len).map(|_| stream.below(9) as f32 / 2.0 - 2.0).collect()
}

/// f32 data as an array of f64, exactly.
pub fn array<D: Dimension>(dims: impl IntoDimension<Dim = D>, data: &[f32]) -> Array<f64, D> {
    Array::from_shape_vec(dims.into_dimension().into_shape_with_order(), data.iter().map(|v| f64::from(*v)).collect())
        .unwrap()
}

/// Every element must lie within its bound of the oracle's; NaN never does. Says the worst.
pub fn close<D: Dimension>(what: &str, got: &[f32], want: &Array<f64, D>, bound: &Array<f64, D>) {
    assert_eq!((got.len(), bound.len()), (want.len(), want.len()), "{what}: lengths");
    let excess = |(got, (want, bound)): (&f32, (&f64, &f64))| (f64::from(*got) - want).abs() - bound;
    let all: Vec<f64> = got.iter().zip(want.iter().zip(bound)).map(excess).collect();
    let bad = all.iter().filter(|e| e.is_nan() || **e > 0.0).count();
    let worst = all.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
    if bad > 0 {
        let (want, bound) = (want.iter().nth(worst).unwrap(), bound.iter().nth(worst).unwrap());
        panic!(
            "{what}: {bad} of {} are off; worst at {worst}: {:e} for {want:e}, allowed {bound:e}",
            all.len(),
            got[worst]
        );
    }
}

/// Every element must be the oracle's (`==`, and NaN where it has NaN).
pub fn exact<T: PartialOrd + Copy + std::fmt::Debug>(what: &str, got: &[T], want: &[T]) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    let nan = |v: &T| v.partial_cmp(v).is_none();
    if let Some(i) = got.iter().zip(want).position(|(got, want)| got != want && !(nan(got) && nan(want))) {
        panic!("{what}: {:?} for {:?} at {i} of {}", got[i], want[i], got.len());
    }
}

/// Channel counts around the widths of vectors and tiles.
pub const CHANNELS: [usize; 16] = [1, 2, 3, 4, 7, 8, 11, 12, 15, 16, 17, 31, 32, 33, 37, 64];
