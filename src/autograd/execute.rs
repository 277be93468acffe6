//! Runs one lowered call on a backend: unpacks values into the arguments of the right function.

use crate::backend::{Backend, Span};
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
}
