//! `trait Int8`: the operators of 8-bit training. Every device gives the same bits.
//!
//! A training step of one layer, in this order: `conv2d_fwd` (integer GEMM, output stored in blocks, exact sums for the batchnorm), `batchnorm_fwd` (statistics, then
//! normalise + ReLU + quantise + max-pool in one pass); backwards `batchnorm_grad` (ReLU mask, un-pooling, sums) or `conv2d_dgrad` with the same fused into it,
//! `batchnorm_bwd` (both quantisations of dY), `conv2d_dgrad`, `conv2d_wgrad`; and one `sgd_step` for all. Where a residual block ends in a batchnorm, `batchnorm_add_fwd` and
//! `batchnorm_add_grad` do its addition and ReLU as well. Why each tensor has the exponents it has: kernels.md 1.2; forms and random
//! bits: [`crate::quant::layout`].
//!
//! All floating-point formulas below are single operations in the order written, `fma` where it says so, in f32 unless marked f64.

use super::Span;
use crate::Result;
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums, OutputSums, SizesI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2dI8, Conv2dStreamI8};
use crate::ops::quantize::{Dequantize, Form, Quantize, QuantizeGradient, Round, Store};
use crate::ops::sgd::SgdI8;
use crate::quant::layout::{BLOCK_ROWS, pad};

/// Mantissas and exponents of one tensor. Where an operator's parameters name a [`Form`], the tensor is in that form.
#[derive(Clone, Copy, Debug)]
pub struct Bfp<'m> {
    /// One signed byte per (padded) element; two in [`Form::Bfp16`]; the unpadded f32 themselves in [`Form::F32`].
    pub mantissas: Span<'m>,
    /// One signed byte per block; does not count in [`Form::F32`].
    pub exponents: Span<'m>,
}

impl<'m> Bfp<'m> {
    /// A tensor in [`Form::F32`].
    pub fn f32(elements: Span<'m>) -> Bfp<'m> {
        Bfp { mantissas: elements, exponents: elements }
    }
}

/// A batchnorm's input as it was stored, with what is needed to know its output again.
#[derive(Clone, Copy, Debug)]
pub struct Normalised<'m> {
    /// The conv output Y, stored.
    pub y: Bfp<'m>,
    /// `[2][pad C]` f32: `a`, then `b`, of `z = fma(a, y, b)`.
    pub affine: Span<'m>,
}

/// Parameters, statistics and outputs of a batchnorm forward pass.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // as in `Backend::batchnorm_fwd_f32`
pub struct BatchNormState<'m> {
    pub gamma: Span<'m>,
    pub beta: Span<'m>,
    pub running_mean: Span<'m>,
    pub running_var: Span<'m>,
    /// `[C]` f32, rounded once from f64.
    pub mean: Span<'m>,
    /// `[C]` f32, rounded once from f64.
    pub invstd: Span<'m>,
    /// See [`Normalised::affine`].
    pub affine: Span<'m>,
}

/// A batchnorm in training: what it reads, stored, with sums, and its state.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormInput<'m> {
    /// Y, stored.
    pub y: Bfp<'m>,
    /// Its [`crate::ops::batchnorm::OutputSums`].
    pub sums: Span<'m>,
    /// Parameters, statistics and outputs.
    pub state: BatchNormState<'m>,
}

