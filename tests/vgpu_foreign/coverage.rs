//! `coverage.cu` by NVRTC 12.4 and 13: every family of forms runs clean, gives the same bits under every schedule and from both compilers, and what can be said
//! in a line of Rust is compared with it.

use std::io::Read;

use super::{Arg, Launch, Numbers, bytes, values};

const THREADS: usize = 256;
/// Words that a thread may put out.
const WORDS: usize = 120;
/// Which word of `single` is `erff`.
const ERFF: usize = 56;
const UNTOUCHED: u32 = 0xdead_beef;

fn text(version: &str) -> String {
    let name = format!("tests/vgpu_ptx/corpus/nvrtc/coverage_{version}.ptx.gz");
    let packed = std::fs::read(crate::common::root().join(name)).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    text
}

fn inputs() -> Vec<u32> {
    let mut numbers = Numbers(11);
    (0..3 * THREADS).map(|i| if i % 5 == 0 { numbers.int(-40, 40) as u32 } else { numbers.bits() as u32 }).collect()
}

/// Runs a kernel from both compilers; what each thread put out.
fn run(kernel: &str, more: &[Arg]) -> (Vec<u32>, Vec<Vec<u32>>) {
    let input = inputs();
    let args = [vec![Arg::In(bytes(&input)), Arg::InOut(bytes(&[UNTOUCHED; THREADS * WORDS]))], more.to_vec()].concat();
    let [old, new] = ["12_4", "13"].map(|version| {
        let text = text(version);
        let file = format!("coverage_{version}");
        Launch { file: &file, text: &text, kernel, grid: [2, 1, 1], block: 128, shared: 512 }.run(&args)
    });
    let (before, out): (Vec<u32>, Vec<u32>) = (values(&old[0]), values(&new[0]));
    for (i, (a, b)) in before.iter().zip(&out).enumerate() {
        // NVRTC 13 has another erff.
        let allowed = u32::from(kernel == "single" && i / THREADS == ERFF);
        assert!(a.abs_diff(*b) <= allowed, "{kernel}, word {}: {a:#x} and {b:#x}", i / THREADS);
    }
    let thread = |t: usize| out.iter().skip(t).step_by(THREADS).take_while(|v| **v != UNTOUCHED).copied().collect();
    (input, (0..THREADS).map(thread).collect())
}

#[test]
fn every_family_runs_clean() {
    for (kernel, least) in
        [("bits", 50), ("single", 75), ("dual", 40), ("half", 28), ("convert", 60), ("memory", 26), ("integer", 70)]
    {
        let (_, out) = run(kernel, &[]);
        assert!(out.iter().all(|words| words.len() >= least), "{kernel}: {} words", out[0].len());
    }
}

#[test]
fn integers() {
    let (input, out) = run("integer", &[]);
    for (abc, got) in input.chunks(3).zip(&out) {
        let [a, b, c] = [abc[0], abc[1], abc[2]];
        let (sa, sb) = (a as i32, b as i32);
        let high = |x: i64| (x >> 32) as u32;
        let want = [
            a.wrapping_add(b),
            a.wrapping_sub(b),
            a.wrapping_mul(b),
            ((u64::from(a) * u64::from(b)) >> 32) as u32,
            high(i64::from(sa) * i64::from(sb)),
            sa.saturating_add(sb) as u32,
            sa.saturating_sub(sb) as u32,
            sa.min(sb) as u32,
            sa.max(sb) as u32,
            a.min(b),
            a.max(b),
        ];
        assert_eq!(got[..11], want, "{a:#x} {b:#x} {c:#x}");
        let carries = &got[got.len() - 8..];
        let wide = (u128::from(c) << 64 | u128::from(b) << 32 | u128::from(a))
            .wrapping_add(u128::from(c) << 32 | u128::from(b));
        assert_eq!(
            carries[..3],
            [wide as u32, (wide >> 32) as u32, (wide >> 64) as u32],
            "add.cc {a:#x} {b:#x} {c:#x}"
        );
        let wide = (u128::from(c) << 64 | u128::from(b) << 32 | u128::from(a))
            .wrapping_sub(u128::from(c) << 32 | u128::from(b));
        assert_eq!(
            carries[3..6],
            [wide as u32, (wide >> 32) as u32, (wide >> 64) as u32],
            "sub.cc {a:#x} {b:#x} {c:#x}"
        );
        let product = u64::from(a) * u64::from(b) + u64::from(c);
        let carried = ((u64::from(a) * u64::from(b)) & 0xffff_ffff) + u64::from(c);
        let high = (u64::from(a) * u64::from(b)) >> 32;
        assert_eq!(carries[6], product as u32);
        assert_eq!(carries[7], (high + 7 + (carried >> 32)) as u32);
    }
}

