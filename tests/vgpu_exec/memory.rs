//! Loads and stores of every width, generic addresses, local and constant memory, atomics, asynchronous copies.

use crate::machine::{errors, expect, kernel, run};
use earlybird::vgpu::device::Options;
use earlybird::vgpu::report::Kind;

#[test]
fn narrow_loads_extend_to_the_register() {
    expect(
        "mov.u32 %r6, smem;\n shl.b32 %r7, %r1, 3;\n add.u32 %r7, %r7, %r6;\n mov.u64 %rd4, 0xfffe80f0a1b2c384;\n st.shared.u64 [%r7], %rd4;\n \
         ld.shared.s8 %r8, [%r7];\n ld.shared.u8 %r9, [%r7+1];\n ld.shared.s16 %r10, [%r7+4];\n ld.shared.s32 %rd5, [%r7+4];\n cvt.u32.u64 %r11, %rd5;\n \
         shr.u64 %rd6, %rd5, 32;\n cvt.u32.u64 %r12, %rd6;\n add.u32 %r0, %r8, %r9;\n add.u32 %r0, %r0, %r10;\n add.u32 %r0, %r0, %r11;\n add.u32 %r0, %r0, %r12;\n \
         $STORE ret;",
        1,
        32,
        0,
        |_| {
            let terms = [0x84u8 as i8 as i32 as u32, 0xc3, 0x80f0u16 as i16 as i32 as u32, 0xfffe_80f0, 0xffff_ffff];
            terms.into_iter().fold(0, u32::wrapping_add)
        },
    );
}

#[test]
fn vectors_and_generic_addresses_of_all_spaces() {
    expect(
        ".local .align 16 .b8 frame[32];\n mov.u32 %r6, smem;\n shl.b32 %r7, %r1, 4;\n add.u32 %r7, %r7, %r6;\n st.shared.v4.u32 [%r7], {%r1, %r3, %r5, 9};\n \
         cvt.u64.u32 %rd4, %r7;\n cvta.shared.u64 %rd4, %rd4;\n ld.v2.u32 {%r8, %r9}, [%rd4+8];\n mov.u64 %rd5, frame;\n st.local.v2.u32 [%rd5+16], {%r8, %r9};\n \
         cvta.local.u64 %rd6, %rd5;\n ld.u32 %r10, [%rd6+20];\n setp.lt.u32 %p1, %r1, 16;\n selp.b64 %rd7, %rd4, %rd6, %p1;\n @!%p1 st.u32 [%rd7+24], 5;\n \
         @%p1 st.u32 [%rd7], 5;\n selp.b64 %rd8, 0, 24, %p1;\n add.s64 %rd7, %rd7, %rd8;\n ld.u32 %r11, [%rd7];\n isspacep.shared %p2, %rd7;\n \
         selp.u32 %r12, 100, 0, %p2;\n add.u32 %r0, %r10, %r11;\n add.u32 %r0, %r0, %r12;\n add.u32 %r0, %r0, %r8;\n $STORE ret;",
        1,
        64,
        0,
        |t| 9 + 5 + 64 + if t < 16 { 100 } else { 0 },
    );
}

#[test]
fn constants_and_initialised_variables() {
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.const .align 4 .b32 table[4] = {10, 20, 30};\n.global .align 8 .b8 bytes[8] = {1, 2, 3};\n\
        .global .align 8 .u64 where = bytes;\n.visible .entry k(.param .u64 out, .param .u32 n) {\n .reg .b32 %r<9>;\n .reg .b64 %rd<9>;\n ld.param.u64 %rd1, [out];\n \
        mov.u32 %r1, %tid.x;\n and.b32 %r2, %r1, 3;\n mul.wide.u32 %rd2, %r2, 4;\n mov.u64 %rd3, table;\n add.s64 %rd3, %rd3, %rd2;\n ld.const.u32 %r3, [%rd3];\n \
        ld.global.u64 %rd4, [where];\n ld.global.u8 %r4, [%rd4+2];\n add.u32 %r5, %r3, %r4;\n mul.wide.u32 %rd5, %r1, 4;\n add.s64 %rd6, %rd1, %rd5;\n \
        st.global.u32 [%rd6], %r5;\n ret;\n}\n";
    let (outcome, out) = run(Options::checked(), ptx, 1, 8, 0, 8);
    assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
    assert_eq!(out, [13, 23, 33, 3, 13, 23, 33, 3]);
}

