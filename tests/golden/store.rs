//! Reads golden files: tensors by name, cases from the metadata, PyTorch's layouts turned into ours; and the comparison with its report.

use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// Unit roundoff of f32.
pub const U: f64 = 1.0 / (1u64 << 24) as f64;

/// A tensor with every element widened to f64 (exact for all stored types).
#[derive(Clone, Debug)]
pub struct Tensor {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Tensor {
    pub fn f32(&self) -> Vec<f32> {
        self.data.iter().map(|v| *v as f32).collect()
    }

    /// NCHW to NHWC, or OIHW to `[K][R][S][C]`: dimension 1 goes last. Other ranks stay.
    pub fn channels_last(&self) -> Tensor {
        let [a, c, h, w] = self.dims[..] else { return self.clone() };
        let mut data = Vec::with_capacity(self.data.len());
        for i in 0..a {
            for pixel in 0..h * w {
                data.extend((0..c).map(|j| self.data[(i * c + j) * h * w + pixel]));
            }
        }
        Tensor { dims: vec![a, h, w, c], data }
    }
}

/// A golden file.
pub struct Golden {
    bytes: Vec<u8>,
    cases: Vec<Value>,
}

impl Golden {
    /// Opens `tests/golden/NAME.safetensors`.
    pub fn open(name: &str) -> Golden {
        let path = folder().join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let cases = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
        Golden { bytes, cases }
    }

    /// Cases of one operator; never none.
    pub fn cases(&self, op: &str) -> Vec<Case<'_>> {
        let found: Vec<Case> = self
            .cases
            .iter()
            .filter(|about| about["op"] == op)
            .map(|about| Case { golden: self, about, id: about["id"].as_str().unwrap() })
            .collect();
        assert!(!found.is_empty(), "no case of {op}");
        found
    }

    /// The tensor `name`; `None` where there is none.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).ok()?;
        let raw = view.data();
        let data = match view.dtype() {
            Dtype::F64 => raw.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            Dtype::F32 => raw.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::I32 => raw.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::U8 => raw.iter().map(|b| f64::from(*b)).collect(),
            other => panic!("{name} is {other:?}"),
        };
        Some(Tensor { dims: view.shape().to_vec(), data })
    }

    /// All tensors below `prefix/`, by the rest of their name, as a state dict.
    pub fn state(&self, prefix: &str) -> earlybird::autograd::StateDict {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let below =
            |name: &String| name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).map(str::to_string);
        let names = file.names();
        let state: earlybird::autograd::StateDict = names
            .iter()
            .filter_map(|name| below(&name.to_string()))
            .map(|rest| {
                let tensor = self.find(&format!("{prefix}/{rest}")).unwrap();
                (rest, earlybird::autograd::Tensor { dims: tensor.dims.clone(), data: tensor.f32() })
            })
            .collect();
        assert!(!state.is_empty(), "nothing below {prefix}/");
        state
    }
}

/// One case.
pub struct Case<'g> {
    pub golden: &'g Golden,
    pub about: &'g Value,
    pub id: &'g str,
}

impl Case<'_> {
    /// A tensor of the case, in PyTorch's layout.
    pub fn tensor(&self, name: &str) -> Tensor {
        self.find(name).unwrap_or_else(|| panic!("{}/{name} is missing", self.id))
    }

    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.golden.find(&format!("{}/{name}", self.id))
    }

    pub fn number(&self, key: &str) -> f64 {
        self.about[key].as_f64().unwrap_or_else(|| panic!("{}: no number {key}", self.id))
    }

    pub fn size(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    pub fn list(&self, key: &str) -> Vec<f64> {
        let list = self.about[key].as_array().unwrap_or_else(|| panic!("{}: no list {key}", self.id));
        list.iter().map(|v| v.as_f64().unwrap()).collect()
    }

    pub fn flag(&self, key: &str) -> bool {
        self.about[key].as_bool().unwrap_or_else(|| panic!("{}: no flag {key}", self.id))
    }

    /// Every `got[i]` must lie within `bound[i]` of `want[i]`; NaN never does. Says the worst element.
    pub fn close(&self, what: &str, got: &[f32], want: &[f64], bound: &[f64]) {
        assert_eq!((got.len(), bound.len()), (want.len(), want.len()), "{} {what}: lengths", self.id);
        let excess = |i: &usize| (f64::from(got[*i]) - want[*i]).abs() - bound[*i];
        let bad: Vec<usize> = (0..want.len()).filter(|i| excess(i).is_nan() || excess(i) > 0.0).collect();
        let worst = bad.iter().copied().max_by(|a, b| excess(a).total_cmp(&excess(b)));
        if let Some(i) = worst {
            let (g, w, b) = (got[i], want[i], bound[i]);
            panic!(
                "{} {what}: {} of {} elements are off; worst at {i}: {g:e} for {w:e}, allowed {b:e}\n{}",
                self.id,
                bad.len(),
                want.len(),
                self.about
            );
        }
    }
}

/// `tests/golden`.
pub fn folder() -> PathBuf {
    crate::common::root().join("tests/golden")
}

/// Error factor of a sum of `terms` products in f32, to be multiplied with the sum of the products' magnitudes.
///
/// Rigorous is `(terms + 1) * U` for any order (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); rounding errors are as good as
/// independent, so sums of many terms stay within a few `sqrt(terms) * U`, and four of these leaves room for an unlucky element.
pub fn sum_factor(terms: usize) -> f64 {
    let terms = terms as f64;
    (terms + 1.0).min(4.0 * terms.sqrt() + 4.0) * U
}
