//! The tensors of a lowered operator, and the bytes that each kernel launched for it must move at the least: every operand read once, every result written once,
//! nothing kept between kernels. The same rule as a roofline's.

use super::operands_i8;
use crate::ops::advance::StepState;
use crate::ops::augment::Augment;
use crate::ops::{Kernel, Metrics};

/// What an operand holds, for those who make one up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// f32.
    Noise,
    /// u32 below this.
    Labels(u32),
    /// u32, every second channel.
    Channels,
    /// Anything.
    Bytes,
}

/// Bytes of an operator's tensors, in the order of [`Kernel`]'s comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operands {
    /// Inputs, with what they hold.
    pub inputs: Vec<(usize, Content)>,
    /// Outputs.
    pub outputs: Vec<usize>,
}

/// Operands of `kernel`, with a bias where it may have one and it is a linear layer's; `None` for kernels that have no operands of their own.
pub fn operands(kernel: &Kernel) -> Option<Operands> {
    let f = |n: usize| (n * 4, Content::Noise);
    let (inputs, outputs) = match kernel {
        Kernel::AddFwd(p) => (vec![f(p.n as usize); 2], vec![p.n as usize * 4]),
        Kernel::ReluFwd(p) => (vec![f(p.n as usize)], vec![p.n as usize * 4]),
        Kernel::ReluBwd(p) => (vec![f(p.n as usize); 2], vec![p.n as usize * 4]),
        Kernel::Conv2dFwd(p) => (vec![f(p.x_len()), f(p.w_len())], vec![p.y_len() * 4]),
        Kernel::Conv2dDgrad(p) => (vec![f(p.y_len()), f(p.w_len())], vec![p.x_len() * 4]),
        Kernel::Conv2dWgrad(p) => (vec![f(p.x_len()), f(p.y_len())], vec![p.w_len() * 4]),
        Kernel::BatchNormFwd(p) => {
            let (all, one) = (p.rows as usize * p.c as usize, p.c as usize);
            (vec![f(all), f(one), f(one)], vec![all * 4, one * 4, one * 4, one * 4, one * 4])
        }
        Kernel::BatchNormEval(p) => {
            let (all, one) = (p.rows as usize * p.c as usize, p.c as usize);
            (vec![f(all), f(one), f(one), f(one), f(one)], vec![all * 4])
        }
        Kernel::BatchNormBwd(p) => {
            let (all, one) = (p.rows as usize * p.c as usize, p.c as usize);
            (vec![f(all), f(all), f(one), f(one), f(one), f(all)], vec![all * 4, one * 4, one * 4])
        }
        Kernel::MaxPoolFwd(p) | Kernel::AvgPoolFwd(p) | Kernel::GlobalAvgPoolFwd(p) => {
            let (x, y) = pool(p);
            let index = matches!(kernel, Kernel::MaxPoolFwd(_)).then_some(y);
            (vec![f(x)], [y * 4].into_iter().chain(index).collect())
        }
        Kernel::MaxPoolBwd(p) => {
            let (x, y) = pool(p);
            (vec![(y, Content::Bytes), f(y)], vec![x * 4])
        }
        Kernel::AvgPoolBwd(p) | Kernel::GlobalAvgPoolBwd(p) => {
            let (x, y) = pool(p);
            (vec![f(y)], vec![x * 4])
        }
        Kernel::LinearFwd(p) => {
            let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
            (vec![f(n * c), f(k * c), f(k)], vec![n * k * 4])
        }
        Kernel::LinearDgrad(p) => {
            let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
            (vec![f(n * k), f(k * c)], vec![n * c * 4])
        }
        Kernel::LinearWgrad(p) => {
            let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
            (vec![f(n * c), f(n * k)], vec![k * c * 4, k * 4])
        }
        Kernel::SelectFwd(p) | Kernel::SelectBwd(p) => {
            let (wide, narrow) = (p.rows as usize * p.c as usize, p.rows as usize * p.k as usize);
            let (from, to) = if matches!(kernel, Kernel::SelectFwd(_)) { (wide, narrow) } else { (narrow, wide) };
            (vec![f(from), (p.k as usize * 4, Content::Channels)], vec![to * 4])
        }
        Kernel::SoftmaxXentFwd(p) => {
            let (all, n) = (p.n as usize * p.classes as usize, p.n as usize);
            (vec![f(all), (n * 4, Content::Labels(p.classes))], vec![all * 4, size_of::<Metrics>()])
        }
        Kernel::SoftmaxXentBwd(p) => {
            let (all, n) = (p.n as usize * p.classes as usize, p.n as usize);
            (vec![f(all), (n * 4, Content::Labels(p.classes))], vec![all * 4])
        }
        Kernel::SgdStep(p) => {
            let n = p.count as usize;
            (vec![f(1), f(n)], vec![n * 4, n * 4])
        }
        Kernel::ClassifierFwd(p) => {
            let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
            let mut inputs = vec![f(n * c), f(k * c)];
            inputs.extend((p.bias != 0).then(|| f(k)));
            inputs.push((n * 4, Content::Labels(p.k)));
            (inputs, vec![n * k * 4, n * k * 4, n * 8, n * 4])
        }
        Kernel::ClassifierBwd(p) => {
            let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
            let mut outputs = vec![n * c * 4, k * c * 4];
            outputs.extend((p.bias != 0).then_some(k * 4));
            outputs.push(size_of::<Metrics>());
            (vec![f(n * c), f(k * c), f(n * k), f(n * 2), f(n)], outputs)
        }
        _ => return operands_i8::operands(kernel),
    };
    Some(Operands { inputs, outputs })
}