#[test]
fn warps() {
    let (input, out) = run("warp", &[]);
    let a = |t: usize| input[3 * t];
    let b = |t: usize| input[3 * t + 1];
    for (t, got) in out.iter().enumerate() {
        let (base, lane) = (t / 32 * 32, t % 32);
        let lanes = || base..base + 32;
        let ballot = |f: &dyn Fn(usize) -> bool| lanes().filter(|l| f(*l)).fold(0u32, |m, l| m | 1 << (l - base));
        let up = if lane >= 3 { a(t - 3) } else { a(t) };
        let down = if lane % 16 + 5 < 16 { a(t + 5) } else { a(t) };
        let guarded = if lane % 8 + 7 < 8 { a(t + 7) } else { 77 };
        assert_eq!(got[0], a(base + (b(t) & 31) as usize), "shfl.idx, lane {t}");
        assert_eq!(got[1..3], [up, down], "shfl.up and .down, lane {t}");
        // xor 9 within segments of 8 leaves the segment: lanes above read downwards.
        let partner = lane ^ 9;
        let xor = if partner <= (lane & 24 | 7) { a(base + partner) } else { a(t) };
        assert_eq!(got[3], xor, "shfl.bfly, lane {t}");
        assert_eq!(got[4], guarded, "shfl with a predicate, lane {t}");
        assert_eq!(got[5..7], [b(base + 4), a(base + 4)], "64 bits, lane {t}");
        assert_eq!(got[7], ballot(&|l| a(l) & 1 == 1));
        assert_eq!(got[8], u32::from(lanes().all(|l| a(l) != 0)));
        assert_eq!(got[9], u32::from(lanes().any(|l| a(l) == 5)));
        let ones = ballot(&|l| a(l) & 1 == 1);
        assert_eq!(got[10], u32::from(ones == 0 || ones == u32::MAX), "vote.uni");
        assert_eq!(got[11], ballot(&|l| a(l) & 3 == a(t) & 3), "match.any");
        let all = lanes().all(|l| a(l) & 3 == a(base) & 3);
        assert_eq!(got[12..14], [if all { u32::MAX } else { 0 }, all.into()], "match.all");
        assert_eq!(got[14], ballot(&|l| b(l) & 1 == b(t) & 1));
        let values: Vec<u32> = lanes().map(a).collect();
        let fold = |f: fn(u32, u32) -> u32| values[1..].iter().fold(values[0], |x, y| f(x, *y));
        assert_eq!(got[15], fold(u32::wrapping_add));
        assert_eq!(got[16], fold(|x, y| (x as i32).min(y as i32) as u32));
        assert_eq!(got[17..21], [fold(u32::max), fold(|x, y| x & y), fold(|x, y| x | y), fold(|x, y| x ^ y)]);
        let masks = [lane as u32, (1 << lane) - 1, u32::MAX << lane, 1 << lane, 1, 32];
        assert_eq!(got[22..28], masks, "special registers");
        let last = if lane & 1 == 1 { a(base + (lane ^ 2)) } else { ballot(&|l| l & 1 == 0 && b(l) & 2 != 0) };
        assert_eq!(got[28], last, "halves of a warp, lane {t}");
    }
}

#[test]
fn barriers_and_copies() {
    let (input, out) = run("barrier", &[]);
    let a = |t: usize| input[3 * t];
    for (t, got) in out.iter().enumerate() {
        let (base, thread) = (t / 128 * 128, t % 128);
        let block = || base..base + 128;
        assert_eq!(got[0], a(base + thread * 7 % 128));
        let odd = block().filter(|t| a(*t) & 1 == 1).count() as u32;
        assert_eq!(got[1..4], [odd, 1, block().any(|t| a(t) == 3).into()]);
        let handed = match thread {
            0..32 => 0,
            32..64 => input[3 * (t - 32) + 1],
            _ => 1,
        };
        assert_eq!(got[4..6], [handed, (odd > 0).into()]);
    }
    let (input, out) = run("copy", &[]);
    for (t, got) in out.iter().enumerate() {
        let from = |t: usize| (t & 7) * 4;
        assert_eq!(got[0], input[from(t) + 3]);
        // Word `thread ^ 4` of the second stage: written by thread `(thread ^ 4) / 4`, of which words 2 and 3 may be zero-filled.
        let (word, base) = ((t % 128) ^ 4, t / 128 * 128);
        let source = from(base + word / 4);
        let want = match word % 4 {
            0 | 1 => input[source + word % 4],
            2 if (word / 4) & 1 == 1 => input[source + 1],
            _ => 0,
        };
        assert_eq!(got[1], want, "thread {t}");
    }
}

