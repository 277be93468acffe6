//! The 8-bit operators against oracles in i64 and f64, bit by bit, on every instruction set and with one and two threads.
//!
//! Here: random operands, rounding as QPyTorch formulates it (adding noise to the bits of a float), storage in blocks. The oracles share no arithmetic with
//! `quant::bfp`; random bits come from `NoiseKey`, which has known answers of its own.

mod batchnorm;
mod batchnorm_add;
mod conv2d;

mod quantize;
mod sgd;

use earlybird::backend::{Bfp, Memory, Span};
use earlybird::ops::batchnorm::OutputSums;
use earlybird::ops::quantize::{Form, Noise};
use earlybird::quant::layout::{NoiseKey, blocks, blocks_across, pad};
use earlybird::quant::philox::{Stream, stream_of};

use crate::device::Device;

/// Mantissas and exponents on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    pub m: Vec<i8>,
    pub e: Vec<i8>,
}

/// The same on a device.
pub struct OnDevice {
    pub m: Memory,
    pub e: Memory,
}

impl OnDevice {
    pub fn bfp(&self) -> Bfp<'_> {
        Bfp { mantissas: self.m.all(), exponents: self.e.all() }
    }
}

/// Bytes, with room to a multiple of 4.
pub fn put(device: &Device, bytes: &[i8]) -> Memory {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 77);
    device.put(&bytes)
}

impl Host {
    pub fn put(&self, device: &Device) -> OnDevice {
        OnDevice { m: put(device, &self.m), e: put(device, &self.e) }
    }

    pub fn blank(mantissas: usize, exponents: usize) -> Host {
        Host { m: vec![-128; mantissas], e: vec![-128; exponents] }
    }

    /// What a device has written in place of `self`, a blank.
    pub fn get(&self, device: &Device, from: &OnDevice) -> Host {
        let (mut m, mut e) = (device.get::<i8>(&from.m), device.get::<i8>(&from.e));
        m.truncate(self.m.len());
        e.truncate(self.e.len());
        Host { m, e }
    }
}

/// A tensor of 16-bit mantissas in blocks, on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host16 {
    pub m: Vec<i16>,
    pub e: Vec<i8>,
}

impl Host16 {
    /// Rows x channels of values, to nearest.
    pub fn store(values: &[f32], channels: usize) -> Host16 {
        let (rows, stride) = (values.len() / channels, pad(channels));
        let mut out = Host16 { m: vec![0; rows * stride], e: vec![0; blocks(rows, channels)] };
        for block in 0..out.e.len() {
            let of_block = |row: usize, c: usize| row / 64 * blocks_across(channels) + c / 32 == block;
            let places = || (0..rows).flat_map(|row| (0..channels).map(move |c| (row, c)));
            let places = || places().filter(|(row, c)| of_block(*row, *c));
            let e = exponent(places().map(|(row, c)| f64::from(values[row * channels + c]).abs()).fold(0.0, f64::max));
            out.e[block] = e as i8;
            for (row, c) in places() {
                let t = f64::from(values[row * channels + c]) * 2f64.powi(14 - e);
                out.m[row * stride + c] = t.round_ties_even().clamp(-32767.0, 32767.0) as i16;
            }
        }
        out
    }

    /// What each element stands for.
    pub fn values(&self, channels: usize) -> Vec<f32> {
        let one = |row: usize, c: usize| {
            let e = self.e[row / 64 * blocks_across(channels) + c / 32];
            (f64::from(self.m[row * pad(channels) + c]) * 2f64.powi(i32::from(e) - 14)) as f32
        };
        let rows = self.m.len() / pad(channels);
        (0..rows).flat_map(|row| (0..channels).map(move |c| (row, c))).map(|(row, c)| one(row, c)).collect()
    }

    pub fn put(&self, device: &Device) -> OnDevice {
        OnDevice { m: device.put(&self.m), e: put(device, &self.e) }
    }

    pub fn blank(rows: usize, channels: usize) -> Host16 {
        Host16 { m: vec![-32768; rows * pad(channels)], e: vec![-128; blocks(rows, channels)] }
    }

    /// What a device has written in place of `self`, a blank.
    pub fn get(&self, device: &Device, from: &OnDevice) -> Host16 {
        let mut e = device.get::<i8>(&from.e);
        e.truncate(self.e.len());
        Host16 { m: device.get(&from.m), e }
    }

    /// Fails where `self` is not `want`.
    pub fn is(&self, what: &str, want: &Host16) {
        same(&format!("{what} exponents"), &self.e, &want.e);
        same(&format!("{what} mantissas of 16 bits"), &self.m, &want.m);
    }
}

/// A random tensor of `rows` x `c` in some form, and the numbers that it stands for.
pub struct Tensor {
    pub values: Vec<f32>,
    elements: Vec<u8>,
    exponents: Vec<i8>,
}

