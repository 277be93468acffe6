//! Branches, loops, exits, indirect branches, functions.

use crate::machine::{errors, expect};
use earlybird::vgpu::report::Kind;

#[test]
fn nested_divergence() {
    expect(
        "and.b32 %r6, %r1, 1;\n setp.eq.u32 %p1, %r6, 0;\n @%p1 bra EVEN;\n and.b32 %r7, %r1, 2;\n setp.eq.u32 %p2, %r7, 0;\n @%p2 bra ODD0;\n \
         add.u32 %r0, %r0, 100;\n bra ODDJ;\nODD0:\n add.u32 %r0, %r0, 200;\nODDJ:\n add.u32 %r0, %r0, 1000;\n bra JOIN;\nEVEN:\n add.u32 %r0, %r0, 7;\nJOIN:\n \
         add.u32 %r0, %r0, %r1;\n $STORE ret;",
        2,
        67,
        0,
        |i| {
            let t = i % 67;
            t + match (t % 2, t / 2 % 2) {
                (0, _) => 7,
                (_, 0) => 1200,
                _ => 1100,
            }
        },
    );
}

#[test]
fn loops_with_a_trip_count_of_their_own_for_every_lane() {
    expect(
        "mov.u32 %r6, 0;\nL:\n setp.gt.u32 %p1, %r6, %r1;\n @%p1 bra D;\n add.u32 %r0, %r0, %r6;\n and.b32 %r7, %r6, 3;\n setp.ne.u32 %p2, %r7, 2;\n \
         @%p2 bra N;\n add.u32 %r0, %r0, 50;\nN:\n add.u32 %r6, %r6, 1;\n bra L;\nD:\n $STORE ret;",
        1,
        96,
        0,
        |t| (0..=t).map(|i| i + if i % 4 == 2 { 50 } else { 0 }).sum(),
    );
}

#[test]
fn early_exits_and_guarded_exits() {
    expect(
        "setp.gt.u32 %p1, %r1, 40;\n @%p1 exit;\n add.u32 %r0, %r1, 1;\n $STORE setp.lt.u32 %p2, %r1, 10;\n @!%p2 ret;\n add.u32 %r0, %r0, 5;\n $STORE ret;",
        1,
        64,
        0,
        |t| match t {
            0..10 => t + 6,
            10..=40 => t + 1,
            _ => 0,
        },
    );
}

#[test]
fn an_irreducible_loop() {
    // Two entries into the loop {A, B}: even lanes enter at A, odd ones at B.
    expect(
        "mov.u32 %r6, 0;\n and.b32 %r7, %r1, 1;\n setp.eq.u32 %p1, %r7, 0;\n @%p1 bra A;\n bra B;\nA:\n add.u32 %r0, %r0, 1;\nB:\n add.u32 %r0, %r0, 10;\n \
         add.u32 %r6, %r6, 1;\n setp.lt.u32 %p2, %r6, %r1;\n @%p2 bra A;\n $STORE ret;",
        1,
        40,
        0,
        |t| {
            let rounds = t.max(1);
            10 * rounds + if t % 2 == 0 { rounds } else { rounds - 1 }
        },
    );
}

#[test]
fn indirect_branches() {
    expect(
        "and.b32 %r6, %r1, 3;\n ts: .branchtargets T0, T1, T2, T3;\n brx.idx %r6, ts;\nT0:\n mov.u32 %r0, 5;\n bra E;\nT1:\n mov.u32 %r0, 6;\n bra E;\nT2:\n \
         mov.u32 %r0, 7;\nT3:\n add.u32 %r0, %r0, 1;\nE:\n $STORE ret;",
        1,
        64,
        0,
        |t| [5, 6, 8, 1][t as usize % 4],
    );
    let wild = "mov.u32 %r6, 9;\n ts: .branchtargets T0, T1;\n brx.idx %r6, ts;\nT0:\n ret;\nT1:\n ret;";
    assert_eq!(errors(wild, 1, 32, 0), [Kind::Trap]);
}

