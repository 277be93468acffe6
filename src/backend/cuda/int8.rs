//! `impl Int8 for Cuda`: which file runs which operator.
//!
//! Not here: grids and arguments (the operators' files beside this one).

use super::device::Cuda;
use super::{batchnorm_add_i8, batchnorm_i8, classifier, conv2d_i8, quantize, sgd_i8};
use crate::backend::{BatchNormGradients, BatchNormInput, BatchNormState, Bfp, Int8, Normalised, Span, Summand};
use crate::driver::DevPtr;
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2dI8, Conv2dStreamI8};
use crate::ops::quantize::{Dequantize, Form, Quantize, QuantizeGradient, Round, Store};
use crate::ops::sgd::SgdI8;
use crate::{Error, Result};

/// An error where an address does not have the alignment that the kernels' wide accesses need.
pub(super) fn aligned(op: &'static str, to: u64, addresses: &[DevPtr]) -> Result<()> {
    match addresses.iter().position(|a| a.0 % to != 0) {
        None => Ok(()),
        Some(i) => Err(Error::Graph {
            node: op.into(),
            op: "cuda",
            what: format!("tensor {i} lies at {:#x}, which is no multiple of {to}", addresses[i].0),
        }),
    }
}

/// The same for a tensor in this form, of which kernels take eight numbers at once; f32 may lie anywhere.
pub(super) fn aligned_for(op: &'static str, form: Form, address: Option<DevPtr>) -> Result<()> {
    match (form, address) {
        (Form::F32, _) | (_, None) => Ok(()),
        (Form::Stored, Some(address)) => aligned(op, 8, &[address]),
        (Form::Bfp16, Some(address)) => aligned(op, 16, &[address]),
    }
}

/// Most mantissas of a tensor: their kernels' byte offsets have 31 bits.
const MOST_MANTISSAS: usize = i32::MAX as usize;

/// An error where a tensor has more mantissas than the kernels index. Before memory is looked at: [`Cuda::open`] knows bytes only, and takes four times as many.
pub(super) fn indexed(op: &'static str, mantissas: &[usize]) -> Result<()> {
    match mantissas.iter().find(|count| **count > MOST_MANTISSAS) {
        None => Ok(()),
        Some(count) => Err(Error::Graph {
            node: op.into(),
            op: "cuda",
            what: format!(
                "a tensor has {count} mantissas; at most {MOST_MANTISSAS} can be indexed: use a smaller batch"
            ),
        }),
    }
}

impl Int8 for Cuda {
    fn quantize_round_i8(&self, p: &Round, step: Span, x: Span) -> Result<()> {
        quantize::round(self, p, step, x)
    }

    fn quantize_fwd_i8(&self, p: &Quantize, x: Bfp, step: Span, q: Bfp) -> Result<()> {
        quantize::fwd(self, p, x, step, q)
    }

    fn dequantize_fwd_i8(&self, p: &Dequantize, q: Bfp, x: Span) -> Result<()> {
        quantize::dequantize(self, p, q, x)
    }

    fn quantize_store_i8(&self, p: &Store, x: Bfp, index: Span, step: Span, q: Bfp, sums: Span) -> Result<()> {
        quantize::store(self, p, x, index, step, q, sums)
    }

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
    ) -> Result<()> {
        quantize::bwd(self, p, dy, [weight_exponents, input_exponents], step, dyd, dyw, ws)
    }

    fn conv2d_fwd_i8(&self, p: &Conv2dI8, x: Bfp, w: Bfp, step: Span, y: Bfp, sums: Span) -> Result<()> {
        conv2d_i8::fwd(self, p, x, w, step, y, sums)
    }

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
    ) -> Result<()> {
        conv2d_i8::stream(self, p, [x, w, other], step, [s, q], sums)
    }

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
    ) -> Result<()> {
        batchnorm_i8::fwd(self, p, y, sums, state, step, out, index, ws)
    }

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
    ) -> Result<()> {
        batchnorm_add_i8::fwd(self, p, first, other, step, s, mask, operand, ws)
    }

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
    ) -> Result<()> {
        batchnorm_add_i8::grad(self, p, up, more, mask, y, second, step, dz, sums, dx)
    }

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
    ) -> Result<()> {
        batchnorm_i8::grad(self, p, up, more, index, forward, step, dz, sums)
    }

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
    ) -> Result<()> {
        batchnorm_i8::bwd(self, p, [(dz, sums), (y, y_sums)], gradients, step, dyd, dyw, ws)
    }

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
    ) -> Result<()> {
        batchnorm_i8::stream(self, p, dz, sums, y, [gamma, mean, invstd, index], [other, dx], [dgamma, dbeta, ws])
    }

    fn conv2d_dgrad_i8(
        &self,
        p: &Conv2dI8,
        dyd: Bfp,
        transposed: Span,
        step: Span,
        fused: Option<Normalised>,
        dx: Bfp,
        sums: Span,
    ) -> Result<()> {
        conv2d_i8::dgrad(self, p, dyd, transposed, step, fused, dx, sums)
    }

    fn conv2d_wgrad_i8(&self, p: &Conv2dI8, x: Bfp, dyw: Bfp, dw: Span, ws: Span) -> Result<()> {
        conv2d_i8::wgrad(self, p, x, dyw, dw, ws)
    }

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
    ) -> Result<()> {
        classifier::fwd(self, p, x, w, bias, labels, logits, dlogits, losses, hits)
    }

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
    ) -> Result<()> {
        classifier::bwd(self, p, x, w, dlogits, losses, hits, dx, dw, dbias, metrics)
    }

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
    ) -> Result<()> {
        sgd_i8::step(self, p, table, [lr, step], g, v, w, packed)
    }

    fn sgd_pack_i8(&self, p: &SgdI8, table: Span, step: Span, w: Span, packed: Span) -> Result<()> {
        sgd_i8::pack(self, p, table, step, w, packed)
    }
}
