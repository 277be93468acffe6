//! The syntax tree of a PTX module: what the text says, in its order, with lines. No names are resolved here and no types are checked
//! ([`crate::vgpu::lower`] does both).

/// A place in the PTX text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pos {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub col: u32,
}

/// `.loc`: a place in the source that the PTX was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loc {
    /// Number of the `.file`.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column.
    pub col: u32,
    /// `function_name`: the label of the inlined function's name in `.debug_str`, and an offset; [`Module::debug_string`] reads it.
    pub function: Option<(String, i64)>,
    /// `inlined_at`: file, line, column where the inlined function was called, innermost call first.
    pub inlined_at: Vec<(u32, u32, u32)>,
}

/// State spaces of variables and accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

impl Space {
    /// As PTX writes it, without the dot.
    pub fn name(self) -> &'static str {
        match self {
            Space::Generic => "generic",
            Space::Global => "global",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Const => "const",
            Space::Param => "param",
        }
    }
}

/// Fundamental types (`.b32`, `.f16x2`, `.pred` ..).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Ty {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

/// Linkage of a variable or function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Linkage {
    #[default]
    Local,
    Extern,
    Visible,
    Weak,
    Common,
}

/// A whole PTX file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// `.version`: major, minor.
    pub version: (u32, u32),
    /// `.target`: `sm_80` first, then options.
    pub target: Vec<String>,
    /// `.address_size`; 64 where it is not given.
    pub address_size: u32,
    /// `.file`: number and name.
    pub files: Vec<(u32, String)>,
    /// Variables outside functions, in order.
    pub vars: Vec<Var>,
    /// Entries and functions, declarations too, in order.
    pub funcs: Vec<Func>,
    /// `.alias name, target;` in order.
    pub aliases: Vec<Alias>,
    /// `.pragma` outside functions.
    pub pragmas: Vec<String>,
    /// `.section`: debug data.
    pub sections: Vec<Section>,
}

/// `.alias name, target;`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Where.
    pub pos: Pos,
    /// The declared function.
    pub name: String,
    /// The defined function that it stands for.
    pub target: String,
}

/// `.section .debug_str { .. }`
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Where.
    pub pos: Pos,
    /// Its name, with the dot where it has one.
    pub name: String,
    /// What it holds, in order.
    pub items: Vec<SectionItem>,
}

/// A piece of a section.
#[derive(Clone, Debug, PartialEq)]
pub enum SectionItem {
    /// `name:`
    Label(String),
    /// Numbers of `.b8` to `.b64`, one after the other, little-endian.
    Bytes(Vec<u8>),
    /// `.b32 label`, `.b64 label+16`, `.b32 end-start`.
    Ref {
        /// Bytes that it fills.
        bytes: u32,
        /// A label, or a section with its dot.
        name: String,
        /// Bytes added.
        offset: i64,
        /// A label whose address is taken off.
        minus: Option<String>,
    },
}

/// A variable or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    /// Where it is declared.
    pub pos: Pos,
    /// Linkage.
    pub linkage: Linkage,
    /// Its space; `None` for a function parameter in `.reg`.
    pub space: Option<Space>,
    /// Element type.
    pub ty: Ty,
    /// `.v2`, `.v4`: elements of a vector; 1 otherwise.
    pub vec: u32,
    /// `.align`, in bytes.
    pub align: Option<u32>,
    /// Name.
    pub name: String,
    /// `[n]`..; `None` for `[]`. Empty for a scalar.
    pub dims: Vec<Option<u64>>,
    /// `= ..`, flattened; shorter than the array where the rest is zero.
    pub init: Option<Vec<Init>>,
    /// `.ptr{.space}{.align n}` of a kernel parameter.
    pub ptr: Option<PtrAttr>,
    /// `.texref`, `.samplerref`, `.surfref`: a handle, with `ty` [`Ty::B64`].
    pub opaque: Option<Opaque>,
    /// `.attribute(.managed, .unified(0, 1))`, each as written without its dot.
    pub attributes: Vec<String>,
}

/// Opaque handles of textures, samplers and surfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Opaque {
    Texref,
    Samplerref,
    Surfref,
}

/// `.ptr .global .align 16` of a kernel parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PtrAttr {
    /// The space pointed to.
    pub space: Space,
    /// Alignment of what is pointed to, in bytes.
    pub align: u32,
}

/// One element of an initialiser.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// A number.
    Imm(Imm),
    /// The address of a symbol plus an offset.
    Symbol {
        /// Its name.
        name: String,
        /// Bytes added.
        offset: i64,
        /// `generic(name)`: the generic address instead of the one in its space.
        generic: bool,
        /// `0xff00(name)`: only these bits, moved down to bit 0.
        mask: Option<u64>,
    },
}

/// A constant. Integers are 64 bits wide whatever their destination (PTX ISA, "Constants").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Imm {
    /// Integer; negative ones in two's complement.
    Int(i64),
    /// `0f3f800000`: bits.
    F32(u32),
    /// `0d..` or a decimal float: bits.
    F64(u64),
}

/// `.entry` or `.func`.
#[derive(Clone, Debug, PartialEq)]
pub struct Func {
    /// Where it is.
    pub pos: Pos,
    /// `.entry`.
    pub entry: bool,
    /// Linkage.
    pub linkage: Linkage,
    /// Name.
    pub name: String,
    /// Return parameters of a `.func`.
    pub rets: Vec<Var>,
    /// Parameters.
    pub params: Vec<Var>,
    /// `.maxntid 128, 1, 1` and the like: name without the dot, numbers.
    pub directives: Vec<(String, Vec<u32>)>,
    /// `.pragma` between the header and the body.
    pub pragmas: Vec<String>,
    /// `.attribute(.unified(0, 1))`, each as written without its dot.
    pub attributes: Vec<String>,
    /// `None` for a declaration.
    pub body: Option<Vec<Stmt>>,
}

