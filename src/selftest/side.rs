//! One side of a case: operands on a backend, outputs that are compared, and the comparison.

use super::Result;
use crate::backend::{Backend, Bfp, Memory};
use crate::ops::{Kernel, Metrics};

/// Bytes of memory that nothing has been written to: NaN as f32, -1 as an integer.
const UNTOUCHED: u8 = 0xff;

/// Unit roundoff of f32.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// How two results are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// Every byte.
    Exact,
    /// f32 whose elements are sums of this many terms. Rounding errors of a sum are as good as independent, and random terms make sums that grow as the square root of
    /// their number, too: allowed is `(4 sqrt(terms) + 8)` units of roundoff of the largest element. A missing term is a thousand times more.
    Sum(usize),
    /// [`Metrics`]: counts exactly, the loss as f32 by f32.
    Metrics,
}

struct Output {
    name: &'static str,
    memory: Memory,
    rule: Rule,
    /// Where no other side computes it.
    expected: Option<Vec<u8>>,
}

/// A backend with the operands of a case.
pub(super) struct Side<'b> {
    pub(super) backend: &'b dyn Backend,
    outputs: Vec<Output>,
}

impl<'b> Side<'b> {
    pub(super) fn new(backend: &'b dyn Backend) -> Side<'b> {
        Side { backend, outputs: Vec::new() }
    }

    /// An operand.
    pub(super) fn put<T: bytemuck::NoUninit>(&self, data: &[T]) -> Result<Memory> {
        let memory = self.backend.alloc(size_of_val(data))?;
        self.backend.upload(bytemuck::cast_slice(data), memory.all())?;
        Ok(memory)
    }

    /// `n` random f32, the same on every side.
    pub(super) fn noise(&self, n: usize, seed: u64) -> Result<Memory> {
        self.put(&crate::data::noise(n, seed))
    }

    /// `n` random f32 above 0.1.
    pub(super) fn positive(&self, n: usize, seed: u64) -> Result<Memory> {
        self.put(&positive(n, seed))
    }

    /// Memory that the case writes, untouched so far.
    pub(super) fn out(&mut self, name: &'static str, bytes: usize, rule: Rule) -> Result<Memory> {
        self.updated(name, &vec![UNTOUCHED; bytes], rule)
    }

    /// Memory that the case reads and writes.
    pub(super) fn updated<T: bytemuck::NoUninit>(
        &mut self,
        name: &'static str,
        data: &[T],
        rule: Rule,
    ) -> Result<Memory> {
        let memory = self.put(data)?;
        self.outputs.push(Output { name, memory: memory.clone(), rule, expected: None });
        Ok(memory)
    }

    /// Memory that the case writes, and what must be in it.
    pub(super) fn expected<T: bytemuck::NoUninit>(
        &mut self,
        name: &'static str,
        data: &[T],
        rule: Rule,
    ) -> Result<Memory> {
        let memory = self.put(&vec![UNTOUCHED; size_of_val(data)])?;
        let expected = Some(bytemuck::cast_slice(data).to_vec());
        self.outputs.push(Output { name, memory: memory.clone(), rule, expected });
        Ok(memory)
    }

    /// Scratch memory for `kernel`, untouched.
    pub(super) fn workspace(&self, kernel: &Kernel) -> Result<Memory> {
        self.put(&vec![UNTOUCHED; self.backend.workspace(kernel)])
    }

    /// What the outputs hold.
    pub(super) fn results(&self) -> Result<Vec<Vec<u8>>> {
        self.outputs.iter().map(|output| self.read(&output.memory)).collect()
    }

    fn read(&self, memory: &Memory) -> Result<Vec<u8>> {
        let mut bytes = vec![0; memory.bytes()];
        self.backend.download(memory.all(), &mut bytes)?;
        Ok(bytes)
    }

    /// The largest deviation as a share of what is allowed, or where an output is wrong and by how much. `others`: results of the side that is right.
    pub(super) fn compare(&self, others: Option<&[Vec<u8>]>) -> std::result::Result<f64, String> {
        let mut worst = 0f64;
        for (i, output) in self.outputs.iter().enumerate() {
            let want = output.expected.as_ref().or_else(|| others.and_then(|all| all.get(i)));
            let want = want.ok_or_else(|| format!("{}: nothing to compare with", output.name))?;
            let got = self.read(&output.memory).map_err(|e| e.to_string())?;
            let share = deviation(want, &got, output.rule).map_err(|what| format!("{}: {what}", output.name))?;
            worst = worst.max(share);
        }
        Ok(worst)
    }
}

/// Mantissas and exponents.
pub(super) fn bfp<'m>(mantissas: &'m Memory, exponents: &'m Memory) -> Bfp<'m> {
    Bfp { mantissas: mantissas.all(), exponents: exponents.all() }
}

/// See [`Side::positive`].
pub(super) fn positive(n: usize, seed: u64) -> Vec<f32> {
    crate::data::noise(n, seed).iter().map(|v| v.abs() + 0.1).collect()
}

fn deviation(want: &[u8], got: &[u8], rule: Rule) -> std::result::Result<f64, String> {
    if want.len() != got.len() {
        return Err(format!("{} bytes, {} were expected", got.len(), want.len()));
    }
    match rule {
        Rule::Exact => exact(want, got),
        Rule::Sum(terms) => rounded(&floats(want), &floats(got), terms),
        Rule::Metrics => {
            let read = |bytes: &[u8]| bytemuck::try_pod_read_unaligned::<Metrics>(bytes).map_err(|e| e.to_string());
            let (want, got) = (read(want)?, read(got)?);
            let counts = |m: &Metrics| (m.count, m.top1, m.top5);
            let off = (got.loss_sum - want.loss_sum).abs();
            let allowed = 32.0 * U * (want.loss_sum.abs() + want.count as f64);
            match counts(&want) == counts(&got) && off <= allowed {
                true => Ok(off / allowed),
                false => Err(format!("{got:?}, expected {want:?}")),
            }
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}

fn exact(want: &[u8], got: &[u8]) -> std::result::Result<f64, String> {
    let differing = want.iter().zip(got).filter(|(a, b)| a != b).count();
    match want.iter().zip(got).position(|(a, b)| a != b) {
        None => Ok(0.0),
        Some(i) => Err(format!(
            "{differing} of {} bytes differ, the first at {i}: {} for {}",
            want.len(),
            got[i] as i8,
            want[i] as i8
        )),
    }
}

fn rounded(want: &[f32], got: &[f32], terms: usize) -> std::result::Result<f64, String> {
    let largest = want.iter().fold(0f64, |m, v| m.max(f64::from(*v).abs()));
    let allowed = (4.0 * (terms as f64).sqrt() + 8.0) * U * largest;
    let off = |i: usize| match f64::from(got[i]) - f64::from(want[i]) {
        _ if got[i].to_bits() == want[i].to_bits() => 0.0,
        off if off.is_nan() => f64::INFINITY,
        off => off.abs(),
    };
    let bad = (0..want.len()).filter(|i| off(*i) > allowed).count();
    match (0..want.len()).max_by(|a, b| off(*a).total_cmp(&off(*b))) {
        Some(i) if off(i) > allowed => Err(format!(
            "{bad} of {} elements differ, most at {i}: {:e} for {:e}, off by {:.1e} where {allowed:.1e} is allowed",
            want.len(),
            got[i],
            want[i],
            off(i)
        )),
        Some(i) if allowed > 0.0 => Ok(off(i) / allowed),
        _ => Ok(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_element_is_named_and_rounding_is_not() {
        let want = [1.0f32, -2.0, 4.0];
        let bytes = |v: &[f32]| bytemuck::cast_slice::<f32, u8>(v).to_vec();
        let of = |got: &[f32], rule| deviation(&bytes(&want), &bytes(got), rule);
        assert_eq!(of(&want, Rule::Sum(9)), Ok(0.0));
        let near = of(&[1.0, -2.0, 4.000_001], Rule::Sum(9)).unwrap();
        assert!(near > 0.0 && near < 1.0, "{near}");
        let error = of(&[1.0, -2.1, 4.0], Rule::Sum(9)).unwrap_err();
        assert!(error.contains("1 of 3") && error.contains("at 1: -2.1e0 for -2e0"), "{error}");
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(of(&[bad, -2.0, 4.0], Rule::Sum(9)).unwrap_err().contains("at 0"));
        }
        assert!(of(&[1.0, -2.0, 4.000_001], Rule::Exact).unwrap_err().contains("the first at 8"));
        assert!(of(&want[..2], Rule::Exact).unwrap_err().contains("8 bytes, 12"));
    }

    #[test]
    fn metrics_count_exactly() {
        let of = |m: Metrics| bytemuck::bytes_of(&m).to_vec();
        let want = Metrics { loss_sum: 12.5, top1: 3, top5: 4, count: 5 };
        assert!(deviation(&of(want), &of(Metrics { loss_sum: 12.500_001, ..want }), Rule::Metrics).is_ok());
        assert!(deviation(&of(want), &of(Metrics { loss_sum: 12.51, ..want }), Rule::Metrics).is_err());
        assert!(deviation(&of(want), &of(Metrics { top1: 2, ..want }), Rule::Metrics).is_err());
    }
}
