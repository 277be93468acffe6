//! `mask_step_f32` against a full sort.

use earlybird::backend::cuda::mask::{MaskBuffers, mask_step_f32};
use earlybird::ops::mask::Mask;

use crate::device::{Gpu, Open, SCHEDULES, STREAM, noise};

for_each_gpu!(crate::device::vgpu, crate::device::cuda; equals_a_full_sort_for_the_networks_of_the_paper_under_all_schedules, odd_sizes_signs_and_special_values, the_ring_goes_round_for_many_draws);

const RATIOS: [f64; 8] = [0.3, 0.5, 0.7, 0.1, 0.0, 0.9, 0.99, 0.25];

/// Threshold and mask of the definition: `sorted(|scale|)[trunc(n * ratio)]`, kept where strictly greater.
fn by_sorting(scales: &[f32], ratio: f64) -> (f32, Vec<bool>) {
    let mut sorted: Vec<f32> = scales.iter().map(|s| s.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    let threshold = sorted[(scales.len() as f64 * ratio) as usize];
    (threshold, scales.iter().map(|s| s.abs() > threshold).collect())
}

fn bits(words: &[u32], n: usize) -> Vec<bool> {
    (0..n).map(|i| words[i / 32] >> (i % 32) & 1 == 1).collect()
}

/// Draws one mask after another from `history`, checking each.
fn check(gpu: &Gpu, history: &[Vec<f32>], ratios: &[f64], depth: usize) {
    let n = history[0].len();
    let mut p = Mask::new(n, ratios, depth).unwrap();
    let buffers = MaskBuffers {
        scales: gpu.alloc::<f32>(n),
        ring: gpu.alloc::<u32>(p.ring_words()),
        thresholds: gpu.alloc::<f32>(ratios.len()),
        distances: gpu.alloc::<u32>(ratios.len() * depth),
        kept: gpu.alloc::<u32>(ratios.len() + 1),
    };
    let mut drawn: Vec<Vec<Vec<bool>>> = Vec::new();
    for scales in history {
        gpu.driver.copy_htod(buffers.scales, bytemuck::cast_slice(scales), STREAM).unwrap();
        mask_step_f32(&gpu.kernels, STREAM, &p, &buffers).unwrap();
        let ring: Vec<u32> = match drawn.len() {
            // Slots that no draw has written hold nothing yet: read the one that has.
            0 => (0..ratios.len()).flat_map(|_| vec![0; (depth + 1) * p.words as usize]).collect(),
            _ => gpu.download(buffers.ring, p.ring_words()),
        };
        let thresholds: Vec<f32> = gpu.download(buffers.thresholds, ratios.len());
        let kept: Vec<u32> = gpu.download(buffers.kept, ratios.len() + 1);
        assert_eq!(kept[ratios.len()] as usize, scales.iter().filter(|s| !s.is_finite()).count(), "not finite");
        let distances: Vec<u32> = gpu.download(buffers.distances, ratios.len() * depth);
        let mut masks = Vec::new();
        for (r, &ratio) in ratios.iter().enumerate() {
            let (threshold, expected) = by_sorting(scales, ratio);
            assert_eq!(thresholds[r].to_bits(), threshold.to_bits(), "threshold of {ratio} over {n}");
            let words: Vec<u32> = match drawn.len() {
                0 => gpu.download(buffers.ring.offset(4 * p.head_word(r)), p.words as usize),
                _ => ring[p.head_word(r)..][..p.words as usize].to_vec(),
            };
            assert_eq!(bits(&words, n), expected, "mask of {ratio} over {n}");
            assert_eq!(kept[r] as usize, expected.iter().filter(|k| **k).count());
            for q in 0..depth {
                let wanted = match drawn.len().checked_sub(q + 1) {
                    Some(i) => expected.iter().zip(&drawn[i][r]).filter(|(a, b)| a != b).count() as u32,
                    None => u32::MAX,
                };
                assert_eq!(distances[r * depth + q], wanted, "distance {q} of {ratio} over {n}");
            }
            masks.push(expected);
        }
        drawn.push(masks);
        p = p.next();
    }
}

/// Scales as 8-bit training leaves them: few values, many ties.
fn eight_bit(seed: u64, n: usize) -> Vec<f32> {
    noise(seed, n).into_iter().map(|v| ((v * 256.0).floor() - 128.0) / 128.0).collect()
}

fn equals_a_full_sort_for_the_networks_of_the_paper_under_all_schedules(open: &Open) {
    for (i, n) in [4224, 7408, 26560].into_iter().enumerate() {
        for (k, schedule) in SCHEDULES.into_iter().enumerate() {
            let gpu = open(schedule);
            let seed = (10 * i + k) as u64;
            // All equal first, as at the start of training; then random, then ties.
            let history = [vec![0.5; n], noise(seed + 1, n), eight_bit(seed + 2, n)];
            let ratios = &RATIOS[..[8, 3, 1, 5][k]];
            check(&gpu, &history, ratios, 4);
        }
    }
}

fn odd_sizes_signs_and_special_values(open: &Open) {
    let gpu = open("converge");
    for n in [1, 2, 31, 32, 33, 1023, 1024, 1025, 2047] {
        let signed: Vec<f32> = noise(n as u64, n).into_iter().map(|v| v - 0.5).collect();
        check(&gpu, &[signed.clone(), vec![0.0; n], signed], &RATIOS[..4], 2);
    }
    let special = [0.0, -0.0, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, -1.0, 1.0, f32::MAX, -f32::MAX, 1e-40];
    let many: Vec<f32> = special.iter().cycle().take(333).copied().collect();
    check(&gpu, &[many], &RATIOS, 0);
}

fn the_ring_goes_round_for_many_draws(open: &Open) {
    let gpu = open("converge");
    let history: Vec<Vec<f32>> = (0..9).map(|t| noise(t + 1, 300)).collect();
    check(&gpu, &history, &RATIOS[..2], 4);
}
