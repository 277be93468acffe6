//! Every 8-bit kernel against the plain CPU, on the virtual GPU and on a real one: the same bytes.
//!
//! A case runs one operator on both and compares every byte that it wrote; outputs and scratch memory are full of 0xa5 before. The devices: an A100 with every check on, and
//! a GPU of one multiprocessor, which the same small shapes give large tiles. `EARLYBIRD_INT8_CASES=all` runs more shapes, and on other schedules.

use std::sync::Arc;

use earlybird::backend::cpu::{Cpu, Path};
use earlybird::backend::cuda::Cuda;
use earlybird::backend::{Backend, BatchNormGradients, BatchNormState, Bfp, Memory, Normalised};
use earlybird::driver::Driver;
use earlybird::driver::vgpu::Vgpu;
use earlybird::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums, OutputSums};
use earlybird::ops::classifier::Classifier;
use earlybird::ops::conv2d::{Conv2d, Conv2dI8, Conv2dStreamI8};
use earlybird::ops::pool::Pool;
use earlybird::ops::quantize::{Dequantize, Form, Noise, Quantize, QuantizeGradient, Round, Store};
use earlybird::ops::sgd::{Format, Segment, Sgd, SgdI8};
use earlybird::ops::{Kernel, Metrics};
use earlybird::quant::layout::{blocks, pad};
use earlybird::vgpu::device::Options;
use earlybird::vgpu::exec::Schedule;
use earlybird::vgpu::limits::{A100, Limits};

use crate::common::{gpu, have_kernels};

mod conv2d;
mod gather;
use conv2d::convolutions;
use gather::gathers;

for_each_gpu!(super::vgpu, super::cuda; operands_and_stored_tensors_from_f32_and_back, classifiers, convolutions, batchnorms, gathers, optimiser_steps);

/// What an untouched byte looks like.
const UNTOUCHED: u8 = 0xa5;

/// Repeatable random words.
pub struct Random(pub u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 32) as u32 ^ (self.0 >> 11) as u32
    }

    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(bound)) >> 32) as u32
    }

    /// Numbers around 0 of very different sizes.
    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        let mut one = || (self.below(2001) as f32 - 1000.0) / 256.0 * (self.below(9) as f32 - 4.0).exp2();
        (0..count).map(|_| one()).collect()
    }

    /// Elements and exponents of a tensor in this form.
    pub fn tensor(&mut self, form: Form, rows: usize, c: usize) -> (Vec<u8>, Vec<i8>) {
        let elements: Vec<u8> = match form {
            Form::F32 => bytemuck::cast_slice(&self.floats(rows * c)).to_vec(),
            Form::Stored => bytemuck::cast_slice(&self.mantissas(rows, c, false)).to_vec(),
            Form::Bfp16 => {
                let mut all = vec![0i16; rows * pad(c)];
                for row in all.chunks_exact_mut(pad(c)) {
                    row[..c].fill_with(|| (self.below(65_535) as i32 - 32_767) as i16);
                }
                bytemuck::cast_slice(&all).to_vec()
            }
        };
        let exponents = self.exponents(form.bytes(rows, c)[1]);
        (elements, exponents)
    }

    fn between(&mut self, low: i32, high: i32) -> i8 {
        (low + self.below((high - low + 1) as u32) as i32) as i8
    }

    pub fn exponents(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| self.between(-9, 5)).collect()
    }

    /// Mantissas of `rows` rows, padded channels 0; `large` makes all of them 127 in size.
    pub fn mantissas(&mut self, rows: usize, c: usize, large: bool) -> Vec<i8> {
        let mut all = vec![0i8; rows * pad(c)];
        for row in all.chunks_exact_mut(pad(c)) {
            row[..c].fill_with(|| if large { 127 } else { self.between(-127, 127) });
        }
        all
    }
}

/// One device's side of a case.
pub struct Side {
    pub backend: Arc<dyn Backend>,
    outputs: Vec<(&'static str, Memory)>,
}

impl Side {
    pub fn put<T: bytemuck::NoUninit>(&self, data: &[T]) -> Memory {
        let memory = self.backend.alloc(size_of_val(data)).unwrap();
        self.backend.upload(bytemuck::cast_slice(data), memory.all()).unwrap();
        memory
    }

