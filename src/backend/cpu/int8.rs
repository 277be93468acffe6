//! `impl Int8 for Cpu`: each operator in its own file.

use super::Cpu;
use crate::Result;
use crate::backend::{BatchNormGradients, BatchNormInput, BatchNormState, Bfp, Int8, Normalised, Span, Summand};
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2dI8, Conv2dStreamI8};
use crate::ops::quantize::{Dequantize, Quantize, QuantizeGradient, Round, Store};
use crate::ops::sgd::SgdI8;

impl Int8 for Cpu {
    fn quantize_round_i8(&self, p: &Round, step: Span, x: Span) -> Result<()> {
        self.quantize_round_i8(p, step, x)
    }

    fn quantize_fwd_i8(&self, p: &Quantize, x: Bfp, step: Span, q: Bfp) -> Result<()> {
        self.quantize_fwd_i8(p, x, step, q)
    }

    fn dequantize_fwd_i8(&self, p: &Dequantize, q: Bfp, x: Span) -> Result<()> {
        self.dequantize_fwd_i8(p, q, x)
    }

    fn quantize_store_i8(&self, p: &Store, x: Bfp, index: Span, step: Span, q: Bfp, sums: Span) -> Result<()> {
        self.quantize_store_i8(p, x, index, step, q, sums)
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
        self.quantize_bwd_i8(p, dy, weight_exponents, input_exponents, step, dyd, dyw, ws)
    }

    fn conv2d_fwd_i8(&self, p: &Conv2dI8, x: Bfp, w: Bfp, step: Span, y: Bfp, sums: Span) -> Result<()> {
        self.conv2d_fwd_i8(p, x, w, step, y, sums)
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
        self.conv2d_stream_i8(p, x, w, step, other, s, q, sums)
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
        _ws: Span,
    ) -> Result<()> {
        self.batchnorm_fwd_i8(p, y, sums, state, step, out, index)
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
        _ws: Span,
    ) -> Result<()> {
        self.batchnorm_add_fwd_i8(p, first, other, step, s, mask, operand)
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
        self.batchnorm_add_grad_i8(p, up, more, mask, y, second, step, dz, sums, dx)
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
        self.batchnorm_grad_i8(p, up, more, index, forward, step, dz, sums)
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
        self.batchnorm_bwd_i8(p, dz, sums, y, y_sums, gradients, step, dyd, dyw, ws)
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
        self.batchnorm_bwd_stream_i8(p, dz, sums, y, [gamma, mean, invstd, index], [other, dx], [dgamma, dbeta, ws])
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
        self.conv2d_dgrad_i8(p, dyd, transposed, step, fused, dx, sums)
    }

    fn conv2d_wgrad_i8(&self, p: &Conv2dI8, x: Bfp, dyw: Bfp, dw: Span, ws: Span) -> Result<()> {
        self.conv2d_wgrad_i8(p, x, dyw, dw, ws)
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
        self.classifier_fwd(p, x, w, bias, labels, logits, dlogits, losses, hits)
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
        self.classifier_bwd(p, x, w, dlogits, losses, hits, dx, dw, dbias, metrics)
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
        self.sgd_step_i8(p, table, lr, step, g, v, w, packed)
    }

    fn sgd_pack_i8(&self, p: &SgdI8, table: Span, step: Span, w: Span, packed: Span) -> Result<()> {
        self.sgd_pack_i8(p, table, step, w, packed)
    }
}
