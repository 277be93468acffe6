//! `plain_kernels.cu` by clang 14 at -O2 and by LLVM 22 at -O0 and -O2.

use super::{Arg, Launch, Numbers, bytes, close, corpus, values};

const FILES: [&str; 3] = ["clang/plain_o2.ptx", "llvm/plain_o0.ptx", "llvm/plain_o2.ptx"];

/// Runs `kernel` of every file; `check` sees the buffers given back.
fn each(kernel: &str, blocks: u32, threads: u32, args: &[Arg], check: impl Fn(&str, &[Vec<u8>])) {
    for file in FILES {
        let text = corpus(file);
        let launch = Launch { file, text: &text, kernel, grid: [blocks, 1, 1], block: threads, shared: 0 };
        check(file, &launch.run(args));
    }
}

/// As [`each`] for a result of 32-bit integers.
fn ints(kernel: &str, blocks: u32, threads: u32, args: &[Arg], want: &[i32]) {
    each(kernel, blocks, threads, args, |file, out| assert_eq!(values::<i32>(&out[0]), want, "{file} {kernel}"));
}

#[test]
fn affine() {
    let x = Numbers(1).floats(100);
    let mut p = bytes(&[2.0f32, -0.5]);
    p.extend(1i32.to_le_bytes());
    p.extend([7, 9, 11, 0]);
    let want: Vec<f64> = x.iter().map(|v| (f64::from(*v) * 2.0 - 0.5).max(0.0) + 9.0).collect();
    let args = [Arg::In(bytes(&x)), Arg::Out(400), Arg::Struct(p), Arg::I32(100)];
    each("affine", 2, 64, &args, |file, out| close(file, &values(&out[0]), &want, 1e-6));
}

#[test]
fn polynomial() {
    let x = Numbers(2).floats(700);
    let want: Vec<f64> = x
        .iter()
        .map(|v| {
            let v = f64::from(*v);
            [0.0625, -0.125, 0.25, -0.5, 1.0].iter().fold(0.0, |sum, c| sum * v + c)
        })
        .collect();
    let args = [Arg::In(bytes(&x)), Arg::Out(2800), Arg::I32(700)];
    each("polynomial", 2, 64, &args, |file, out| close(file, &values(&out[0]), &want, 1e-5));
}

#[test]
fn sums() {
    let x = Numbers(3).ints(500, -1000, 1000);
    let sum = |part: &[i32]| part.iter().sum::<i32>();
    let want = [sum(&x[..256]), sum(&x[256..])];
    ints("block_sum", 2, 256, &[Arg::In(bytes(&x)), Arg::Out(8), Arg::I32(500)], &want);
    let want: Vec<i32> = x[..256].chunks(32).map(sum).collect();
    ints("warp_sum", 2, 128, &[Arg::In(bytes(&x[..256])), Arg::Out(32)], &want);
}

#[test]
fn histogram() {
    let mut numbers = Numbers(4);
    let x: Vec<u8> = (0..3000).map(|_| numbers.bits() as u8).collect();
    let mut want = [0; 256];
    x.iter().for_each(|v| want[usize::from(*v)] += 1);
    ints("histogram", 3, 128, &[Arg::In(x), Arg::InOut(vec![0; 1024]), Arg::I32(3000)], &want);
}

#[test]
fn collatz_calls_a_function_with_a_local_variable() {
    let x = Numbers(5).ints(70, 1, 10000);
    let walk = |start: i32| {
        let (mut n, mut high, mut steps) = (start as u64, start as u64, 0);
        while n != 1 {
            n = if n & 1 == 1 { 3 * n + 1 } else { n / 2 };
            high = high.max(n);
            steps += 1;
        }
        (steps, high as i32)
    };
    let (steps, highs): (Vec<i32>, Vec<i32>) = x.iter().map(|v| walk(*v)).unzip();
    let args = [Arg::In(bytes(&x)), Arg::Out(280), Arg::Out(280), Arg::I32(70)];
    each("collatz_steps", 3, 32, &args, |file, out| {
        assert_eq!(values::<i32>(&out[0]), steps, "{file}");
        assert_eq!(values::<i32>(&out[1]), highs, "{file}");
    });
}

