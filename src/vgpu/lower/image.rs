//! What a module brings to the device before any kernel runs: its `.global` variables, its constant memory, its entries. Not here: code.

use std::collections::{HashMap, HashSet};

use super::operands::{LowerError, Result};
use super::params;
use crate::vgpu::ir::{ParamInfo, window};
use crate::vgpu::ptx::ast::{Func, Imm, Init, Linkage, Module, Pos, Space, Stmt, Ty, Var};

/// Bytes that the constants of a module may take (PTX: 64 KiB).
pub const MOST_CONST: u64 = 64 << 10;
/// Bytes that a variable may take: a virtual GPU's memory is the host's.
pub const MOST_GLOBAL: u64 = 4 << 30;

/// A `.global` variable of a module: an allocation of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalVar {
    /// Name; one inside a function is called `function::name`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Alignment in bytes.
    pub align: u32,
    /// Its first bytes; those behind them are 0.
    pub init: Vec<u8>,
    /// Addresses to be written into it.
    pub relocations: Vec<Relocation>,
}

/// An address inside an initialiser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Byte in the variable (in constant memory: from its start).
    pub offset: u64,
    /// The variable whose address it is.
    pub symbol: String,
    /// Added to the address.
    pub addend: i64,
    /// The generic address rather than the one in the variable's space.
    pub generic: bool,
    /// Bytes written.
    pub width: u32,
    /// Only these bits, shifted down.
    pub mask: Option<u64>,
    /// The initialiser's place, for errors.
    pub pos: Pos,
}

/// A kernel of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryInfo {
    /// Name.
    pub name: String,
    /// Parameters with their offsets. Whether one is used as a pointer is known for lowered kernels only.
    pub params: Vec<ParamInfo>,
}

/// What to set up before a kernel of the module can be lowered and run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModuleImage {
    /// Variables in global memory.
    pub globals: Vec<GlobalVar>,
    /// Constant memory; its first byte has the address [`window::CONST_BASE`].
    pub consts: Vec<u8>,
    /// Variables in constant memory: name, offset, bytes.
    pub const_symbols: Vec<(String, u32, u64)>,
    /// Addresses to be written into constant memory.
    pub const_relocations: Vec<Relocation>,
    /// Kernels.
    pub entries: Vec<EntryInfo>,
}

impl ModuleImage {
    /// The value that `relocation` stands for, with device addresses of `.global` variables from `globals`. `None` where the symbol has no address in a
    /// module: shared and local variables, functions, variables of other modules.
    pub fn resolve(&self, relocation: &Relocation, globals: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
        let constant = self.const_symbols.iter().find(|(name, ..)| *name == relocation.symbol);
        let address = match constant {
            Some((_, offset, _)) => {
                let base = if relocation.generic { window::CONST } else { 0 };
                base + u64::from(window::CONST_BASE + offset)
            }
            None => globals(&relocation.symbol)?,
        };
        let value = address.wrapping_add(relocation.addend as u64);
        Some(match relocation.mask {
            Some(mask) => (value & mask) >> mask.trailing_zeros().min(63),
            None => value,
        })
    }

