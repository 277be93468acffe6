//! What lowering makes runs, and gives what the text says: the parts that no other test of the machine goes through.

use earlybird::vgpu::device::{Device, Options};
use earlybird::vgpu::exec::Schedule;

/// Runs kernel `k` with one block of 32 threads and a buffer of `words` words; its content afterwards. Nothing may be found wrong, under any schedule.
fn run(text: &str, shared: u32, words: usize) -> Vec<u32> {
    let text = format!(".version 8.4\n.target sm_80\n.address_size 64\n{text}");
    let mut first: Option<Vec<u32>> = None;
    for schedule in [Schedule::Converge, Schedule::Reverse, Schedule::Random(5)] {
        let mut device = Device::new(Options { schedule, ..Options::checked() });
        let module = device.load("test", &text).unwrap_or_else(|e| panic!("{e}"));
        let kernel = device.kernel(module, "k").unwrap_or_else(|e| panic!("{e}"));
        let buffer = device.alloc(4 * words as u64, Some("out")).unwrap();
        device.write(buffer, &vec![0; 4 * words]).unwrap();
        let outcome = device.launch(kernel, [1, 1, 1], [32, 1, 1], shared, &buffer.to_le_bytes());
        assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
        let mut bytes = vec![0; 4 * words];
        device.read(buffer, &mut bytes).unwrap();
        let got: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(*first.get_or_insert_with(|| got.clone()), got, "{schedule:?}");
    }
    first.unwrap()
}

#[test]
fn functions_frames_and_variables() {
    let text = "
.func (.param .b32 out) twice(.param .b32 in) { .reg .b32 %r<3>; ld.param.b32 %r1, [in]; add.u32 %r2, %r1, %r1; st.param.b32 [out], %r2; ret; }
.func (.param .b32 out) sum(.param .align 4 .b8 in[16]) { .reg .b32 %r<9>; .reg .b64 %rd<3>; mov.b64 %rd1, in; ld.param.b32 %r1, [in+12];
 ld.param.v2.b32 {%r2, %r3}, [in]; ld.local.b32 %r4, [%rd1+8]; add.u32 %r5, %r1, %r2; add.u32 %r6, %r3, %r4; add.u32 %r7, %r5, %r6;
 st.param.b32 [out], %r7; ret; }
.func (.reg .b32 y) unless(.reg .b32 x, .reg .b32 c) { .reg .pred p; setp.eq.u32 p, c, 0; mov.b32 y, x; @p ret; add.u32 y, x, x; }
.global .b32 table[4] = {10, 20, 30, 40};
.const .u64 ptr = generic(table);
.extern .shared .align 16 .b8 dyn[];
.visible .entry k(.param .u64 p) {
.reg .b32 %r<20>; .reg .b64 %rd<9>; .reg .pred %p<3>; .reg .b16 %h<3>; .shared .b32 st[32];
ld.param.u64 %rd1, [p];
mov.u32 %r1, %tid.x;
{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call.uni (b), twice, (a); ld.param.b32 %r2, [b]; }
{ .param .align 4 .b8 a[16]; .param .b32 b; st.param.v4.b32 [a], {%r1, %r2, 3, 4}; call (b), sum, (a); ld.param.b32 %r3, [b]; }
and.b32 %r5, %r1, 1;
setp.eq.u32 %p1, %r5, 0;
mov.u32 %r4, 0;
@%p1 call (%r4), unless, (%r3, %r1);
ld.const.u64 %rd2, [ptr];
and.b32 %r6, %r1, 3;
mul.wide.u32 %rd3, %r6, 4;
add.u64 %rd4, %rd2, %rd3;
ld.u32 %r7, [%rd4];
add.u32 %r8, %r4, %r7;
mul.wide.u32 %rd5, %r1, 4;
mov.u64 %rd6, dyn;
add.u64 %rd6, %rd6, %rd5;
st.shared.u32 [%rd6], %r8;
bar.sync 0;
ld.shared.s8 %h1, [%rd6];
cvt.s32.s16 %r9, %h1;
mad.wide.u32 %rd7, %r1, 8, %rd1;
ld.shared.u32 %r8, [%rd6];
st.global.v2.u32 [%rd7], {%r8, %r9};
ret; }";
    let got = run(text, 128, 64);
    for t in 0..32u32 {
        let sum = t + 2 * t + 3 + 4;
        let called = match t {
            0 => sum,
            t if t % 2 == 0 => 2 * sum,
            _ => 0,
        };
        let word = called + [10, 20, 30, 40][t as usize % 4];
        assert_eq!(got[2 * t as usize..][..2], [word, word as u8 as i8 as i32 as u32], "thread {t}");
    }
}

