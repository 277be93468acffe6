//! The loops of batchnorm over a run of rows, all channels: statistics, normalisation, gradient sums and gradient.
//!
//! Channels go by in blocks of up to four vectors, the last one masked, and per-channel numbers stay in registers while the rows of a run pass by. No
//! multiplication is fused with an addition, so that every instruction set computes the same bits. Not here: how runs are combined ([`super`]).

use super::super::simd::{Vector, for_every_path};

/// Vectors per block of channels.
const VECTORS: usize = 4;

/// Calls `$block::<V, NV, ..>($args.., first, lanes)` for every block of `c` channels: `first` is its first channel, `lanes` how many of its last vector.
macro_rules! blocks {
    ($c:expr, $block:ident::<V $(, $generic:ident)*>($($arg:expr),*)) => {{
        let c = $c;
        let mut first = 0;
        while first < c {
            let vectors = (c - first).div_ceil(V::LANES).min(VECTORS);
            let lanes = (c - first - (vectors - 1) * V::LANES).min(V::LANES);
            // SAFETY: channels first..first + (vectors - 1) * LANES + lanes are below c; the rest is the caller's promise.
            unsafe {
                match vectors {
                    1 => $block::<V, 1 $(, $generic)*>($($arg,)* first, lanes),
                    2 => $block::<V, 2 $(, $generic)*>($($arg,)* first, lanes),
                    3 => $block::<V, 3 $(, $generic)*>($($arg,)* first, lanes),
                    _ => $block::<V, VECTORS $(, $generic)*>($($arg,)* first, lanes),
                }
            }
            first += (vectors - 1) * V::LANES + lanes;
        }
    }};
}

/// `NV` vectors from `at` on, the last one of `lanes` lanes.
///
/// # Safety
/// Valid for that many elements, on a machine that has `V`.
#[inline(always)]
unsafe fn load<V: Vector, const NV: usize>(at: *const f32, lanes: usize) -> [V; NV] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|j| unsafe {
        let at = at.add(j * V::LANES);
        if j + 1 < NV { V::load(at) } else { V::load_first(at, lanes) }
    })
}

/// As [`load`], the other way.
///
/// # Safety
/// As [`load`].
#[inline(always)]
unsafe fn store<V: Vector, const NV: usize>(values: [V; NV], at: *mut f32, lanes: usize) {
    for (j, value) in values.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { value.store_first(at.add(j * V::LANES), if j + 1 < NV { V::LANES } else { lanes }) };
    }
}

for_every_path! {
    /// Mean of the rows of `x` and the sum of squared deviations from it, per channel.
    ///
    /// # Safety
    /// `x` holds whole rows of `mean.len()` channels, at least one; `deviations` is as long as `mean`.
    fn statistics = all_statistics(x: &[f32], mean: &mut [f32], deviations: &mut [f32])
}

#[inline(always)]
unsafe fn all_statistics<V: Vector>(x: &[f32], mean: &mut [f32], deviations: &mut [f32]) {
    blocks!(mean.len(), block_statistics::<V>(x, mean, deviations));
}

#[inline(always)]
unsafe fn block_statistics<V: Vector, const NV: usize>(
    x: &[f32],
    mean: &mut [f32],
    deviations: &mut [f32],
    first: usize,
    lanes: usize,
) {
    let c = mean.len();
    let rows = x.len() / c;
    // SAFETY: every access is to channels of this block in one of the rows.
    unsafe {
        let mut sums = [V::zero(); NV];
        for row in 0..rows {
            let x: [V; NV] = load(x.as_ptr().add(row * c + first), lanes);
            for j in 0..NV {
                sums[j] = sums[j].add(x[j]);
            }
        }
        store(sums, mean.as_mut_ptr().add(first), lanes);
        for sum in &mut mean[first..first + (NV - 1) * V::LANES + lanes] {
            *sum /= rows as f32;
        }
        let centre: [V; NV] = load(mean.as_ptr().add(first), lanes);
        let mut sums = [V::zero(); NV];
        for row in 0..rows {
            let x: [V; NV] = load(x.as_ptr().add(row * c + first), lanes);
            for j in 0..NV {
                let delta = x[j].sub(centre[j]);
                sums[j] = sums[j].add(delta.mul(delta));
            }
        }
        store(sums, deviations.as_mut_ptr().add(first), lanes);
    }
}

for_every_path! {
    /// `y = scale * x + shift` per channel, then ReLU if wanted.
    ///
    /// # Safety
    /// `x` and `y` hold as many whole rows of `scale.len()` channels; `shift` is as long as `scale`.
    fn affine = all_affine(x: &[f32], y: &mut [f32], scale: &[f32], shift: &[f32], relu: bool)
}

#[inline(always)]
unsafe fn all_affine<V: Vector>(x: &[f32], y: &mut [f32], scale: &[f32], shift: &[f32], relu: bool) {
    let (from, to) = (x.as_ptr(), y.as_mut_ptr());
    blocks!(scale.len(), block_affine::<V>(from, to, y.len(), scale.len(), scale, shift, relu));
}

for_every_path! {
    /// As [`affine`], in place, on the first `scale.len()` channels of rows of `stride`.
    ///
    /// # Safety
    /// `y` holds rows of `stride`, the last one of at least `scale.len()` channels; `shift` is as long as `scale`.
    fn strided_affine = all_strided(y: &mut [f32], stride: usize, scale: &[f32], shift: &[f32], relu: bool)
}

