//! Runs one lowered call on a backend: unpacks values into the arguments of the right function.

use crate::backend::{
    Backend, BatchNormGradients, BatchNormInput, BatchNormState, Bfp, Int8, Normalised, Span, Summand,
};
use crate::ops::quantize::Form;
use crate::ops::{Call, Kernel, Value};
use crate::{Error, Result};

/// Runs `call`; `span` resolves a value.
pub fn execute<'m>(backend: &dyn Backend, call: &Call, span: &dyn Fn(Value) -> Result<Span<'m>>) -> Result<()> {
    let mut a = Arguments { values: call.inputs.iter().chain(&call.outputs), span };
    let ws = match call.workspace {
        Some(value) => span(value)?,
        None => nothing(call, span)?,
    };
    match &call.kernel {
        Kernel::Copy => backend.copy(a.next()?, a.next()?),
        Kernel::AddFwd(p) => backend.add_fwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::ReluFwd(p) => backend.relu_fwd_f32(p, a.next()?, a.next()?),
        Kernel::ReluBwd(p) => backend.relu_bwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::Conv2dFwd(p) => {
            let (x, w) = (a.next()?, a.next()?);
            let bias = if call.inputs.len() > 2 { Some(a.next()?) } else { None };
            backend.conv2d_fwd_f32(p, x, w, bias, a.next()?, ws)
        }
        Kernel::Conv2dDgrad(p) => backend.conv2d_dgrad_f32(p, a.next()?, a.next()?, a.next()?, ws),
        Kernel::Conv2dWgrad(p) => {
            let (x, dy, dw) = (a.next()?, a.next()?, a.next()?);
            let dbias = if call.outputs.len() > 1 { Some(a.next()?) } else { None };
            backend.conv2d_wgrad_f32(p, x, dy, dw, dbias, ws)
        }
        Kernel::BatchNormFwd(p) => {
            let (x, gamma, beta, y, mean, invstd) = (a.next()?, a.next()?, a.next()?, a.next()?, a.next()?, a.next()?);
            let (running_mean, running_var) = (a.next()?, a.next()?);
            backend.batchnorm_fwd_f32(p, x, gamma, beta, running_mean, running_var, y, mean, invstd, ws)
        }
        Kernel::BatchNormEval(p) => {
            let (x, gamma, beta, running_mean, running_var) = (a.next()?, a.next()?, a.next()?, a.next()?, a.next()?);
            backend.batchnorm_eval_f32(p, x, gamma, beta, running_mean, running_var, a.next()?)
        }
        Kernel::BatchNormBwd(p) => {
            let (x, y, gamma, mean, invstd, dy) = (a.next()?, a.next()?, a.next()?, a.next()?, a.next()?, a.next()?);
            let (dx, dgamma, dbeta) = (a.next()?, a.next()?, a.next()?);
            backend.batchnorm_bwd_f32(p, x, y, gamma, mean, invstd, dy, dx, dgamma, dbeta, ws)
        }
        Kernel::MaxPoolFwd(p) => backend.maxpool_fwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::MaxPoolBwd(p) => backend.maxpool_bwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::AvgPoolFwd(p) => backend.avgpool_fwd_f32(p, a.next()?, a.next()?),
        Kernel::AvgPoolBwd(p) => backend.avgpool_bwd_f32(p, a.next()?, a.next()?),
        Kernel::GlobalAvgPoolFwd(p) => backend.global_avgpool_fwd_f32(p, a.next()?, a.next()?),
        Kernel::GlobalAvgPoolBwd(p) => backend.global_avgpool_bwd_f32(p, a.next()?, a.next()?),
        Kernel::LinearFwd(p) => {
            let (x, w) = (a.next()?, a.next()?);
            let bias = if call.inputs.len() > 2 { Some(a.next()?) } else { None };
            backend.linear_fwd_f32(p, x, w, bias, a.next()?)
        }
        Kernel::LinearDgrad(p) => backend.linear_dgrad_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::LinearWgrad(p) => {
            let (x, dy, dw) = (a.next()?, a.next()?, a.next()?);
            let dbias = if call.outputs.len() > 1 { Some(a.next()?) } else { None };
            backend.linear_wgrad_f32(p, x, dy, dw, dbias)
        }
        Kernel::SelectFwd(p) => backend.select_fwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::SelectBwd(p) => backend.select_bwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::SoftmaxXentFwd(p) => backend.softmax_xent_fwd_f32(p, a.next()?, a.next()?, a.next()?, a.next()?),
        Kernel::SoftmaxXentBwd(p) => backend.softmax_xent_bwd_f32(p, a.next()?, a.next()?, a.next()?),
        Kernel::SgdStep(p) => backend.sgd_step_f32(p, a.next()?, a.next()?, a.next()?, a.next()?),
        _ => execute_i8(backend.int8()?, call, &mut a, ws),
    }
}