/// A statement of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// `.reg .b32 %r<10>, x;`
    Reg {
        /// Where.
        pos: Pos,
        /// Type.
        ty: Ty,
        /// `.v2`, `.v4`; 1 otherwise.
        vec: u32,
        /// Names; with a count `n` for `name<n>`, which stands for `name0` to `name(n-1)`.
        names: Vec<(String, Option<u32>)>,
    },
    /// `.shared`, `.local`, `.param`, `.const`, `.global` inside a body.
    Var(Var),
    /// `name:`
    Label {
        /// Where.
        pos: Pos,
        /// Name.
        name: String,
    },
    /// An instruction.
    Instr(Instr),
    /// `{ .. }`: a scope of its own.
    Block(Vec<Stmt>),
    /// `.loc`: holds for the instructions that follow.
    Loc(Loc),
    /// `label: .branchtargets a, b;`
    BranchTargets {
        /// Where.
        pos: Pos,
        /// Its label.
        name: String,
        /// Labels.
        targets: Vec<String>,
    },
    /// `label: .callprototype (..) _ (..);` or `label: .calltargets f, g;`
    CallInfo {
        /// Where.
        pos: Pos,
        /// Its label.
        name: String,
        /// Functions of `.calltargets`.
        targets: Vec<String>,
        /// The function type of `.callprototype`; its name is `_`.
        prototype: Option<Box<Func>>,
    },
    /// `.pragma "..";`
    Pragma(String),
}

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instr {
    /// Where it starts.
    pub pos: Pos,
    /// The statement as written, without the final `;`, white space folded to one blank.
    pub text: String,
    /// `@p`, `@!p`: the register, and whether it is negated.
    pub guard: Option<(String, bool)>,
    /// `ld.global.v2.u32` split at the dots (`L2::128B` and `shared::cta` stay whole).
    pub op: Vec<String>,
    /// Operands in order.
    pub operands: Vec<Operand>,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A register, special register, label, variable or function by name.
    Name(String),
    /// `v.x`: component 0 to 3 (`.x .y .z .w` or `.r .g .b .a`).
    Component(String, u8),
    /// `a.b0`, `a.h1`, `a.b7632`: the bytes or half-words of a video instruction.
    Selector(String, String),
    /// `-a`: a negated register of a video instruction.
    Neg(Box<Operand>),
    /// `name[3]`, `name[%r1 + 1]` outside brackets: element of an array variable, by an optional register and a constant.
    Index(String, Option<String>, i64),
    /// `name + 16` outside brackets.
    NameOffset(String, i64),
    /// A constant.
    Imm(Imm),
    /// `[base + offset]`.
    Address {
        /// What the offset is added to.
        base: Base,
        /// Bytes.
        offset: i64,
    },
    /// `[a, {b, c}]`: a texture, surface or tensor map with its coordinates.
    Bracket(Vec<Operand>),
    /// `{a, b, c, d}`.
    Vector(Vec<Operand>),
    /// `_`.
    Sink,
    /// `!p`.
    Not(String),
    /// `d|p`: two destinations.
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)`: arguments or results of a call.
    Tuple(Vec<Operand>),
}

/// The base of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// A register or a variable.
    Name(String),
    /// None: `[16]`.
    Absolute,
}

impl Module {
    /// The string of `.debug_str` (any section) `offset` bytes after `label`.
    pub fn debug_string(&self, label: &str, offset: i64) -> Option<String> {
        for section in &self.sections {
            let Some(at) = section.items.iter().position(|i| matches!(i, SectionItem::Label(l) if l == label)) else {
                continue;
            };
            let bytes = section.items[at..].iter().find_map(|i| match i {
                SectionItem::Bytes(bytes) => Some(bytes),
                _ => None,
            })?;
            let tail = bytes.get(usize::try_from(offset).ok()?..)?;
            let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
            return Some(String::from_utf8_lossy(&tail[..end]).into_owned());
        }
        None
    }
}

impl Ty {
    /// Reads a type modifier without its dot.
    pub fn parse(s: &str) -> Option<Ty> {
        Some(match s {
            "pred" => Ty::Pred,
            "b8" => Ty::B8,
            "b16" => Ty::B16,
            "b32" => Ty::B32,
            "b64" => Ty::B64,
            "b128" => Ty::B128,
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "f16x2" => Ty::F16x2,
            "bf16" => Ty::Bf16,
            "bf16x2" => Ty::Bf16x2,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            _ => return None,
        })
    }

    /// Size in bytes; 1 for a predicate, which has none.
    pub fn bytes(self) -> u32 {
        match self {
            Ty::Pred | Ty::B8 | Ty::U8 | Ty::S8 => 1,
            Ty::B16 | Ty::U16 | Ty::S16 | Ty::F16 | Ty::Bf16 => 2,
            Ty::B32 | Ty::U32 | Ty::S32 | Ty::F32 | Ty::F16x2 | Ty::Bf16x2 => 4,
            Ty::B64 | Ty::U64 | Ty::S64 | Ty::F64 => 8,
            Ty::B128 => 16,
        }
    }

    /// A signed integer: loads and conversions sign-extend it.
    pub fn signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }
}