/// What is added to a batchnorm's output at the end of a residual block.
#[derive(Clone, Copy, Debug)]
pub enum Summand<'m> {
    /// A residual stream, in the [`Form`] that the parameters name.
    Stream(Bfp<'m>),
    /// A second batchnorm.
    BatchNorm(BatchNormInput<'m>),
}

impl<'m> Summand<'m> {
    /// The tensor that is added, and sums and state of its batchnorm: `none`, which is empty, where there is no second one.
    pub(super) fn parts(self, none: Span<'m>) -> BatchNormInput<'m> {
        match self {
            Summand::BatchNorm(input) => input,
            Summand::Stream(y) => {
                let [gamma, beta, running_mean, running_var, mean, invstd, affine] = [none; 7];
                let state = BatchNormState { gamma, beta, running_mean, running_var, mean, invstd, affine };
                BatchNormInput { y, sums: none, state }
            }
        }
    }
}

/// What a batchnorm's backward pass reads and writes besides dZ and Y.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormGradients<'m> {
    /// `[C]` f32.
    pub gamma: Span<'m>,
    /// `[C]` f32.
    pub mean: Span<'m>,
    /// `[C]` f32.
    pub invstd: Span<'m>,
    /// Exponents `[C]` of the convolution's weights.
    pub weight_exponents: Span<'m>,
    /// Exponents `[N]` of the convolution's input.
    pub input_exponents: Span<'m>,
    /// `[C]` f32, written.
    pub dgamma: Span<'m>,
    /// `[C]` f32, written.
    pub dbeta: Span<'m>,
}

/// The 8-bit operators; see the module comment. `step` is one u32 in device memory: optimiser steps so far. `ws` is scratch memory of [`super::Backend::workspace`] bytes.
#[allow(clippy::too_many_arguments)] // an operator's tensors are its arguments
pub trait Int8 {
    /// Rounds each of `p.groups` groups of f32 to the 8-bit grid of its exact largest absolute value, in place: [`crate::quant::bfp::Grid`], noise
    /// [`crate::quant::layout::NoiseKey::element`] of the place in `x`.
    fn quantize_round_i8(&self, p: &Round, step: Span, x: Span) -> Result<()>;

    /// Images, in f32 or 16 bits, to an operand: exponent of each sample from its exact largest absolute value, noise [`crate::quant::layout::NoiseKey::element`].
    fn quantize_fwd_i8(&self, p: &Quantize, x: Bfp, step: Span, q: Bfp) -> Result<()>;

    /// Block floating point (an operand, or blocks of 8 or 16 bits) to unpadded f32.
    fn dequantize_fwd_i8(&self, p: &Dequantize, q: Bfp, x: Span) -> Result<()>;

    /// Rows, in f32 or 16 bits, to a stored tensor, with exact block maxima, noise `stored` (or nearest even), and its [`crate::ops::batchnorm::OutputSums`]: what `conv2d_fwd_i8` does behind
    /// its sum. Stored is the number that row and channel stand for: `x[row, j]`, with `p.select` `x[row, index[j]]`. `index`: u32 `[C]`, ascending, distinct and below `p.from`, the
    /// indexes of a [`crate::ops::select`]; empty without `p.select`.
    fn quantize_store_i8(&self, p: &Store, x: Bfp, index: Span, step: Span, q: Bfp, sums: Span) -> Result<()>;

    /// Both quantised gradients of a convolution that has no batchnorm behind it, from a gradient in f32 or 16 bits: exponents are exact, of the numbers that it stands for, `Ed[n]` of `max_{pixels,k} |dy * 2^ew[k]|`,
    /// `Ew[k]` of `max_{n,pixels} |dy * 2^ex[n]|`; rounding as in [`Int8::batchnorm_bwd_i8`], `p.wide` too.
    fn quantize_bwd_i8(
        &self,
        p: &QuantizeGradient,
        dy: Bfp,
        weight_exponents: Span,
        input_exponents: Span,
        step: Span,
        dyd: Bfp,
        dyw: Bfp,
        ws: Span,
    ) -> Result<()>;

    /// `y[m,k] = f32(acc) * (2^(ew[k]-6) * 2^(ex[n]-6))` with `acc = sum x*w` in i32, `f32()` to nearest; stored with each block's exponent from its exact
    /// maximum; rounded stochastically (noise `stored`) or to nearest even. `sums`: one [`crate::ops::batchnorm::OutputSums`] per (64-row block, padded channel), of the mantissas written.
    fn conv2d_fwd_i8(&self, p: &Conv2dI8, x: Bfp, w: Bfp, step: Span, y: Bfp, sums: Span) -> Result<()>;

    /// As [`Int8::conv2d_fwd_i8`], into a residual stream: `s = y`, with `p.add` `s = other + y` (one f32 sum of the number that `other` stands for); y itself is not rounded. `s` is written in
    /// f32 or, as `p.form` says, in 16 bits: each block's exponent from the exact maximum of the f32 sums, [`crate::quant::bfp::round_16`], padded channels 0. With `p.store` also what
    /// [`Int8::quantize_store_i8`] makes of the f32 sums, as they are before they are rounded to 16 bits: `q` and `sums`, which are empty otherwise, as `other` is without `p.add`.
    fn conv2d_stream_i8(
        &self,
        p: &Conv2dStreamI8,
        x: Bfp,
        w: Bfp,
        step: Span,
        other: Bfp,
        s: Bfp,
        q: Bfp,
        sums: Span,
    ) -> Result<()>;

    /// Statistics in f64: `S1 = sum tiles sum*2^(e-6)`, `S2 = sum tiles squares*2^(2e-12)`, over the tiles of a channel by 32 lanes (lane l takes tiles l, l+32, ... in
    /// order) and then pairwise with lane distances 16, 8, 4, 2, 1; `mean = S1/M`, `var = max(S2/M - mean*mean, 0)`, `invstd = 1/sqrt(var + eps)`, `a = gamma*invstd`, `b = beta - mean*a`, each
    /// rounded once to f32 where stored (products and differences above are plain f64 operations, no fma). Running statistics `(1-momentum)*old + momentum*new` in f64, the variance unbiased
    /// (`var*M/(M-1)`, `var` for M = 1), rounded once.
    ///
    /// Then `z = fma(a, y, b)`, with `relu` `max(z, 0)`; the exponent of sample n is that of `max |z|` over all of it (before the pool; reached at a channel's largest or smallest y, so the extremes in `sums`
    /// suffice where whole 64-row blocks lie in one sample). The pool takes the first of equal maxima of z; `index` (u8, `[N][P][Q][pad C]`, padded channels 0; empty without a pool) is the winner's place in its window, row by row. The output is rounded with noise
    /// `element` of the *output's* padded index. Padded channels: a = b = 0.
    fn batchnorm_fwd_i8(
        &self,
        p: &BatchNormI8,
        y: Bfp,
        sums: Span,
        state: BatchNormState,
        step: Span,
        out: Bfp,
        index: Span,
        ws: Span,
    ) -> Result<()>;

    /// The end of a residual block: `s = z + o`, with `relu` 0 where that is not above 0; z is the output of the batchnorm `first` (statistics, a, b and z as in [`Int8::batchnorm_fwd_i8`], with
    /// the first `eps` and `momentum`), o the number that the stream `other` stands for or the output of a second batchnorm (with the second ones). s is written in f32 or 16 bits as in
    /// [`Int8::conv2d_stream_i8`]; `mask` ([`crate::ops::batchnorm_add::mask_bytes`]; empty without `relu`) has a bit for each element, 1 where `z + o > 0`. With `p.operand` also what
    /// [`Int8::quantize_fwd_i8`] makes of the 16 bits; `operand` is empty otherwise.
    fn batchnorm_add_fwd_i8(
        &self,
        p: &BatchNormAddI8,
        first: BatchNormInput,
        other: Summand,
        step: Span,
        s: Bfp,
        mask: Span,
        operand: Bfp,
        ws: Span,
    ) -> Result<()>;

    /// The gradient behind [`Int8::batchnorm_add_fwd_i8`]: `g = up`, with `p.add` `up + more` (one f32 sum), with `p.relu` 0 where the bit in `mask` is 0. `dz` is g, stored with exact block maxima, noise
    /// `stored`, and stands behind each batchnorm as in [`Int8::batchnorm_grad_i8`]: `sums` are its [`crate::ops::batchnorm::GradientSums`] with the mantissas `y` (`[M][pad C]`) of the first one's
    /// input, `second` the second one's mantissas and sums. With `p.stream` `dx` is g in 16 bits; it is empty otherwise, as `more` and `mask` are.
    fn batchnorm_add_grad_i8(
        &self,
        p: &BatchNormAddGradI8,
        up: Bfp,
        more: Bfp,
        mask: Span,
        y: Span,
        second: Option<(Span, Span)>,
        step: Span,
        dz: Bfp,
        sums: Span,
        dx: Bfp,
    ) -> Result<()>;

    /// The gradient behind a batchnorm, from whatever comes back: `dz = up` where `z > 0` (everywhere without `relu`), 0 elsewhere; through a pool, `up` of each window goes to its winner, summed
    /// in f32 in ascending (p, q) order where windows overlap. Stored with exact block maxima, noise `stored`, with its [`crate::ops::batchnorm::GradientSums`]. `up_f32` or `up`
    /// counts, as `p.gradient` says.
    fn batchnorm_grad_i8(
        &self,
        p: &BatchNormI8,
        up: Bfp,
        more: Bfp,
        index: Span,
        forward: Normalised,
        step: Span,
        dz: Bfp,
        sums: Span,
    ) -> Result<()>;

    /// From dZ to both quantised output gradients of the convolution before the batchnorm. `mean` and `invstd` are the f32 of the forward pass.
    ///
    /// In f64: `S = sum dz`, `T = sum dz*y` from the sums (order as in the forward pass), `U = (T - mean*S)*invstd`; `dbeta = S`, `dgamma = U`; `m1 = S/M`, `m2 = U/M`, `A = gamma*invstd`,
    /// `B = -(A*m2*invstd)` (left to right), `D = -(A*m1) - B*mean`; A, B, D rounded once to f32, and those f32 go on: `dY = fma(A, dz, fma(B, y, D))`.
    ///
    /// Exponents from bounds that need no pass over the data, in f64: `Y[n,c] = max |y - mean|` over the sample's smallest and largest y, `G[n,c] = max |dz|`;
    /// `bound[n,c] = (|A|*G + (|B|*Y + |A*m1|)) * (1 + 2^-10)`. `Ed[n]` is the exponent of `f32(max_c 2^ew[c] * bound[n,c])`; `Ew[c]` that of
    /// `f32((|A|*R + (|B|*max_n Y[n,c] + |A*m1|) * 2^(max_n ex[n])) * (1 + 2^-10))` with `R = max_n G[n,c]*2^ex[n]`. (`|A*m1|` with the f32 A and the f64 m1; max over unpadded channels.)
    ///
    /// `dyd = round(dY * (2^ew[c] * 2^(21-Ed[n])))` with noise `element` of `dyd_tensor`, `dyw = round(dY * (2^(21-Ew[c]) * 2^ex[n]))` with that of `noise.tensor`; both
    /// `[M][pad C]`, `round` is [`crate::quant::bfp::round_scaled`]. Without `p.dgrad` no `dyd`. With `p.wide` dyw is rounded by [`crate::quant::bfp::round_wide`] of the same
    /// value and noise, `[2][M][pad C]`: high bytes, then low ones.
    fn batchnorm_bwd_i8(
        &self,
        p: &BatchNormI8,
        dz: Bfp,
        sums: Span,
        y: Bfp,
        y_sums: Span,
        gradients: BatchNormGradients,
        step: Span,
        dyd: Bfp,
        dyw: Bfp,
        ws: Span,
    ) -> Result<()>;

    /// As [`Int8::batchnorm_bwd_i8`] for a batchnorm that reads a residual stream, which no convolution wants in 8 bits: `dx = dY`, with `p.add` `dx = other + dY` (one f32 sum of the number
    /// that `other` stands for), written in f32 or 16 bits as in [`Int8::conv2d_stream_i8`]; `other` is empty without `p.add`.
    ///
    /// With `p.select` the batchnorm reads some channels of the stream, as [`Int8::quantize_store_i8`] gathers them: `other` and `dx` have `p.wide` channels, everything else the `p.c` of the
    /// batchnorm, and `dx[row, index[j]] = dY[row, j]`, +0 in the channels that `index` does not name; with `p.add` `other +` that, everywhere. `index` is empty without `p.select`.
    fn batchnorm_bwd_stream_i8(
        &self,
        p: &BatchNormBwdStreamI8,
        dz: Bfp,
        sums: Span,
        y: Bfp,
        gamma: Span,
        mean: Span,
        invstd: Span,
        index: Span,
        other: Bfp,
        dgamma: Span,
        dbeta: Span,
        dx: Bfp,
        ws: Span,
    ) -> Result<()>;

    /// Data gradient `f32(acc) * 2^(Ed[n]-12)`, `acc = sum dyd * w` in i32 over the transposed weights, stored as in the forward pass (always stochastic if `noise` says so). With `fused` it is masked like in
    /// [`Int8::batchnorm_grad_i8`] by the batchnorm before (always `z > 0`: only a batchnorm with a ReLU and without a pool is fused) and `sums` gets its [`crate::ops::batchnorm::GradientSums`]; without, `sums` is empty.
    fn conv2d_dgrad_i8(
        &self,
        p: &Conv2dI8,
        dyd: Bfp,
        transposed: Span,
        step: Span,
        fused: Option<Normalised>,
        dx: Bfp,
        sums: Span,
    ) -> Result<()>;

    /// Weight gradient `dw[k,r,s,c] = f32(acc) * 2^(Ew[k]-12)`, unpadded f32; `acc = sum dyw * x`, exact. With `p.wide` `f32(256*high + low) * 2^(Ew[k]-20)`, of the sums over
    /// the high and over the low bytes of dyw: two products of 8 bits for a gradient of 16.
    fn conv2d_wgrad_i8(&self, p: &Conv2dI8, x: Bfp, dyw: Bfp, dw: Span, ws: Span) -> Result<()>;

    /// Logits, their gradients, losses (f64) and hits of each image at the end of a network, see [`crate::ops::classifier`]. `bias` counts where `p` says so.
    fn classifier_fwd_f32(
        &self,
        p: &Classifier,
        x: Span,
        w: Span,
        bias: Span,
        labels: Span,
        logits: Span,
        dlogits: Span,
        losses: Span,
        hits: Span,
    ) -> Result<()>;

    /// Gradients of its input and parameters; the batch's sums are added to `metrics`.
    fn classifier_bwd_f32(
        &self,
        p: &Classifier,
        x: Span,
        w: Span,
        dlogits: Span,
        losses: Span,
        hits: Span,
        dx: Span,
        dw: Span,
        dbias: Span,
        metrics: Span,
    ) -> Result<()>;

    /// One step for all parameters, see [`SgdI8`]. `table` holds its [`crate::ops::sgd::Segment`]s, `packed` the mantissas and exponents that they point to.
    fn sgd_step_i8(
        &self,
        p: &SgdI8,
        table: Span,
        lr: Span,
        step: Span,
        g: Span,
        v: Span,
        w: Span,
        packed: Span,
    ) -> Result<()>;

    /// Only the rounding and packing of the weights, as the step does it at its end: after initial weights or a checkpoint were loaded. Weights of the 8-bit grid stay as they are.
    fn sgd_pack_i8(&self, p: &SgdI8, table: Span, step: Span, w: Span, packed: Span) -> Result<()>;
}

/// A tensor, and the bytes that an operator takes of it.
type Taken<'m> = (Span<'m>, usize);

