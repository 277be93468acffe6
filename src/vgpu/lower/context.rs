//! What one pass over a kernel knows and makes: registers and their rows, constants, variables, code. Other files of this folder add to it by `impl`.
//!
//! A kernel takes one pass as a rule. A second one follows where the first finds out something that it should have known before: a `.param` temporary
//! that must be memory rather than registers, or more registers than the machine has rows, which then share them ([`Plan`]).

use std::collections::{HashMap, HashSet};

use super::moves;
use super::names::{Entry, Found, LabelId, Names, Reg, RegId, StoreId};
use super::operands::{LowerError, Result};
use super::special::special;
use super::types;
use crate::vgpu::ir::{
    Access, FIRST_PRED, Ins, NO_ROW, Op, Options, PredId, RowId, Source, Special, Symbol, Syscall, TRUE, window,
};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Func, Instr, Loc, Module, Space, Ty, Var};

/// Instructions that a kernel may have after inlining.
pub(super) const MOST_CODE: usize = 1 << 20;
/// Bytes of local memory per thread (hardware: 512 KiB).
pub(super) const MOST_LOCAL: u64 = 512 << 10;
/// Bytes of static shared memory that lowering accepts; what a GPU allows is checked at the launch.
pub(super) const MOST_SHARED: u64 = 256 << 10;

/// What is true of the module whatever the kernel.
pub(super) struct Facts<'a> {
    pub module: &'a Module,
    /// Functions by name, definitions before declarations.
    pub funcs: HashMap<&'a str, &'a Func>,
    /// Names in the image of variables, those inside functions too.
    pub image_names: HashMap<*const Var, String>,
    pub const_places: HashMap<*const Var, u32>,
}

/// What earlier passes over the kernel have found out.
#[derive(Default)]
pub(super) struct Plan {
    /// `.param` variables that must be memory.
    pub framed: HashSet<StoreId>,
    /// Row (or predicate) of every register, where they share; and the first row and predicate that no register has.
    pub shared_rows: Option<(Vec<u16>, u32, u32)>,
}

/// A register is read or written by the instruction that starts at `pc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub pc: u32,
    pub reg: RegId,
    pub write: bool,
    /// A write in every lane that comes by.
    pub sure: bool,
}

/// A `.param` variable.
pub(super) struct Store {
    pub name: String,
    pub bytes: u64,
    pub align: u32,
    /// Where it lies in the frame, once it is memory.
    pub place: Option<u32>,
    /// Its pieces as registers: offset, bytes, register.
    pub cells: Vec<(u64, u32, RegId)>,
}

/// Where a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this address of its space.
    Fixed(u64),
    /// At the start of dynamic shared memory.
    Dynamic,
}

/// The instruction being lowered.
#[derive(Clone, Copy)]
pub(super) struct Current<'a> {
    pub instr: Option<&'a Instr>,
    pub loc: Option<u32>,
    pub guard: PredId,
    pub flip: u32,
    /// First pc.
    pub start: u32,
}

