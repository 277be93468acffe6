//! Runs a kernel `k(out, n)` over u32 and gives back `out`.

use earlybird::vgpu::device::{Device, Options};
use earlybird::vgpu::exec::{Outcome, Schedule};
use earlybird::vgpu::ir::Isa;
use earlybird::vgpu::report::Kind;
use earlybird::vgpu::san::CheckOptions;

/// `k(out, n)` with declarations of common registers and `%r1 = tid.x`, `%rd1 = out`, `%r2 = n`, `%r3 = global thread`; `$STORE` stores `%r0` for the thread.
pub fn kernel(body: &str) -> String {
    let store = "mul.wide.u32 %rd2, %r3, 4;\n add.s64 %rd3, %rd1, %rd2;\n st.global.u32 [%rd3], %r0;\n";
    format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out, .param .u32 n)\n{{\n .reg .pred %p<10>;\n .reg .b32 %r<40>;\n \
         .reg .b64 %rd<20>;\n .reg .f32 %f<20>;\n .shared .align 16 .b8 smem[4096];\n ld.param.u64 %rd1, [out];\n ld.param.u32 %r2, [n];\n \
         mov.u32 %r1, %tid.x;\n mov.u32 %r4, %ctaid.x;\n mov.u32 %r5, %ntid.x;\n mad.lo.u32 %r3, %r4, %r5, %r1;\n mov.u32 %r0, 0;\n{}\n}}\n",
        body.replace("$STORE", store)
    )
}

/// All orders that are tried.
pub fn schedules() -> Vec<Schedule> {
    let random = (1..=20).map(Schedule::Random);
    [Schedule::Converge, Schedule::Reverse].into_iter().chain(random).collect()
}

/// Options with the sanitizer on.
pub fn checked(schedule: Schedule) -> Options {
    Options { schedule, budget: 20_000_000, ..Options::checked() }
}

/// Runs `ptx` and gives `words` words of its output, zero before.
pub fn run(options: Options, ptx: &str, grid: u32, block: u32, n: u32, words: usize) -> (Outcome, Vec<u32>) {
    let mut device = Device::new(options);
    let module = device.load("test", ptx).unwrap_or_else(|e| panic!("{e}\n{ptx}"));
    let kernel = device.kernel(module, "k").unwrap_or_else(|e| panic!("{e}\n{ptx}"));
    let bytes = words as u64 * 4;
    let out = device.alloc(bytes, Some("out")).unwrap();
    device.fill(out, &[0], bytes).unwrap();
    let mut params = out.to_le_bytes().to_vec();
    params.extend(n.to_le_bytes());
    let outcome = device.launch(kernel, [grid, 1, 1], [block, 1, 1], 0, &params);
    let mut raw = vec![0; bytes as usize];
    device.read(out, &mut raw).unwrap();
    (outcome, raw.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect())
}

/// Runs the body under every schedule, all checks on: clean, and `expected` for every thread.
#[track_caller]
pub fn expect(body: &str, grid: u32, block: u32, n: u32, expected: impl Fn(u32) -> u32) {
    let ptx = kernel(body);
    let words = (grid * block) as usize;
    for schedule in schedules() {
        let (outcome, out) = run(checked(schedule), &ptx, grid, block, n, words);
        assert!(outcome.report.is_clean(), "{schedule:?}\n{}", outcome.report.to_text());
        for (i, got) in out.iter().enumerate() {
            assert_eq!(*got, expected(i as u32), "thread {i} under {schedule:?}");
        }
    }
    // Without checks, on two workers and without vector units.
    for isa in [Isa::Base, Isa::detect()] {
        let mut options = Options { workers: 2, budget: 20_000_000, ..Options::default() };
        options.lowering.isa = isa;
        let (outcome, out) = run(options, &ptx, grid, block, n, words);
        assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
        assert!(out.iter().enumerate().all(|(i, got)| *got == expected(i as u32)), "plain, {isa:?}");
    }
}

/// Runs the body with all checks on; the kinds of its errors.
pub fn errors(body: &str, grid: u32, block: u32, n: u32) -> Vec<Kind> {
    let (outcome, _) = run(checked(Schedule::Converge), &kernel(body), grid, block, n, 4096);
    outcome.report.findings.iter().map(|f| f.kind).collect()
}

/// Options that only count.
pub fn counted() -> Options {
    Options { profile: true, check: Some(CheckOptions::default()), ..Options::default() }
}