/// What [`Int8::batchnorm_add_fwd_i8`] reads and writes, the same on every device; `second` is [`Summand::parts`], `ws` the device's scratch memory.
#[allow(clippy::too_many_arguments)] // an operator's tensors are its arguments
pub(super) fn batchnorm_add_fwd_tensors<'m>(
    p: &BatchNormAddI8,
    first: BatchNormInput<'m>,
    second: BatchNormInput<'m>,
    step: Span<'m>,
    sum: Bfp<'m>,
    mask: Span<'m>,
    operand: Bfp<'m>,
    ws: Taken<'m>,
) -> ([Taken<'m>; 11], [Taken<'m>; 16]) {
    let (s, a, b) = (SizesI8::of_sum(p), first.state, second.state);
    let (one, all, both, wanted) = (s.c * 4, s.rows * s.stride, usize::from(p.both != 0), usize::from(p.operand != 0));
    let (sums, affine) = (s.sums() * size_of::<OutputSums>(), 2 * s.stride * 4);
    let (added, made) = (p.other().bytes(s.rows, s.c), Form::of(p.form).bytes(s.rows, s.c));
    let reads = [
        (first.y.mantissas, all),
        (first.y.exponents, s.exponents()),
        (first.sums, sums),
        (a.gamma, one),
        (a.beta, one),
        (second.y.mantissas, added[0]),
        (second.y.exponents, added[1]),
        (second.sums, both * sums),
        (b.gamma, both * one),
        (b.beta, both * one),
        (step, 4),
    ];
    let writes = [
        (a.running_mean, one),
        (a.running_var, one),
        (a.mean, one),
        (a.invstd, one),
        (a.affine, affine),
        (b.running_mean, both * one),
        (b.running_var, both * one),
        (b.mean, both * one),
        (b.invstd, both * one),
        (b.affine, both * affine),
        (sum.mantissas, made[0]),
        (sum.exponents, made[1]),
        (mask, if p.relu != 0 { mask_bytes(s.rows, s.c) } else { 0 }),
        (operand.mantissas, wanted * all),
        (operand.exponents, wanted * s.n),
        ws,
    ];
    (reads, writes)
}