/// The 8-bit kernels.
fn execute_i8<'m, 'a>(
    int8: &dyn Int8,
    call: &'a Call,
    a: &mut Arguments<'a, 'm, impl Iterator<Item = &'a Value>>,
    ws: Span<'m>,
) -> Result<()> {
    let none = ws.part(0, 0)?;
    let nothing = Bfp { mantissas: none, exponents: none };
    match &call.kernel {
        Kernel::QuantizeRound(p) => int8.quantize_round_i8(p, a.next()?, a.next()?),
        Kernel::QuantizeFwdI8(p) => int8.quantize_fwd_i8(p, a.tensor(p.form)?, a.next()?, a.bfp()?),
        Kernel::QuantizeStoreI8(p) => {
            let x = a.tensor(p.form)?;
            let index = if p.select != 0 { a.next()? } else { none };
            int8.quantize_store_i8(p, x, index, a.next()?, a.bfp()?, a.next()?)
        }
        Kernel::QuantizeBwdI8(p) => {
            let (dy, weight_exponents, input_exponents, step) = (a.tensor(p.form)?, a.next()?, a.next()?, a.next()?);
            let dyd = if p.dgrad != 0 { a.bfp()? } else { nothing };
            int8.quantize_bwd_i8(p, dy, weight_exponents, input_exponents, step, dyd, a.bfp()?, ws)
        }
        Kernel::DequantizeFwdI8(p) => int8.dequantize_fwd_i8(p, a.bfp()?, a.next()?),
        Kernel::Conv2dFwdI8(p) => int8.conv2d_fwd_i8(p, a.bfp()?, a.bfp()?, a.next()?, a.bfp()?, a.next()?),
        Kernel::Conv2dStreamI8(p) => {
            let (x, w, step) = (a.bfp()?, a.bfp()?, a.next()?);
            let other = if p.add != 0 { a.tensor(p.other)? } else { nothing };
            let s = a.tensor(p.form)?;
            let (q, sums) = if p.store != 0 { (a.bfp()?, a.next()?) } else { (nothing, none) };
            int8.conv2d_stream_i8(p, x, w, step, other, s, q, sums)
        }
        Kernel::Conv2dDgradI8(p) => {
            let (dyd, transposed, step) = (a.bfp()?, a.next()?, a.next()?);
            let fused = match call.inputs.len() {
                4 => None,
                _ => Some(Normalised { y: a.bfp()?, affine: a.next()? }),
            };
            let dx = a.bfp()?;
            let sums = if fused.is_some() { a.next()? } else { none };
            int8.conv2d_dgrad_i8(p, dyd, transposed, step, fused, dx, sums)
        }
        Kernel::Conv2dWgradI8(p) => int8.conv2d_wgrad_i8(p, a.bfp()?, a.bfp()?, a.next()?, ws),
        Kernel::BatchNormFwdI8(p) => {
            let (y, sums, gamma, beta, step) = (a.bfp()?, a.next()?, a.next()?, a.next()?, a.next()?);
            let (running_mean, running_var) = (a.next()?, a.next()?);
            let (mean, invstd, affine) = (a.next()?, a.next()?, a.next()?);
            let state = BatchNormState { gamma, beta, running_mean, running_var, mean, invstd, affine };
            let out = a.bfp()?;
            let index = if p.pool.kernel_h != 0 { a.next()? } else { none };
            int8.batchnorm_fwd_i8(p, y, sums, state, step, out, index, ws)
        }
        Kernel::BatchNormGradI8(p) => {
            let up = a.tensor(p.gradient)?;
            let more = if p.add != 0 { a.tensor(p.more)? } else { nothing };
            let index = if p.pool.kernel_h != 0 { a.next()? } else { none };
            let forward = Normalised { y: a.bfp()?, affine: a.next()? };
            int8.batchnorm_grad_i8(p, up, more, index, forward, a.next()?, a.bfp()?, a.next()?)
        }
        Kernel::BatchNormBwdI8(p) => {
            let (dz, sums, y, y_sums) = (a.bfp()?, a.next()?, a.bfp()?, a.next()?);
            let (gamma, mean, invstd) = (a.next()?, a.next()?, a.next()?);
            let (weight_exponents, input_exponents, step) = (a.next()?, a.next()?, a.next()?);
            let (dgamma, dbeta) = (a.next()?, a.next()?);
            let dyd = if p.dgrad != 0 { a.bfp()? } else { nothing };
            let gradients =
                BatchNormGradients { gamma, mean, invstd, weight_exponents, input_exponents, dgamma, dbeta };
            int8.batchnorm_bwd_i8(p, dz, sums, y, y_sums, gradients, step, dyd, a.bfp()?, ws)
        }
        Kernel::BatchNormBwdStreamI8(p) => {
            let (dz, sums, y, gamma, mean, invstd) = (a.bfp()?, a.next()?, a.bfp()?, a.next()?, a.next()?, a.next()?);
            let index = if p.select != 0 { a.next()? } else { none };
            let other = if p.add != 0 { a.tensor(p.other)? } else { nothing };
            let (dgamma, dbeta, dx) = (a.next()?, a.next()?, a.tensor(p.form)?);
            int8.batchnorm_bwd_stream_i8(p, dz, sums, y, gamma, mean, invstd, index, other, dgamma, dbeta, dx, ws)
        }
        Kernel::BatchNormAddFwdI8(p) => {
            let (y, sums, [gamma, beta]) = (a.bfp()?, a.next()?, [a.next()?, a.next()?]);
            let (other, second) = match p.both {
                0 => (a.tensor(p.other)?, None),
                _ => (a.bfp()?, Some((a.next()?, [a.next()?, a.next()?]))),
            };
            let step = a.next()?;
            let mut input = |y, sums, [gamma, beta]: [Span<'m>; 2]| -> Result<_> {
                let (running_mean, running_var) = (a.next()?, a.next()?);
                let (mean, invstd, affine) = (a.next()?, a.next()?, a.next()?);
                let state = BatchNormState { gamma, beta, running_mean, running_var, mean, invstd, affine };
                Ok(BatchNormInput { y, sums, state })
            };
            let first = input(y, sums, [gamma, beta])?;
            let other = match second {
                Some((sums, parameters)) => Summand::BatchNorm(input(other, sums, parameters)?),
                None => Summand::Stream(other),
            };
            let out = a.tensor(p.form)?;
            let mask = if p.relu != 0 { a.next()? } else { none };
            let operand = if p.operand != 0 { a.bfp()? } else { nothing };
            int8.batchnorm_add_fwd_i8(p, first, other, step, out, mask, operand, ws)
        }
        Kernel::BatchNormAddGradI8(p) => {
            let up = a.tensor(p.up)?;
            let more = if p.add != 0 { a.tensor(p.more)? } else { nothing };
            let mask = if p.relu != 0 { a.next()? } else { none };
            let (y, other_y) = (a.next()?, if p.both != 0 { Some(a.next()?) } else { None });
            let (step, dz, sums) = (a.next()?, a.bfp()?, a.next()?);
            let second = match other_y {
                Some(y) => Some((y, a.next()?)),
                None => None,
            };
            let dx = if p.stream != 0 { a.bfp()? } else { nothing };
            int8.batchnorm_add_grad_i8(p, up, more, mask, y, second, step, dz, sums, dx)
        }
        Kernel::ClassifierFwd(p) => {
            let (x, w) = (a.next()?, a.next()?);
            let bias = if p.bias != 0 { a.next()? } else { none };
            int8.classifier_fwd_f32(p, x, w, bias, a.next()?, a.next()?, a.next()?, a.next()?, a.next()?)
        }
        Kernel::ClassifierBwd(p) => {
            let (x, w, dlogits, losses, hits) = (a.next()?, a.next()?, a.next()?, a.next()?, a.next()?);
            let (dx, dw) = (a.next()?, a.next()?);
            let dbias = if p.bias != 0 { a.next()? } else { none };
            int8.classifier_bwd_f32(p, x, w, dlogits, losses, hits, dx, dw, dbias, a.next()?)
        }
        Kernel::SgdStepI8(p) => {
            int8.sgd_step_i8(p, a.next()?, a.next()?, a.next()?, a.next()?, a.next()?, a.next()?, a.next()?)
        }
        _ => Err(defect()),
    }
}

