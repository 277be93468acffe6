//! Speed of the virtual GPU itself in lane-instructions (`Gelem/s`) and tensor-core instructions (`Melem/s`) per second of the host. Says nothing about a
//! GPU. `cargo bench --bench vgpu`; each case runs on one worker, and plain cases on two as well.

#![allow(clippy::expect_used)] // a bench may fail loudly

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use earlybird::vgpu::device::{Device, KernelId, Options};
use earlybird::vgpu::san::CheckOptions;

const HEAD: &str = ".version 8.4\n.target sm_80\n.address_size 64\n";

/// Eight independent chains of fused multiply-adds.
fn fma_loop() -> String {
    let fma: String =
        (0..64).map(|i| format!("  fma.rn.f32 %f{0}, %f{0}, %f8, %f9;\n", i % 8)).collect::<Vec<_>>().concat();
    let init: String = (0..8).map(|i| format!("  cvt.rn.f32.u32 %f{i}, %r1;\n")).collect();
    let sum: String = (1..8).map(|i| format!("  add.rn.f32 %f0, %f0, %f{i};\n")).collect();
    format!(
        "{HEAD}.visible .entry k(.param .u64 out, .param .u32 n)\n{{\n  .reg .pred %p<2>;\n  .reg .b32 %r<8>;\n  .reg .b64 %rd<4>;\n  .reg .f32 %f<10>;\n\
         ld.param.u64 %rd1, [out];\n  ld.param.u32 %r4, [n];\n  cvta.to.global.u64 %rd1, %rd1;\n  mov.u32 %r1, %tid.x;\n  mov.u32 %r2, %ctaid.x;\n\
         mov.u32 %r3, %ntid.x;\n  mad.lo.s32 %r5, %r2, %r3, %r1;\n  mul.wide.u32 %rd2, %r5, 4;\n  add.s64 %rd1, %rd1, %rd2;\n\
         mov.f32 %f8, 0f3F7FFFFE;\n  mov.f32 %f9, 0f3A83126F;\n  mov.u32 %r6, 0;\n{init}L:\n{fma}  add.s32 %r6, %r6, 1;\n  setp.lt.u32 %p1, %r6, %r4;\n\
         @%p1 bra L;\n{sum}  st.global.f32 [%rd1], %f0;\n  ret;\n}}\n"
    )
}

/// Four independent chains of 8-bit tensor-core products.
fn mma_loop() -> String {
    let init: String = (0..16).map(|i| format!("  mov.u32 %c{i}, 0;\n")).collect();
    let mma: String = (0..8)
        .map(|i| {
            let c = 4 * (i % 4);
            let acc = format!("{{%c{}, %c{}, %c{}, %c{}}}", c, c + 1, c + 2, c + 3);
            format!("  mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {acc}, {{%r1, %r2, %r3, %r1}}, {{%r2, %r3}}, {acc};\n")
        })
        .collect();
    let sum: String = (1..16).map(|i| format!("  add.s32 %c0, %c0, %c{i};\n")).collect();
    format!(
        "{HEAD}.visible .entry k(.param .u64 out, .param .u32 n)\n{{\n  .reg .pred %p<2>;\n  .reg .b32 %r<8>;\n  .reg .b32 %c<16>;\n  .reg .b64 %rd<4>;\n\
         ld.param.u64 %rd1, [out];\n  ld.param.u32 %r4, [n];\n  mov.u32 %r1, %tid.x;\n  mul.lo.s32 %r2, %r1, 0x01010307;\n  xor.b32 %r3, %r2, %r1;\n\
         mov.u32 %r5, %ctaid.x;\n  mov.u32 %r7, %ntid.x;\n  mad.lo.s32 %r5, %r5, %r7, %r1;\n  mul.wide.u32 %rd2, %r5, 4;\n  add.s64 %rd1, %rd1, %rd2;\n\
         mov.u32 %r6, 0;\n{init}L:\n{mma}  add.s32 %r6, %r6, 1;\n  setp.lt.u32 %p1, %r6, %r4;\n  @%p1 bra L;\n{sum}  st.global.u32 [%rd1], %c0;\n  ret;\n}}\n"
    )
}