/// Bytes that making a batch from images on the device must read and write: what crops leave out counts as read.
pub(super) fn batch(p: &Augment) -> (usize, usize) {
    let (n, elements, channels) = (p.n as usize, p.n as usize * p.elements(), p.c as usize * 4);
    (elements + 8 * n + size_of::<StepState>() + 2 * channels, elements * 4 + 4 * n)
}

/// Elements of a pool's input and output.
fn pool(p: &crate::ops::pool::Pool) -> (usize, usize) {
    let of = |h: u32, w: u32| p.n as usize * h as usize * w as usize * p.c as usize;
    (of(p.h, p.w), of(p.p, p.q))
}

/// Bytes that the launch of `symbol`, made for `kernel` with this grid and `workspace` bytes of scratch memory, must read and write; `None` where nothing is
/// known of it.
pub fn compulsory(symbol: &str, kernel: &Kernel, grid: [u32; 3], workspace: usize) -> Option<(usize, usize)> {
    if let Some(known) = operands_i8::compulsory(symbol, kernel, workspace) {
        return Some(known);
    }
    let all = operands(kernel)?;
    let read: usize = all.inputs.iter().map(|(bytes, _)| bytes).sum();
    let written: usize = all.outputs.iter().sum();
    let slabs = grid[1] as usize;
    Some(match (kernel, symbol) {
        (Kernel::Conv2dWgrad(_), s) if s.starts_with("conv2d_wgrad_f32") => (read, written * grid[2] as usize),
        (Kernel::Conv2dWgrad(_), "conv2d_wgrad_sum_f32") => (workspace, written),
        (Kernel::BatchNormFwd(p) | Kernel::BatchNormBwd(p), _) => {
            let (tensor, channel) = (p.rows as usize * p.c as usize * 4, p.c as usize * 4);
            let gradient = if p.relu == 0 { 2 } else { 3 } * tensor;
            match symbol {
                "batchnorm_stats_f32" | "batchnorm_stats_f32_any" => (tensor, 2 * slabs * channel),
                "batchnorm_fwd_f32" | "batchnorm_fwd_f32_any" => (tensor + 2 * channel, tensor),
                "batchnorm_bwd_sums_f32" | "batchnorm_bwd_sums_f32_any" => (gradient + channel, 2 * slabs * channel),
                "batchnorm_bwd_f32" | "batchnorm_bwd_f32_any" => (gradient + 4 * channel, tensor),
                _ => return None,
            }
        }
        (Kernel::LinearFwd(p), "linear_bias_fwd_f32") => ((p.n * p.k + p.k) as usize * 4, written),
        (Kernel::LinearFwd(p), _) => (read - p.k as usize * 4, written),
        (Kernel::LinearWgrad(p), "linear_bias_bwd_f32") => ((p.n * p.k) as usize * 4, p.k as usize * 4),
        (Kernel::LinearWgrad(p), _) => (read, written - p.k as usize * 4),
        // Logits are read back by the warp that wrote them.
        (Kernel::ClassifierFwd(p), _) => (read + p.n as usize * p.k as usize * 4, written),
        (Kernel::SoftmaxXentFwd(_) | Kernel::ClassifierBwd(_), _) => (read + size_of::<Metrics>(), written),
        (Kernel::SgdStep(p), _) => (read + 2 * p.count as usize * 4, written),
        _ => (read, written),
    })
}
