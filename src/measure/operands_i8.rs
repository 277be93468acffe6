//! The tensors of the 8-bit operators, and the bytes that each of their launches must move at the least. The rule is that of [`super::operands`]: every operand read once,
//! every result written once; and scratch memory, which is part of what an operator does here, once each way.

use super::operands::{Content, Operands};
use crate::ops::Kernel;
use crate::ops::batchnorm::{BatchNormI8, GradientSums, OutputSums, SizesI8};
use crate::ops::batchnorm_add::mask_bytes;
use crate::ops::conv2d::Conv2dI8;
use crate::ops::quantize::Form;
use crate::quant::layout::{BLOCK_ROWS, blocks, pad};

/// Mantissas, or anything else a byte wide.
fn bytes(n: usize) -> (usize, Content) {
    (n, Content::Bytes)
}

/// Floats.
fn floats(n: usize) -> (usize, Content) {
    (n * 4, Content::Noise)
}

/// A tensor in a form.
fn tensor(form: u32, rows: usize, c: usize) -> Vec<(usize, Content)> {
    match Form::of(form) {
        Form::F32 => vec![floats(rows * c)],
        form => form.bytes(rows, c).map(bytes).to_vec(),
    }
}

/// Channel numbers, where an operator has any.
fn index(named: usize) -> Option<(usize, Content)> {
    (named != 0).then_some((named * 4, Content::Channels))
}

/// The step counter.
const STEP: (usize, Content) = (4, Content::Labels(1));

