//! A virtual device: memory, modules and launches, without streams ([`crate::driver`] adds those).
//!
//! ```no_run
//! use earlybird::vgpu::device::{Device, Options};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut device = Device::new(Options::checked());
//! let module = device.load("saxpy.ptx", &std::fs::read_to_string("saxpy.ptx")?)?;
//! let kernel = device.kernel(module, "saxpy")?;
//! let x = device.alloc(4096, Some("x")).ok_or("no memory")?;
//! device.write(x, &[0; 4096])?;
//! let outcome = device.launch(kernel, [4, 1, 1], [256, 1, 1], 0, &x.to_le_bytes());
//! assert!(outcome.report.is_clean(), "{}", outcome.report.to_text());
//! # Ok(())
//! # }
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::exec::{self, Launch, Outcome, Schedule};
use super::ir::{self, Kernel, window};
use super::limits::{A100, Limits};
use super::lower::{self, ModuleImage};
use super::mem::{Memory, Place};
use super::ptx::{self, ast};
use super::report::{Finding, Kind, Report};
use super::san::{CheckOptions, GlobalInit};

/// Warp instructions after which a launch is stopped, where nothing else is said.
pub const BUDGET: u64 = 20_000_000_000;

/// How a device behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The GPU that it stands for.
    pub limits: Limits,
    /// Numerics and vector units.
    pub lowering: ir::Options,
    /// The sanitizer; `None` runs without.
    pub check: Option<CheckOptions>,
    /// Count for the profiler.
    pub profile: bool,
    /// Order of execution.
    pub schedule: Schedule,
    /// Worker threads; 0 takes those of the host.
    pub workers: usize,
    /// Warp instructions after which a launch is stopped.
    pub budget: u64,
    /// Run this many blocks of a launch, evenly spread, and up to four times as many where those differ, for counters of launches too large to interpret: sums are then estimates of the
    /// whole launch's. What the kernel computes is incomplete, and nothing is checked.
    pub sample: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: A100,
            lowering: ir::Options::default(),
            check: None,
            profile: false,
            schedule: Schedule::Converge,
            workers: 0,
            budget: BUDGET,
            sample: None,
        }
    }
}

impl Options {
    /// With the sanitizer on.
    pub fn checked() -> Options {
        Options { check: Some(CheckOptions::default()), ..Options::default() }
    }
}

/// Why PTX cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is not PTX.
    #[error("{name}: {error}")]
    Parse {
        /// What was loaded.
        name: String,
        /// Where and why.
        error: ptx::ParseError,
    },
    /// It is wrong, or uses what this machine does not know.
    #[error("{name}: {error}")]
    Lower {
        /// What was loaded.
        name: String,
        /// Where and why.
        error: lower::operands::LowerError,
    },
    /// No memory for its variables.
    #[error("{name}: no memory for the variable {variable} of {bytes} bytes")]
    Memory {
        /// What was loaded.
        name: String,
        /// The variable.
        variable: String,
        /// Its size.
        bytes: u64,
    },
    /// No kernel of that name.
    #[error("{name}: no kernel {entry}; there are: {known}")]
    NoKernel {
        /// What was loaded.
        name: String,
        /// The name asked for.
        entry: String,
        /// The names that exist.
        known: String,
    },
}

impl LoadError {
    /// Whether the PTX may be right but needs what this machine does not do.
    pub fn unsupported(&self) -> bool {
        matches!(self, LoadError::Lower { error, .. } if error.unsupported)
    }
}

/// A range of device memory that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes at {address:#x}: {}", describe(place))]
pub struct BadRange {
    /// The address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// What lies there.
    pub place: Option<Place>,
}

fn describe(place: &Option<Place>) -> String {
    match place {
        None => "no device memory".into(),
        Some(p) if !p.live => format!("in {}, which was freed", p.label),
        Some(p) => format!("from byte {} of {}, which has {}", p.offset, p.label, p.bytes),
    }
}

/// A loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleId(usize);

/// A kernel of a loaded module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelId(usize);

