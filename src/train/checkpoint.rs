//! Tensors in safetensors files, with PyTorch names and OIHW weights, and text metadata beside them.
//!
//! The metadata carries the network as JSON under [`GRAPH_KEY`], so that a pruned network loads without knowing which model it came from. Files without it (a
//! PyTorch state dict) give tensors only. Writes are atomic: a reader sees the old file or the new one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::autograd::{StateDict, Tensor};
use crate::graph::Graph;
use crate::{Error, Result, fsio};

/// Metadata key of the network, as JSON.
pub const GRAPH_KEY: &str = "earlybird.graph";

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
        let bytes = safetensors::serialize(views, Some(metadata))
            .map_err(|e| Error::bad_file(path, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(path, &bytes)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::BadFile`] where it is no safetensors file, is truncated or damaged.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
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

/// Parameters and momenta in one dict.
pub fn join(state: StateDict, momenta: StateDict) -> StateDict {
    let momenta = momenta.into_iter().map(|(name, tensor)| (format!("{MOMENTUM}{name}"), tensor));
    state.into_iter().chain(momenta).collect()
}

/// The inverse of [`join`].
pub fn split(all: StateDict) -> (StateDict, StateDict) {
    let (mut state, mut momenta) = (StateDict::new(), StateDict::new());
    for (name, tensor) in all {
        match name.strip_prefix(MOMENTUM) {
            Some(bare) => momenta.insert(bare.to_string(), tensor),
            None => state.insert(name, tensor),
        };
    }
    (state, momenta)
}