/// Operands of `kernel`; `None` where it is not an 8-bit one.
pub fn operands(kernel: &Kernel) -> Option<Operands> {
    let stored = |rows: usize, c: usize| [rows * pad(c), blocks(rows, c)];
    let sums = |rows: usize, c: usize, each: usize| rows.div_ceil(BLOCK_ROWS) * pad(c) * each;
    let (output_sums, gradient_sums) = (size_of::<OutputSums>(), size_of::<GradientSums>());
    let product = |p: &Conv2dI8| {
        let (s, k, rows) = (p.conv.padded(), p.conv.k as usize, p.conv.rows());
        let w = k * (s.r * s.s * s.c) as usize;
        let [m, e] = stored(rows, k);
        let inputs = vec![bytes(s.x_len()), bytes(s.n as usize), bytes(w), bytes(k), STEP];
        (inputs, vec![m, e, sums(rows, k, output_sums)])
    };
    let (inputs, outputs) = match kernel {
        Kernel::QuantizeRound(p) => (vec![STEP], vec![p.groups as usize * p.length as usize * 4]),
        Kernel::QuantizeFwdI8(p) => {
            let (n, all) = (p.n as usize, (p.n * p.pixels) as usize);
            let mut inputs = tensor(p.form, all, p.c as usize);
            inputs.push(STEP);
            (inputs, vec![all * pad(p.c as usize), n])
        }
        Kernel::QuantizeStoreI8(p) => {
            let (rows, c) = (p.rows as usize, p.c as usize);
            let [m, e] = stored(rows, c);
            let mut inputs = tensor(p.form, rows, p.read());
            inputs.extend(index(p.named()));
            inputs.push(STEP);
            (inputs, vec![m, e, sums(rows, c, output_sums)])
        }
        Kernel::QuantizeBwdI8(p) => {
            let (n, k, all) = (p.n as usize, p.k as usize, (p.n * p.pixels) as usize);
            let mut outputs = if p.dgrad != 0 { vec![all * pad(k), n] } else { Vec::new() };
            outputs.extend([all * pad(k) * (1 + usize::from(p.wide != 0)), k]);
            let mut inputs = tensor(p.form, all, k);
            inputs.extend([bytes(k), bytes(n), STEP]);
            (inputs, outputs)
        }
        Kernel::DequantizeFwdI8(p) => {
            (p.bytes().map(bytes).to_vec(), vec![p.n as usize * p.pixels as usize * p.c as usize * 4])
        }
        Kernel::Conv2dFwdI8(p) => product(p),
        Kernel::Conv2dStreamI8(p) => {
            let (mut inputs, stored) = product(&p.product);
            let (rows, k) = (p.product.conv.rows(), p.product.conv.k as usize);
            inputs.extend((p.add != 0).then(|| tensor(p.other, rows, k)).into_iter().flatten());
            let mut outputs: Vec<usize> = tensor(p.form, rows, k).into_iter().map(|(bytes, _)| bytes).collect();
            outputs.extend((p.store != 0).then_some(stored).into_iter().flatten());
            (inputs, outputs)
        }
        Kernel::Conv2dDgradI8(p) => {
            // With the mask of a batchnorm before it: what a step has.
            let (s, c, rows) = (p.conv.padded(), p.conv.c as usize, (p.conv.n * p.conv.h * p.conv.w) as usize);
            let [m, e] = stored(rows, c);
            let w = c * (s.r * s.s * s.k) as usize;
            let inputs =
                vec![bytes(s.y_len()), bytes(s.n as usize), bytes(w), STEP, bytes(m), bytes(e), floats(2 * pad(c))];
            (inputs, vec![m, e, sums(rows, c, gradient_sums)])
        }
        Kernel::Conv2dWgradI8(p) => {
            let (s, dyw) = (p.conv.padded(), wgrad_halves(p) * p.conv.padded().y_len());
            let inputs = vec![bytes(s.x_len()), bytes(s.n as usize), bytes(dyw), bytes(p.conv.k as usize)];
            (inputs, vec![p.conv.w_len() * 4])
        }
        Kernel::BatchNormFwdI8(p) => {
            let (s, one) = (SizesI8::of(p), p.pool.c as usize);
            let [m, e] = stored(s.rows, s.c);
            let inputs = vec![bytes(m), bytes(e), bytes(s.sums() * output_sums), floats(one), floats(one), STEP];
            let out = s.n * s.pooled * s.stride;
            let mut outputs = vec![one * 4, one * 4, one * 4, one * 4, 2 * s.stride * 4, out, s.n];
            outputs.extend((p.pool.kernel_h != 0).then_some(out));
            (inputs, outputs)
        }
        Kernel::BatchNormGradI8(p) => {
            let s = SizesI8::of(p);
            let [m, e] = stored(s.rows, s.c);
            let pooled = s.n * s.pooled;
            let mut inputs = tensor(p.gradient, pooled, s.c);
            inputs.extend((p.add != 0).then(|| tensor(p.more, pooled, s.c)).into_iter().flatten());
            inputs.extend((p.pool.kernel_h != 0).then_some(bytes(pooled * s.stride)));
            inputs.extend([bytes(m), bytes(e), floats(2 * s.stride), STEP]);
            (inputs, vec![m, e, s.sums() * gradient_sums])
        }
        Kernel::BatchNormBwdI8(p) => (bwd_inputs(p), bwd_outputs(p)),
        Kernel::BatchNormBwdStreamI8(p) => {
            let s = SizesI8::of_stream(p);
            let ([m, e], one) = (stored(s.rows, s.c).map(bytes), floats(s.c));
            let mut inputs = vec![m, e, bytes(s.sums() * gradient_sums), m, e, one, one, one];
            inputs.extend(index(p.named()));
            inputs.extend((p.add != 0).then(|| tensor(p.other, s.rows, p.stream())).into_iter().flatten());
            let mut outputs = vec![s.c * 4, s.c * 4];
            outputs.extend(tensor(p.form, s.rows, p.stream()).into_iter().map(|(bytes, _)| bytes));
            (inputs, outputs)
        }
        Kernel::BatchNormAddFwdI8(p) => {
            let s = SizesI8::of_sum(p);
            let [m, e] = stored(s.rows, s.c);
            let of_batchnorm = || [bytes(m), bytes(e), bytes(s.sums() * output_sums), floats(s.c), floats(s.c)];
            let (mut inputs, state) = (of_batchnorm().to_vec(), [s.c * 4, s.c * 4, s.c * 4, s.c * 4, 2 * s.stride * 4]);
            let mut outputs = state.to_vec();
            if p.both != 0 {
                inputs.extend(of_batchnorm());
                outputs.extend(state);
            } else {
                inputs.extend(tensor(p.other, s.rows, s.c));
            }
            inputs.push(STEP);
            outputs.extend(tensor(p.form, s.rows, s.c).into_iter().map(|(bytes, _)| bytes));
            outputs.extend((p.relu != 0).then(|| mask_bytes(s.rows, s.c)));
            outputs.extend((p.operand != 0).then_some([m, s.n]).into_iter().flatten());
            (inputs, outputs)
        }
        Kernel::BatchNormAddGradI8(p) => {
            let (rows, c, both) = (p.rows as usize, p.c as usize, p.both != 0);
            let ([m, e], one) = (stored(rows, c), sums(rows, c, gradient_sums));
            let mut inputs = tensor(p.up, rows, c);
            inputs.extend((p.add != 0).then(|| tensor(p.more, rows, c)).into_iter().flatten());
            inputs.extend((p.relu != 0).then(|| bytes(mask_bytes(rows, c))));
            inputs.extend(vec![bytes(m); 1 + usize::from(both)]);
            inputs.push(STEP);
            let mut outputs = vec![m, e, one];
            outputs.extend(both.then_some(one));
            outputs.extend((p.stream != 0).then(|| Form::Bfp16.bytes(rows, c)).into_iter().flatten());
            (inputs, outputs)
        }
        _ => return None,
    };
    Some(Operands { inputs, outputs })
}

