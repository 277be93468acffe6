//! Shuffles, votes, matches, reductions, elections; barriers with counts, arrivals and reductions.

use crate::machine::{errors, expect};
use earlybird::vgpu::report::Kind;

#[test]
fn shuffles_of_every_mode() {
    expect(
        "shfl.sync.up.b32 %r6|%p1, %r1, 3, 0, -1;\n selp.u32 %r7, 1000, 0, %p1;\n add.u32 %r0, %r6, %r7;\n shfl.sync.bfly.b32 %r8, %r1, 5, 31, -1;\n \
         mad.lo.u32 %r0, %r8, 100000, %r0;\n shfl.sync.down.b32 %r9, %r1, 2, 0x1807, -1;\n mad.lo.u32 %r0, %r9, 10000000, %r0;\n $STORE ret;",
        1,
        64,
        0,
        |t| {
            let (lane, base) = (t % 32, t / 32 * 32);
            let up = if lane >= 3 { t - 3 + 1000 } else { t };
            // Segments of 8 lanes: c = 0x1807.
            let down = if lane % 8 + 2 <= 7 { t + 2 } else { t };
            up.wrapping_add((base + (lane ^ 5)).wrapping_mul(100_000)).wrapping_add(down.wrapping_mul(10_000_000))
        },
    );
}

#[test]
fn lanes_meet_at_different_instructions_of_the_same_kind() {
    // Independent thread scheduling: both sides of a branch hold the same shuffle for all lanes.
    expect(
        "and.b32 %r6, %r1, 1;\n setp.eq.u32 %p1, %r6, 0;\n @%p1 bra A;\n add.u32 %r7, %r1, 100;\n shfl.sync.idx.b32 %r0, %r7, 0, 31, 0xffffffff;\n bra J;\nA:\n \
         add.u32 %r7, %r1, 200;\n shfl.sync.idx.b32 %r0, %r7, 1, 31, 0xffffffff;\nJ:\n $STORE ret;",
        1,
        32,
        0,
        |t| if t % 2 == 0 { 101 } else { 200 },
    );
}

#[test]
fn votes_matches_and_reductions_over_parts_of_a_warp() {
    expect(
        "setp.lt.u32 %p1, %r1, 20;\n @%p1 bra LOW;\n setp.gt.u32 %p2, %r1, 25;\n vote.sync.ballot.b32 %r6, %p2, 0xfff00000;\n popc.b32 %r0, %r6;\n \
         redux.sync.max.u32 %r7, %r1, 0xfff00000;\n mad.lo.u32 %r0, %r7, 100, %r0;\n bra J;\nLOW:\n and.b32 %r8, %r1, 3;\n \
         match.any.sync.b32 %r9, %r8, 0x000fffff;\n popc.b32 %r0, %r9;\n vote.sync.all.pred %p3, %p1, 0x000fffff;\n selp.u32 %r10, 1000, 0, %p3;\n \
         add.u32 %r0, %r0, %r10;\n match.all.sync.b32 %r11|%p4, %r8, 0x000fffff;\n selp.u32 %r12, 5000, 0, %p4;\n add.u32 %r0, %r0, %r12;\nJ:\n $STORE ret;",
        1,
        32,
        0,
        |t| if t >= 20 { 31 * 100 + 6 } else { 5 + 1000 },
    );
}

#[test]
fn lanes_that_exited_are_not_waited_for() {
    expect(
        "setp.ge.u32 %p1, %r1, 24;\n @%p1 exit;\n redux.sync.add.u32 %r0, %r1, 0xffffffff;\n $STORE ret;",
        1,
        32,
        0,
        |t| if t < 24 { (0..24).sum() } else { 0 },
    );
}

#[test]
fn elections_and_active_masks() {
    let body =
        "elect.sync %r6|%p1, 0xffffffff;\n selp.u32 %r7, 1, 0, %p1;\n mad.lo.u32 %r0, %r6, 10, %r7;\n $STORE ret;";
    expect(body, 1, 32, 0, |t| u32::from(t == 0));
}

#[test]
fn masks_must_hold_the_thread_itself() {
    let outside = "shfl.sync.idx.b32 %r6, %r1, 0, 31, 0x0000fffe;\n ret;";
    assert!(errors(outside, 1, 32, 0).contains(&Kind::SyncMask));
    let absent = "setp.lt.u32 %p1, %r1, 16;\n @!%p1 exit;\n shfl.sync.idx.b32 %r6, %r1, 20, 31, 0x0000ffff;\n ret;";
    assert_eq!(errors(absent, 1, 32, 0), [Kind::SyncMask]);
}

#[test]
fn barriers_exchange_data_and_reduce() {
    expect(
        "shl.b32 %r6, %r1, 2;\n mov.u32 %r7, smem;\n add.u32 %r8, %r7, %r6;\n st.shared.u32 [%r8], %r1;\n bar.sync 0;\n sub.u32 %r9, 127, %r1;\n shl.b32 %r9, %r9, 2;\n \
         add.u32 %r9, %r9, %r7;\n ld.shared.u32 %r10, [%r9];\n setp.gt.u32 %p1, %r1, 99;\n bar.red.popc.u32 %r11, 1, 128, %p1;\n bar.red.or.pred %p2, 2, %p1;\n \
         bar.red.and.pred %p3, 2, !%p1;\n selp.u32 %r12, 100000, 0, %p2;\n selp.u32 %r13, 7, 0, %p3;\n mad.lo.u32 %r0, %r11, 1000, %r10;\n add.u32 %r0, %r0, %r12;\n \
         add.u32 %r0, %r0, %r13;\n $STORE ret;",
        2,
        128,
        0,
        |i| 127 - i % 128 + 28 * 1000 + 100_000,
    );
}

#[test]
fn a_producer_and_a_consumer_meet_at_named_barriers() {
    // Warp 0 fills, warps 1 and 2 read: arrive and sync of 96 threads.
    expect(
        "mov.u32 %r7, smem;\n setp.ge.u32 %p1, %r1, 32;\n @%p1 bra READ;\n shl.b32 %r6, %r1, 2;\n add.u32 %r8, %r7, %r6;\n mul.lo.u32 %r9, %r1, 3;\n \
         st.shared.u32 [%r8], %r9;\n bar.arrive 3, 96;\n mov.u32 %r0, 1;\n bra J;\nREAD:\n bar.sync 3, 96;\n and.b32 %r10, %r1, 31;\n shl.b32 %r10, %r10, 2;\n \
         add.u32 %r10, %r10, %r7;\n ld.shared.u32 %r0, [%r10];\nJ:\n $STORE ret;",
        1,
        96,
        0,
        |t| if t < 32 { 1 } else { 3 * (t % 32) },
    );
}

#[test]
fn misused_barriers_are_errors() {
    assert_eq!(errors("mov.u32 %r6, 48;\n bar.sync 0, %r6;\n ret;", 1, 64, 0), [Kind::BarrierMisuse]);
    assert_eq!(errors("mov.u32 %r6, 16;\n bar.sync %r6;\n ret;", 1, 64, 0), [Kind::BarrierMisuse]);
    let divergent = "setp.lt.u32 %p1, %r1, 7;\n @%p1 bra A;\n bar.sync 0;\n ret;\nA:\n bar.sync 1;\n ret;";
    assert_eq!(errors(divergent, 1, 32, 0), [Kind::BarrierDivergence]);
    let some = "setp.lt.u32 %p1, %r1, 7;\n @%p1 exit;\n bar.sync 0;\n ret;";
    assert_eq!(errors(some, 1, 32, 0), [Kind::ExitedAtBarrier]);
}