#[test]
fn a_spin_lock_inside_a_warp_makes_progress() {
    // Every lane takes the lock in turn: lanes that wait must not starve the one that holds it.
    expect(
        "mov.u32 %r10, smem;\n setp.ne.u32 %p1, %r1, 0;\n @%p1 bra INIT;\n mov.u32 %r6, 0;\n st.shared.u32 [%r10], %r6;\n st.shared.u32 [%r10+4], %r6;\nINIT:\n \
         bar.sync 0;\nTRY:\n atom.acquire.cta.shared.cas.b32 %r7, [%r10], 0, 1;\n setp.ne.u32 %p2, %r7, 0;\n @%p2 bra TRY;\n ld.shared.u32 %r8, [%r10+4];\n \
         add.u32 %r8, %r8, 1;\n st.shared.u32 [%r10+4], %r8;\n membar.cta;\n atom.release.cta.shared.exch.b32 %r9, [%r10], 0;\n bar.sync 0;\n \
         ld.shared.u32 %r0, [%r10+4];\n $STORE ret;",
        1,
        64,
        0,
        |_| 64,
    );
}

#[test]
fn functions_are_called_with_parameters_in_divergent_code() {
    let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n\
        .func (.param .b32 r) twice(.param .b32 a) {\n .reg .b32 %r<4>;\n ld.param.b32 %r1, [a];\n .reg .pred %p;\n setp.gt.u32 %p, %r1, 100;\n @%p bra BIG;\n \
        add.u32 %r2, %r1, %r1;\n st.param.b32 [r], %r2;\n ret;\nBIG:\n mov.u32 %r3, 7;\n st.param.b32 [r], %r3;\n ret;\n}\n\
        .visible .entry k(.param .u64 out, .param .u32 n) {\n .reg .b32 %r<9>;\n .reg .b64 %rd<5>;\n .reg .pred %p<3>;\n mov.u32 %r1, %tid.x;\n mul.lo.u32 %r2, %r1, 3;\n \
        and.b32 %r6, %r1, 1;\n setp.eq.u32 %p1, %r6, 0;\n mov.u32 %r4, 1;\n @%p1 bra SKIP;\n {\n .param .b32 p;\n st.param.b32 [p], %r2;\n .param .b32 q;\n \
        call.uni (q), twice, (p);\n ld.param.b32 %r4, [q];\n }\nSKIP:\n ld.param.u64 %rd1, [out];\n mul.wide.u32 %rd2, %r1, 4;\n add.s64 %rd3, %rd1, %rd2;\n \
        st.global.u32 [%rd3], %r4;\n ret;\n}\n";
    for schedule in crate::machine::schedules() {
        let (outcome, out) = crate::machine::run(crate::machine::checked(schedule), ptx, 1, 64, 0, 64);
        assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
        for (t, got) in out.iter().enumerate() {
            let t = t as u32;
            let want = match (t % 2, 3 * t) {
                (0, _) => 1,
                (_, v) if v > 100 => 7,
                (_, v) => 2 * v,
            };
            assert_eq!(*got, want, "thread {t}");
        }
    }
}

#[test]
fn traps_and_endless_waits_are_errors() {
    assert_eq!(errors("setp.eq.u32 %p1, %r1, 3;\n @%p1 trap;\n ret;", 1, 32, 0), [Kind::Trap]);
    // Half of the warp at a shuffle that names all of it, the other half behind a barrier that needs the first.
    let stuck = "setp.lt.u32 %p1, %r1, 16;\n @%p1 bra A;\n bar.sync 0;\n ret;\nA:\n shfl.sync.idx.b32 %r6, %r1, 0, 31, 0xffffffff;\n bar.sync 0;\n ret;";
    assert_eq!(errors(stuck, 1, 32, 0), [Kind::WarpDeadlock]);
    let alone = "setp.lt.u32 %p1, %r1, 32;\n @%p1 bra A;\n bar.sync 1, 64;\n ret;\nA:\n bar.sync 2, 64;\n ret;";
    assert_eq!(errors(alone, 1, 64, 0), [Kind::BarrierDeadlock]);
}