struct Module {
    name: String,
    ast: ast::Module,
    image: ModuleImage,
    globals: HashMap<String, u64>,
    consts: Arc<Vec<u8>>,
    kernels: HashMap<String, KernelId>,
}

struct Loaded {
    kernel: Arc<Kernel>,
    consts: Arc<Vec<u8>>,
    /// Dynamic shared memory allowed beyond the usual limit.
    optin: u32,
}

/// A GPU of software.
pub struct Device {
    options: Options,
    memory: Memory,
    init: GlobalInit,
    modules: Vec<Option<Module>>,
    kernels: Vec<Loaded>,
    launches: u64,
}

impl Device {
    /// A device with nothing on it.
    pub fn new(options: Options) -> Device {
        Device {
            options,
            memory: Memory::default(),
            init: GlobalInit::new(),
            modules: Vec::new(),
            kernels: Vec::new(),
            launches: 0,
        }
    }

    /// How it behaves.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes how later launches behave. Numerics (`lowering`) of kernels that are already there stay.
    pub fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    // ---- modules ------------------------------------------------------------------------------------------------------

    /// Loads PTX: parses it, allocates and fills its global variables. Kernels are lowered when they are asked for, so that one with an instruction unknown
    /// here does not keep the others from running.
    ///
    /// # Errors
    /// [`LoadError`] with the line.
    pub fn load(&mut self, name: &str, text: &str) -> Result<ModuleId, LoadError> {
        let ast = ptx::parse(text).map_err(|error| LoadError::Parse { name: name.into(), error })?;
        let lower_error = |error| LoadError::Lower { name: name.into(), error };
        let image = lower::image(&ast).map_err(lower_error)?;
        let mut globals = HashMap::new();
        for var in &image.globals {
            let address = self.alloc(var.bytes.max(1), Some(&var.name)).ok_or_else(|| LoadError::Memory {
                name: name.into(),
                variable: var.name.clone(),
                bytes: var.bytes,
            })?;
            globals.insert(var.name.clone(), address);
        }
        let known = |n: &str| globals.get(n).copied();
        let mut consts = image.consts.clone();
        image.relocate(&mut consts, &image.const_relocations, &known).map_err(lower_error)?;
        for var in &image.globals {
            let mut bytes = var.init.clone();
            bytes.resize(var.bytes as usize, 0); // what has no initialiser is zero (ISA, "Initializers")
            image.relocate(&mut bytes, &var.relocations, &known).map_err(lower_error)?;
            if let Some((id, start)) = globals.get(&var.name).and_then(|&a| self.memory.range(a, bytes.len() as u64)) {
                self.memory.bytes_mut(id, start, bytes.len() as u64).copy_from_slice(&bytes);
                self.init.mark(id, start, bytes.len() as u64);
            }
        }
        let module =
            Module { name: name.into(), ast, image, globals, consts: Arc::new(consts), kernels: HashMap::new() };
        self.modules.push(Some(module));
        Ok(ModuleId(self.modules.len() - 1))
    }

    /// Unloads a module and frees its variables; false where it is not loaded.
    pub fn unload(&mut self, module: ModuleId) -> bool {
        let Some(module) = self.modules.get_mut(module.0).and_then(Option::take) else { return false };
        for address in module.globals.values() {
            self.free(*address);
        }
        true
    }

    /// Names of a module's kernels, in the order of the text.
    pub fn entries(&self, module: ModuleId) -> Vec<String> {
        let module = self.modules.get(module.0).and_then(Option::as_ref);
        module.map_or_else(Vec::new, |m| m.image.entries.iter().map(|e| e.name.clone()).collect())
    }

    /// Device address of a module's `.global` variable.
    pub fn global(&self, module: ModuleId, name: &str) -> Option<u64> {
        self.modules.get(module.0)?.as_ref()?.globals.get(name).copied()
    }