#[test]
fn insertion_sort_in_local_memory() {
    let x = Numbers(6).ints(64 * 16, -99, 99);
    let mut want = x.clone();
    want.chunks_mut(16).for_each(<[i32]>::sort_unstable);
    ints("insertion_sort", 2, 32, &[Arg::In(bytes(&x)), Arg::Out(4096), Arg::I32(64)], &want);
}

#[test]
fn a_switch_over_operations() {
    let mut numbers = Numbers(7);
    let op = numbers.ints(400, 0, 13);
    let a = numbers.ints(400, i32::MIN.into(), 1 << 31);
    let b: Vec<i32> =
        (0..400).map(|i| (numbers.int(-40, 40) as i32).wrapping_mul(if i % 2 == 0 { 1 } else { 77_777_777 })).collect();
    let words: [&[u8]; 3] = [b"alpha\0", b"beta\0", b"gamma\0"];
    let want: Vec<i32> = (0..400)
        .map(|i| {
            let (a, b) = (a[i], b[i]);
            match op[i] {
                0 => a.wrapping_add(b),
                1 => a.wrapping_sub(b),
                2 => a.wrapping_mul(b),
                3 => a.checked_div(b).unwrap_or(0),
                4 => a.checked_rem(b).unwrap_or(0),
                5 => ((a as u32) >> (b & 31)) as i32,
                6 => a >> (b & 31),
                7 => (a.count_ones() + (b | 1).leading_zeros()) as i32,
                8 => ((i64::from(a) * i64::from(b)) >> 32) as i32,
                9 => a.min(b),
                10 => a.wrapping_mul([1, -2, 3, -4][(b & 3) as usize]),
                11 => i32::from(words[(a as u32 % 3) as usize][(b & 3) as usize]),
                _ => -1,
            }
        })
        .collect();
    let args = [Arg::In(bytes(&op)), Arg::In(bytes(&a)), Arg::In(bytes(&b)), Arg::Out(1600), Arg::I32(400)];
    ints("opcodes", 4, 128, &args, &want);
}

#[test]
fn wide_integers_and_doubles() {
    let mut numbers = Numbers(8);
    let a: Vec<u64> = (0..200).map(|_| numbers.bits()).collect();
    let mut b: Vec<u64> = (0..200).map(|_| numbers.bits() >> (numbers.bits() & 63)).collect();
    b[..3].copy_from_slice(&[0, 1, 1 << 63]);
    let pairs = || a.iter().zip(&b);
    let want: Vec<u64> = pairs()
        .map(|(a, b)| {
            let d = (*b).max(1);
            let (left, right) = (a << (b & 63), ((*a as i64) >> (b & 63)) as u64);
            (a / d).wrapping_add(a % d).wrapping_add(left).wrapping_add(right)
        })
        .collect();
    let doubles: Vec<f64> =
        pairs().map(|(a, b)| *a as f64 * 0.5 + (*b as f64).sqrt() / 3.0 + f64::from((*a as i64) as f32)).collect();
    let args = [Arg::In(bytes(&a)), Arg::In(bytes(&b)), Arg::Out(1600), Arg::Out(1600), Arg::I32(200)];
    each("wide", 2, 128, &args, |file, out| {
        assert_eq!(values::<u64>(&out[0]), want, "{file}");
        for (got, want) in values::<f64>(&out[1]).iter().zip(&doubles) {
            assert!((got - want).abs() <= want.abs() * 1e-15, "{file}: {got}, should be {want}"); // clang contracts
        }
    });
}

/// The reduction that the last block finishes: fence, counter, volatile reads. No race, no order of blocks.
#[test]
fn the_last_block_sums_up() {
    let x = Numbers(9).floats(3000);
    let want: f64 = x.iter().map(|v| f64::from(*v)).sum();
    let args = [Arg::In(bytes(&x)), Arg::Out(24), Arg::Out(4), Arg::InOut(vec![0; 4]), Arg::I32(3000)];
    each("last_block", 6, 128, &args, |file, out| {
        close(file, &values(&out[1]), &[want], 1e-5);
        assert_eq!(values::<u32>(&out[2]), [6], "{file}");
    });
}

#[test]
fn a_global_variable_that_holds_an_address() {
    ints("counter", 1, 32, &[Arg::Out(4)], &[8]);
}