impl Tensor {
    pub fn new(form: Form, seed: u64, rows: usize, c: usize) -> Tensor {
        let plain = crate::oracle::normal(seed, "tensor", rows * c, 1e-3);
        match form {
            Form::F32 => {
                Tensor { elements: bytemuck::cast_slice(&plain).to_vec(), values: plain, exponents: Vec::new() }
            }
            Form::Stored => {
                let host = stored(&mut stream(seed, "stored tensor"), rows, c, -12, -8);
                let values = (0..rows * c).map(|i| stored_value(&host, c, i / c, i % c) as f32).collect();
                Tensor { values, elements: bytemuck::cast_slice(&host.m).to_vec(), exponents: host.e }
            }
            Form::Bfp16 => {
                let host = Host16::store(&plain, c);
                Tensor { values: host.values(c), elements: bytemuck::cast_slice(&host.m).to_vec(), exponents: host.e }
            }
        }
    }

    pub fn put(&self, device: &Device) -> OnDevice {
        let e = if self.exponents.is_empty() { vec![0] } else { self.exponents.clone() };
        OnDevice { m: put(device, bytemuck::cast_slice(&self.elements)), e: put(device, &e) }
    }
}

/// Random numbers of a name.
pub fn stream(seed: u64, what: &str) -> Stream {
    Stream::new(seed, stream_of(what))
}

/// `rows` rows of `c` random mantissas, padded channels 0; a seventh of the rows is all 0, some mantissas are the largest.
pub fn mantissas(stream: &mut Stream, rows: usize, c: usize) -> Vec<i8> {
    let mut all = vec![0; rows * pad(c)];
    for row in all.chunks_exact_mut(pad(c)) {
        let kind = stream.below(7);
        for m in &mut row[..c] {
            *m = match kind {
                0 => 0,
                1 => [-127, 127][stream.below(2) as usize],
                _ => (stream.below(255) as i32 - 127) as i8,
            };
        }
    }
    all
}

/// `n` exponents in `low..=high`.
pub fn exponents(stream: &mut Stream, n: usize, low: i32, high: i32) -> Vec<i8> {
    (0..n).map(|_| (low + stream.below((high - low + 1) as u32) as i32) as i8).collect()
}

/// A stored tensor of random numbers.
pub fn stored(stream: &mut Stream, rows: usize, c: usize, low: i32, high: i32) -> Host {
    Host { m: mantissas(stream, rows, c), e: exponents(stream, blocks(rows, c), low, high) }
}

/// The value of row `row`, channel `c` of a stored tensor of `channels`.
pub fn stored_value(t: &Host, channels: usize, row: usize, c: usize) -> f64 {
    let e = t.e[row / 64 * blocks_across(channels) + c / 32];
    f64::from(t.m[row * pad(channels) + c]) * 2f64.powi(i32::from(e) - 6)
}

/// `floor(log2 max)`, clamped to the format's range, by comparison with powers of two.
pub fn exponent(max: f64) -> i32 {
    (-48..=47).rev().find(|e| 2f64.powi(*e) <= max).unwrap_or(-48)
}

/// QPyTorch's block rounding of `x` to 8 bits where the block's exponent is `e` (early-bird.md 5.4): noise `rho` is added to the bits of `x + 6*2^e`.
pub fn qpytorch(x: f32, e: i32, rho: u32) -> i8 {
    let s = 2f32.powi(e);
    let base = 6.0 * s;
    let bits = ((x + base).to_bits() + rho) & !((1 << 15) - 1);
    let y = f32::from_bits(bits) - base;
    let step = s / 64.0;
    let y = if y.abs() >= 2.0 * s { y.signum() * (2.0 * s - step) } else { y };
    (y / step) as i8
}

/// The same for any block of f32, to f32: `max` is its largest absolute value. In f64 on whole numbers, early-bird.md 5.4's other form of it.
pub fn simulated(x: f32, max: f32, rho: u32) -> f32 {
    let Some(e) = (-126..125).rev().find(|e| 2f64.powi(*e) <= f64::from(max)) else { return 0.0 };
    let t = (f64::from(x) * 2f64.powi(21 - e)).round_ties_even() as i64;
    let k = ((t + i64::from(rho)) >> 15).clamp(-127, 127);
    (k as f64 * 2f64.powi(e - 6)) as f32
}

/// How a tensor is rounded.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    pub noise: Noise,
    pub step: u32,
}

impl Rounding {
    pub fn new(seed: u64, tensor: u32, stochastic: bool) -> Rounding {
        let noise = Noise { seed: [seed as u32, 99], tensor, stochastic: u32::from(stochastic) };
        Rounding { noise, step: (seed >> 40) as u32 }
    }

    pub fn of_tensor(self, tensor: u32) -> Rounding {
        Rounding { noise: Noise { tensor, ..self.noise }, ..self }
    }