/// One pass over a kernel.
pub(super) struct Context<'a> {
    pub facts: &'a Facts<'a>,
    pub options: &'a Options,
    pub globals: &'a dyn Fn(&str) -> Option<u64>,
    pub plan: &'a Plan,
    /// What the next pass must know.
    pub next: HashSet<StoreId>,
    pub entry: &'a Func,
    pub names: Names<'a>,
    pub cur: Current<'a>,

    pub regs: Vec<Reg>,
    pub events: Vec<Event>,
    /// Rows given out so far; may be more than there are.
    pub rows: u32,
    pub preds: u32,
    scratch: [Vec<RowId>; 5],
    scratch_used: [usize; 5],
    scratch_preds: Vec<PredId>,
    scratch_preds_used: usize,
    constants: HashMap<(u64, bool), RowId>,
    pub constant_rows: Vec<(RowId, [u32; 2])>,
    /// Constants that depend on where dynamic shared memory starts: index of their first row, what is added, two rows or one.
    dynamic_constants: Vec<(usize, u64, bool)>,
    dynamic_rows: HashMap<(u64, bool), RowId>,

    pub code: Vec<Ins>,
    pub source: Vec<Source>,
    pub locs: Vec<Loc>,
    pub loc_ids: HashMap<(*const Loc, Option<u32>), u32>,
    pub lists: Vec<u16>,
    pub targets: Vec<u32>,
    pub accesses: Vec<Access>,
    pub syscalls: Vec<Syscall>,
    pub symbols: Vec<Symbol>,
    pub lints: Vec<(u32, String)>,

    pub labels: Vec<Option<u32>>,
    /// Names that the branches of each function go to.
    pub branched: HashMap<*const Func, HashSet<&'a str>>,
    pub next_label: LabelId,
    pub fixups: Vec<(u32, LabelId)>,
    pub target_fixups: Vec<(u32, LabelId)>,

    pub stores: Vec<Store>,
    pub params: Vec<crate::vgpu::ir::ParamInfo>,
    /// Functions being inlined, outermost first.
    pub calls: Vec<&'a Func>,
    /// Where each of them was called from.
    pub call_locs: Vec<Option<u32>>,
    /// Accesses of `atom`s, with the register of the result.
    pub atomics: Vec<(u32, Option<RegId>)>,
    /// Where `ret` of each of them goes.
    pub returns: Vec<LabelId>,
    /// Where 64-bit values come from.
    pub flows: super::pointers::Flows,
    /// What the hints go by.
    pub hints: super::lint::Seen,
    places: HashMap<*const Var, Place>,
    /// Places of `.local` variables in each function being inlined.
    frames: Vec<HashMap<*const Var, Place>>,
    shared_end: u64,
    dynamic_align: u32,
    local_end: u64,
    local_most: u64,
    has_dynamic: bool,
}

/// What a name is at a place in the text.
pub(super) enum Resolved<'a> {
    Entry(Entry<'a>),
    Special(Special, Ty),
    WarpSize,
    Nothing,
}