#[test]
fn atomics_of_many_blocks_add_up_on_two_workers() {
    let body = "and.b32 %r6, %r3, 7;\n mul.wide.u32 %rd4, %r6, 4;\n add.s64 %rd5, %rd1, %rd4;\n red.global.add.u32 [%rd5], %r1;\n \
        atom.global.max.u32 %r7, [%rd1+32], %r3;\n ret;";
    for workers in [1, 2] {
        let options = Options { workers, ..Options::default() };
        let (outcome, out) = run(options, &kernel(body), 64, 128, 0, 9);
        assert!(outcome.report.is_clean());
        for (bin, sum) in out[..8].iter().enumerate() {
            let each: u32 = (0..128).filter(|t| t % 8 == bin as u32).sum();
            assert_eq!(*sum, 64 * each);
        }
        assert_eq!(out[8], 64 * 128 - 1);
    }
}

#[test]
fn old_values_of_atomics_are_those_of_block_order() {
    // Lanes ascend, blocks come in order, whatever the number of workers.
    let body = "atom.global.add.u32 %r0, [%rd1], 1;\n add.u32 %r3, %r3, 1;\n $STORE ret;";
    for workers in [1, 2] {
        let (_, out) = run(Options { workers, ..Options::default() }, &kernel(body), 8, 64, 0, 513);
        assert_eq!(out[0], 512);
        assert!(out[1..].iter().enumerate().all(|(i, v)| *v == i as u32));
    }
}

#[test]
fn asynchronous_copies_arrive_at_their_wait() {
    let body = "mov.u32 %r6, smem;\n shl.b32 %r7, %r1, 2;\n add.u32 %r8, %r6, %r7;\n mul.wide.u32 %rd4, %r1, 4;\n add.s64 %rd5, %rd1, %rd4;\n mul.lo.u32 %r9, %r1, 5;\n \
        st.global.u32 [%rd5], %r9;\n cp.async.ca.shared.global [%r8], [%rd5], 4;\n cp.async.commit_group;\n cp.async.ca.shared.global [%r8+256], [%rd5], 4, 2;\n \
        cp.async.commit_group;\n cp.async.wait_group 1;\n ld.shared.u32 %r10, [%r8];\n cp.async.wait_all;\n ld.shared.u32 %r11, [%r8+256];\n \
        mad.lo.u32 %r0, %r11, 1000, %r10;\n $STORE ret;";
    expect(body, 1, 64, 0, |t| ((5 * t) & 0xffff) * 1000 + 5 * t);
    assert!(errors(&body.replace("cp.async.wait_group 1;\n", ""), 1, 64, 0).contains(&Kind::InFlightAccess));
    // A source size of 0 reads nothing, wherever the source points.
    let nothing = "mov.u32 %r6, smem;\n mov.u64 %rd5, 0;\n mov.u32 %r7, 0;\n cp.async.cg.shared.global [%r6], [%rd5], 16, %r7;\n cp.async.wait_all;\n \
        bar.warp.sync -1;\n ld.shared.u32 %r0, [%r6+12];\n add.u32 %r0, %r0, 3;\n $STORE ret;";
    expect(nothing, 1, 1, 0, |_| 3);
}

#[test]
fn wrong_addresses_of_every_kind() {
    for (body, kind) in [
        ("mov.u64 %rd4, 0;\n ld.global.u32 %r6, [%rd4+4];\n ret;", Kind::NullPointer),
        ("cvt.u32.u64 %r6, %rd1;\n cvt.u64.u32 %rd4, %r6;\n ld.global.u32 %r6, [%rd4];\n ret;", Kind::InvalidAddress),
        ("ld.global.u32 %r6, [%rd1+2];\n ret;", Kind::Misaligned),
        ("ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%rd1+8];\n ret;", Kind::Misaligned),
        ("ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%rd1+16384];\n ret;", Kind::OutOfBounds),
        ("ld.global.u8 %r6, [%rd1+-1];\n ret;", Kind::OutOfBounds),
        ("mov.u32 %r6, smem;\n ld.shared.u32 %r7, [%r6+4096];\n ret;", Kind::OutOfBounds),
        ("st.shared.u32 [%rd1], %r1;\n ret;", Kind::WrongSpace),
        ("mov.u64 %rd4, smem;\n cvta.shared.u64 %rd4, %rd4;\n st.global.u32 [%rd4], %r1;\n ret;", Kind::WrongSpace),
    ] {
        assert_eq!(errors(body, 1, 1, 0), [kind], "{body}");
    }
}
