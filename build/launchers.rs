//! Writes the Rust that the build makes: `images.rs` (included by `src/driver/kernels.rs`: the PTX of every module with its parameter table) and
//! `launchers.rs` (included by `src/backend/cuda/launch.rs`: one typed method per kernel).

use std::fmt::Write as _;

use crate::ptx::{self, PtxType};
use crate::source::{Entry, Kind, Source};

/// A compiled module.
pub struct Module {
    /// Its source.
    pub source: Source,
    /// PTX, normalised; `None` without NVRTC.
    pub ptx: Option<Ptx>,
}

/// What NVRTC made.
pub struct Ptx {
    /// The file that holds it, absolute.
    pub file: String,
    /// SHA-256 in hex.
    pub hash: String,
    /// Its entries, in the order of the source's.
    pub entries: Vec<ptx::Entry>,
}

/// Matches the entries of a PTX to those of its source: same symbols, counts, kinds.
pub fn check(source: &Source, ptx_text: &str) -> Result<Vec<ptx::Entry>, String> {
    let found = ptx::entries(ptx_text)?;
    let mut list = Vec::new();
    for entry in &source.entries {
        let at = |what: String| format!("kernels/{}.cu:{}: {}: {what}", source.stem, entry.line, entry.name);
        let Some(other) = found.iter().find(|e| e.name == entry.name) else {
            return Err(at("NVRTC made no entry of this name".into()));
        };
        if other.params.len() != entry.params.len() {
            return Err(at(format!("{} parameters here, {} in the PTX", entry.params.len(), other.params.len())));
        }
        for (param, real) in entry.params.iter().zip(&other.params) {
            let fits = matches!(
                (&param.kind, real.type_name),
                (Kind::Pointer, PtxType::Bits64)
                    | (Kind::U32 | Kind::I32, PtxType::Bits32)
                    | (Kind::F32, PtxType::F32)
                    | (Kind::Struct(_), PtxType::Array)
            );
            if !fits {
                return Err(at(format!(
                    "parameter {} is {:?} here but {:?} of {} bytes in the PTX; every 64-bit parameter must be a pointer",
                    param.name, param.kind, real.type_name, real.size
                )));
            }
        }
        list.push(other.clone());
    }
    match found.len() == list.len() {
        true => Ok(list),
        false => Err(format!("kernels/{}.cu: the PTX has entries that the source does not write out", source.stem)),
    }
}

/// The table of modules.
pub fn images(modules: &[Module], nvrtc: Option<(i32, i32)>, tried: &[String]) -> String {
    let mut out = String::from("// Written by build.rs.\n");
    let _ = writeln!(out, "/// Version of the NVRTC that compiled the kernels; `None` where none was found.");
    let _ = writeln!(out, "pub static NVRTC: Option<(u32, u32)> = {nvrtc:?};");
    let _ = writeln!(out, "/// Every place where NVRTC was looked for, where none was found.");
    let _ = writeln!(out, "pub static TRIED: &[&str] = &{tried:?};");
    let _ = writeln!(out, "/// Every module, sorted by name; empty without NVRTC.");
    let _ = writeln!(out, "pub static MODULES: &[Module] = &[");
    for (module, ptx) in modules.iter().filter_map(|m| Some((m, m.ptx.as_ref()?))) {
        let stem = &module.source.stem;
        let _ = writeln!(out, "    Module {{ name: {stem:?}, source: \"kernels/{stem}.cu\", sha256: {:?},", ptx.hash);
        let _ = writeln!(out, "        ptx: include_str!({:?}), entries: &[", ptx.file);
        for (entry, real) in module.source.entries.iter().zip(&ptx.entries) {
            let _ = write!(out, "            Entry {{ name: {:?}, param_bytes: {}, params: &[", entry.name, real.bytes);
            for (param, layout) in entry.params.iter().zip(&real.params) {
                let kind = match &param.kind {
                    Kind::Struct(path) => format!("Struct({path:?})"),
                    other => format!("{other:?}"),
                };
                let _ = write!(
                    out,
                    "Param {{ name: {:?}, kind: ParamKind::{kind}, offset: {}, size: {} }}, ",
                    param.name, layout.offset, layout.size
                );
            }
            let _ = writeln!(out, "] }},");
        }
        let _ = writeln!(out, "    ] }},");
    }
    out + "];\n"
}