#[inline(always)]
unsafe fn all_strided<V: Vector>(y: &mut [f32], stride: usize, scale: &[f32], shift: &[f32], relu: bool) {
    let both = y.as_mut_ptr();
    blocks!(scale.len(), block_affine::<V>(both, both, y.len(), stride, scale, shift, relu));
}

/// The affine map from `x` to `y`, which may be the same, over `length` elements.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block_affine<V: Vector, const NV: usize>(
    x: *const f32,
    y: *mut f32,
    length: usize,
    stride: usize,
    scale: &[f32],
    shift: &[f32],
    relu: bool,
    first: usize,
    lanes: usize,
) {
    // SAFETY: every access is to channels of this block in one of the rows.
    unsafe {
        let scale: [V; NV] = load(scale.as_ptr().add(first), lanes);
        let shift: [V; NV] = load(shift.as_ptr().add(first), lanes);
        for at in (first..length).step_by(stride) {
            let mut values: [V; NV] = load(x.add(at), lanes);
            for j in 0..NV {
                values[j] = values[j].mul(scale[j]).add(shift[j]);
                if relu {
                    values[j] = values[j].rectify();
                }
            }
            store(values, y.add(at), lanes);
        }
    }
}

/// What the gradient kernels read: input, forward output (the ReLU's mask), output gradient, each rows of `mean.len()` channels.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub x: &'a [f32],
    pub y: &'a [f32],
    pub mean: &'a [f32],
    pub relu: bool,
}

for_every_path! {
    /// Sums of dy and of dy*(x - mean) per channel; dy counts where the ReLU let it pass.
    ///
    /// # Safety
    /// `rows` and `dy` hold as many whole rows; `sum` and `dot` are as long as the mean.
    fn gradient_sums = all_sums(rows: Rows, dy: &[f32], sum: &mut [f32], dot: &mut [f32])
}

#[inline(always)]
unsafe fn all_sums<V: Vector>(rows: Rows, dy: &[f32], sum: &mut [f32], dot: &mut [f32]) {
    blocks!(sum.len(), block_sums::<V>(rows, dy, sum, dot));
}

#[inline(always)]
unsafe fn block_sums<V: Vector, const NV: usize>(
    rows: Rows,
    dy: &[f32],
    sum: &mut [f32],
    dot: &mut [f32],
    first: usize,
    lanes: usize,
) {
    // SAFETY: every access is to channels of this block in one of the rows.
    unsafe {
        let mean: [V; NV] = load(rows.mean.as_ptr().add(first), lanes);
        let (mut sums, mut dots) = ([V::zero(); NV], [V::zero(); NV]);
        for at in (first..dy.len()).step_by(rows.mean.len()) {
            let gradient = masked::<V, NV>(rows, dy.as_ptr(), at, lanes);
            let x: [V; NV] = load(rows.x.as_ptr().add(at), lanes);
            for j in 0..NV {
                sums[j] = sums[j].add(gradient[j]);
                dots[j] = dots[j].add(gradient[j].mul(x[j].sub(mean[j])));
            }
        }
        store(sums, sum.as_mut_ptr().add(first), lanes);
        store(dots, dot.as_mut_ptr().add(first), lanes);
    }
}

/// The gradient at `at`, behind the ReLU's mask.
#[inline(always)]
unsafe fn masked<V: Vector, const NV: usize>(rows: Rows, dy: *const f32, at: usize, lanes: usize) -> [V; NV] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut gradient: [V; NV] = load(dy.add(at), lanes);
        if rows.relu {
            let y: [V; NV] = load(rows.y.as_ptr().add(at), lanes);
            for j in 0..NV {
                gradient[j] = gradient[j].where_positive(y[j]);
            }
        }
        gradient
    }
}

for_every_path! {
    /// `dx = a*dx + (b*(x - mean) + d)` in place, where dx comes in as the gradient behind the ReLU.
    ///
    /// # Safety
    /// `rows` and `dx` hold as many whole rows; `a`, `b` and `d` are as long as the mean.
    fn gradient = all_gradients(rows: Rows, dx: &mut [f32], a: &[f32], b: &[f32], d: &[f32])
}

#[inline(always)]
unsafe fn all_gradients<V: Vector>(rows: Rows, dx: &mut [f32], a: &[f32], b: &[f32], d: &[f32]) {
    blocks!(a.len(), block_gradients::<V>(rows, dx, a, b, d));
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn block_gradients<V: Vector, const NV: usize>(
    rows: Rows,
    dx: &mut [f32],
    a: &[f32],
    b: &[f32],
    d: &[f32],
    first: usize,
    lanes: usize,
) {
    // SAFETY: every access is to channels of this block in one of the rows.
    unsafe {
        let [mean, a, b, d] = [rows.mean, a, b, d].map(|v| load::<V, NV>(v.as_ptr().add(first), lanes));
        for at in (first..dx.len()).step_by(rows.mean.len()) {
            let mut gradient = masked::<V, NV>(rows, dx.as_ptr(), at, lanes);
            let x: [V; NV] = load(rows.x.as_ptr().add(at), lanes);
            for j in 0..NV {
                let other = b[j].mul(x[j].sub(mean[j])).add(d[j]);
                gradient[j] = a[j].mul(gradient[j]).add(other);
            }
            store(gradient, dx.as_mut_ptr().add(at), lanes);
        }
    }
}