/// What [`Int8::batchnorm_add_grad_i8`] reads and writes.
#[allow(clippy::too_many_arguments)] // an operator's tensors are its arguments
pub(super) fn batchnorm_add_grad_tensors<'m>(
    p: &BatchNormAddGradI8,
    up: Bfp<'m>,
    more: Bfp<'m>,
    mask: Span<'m>,
    y: Span<'m>,
    second: (Span<'m>, Span<'m>),
    step: Span<'m>,
    dz: Bfp<'m>,
    sums: Span<'m>,
    dx: Bfp<'m>,
) -> ([Taken<'m>; 8], [Taken<'m>; 6]) {
    let (rows, c, both) = (p.rows as usize, p.c as usize, usize::from(p.both != 0));
    let (stored, ups) = (Form::Stored.bytes(rows, c), Form::of(p.up).bytes(rows, c));
    let each = rows.div_ceil(BLOCK_ROWS) * pad(c) * size_of::<GradientSums>();
    let added = if p.add != 0 { Form::of(p.more).bytes(rows, c) } else { [0; 2] };
    let written = if p.stream != 0 { Form::Bfp16.bytes(rows, c) } else { [0; 2] };
    let reads = [
        (up.mantissas, ups[0]),
        (up.exponents, ups[1]),
        (more.mantissas, added[0]),
        (more.exponents, added[1]),
        (mask, if p.relu != 0 { mask_bytes(rows, c) } else { 0 }),
        (y, stored[0]),
        (second.0, both * stored[0]),
        (step, 4),
    ];
    let writes = [
        (dz.mantissas, stored[0]),
        (dz.exponents, stored[1]),
        (sums, each),
        (second.1, both * each),
        (dx.mantissas, written[0]),
        (dx.exponents, written[1]),
    ];
    (reads, writes)
}