    /// Memory that the operator writes, and the case compares.
    pub fn out(&mut self, name: &'static str, bytes: usize) -> Memory {
        let memory = self.put(&vec![UNTOUCHED; bytes]);
        self.outputs.push((name, memory.clone()));
        memory
    }

    /// Memory that is read and written.
    pub fn updated<T: bytemuck::NoUninit>(&mut self, name: &'static str, data: &[T]) -> Memory {
        let memory = self.put(data);
        self.outputs.push((name, memory.clone()));
        memory
    }

    /// A tensor in this form that is read.
    pub fn tensor(&self, random: &mut Random, form: Form, rows: usize, c: usize) -> [Memory; 2] {
        let (elements, exponents) = random.tensor(form, rows, c);
        [self.put(&elements), self.put(&exponents)]
    }

    /// Room for a tensor in this form.
    pub fn stream(&mut self, form: Form, rows: usize, c: usize) -> [Memory; 2] {
        let [elements, exponents] = form.bytes(rows, c);
        [self.out("stream", elements), self.out("exponents of the stream", exponents)]
    }

    pub fn ws(&self, kernel: &Kernel) -> Memory {
        self.put(&vec![UNTOUCHED; self.backend.workspace(kernel)])
    }

    fn bytes(&self, memory: &Memory) -> Vec<u8> {
        let mut data = vec![0; memory.bytes()];
        self.backend.download(memory.all(), &mut data).unwrap();
        data
    }
}

pub fn bfp<'m>(mantissas: &'m Memory, exponents: &'m Memory) -> Bfp<'m> {
    Bfp { mantissas: mantissas.all(), exponents: exponents.all() }
}

pub fn everything() -> bool {
    std::env::var("EARLYBIRD_INT8_CASES").as_deref() == Ok("all")
}

/// A device and its name.
pub type Named = (String, Arc<dyn Backend>);

fn on(driver: Arc<dyn Driver>) -> Arc<dyn Backend> {
    Arc::new(Cuda::new(driver).unwrap())
}

pub fn cuda() -> Option<Vec<Named>> {
    gpu().map(|driver| vec![(driver.props().name.clone(), on(driver))])
}

pub fn vgpu() -> Option<Vec<Named>> {
    if !have_kernels("int8") {
        return None;
    }
    let mut all = vec![("A100", Options::checked()), ("one multiprocessor", Options::checked())];
    all[1].1.limits = Limits { sms: 1, ..A100 };
    if everything() {
        for schedule in [Schedule::Reverse, Schedule::Random(3)] {
            all.push(("other schedule", Options { schedule, ..Options::checked() }));
        }
        all.push(("two workers, unchecked", Options { workers: 2, ..Options::default() }));
    }
    Some(all.into_iter().map(|(name, options)| (name.to_string(), on(Arc::new(Vgpu::new(options))))).collect())
}

/// Runs `body` on the CPU and on every GPU and compares what it wrote.
pub fn same(gpus: &[Named], case: &str, body: impl Fn(&mut Side)) {
    let run = |backend: Arc<dyn Backend>| {
        let mut side = Side { backend, outputs: Vec::new() };
        body(&mut side);
        side.outputs.iter().map(|(name, memory)| (*name, side.bytes(memory))).collect::<Vec<_>>()
    };
    let want = run(Cpu::with_path(Path::Portable).unwrap());
    for (device, backend) in gpus {
        for ((name, want), (_, got)) in want.iter().zip(run(backend.clone())) {
            let wrong = want.iter().zip(&got).filter(|(a, b)| a != b).count();
            if let Some(i) = want.iter().zip(&got).position(|(a, b)| a != b) {
                panic!(
                    "{case} on {device}: {name}: {wrong} of {} bytes differ, the first at {i}: {:?}, want {:?}",
                    want.len(),
                    &got[i..(i + 8).min(got.len())],
                    &want[i..(i + 8).min(want.len())]
                );
            }
        }
    }
}

pub fn noise(tensor: u32, stochastic: bool) -> Noise {
    Noise { seed: [0x1234_5678, 0xfedc_ba98], tensor, stochastic: u32::from(stochastic) }
}

pub const STEP: [u32; 1] = [17];

fn operands_and_stored_tensors_from_f32_and_back(gpus: &[Named]) {
    for (n, pixels, c, stochastic) in
        [(3, 25, 3, true), (2, 64, 37, true), (2, 9, 48, false), (2, 7, 40, true), (1, 1, 1, true)]
    {
        same(gpus, &format!("quantize {n} {pixels} {c} {stochastic}"), |side| {
            let mut random = Random(n as u64 * 7 + c as u64);
            let mut x = random.floats(n * pixels * c);
            x[..pixels * c].iter_mut().take(if n > 2 { usize::MAX } else { 0 }).for_each(|x| *x = 0.0);
            let (x, step, rows) = (side.put(&x), side.put(&STEP), n * pixels);
            let i8 = side.backend.clone();
            let i8 = i8.int8().unwrap();
            let (q, e) = (side.out("mantissas", rows * pad(c)), side.out("exponents", n));
            let [n_, pixels_, c_] = [n, pixels, c].map(|v| v as u32);
            let [wide, wide_e] = side.tensor(&mut random, Form::Bfp16, rows, c);
            let inputs = [(Form::F32, Bfp::f32(x.all())), (Form::Bfp16, bfp(&wide, &wide_e))];
            let p = Quantize { n: n_, pixels: pixels_, c: c_, form: 0, noise: noise(5, stochastic) };
            i8.quantize_fwd_i8(&p, Bfp::f32(x.all()), step.all(), bfp(&q, &e)).unwrap();
            let (r, re) = (side.out("mantissas of 16 bits", rows * pad(c)), side.out("their exponents", n));
            let p = Quantize { form: Form::Bfp16 as u32, ..p };
            i8.quantize_fwd_i8(&p, inputs[1].1, step.all(), bfp(&r, &re)).unwrap();
            let back = side.out("16 bits in f32", rows * c * 4);
            let p = Dequantize { n: n_, pixels: pixels_, c: c_, stored: Form::Bfp16 as u32 };
            i8.dequantize_fwd_i8(&p, inputs[1].1, back.all()).unwrap();
            let back = side.out("operand in f32", rows * c * 4);
            let p = Dequantize { n: n as u32, pixels: pixels as u32, c: c as u32, stored: 0 };
            i8.dequantize_fwd_i8(&p, bfp(&q, &e), back.all()).unwrap();

            let (q, e) = (side.out("stored mantissas", rows * pad(c)), side.out("stored exponents", blocks(rows, c)));
            let sums = side.out("sums", rows.div_ceil(64) * pad(c) * size_of::<OutputSums>());
            let (p, none) = (Store::all(rows, c, noise(6, stochastic)), step.span(0, 0).unwrap());
            i8.quantize_store_i8(&p, inputs[0].1, none, step.all(), bfp(&q, &e), sums.all()).unwrap();
            let back = side.out("stored in f32", rows * c * 4);
            let p = Dequantize { n: n as u32, pixels: pixels as u32, c: c as u32, stored: 1 };
            i8.dequantize_fwd_i8(&p, bfp(&q, &e), back.all()).unwrap();

            for (groups, length) in [(n, pixels * c), (rows, c), (1, rows * c)] {
                let rounded = side.updated("rounded", &side.bytes(&x));
                let p = Round { groups: groups as u32, length: length as u32, noise: noise(9, stochastic) };
                i8.quantize_round_i8(&p, step.all(), rounded.all()).unwrap();
            }

            for (dgrad, wide, (form, dy)) in [
                (true, 0, inputs[0]),
                (false, 0, inputs[0]),
                (true, 1, inputs[0]),
                (true, 0, inputs[1]),
                (false, 1, inputs[1]),
            ] {
                let p = QuantizeGradient {
                    n: n as u32,
                    pixels: pixels as u32,
                    k: c as u32,
                    dgrad: u32::from(dgrad),
                    form: form as u32,
                    noise: noise(7, stochastic),
                    dyd_tensor: 8,
                    wide,
                };
                let wanted = usize::from(dgrad);
                let (we, xe) = (side.put(&random.exponents(c)), side.put(&random.exponents(n)));
                let (dyd, ed) = (side.out("dyd", wanted * rows * pad(c)), side.out("dyd exponents", wanted * n));
                let (dyw, ew) = (side.out("dyw", (rows * pad(c)) << wide), side.out("dyw exponents", c));
                let ws = side.ws(&Kernel::QuantizeBwdI8(p));
                let (we, xe, dyd, dyw) = (we.all(), xe.all(), bfp(&dyd, &ed), bfp(&dyw, &ew));
                i8.quantize_bwd_i8(&p, dy, we, xe, step.all(), dyd, dyw, ws.all()).unwrap();
            }
        });
    }
}

/// The end of a network: odd sizes, more classes than lanes, ties for the largest logit, without a bias.
fn classifiers(gpus: &[Named]) {
    for (n, c, k, bias) in [(5usize, 37usize, 10usize, true), (3, 64, 2, false), (9, 33, 70, true), (1, 1, 5, true)] {
        same(gpus, &format!("classifier {n} {c} {k} {bias}"), |side| {
            let mut random = Random(n as u64 * 100 + k as u64);
            let p = Classifier { n: n as u32, c: c as u32, k: k as u32, bias: u32::from(bias) };
            let labels: Vec<u32> = (0..n).map(|_| random.below(k as u32)).collect();
            let mut w = random.floats(k * c);
            w.copy_within(..c, (k - 1) * c);
            let (x, w, b) = (side.put(&random.floats(n * c)), side.put(&w), side.put(&random.floats(k)));
            let labels = side.put(&labels);
            let [logits, dlogits] = ["logits", "dlogits"].map(|name| side.out(name, n * k * 4));
            let (losses, hits) = (side.out("losses", n * 8), side.out("hits", n * 4));
            let (dx, dw) = (side.out("dx", n * c * 4), side.out("dw", k * c * 4));
            let dbias = side.out("dbias", usize::from(bias) * k * 4);
            let metrics = side.updated("metrics", &[Metrics { loss_sum: 0.7, top1: 3, top5: 4, count: 5 }]);
            let i8 = side.backend.clone();
            let i8 = i8.int8().unwrap();
            let (x, w, losses, hits) = (x.all(), w.all(), losses.all(), hits.all());
            let (logits, dlogits) = (logits.all(), dlogits.all());
            i8.classifier_fwd_f32(&p, x, w, b.all(), labels.all(), logits, dlogits, losses, hits).unwrap();
            let (dx, dw, dbias) = (dx.all(), dw.all(), dbias.all());
            i8.classifier_bwd_f32(&p, x, w, dlogits, losses, hits, dx, dw, dbias, metrics.all()).unwrap();
        });
    }
}

/// Batch, height, width, C; window (0: no pool), stride, padding.
type Layer = ((usize, usize, usize, usize), (usize, usize, usize));

/// All passes of one batchnorm.
fn batchnorm(gpus: &[Named], layer: Layer, relu: bool, stored: bool, stochastic: bool) {
    let ((n, h, w, c), (window, stride, padding)) = layer;
    let out = |size: usize| if window == 0 { size } else { (size + 2 * padding - window) / stride + 1 };
    let (rows, pooled) = (n * h * w, n * out(h) * out(w));
    let [pn, ph, pw, pc, pp, pq, kernel, pstride, ppadding] =
        [n, h, w, c, out(h), out(w), window, stride, padding].map(|v| v as u32);
    let pool = Pool {
        n: pn,
        h: ph,
        w: pw,
        c: pc,
        p: pp,
        q: pq,
        kernel_h: kernel,
        kernel_w: kernel,
        stride: pstride,
        padding: ppadding,
    };
    same(gpus, &format!("batchnorm {layer:?} relu {relu} stored {stored} stochastic {stochastic}"), |side| {
        let mut random = Random((rows * c) as u64);
        let i8 = side.backend.clone();
        let i8 = i8.int8().unwrap();
        let step = side.put(&STEP);
        let stored_sums = rows.div_ceil(64) * pad(c) * size_of::<OutputSums>();
        let (y, ye, y_sums) =
            (side.out("y", rows * pad(c)), side.out("ye", blocks(rows, c)), side.out("y sums", stored_sums));
        let x = side.put(&random.floats(rows * c));
        let (p, none) = (Store::all(rows, c, noise(1, false)), step.span(0, 0).unwrap());
        i8.quantize_store_i8(&p, Bfp::f32(x.all()), none, step.all(), bfp(&y, &ye), y_sums.all()).unwrap();

        let p = BatchNormI8 {
            pool,
            eps: 1e-5,
            momentum: 0.1,
            relu: u32::from(relu),
            gradient: u32::from(stored),
            add: u32::from(stored && relu),
            more: Form::Bfp16 as u32,
            dgrad: u32::from(relu),
            noise: noise(2, stochastic),
            dyd_tensor: 3,
            wide: u32::from(stored),
        };
        let (gamma, beta) = (side.put(&random.floats(c)), side.put(&random.floats(c)));
        let positive: Vec<f32> = random.floats(c).iter().map(|v| v.abs() + 0.1).collect();
        let running = (side.updated("running mean", &random.floats(c)), side.updated("running var", &positive));
        let (mean, invstd) = (side.out("mean", c * 4), side.out("invstd", c * 4));
        let affine = side.out("affine", 2 * pad(c) * 4);
        let state = BatchNormState {
            gamma: gamma.all(),
            beta: beta.all(),
            running_mean: running.0.all(),
            running_var: running.1.all(),
            mean: mean.all(),
            invstd: invstd.all(),
            affine: affine.all(),
        };
        let (out, oute) = (side.out("out", pooled * pad(c)), side.out("out exponents", n));
        let index = side.out("index", if window == 0 { 0 } else { pooled * pad(c) });
        let ws = side.ws(&Kernel::BatchNormFwdI8(p));
        let (ys, outs) = (bfp(&y, &ye), bfp(&out, &oute));
        i8.batchnorm_fwd_i8(&p, ys, y_sums.all(), state, step.all(), outs, index.all(), ws.all()).unwrap();

        let [up, upe] = side.tensor(&mut random, if stored { Form::Stored } else { Form::F32 }, pooled, c);
        let [more, moree] = side.tensor(&mut random, Form::Bfp16, p.add as usize * pooled, c);
        let (dz, dze, sums) =
            (side.out("dz", rows * pad(c)), side.out("dze", blocks(rows, c)), side.out("dz sums", stored_sums));
        let (ups, mores, forward) = (bfp(&up, &upe), bfp(&more, &moree), Normalised { y: ys, affine: affine.all() });
        let dzs = bfp(&dz, &dze);
        i8.batchnorm_grad_i8(&p, ups, mores, index.all(), forward, step.all(), dzs, sums.all()).unwrap();

        let (we, xe) = (side.put(&random.exponents(c)), side.put(&random.exponents(n)));
        let (dgamma, dbeta) = (side.out("dgamma", c * 4), side.out("dbeta", c * 4));
        let wanted = usize::from(relu);
        let (dyd, ed) = (side.out("dyd", wanted * rows * pad(c)), side.out("dyd exponents", wanted * n));
        let (dyw, ew) = (side.out("dyw", (rows * pad(c)) << p.wide), side.out("dyw exponents", c));
        let ws = side.ws(&Kernel::BatchNormBwdI8(p));
        let gradients = BatchNormGradients {
            gamma: gamma.all(),
            mean: mean.all(),
            invstd: invstd.all(),
            weight_exponents: we.all(),
            input_exponents: xe.all(),
            dgamma: dgamma.all(),
            dbeta: dbeta.all(),
        };
        let (dyds, dyws) = (bfp(&dyd, &ed), bfp(&dyw, &ew));
        i8.batchnorm_bwd_i8(&p, dzs, sums.all(), ys, y_sums.all(), gradients, step.all(), dyds, dyws, ws.all())
            .unwrap();

        for (add, other, form) in [
            (1, Form::F32, Form::F32),
            (0, Form::F32, Form::Bfp16),
            (1, Form::Bfp16, Form::Bfp16),
            (1, Form::Stored, Form::Bfp16),
            (1, Form::Bfp16, Form::F32),
        ] {
            let [rows_, c_, other_, form_] = [rows, c, other as usize, form as usize].map(|v| v as u32);
            let p = BatchNormBwdStreamI8 { rows: rows_, c: c_, add, other: other_, form: form_, select: 0, wide: c_ };
            let [below, be] = side.tensor(&mut random, other, rows, c);
            let (dgamma, dbeta) = (side.out("dgamma of a stream", c * 4), side.out("dbeta of a stream", c * 4));
            let ([dx, dxe], ws) = (side.stream(form, rows, c), side.ws(&Kernel::BatchNormBwdStreamI8(p)));
            let [gamma, mean, invstd, dgamma, dbeta] = [&gamma, &mean, &invstd, &dgamma, &dbeta].map(Memory::all);
            let (sums, below, dx, ws) = (sums.all(), bfp(&below, &be), bfp(&dx, &dxe), ws.all());
            i8.batchnorm_bwd_stream_i8(&p, dzs, sums, ys, gamma, mean, invstd, none, below, dgamma, dbeta, dx, ws)
                .unwrap();
        }
    });
}

fn batchnorms(gpus: &[Named]) {
    batchnorm(gpus, ((2, 8, 8, 16), (0, 1, 0)), true, true, true);
    batchnorm(gpus, ((3, 8, 16, 37), (2, 2, 0)), true, false, true);
    batchnorm(gpus, ((3, 7, 5, 48), (3, 2, 1)), true, true, true); // overlapping windows, samples within a block
    batchnorm(gpus, ((5, 2, 2, 130), (2, 2, 0)), false, false, false);
    batchnorm(gpus, ((1, 1, 1, 3), (0, 1, 0)), false, true, true);
    // Overlapping windows of an f32 gradient, without a ReLU that would hide padded channels; first rows of an image all over a block.
    batchnorm(gpus, ((1, 6, 6, 5), (5, 1, 2)), false, false, true);
    batchnorm(gpus, ((4, 3, 3, 5), (3, 1, 1)), false, false, true);
    if everything() {
        for (i, c) in [3, 16, 37, 48, 64, 130].into_iter().enumerate() {
            batchnorm(gpus, ((2 + i, 16, 8, c), [(0, 1, 0), (2, 2, 0), (3, 2, 1)][i % 3]), i != 1, i % 2 == 0, true);
            batchnorm(gpus, ((3, 9, 4 + i, c), [(3, 1, 1), (2, 3, 0), (0, 1, 0)][i % 3]), true, i % 2 == 1, i != 4);
        }
        batchnorm(gpus, ((40, 8, 8, 20), (0, 1, 0)), true, true, true);
    }
}

/// A table of one parameter of each kind.
fn segments(scales: u32, k: u32, taps: u32, c: u32) -> (Vec<Segment>, usize, usize) {
    let first = (scales * 2).next_multiple_of(16);
    let conv = Segment::conv(first, [k, taps, c], 0);
    let linear = Segment { rows: 3, format: Format::Rows as u32, ..Segment::plain(first + k * conv.columns, 29) };
    let bias = Segment::elements(linear.offset + 87, 2100);
    let table = vec![Segment::elements(0, scales), Segment::plain(scales, scales), conv, linear, bias];
    (table, (bias.offset + bias.columns) as usize, conv.packed())
}

/// With an L1 term so large that the exponent of a row shows whether it was added there, too.
fn optimiser_steps(gpus: &[Named]) {
    for (k, taps, c, master, rounds) in [(5, 9, 3, 0, 1), (18, 1, 37, 1, 1), (3, 9, 48, 0, 0)] {
        same(gpus, &format!("sgd {k} {taps} {c} {master} {rounds}"), |side| {
            let (table, count, packed) = segments(21, k, taps, c);
            let mut random = Random(u64::from(k));
            let i8 = side.backend.clone();
            let i8 = i8.int8().unwrap();
            let p = SgdI8 {
                sgd: Sgd { count: count as u32, scales: 21, momentum: 0.9, weight_decay: 1e-4, l1: 8.0 },
                segments: table.len() as u32,
                master_f32: master,
                round_gradients: rounds,
                seed: [5, 6],
                tensors: [101, 102, 103],
            };
            let (table, lr, step) = (side.put(&table), side.put(&[0.1f32]), side.put(&STEP));
            let (v, w) = (side.updated("v", &random.floats(count)), side.updated("w", &random.floats(count)));
            let packed = side.out("packed", packed);
            i8.sgd_pack_i8(&p, table.all(), step.all(), w.all(), packed.all()).unwrap();
            let again = side.updated("packed first", &side.bytes(&packed));
            assert_eq!(again.bytes(), packed.bytes());
            for _ in 0..2 {
                let g = side.put(&random.floats(count));
                i8.sgd_step_i8(&p, table.all(), lr.all(), step.all(), g.all(), v.all(), w.all(), packed.all()).unwrap();
            }
        });
    }
}
