//! ptxas and nvdisasm, NVIDIA's own assembler and disassembler, run on PTX: registers, spills, shared memory, and the real instructions. Both come
//! from PyPI wheels (`make nvrtc`) and need no GPU. What they say is static; nothing here runs a kernel. What the instructions are made of is
//! [`super::sass`]'s matter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::sass::{self, Sass};
use crate::{Error, Result};

/// Architectures that every kernel must fit.
pub const ARCHS: [&str; 4] = ["sm_80", "sm_86", "sm_89", "sm_90"];

/// What ptxas says of a kernel on one architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Registers per thread.
    pub registers: u32,
    /// Stack frame per thread in bytes: spills, and arrays indexed at run time.
    pub stack_bytes: u32,
    /// Bytes of spill stores.
    pub spill_store_bytes: u32,
    /// Bytes of spill loads.
    pub spill_load_bytes: u32,
    /// Static shared memory per block in bytes.
    pub shared_bytes: u32,
}

/// A tool that was found.
pub struct Tool(PathBuf);

impl Tool {
    /// The assembler: `EARLYBIRD_PTXAS`, then `CUDA_HOME`, `CUDA_PATH`, `.nvrtc` here and in the source tree,
    /// the active virtual environment, `/usr/local/cuda*` and `PATH`.
    ///
    /// # Errors
    /// [`Error::DeviceUnavailable`] with every place that was searched.
    pub fn ptxas() -> Result<Tool> {
        Tool::find("ptxas", "EARLYBIRD_PTXAS", "cuda_nvcc/bin")
    }

    /// The disassembler: `EARLYBIRD_NVDISASM`, then `CUDA_HOME`, `CUDA_PATH`, `.nvrtc` here and in the source tree,
    /// the active virtual environment, `/usr/local/cuda*` and `PATH`.
    ///
    /// # Errors
    /// [`Error::DeviceUnavailable`] with every place that was searched.
    pub fn nvdisasm() -> Result<Tool> {
        Tool::find("nvdisasm", "EARLYBIRD_NVDISASM", "cu13/bin")
    }

    /// `$variable`, `CUDA_HOME` and `CUDA_PATH`, `.nvrtc` here and in the source tree, the active virtual environment,
    /// `/usr/local/cuda*`, `PATH`.
    fn find(name: &'static str, variable: &str, wheel: &str) -> Result<Tool> {
        let mut places = Vec::new();
        if let Some(path) = std::env::var_os(variable) {
            places.push(PathBuf::from(path)); // the only one: a typing error must not choose another version
        } else {
            let home = |v: &str| std::env::var_os(v).map(|h| PathBuf::from(h).join("bin"));
            places.extend(["CUDA_HOME", "CUDA_PATH"].iter().filter_map(|v| home(v)));
            for root in [Path::new("."), Path::new(env!("CARGO_MANIFEST_DIR"))] {
                places.push(root.join(".nvrtc/bin"));
            }
            for prefix in ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os) {
                let site = children(&PathBuf::from(prefix).join("lib"), "python3");
                places.extend(site.into_iter().map(|p| p.join("site-packages/nvidia").join(wheel)));
            }
            places.extend(children(Path::new("/usr/local"), "cuda").into_iter().map(|p| p.join("bin")));
            places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
            for place in &mut places {
                place.push(name);
            }
        }
        if let Some(found) = places.iter().find(|p| p.is_file()) {
            return Ok(Tool(found.clone()));
        }
        let tried: Vec<String> = places.iter().map(|p| format!("\n  - {}", p.display())).collect();
        Err(Error::DeviceUnavailable {
            device: name.into(),
            why: format!("the program was not found. Tried, in order:{}", tried.concat()),
            hint: format!("`make nvrtc` installs it (no GPU needed), or name it by {variable}"),
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn run(&self, arguments: &[&str]) -> Result<(bool, String, String)> {
        let output = Command::new(&self.0).args(arguments).output().map_err(|e| Error::io("run", &self.0, e))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }

    /// Assembles `ptx` for `arch` into `cubin`; usage by kernel. `self` must be ptxas.
    ///
    /// # Errors
    /// [`Error::BadFile`] with ptxas's message where it refuses the text.
    pub fn assemble(&self, name: &str, ptx: &str, arch: &str, cubin: &Path) -> Result<BTreeMap<String, Usage>> {
        let source = cubin.with_extension("ptx");
        std::fs::write(&source, ptx).map_err(|e| Error::io("write", &source, e))?;
        let target = format!("-arch={arch}");
        let (source, out) = (source.to_string_lossy(), cubin.to_string_lossy());
        let (ok, stdout, stderr) = self.run(&["-v", &target, &source, "-o", &out])?;
        match ok {
            true => Ok(usage(&format!("{stdout}{stderr}"))),
            false => Err(Error::bad_file(
                name,
                None,
                format!("ptxas for {arch} refuses it: {}", format!("{stdout}{stderr}").trim()),
                "the line numbers are those of the PTX (`earlybird kernels show NAME --ptx`)",
            )),
        }
    }

    /// The instructions of each kernel of `cubin`. `self` must be nvdisasm.
    ///
    /// # Errors
    /// [`Error::BadFile`] with nvdisasm's message.
    pub fn disassemble(&self, cubin: &Path) -> Result<BTreeMap<String, Vec<Sass>>> {
        let (ok, stdout, stderr) = self.run(&["-c", &cubin.to_string_lossy()])?;
        match ok {
            true => Ok(sass::read(&stdout)),
            false => Err(Error::bad_file(
                cubin,
                None,
                format!("nvdisasm: {}", stderr.trim()),
                "is its version older than ptxas?",
            )),
        }
    }
}

fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).map(|e| e.path()).collect();
    found.sort();
    found
}

/// Reads the log of `ptxas -v`.
fn usage(log: &str) -> BTreeMap<String, Usage> {
    let mut found: BTreeMap<String, Usage> = BTreeMap::new();
    let mut name = String::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            name = rest.split('\'').next().unwrap_or_default().to_string();
            found.insert(name.clone(), Usage::default());
        }
        let Some(usage) = found.get_mut(&name) else { continue };
        // `0 bytes stack frame, 0 bytes spill stores` and `Used 65 registers, 4608 bytes smem`.
        for part in line.rsplit("Used ").next().unwrap_or(line).split(',') {
            let mut words = part.split_whitespace();
            let Some(value) = words.next().and_then(|w| w.parse().ok()) else { continue };
            match words.collect::<Vec<_>>()[..] {
                ["registers"] => usage.registers = value,
                ["bytes", "smem"] => usage.shared_bytes = value,
                ["bytes", "stack", "frame"] => usage.stack_bytes = value,
                ["bytes", "spill", "stores"] => usage.spill_store_bytes = value,
                ["bytes", "spill", "loads"] => usage.spill_load_bytes = value,
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_ptxas_is_read() {
        let log = "ptxas info    : 0 bytes gmem\nptxas info    : Compiling entry function 'a' for 'sm_90'\nptxas info    : Function properties for a\n    \
                   16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\nptxas info    : Used 128 registers, 16 bytes cumulative stack \
                   size, 16896 bytes smem, 400 bytes cmem[0]\nptxas info    : Compiling entry function 'b' for 'sm_90'\nptxas info    : Used 8 registers\n";
        let found = usage(log);
        let a =
            Usage { registers: 128, stack_bytes: 16, spill_store_bytes: 12, spill_load_bytes: 8, shared_bytes: 16896 };
        assert_eq!(found["a"], a);
        assert_eq!(found["b"], Usage { registers: 8, ..Usage::default() });
    }
}
