//! augment on the CPU: a batch from u8 images in memory, one image after another per task.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use crate::backend::{AugmentSource, Span};
use crate::ops::advance::StepState;
use crate::ops::augment::Augment;
use crate::quant::philox::philox4x32;
use crate::{Error, Result};

impl Cpu {
    pub(super) fn augment_fwd(&self, p: &Augment, from: AugmentSource, images: Span, labels: Span) -> Result<()> {
        let (n, each, count, channels) = (p.n as usize, p.elements(), p.count as usize, p.c as usize * 4);
        let reads = [
            (from.images, count * each),
            (from.labels, count * 4),
            (from.order, p.order as usize * 4),
            (from.state, size_of::<StepState>()),
            (from.mean, channels),
            (from.std, channels),
        ];
        let io = self.memory.open("augment_fwd_f32", reads, [(images, n * each * 4), (labels, n * 4)])?;
        let ([data, known, order, state, mean, std], [images, labels]) = (io.read, io.write);
        let (mean, std) = (f32s(mean), f32s(std));
        let known: &[u32] = bytemuck::cast_slice(known);
        let order: &[u32] = bytemuck::cast_slice(order);
        let labels: &mut [u32] = bytemuck::cast_slice_mut(labels);
        let fail = |what: String| Error::Graph { node: "batch".into(), op: "augment", what };
        let state: &StepState =
            bytemuck::try_from_bytes(state).map_err(|_| fail("the state is not aligned to 8 bytes".into()))?;
        let cursor = state.cursor as usize;
        let Some(indices) = cursor.checked_add(n).and_then(|end| order.get(cursor..end)) else {
            return Err(fail(format!(
                "images {cursor} to {} of an order of {}",
                cursor.saturating_add(n),
                order.len()
            )));
        };
        if let Some(bad) = indices.iter().find(|index| **index >= p.count) {
            return Err(fail(format!("image {bad} of {count}")));
        }
        labels.iter_mut().zip(indices).for_each(|(label, index)| *label = known[*index as usize]);
        f32s_mut(images).par_chunks_exact_mut(each.max(1)).zip(indices).for_each(|(out, index)| {
            let image = &data[*index as usize * each..][..each];
            one(p, image, philox4x32([0, 0, *index, state.epoch], p.seed), (mean, std), out);
        });
        Ok(())
    }
}

/// Writes one image, changed as `words` say.
fn one(p: &Augment, image: &[u8], words: [u32; 4], (mean, std): (&[f32], &[f32]), out: &mut [f32]) {
    let (h, w, c, pad) = (p.h as usize, p.w as usize, p.c as usize, p.pad as usize);
    let offset = |word: u32| match p.crop {
        0 => pad,
        _ => ((u64::from(word) * (2 * u64::from(p.pad) + 1)) >> 32) as usize,
    };
    let (down, right, mirrored) = (offset(words[0]), offset(words[1]), p.flip != 0 && words[2] >> 31 == 1);
    for (y, row) in out.chunks_exact_mut((w * c).max(1)).enumerate() {
        let source = (y + down).checked_sub(pad).filter(|y| *y < h).map(|y| &image[y * w * c..][..w * c]);
        for (x, pixel) in row.chunks_exact_mut(c.max(1)).enumerate() {
            let column = if mirrored { w - 1 - x } else { x };
            let from = (column + right).checked_sub(pad).filter(|x| *x < w);
            let bytes = source.zip(from).map(|(row, x)| &row[x * c..][..c]);
            for (channel, value) in pixel.iter_mut().enumerate() {
                let byte = bytes.map_or(0, |bytes| bytes[channel]);
                *value = (f32::from(byte) / 255.0 - mean[channel]) / std[channel];
            }
        }
    }
}
