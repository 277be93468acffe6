//! How far each convolution of VGG16 is from the machine's integer peak and from its f32 twin, and where an 8-bit step spends its time: `cargo bench --bench int8_layers`.
//!
//! Batch 128 (`EARLYBIRD_BENCH_BATCH=n` for another), all threads (`RAYON_NUM_THREADS=n`). Every layer and pass: milliseconds and G operations a second (a multiply-add is 2) of the f32 and of the 8-bit operator, each the best of
//! several rounds in which all operators take turns, so that a busy machine slows all alike; and the 8-bit operator's share of the peak, which a loop in registers over the path's own
//! instructions reaches on all threads. Operations are those of the direct convolution: an algorithm with fewer multiplications may come above its peak. Noise, scales, rounding and
//! sums are part of the 8-bit operators. The peak of AMX is that of `tdpbssd`, 2 * 16 * 16 * 64 operations every 16 cycles. `EARLYBIRD_BENCH_INTEGERS=avx2` (or another name of [`IntegerPath::ALL`]) caps the instruction
//! set, to see `amx` beside `avx512-vnni` on one machine. Below, a step's operators added up. On a machine that others use, `EARLYBIRD_BENCH_CLOCK=cpu RAYON_NUM_THREADS=1` counts the processor's time
//! (Linux) in place of the clock's.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say where

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytemuck::Zeroable;
use earlybird::backend::cpu::{Cpu, IntegerPath, Path};
use earlybird::backend::{Backend, BatchNormGradients, BatchNormState, Bfp, Memory, Normalised};
use earlybird::data::noise;
use earlybird::ops::batchnorm::{BatchNorm, BatchNormI8, SizesI8};
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8};
use earlybird::ops::pool::Pool;
use earlybird::ops::quantize::{Form, Noise, Quantize};
use earlybird::ops::sgd::{Segment, Sgd, SgdI8};
use earlybird::ops::{Kernel, Shape};
use earlybird::quant::layout::{blocks, pad};

/// Image side, input and output channels, whether a max-pool follows.
const LAYERS: [(usize, usize, usize, bool); 13] = [
    (32, 3, 64, false),
    (32, 64, 64, true),
    (16, 64, 128, false),
    (16, 128, 128, true),
    (8, 128, 256, false),
    (8, 256, 256, false),
    (8, 256, 256, true),
    (4, 256, 512, false),
    (4, 512, 512, false),
    (4, 512, 512, true),
    (2, 512, 512, false),
    (2, 512, 512, false),
    (2, 512, 512, false),
];
const ROUNDS: usize = 5;

/// Best seconds of every operator.
type Times = BTreeMap<(usize, &'static str), f64>;

/// How time is told.
#[derive(Clone, Copy)]
enum Clock {
    /// Since a moment.
    Wall(Instant),
    /// What the system gave this process, all threads together.
    Processor,
}

impl Clock {
    fn now(self) -> f64 {
        match self {
            Clock::Wall(start) => start.elapsed().as_secs_f64(),
            Clock::Processor => {
                let threads = std::fs::read_dir("/proc/self/task").unwrap();
                let spent = threads.map(|thread| {
                    let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
                    text.split(' ').next().unwrap().parse::<f64>().unwrap()
                });
                spent.sum::<f64>() / 1e9
            }
        }
    }
}

/// A device, its memory and its clock.
struct Bench {
    backend: Arc<dyn Backend>,
    clock: Clock,
    times: RefCell<Times>,
}

impl Bench {
    fn floats(&self, len: usize) -> Memory {
        self.put(&noise(len, len as u64))
    }

    /// `len` random mantissas.
    fn bytes(&self, len: usize) -> Memory {
        let mut state = len as u64 | 1;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % 255) as u8 as i8
        };
        self.put(&(0..len.next_multiple_of(4)).map(next).map(|m| m.max(-127)).collect::<Vec<i8>>())
    }

    fn put<T: bytemuck::Pod>(&self, data: &[T]) -> Memory {
        let memory = self.backend.alloc(size_of_val(data)).unwrap();
        self.backend.upload(bytemuck::cast_slice(data), memory.all()).unwrap();
        memory
    }

    fn zeros(&self, bytes: usize) -> Memory {
        self.backend.alloc(bytes.next_multiple_of(4).max(4)).unwrap()
    }

    fn workspace(&self, kernel: Kernel) -> Memory {
        self.zeros(self.backend.workspace(&kernel))
    }

    fn time(&self, layer: usize, name: &'static str, call: impl FnOnce() -> earlybird::Result<()>) {
        let start = self.clock.now();
        call().unwrap();
        let seconds = self.clock.now() - start;
        let mut times = self.times.borrow_mut();
        let best = times.entry((layer, name)).or_insert(f64::INFINITY);
        *best = best.min(seconds);
    }
}