struct Case {
    name: &'static str,
    ptx: String,
    entry: &'static str,
    grid: [u32; 3],
    block: [u32; 3],
    /// Bytes of each buffer, then the scalar parameters.
    buffers: Vec<u64>,
    scalars: Vec<u8>,
    /// The scalars come first, in a struct.
    scalars_first: bool,
    tensor: bool,
}

fn device(case: &Case, workers: usize, check: bool, profile: bool) -> (Device, KernelId, Vec<u8>) {
    let check = check.then(CheckOptions::default);
    let mut device = Device::new(Options { workers, check, profile, ..Options::default() });
    let module = device.load(case.name, &case.ptx).unwrap_or_else(|e| panic!("{e}"));
    let kernel = device.kernel(module, case.entry).unwrap_or_else(|e| panic!("{e}"));
    let mut params = if case.scalars_first { case.scalars.clone() } else { Vec::new() };
    params.resize(params.len().next_multiple_of(8), 0);
    for &bytes in &case.buffers {
        let address = device.alloc(bytes, None).expect("memory");
        let data: Vec<u8> = (0..bytes / 4).flat_map(|i| ((i % 97) as f32 / 97.0).to_le_bytes()).collect();
        device.write(address, &data).unwrap_or_else(|e| panic!("{e}"));
        params.extend(address.to_le_bytes());
    }
    if !case.scalars_first {
        params.extend(&case.scalars);
    }
    (device, kernel, params)
}

fn run(c: &mut Criterion) {
    let mut cases = vec![
        Case {
            name: "fma_loop",
            ptx: fma_loop(),
            entry: "k",
            grid: [64, 1, 1],
            block: [128, 1, 1],
            buffers: vec![64 * 128 * 4],
            scalars: 256u32.to_le_bytes().to_vec(),
            scalars_first: false,
            tensor: false,
        },
        Case {
            name: "mma_s8_loop",
            ptx: mma_loop(),
            entry: "k",
            grid: [16, 1, 1],
            block: [128, 1, 1],
            buffers: vec![16 * 128 * 4],
            scalars: 512u32.to_le_bytes().to_vec(),
            scalars_first: false,
            tensor: true,
        },
    ];
    if let Ok((module, _)) = earlybird::driver::kernels::entry("matmul_nn_f32") {
        let p = earlybird::ops::matmul::Matmul::nn(256, 256, 256);
        cases.push(Case {
            name: "sgemm_256",
            ptx: module.ptx.to_string(),
            entry: "matmul_nn_f32",
            grid: [2, 2, 1],
            block: [256, 1, 1],
            buffers: vec![256 * 256 * 4; 3],
            scalars: bytemuck::bytes_of(&p).to_vec(),
            scalars_first: true,
            tensor: false,
        });
    }
    let mut group = c.benchmark_group("vgpu");
    group.sample_size(10);
    for case in &cases {
        let (mut dev, kernel, params) = device(case, 1, false, true);
        let outcome = dev.launch(kernel, case.grid, case.block, 0, &params);
        assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
        let summary = outcome.summary.expect("counters");
        let mma: u64 = summary.mma.iter().map(|m| m.count).sum();
        group.throughput(Throughput::Elements(if case.tensor { mma } else { summary.issued().lanes }));
        for (mode, workers, check, profile) in
            [("plain_1", 1, false, false), ("plain_2", 2, false, false), ("checked_counted_1", 1, true, true)]
        {
            let (mut dev, kernel, params) = device(case, workers, check, profile);
            group.bench_function(BenchmarkId::new(case.name, mode), |b| {
                b.iter(|| {
                    let outcome = dev.launch(kernel, case.grid, case.block, 0, &params);
                    assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, run);
criterion_main!(benches);
