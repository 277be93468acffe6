//! The kernels as the build compiled them: PTX and parameter table of every module of `kernels/*.cu`, embedded in the binary.
//!
//! Not here: launching them (`crate::backend::cuda`), their Rust parameter structs (`crate::ops`).

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// One `kernels/*.cu`, compiled.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// File stem: `mask`.
    pub name: &'static str,
    /// `kernels/mask.cu`.
    pub source: &'static str,
    /// SHA-256 of the PTX in hex. The same sources and NVRTC version give the same on every machine.
    pub sha256: &'static str,
    /// PTX for compute capability 8.0.
    pub ptx: &'static str,
    /// Its kernels, in the order of the source.
    pub entries: &'static [Entry],
}

/// A kernel of a module.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Symbol: `matmul_fwd_f32`.
    pub name: &'static str,
    /// Size of the parameter space in bytes.
    pub param_bytes: usize,
    /// Its parameters, in order.
    pub params: &'static [Param],
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name in the source.
    pub name: &'static str,
    /// What it is.
    pub kind: ParamKind,
    /// Bytes from the start of the parameter space.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// Kinds of parameters that the kernel contract (`kernels/README.md`) allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// A device address.
    Pointer,
    /// An unsigned 32-bit integer.
    U32,
    /// A signed 32-bit integer.
    I32,
    /// A 32-bit float.
    F32,
    /// A struct by value, with the path of its Rust twin.
    Struct(&'static str),
}

/// The module of `kernels/<name>.cu`.
///
/// # Errors
/// [`crate::Error::DeviceUnavailable`] with every place that was searched, where this build found no NVRTC.
pub fn module(name: &str) -> crate::Result<&'static Module> {
    available("vgpu, cuda")?;
    MODULES.iter().find(|m| m.name == name).ok_or_else(|| {
        let known: Vec<&str> = MODULES.iter().map(|m| m.name).collect();
        crate::Error::bad_setting("kernel", format!("no kernels/{name}.cu"), format!("there are {}", known.join(", ")))
    })
}

/// The module and entry of the kernel `symbol`.
///
/// # Errors
/// As [`module`].
pub fn entry(symbol: &str) -> crate::Result<(&'static Module, &'static Entry)> {
    available("vgpu, cuda")?;
    MODULES.iter().find_map(|m| Some((m, m.entries.iter().find(|e| e.name == symbol)?))).ok_or_else(|| {
        crate::Error::bad_setting("kernel", format!("no kernel named {symbol}"), "`earlybird kernels list` shows all")
    })
}

/// Whether this binary carries kernels; if not, why, for the error of opening `device`.
pub fn available(device: &str) -> crate::Result<()> {
    if NVRTC.is_some() {
        return Ok(());
    }
    let tried: Vec<String> = TRIED.iter().map(|t| format!("\n  - {t}")).collect();
    Err(crate::Error::DeviceUnavailable {
        device: device.into(),
        why: format!("this build found no NVRTC to compile the kernels. Tried, in order:{}", tried.concat()),
        hint: "run `make nvrtc` (no GPU needed) and build again, or use --device cpu".into(),
    })
}