/// Mantissas and exponents.
struct Tensor(Memory, Memory);

impl Tensor {
    fn new(b: &Bench, mantissas: usize, exponents: usize) -> Tensor {
        Tensor(b.bytes(mantissas), b.zeros(exponents))
    }

    fn bfp(&self) -> Bfp<'_> {
        Bfp { mantissas: self.0.all(), exponents: self.1.all() }
    }
}

/// One round of one layer's operators, f32 and 8 bits in turn.
fn layer(b: &Bench, number: usize, batch: usize, rounds: usize) {
    let (side, c, k, pooled) = LAYERS[number];
    let p = Conv2d::new(batch, Shape::new(side, side, c), &Conv2dAttr::square(k, 3, 1, 1)).unwrap();
    let rows = p.rows();
    let noise = Noise { seed: [1, 2], tensor: 3, stochastic: 1 };
    let call = Conv2dI8 { conv: p, noise, wide: 0 };
    let int8 = b.backend.int8().unwrap();
    let (x, w, y) = (b.floats(p.x_len()), b.floats(p.w_len()), b.floats(p.y_len()));
    let [gamma, beta, running_mean, running_var, mean, invstd, dgamma, dbeta] =
        [(); 8].map(|()| b.put(&vec![1.0f32; k]));
    let plain = BatchNorm { rows: rows as u32, c: k as u32, eps: 1e-5, momentum: 0.1, relu: 1 };
    let (out, dy) = (b.floats(p.y_len()), b.floats(p.y_len()));
    let [fwd, dgrad, wgrad] = [Kernel::Conv2dFwd, Kernel::Conv2dDgrad, Kernel::Conv2dWgrad].map(|k| b.workspace(k(p)));
    let bn = b.workspace(Kernel::BatchNormFwd(plain));

    let step = b.put(&[5u32]);
    let xq = Tensor::new(b, batch * side * side * pad(c), batch);
    let wq = Tensor::new(b, k * 9 * pad(c), k);
    let transposed = b.bytes(c * 9 * pad(k));
    let yq = Tensor::new(b, rows * pad(k), blocks(rows, k));
    let sums = b.zeros(rows.div_ceil(64) * pad(k) * 8);
    let (dyd, dyw) = (Tensor::new(b, rows * pad(k), batch), Tensor::new(b, rows * pad(k), k));
    let dx = Tensor::new(b, rows * pad(c), blocks(rows, c));
    let before = Tensor::new(b, rows * pad(c), blocks(rows, c));
    let affine_before = b.floats(2 * pad(c));
    let dx_sums = b.zeros(rows.div_ceil(64) * pad(c) * 8);
    let s = side as u32;
    let window = if pooled { 2 } else { 0 };
    let half = if pooled { s / 2 } else { s };
    let norm = BatchNormI8 {
        pool: Pool {
            n: batch as u32,
            h: s,
            w: s,
            c: k as u32,
            p: half,
            q: half,
            kernel_h: window,
            kernel_w: window,
            stride: window,
            padding: 0,
        },
        eps: 1e-5,
        momentum: 0.1,
        relu: 1,
        gradient: 1,
        add: 0,
        more: 0,
        dgrad: u32::from(number > 0),
        noise,
        dyd_tensor: 9,
        wide: 0,
    };
    let sizes = SizesI8::of(&norm);
    let affine = b.floats(2 * pad(k));
    let outq = Tensor::new(b, batch * sizes.pooled * pad(k), batch);
    let index = b.zeros(if pooled { batch * sizes.pooled * pad(k) } else { 0 });
    let up = Tensor::new(b, batch * sizes.pooled * pad(k), blocks(batch * sizes.pooled, k));
    let dz = Tensor::new(b, rows * pad(k), blocks(rows, k));
    let dz_sums = b.zeros(rows.div_ceil(64) * pad(k) * 8);
    let dw = b.floats(p.w_len());
    let ws = b.workspace(Kernel::Conv2dWgradI8(call));
    let (ws_fwd, ws_bwd) = (b.workspace(Kernel::BatchNormFwdI8(norm)), b.workspace(Kernel::BatchNormBwdI8(norm)));
    let none = || b.backend.alloc(4).unwrap();
    let nothing = none();
    let nothing = nothing.span(0, 0).unwrap();
    for _ in 0..rounds {
        b.time(number, "conv fwd f32", || b.backend.conv2d_fwd_f32(&p, x.all(), w.all(), None, y.all(), fwd.all()));
        b.time(number, "conv fwd int8", || {
            int8.conv2d_fwd_i8(&call, xq.bfp(), wq.bfp(), step.all(), yq.bfp(), sums.all())
        });
        b.time(number, "batchnorm fwd f32", || {
            let (rm, rv) = (running_mean.all(), running_var.all());
            let (mean, invstd) = (mean.all(), invstd.all());
            b.backend.batchnorm_fwd_f32(
                &plain,
                y.all(),
                gamma.all(),
                beta.all(),
                rm,
                rv,
                out.all(),
                mean,
                invstd,
                bn.all(),
            )
        });
        b.time(number, "batchnorm fwd int8", || {
            let state = BatchNormState {
                gamma: gamma.all(),
                beta: beta.all(),
                running_mean: running_mean.all(),
                running_var: running_var.all(),
                mean: mean.all(),
                invstd: invstd.all(),
                affine: affine.all(),
            };
            let index = if pooled { index.all() } else { nothing };
            int8.batchnorm_fwd_i8(&norm, yq.bfp(), sums.all(), state, step.all(), outq.bfp(), index, ws_fwd.all())
        });
        if number + 1 == LAYERS.len() || pooled {
            b.time(number, "batchnorm grad int8", || {
                let forward = Normalised { y: yq.bfp(), affine: affine.all() };
                let index = if pooled { index.all() } else { nothing };
                let more = Bfp::f32(nothing);
                int8.batchnorm_grad_i8(&norm, up.bfp(), more, index, forward, step.all(), dz.bfp(), dz_sums.all())
            });
        }
        b.time(number, "batchnorm bwd f32", || {
            let (mean, invstd, dgamma, dbeta) = (mean.all(), invstd.all(), dgamma.all(), dbeta.all());
            let dy = dy.all();
            b.backend.batchnorm_bwd_f32(
                &plain,
                y.all(),
                out.all(),
                gamma.all(),
                mean,
                invstd,
                dy,
                dy,
                dgamma,
                dbeta,
                bn.all(),
            )
        });
        b.time(number, "batchnorm bwd int8", || {
            let gradients = BatchNormGradients {
                gamma: gamma.all(),
                mean: mean.all(),
                invstd: invstd.all(),
                weight_exponents: wq.1.all(),
                input_exponents: xq.1.all(),
                dgamma: dgamma.all(),
                dbeta: dbeta.all(),
            };
            let (y, dz) = (yq.bfp(), dz.bfp());
            int8.batchnorm_bwd_i8(
                &norm,
                dz,
                dz_sums.all(),
                y,
                sums.all(),
                gradients,
                step.all(),
                dyd.bfp(),
                dyw.bfp(),
                ws_bwd.all(),
            )
        });
        if number > 0 {
            b.time(number, "conv dgrad f32", || {
                b.backend.conv2d_dgrad_f32(&p, dy.all(), w.all(), x.all(), dgrad.all())
            });
            let fused = !LAYERS[number - 1].3;
            b.time(number, "conv dgrad int8", || {
                let mask = fused.then(|| Normalised { y: before.bfp(), affine: affine_before.all() });
                let sums = if fused { dx_sums.all() } else { nothing };
                int8.conv2d_dgrad_i8(&call, dyd.bfp(), transposed.all(), step.all(), mask, dx.bfp(), sums)
            });
        }
        b.time(number, "conv wgrad f32", || {
            b.backend.conv2d_wgrad_f32(&p, x.all(), dy.all(), dw.all(), None, wgrad.all())
        });
        b.time(number, "conv wgrad int8", || int8.conv2d_wgrad_i8(&call, xq.bfp(), dyw.bfp(), dw.all(), ws.all()));
    }
}

