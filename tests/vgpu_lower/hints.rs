//! Hints: legal, but worth a word.

use crate::{body, good};

fn hints(text: &str) -> Vec<String> {
    good(text).lints.into_iter().map(|l| l.1).collect()
}

#[test]
fn contraction() {
    let told = |text: &str| hints(text).iter().any(|h| h.contains("may fuse"));
    assert!(told("mul.f32 %f1, %f2, %f3;\nadd.f32 %f4, %f1, %f2;"));
    assert!(!told("mul.rn.f32 %f1, %f2, %f3;\nadd.f32 %f4, %f1, %f2;"));
    assert!(!told("mul.f32 %f1, %f2, %f3;\nadd.rn.f32 %f4, %f1, %f2;"));
    assert!(!told("mul.lo.u32 %r1, %r2, %r3;\nadd.u32 %r4, %r1, %r2;"));
}

#[test]
fn barriers() {
    let told = |text: &str, what: &str| hints(text).iter().any(|h| h.contains(what));
    let divergent = "a barrier under a branch";
    assert!(told(
        "mov.u32 %r1, %tid.x;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra L;\nbar.sync 0;\nL: mov.u32 %r2, 0;",
        divergent
    ));
    assert!(!told(
        "ld.param.u32 %r1, [n];\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra L;\nbar.sync 0;\nL: mov.u32 %r2, 0;",
        divergent
    ));
    assert!(
        !told(
            "mov.u32 %r1, %tid.x;\nsetp.eq.u32 %p1, %r1, 0;\n@%p1 bra L;\nmov.u32 %r3, 0;\nL: bar.sync 0;",
            divergent
        ),
        "they meet before it"
    );
    assert!(told("bra L;\nbar.sync 0;\nL:", "no path reaches"));
}

#[test]
fn others() {
    let told = |text: &str, what: &str| hints(text).iter().any(|h| h.contains(what));
    assert!(told("add.u32 %r1, %r2, 1;", "register `%r2` is read before it is written"));
    assert!(told("activemask.b32 %r1;", "active together"));
    assert!(told("ld.volatile.global.u32 %r1, [%rd1];", "volatile"));
    assert!(told("mov.u64 %rd1, l;\nst.local.u32 [%rd1], 1;", "32 bytes of local memory"));
    assert!(told("cvta.shared.u64 %rd1, s;\nld.u32 %r1, [%rd1+4];", "generic access to an address in .shared"));
    assert!(told("add.f32 %f1, %f2, %f3;\ncvt.f64.f32 %fd1, %f1;\nadd.f64 %fd2, %fd1, %fd1;", "f64 arithmetic"));
    assert!(told("ld.param.u32 %r1, [n+4];", "beyond the 4 bytes of parameter `n`"));
    assert!(told("div.s64 %rd1, %rd2, %rd3;", "64-bit integer division"));
    assert!(body("ret;").unwrap().lints.is_empty());
}