#[test]
fn registers_that_share_rows() {
    // Five thousand registers, some alive across a loop and branches: more than have a row each.
    let mut steps = String::new();
    for i in 0..5000 {
        steps += &format!("mad.lo.u32 %r{}, %r{}, 5, %r1;\nxor.b32 %r{0}, %r{0}, {i};\n", i + 11, i + 10);
        if i % 500 == 0 {
            let r = i + 11;
            steps +=
                &format!("setp.lt.u32 %p1, %r{r}, 2147483648;\n@%p1 bra L{i};\nadd.u32 %r{r}, %r{r}, %r2;\nL{i}:\n");
        }
    }
    let text = format!(
        ".visible .entry k(.param .u64 p) {{ .reg .b32 %r<6000>; .reg .b64 %rd<4>; .reg .pred %p<3>;
ld.param.u64 %rd1, [p];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, 77;\nmov.u32 %r3, 0;\nmov.u32 %r4, 0;
A:\nadd.u32 %r10, %r1, %r3;\n{steps}add.u32 %r4, %r4, %r5010;\nadd.u32 %r3, %r3, 1;\nsetp.lt.u32 %p2, %r3, 3;\n@%p2 bra A;
mad.wide.u32 %rd2, %r1, 4, %rd1;\nst.global.u32 [%rd2], %r4;\nret; }}"
    );
    let got = run(&text, 0, 32);
    for t in 0..32u32 {
        let mut all = 0u32;
        for round in 0..3 {
            let mut x = t + round;
            for i in 0..5000 {
                x = x.wrapping_mul(5).wrapping_add(t) ^ i;
                if i % 500 == 0 && x >= 1 << 31 {
                    x = x.wrapping_add(77);
                }
            }
            all = all.wrapping_add(x);
        }
        assert_eq!(got[t as usize], all, "thread {t}");
    }
}

#[test]
fn branches_by_index_and_irreducible_loops() {
    let text = "
.visible .entry k(.param .u64 p) { .reg .b32 %r<9>; .reg .b64 %rd<4>; .reg .pred %p<3>;
ts: .branchtargets A, B, C;
ld.param.u64 %rd1, [p];
mov.u32 %r1, %tid.x;
rem.u32 %r2, %r1, 3;
mov.u32 %r3, 0;
mov.u32 %r4, 0;
brx.idx %r2, ts;
A: add.u32 %r3, %r3, 1;
B: add.u32 %r3, %r3, 10;
add.u32 %r4, %r4, 1;
setp.lt.u32 %p1, %r4, %r1;
@%p1 bra A;
bra D;
C: add.u32 %r3, %r3, 1000;
setp.lt.u32 %p2, %r1, 16;
@%p2 bra B;
D: mad.wide.u32 %rd2, %r1, 4, %rd1;
st.global.u32 [%rd2], %r3;
ret; }";
    let got = run(text, 0, 32);
    for t in 0..32u32 {
        let (mut x, mut n, mut at) = (0u32, 0u32, t % 3);
        loop {
            match at {
                0 => (x, at) = (x + 1, 1),
                1 => {
                    (x, n) = (x + 10, n + 1);
                    at = if n < t { 0 } else { 3 };
                }
                2 => (x, at) = (x + 1000, if t < 16 { 1 } else { 3 }),
                _ => break,
            }
        }
        assert_eq!(got[t as usize], x, "thread {t}");
    }
}