    /// Writes all addresses into `bytes`, the start of a variable or of constant memory.
    ///
    /// # Errors
    /// An address that nobody knows.
    pub fn relocate(
        &self,
        bytes: &mut [u8],
        relocations: &[Relocation],
        globals: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<()> {
        for relocation in relocations {
            let Some(value) = self.resolve(relocation, globals) else {
                return Err(LowerError {
                    pos: relocation.pos,
                    unsupported: true,
                    what: format!(
                        "an initialiser with the address of `{}`, which is no variable here",
                        relocation.symbol
                    ),
                    hint: "only addresses of .global and .const variables of the same module are supported".into(),
                });
            };
            let at = relocation.offset as usize;
            let width = relocation.width as usize;
            if let Some(place) = bytes.get_mut(at..at + width) {
                place.copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        Ok(())
    }
}

/// The variables and entries of a module.
///
/// # Errors
/// A variable of no or of too great a size, an initialiser that does not fit its type, an entry with wrong parameters.
pub fn image(module: &Module) -> Result<ModuleImage> {
    let mut image = ModuleImage::default();
    for (name, var, space) in variables(module)? {
        let bytes = size(var)?;
        let align = alignment(var)?;
        match space {
            Space::Global => {
                if bytes > MOST_GLOBAL {
                    return Err(wrong(
                        var.pos,
                        true,
                        format!("`{name}` has {bytes} bytes"),
                        "the virtual GPU's limit for a variable is 4 GiB",
                    ));
                }
                let (init, relocations) = initialise(var, 0, bytes)?;
                image.globals.push(GlobalVar { name, bytes, align, init, relocations });
            }
            _ => {
                let start = (image.consts.len() as u64).next_multiple_of(u64::from(align));
                if start + bytes > MOST_CONST {
                    return Err(wrong(
                        var.pos,
                        false,
                        format!("`{name}` does not fit: constants take more than {MOST_CONST} bytes"),
                        "use .global",
                    ));
                }
                let (init, relocations) = initialise(var, start, bytes)?;
                image.consts.resize(start as usize, 0);
                image.consts.extend(init);
                image.consts.resize((start + bytes) as usize, 0);
                image.const_symbols.push((name, start as u32, bytes));
                image.const_relocations.extend(relocations);
            }
        }
    }
    // Addresses of functions are 0: nothing can be done with them here, and tables of them must not keep other kernels from running.
    let functions: HashSet<&str> = module.funcs.iter().map(|f| f.name.as_str()).collect();
    let data = |r: &Relocation| !functions.contains(r.symbol.as_str());
    image.const_relocations.retain(data);
    image.globals.iter_mut().for_each(|g| g.relocations.retain(data));
    for func in module.funcs.iter().filter(|f| f.entry && f.body.is_some()) {
        image.entries.push(EntryInfo { name: func.name.clone(), params: params::layout(func)?.0 });
    }
    Ok(image)
}

/// All `.global` and `.const` variables with a definition, those inside functions too, under the names that the image gives them.
fn variables(module: &Module) -> Result<Vec<(String, &Var, Space)>> {
    let mut found: Vec<(String, &Var, Space)> = Vec::new();
    for var in &module.vars {
        if let Some(space @ (Space::Global | Space::Const)) = var.space
            && var.linkage != Linkage::Extern
            && var.opaque.is_none()
        {
            found.push((var.name.clone(), var, space));
        }
    }
    for func in &module.funcs {
        let mut inside = Vec::new();
        collect(func.body.as_deref().unwrap_or_default(), &mut inside);
        // Two scopes of a function may use one name.
        let mut times: HashMap<&str, usize> = HashMap::new();
        for var in inside {
            let again = times.entry(&var.name).or_insert(0);
            found.push((inner_name(func, var, *again), var, var.space.unwrap_or(Space::Global)));
            *again += 1;
        }
    }
    let mut seen = HashMap::new();
    for (name, var, _) in &found {
        if seen.insert(name.clone(), ()).is_some() {
            return Err(wrong(var.pos, false, format!("`{name}` is declared twice"), ""));
        }
    }
    Ok(found)
}

fn inner_name(func: &Func, var: &Var, again: usize) -> String {
    match again {
        0 => format!("{}::{}", func.name, var.name),
        n => format!("{}::{}#{n}", func.name, var.name),
    }
}

fn collect<'a>(body: &'a [Stmt], found: &mut Vec<&'a Var>) {
    for stmt in body {
        match stmt {
            Stmt::Var(var) if matches!(var.space, Some(Space::Global | Space::Const)) => found.push(var),
            Stmt::Block(inner) => collect(inner, found),
            _ => {}
        }
    }
}

/// The image's name of every variable inside a function, by its place in the tree.
pub(super) fn inner_names(module: &Module) -> Result<HashMap<*const Var, String>> {
    Ok(variables(module)?.into_iter().map(|(name, var, _)| (std::ptr::from_ref(var), name)).collect())
}

/// Offset in constant memory of every `.const` variable, as [`image`] lays them out.
pub(super) fn const_places(module: &Module) -> Result<HashMap<*const Var, u32>> {
    let mut places = HashMap::new();
    let mut end = 0u64;
    for (_, var, _) in variables(module)?.iter().filter(|v| v.2 == Space::Const) {
        let start = end.next_multiple_of(u64::from(alignment(var)?));
        places.insert(std::ptr::from_ref(*var), u32::try_from(start).unwrap_or(u32::MAX));
        end = start.saturating_add(size(var)?);
    }
    Ok(places)
}

/// Bytes of a variable.
pub(super) fn size(var: &Var) -> Result<u64> {
    let mut bytes = u64::from(var.ty.bytes()) * u64::from(var.vec.max(1));
    for (i, dim) in var.dims.iter().enumerate() {
        let n = match (dim, &var.init) {
            (Some(n), _) => *n,
            // `x[] = {1, 2}`: as long as its initialiser.
            (None, Some(init)) if i == 0 && var.dims.len() == 1 => {
                (init.len() as u64).div_ceil(u64::from(var.vec.max(1)))
            }
            (None, _) => {
                return Err(wrong(
                    var.pos,
                    false,
                    format!("`{}` has no size", var.name),
                    "only .extern arrays may have none",
                ));
            }
        };
        bytes = bytes
            .checked_mul(n)
            .filter(|&b| b <= 1 << 62)
            .ok_or_else(|| wrong(var.pos, false, format!("`{}` is larger than any memory", var.name), ""))?;
    }
    if bytes == 0 {
        return Err(wrong(var.pos, false, format!("`{}` has no bytes", var.name), ""));
    }
    Ok(bytes)
}

/// Alignment of a variable: `.align`, but at least what its type asks for.
pub(super) fn alignment(var: &Var) -> Result<u32> {
    let natural = var.ty.bytes() * var.vec.max(1).next_power_of_two();
    match var.align {
        None => Ok(natural),
        Some(align) if align.is_power_of_two() && align <= 1 << 16 => Ok(align.max(var.ty.bytes())),
        Some(align) => {
            Err(wrong(var.pos, false, format!("`.align {align}` of `{}`", var.name), "use a power of two up to 65536"))
        }
    }
}

/// Bytes and addresses of an initialiser. `start` is added to the offsets of relocations.
fn initialise(var: &Var, start: u64, bytes: u64) -> Result<(Vec<u8>, Vec<Relocation>)> {
    let width = var.ty.bytes() as usize;
    let mut out = Vec::new();
    let mut relocations = Vec::new();
    for element in var.init.iter().flatten() {
        if out.len() as u64 + width as u64 > bytes {
            return Err(wrong(
                var.pos,
                false,
                format!("the initialiser of `{}` is longer than its {bytes} bytes", var.name),
                "",
            ));
        }
        match element {
            Init::Imm(imm) => {
                let Some(bits) = convert(*imm, var.ty) else {
                    let ty = super::types::name(var.ty);
                    return Err(wrong(
                        var.pos,
                        false,
                        format!("the initialiser of `{}` does not fit {ty}", var.name),
                        "",
                    ));
                };
                out.extend_from_slice(&u128::from(bits).to_le_bytes()[..width]);
            }
            Init::Symbol { name, offset, generic, mask } => {
                let whole = mask.is_none() && !matches!(var.ty.bytes(), 4 | 8);
                if whole {
                    return Err(wrong(
                        var.pos,
                        false,
                        format!("an address does not fit an element of `{}`", var.name),
                        "",
                    ));
                }
                let at = start + out.len() as u64;
                let (symbol, addend, width) = (name.clone(), *offset, var.ty.bytes().min(8));
                let (generic, mask, pos) = (*generic, *mask, var.pos);
                relocations.push(Relocation { offset: at, symbol, addend, generic, width, mask, pos });
                out.resize(out.len() + var.ty.bytes() as usize, 0);
            }
        }
    }
    Ok((out, relocations))
}

/// A constant as bits of a type; `None` where the ISA does not allow it there.
pub(super) fn convert(imm: Imm, ty: Ty) -> Option<u64> {
    let cut = |v: i64| match ty.bytes() {
        1 => v as u64 & 0xff,
        2 => v as u64 & 0xffff,
        4 => v as u64 & 0xffff_ffff,
        _ => v as u64,
    };
    match (imm, ty) {
        (_, Ty::Pred | Ty::B128) => None,
        (Imm::Int(v), _) if !super::types::float(ty) => Some(cut(v)),
        (Imm::F32(bits), Ty::F32 | Ty::B32) | (Imm::F32(bits), Ty::F16x2 | Ty::Bf16x2) => Some(u64::from(bits)),
        (Imm::F32(bits), Ty::F64) => Some(f64::from(f32::from_bits(bits)).to_bits()),
        (Imm::F64(bits), Ty::F64 | Ty::B64) => Some(bits),
        (Imm::F64(bits), Ty::F32) => Some(u64::from((f64::from_bits(bits) as f32).to_bits())),
        _ => None,
    }
}

pub(super) fn wrong(pos: Pos, unsupported: bool, what: String, hint: &str) -> LowerError {
    LowerError { pos, unsupported, what, hint: hint.to_string() }
}
