//! Two runs, one worker or two, with and without vector units, checked or not: the same bits and the same counts.

use crate::machine::{counted, kernel, run};
use earlybird::vgpu::device::Options;
use earlybird::vgpu::ir::Isa;

/// Divergent loops, floats, shared memory and a barrier.
const BODY: &str = "mov.u32 %r10, smem;\n shl.b32 %r6, %r1, 2;\n add.u32 %r11, %r10, %r6;\n cvt.rn.f32.u32 %f1, %r3;\n mov.f32 %f2, 0f3F000000;\n and.b32 %r7, %r1, 15;\n\
 mov.u32 %r8, 0;\nL:\n fma.rn.f32 %f2, %f2, %f1, %f1;\n rcp.approx.f32 %f3, %f2;\n ex2.approx.f32 %f4, %f3;\n fma.rz.f32 %f2, %f4, %f3, %f2;\n add.u32 %r8, %r8, 1;\n \
 setp.le.u32 %p1, %r8, %r7;\n @%p1 bra L;\n st.shared.f32 [%r11], %f2;\n bar.sync 0;\n xor.b32 %r9, %r6, 64;\n add.u32 %r9, %r9, %r10;\n ld.shared.u32 %r0, [%r9];\n $STORE ret;";

#[test]
fn the_same_bits_and_counts_everywhere() {
    let ptx = kernel(BODY);
    let (first, bits) = run(Options { workers: 1, ..Options::default() }, &ptx, 24, 128, 0, 24 * 128);
    assert!(first.report.is_clean(), "{}", first.report.to_text());
    let mut summaries = Vec::new();
    for isa in [Isa::Base, Isa::detect()] {
        for workers in [1, 2, 3] {
            let mut options = Options { workers, profile: true, ..Options::default() };
            options.lowering.isa = isa;
            let (outcome, out) = run(options, &ptx, 24, 128, 0, 24 * 128);
            assert_eq!(out, bits, "{isa:?}, {workers} workers");
            summaries.push((outcome.instructions, outcome.summary.unwrap()));
        }
    }
    let (outcome, out) = run(counted(), &ptx, 24, 128, 0, 24 * 128);
    assert_eq!(out, bits, "checked");
    assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
    summaries.push((outcome.instructions, outcome.summary.unwrap()));
    assert!(summaries.windows(2).all(|w| w[0] == w[1]), "counts differ");
    let summary = &summaries[0].1;
    assert_eq!(summary.barriers, 24 * 4);
    assert_eq!(summary.global_write.bytes, 24 * 128 * 4);
    assert_eq!(summary.shared.wavefronts, summary.shared.ideal, "no bank conflicts");
}

#[test]
fn jitter_moves_approximations_and_nothing_else() {
    let ptx = kernel(
        "add.u32 %r6, %r3, 1;\n cvt.rn.f32.u32 %f1, %r6;\n lg2.approx.f32 %f3, %f1;\n mov.b32 %r0, %f3;\n $STORE ret;",
    );
    let with = |jitter| {
        let mut options = Options { workers: 1, ..Options::default() };
        options.lowering.jitter = jitter;
        run(options, &ptx, 1, 128, 0, 128).1
    };
    assert_eq!(with(0), with(0));
    assert_eq!(with(5), with(5));
    assert_ne!(with(0), with(5));
    let exact = kernel(
        "cvt.rn.f32.u32 %f1, %r3;\n fma.rn.f32 %f2, %f1, %f1, %f1;\n div.rn.f32 %f2, %f2, %f1;\n mov.b32 %r0, %f2;\n $STORE ret;",
    );
    let run_exact = |jitter| {
        let mut options = Options::default();
        options.lowering.jitter = jitter;
        run(options, &exact, 1, 64, 0, 64).1
    };
    assert_eq!(run_exact(0), run_exact(5));
}
