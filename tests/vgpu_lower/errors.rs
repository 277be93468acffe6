//! What is refused: the line, the words, and whether the PTX is wrong (exit code 2) or only unknown here (3).

use crate::body;

fn refused(text: &str) -> (bool, String) {
    match body(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(e) => {
            assert_eq!(e.pos.line, 6, "{text}: {e}");
            (e.unsupported, e.to_string())
        }
    }
}

/// `ptxas` refuses these too.
#[test]
fn wrong() {
    for (text, needle) in [
        ("mov.f32 %f1, 0;", "constant where .f32 should be"),
        ("mov.u32 %r1, 0f3f800000;", "constant where .u32 should be"),
        ("mov.b64 %rd1, 0f3f800000;", "constant where .b64 should be"),
        ("add.f16 %h1, %h1, 0x3C00;", "constant"),
        ("ld.global.f16 %h1, [%rd1];", "memory access of type .f16"),
        ("ld.global.f32 %u, [%rd1];", "register `%u` of type .u32 where .f32 should be"),
        ("ld.global.u32 %f1, [%rd1];", "register `%f1` of type .f32"),
        ("ld.global.u8 %f1, [%rd1];", "register `%f1` of type .f32"),
        ("st.global.u8 [%rd1], %f1;", "register `%f1` of type .f32"),
        ("add.u32 %f1, %f1, %f1;", "register `%f1`"),
        ("add.f32 %u, %u, %u;", "register `%u`"),
        ("add.u32 %r1, %rd1, 1;", "register `%rd1` of type .b64 where .u32 should be"),
        ("mov.u64 %rd2, %tid.x;", "special register"),
        ("ld.shared.u32 %r1, [%h1];", "register `%h1`"),
        ("ld.global.f32 %f1, [s];", "`s` is in .shared, the access is to .global"),
        ("st.param.u32 [p], %r1;", "parameter"),
        ("st.global.v2.u32 [%rd1], {%r1, %rd2};", "different widths"),
        ("ld.global.v2.u8 {%r1, %h2}, [%rd1];", "different widths"),
        ("ld.global.v4.u64 {%rd1, %rd2, %rd3}, [%rd1];", "3 registers for a vector of 4"),
        ("ld.global.u32 _, [%rd1];", "`_` as the only destination"),
        ("st.global.f32 [%rd1], 1;", "constant where .f32 should be"),
        ("bar.sync 16;", "barriers 0 to 15"),
        ("bar.sync 0, 33;", "multiple of 32"),
        ("ld.global.ca.cg.u32 %r1, [%rd1];", "both `.ca` and `.cg`"),
        ("ld.volatile.global.ca.u32 %r1, [%rd1];", "`.ca` on an access that is not weak"),
        ("ld.relaxed.global.u32 %r1, [%rd1];", "without a scope"),
        ("ld.gpu.global.u32 %r1, [%rd1];", "a scope without"),
        ("ld.global.local.u32 %r1, [%rd1];", "both `.global` and `.local`"),
        ("ld.release.gpu.global.u32 %r1, [%rd1];", "`.release` on a load"),
        ("ld.global.u32.s32 %r1, [%rd1];", "both `.u32` and `.s32`"),
        ("ld.global %r1, [%rd1];", "without a type"),
        ("ld.global.u32 %r1, %rd1;", "address `[..]`"),
        ("ld.global.u32 %r1, [%rd1], %rd2;", "3 operands instead of 2"),
        ("ld.shared.nc.u32 %r1, [%rd1];", "non-coherent"),
        ("atom.global.add.f16 %h1, [%rd1], %h2;", "without `.noftz`"),
        ("atom.global.and.u32 %r1, [%rd1], %r2;", "no atomic `and` on .u32"),
        ("atom.local.add.u32 %r1, [%rd1], %r2;", "neither global nor shared"),
        ("atom.global.add.min.u32 %r1, [%rd1], %r2;", "both `.add` and `.min`"),
        ("red.global.cas.b32 [%rd1], %r1, %r2;", "cannot exchange"),
        ("atom.global.exch.u32 %r1, [%rd1], %r2;", "no atomic `exch` on .u32"),
        ("atom.global.add.s64 %rd2, [%rd1], %rd3;", "no atomic `add` on .s64"),
        ("ld.relaxed.cta.local.u32 %r1, [%rd1];", "no other thread"),
        ("st.volatile.local.u32 [%rd1], 1;", "no other thread"),
        ("bar.arrive 0, 0;", "multiple of 32"),
        ("ld.shared.u32 %r1, p[1];", "`p` is no array"),
        ("bra nowhere;", "no label `nowhere`"),
        ("mov.u32 %r1, nothing;", "unknown name `nothing`"),
        ("mov.u32 %r99, 1;", "unknown name `%r99`"),
        ("@%r1 mov.u32 %r2, 1;", "register `%r1` of type .b32 where .pred should be"),
        ("call nothing;", "unknown function `nothing`"),
        ("vote.sync.ballot.pred %p1, %p2, -1;", "wrong type"),
        ("match.any.sync.b32 %r1|%p1, %r2, -1;", "`match.any` has no predicate"),
        ("redux.sync.and.u32 %r1, %r2, -1;", "no such type"),
        ("bar.red.popc.pred %p1, 0, %p2;", "wrong type"),
        ("ld.param.u32 %r1, [q];", "unknown name `q`"),
        ("{ .param .b32 t; ld.param.u32 %r1, [t+4]; }", "4 bytes at 4 of `t`, which has 4 bytes"),
        ("{ .param .b32 t; st.param.b32 [t+-4], 1; }", "4 bytes at -4"),
        ("{ .reg .b32 x; .reg .b32 x; }", "declared twice"),
        ("L: mov.u32 %r1, 1; L: mov.u32 %r1, 2;", "label `L` is there twice"),
        ("mov.u32 1, %r1;", "a constant"),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r1, [%r2];", "no vector of 1 registers"),
        ("nanosleep.u32 %rd1;", "register `%rd1`"),
        ("ret 5;", "1 operands instead of 0"),
        ("cp.async.wait_group -1;", "all but -1"),
        ("membar;", "without one of .cta .gl .sys"),
    ] {
        let (unsupported, message) = refused(text);
        assert!(message.contains(needle), "{text}: {message}");
        assert!(!unsupported, "{text} is wrong, not unknown: {message}");
    }
}