impl<'a> Context<'a> {
    pub fn new(
        facts: &'a Facts<'a>,
        options: &'a Options,
        globals: &'a dyn Fn(&str) -> Option<u64>,
        plan: &'a Plan,
        entry: &'a Func,
    ) -> Context<'a> {
        let (rows, preds) = plan.shared_rows.as_ref().map_or((0, u32::from(FIRST_PRED)), |s| (s.1, s.2));
        Context {
            facts,
            options,
            globals,
            plan,
            next: plan.framed.clone(),
            entry,
            names: Names::new(),
            cur: Current { instr: None, loc: None, guard: TRUE, flip: 0, start: 0 },
            regs: Vec::new(),
            events: Vec::new(),
            rows,
            preds,
            scratch: Default::default(),
            scratch_used: [0; 5],
            scratch_preds: Vec::new(),
            scratch_preds_used: 0,
            constants: HashMap::new(),
            constant_rows: Vec::new(),
            dynamic_constants: Vec::new(),
            dynamic_rows: HashMap::new(),
            code: Vec::new(),
            source: Vec::new(),
            locs: Vec::new(),
            loc_ids: HashMap::new(),
            lists: Vec::new(),
            targets: Vec::new(),
            accesses: Vec::new(),
            syscalls: Vec::new(),
            symbols: Vec::new(),
            lints: Vec::new(),
            labels: Vec::new(),
            branched: HashMap::new(),
            next_label: 0,
            fixups: Vec::new(),
            target_fixups: Vec::new(),
            stores: Vec::new(),
            params: Vec::new(),
            calls: Vec::new(),
            call_locs: Vec::new(),
            atomics: Vec::new(),
            returns: Vec::new(),
            flows: Default::default(),
            hints: Default::default(),
            places: HashMap::new(),
            frames: vec![HashMap::new()],
            shared_end: 0,
            dynamic_align: 16,
            local_end: 0,
            local_most: 0,
            has_dynamic: false,
        }
    }

    // ---- errors

    /// An error at the current instruction.
    pub fn error(&self, unsupported: bool, what: &str) -> LowerError {
        match self.cur.instr {
            Some(instr) => super::modifiers::error(instr, unsupported, what),
            None => LowerError { pos: self.entry.pos, unsupported, what: what.to_string(), hint: String::new() },
        }
    }

    pub fn wrong_here(&self, what: &str) -> LowerError {
        self.error(false, what)
    }

    // ---- code

    /// Appends an instruction of the current statement, under its guard.
    pub fn push(&mut self, ins: Ins) {
        self.push_unguarded(Ins { guard: self.cur.guard, flip: self.cur.flip, ..ins });
    }

    /// Appends an instruction as it is.
    pub fn push_unguarded(&mut self, ins: Ins) {
        let (ptx_line, text) = self.cur.instr.map_or((0, String::new()), |i| (i.pos.line, i.text.clone()));
        self.code.push(ins);
        self.source.push(Source { ptx_line, text, loc: self.cur.loc });
    }

    /// Appends a `Join`.
    pub fn join(&mut self, line: u32, name: &str) {
        self.code.push(Ins::machine(Op::Join, Class::Other));
        self.source.push(Source { ptx_line: line, text: format!("{name}:"), loc: self.cur.loc });
    }

    pub fn pc(&self) -> u32 {
        self.code.len() as u32
    }

    /// Adds an access to the table.
    pub fn access(&mut self, access: Access) -> u32 {
        self.accesses.push(access);
        self.accesses.len() as u32 - 1
    }

    pub fn note(&mut self, text: String) {
        self.lints.push((self.cur.start, text));
    }

    // ---- rows

    fn take_rows(&mut self, n: u32) -> RowId {
        let first = self.rows;
        self.rows += n;
        // Beyond the limit the pass only counts; its code is thrown away.
        if self.rows <= u32::from(NO_ROW) { first as u16 } else { 0 }
    }

    fn take_pred(&mut self) -> PredId {
        let first = self.preds;
        self.preds += 1;
        if self.preds <= u32::from(u16::MAX) { first as u16 } else { 0 }
    }

    pub fn new_reg(&mut self, name: String, ty: Ty) -> RegId {
        let id = self.regs.len();
        let row = match &self.plan.shared_rows {
            Some((map, ..)) => map.get(id).copied().unwrap_or(0),
            None if ty == Ty::Pred => self.take_pred(),
            None => self.take_rows(types::rows(ty)),
        };
        self.regs.push(Reg { name, ty, row });
        id as RegId
    }

    pub fn read(&mut self, reg: RegId) -> RowId {
        self.events.push(Event { pc: self.cur.start, reg, write: false, sure: false });
        self.regs[reg as usize].row
    }

    pub fn write(&mut self, reg: RegId) -> RowId {
        let sure = self.cur.guard == TRUE;
        self.events.push(Event { pc: self.cur.start, reg, write: true, sure });
        self.regs[reg as usize].row
    }

    /// A row that lives within the current instruction only.
    pub fn scratch_rows(&mut self, rows: u32) -> RowId {
        let class = rows.clamp(1, 4) as usize;
        let used = self.scratch_used[class];
        self.scratch_used[class] += 1;
        if rows > 4 {
            return self.take_rows(rows);
        }
        if used == self.scratch[class].len() {
            let row = self.take_rows(rows);
            self.scratch[class].push(row);
        }
        self.scratch[class][used]
    }

    pub fn scratch_predicate(&mut self) -> PredId {
        let used = self.scratch_preds_used;
        self.scratch_preds_used += 1;
        if used == self.scratch_preds.len() {
            let pred = self.take_pred();
            self.scratch_preds.push(pred);
        }
        self.scratch_preds[used]
    }

    /// A new instruction may use all scratch rows again.
    pub fn free_scratch(&mut self) {
        self.scratch_used = [0; 5];
        self.scratch_preds_used = 0;
    }

    pub fn constant_row(&mut self, bits: u64, wide: bool) -> RowId {
        let bits = if wide { bits } else { bits & 0xffff_ffff };
        if let Some(&row) = self.constants.get(&(bits, wide)) {
            return row;
        }
        let row = self.new_constant(bits, wide);
        self.constants.insert((bits, wide), row);
        row
    }

    fn new_constant(&mut self, bits: u64, wide: bool) -> RowId {
        let row = self.take_rows(if wide { 2 } else { 1 });
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        if wide {
            self.constant_rows.push((row, [low, high]));
            self.constant_rows.push((row.saturating_add(1), [low, high]));
        } else {
            self.constant_rows.push((row, [low, low]));
        }
        row
    }

    // ---- names

    pub fn resolve(&mut self, name: &str) -> Resolved<'a> {
        match self.names.find(name) {
            Found::Entry(entry) => Resolved::Entry(entry),
            Found::Fresh(fresh) => {
                let (ty, vec) = (fresh.ty, fresh.vec);
                let entry = if vec > 1 {
                    let parts = ["x", "y", "z", "w"];
                    let ids: Vec<RegId> = parts
                        .iter()
                        .take(vec as usize)
                        .map(|part| self.new_reg(format!("{name}.{part}"), ty))
                        .collect();
                    Entry::Vector { first: ids.first().copied().unwrap_or(0), count: ids.len() as u32 }
                } else {
                    Entry::Reg(self.new_reg(fresh.name.clone(), ty))
                };
                self.names.settle(fresh, entry);
                Resolved::Entry(entry)
            }
            Found::Nothing => match (special(name, None), self.facts.funcs.get(name)) {
                (Some((register, ty)), _) => Resolved::Special(register, ty),
                (None, Some(func)) => Resolved::Entry(Entry::Func(func)),
                (None, None) if name == "WARP_SZ" => Resolved::WarpSize,
                _ => Resolved::Nothing,
            },
        }
    }

    pub fn unknown(&self, name: &str) -> LowerError {
        self.wrong_here(&format!("unknown name `{name}`"))
    }

    /// Emits the read of a special register into a row of its own.
    pub fn special_into(&mut self, register: Special, ty: Ty, d: RowId) {
        self.note_special(register);
        let imm = if ty == Ty::U64 { 64 } else { 32 };
        self.push(Ins { d, x: register as u32, imm, ..Ins::machine(Op::Special, Class::Mov) });
    }

    /// Emits a copy of a register of `rows` rows.
    pub fn copy(&mut self, d: RowId, a: RowId, rows: u32) {
        self.push(Ins { d, a, ..Ins::row(moves::copy(rows), Class::Mov) });
    }

    // ---- variables

    /// Where a variable lies; variables get their place when a kernel first uses them.
    pub fn place(&mut self, var: &'a Var, space: Space) -> Result<Place> {
        let key = std::ptr::from_ref(var);
        let own = space == Space::Local && !self.facts.module.vars.as_ptr_range().contains(&key);
        let places = if own { self.frames.last() } else { Some(&self.places) };
        if let Some(place) = places.and_then(|p| p.get(&key)) {
            return Ok(*place);
        }
        let place = match space {
            Space::Global => self.place_global(var)?,
            Space::Const => match self.facts.const_places.get(&key) {
                Some(&offset) => {
                    let (offset, bytes) = (u64::from(offset), super::image::size(var)?);
                    self.symbols.push(Symbol { name: var.name.clone(), space, offset, bytes });
                    Place::Fixed(u64::from(window::CONST_BASE) + offset)
                }
                None => return Err(self.undefined_extern(var)),
            },
            Space::Shared => self.place_shared(var)?,
            _ => {
                let offset = self.frame(&var.name, super::image::size(var)?, super::image::alignment(var)?)?;
                Place::Fixed(u64::from(window::LOCAL_BASE) + u64::from(offset))
            }
        };
        let places = if own { self.frames.last_mut() } else { None };
        places.unwrap_or(&mut self.places).insert(key, place);
        Ok(place)
    }

    fn place_global(&mut self, var: &'a Var) -> Result<Place> {
        let name = self.facts.image_names.get(&std::ptr::from_ref(var)).unwrap_or(&var.name);
        match (self.globals)(name) {
            Some(address) => {
                let bytes = super::image::size(var).unwrap_or(0);
                self.symbols.push(Symbol { name: name.clone(), space: Space::Global, offset: address, bytes });
                Ok(Place::Fixed(address))
            }
            None => Err(self.undefined_extern(var)),
        }
    }

    fn undefined_extern(&self, var: &Var) -> LowerError {
        let mut error = self.wrong_here(&format!("`{}` is extern and defined nowhere", var.name));
        error.hint = "define it in this module; several modules are not linked here".into();
        error
    }

    fn place_shared(&mut self, var: &'a Var) -> Result<Place> {
        use crate::vgpu::ptx::ast::Linkage;
        let align = super::image::alignment(var)?;
        let open = var.dims.first().is_some_and(Option::is_none);
        if open || (var.linkage == Linkage::Extern && var.dims.first() == Some(&Some(0))) {
            self.dynamic_align = self.dynamic_align.max(align);
            self.has_dynamic = true;
            return Ok(Place::Dynamic);
        }
        if var.init.is_some() {
            return Err(self.wrong_here(&format!("shared variable `{}` has an initialiser", var.name)));
        }
        let bytes = super::image::size(var)?;
        let offset = self.shared_end.next_multiple_of(u64::from(align));
        self.shared_end = offset.saturating_add(bytes);
        if self.shared_end > MOST_SHARED {
            let what = format!("shared variables take more than {MOST_SHARED} bytes with `{}`", var.name);
            return Err(self.wrong_here(&what));
        }
        self.symbols.push(Symbol { name: var.name.clone(), space: Space::Shared, offset, bytes });
        Ok(Place::Fixed(u64::from(window::SHARED_BASE) + offset))
    }

    /// Reserves bytes of the frame.
    pub fn frame(&mut self, name: &str, bytes: u64, align: u32) -> Result<u32> {
        let offset = self.local_end.next_multiple_of(u64::from(align.max(1)));
        self.local_end = offset.saturating_add(bytes);
        if self.local_end > MOST_LOCAL {
            return Err(self.wrong_here(&format!("local memory takes more than {MOST_LOCAL} bytes with `{name}`")));
        }
        self.local_most = self.local_most.max(self.local_end);
        self.symbols.push(Symbol { name: name.to_string(), space: Space::Local, offset, bytes });
        Ok(offset as u32)
    }

    /// Begins the frame of an inlined function; [`Context::pop_frame`] gives its bytes back.
    pub fn push_frame(&mut self) -> u64 {
        self.frames.push(HashMap::new());
        self.local_end
    }

    pub fn pop_frame(&mut self, mark: u64) {
        self.frames.pop();
        self.local_end = mark;
    }

    /// A row with the address of a place plus `addend`: 64-bit where `wide`, the generic one where asked.
    pub fn address_row(&mut self, place: Place, space: Space, addend: i64, wide: bool, generic: bool) -> RowId {
        let base = if generic { window_of(space) } else { 0 };
        match place {
            Place::Fixed(address) => self.constant_row(base.wrapping_add(address).wrapping_add(addend as u64), wide),
            Place::Dynamic => {
                let more = base.wrapping_add(addend as u64);
                if let Some(&row) = self.dynamic_rows.get(&(more, wide)) {
                    return row;
                }
                let index = self.constant_rows.len();
                let row = self.new_constant(0, wide);
                self.dynamic_constants.push((index, more, wide));
                self.dynamic_rows.insert((more, wide), row);
                row
            }
        }
    }

    /// Static shared memory in bytes, and the constants that depend on it; after the pass.
    pub fn settle_shared(&mut self) -> u32 {
        let bytes = if self.has_dynamic {
            self.shared_end.next_multiple_of(u64::from(self.dynamic_align))
        } else {
            self.shared_end
        };
        for &(index, more, wide) in &self.dynamic_constants {
            let value = (u64::from(window::SHARED_BASE) + bytes).wrapping_add(more);
            let (low, high) = (value as u32, (value >> 32) as u32);
            let pattern = if wide { [low, high] } else { [low, low] };
            for (_, words) in self.constant_rows.iter_mut().skip(index).take(if wide { 2 } else { 1 }) {
                *words = pattern;
            }
        }
        bytes as u32
    }

    pub fn uses_dynamic(&self) -> bool {
        self.has_dynamic
    }

    pub fn local_bytes(&self) -> u32 {
        self.local_most as u32
    }
}

/// What is added to an address of `space` to make it generic.
pub(super) fn window_of(space: Space) -> u64 {
    match space {
        Space::Shared => window::SHARED,
        Space::Local => window::LOCAL,
        Space::Const => window::CONST,
        Space::Param => window::PARAM,
        Space::Global | Space::Generic => 0,
    }
}