fn wgrad_halves(p: &Conv2dI8) -> usize {
    1 + usize::from(p.wide != 0)
}

fn bwd_inputs(p: &BatchNormI8) -> Vec<(usize, Content)> {
    let (s, one) = (SizesI8::of(p), floats(p.pool.c as usize));
    let (m, e) = (bytes(s.rows * s.stride), bytes(s.exponents()));
    let (sums, y_sums) = (bytes(s.sums() * size_of::<GradientSums>()), bytes(s.sums() * size_of::<OutputSums>()));
    vec![m, e, sums, m, e, y_sums, one, one, one, bytes(s.c), bytes(s.n), STEP]
}

fn bwd_outputs(p: &BatchNormI8) -> Vec<usize> {
    let s = SizesI8::of(p);
    let all = s.rows * s.stride;
    let mut outputs = vec![s.c * 4, s.c * 4];
    outputs.extend((p.dgrad != 0).then_some([all, s.n]).into_iter().flatten());
    outputs.extend([all * (1 + usize::from(p.wide != 0)), s.c]);
    outputs
}

/// Bytes that the launch of `symbol`, made for `kernel` with `workspace` bytes of scratch memory, must read and write; `None` where nothing is known of it.
pub fn compulsory(symbol: &str, kernel: &Kernel, workspace: usize) -> Option<(usize, usize)> {
    if let Kernel::SgdStepI8(p) = kernel {
        // Every number as if it were a convolution's weight: both layouts of mantissas.
        return Some((12 * p.sgd.count as usize + 8, 10 * p.sgd.count as usize));
    }
    let all = operands(kernel)?;
    let (read, written) = (all.inputs.iter().map(|(bytes, _)| bytes).sum::<usize>(), all.outputs.iter().sum::<usize>());
    Some(match (kernel, symbol) {
        // In place.
        (Kernel::QuantizeRound(_), _) => (read + written, written),
        // Sums of slices, coefficients and extremes are written and read again.
        (Kernel::Conv2dWgradI8(_) | Kernel::BatchNormBwdI8(_) | Kernel::BatchNormBwdStreamI8(_), _) => {
            (read + workspace, written + workspace)
        }
        // Running statistics are read, too; statistics, and where there are any the images' largest values, are read again by all blocks.
        (Kernel::BatchNormFwdI8(p), _) => {
            let s = SizesI8::of(p);
            (read + 2 * s.c * 4 + 2 * s.stride * 4 + workspace, written + workspace)
        }
        // As above, for each; what is rounded to an operand is read again, and its largest values.
        (Kernel::BatchNormAddFwdI8(p), _) => {
            let (s, operand) = (SizesI8::of_sum(p), usize::from(p.operand != 0));
            let again = operand * Form::Bfp16.bytes(s.rows, s.c).iter().sum::<usize>();
            (
                read + (2 * s.c * 4 + 2 * s.stride * 4) * (1 + usize::from(p.both != 0)) + again + workspace,
                written + workspace,
            )
        }
        // The gradient is looked at before it is rounded; largest values and exponents are read again by all blocks.
        (Kernel::QuantizeBwdI8(p), _) => {
            let (rows, k) = ((p.n * p.pixels) as usize, p.k as usize);
            (read + Form::of(p.form).bytes(rows, k)[0] + workspace + k, written + workspace)
        }
        _ => (read, written),
    })
}