    /// A kernel by name, lowered on the first call.
    ///
    /// # Errors
    /// [`LoadError`] with the line of what is wrong or unknown.
    pub fn kernel(&mut self, module: ModuleId, entry: &str) -> Result<KernelId, LoadError> {
        let options = self.options.lowering;
        let no_kernel =
            |name: &str, known: String| LoadError::NoKernel { name: name.into(), entry: entry.into(), known };
        let Some(m) = self.modules.get_mut(module.0).and_then(Option::as_mut) else {
            return Err(no_kernel("unloaded module", String::new()));
        };
        if let Some(&id) = m.kernels.get(entry) {
            return Ok(id);
        }
        if !m.image.entries.iter().any(|e| e.name == entry) {
            let known: Vec<&str> = m.image.entries.iter().map(|e| e.name.as_str()).collect();
            return Err(no_kernel(&m.name, known.join(", ")));
        }
        let kernel = lower::lower(&m.ast, entry, &|name| m.globals.get(name).copied(), &options)
            .map_err(|error| LoadError::Lower { name: m.name.clone(), error })?;
        let id = KernelId(self.kernels.len());
        m.kernels.insert(entry.into(), id);
        self.kernels.push(Loaded { kernel: Arc::new(kernel), consts: m.consts.clone(), optin: 0 });
        Ok(id)
    }

    /// The machine code of a kernel.
    pub fn code(&self, kernel: KernelId) -> &Kernel {
        &self.kernels[kernel.0].kernel
    }

    /// Allows `bytes` of dynamic shared memory; false where the device has less.
    pub fn set_shared(&mut self, kernel: KernelId, bytes: u32) -> bool {
        let loaded = &mut self.kernels[kernel.0];
        let fits = bytes.saturating_add(loaded.kernel.shared_bytes) <= self.options.limits.shared_optin;
        if fits {
            loaded.optin = bytes;
        }
        fits
    }

    // ---- memory -------------------------------------------------------------------------------------------------------

    /// Allocates; content undefined. `None` for zero bytes or where the device or the host has no memory left.
    pub fn alloc(&mut self, bytes: u64, label: Option<&str>) -> Option<u64> {
        if self.memory.in_use().saturating_add(bytes) > self.options.limits.memory {
            return None;
        }
        let address = self.memory.alloc(bytes, label)?;
        let place = self.memory.place(address)?;
        self.init.alloc(place.id, bytes);
        self.init.set_name(place.id, &place.label);
        Some(address)
    }

    /// Frees what [`Device::alloc`] gave; false where nothing starts at this address.
    pub fn free(&mut self, address: u64) -> bool {
        let id = self.memory.free(address);
        if let Some(id) = id {
            self.init.free(id);
        }
        id.is_some()
    }

    /// Free and total memory in bytes.
    pub fn mem_info(&self) -> (u64, u64) {
        let total = self.options.limits.memory;
        (total - self.memory.in_use().min(total), total)
    }

    /// Where an address lies.
    pub fn place(&self, address: u64) -> Option<Place> {
        self.memory.place(address)
    }

    /// Names an allocation for messages.
    pub fn set_label(&mut self, address: u64, label: &str) {
        self.memory.set_label(address, label);
        if let Some(place) = self.memory.place(address) {
            self.init.set_name(place.id, label);
        }
    }

    fn range(&self, address: u64, bytes: u64) -> Result<(u32, u64), BadRange> {
        self.memory.range(address, bytes).ok_or_else(|| BadRange { address, bytes, place: self.memory.place(address) })
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// [`BadRange`].
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), BadRange> {
        let n = bytes.len() as u64;
        let (id, start) = self.range(address, n)?;
        self.memory.bytes_mut(id, start, n).copy_from_slice(bytes);
        self.init.mark(id, start, n);
        Ok(())
    }

