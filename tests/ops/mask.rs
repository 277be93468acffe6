//! mask: thresholds, masks and distances against a full sort and the whole history, exact.

use earlybird::backend::{MaskSpans, Memory};
use earlybird::ops::mask::{Mask, NO_MASK};
use proptest::prelude::*;

use crate::device::Device;

for_each_device!(every_draw_is_the_definition, draws_that_are_none_are_refused);

/// What a draw reads and writes.
struct Drawn {
    ring: Memory,
    thresholds: Memory,
    distances: Memory,
    kept: Memory,
}

impl Drawn {
    fn new(device: &Device, p: &Mask) -> Drawn {
        let lengths = p.lengths().unwrap();
        let room = |bytes: usize| device.put(&vec![0x7fu8; bytes.max(4)]);
        let (ring, thresholds) = (room(lengths.ring), room(lengths.thresholds));
        Drawn { ring, thresholds, distances: room(lengths.distances), kept: room(lengths.kept) }
    }

    fn draw(&self, device: &Device, p: &Mask, scales: &[f32]) -> earlybird::Result<()> {
        let scales = device.put(scales);
        let Drawn { ring, thresholds, distances, kept } = self;
        let (ring, thresholds) = (ring.all(), thresholds.all());
        let spans = MaskSpans { scales: scales.all(), ring, thresholds, distances: distances.all(), kept: kept.all() };
        device.backend.mask_step_f32(p, spans)
    }
}

/// Multiples of 1/4 with both zeros, infinities and a NaN among them: full of ties.
fn scale() -> impl Strategy<Value = f32> {
    prop_oneof![
        12 => (-8i8..8).prop_map(|v| f32::from(v) / 4.0),
        12 => -2.0f32..2.0,
        1 => proptest::sample::select(&[-0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, f32::MAX][..]),
    ]
}

fn every_draw_is_the_definition(device: &Device) {
    let sizes = prop_oneof![1usize..=70, Just(1025usize)];
    let history = sizes.prop_flat_map(|n| proptest::collection::vec(proptest::collection::vec(scale(), n), 1..5));
    let ratios = proptest::collection::vec(0.0f64..0.99, 1..=8);
    device.check((history, ratios, 0usize..=4), |(history, ratios, depth)| {
        let n = history[0].len();
        let mut p = Mask::new(n, &ratios, depth).unwrap();
        let drawn = Drawn::new(device, &p);
        let mut before: Vec<Vec<Vec<bool>>> = Vec::new();
        for scales in &history {
            drawn.draw(device, &p, scales).unwrap();
            let what = format!("{}: {scales:?} with {p:?}", device.name);
            let (ring, thresholds) = (device.get::<u32>(&drawn.ring), device.get::<u32>(&drawn.thresholds));
            let (distances, kept) = (device.get::<u32>(&drawn.distances), device.get::<u32>(&drawn.kept));
            assert_eq!(kept[ratios.len()] as usize, scales.iter().filter(|s| !s.is_finite()).count(), "{what}");
            let mut sorted: Vec<f32> = scales.iter().map(|s| s.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            let mut now = Vec::new();
            for (r, ratio) in ratios.iter().enumerate() {
                let threshold = sorted[(n as f64 * ratio) as usize];
                assert_eq!(thresholds[r], threshold.to_bits(), "{what}");
                let keeps: Vec<bool> = scales.iter().map(|s| s.abs() > threshold).collect();
                let words = &ring[p.head_word(r)..][..p.words as usize];
                let got: Vec<bool> = (0..n).map(|i| words[i / 32] >> (i % 32) & 1 == 1).collect();
                assert_eq!(got, keeps, "{what}");
                let tail = if n.is_multiple_of(32) { 0 } else { words[n / 32] >> (n % 32) };
                assert_eq!((tail, kept[r] as usize), (0, keeps.iter().filter(|kept| **kept).count()), "{what}");
                for back in 1..=depth {
                    let older = before.len().checked_sub(back).map(|i| &before[i][r]);
                    let differ = older.map(|older| keeps.iter().zip(older).filter(|(a, b)| a != b).count() as u32);
                    assert_eq!(distances[r * depth + back - 1], differ.unwrap_or(NO_MASK), "{what}, {back} back");
                }
                now.push(keeps);
            }
            before.push(now);
            p = p.next();
        }
    });
}

fn draws_that_are_none_are_refused(device: &Device) {
    let good = Mask::new(40, &[0.5, 0.25], 2).unwrap();
    let drawn = Drawn::new(device, &good);
    drawn.draw(device, &good, &[1.0; 40]).unwrap();
    assert!(drawn.draw(device, &good, &[1.0; 39]).is_err(), "a scale is missing");
    for bad in [
        Mask { ratios: 0, ..good },
        Mask { ratios: 9, ..good },
        Mask { head: 3, ..good },
        Mask { words: 1, ..good },
        Mask { depth: 32, ..good },
        Mask { rank: [40; 8], ..good },
        Mask { ratios: 3, ..good }, // memory for two
    ] {
        assert!(drawn.draw(device, &bad, &[1.0; 40]).is_err(), "{bad:?}");
    }
}
