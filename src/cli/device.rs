//! From `--device` to a backend.

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::{Error, Result};

/// Opens the device called `name`. `threads` sizes the CPU's thread pool, once per process.
///
/// # Errors
/// [`Error::BadSetting`] for an unknown name, [`Error::Unsupported`] for a device on which networks cannot be trained yet.
pub fn open(name: &str, threads: Option<usize>) -> Result<Arc<dyn Backend>> {
    if let Some(threads) = threads {
        if !(1..=4096).contains(&threads) {
            let what = format!("{threads} threads are too few or too many");
            return Err(Error::bad_setting("--threads", what, "give 1 to 4096, or leave it out to use all cores"));
        }
        // A pool that exists already (an embedder's) is left as it is.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    let (kind, which) = name.split_once(':').map_or((name, None), |(kind, which)| (kind, Some(which)));
    match (kind, which) {
        ("cpu" | "auto", None) => Ok(Cpu::new()),
        ("vgpu", None | Some("a100" | "h100" | "rtx4090")) => Err(not_yet(name)),
        ("cuda", _) => {
            crate::driver::open(name)?; // a device that is not there is the better answer
            Err(not_yet(name))
        }
        _ => Err(Error::bad_setting(
            "--device",
            format!("there is no device `{name}`"),
            "choose auto, cpu, vgpu, vgpu:a100, vgpu:h100, vgpu:rtx4090, cuda or cuda:N",
        )),
    }
}

fn not_yet(name: &str) -> Error {
    Error::Unsupported {
        what: format!("training on {name}"),
        place: Some("--device".into()),
        hint: "use --device cpu; kernels run on the virtual GPU by `earlybird vgpu run`".into(),
    }
}
