//! The end of a residual block in 8 bits against the plain CPU, as `int8` does it for the other kernels: the same bytes.

use earlybird::backend::{BatchNormInput, BatchNormState, Bfp, Memory, Summand};
use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::{GradientSums, OutputSums};
use earlybird::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use earlybird::ops::quantize::{Form, Store};
use earlybird::quant::layout::{blocks, pad};

use crate::int8::{Named, Random, STEP, Side, bfp, everything, noise, same};

for_each_gpu!(crate::int8::vgpu, crate::int8::cuda; ends_of_residual_blocks);

/// A batchnorm's input, stored, with its state; what it writes is compared.
struct Input {
    y: [Memory; 2],
    sums: Memory,
    state: [Memory; 7],
}

impl Input {
    fn new(side: &mut Side, random: &mut Random, rows: usize, c: usize) -> Input {
        let (x, step) = (side.put(&random.floats(rows * c)), side.put(&STEP));
        let y = [side.out("y", rows * pad(c)), side.out("y exponents", blocks(rows, c))];
        let sums = side.out("y sums", rows.div_ceil(64) * pad(c) * size_of::<OutputSums>());
        let (store, none) = (Store::all(rows, c, noise(1, true)), step.span(0, 0).unwrap());
        let backend = side.backend.clone();
        let int8 = backend.int8().unwrap();
        int8.quantize_store_i8(&store, Bfp::f32(x.all()), none, step.all(), bfp(&y[0], &y[1]), sums.all()).unwrap();
        let positive: Vec<f32> = random.floats(c).iter().map(|v| v.abs() + 0.1).collect();
        let state = [
            side.put(&random.floats(c)),
            side.put(&random.floats(c)),
            side.updated("running mean", &random.floats(c)),
            side.updated("running var", &positive),
            side.out("mean", c * 4),
            side.out("invstd", c * 4),
            side.out("affine", 2 * pad(c) * 4),
        ];
        Input { y, sums, state }
    }

    fn all(&self) -> BatchNormInput<'_> {
        let [gamma, beta, running_mean, running_var, mean, invstd, affine] = self.state.each_ref().map(Memory::all);
        let state = BatchNormState { gamma, beta, running_mean, running_var, mean, invstd, affine };
        BatchNormInput { y: bfp(&self.y[0], &self.y[1]), sums: self.sums.all(), state }
    }
}

/// Form of what is added (`None`: a second batchnorm), of the sum; ReLU, operand, stochastic.
type Way = (Option<Form>, Form, [bool; 3]);

const WAYS: [Way; 6] = [
    (Some(Form::Bfp16), Form::Bfp16, [true, true, true]),
    (None, Form::Bfp16, [true, true, true]),
    (Some(Form::F32), Form::Bfp16, [true, false, false]),
    (Some(Form::Stored), Form::Bfp16, [false, true, false]),
    (Some(Form::Bfp16), Form::F32, [true, false, true]),
    (None, Form::F32, [false, false, true]),
];

fn end_of_block(gpus: &[Named], (n, pixels, c): (usize, usize, usize), ways: &[Way]) {
    for (i, (other, form, [relu, operand, stochastic])) in ways.iter().copied().enumerate() {
        same(gpus, &format!("batchnorm_add {n} {pixels} {c} {other:?} {form:?}"), |side| {
            let (mut random, rows) = (Random((n * 31 + pixels * 7 + c + i) as u64), n * pixels);
            let backend = side.backend.clone();
            let (int8, step) = (backend.int8().unwrap(), side.put(&STEP));
            let [first, second] = [0; 2].map(|_| Input::new(side, &mut random, rows, c));
            let [stream, streame] = side.tensor(&mut random, other.unwrap_or_default(), rows, c);
            let p = BatchNormAddI8 {
                n: n as u32,
                pixels: pixels as u32,
                c: c as u32,
                eps: [1e-5, 1e-3],
                momentum: [0.1, 0.25],
                relu: u32::from(relu),
                both: u32::from(other.is_none()),
                other: other.unwrap_or_default() as u32,
                form: form as u32,
                operand: u32::from(operand),
                noise: noise(2, stochastic),
            };
            let [sum, sume] = side.stream(form, rows, c);
            let mask = side.out("mask", usize::from(relu) * mask_bytes(rows, c));
            let of_operand = usize::from(operand);
            let (q, qe) = (side.out("operand", of_operand * rows * pad(c)), side.out("its exponents", of_operand * n));
            let ws = side.ws(&Kernel::BatchNormAddFwdI8(p));
            let summand = match other {
                Some(_) => Summand::Stream(bfp(&stream, &streame)),
                None => Summand::BatchNorm(second.all()),
            };
            let (sum, q) = (bfp(&sum, &sume), bfp(&q, &qe));
            int8.batchnorm_add_fwd_i8(&p, first.all(), summand, step.all(), sum, mask.all(), q, ws.all()).unwrap();

            let (up, more) = (form, [None, Some(Form::Stored), Some(Form::F32)][i % 3]);
            let [ups, upe] = side.tensor(&mut random, up, rows, c);
            let rows_of_more = if more.is_some() { rows } else { 0 };
            let [mores, moree] = side.tensor(&mut random, more.unwrap_or(Form::Stored), rows_of_more, c);
            let both = other.is_none();
            let p = BatchNormAddGradI8 {
                rows: rows as u32,
                c: c as u32,
                relu: p.relu,
                both: p.both,
                up: up as u32,
                add: u32::from(more.is_some()),
                more: more.unwrap_or_default() as u32,
                stream: u32::from(!both || stochastic),
                noise: noise(3, stochastic),
            };
            let (dz, dze) = (side.out("dz", rows * pad(c)), side.out("dz exponents", blocks(rows, c)));
            let bytes = rows.div_ceil(64) * pad(c) * size_of::<GradientSums>();
            let [sums, sums_of_second] = [1, usize::from(both)].map(|there| side.out("dz sums", there * bytes));
            let [dx, dxe] = side.stream(Form::Bfp16, p.stream as usize * rows, c);
            let (up, more, dz) = (bfp(&ups, &upe), bfp(&mores, &moree), bfp(&dz, &dze));
            let second = both.then(|| (second.y[0].all(), sums_of_second.all()));
            let (y, step, dx) = (first.y[0].all(), step.all(), bfp(&dx, &dxe));
            let more = if p.add != 0 { more } else { Bfp::f32(mores.span(0, 0).unwrap()) };
            int8.batchnorm_add_grad_i8(&p, up, more, mask.all(), y, second, step, dz, sums.all(), dx).unwrap();
        });
    }
}

/// Blocks of rows in one image and across images, whose rows share a warp or do not; more channels than a block has; rounds with the same channels and with others.
fn ends_of_residual_blocks(gpus: &[Named]) {
    end_of_block(gpus, (2, 64, 64), &WAYS);
    end_of_block(gpus, (3, 49, 37), &WAYS);
    end_of_block(gpus, (70, 1, 3), &WAYS[..2]);
    end_of_block(gpus, (1, 1, 1), &WAYS[..2]);
    end_of_block(gpus, (5, 30, 130), &WAYS[..3]);
    end_of_block(gpus, (2, 128, 20), &WAYS[3..]);
    if everything() {
        for (n, pixels, c) in [(9, 12, 48), (4, 196, 96), (2, 784, 40), (130, 4, 16), (1, 200, 260)] {
            end_of_block(gpus, (n, pixels, c), &WAYS);
        }
    }
}