/// An empty span, for kernels that want no scratch memory on this backend.
fn nothing<'m>(call: &Call, span: &dyn Fn(Value) -> Result<Span<'m>>) -> Result<Span<'m>> {
    call.inputs.first().map_or_else(|| Err(defect()), |first| span(*first))?.part(0, 0)
}

fn defect() -> Error {
    Error::Graph { node: "call".into(), op: "execute", what: "was lowered with too few values".into() }
}

/// Hands out the values of a call one by one, as spans.
struct Arguments<'a, 'm, I: Iterator<Item = &'a Value>> {
    values: I,
    span: &'a dyn Fn(Value) -> Result<Span<'m>>,
}

impl<'m, 'a, I: Iterator<Item = &'a Value>> Arguments<'a, 'm, I> {
    fn next(&mut self) -> Result<Span<'m>> {
        self.values.next().map_or_else(|| Err(defect()), |value| (self.span)(*value))
    }

    /// The next two values: mantissas, then exponents.
    fn bfp(&mut self) -> Result<Bfp<'m>> {
        Ok(Bfp { mantissas: self.next()?, exponents: self.next()? })
    }

    /// The next value in f32, or the next two.
    fn tensor(&mut self, form: u32) -> Result<Bfp<'m>> {
        if Form::of(form) == Form::F32 { Ok(Bfp::f32(self.next()?)) } else { self.bfp() }
    }
}