#[test]
fn control_flow() {
    let (input, out) = run("control", &[]);
    for (t, got) in out.iter().enumerate() {
        let [a, b, c] = [input[3 * t], input[3 * t + 1], input[3 * t + 2]];
        let mut r = match a & 7 {
            0 => b,
            1 => b.wrapping_mul(3),
            2 => c / 3,
            3 => b ^ c,
            4 => b.wrapping_sub(c),
            5 => b & c,
            6 => 9,
            _ => !b,
        };
        // In place, f.x[i] = f.x[3 - i] + 3: elements 2 and 3 take what 1 and 0 have become.
        let t = t as u32;
        let mut want = vec![a.wrapping_mul(2), a ^ 5, t.wrapping_add(3), t.wrapping_add(6), r];
        for i in 0..a & 15 {
            if (i ^ b) & 3 != 0 {
                continue;
            }
            if i > 11 {
                break;
            }
            r = r.wrapping_add(i.wrapping_mul(c));
        }
        want.push(r);
        r = r.wrapping_add(if a & 15 > 7 { 2 } else { 3 });
        want.push(r);
        want.push(match b & 3 {
            0 => 11,
            1 => 12,
            2 => 13,
            _ => r.wrapping_add(1),
        });
        if a & 31 != 31 {
            want.push(1);
        }
        assert_eq!(*got, want, "{a:#x} {b:#x} {c:#x}");
    }
}

#[test]
fn atomics() {
    let cells = Arg::InOut(vec![0; 64]);
    let more = [cells, Arg::InOut(vec![0; 8]), Arg::InOut(vec![0; 8]), Arg::InOut(vec![0; 40])];
    let input = inputs();
    let text = text("13");
    let args = [vec![Arg::In(bytes(&input)), Arg::Out(THREADS * WORDS * 4)], more.to_vec()].concat();
    let launch = Launch { file: "coverage_13", text: &text, kernel: "atomic", grid: [2, 1, 1], block: 128, shared: 0 };
    for out in launch.run_each(&args, [128, 1, 1]) {
        let column = |i: usize| input.iter().skip(i).step_by(3).copied();
        let cells: Vec<u32> = values(&out[1]);
        let sum = |i: usize| column(i).fold(0, u32::wrapping_add);
        assert_eq!(cells[0], sum(0).wrapping_sub(sum(1)));
        assert_eq!(cells[1] as i32, column(0).map(|v| v as i32).min().unwrap().min(0));
        assert_eq!(cells[2] as i32, column(0).map(|v| v as i32).max().unwrap().max(0));
        assert_eq!(cells[3..5], [0, column(1).max().unwrap()]);
        assert_eq!(cells[5..8], [0, column(0).fold(0, |x, y| x | y), column(0).fold(0, |x, y| x ^ y)]);
        assert_eq!(cells[8], 256, "inc up to 1000");
        assert_eq!(cells[9], 1000 - 255, "dec from 0 wraps to 1000");
        assert_eq!(cells[10..13], [5, 8, sum(0)]);
        assert_eq!(cells[13], 0x5c00_5c00, "256 additions of 1.0 in both halves");
        assert_eq!(values::<f32>(&out[2])[0], column(0).map(|v| (v & 15) as f32).sum::<f32>());
        assert_eq!(values::<f64>(&out[3])[0], column(1).map(|v| f64::from(v & 15)).sum::<f64>());
        let longs: Vec<u64> = values(&out[4]);
        assert_eq!(longs[0], column(2).map(u64::from).sum::<u64>());
        assert_eq!(longs[1..5], [u64::from(column(0).max().unwrap()) << 20, 9, 7, 0]);
    }
}
