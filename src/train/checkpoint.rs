//! Tensors in safetensors files, with PyTorch names and OIHW weights, and text metadata beside them.
//!
//! The metadata carries the network as JSON under [`GRAPH_KEY`], so that a pruned network loads without knowing which model it came from. Files without it (a
//! PyTorch state dict) give tensors only. Writes are atomic: a reader sees the old file or the new one. Equal content gives equal bytes, and files with our metadata
//! carry a checksum of all their bytes, so that a flipped bit is found when they are read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::autograd::{StateDict, Tensor};
use crate::graph::Graph;
use crate::{Error, Result, fsio};

/// Metadata key of the network, as JSON.
pub const GRAPH_KEY: &str = "earlybird.graph";

/// What all our metadata keys begin with; a file with one of them has a checksum.
const OURS: &str = "earlybird.";
/// Metadata key of the checksum: CRC-32C, as eight hexadecimal digits, of the whole file with zeros in their place.
const SUM_KEY: &str = "earlybird.crc32c";
const NO_SUM: &str = "00000000";

/// One line of Python that makes `x.safetensors` of `x.pth`, a state dict or a checkpoint that holds one; also in the README.
pub const FROM_PTH: &str = "import torch, safetensors.torch as s; d = torch.load('x.pth', map_location='cpu'); \
    s.save_file({k: v.contiguous() for k, v in d.get('state_dict', d).items()}, 'x.safetensors')";

