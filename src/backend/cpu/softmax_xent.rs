//! softmax_xent on the CPU: loss, hits and probabilities of a batch; sums in f64, in the order of the images.

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use crate::backend::Span;
use crate::ops::Metrics;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::{Error, Result};

impl Cpu {
    pub(super) fn softmax_xent_fwd(
        &self,
        p: &SoftmaxXent,
        logits: Span,
        labels: Span,
        probs: Span,
        metrics: Span,
    ) -> Result<()> {
        let (n, k) = (p.n as usize, p.classes as usize);
        let io = self.memory.open(
            "softmax_xent_fwd_f32",
            [(logits, n * k * 4), (labels, n * 4)],
            [(probs, n * k * 4), (metrics, size_of::<Metrics>())],
        )?;
        let ([logits, labels], [probs, metrics]) = (io.read, io.write);
        let (logits, labels): (&[f32], &[u32]) = (f32s(logits), bytemuck::cast_slice(labels));
        let Ok(metrics) = bytemuck::try_from_bytes_mut::<Metrics>(metrics) else {
            let what = "the metrics are not aligned to 8 bytes".into();
            return Err(Error::Graph { node: "loss".into(), op: "softmax_xent", what });
        };
        check(p.classes, labels)?;
        for ((logits, label), probs) in logits.chunks_exact(k).zip(labels).zip(f32s_mut(probs).chunks_exact_mut(k)) {
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0f64;
            for (prob, logit) in probs.iter_mut().zip(logits) {
                let power = f64::from(logit - largest).exp();
                *prob = power as f32;
                sum += power;
            }
            probs.iter_mut().for_each(|prob| *prob = (f64::from(*prob) / sum) as f32);
            let own = logits[*label as usize];
            // Classes that rank before the label: larger ones, and equal ones with a lower number, as an argmax that takes the first would.
            let before = (0..k).filter(|i| logits[*i] > own || (logits[*i] == own && *i < *label as usize)).count();
            metrics.loss_sum += sum.ln() - f64::from(own - largest);
            metrics.top1 += u64::from(before == 0 && !own.is_nan());
            metrics.top5 += u64::from(before < 5 && !own.is_nan());
            metrics.count += 1;
        }
        Ok(())
    }

    pub(super) fn softmax_xent_bwd(&self, p: &SoftmaxXent, probs: Span, labels: Span, dlogits: Span) -> Result<()> {
        let (n, k) = (p.n as usize, p.classes as usize);
        let io =
            self.memory.open("softmax_xent_bwd_f32", [(probs, n * k * 4), (labels, n * 4)], [(dlogits, n * k * 4)])?;
        let ([probs, labels], [dlogits]) = (io.read, io.write.map(f32s_mut));
        let (probs, labels): (&[f32], &[u32]) = (f32s(probs), bytemuck::cast_slice(labels));
        check(p.classes, labels)?;
        for ((dlogits, probs), label) in dlogits.chunks_exact_mut(k).zip(probs.chunks_exact(k)).zip(labels) {
            for (i, (d, prob)) in dlogits.iter_mut().zip(probs).enumerate() {
                *d = (prob - if i == *label as usize { 1.0 } else { 0.0 }) / n as f32;
            }
        }
        Ok(())
    }
}

/// An error for a label that is none of the `classes`.
pub(super) fn check(classes: u32, labels: &[u32]) -> Result<()> {
    match labels.iter().find(|label| **label >= classes) {
        None => Ok(()),
        Some(bad) => {
            let what = format!("label {bad} with {classes} classes");
            Err(Error::Graph { node: "loss".into(), op: "softmax_xent", what })
        }
    }
}
