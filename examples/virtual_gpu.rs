//! A kernel on the virtual GPU, no GPU needed: `cargo run --release --example virtual_gpu`.
//!
//! A PTX kernel (as `nvcc -ptx`, NVRTC, clang or Triton write it) adds a block's 256 numbers in shared memory. It runs with the sanitizer and the profiler; then again with one barrier
//! taken out, and the sanitizer says where the race is.

use earlybird::vgpu::device::{Device, Options};
use earlybird::{Error, Result};

const SUM: &str = r#"
.version 8.0
.target sm_80
.address_size 64
.visible .entry block_sum(.param .u64 input, .param .u64 output)
{
    .reg .pred %p<3>;
    .reg .f32 %f<5>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<8>;
    .shared .align 4 .b8 part[1024];

    ld.param.u64 %rd1, [input];
    ld.param.u64 %rd2, [output];
    cvta.to.global.u64 %rd1, %rd1;
    cvta.to.global.u64 %rd2, %rd2;
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    shl.b32 %r3, %r2, 8;
    add.s32 %r3, %r3, %r1;
    mul.wide.u32 %rd3, %r3, 4;
    add.s64 %rd3, %rd1, %rd3;
    ld.global.f32 %f1, [%rd3];
    mov.u32 %r4, part;
    shl.b32 %r5, %r1, 2;
    add.s32 %r4, %r4, %r5;
    st.shared.f32 [%r4], %f1;
    mov.u32 %r6, 128;
loop:
    bar.sync 0;
    setp.ge.u32 %p1, %r1, %r6;
    @%p1 bra skip;
    shl.b32 %r7, %r6, 2;
    add.s32 %r7, %r4, %r7;
    ld.shared.f32 %f2, [%r7];
    ld.shared.f32 %f3, [%r4];
    add.f32 %f3, %f3, %f2;
    st.shared.f32 [%r4], %f3;
skip:
    shr.u32 %r6, %r6, 1;
    setp.ne.u32 %p2, %r6, 0;
    @%p2 bra loop;
    setp.ne.u32 %p1, %r1, 0;
    @%p1 bra done;
    mul.wide.u32 %rd4, %r2, 4;
    add.s64 %rd4, %rd2, %rd4;
    st.global.f32 [%rd4], %f3;
done:
    ret;
}
"#;

/// What went wrong, as the library's error.
fn failed(what: impl std::fmt::Display) -> Error {
    Error::bad_setting("virtual_gpu", what.to_string(), "this example should run")
}

/// Runs the kernel on 1024 numbers; returns the sums and the sanitizer's report (empty where it found nothing).
fn run(ptx: &str) -> Result<(Vec<f32>, String)> {
    let mut gpu = Device::new(Options { profile: true, ..Options::checked() });
    let module = gpu.load("sum.ptx", ptx).map_err(failed)?;
    let kernel = gpu.kernel(module, "block_sum").map_err(failed)?;
    let numbers: Vec<u8> = (0..1024).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let full = || failed("the virtual GPU is out of memory");
    let input = gpu.alloc(4096, Some("numbers")).ok_or_else(full)?;
    let output = gpu.alloc(16, Some("sums")).ok_or_else(full)?;
    gpu.write(input, &numbers).map_err(failed)?;
    let parameters = [input.to_le_bytes(), output.to_le_bytes()].concat();
    let outcome = gpu.launch(kernel, [4, 1, 1], [256, 1, 1], 0, &parameters);
    let report = if outcome.report.is_clean() { String::new() } else { outcome.report.to_text() };
    if report.is_empty() {
        println!("{} warp instructions", outcome.instructions);
    }
    let mut sums = [0; 16];
    if report.is_empty() {
        gpu.read(output, &mut sums).map_err(failed)?;
    }
    let (words, _) = sums.as_chunks::<4>();
    Ok((words.iter().map(|word| f32::from_le_bytes(*word)).collect(), report))
}

fn main() -> Result<()> {
    let (sums, report) = run(SUM)?;
    let expected: Vec<f32> = (0..4).map(|block| (0..256).map(|i| (256 * block + i) as f32).sum()).collect();
    println!("sums {sums:?}");
    if sums != expected || !report.is_empty() {
        return Err(failed(format!("expected {expected:?}\n{report}")));
    }
    let (_, report) = run(&SUM.replace("bar.sync 0;", ""))?;
    println!("\nwithout its barrier:\n{report}");
    if report.contains("race") { Ok(()) } else { Err(failed("the sanitizer missed the race")) }
}
