//! Warp and barrier instructions: which fields they fill.

use earlybird::vgpu::ir::{NO_ROW, Op, PSINK, Redux, Scope};

use crate::{all, constant, good, name};

#[test]
fn shuffles() {
    for (mode, x) in [("up", 0), ("down", 1), ("bfly", 2), ("idx", 3)] {
        let k = good(&format!("shfl.sync.{mode}.b32 %r1|%p1, %r2, 1, 0x1f, -1;"));
        let i = all(&k, Op::Shfl)[0];
        assert_eq!((i.x, name(&k, i.d), name(&k, i.a)), (x, "%r1", "%r2"));
        assert_eq!((constant(&k, i.b) as u32, constant(&k, i.c) as u32, constant(&k, i.e) as u32), (1, 31, u32::MAX));
        assert_ne!(i.q, PSINK);
    }
    assert_eq!(all(&good("shfl.sync.bfly.b32 %f1, %f2, 1, 31, %r1;"), Op::Shfl)[0].q, PSINK);
}

#[test]
fn votes_matches_reductions() {
    let k = good("vote.sync.all.pred %p1, !%p2, -1;\nvote.sync.ballot.b32 %r1, %p2, %r2;");
    let votes = all(&k, Op::Vote);
    assert_eq!((votes[0].x, votes[0].b, votes[1].x, votes[1].b), (0, 1, 3, 0));
    assert_eq!((name(&k, votes[1].d), name(&k, votes[1].e)), ("%r1", "%r2"));
    let k = good("match.any.sync.b32 %r1, %r2, -1;\nmatch.all.sync.b64 %r1|%p1, %rd2, -1;");
    let found = all(&k, Op::Match);
    assert_eq!((found[0].x, found[0].imm, found[0].q, found[1].x, found[1].imm), (0, 32, PSINK, 1, 64));
    let k = good("redux.sync.min.s32 %r1, %r2, -1;\nredux.sync.xor.b32 %r1, %r2, -1;");
    let found: Vec<u32> = all(&k, Op::Redux).iter().map(|i| i.x).collect();
    assert_eq!(found, [Redux::MinS as u32, Redux::Xor as u32]);
    let k = good("elect.sync _|%p1, -1;\nelect.sync %r1|%p1, %r2;");
    let found = all(&k, Op::Elect);
    assert_eq!((found[0].d, name(&k, found[1].d)), (NO_ROW, "%r1"));
}

#[test]
fn barriers() {
    let k = good(
        "bar.sync 0;\nbarrier.sync 1, 64;\nbarrier.cta.sync.aligned %r1, %r2;\nbar.arrive 2, 96;\nbar.warp.sync 0xff;",
    );
    let sync = all(&k, Op::BarSync);
    let aligned: Vec<u32> = sync.iter().map(|i| i.x).collect();
    assert_eq!((aligned, sync[0].b), (vec![1, 0, 1], NO_ROW));
    assert_eq!((constant(&k, sync[1].a) as u32, constant(&k, sync[1].b) as u32, name(&k, sync[2].b)), (1, 64, "%r2"));
    assert_eq!((all(&k, Op::BarArrive).len(), constant(&k, all(&k, Op::WarpBar)[0].e) as u32), (1, 255));
    assert_eq!(all(&good("bar.sync 0, 0;"), Op::BarSync)[0].b, NO_ROW, "no threads: all of them");
    let k = good("bar.red.popc.u32 %r1, 0, !%p1;\nbar.red.and.pred %p1, 1, 32, %p2;\nbarrier.red.or.pred %p1, 1, %p2;");
    let red = all(&k, Op::BarRed);
    assert_eq!((red[0].imm, red[0].e, red[0].b, name(&k, red[0].d)), (0, 1, NO_ROW, "%r1"));
    assert_eq!((red[1].imm, red[1].e, constant(&k, red[1].b) as u32), (1, 0, 32));
    assert_eq!((red[2].imm, red[2].x), (2, 0));
}

#[test]
fn fences_and_what_does_nothing() {
    let k = good("membar.gl;\nfence.acq_rel.cta;\nfence.sc.sys;\nmembar.cta;");
    let scopes: Vec<u32> = all(&k, Op::Fence).iter().map(|i| i.x).collect();
    assert_eq!(scopes, [Scope::Gpu as u32, Scope::Cta as u32, Scope::Sys as u32, Scope::Cta as u32]);
    let k = good(
        "prefetch.global.L2 [%rd1];\nprefetchu.L1 [%rd1+64];\napplypriority.global.L2::evict_normal [%rd1], 128;\n\
         discard.global.L2 [%rd1], 128;\ngriddepcontrol.wait;\nsetmaxnreg.inc.sync.aligned.u32 64;\ncreatepolicy.fractional.L2::evict_last.b64 %rd2, 1.0;\n\
         nanosleep.u32 100;",
    );
    assert_eq!((all(&k, Op::Nop).len(), all(&k, Op::Yield).len()), (6, 1));
    assert!(!k.undefined.iter().any(|u| u.1 == "%rd2"));
}