/// Tensors and metadata of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// All tensors of a float type, as f32.
    pub tensors: StateDict,
    /// All metadata.
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Tensors with the network they belong to.
    pub fn new(graph: &Graph, tensors: StateDict) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint { tensors, metadata: BTreeMap::new() };
        checkpoint.put(GRAPH_KEY, graph)?;
        Ok(checkpoint)
    }

    /// Stores `value` as JSON under `key`.
    pub fn put<T: serde::Serialize>(&mut self, key: &str, value: &T) -> Result<()> {
        let json = serde_json::to_string(value).map_err(|e| {
            Error::bad_setting(key, format!("cannot be written as JSON: {e}"), "this is a defect, please report it")
        })?;
        self.metadata.insert(key.into(), json);
        Ok(())
    }

    /// Reads the JSON under `key`; `path` is for the message.
    ///
    /// # Errors
    /// [`Error::BadFile`] where the key is missing or its JSON is not a `T`.
    pub fn get<T: serde::de::DeserializeOwned>(&self, key: &str, path: &Path) -> Result<T> {
        let hint = "this file was not written by this version of earlybird for this purpose";
        let json = self
            .metadata
            .get(key)
            .ok_or_else(|| Error::bad_file(path, None, format!("has no `{key}` in its metadata"), hint))?;
        serde_json::from_str(json)
            .map_err(|e| Error::bad_file(path, None, format!("its `{key}` is unreadable: {e}"), hint))
    }

    /// The network, if the file carries one.
    pub fn graph(&self, path: &Path) -> Result<Option<Graph>> {
        self.metadata.contains_key(GRAPH_KEY).then(|| self.get(GRAPH_KEY, path)).transpose()
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// [`Error::Io`] with what was kept.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut views = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let view = TensorView::new(Dtype::F32, tensor.dims.clone(), bytemuck::cast_slice(&tensor.data));
            views.insert(
                name,
                view.map_err(|e| Error::bad_file(path, None, format!("{name}: {e}"), "a defect, please report it"))?,
            );
        }
        let mut metadata: HashMap<String, String> = self.metadata.clone().into_iter().collect();
        metadata.insert("format".into(), "pt".into());
        if metadata.keys().any(|key| key.starts_with(OURS)) {
            metadata.insert(SUM_KEY.into(), NO_SUM.into());
        }
        let defect = |what: String| Error::bad_file(path, None, what, "this is a defect, please report it");
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| defect(e.to_string()))?;
        let mut bytes = in_order(&bytes).ok_or_else(|| defect("its header cannot be put in order".into()))?;
        if let Some(digits) = checksum_digits(&bytes) {
            let sum = format!("{:08x}", crc32c::crc32c(&bytes));
            bytes[digits].copy_from_slice(sum.as_bytes());
        }
        fsio::write_atomic(path, &bytes)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::BadFile`] where it is no safetensors file, is truncated or damaged.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
        // A zip archive (torch.save since 1.6) or a bare pickle (before): to read one is to run what it says.
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0x80, 2]) {
            let hint = format!("make it a safetensors file with Python: {FROM_PTH}");
            return Err(Error::bad_file(path, None, "is a pickled PyTorch file", hint));
        }
        let hint = "give an intact safetensors file; in PyTorch: safetensors.torch.save_file(model.state_dict(), path)";
        let bad = |what: String| Error::bad_file(path, None, what, hint);
        let file =
            SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("is no readable safetensors file ({e})")))?;
        let (_, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| bad(format!("has an unreadable header ({e})")))?;
        let mut checkpoint = Checkpoint::default();
        if let Some(metadata) = header.metadata() {
            checkpoint.metadata.extend(metadata.clone());
        }
        if checkpoint.metadata.keys().any(|key| key.starts_with(OURS)) && !intact(&bytes) {
            let hint = "it is damaged, or another program changed it: take an intact copy (without our metadata it counts as a plain state dict)";
            return Err(Error::bad_file(path, None, "does not match its own checksum", hint));
        }
        checkpoint.metadata.remove(SUM_KEY);
        for (name, view) in file.tensors() {
            if let Some(data) = floats(view.dtype(), view.data()) {
                let finite = data.iter().position(|v| !v.is_finite());
                if let Some(at) = finite {
                    return Err(bad(format!("tensor {name} holds {} at element {at}", data[at])));
                }
                checkpoint.tensors.insert(name, Tensor { dims: view.shape().to_vec(), data });
            }
        }
        Ok(checkpoint)
    }
}

/// The end of the header: eight bytes of length, then JSON.
fn header_end(bytes: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(8)?;
    (end <= bytes.len()).then_some(end)
}

/// The same file with the header's keys sorted: the crate writes metadata in the random order of a hash map.
fn in_order(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = header_end(bytes)?;
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&bytes[8..end]).ok()?;
    let sorted = |value: &serde_json::Value| match value {
        serde_json::Value::Object(map) => {
            let map: BTreeMap<_, _> = map.iter().collect();
            serde_json::to_value(map).ok()
        }
        other => Some(other.clone()),
    };
    let header: BTreeMap<&String, serde_json::Value> =
        header.iter().map(|(key, value)| Some((key, sorted(value)?))).collect::<Option<_>>()?;
    let mut json = serde_json::to_vec(&header).ok()?;
    json.resize(json.len().next_multiple_of(8), b' '); // data stays aligned
    Some([&(json.len() as u64).to_le_bytes()[..], &json, &bytes[end..]].concat())
}

/// Where the checksum's digits stand in the header. Inside another string the quotes would be escaped, so there is one such place at most.
fn checksum_digits(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let key = format!("\"{SUM_KEY}\":\"");
    let header = &bytes[..header_end(bytes)?];
    let start = header.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let digits = start..start + NO_SUM.len();
    (digits.end <= header.len()).then_some(digits)
}

fn intact(bytes: &[u8]) -> bool {
    let Some(digits) = checksum_digits(bytes) else { return false };
    let (before, after) = (&bytes[..digits.start], &bytes[digits.end..]);
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(before), NO_SUM.as_bytes()), after);
    bytes[digits] == *format!("{sum:08x}").as_bytes()
}

/// Elements of a float tensor as f32; `None` for other types (PyTorch's `num_batches_tracked` is I64).
fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn read<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| chunks.iter().map(|chunk| convert(*chunk)).collect())
    }
    match dtype {
        Dtype::F32 => read(bytes, f32::from_le_bytes),
        Dtype::F64 => read(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::F16 => read(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => read(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        _ => None,
    }
}

/// Prefix of a momentum's name in files that hold parameters and momenta.
pub const MOMENTUM: &str = "momentum.";

/// Prefix of a weight's name where it is the averaged one.
pub const AVERAGE: &str = "average.";

/// `state` with `prefix` before every name.
pub fn under(prefix: &str, state: StateDict) -> impl Iterator<Item = (String, Tensor)> {
    state.into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
}

/// What has `prefix` before its name, without it, and all else.
pub fn take(prefix: &str, all: StateDict) -> (StateDict, StateDict) {
    let (mut taken, mut left) = (StateDict::new(), StateDict::new());
    for (name, tensor) in all {
        match name.strip_prefix(prefix) {
            Some(bare) => taken.insert(bare.to_string(), tensor),
            None => left.insert(name, tensor),
        };
    }
    (taken, left)
}

/// Parameters and momenta in one dict.
pub fn join(state: StateDict, momenta: StateDict) -> StateDict {
    state.into_iter().chain(under(MOMENTUM, momenta)).collect()
}

/// The inverse of [`join`].
pub fn split(all: StateDict) -> (StateDict, StateDict) {
    let (momenta, state) = take(MOMENTUM, all);
    (state, momenta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let mut file = Checkpoint::default();
        for (name, n) in [("a.weight", 6), ("b.bias", 3)] {
            let data = (0..n).map(|i| i as f32 - 1.5).collect();
            file.tensors.insert(name.into(), Tensor { dims: vec![n], data });
        }
        for key in ["earlybird.one", "earlybird.two", "other", "x"] {
            file.put(key, &format!("text with \"quotes\" of {key}")).unwrap();
        }
        file
    }

    #[test]
    fn equal_content_gives_equal_bytes_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        for _ in 0..8 {
            // A hash map's order differs from map to map.
            sample().save(&first).unwrap();
            sample().save(&second).unwrap();
            assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        }
        let mut read = Checkpoint::load(&first).unwrap();
        assert_eq!(read.metadata.remove("format").as_deref(), Some("pt"));
        assert_eq!(read, sample());
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        sample().save(&path).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                std::fs::write(&path, &bad).unwrap();
                let error = Checkpoint::load(&path).unwrap_err();
                assert!(error.exit_code() == 2 && error.to_string().contains("file"), "byte {at} bit {bit}: {error}");
            }
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(Checkpoint::load(&path).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn foreign_files_need_no_checksum_and_keep_their_float_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torch");
        let tracked = 7i64.to_le_bytes();
        let half: Vec<u8> = [0.5f32, -2.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let views = [
            ("bn.num_batches_tracked", TensorView::new(Dtype::I64, vec![], &tracked).unwrap()),
            ("w", TensorView::new(Dtype::F16, vec![2], &half).unwrap()),
        ];
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let read = Checkpoint::load(&path).unwrap();
        assert_eq!(read.tensors.keys().collect::<Vec<_>>(), ["w"]);
        assert_eq!(read.tensors["w"].data, [0.5, -2.0]);
    }

    #[test]
    fn a_weight_that_is_no_number_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nan");
        let mut file = sample();
        file.tensors.get_mut("b.bias").unwrap().data[2] = f32::NAN;
        file.save(&path).unwrap();
        let error = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(error.contains("b.bias") && error.contains("element 2"), "{error}");
    }
}
