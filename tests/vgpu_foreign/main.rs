//! Kernels of other compilers (`../vgpu_ptx/corpus`), run on the virtual GPU with every check on, under three schedules, against references written here
//! from the sources' meaning. Nothing of the virtual GPU's own arithmetic is used.
#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
mod coverage;
mod numba;
mod plain;
mod triton;
mod triton_products;

use earlybird::vgpu::device::{Device, Options};
use earlybird::vgpu::exec::Schedule;

/// Text of a corpus file.
pub(crate) fn corpus(name: &str) -> String {
    let path = common::root().join("tests/vgpu_ptx/corpus").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A kernel argument.
#[derive(Clone)]
pub(crate) enum Arg {
    /// A buffer that is only read.
    In(Vec<u8>),
    /// A buffer with a content, given back.
    InOut(Vec<u8>),
    /// A buffer of so many undefined bytes, given back.
    Out(usize),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
    /// A struct by value, aligned to 4.
    Struct(Vec<u8>),
    Null,
}

pub(crate) fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

pub(crate) fn values<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(bytes)
}

/// Where and how a kernel is launched.
pub(crate) struct Launch<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    pub(crate) kernel: &'a str,
    pub(crate) grid: [u32; 3],
    pub(crate) block: u32,
    pub(crate) shared: u32,
}

impl Launch<'_> {
    /// The buffers given back, under each schedule. Fails on any finding.
    pub fn run_each(&self, args: &[Arg], block: [u32; 3]) -> Vec<Vec<Vec<u8>>> {
        let schedules = [Schedule::Converge, Schedule::Reverse, Schedule::Random(7)];
        schedules.iter().map(|schedule| self.once(args, block, *schedule)).collect()
    }

    fn once(&self, args: &[Arg], block: [u32; 3], schedule: Schedule) -> Vec<Vec<u8>> {
        let name = format!("{} {} {schedule:?}", self.file, self.kernel);
        let mut device = Device::new(Options { schedule, ..Options::checked() });
        let module = device.load(self.file, self.text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let kernel = device.kernel(module, self.kernel).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut params = Vec::new();
        let mut outputs = Vec::new();
        let mut push = |value: &[u8], align: usize| {
            params.resize(params.len().next_multiple_of(align), 0);
            params.extend_from_slice(value);
        };
        for (i, arg) in args.iter().enumerate() {
            let mut buffer = |n: usize| device.alloc(n as u64, Some(&format!("argument {i}"))).unwrap();
            match arg {
                Arg::In(data) | Arg::InOut(data) => {
                    let address = buffer(data.len());
                    device.write(address, data).unwrap();
                    if matches!(arg, Arg::InOut(_)) {
                        outputs.push((address, data.len()));
                    }
                    push(&address.to_le_bytes(), 8);
                }
                Arg::Out(n) => {
                    let address = buffer(*n);
                    outputs.push((address, *n));
                    push(&address.to_le_bytes(), 8);
                }
                Arg::I32(v) => push(&v.to_le_bytes(), 4),
                Arg::I64(v) => push(&v.to_le_bytes(), 8),
                Arg::F32(v) => push(&v.to_le_bytes(), 4),
                Arg::F64(v) => push(&v.to_le_bytes(), 8),
                Arg::Struct(data) => push(data, 4),
                Arg::Null => push(&[0; 8], 8),
            }
        }
        let outcome = device.launch(kernel, self.grid, block, self.shared, &params);
        assert!(outcome.report.is_clean(), "{name}\n{}", outcome.report.to_text());
        let read = |(address, n): (u64, usize)| {
            let mut data = vec![0; n];
            device.read(address, &mut data).unwrap();
            data
        };
        outputs.into_iter().map(read).collect()
    }

    /// As [`Launch::run_each`] for a kernel whose result no order changes: the same bits under every schedule.
    pub fn run(&self, args: &[Arg]) -> Vec<Vec<u8>> {
        let mut each = self.run_each(args, [self.block, 1, 1]);
        let last = each.pop().unwrap();
        for other in each {
            assert!(other == last, "{} {}: the schedule changes the result", self.file, self.kernel);
        }
        last
    }
}

/// Numbers that look random, the same every time.
pub(crate) struct Numbers(pub u64);

impl Numbers {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In -2 .. 2.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 22) as f32 - 2.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// In `low .. high`.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low) as u64) as i64
    }

    pub fn ints(&mut self, n: usize, low: i64, high: i64) -> Vec<i32> {
        (0..n).map(|_| self.int(low, high) as i32).collect()
    }
}

/// Every value within `tolerance * (1 + |want|)`.
pub(crate) fn close(name: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs();
        assert!(error <= tolerance * (1.0 + w.abs()), "{name}[{i}]: {g}, should be {w}");
    }
}