/// The launchers. They exist without NVRTC, too, and then answer what was tried.
pub fn launchers(modules: &[Module]) -> String {
    let mut out = String::from("// Written by build.rs from the parameter lists of kernels/*.cu and of their PTX.\n");
    for module in modules {
        for (i, entry) in module.source.entries.iter().enumerate() {
            let real = module.ptx.as_ref().and_then(|p| p.entries.get(i));
            launcher(&mut out, &module.source.stem, entry, real);
        }
    }
    out
}

fn launcher(out: &mut String, stem: &str, entry: &Entry, real: Option<&ptx::Entry>) {
    if let Some(real) = real {
        for (param, layout) in entry.params.iter().zip(&real.params) {
            if let Kind::Struct(path) = &param.kind {
                let _ = writeln!(out, "const _: () = assert!(size_of::<{path}>() == {}, ", layout.size);
                let _ =
                    writeln!(out, "    \"{path} is not the struct that {} of kernels/{stem}.cu takes\");", entry.name);
            }
        }
    }
    let _ = writeln!(out, "impl Kernels {{");
    let _ = writeln!(out, "    /// Launches `{}` of `kernels/{stem}.cu`:", entry.name);
    let _ = writeln!(out, "    /// ```text");
    for line in &entry.doc {
        let _ = writeln!(out, "    /// {line}");
    }
    let _ = writeln!(out, "    /// ```");
    let _ = writeln!(out, "    #[allow(clippy::too_many_arguments)] // as many as the kernel has");
    let _ = write!(out, "    pub fn {}(&self, dims: Dims, stream: StreamId", entry.name);
    for param in &entry.params {
        let kind = match &param.kind {
            Kind::Pointer => "DevPtr".into(),
            Kind::U32 => "u32".into(),
            Kind::I32 => "i32".into(),
            Kind::F32 => "f32".into(),
            Kind::Struct(path) => format!("&{path}"),
        };
        let _ = write!(out, ", {}: {kind}", argument(&param.name));
    }
    let _ = writeln!(out, ") -> Result<()> {{");
    match real {
        None => {
            let names: Vec<String> = entry.params.iter().map(|p| argument(&p.name)).collect();
            let _ = writeln!(out, "        let _ = (dims, stream, {});", names.join(", "));
            let _ = writeln!(out, "        self.missing({:?})", entry.name);
        }
        Some(real) => {
            let _ = writeln!(out, "        let mut params = [0u8; {}];", real.bytes);
            for (param, layout) in entry.params.iter().zip(&real.params) {
                let name = argument(&param.name);
                let bytes = match &param.kind {
                    Kind::Pointer => format!("&{name}.0.to_le_bytes()"),
                    Kind::Struct(_) => format!("bytemuck::bytes_of({name})"),
                    _ => format!("&{name}.to_le_bytes()"),
                };
                let (from, to) = (layout.offset, layout.offset + layout.size);
                let _ = writeln!(out, "        params[{from}..{to}].copy_from_slice({bytes});");
            }
            let _ = writeln!(out, "        let kernel = self.kernel({stem:?}, {:?})?;", entry.name);
            let _ = writeln!(
                out,
                "        // SAFETY: the buffer was laid out from the .param list of this very PTX; that the pointers are live and large enough is"
            );
            let _ = writeln!(out, "        // the contract of this layer (module text).");
            let _ = writeln!(out, "        unsafe {{ self.driver().launch(kernel, dims, stream, &params) }}");
        }
    }
    let _ = writeln!(out, "    }}\n}}");
}

/// A parameter's name as a Rust argument: lower case, no keyword, no clash with ours.
fn argument(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "dims" | "stream" | "params" | "kernel" | "in" | "ref" | "type" | "match" | "move" | "loop" | "fn" | "let"
        | "mod" | "self" => {
            format!("{}_", name.to_lowercase())
        }
        lower => lower.to_string(),
    }
}
