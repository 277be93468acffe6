//! `fill_u32` and `copy_u8` at every alignment and length that their paths tell apart, with guards on both sides.

use earlybird::backend::cuda::copy::copy_u8;
use earlybird::backend::cuda::fill::{fill_f32, fill_u32};

use crate::device::{Open, STREAM};

for_each_gpu!(crate::device::vgpu, crate::device::cuda; fills_write_their_range_and_nothing_else, copies_are_right_at_every_alignment);

fn fills_write_their_range_and_nothing_else(open: &Open) {
    let gpu = open("converge");
    for n in [0u32, 1, 3, 4, 5, 31, 257, 5000] {
        for skip in 0..4usize {
            let before = vec![7u32; n as usize + 9];
            let x = gpu.upload(&before);
            fill_u32(&gpu.kernels, STREAM, x.offset(4 * skip), n, 0xdead_beef).unwrap();
            let after: Vec<u32> = gpu.download(x, before.len());
            let inside = skip..skip + n as usize;
            for (i, v) in after.iter().enumerate() {
                assert_eq!(*v, if inside.contains(&i) { 0xdead_beef } else { 7 }, "{n} from {skip}, element {i}");
            }
        }
    }
    let x = gpu.alloc::<f32>(3);
    fill_f32(&gpu.kernels, STREAM, x, 3, -1.5).unwrap();
    assert_eq!(gpu.download::<f32>(x, 3), [-1.5; 3]);
}

fn copies_are_right_at_every_alignment(open: &Open) {
    let gpu = open("converge");
    let source: Vec<u8> = (0..600u32).map(|i| ((i * 37) >> 2) as u8).collect();
    let x = gpu.upload(&source);
    for (from, to) in [(0, 0), (1, 1), (3, 7), (15, 15), (16, 0), (5, 12)] {
        for n in [0usize, 1, 15, 16, 17, 255, 500] {
            let y = gpu.upload(&vec![0xaau8; 640]);
            copy_u8(&gpu.kernels, STREAM, x.offset(from), y.offset(to), n as u32).unwrap();
            let after: Vec<u8> = gpu.download(y, 640);
            assert!(after[..to].iter().chain(&after[to + n..]).all(|b| *b == 0xaa), "{n} bytes from {from} to {to}");
            assert_eq!(after[to..to + n], source[from..from + n], "{n} bytes from {from} to {to}");
        }
    }
}