    /// Copies to the host. Bytes that nobody has written come as they are.
    ///
    /// # Errors
    /// [`BadRange`].
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), BadRange> {
        let n = bytes.len() as u64;
        let (id, start) = self.range(address, n)?;
        bytes.copy_from_slice(self.memory.bytes(id, start, n));
        Ok(())
    }

    /// Copies on the device.
    ///
    /// # Errors
    /// [`BadRange`].
    pub fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Result<(), BadRange> {
        let source = self.range(from, bytes)?;
        let target = self.range(to, bytes)?;
        let data = self.memory.bytes(source.0, source.1, bytes).to_vec();
        self.memory.bytes_mut(target.0, target.1, bytes).copy_from_slice(&data);
        self.init.copy(target, source, bytes);
        Ok(())
    }

    /// Fills `count` elements with `pattern`.
    ///
    /// # Errors
    /// [`BadRange`].
    pub fn fill(&mut self, address: u64, pattern: &[u8], count: u64) -> Result<(), BadRange> {
        let n = count.saturating_mul(pattern.len() as u64);
        let (id, start) = self.range(address, n)?;
        for element in self.memory.bytes_mut(id, start, n).chunks_exact_mut(pattern.len()) {
            element.copy_from_slice(pattern);
        }
        self.init.mark(id, start, n);
        Ok(())
    }

    // ---- launch -------------------------------------------------------------------------------------------------------

    /// Runs a kernel. `params` is its parameter space as the `.param` list lays it out. What is wrong with the launch or the kernel is in the outcome's
    /// report.
    pub fn launch(
        &mut self,
        kernel: KernelId,
        grid: [u32; 3],
        block: [u32; 3],
        dynamic_shared: u32,
        params: &[u8],
    ) -> Outcome {
        let loaded = &self.kernels[kernel.0];
        let (code, consts, optin) = (loaded.kernel.clone(), loaded.consts.clone(), loaded.optin);
        let mut findings = self.options.limits.check(&code, grid, block, dynamic_shared, optin);
        findings.extend(self.check_params(&code, params));
        if !findings.is_empty() {
            let mut report = Report::new(&code.name);
            findings.into_iter().for_each(|f| {
                report.add(f);
            });
            return Outcome { report, summary: None, output: Vec::new(), instructions: 0 };
        }
        self.launches += 1;
        let workers = match self.options.workers {
            0 => rayon::current_num_threads(),
            n => n,
        };
        let launch = Launch {
            kernel: &code,
            grid,
            block,
            dynamic_shared,
            params,
            consts: &consts,
            id: self.launches,
            sms: self.options.limits.sms,
            schedule: self.options.schedule,
            budget: self.options.budget,
            sample: self.options.sample,
            workers,
            profile: self.options.profile,
            check: self.options.check.as_ref(),
        };
        let checked = self.options.check.is_some();
        let outcome = exec::run(&launch, &self.memory, &mut self.init);
        if !checked {
            self.init.trust();
        }
        outcome
    }

    /// Size and pointers of the parameters.
    fn check_params(&self, kernel: &Kernel, params: &[u8]) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut wrong = |what: String, hint: &str| {
            findings.push(Finding::launch(Kind::WrongArgument, what, &kernel.name).with_hint(hint));
        };
        if params.len() != kernel.param_bytes as usize {
            let list: Vec<String> = kernel.params.iter().map(|p| format!("{} ({} bytes)", p.name, p.bytes)).collect();
            let what = format!(
                "{} bytes of arguments, the kernel takes {}: {}",
                params.len(),
                kernel.param_bytes,
                if list.is_empty() { "none".into() } else { list.join(", ") }
            );
            wrong(what, "give one argument of the right size for each parameter, in order");
            return findings;
        }
        for param in kernel.params.iter().filter(|p| p.pointer && p.bytes == 8) {
            let at = param.offset as usize;
            let Some(raw) = params.get(at..at + 8) else { continue };
            let value = u64::from_le_bytes(raw.try_into().unwrap_or_default());
            if value == 0 {
                continue; // an optional argument; an access is found at the access
            }
            let name = &param.name;
            if value % u64::from(param.ptr_align.max(1)) != 0 {
                let what =
                    format!("pointer {name} = {value:#x} is not aligned to {} bytes (.ptr .align)", param.ptr_align);
                wrong(what, "");
            }
            let generic = (window::SHARED..super::mem::GLOBAL).contains(&value);
            match self.memory.place(value) {
                _ if generic => {}
                None => wrong(format!("pointer {name} = {value:#x} is no device address"), "pass a device pointer"),
                Some(p) if !p.live => wrong(format!("pointer {name} is to {}, which was freed", p.label), ""),
                Some(_) => {}
            }
        }
        findings
    }
}