/// Right for some GPU, but not here.
#[test]
fn unsupported() {
    for (text, needle) in [
        ("shfl.bfly.b32 %r1, %r2, 1, 31;", "without `.sync`"),
        ("vote.all.pred %p1, %p2;", "without `.sync`"),
        ("mbarrier.init.shared.b64 [%r1], 1;", "mbarrier.init.shared.b64"),
        ("wgmma.fence.sync.aligned;", "wgmma.fence"),
        ("tcgen05.wait::ld.sync.aligned;", "tcgen05"),
        ("fence.proxy.async;", "asynchronous proxy"),
        ("barrier.cluster.arrive;", "clusters"),
        ("mapa.shared::cluster.u32 %r1, %r2, 0;", "clusters"),
        ("ld.shared::cluster.u32 %r1, [%r2];", "cluster"),
        ("redux.sync.min.f32 %f1, %f2, -1;", ".f32"),
        ("frobnicate.rn.f32 %f1, %f2;", "frobnicate.rn.f32"),
        ("ld.global.fancy.u32 %r1, [%rd1];", "modifier `.fancy` of `ld`"),
        ("bar.sync.sideways 0;", "modifier `.sideways`"),
        ("cvta.global.u32 %r1, %r2;", "32-bit generic"),
        ("alloca.u64 %rd1, 16;", "alloca"),
        ("suld.b.1d.b32.trap %r1, [%rd1, %r2];", "surfaces"),
        ("ld.shared.u32 %r1, s[%r2];", "an element of `s` by register"),
        ("add.f32.fancy %f1, %f2, %f3;", "fancy"),
    ] {
        let (unsupported, message) = refused(text);
        assert!(message.contains(needle), "{text}: {message}");
        assert!(unsupported, "{text} is unknown, not wrong: {message}");
    }
}

#[test]
fn the_instruction_is_in_the_message() {
    let (_, message) = refused("@%p1 ld.global.f32   %u, [%rd1+4];");
    assert!(message.contains("@%p1 ld.global.f32 %u, [%rd1+4]") || message.contains("ld.global.f32 %u"), "{message}");
    assert!(message.starts_with("line 6, column 1: "), "{message}");
}

#[test]
fn short_addresses() {
    let text = ".version 8.4\n.target sm_80\n.address_size 32\n.visible .entry k() { ret; }";
    let e = crate::lower_file(text, "k").err().unwrap();
    assert!(e.unsupported && e.to_string().contains(".address_size 32"), "{e}");
}