/// Images and the optimiser, once a step.
fn whole(b: &Bench, batch: usize, rounds: usize) {
    let noise = Noise { seed: [1, 2], tensor: 3, stochastic: 1 };
    let quantize = Quantize { n: batch as u32, pixels: 1024, c: 3, form: Form::F32 as u32, noise };
    let (x, q, step) = (b.floats(batch * 3072), Tensor::new(b, batch * 1024 * 16, batch), b.put(&[5u32]));
    let (mut table, mut offset, mut packed) = (Vec::new(), 0, 0);
    for (_, c, k, _) in LAYERS {
        let conv = Segment::conv(offset as u32, [k as u32, 9, c as u32], packed as u32);
        packed = conv.packed().next_multiple_of(16);
        table.push(conv);
        offset += k * 9 * c;
    }
    let sgd = Sgd { count: offset as u32, scales: 0, momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 };
    let p = SgdI8 {
        sgd,
        segments: table.len() as u32,
        master_f32: 0,
        round_gradients: 1,
        tensors: [1, 2, 3],
        ..SgdI8::zeroed()
    };
    let [g, w] = [(); 2].map(|()| b.floats(offset));
    let (v, lr) = (b.zeros(offset * 4), b.put(&[1e-6f32]));
    let (table, packed) = (b.put(&table), b.zeros(packed));
    let int8 = b.backend.int8().unwrap();
    for _ in 0..rounds {
        b.time(0, "quantize int8", || int8.quantize_fwd_i8(&quantize, Bfp::f32(x.all()), step.all(), q.bfp()));
        b.time(0, "sgd f32", || b.backend.sgd_step_f32(&sgd, lr.all(), g.all(), v.all(), w.all()));
        b.time(0, "sgd int8", || {
            int8.sgd_step_i8(&p, table.all(), lr.all(), step.all(), g.all(), v.all(), w.all(), packed.all())
        });
    }
}

