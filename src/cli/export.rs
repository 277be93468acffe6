//! `earlybird export --torch`: a state dict and a small loader script, so that a (pruned) network lives on in plain PyTorch.

use std::path::PathBuf;

use clap::Args;

use super::{DONE, say};
use crate::autograd::StateDict;
use crate::train::checkpoint::{Checkpoint, split};
use crate::{Error, Result, fsio};

/// The loader, complete: it needs torch and safetensors only.
const LOADER: &str = include_str!("export_torch.py");

/// Arguments of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// A file that carries its network: model.safetensors, a pruned model, a ticket
    file: PathBuf,
    /// For PyTorch: writes weights.safetensors, network.json and load.py
    #[arg(long, required = true)]
    torch: bool,
    /// Folder to write to; made if missing
    #[arg(long)]
    out: PathBuf,
}

impl ExportArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let file = Checkpoint::load(&self.file)?;
        let graph = file.graph(&self.file)?.ok_or_else(|| {
            Error::bad_file(&self.file, None, "carries no network", "give a file that earlybird wrote")
        })?;
        let (state, _) = split(file.tensors);
        let wanted: Vec<String> = graph.parameters().into_iter().map(|p| p.name).collect();
        let state: StateDict = state.into_iter().filter(|(name, _)| wanted.contains(name)).collect();
        std::fs::create_dir_all(&self.out).map_err(|e| Error::io("create the folder", &self.out, e))?;
        Checkpoint { tensors: state, metadata: Default::default() }.save(&self.out.join("weights.safetensors"))?;
        let json = serde_json::to_string_pretty(&graph)
            .map_err(|e| Error::bad_file(&self.file, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(&self.out.join("network.json"), json.as_bytes())?;
        fsio::write_atomic(&self.out.join("load.py"), LOADER.as_bytes())?;
        say(format_args!("wrote {0}/weights.safetensors, {0}/network.json, {0}/load.py", self.out.display()));
        say(format_args!(
            "in Python: sys.path.insert(0, \"{}\"); from load import load; model = load()",
            self.out.display()
        ));
        Ok(DONE)
    }
}