    fn key(&self) -> NoiseKey {
        NoiseKey { seed: self.noise.seed, step: self.step, tensor: self.noise.tensor }
    }

    /// An operand's element number `index` (padded).
    pub fn element(&self, x: f32, e: i32, index: usize) -> i8 {
        qpytorch(x, e, self.noise(index))
    }

    /// The noise of an element.
    pub fn noise(&self, index: usize) -> u32 {
        if self.noise.stochastic != 0 { self.key().element(index) } else { 1 << 14 }
    }

    /// The same in 16 bits: bytes high and low of a multiple of `2^(e-14)`.
    pub fn wide(&self, x: f32, e: i32, index: usize) -> (i8, i8) {
        let rho = if self.noise.stochastic != 0 { self.key().element(index) } else { 1 << 14 };
        let t = (f64::from(x) * 2f64.powi(21 - e)).round_ties_even();
        let m = ((t + f64::from(rho / 256)) / 128.0).floor().clamp(-32639.0, 32639.0);
        let high = ((m + 128.0) / 256.0).floor();
        (high as i8, (m - 256.0 * high) as i8)
    }

    /// Rows x channels of values to a stored tensor.
    pub fn store(&self, values: &[f32], channels: usize) -> Host {
        let (rows, stride, across) = (values.len() / channels, pad(channels), blocks_across(channels));
        let mut out = Host { m: vec![0; rows * stride], e: vec![0; blocks(rows, channels)] };
        for (block, e) in out.e.iter_mut().enumerate() {
            let (top, left) = (block / across * 64, block % across * 32);
            let places =
                (top..(top + 64).min(rows)).flat_map(|row| (left..(left + 32).min(channels)).map(move |c| (row, c)));
            let max = places.clone().map(|(row, c)| f64::from(values[row * channels + c]).abs()).fold(0.0, f64::max);
            let exponent = exponent(max);
            *e = exponent as i8;
            for (row, c) in places {
                let x = values[row * channels + c];
                out.m[row * stride + c] = if self.noise.stochastic != 0 {
                    qpytorch(x, exponent, self.key().stored(block, row - top, c - left))
                } else {
                    (f64::from(x) * 2f64.powi(6 - exponent)).round_ties_even().clamp(-127.0, 127.0) as i8
                };
            }
        }
        out
    }
}

/// The sums over blocks of 64 rows of a stored tensor.
pub fn output_sums(t: &Host, channels: usize) -> Vec<OutputSums> {
    let stride = pad(channels);
    let strips = t.m.chunks(64 * stride);
    strips
        .flat_map(|strip| {
            (0..stride).map(move |c| {
                let column = || strip.iter().skip(c).step_by(stride).copied();
                OutputSums {
                    squares: column().map(|m| u32::from(m.unsigned_abs()).pow(2)).sum(),
                    sum: column().map(i16::from).sum(),
                    min: column().min().unwrap(),
                    max: column().max().unwrap(),
                }
            })
        })
        .collect()
}

/// Channels of a batchnorm of `c` channels on a stream, and how many the stream has: every second one and gaps of all sizes, all of them, all but the first or the last few, few of many.
pub fn gathers(c: usize) -> Vec<(Vec<u32>, usize)> {
    let c_ = c as u32;
    let mut random = stream(c as u64, "gathers");
    let (mut at, mut gaps) = (0, Vec::new());
    for _ in 0..c {
        gaps.push(at);
        at += 1 + random.below(4) * random.below(2);
    }
    vec![
        ((0..c_).map(|i| 2 * i + 1).collect(), 2 * c),
        (gaps, at as usize),
        ((0..c_).collect(), c),
        ((1..=c_).collect(), c + 1),
        ((0..c_).collect(), c + 19),
        ((0..c_).map(|i| if 2 * i < c_ { i } else { i + 75 }).collect(), c + 75),
    ]
}

/// Calls `body` for each way to compute 8-bit products and for one and two threads.
pub fn everywhere(body: impl Fn(&Device) + Send + Sync) {
    for device in crate::device::integers() {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| body(&device));
        }
    }
}

/// The step counter on a device.
pub fn step(device: &Device, rounding: &Rounding) -> Memory {
    device.put(&[rounding.step])
}

/// An empty span.
pub fn none(memory: &Memory) -> Span<'_> {
    memory.span(0, 0).unwrap()
}

/// Fails where two tensors differ, with the first place.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], want: &[T]) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    if let Some(i) = got.iter().zip(want).position(|(got, want)| got != want) {
        panic!("{what}: {:?} for {:?} at {i} of {}", got[i], want[i], got.len());
    }
}

/// Fails where two tensors differ.
pub fn same_host(what: &str, got: &Host, want: &Host) {
    same(&format!("{what} exponents"), &got.e, &want.e);
    same(&format!("{what} mantissas"), &got.m, &want.m);
}