/// G operations a second that the instructions of `products` reach in registers on all threads, and their name.
fn peak(products: IntegerPath, clock: Clock) -> Option<(f64, &'static str)> {
    const TURNS: usize = 4_000_000;
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        /// A loop over twelve independent sums; the barrier keeps each step's result in a register of its own.
        macro_rules! spin {
            ($name:ident, $features:literal, $zero:ident, $class:ident, |$sum:ident, $x:ident| $dot:expr) => {
                #[target_feature(enable = $features)]
                fn $name() {
                    let mut sums = [$zero(); 12];
                    let mut $x = $zero();
                    for _ in 0..TURNS {
                        for sum in &mut sums {
                            let $sum = *sum;
                            *sum = $dot;
                            // SAFETY: an empty statement that claims to change the registers.
                            unsafe { std::arch::asm!("/* {0} {1} */", inout($class) *sum, inout($class) $x, options(nomem, nostack)) };
                        }
                    }
                    std::hint::black_box(sums);
                }
            };
        }
        spin!(pairs, "avx2", _mm256_setzero_si256, ymm_reg, |sum, x| _mm256_add_epi32(sum, _mm256_madd_epi16(x, x)));
        spin!(short, "avx2,avxvnni", _mm256_setzero_si256, ymm_reg, |sum, x| _mm256_dpbusd_avx_epi32(sum, x, x));
        spin!(long, "avx512f,avx512vnni", _mm512_setzero_si512, zmm_reg, |sum, x| _mm512_dpbusd_epi32(sum, x, x));
        /// `tdpbssd` on six independent tiles of sums, twice a turn.
        fn tiles() {
            #[repr(align(64))]
            struct Configuration([u8; 64]);
            let mut configuration = Configuration([0; 64]);
            configuration.0[0] = 1;
            for tile in 0..8 {
                (configuration.0[16 + 2 * tile], configuration.0[48 + tile]) = (64, 16);
            }
            // SAFETY: all tiles are configured before they are used, and released. Only called where AMX is available.
            unsafe {
                std::arch::asm!(
                    "ldtilecfg [{configuration}]",
                    "2:",
                    "tdpbssd tmm0, tmm6, tmm7", "tdpbssd tmm1, tmm6, tmm7", "tdpbssd tmm2, tmm6, tmm7",
                    "tdpbssd tmm3, tmm6, tmm7", "tdpbssd tmm4, tmm6, tmm7", "tdpbssd tmm5, tmm6, tmm7",
                    "tdpbssd tmm0, tmm6, tmm7", "tdpbssd tmm1, tmm6, tmm7", "tdpbssd tmm2, tmm6, tmm7",
                    "tdpbssd tmm3, tmm6, tmm7", "tdpbssd tmm4, tmm6, tmm7", "tdpbssd tmm5, tmm6, tmm7",
                    "dec {turns}",
                    "jnz 2b",
                    "tilerelease",
                    configuration = in(reg) &raw const configuration,
                    turns = inout(reg) TURNS / 16 => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
        let (run, macs, name): (fn(), usize, _) = match products {
            // SAFETY: each only where the machine has it, says `IntegerPath::available`.
            IntegerPath::Avx2 => (|| unsafe { pairs() }, 16, "vpmaddwd + vpaddd"),
            // SAFETY: as above.
            IntegerPath::AvxVnni => (|| unsafe { short() }, 32, "vpdpbusd, 256 bits"),
            // SAFETY: as above.
            IntegerPath::Avx512Vnni => (|| unsafe { long() }, 64, "vpdpbusd, 512 bits"),
            // A sixteenth of the turns.
            IntegerPath::Amx => (tiles, 16 * 16 * 64 / 16, "tdpbssd"),
            _ => return None,
        };
        let best = (0..ROUNDS).map(|_| {
            let start = clock.now();
            rayon::broadcast(|_| run());
            clock.now() - start
        });
        let seconds = best.fold(f64::INFINITY, f64::min);
        let operations = 2 * macs * 12 * TURNS * rayon::current_num_threads();
        Some((operations as f64 / seconds / 1e9, name))
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}

fn main() {
    let batch = std::env::var("EARLYBIRD_BENCH_BATCH").map_or(128, |n| n.parse().unwrap());
    let products = match std::env::var("EARLYBIRD_BENCH_INTEGERS") {
        Ok(name) => IntegerPath::ALL.into_iter().find(|products| products.name() == name).unwrap(),
        Err(_) => IntegerPath::best(),
    };
    let clock = match std::env::var("EARLYBIRD_BENCH_CLOCK").as_deref() {
        Ok("cpu") => Clock::Processor,
        _ => Clock::Wall(Instant::now()),
    };
    let b = Bench { backend: Cpu::with_integers(Path::best(), products).unwrap(), clock, times: RefCell::default() };
    for number in 0..LAYERS.len() {
        layer(&b, number, batch, ROUNDS);
    }
    whole(&b, batch, ROUNDS);
    let peak = peak(products, clock);
    println!("VGG16, batch {batch}, {} threads, 8-bit products by {}", rayon::current_num_threads(), products.name());
    if let Err(why) = earlybird::backend::cpu::amx() {
        println!("no AMX: {why}");
    }
    match peak {
        Some((gops, name)) => println!("peak of {name} in registers: {gops:.0} Gop/s"),
        None => println!("no peak: these products have no instructions of their own"),
    }
    println!(
        "{:22} {:6} {:>9} {:>9} {:>9} {:>9} {:>8} {:>7}",
        "layer", "pass", "f32 ms", "Gflop/s", "int8 ms", "Gop/s", "of peak", "f32/int8"
    );
    let times = b.times.borrow();
    for (number, (side, c, k, _)) in LAYERS.iter().enumerate() {
        for (pass, f32_name, i8_name) in [
            ("fwd", "conv fwd f32", "conv fwd int8"),
            ("dgrad", "conv dgrad f32", "conv dgrad int8"),
            ("wgrad", "conv wgrad f32", "conv wgrad int8"),
        ] {
            let (Some(f), Some(i)) = (times.get(&(number, f32_name)), times.get(&(number, i8_name))) else { continue };
            let operations = (2 * batch * side * side * 9 * c * k) as f64 / 1e9;
            let share = peak.map_or("-".into(), |(peak, _)| format!("{:.0}%", 100.0 * operations / i / peak));
            println!(
                "{:22} {pass:6} {:9.2} {:9.0} {:9.2} {:9.0} {share:>8} {:7.2}",
                format!("{side}x{side}x{c} -> {k}"),
                f * 1e3,
                operations / f,
                i * 1e3,
                operations / i,
                f / i,
            );
        }
    }
    let mut totals: BTreeMap<&str, f64> = BTreeMap::new();
    times.iter().for_each(|((_, name), seconds)| *totals.entry(name).or_default() += seconds);
    println!("\noperators of a step, all layers, ms");
    for (name, seconds) in &totals {
        println!("  {name:22} {:9.2}", seconds * 1e3);
    }
    for precision in ["f32", "int8"] {
        let all: f64 = totals.iter().filter(|(name, _)| name.ends_with(precision)).map(|(_, seconds)| seconds).sum();
        println!(
            "{precision}: {:.1} ms in these operators, {:.1} images/s without the head",
            all * 1e3,
            batch as f64 / all
        );
    }
}
