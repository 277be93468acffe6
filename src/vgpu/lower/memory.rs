//! Loads and stores, and what goes with them: cache hints, prefetches, conversions of addresses. Hints change no value and are checked only for form.

use super::context::{Context, Resolved};
use super::modifiers::{Mods, operand_count};
use super::names::Entry;
use super::operands::{Operands, Result};
use super::resolve::{Address, describe};
use super::types;
use crate::vgpu::ir::{Access, Ins, NO_ROW, Op, Order, RowId, Scope, Special};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Base, Instr, Operand, Space, Ty};

/// Modifiers that name a state space.
const SPACES: &[(&str, Space)] = &[
    ("global", Space::Global),
    ("shared", Space::Shared),
    ("shared::cta", Space::Shared),
    ("local", Space::Local),
    ("const", Space::Const),
    ("param", Space::Param),
    ("param::entry", Space::Param),
    ("param::func", Space::Param),
];

/// Modifiers that name a scope.
pub(super) const SCOPES: &[(&str, Scope)] =
    &[("cta", Scope::Cta), ("cluster", Scope::Cluster), ("gpu", Scope::Gpu), ("sys", Scope::Sys)];

/// Hints of an access; [`Hints::policy`] says that a cache policy follows as the last operand.
pub(super) struct Hints {
    pub policy: bool,
}

impl<'a> Context<'a> {
    /// Lowers memory instructions; false for others.
    pub fn memory(&mut self, instr: &'a Instr, base: &str) -> Result<bool> {
        match base {
            "ld" | "ldu" => self.load(instr, base)?,
            "st" => self.store(instr)?,
            "atom" | "red" => self.atomic(instr, base)?,
            "cp" => self.copy_async(instr)?,
            "ldmatrix" | "stmatrix" => self.matrix(instr, base)?,
            "prefetch" | "prefetchu" | "applypriority" | "discard" => self.hint(instr, base)?,
            "createpolicy" => self.policy(instr)?,
            "cvta" => self.convert_address(instr)?,
            "isspacep" => self.is_space(instr)?,
            "membar" | "fence" => self.fence(instr, base)?,
            "mapa" | "getctarank" | "st.bulk" | "multimem" | "ld_matrix" | "suld" | "sust" | "sured" | "suq"
            | "tex" | "tld4" | "txq" | "istypep" => {
                return Err(self.error(true, &format!("`{base}`: clusters, textures and surfaces are not supported")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    // ---- modifiers

    /// The space of an access; refuses the shared memory of other blocks.
    pub fn space(&mut self, mods: &mut Mods<'_>) -> Result<Space> {
        if mods.flag("shared::cluster") {
            return Err(self.error(true, "shared memory of a cluster"));
        }
        Ok(mods.one_of(SPACES)?.unwrap_or(Space::Generic))
    }

    /// Cache operators, eviction and prefetch hints.
    pub fn hints(&mut self, mods: &mut Mods<'_>, operators: &[&str], weak: bool) -> Result<Hints> {
        let operator = mods.choose(|m| operators.iter().find(|o| **o == m).map(|o| o.to_string()))?;
        let level1 = mods.choose(|m| {
            let hints = ["evict_normal", "evict_unchanged", "evict_first", "evict_last", "no_allocate"];
            m.strip_prefix("L1::").filter(|h| hints.contains(h)).map(str::to_string)
        })?;
        let level2 = mods.choose(|m| {
            let hints = ["evict_normal", "evict_first", "evict_last"];
            m.strip_prefix("L2::").filter(|h| hints.contains(h)).map(str::to_string)
        })?;
        mods.choose(|m| m.strip_prefix("L2::").filter(|h| ["64B", "128B", "256B"].contains(h)).map(|_| ()))?;
        let policy = mods.flag("L2::cache_hint");
        if let (Some(operator), true) = (&operator, level1.is_some() || level2.is_some()) {
            return Err(self.wrong_here(&format!("both `.{operator}` and an eviction priority")));
        }
        if let (Some(operator), false) = (&operator, weak) {
            return Err(self.wrong_here(&format!("cache operator `.{operator}` on an access that is not weak")));
        }
        Ok(Hints { policy })
    }

    /// `.weak .volatile .relaxed .acquire .release .mmio` and their scopes.
    fn order(&mut self, mods: &mut Mods<'_>, load: bool, space: Space) -> Result<(Order, Scope)> {
        let mmio = mods.flag("mmio");
        let choices = [
            ("weak", Order::Weak),
            ("volatile", Order::Volatile),
            ("relaxed", Order::Relaxed),
            ("acquire", Order::Acquire),
            ("release", Order::Release),
        ];
        let order = mods.one_of(&choices)?;
        let scope = mods.one_of(SCOPES)?;
        let wrong = match (order, scope) {
            (Some(order), _) if order != Order::Weak && matches!(space, Space::Local | Space::Const | Space::Param) => {
                Some("an ordered access to memory that no other thread writes")
            }
            (Some(Order::Acquire), _) if !load => Some("`.acquire` on a store"),
            (Some(Order::Release), _) if load => Some("`.release` on a load"),
            (Some(Order::Relaxed | Order::Acquire | Order::Release), None) => Some("an ordered access without a scope"),
            (None | Some(Order::Weak | Order::Volatile), Some(_)) => {
                Some("a scope without `.relaxed`, `.acquire` or `.release`")
            }
            (order, scope) if mmio && (order, scope) != (Some(Order::Relaxed), Some(Scope::Sys)) => {
                Some("`.mmio` without `.relaxed.sys`")
            }
            _ => None,
        };
        match wrong {
            Some(what) => Err(self.wrong_here(what)),
            None => Ok((order.unwrap_or(Order::Weak), scope.unwrap_or(Scope::Cta))),
        }
    }

    fn vector(&mut self, mods: &mut Mods<'_>) -> Result<u32> {
        Ok(mods.one_of(&[("v2", 2), ("v4", 4), ("v8", 8)])?.unwrap_or(1))
    }

    fn memory_type(&mut self, mods: &mut Mods<'_>, count: u32) -> Result<Ty> {
        let ty = mods.ty()?;
        if matches!(ty, Ty::Pred | Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2) {
            return Err(self.wrong_here(&format!("memory access of type {}", types::name(ty))));
        }
        if ty.bytes() * count > 32 || (ty.bytes() * count > 16 && ty.bytes() < 4) || (ty == Ty::B128 && count > 1) {
            return Err(self.wrong_here(&format!("a vector of {count} {}", types::name(ty))));
        }
        Ok(ty)
    }

    /// The registers of a vector operand, all of one width.
    fn elements(&mut self, operand: &Operand, count: u32) -> Result<Vec<Operand>> {
        let elements = match operand {
            Operand::Vector(elements) => elements.clone(),
            Operand::Name(name) if count > 1 => match self.resolve(name) {
                Resolved::Entry(Entry::Vector { count: n, .. }) => {
                    (0..n as u8).map(|c| Operand::Component(name.clone(), c)).collect()
                }
                _ => vec![operand.clone()],
            },
            other => vec![other.clone()],
        };
        if elements.len() != count as usize {
            return Err(self.wrong_here(&format!("{} registers for a vector of {count}", elements.len())));
        }
        let mut first = None;
        for element in &elements {
            if let Some(ty) = self.type_of(element) {
                let width = ty.bytes();
                if *first.get_or_insert(width) != width {
                    return Err(self.wrong_here("registers of different widths in one vector"));
                }
            }
        }
        Ok(elements)
    }

    // ---- ld, st

    /// The `.param` cell that an address names, where it is a register.
    fn cell_of(&mut self, operand: &Operand) -> Option<(u32, u64)> {
        let Operand::Address { base: Base::Name(name), offset } = operand else { return None };
        match self.resolve(name) {
            Resolved::Entry(Entry::Store(store)) if !self.plan.framed.contains(&store) => Some((store, *offset as u64)),
            _ => None,
        }
    }

    fn load(&mut self, instr: &'a Instr, base: &str) -> Result<()> {
        let mut mods = Mods::new(instr);
        let space = self.space(&mut mods)?;
        let (order, scope) = self.order(&mut mods, true, space)?;
        let nc = mods.flag("nc") || base == "ldu";
        let hints = self.hints(&mut mods, &["ca", "cg", "cs", "lu", "cv"], order == Order::Weak)?;
        let count = self.vector(&mut mods)?;
        mods.flag("unified");
        let ty = self.memory_type(&mut mods, count)?;
        mods.finish()?;
        if nc && (order != Order::Weak || !matches!(space, Space::Global | Space::Generic)) {
            return Err(self.wrong_here("a non-coherent load that is ordered or not from global memory"));
        }
        operand_count(instr, if hints.policy { &[3] } else { &[2] })?;
        if hints.policy {
            self.src(&instr.operands[2], Ty::B64)?;
        }
        let elements = self.elements(&instr.operands[0], count)?;
        if count == 1 && elements[0] == Operand::Sink {
            return Err(self.wrong_here("`_` as the only destination"));
        }
        self.check_cell(&instr.operands[1], ty.bytes() * count)?;
        let address = self.address_of(&instr.operands[1], space)?;
        let mut regs = Vec::with_capacity(elements.len());
        let mut width = 4;
        let mut narrow = false;
        for (k, element) in elements.iter().enumerate() {
            if *element == Operand::Sink {
                regs.push(NO_ROW);
                continue;
            }
            let (row, bytes) = self.dst_wide(element, ty)?;
            narrow |= ty == Ty::S8 && bytes == 2;
            let bytes = bytes.max(4);
            width = bytes;
            regs.push(row);
            if let Target::Cell(store, offset) = &address {
                let from = self.cell(*store, offset + u64::from(ty.bytes()) * k as u64, ty.bytes());
                if bytes != ty.bytes() {
                    self.next.insert(*store);
                }
                if let Some(from) = from {
                    let a = self.read(from);
                    self.flow_copy(element, from, false);
                    self.copy(row, a, bytes / 4);
                }
            }
        }
        let Target::Memory(address) = address else { return Ok(()) };
        let space = address.space.unwrap_or(space);
        if let (Space::Param, Operand::Address { base: Base::Name(name), offset }) = (space, &instr.operands[1])
            && let Resolved::Entry(Entry::Param(n)) = self.resolve(name)
        {
            let bytes = i64::from(self.params[n].bytes);
            if *offset < 0 || offset + i64::from(ty.bytes() * count) > bytes {
                self.note(format!("read beyond the {bytes} bytes of parameter `{name}`"));
            }
        }
        let reg_bytes = if narrow { 2 } else { width };
        let access = Access {
            signed: ty.signed(),
            order,
            scope,
            nc,
            ..access(space, ty.bytes(), count, reg_bytes, regs, &address)
        };
        self.emit_access(Op::Load, access, &address);
        Ok(())
    }

    fn store(&mut self, instr: &'a Instr) -> Result<()> {
        if instr.op.get(1).is_some_and(|m| m == "async" || m == "bulk") {
            return Err(self.error(true, &format!("`{}`: clusters are not supported", instr.op.join("."))));
        }
        let mut mods = Mods::new(instr);
        let space = self.space(&mut mods)?;
        let (order, scope) = self.order(&mut mods, false, space)?;
        let hints = self.hints(&mut mods, &["wb", "cg", "cs", "wt"], order == Order::Weak)?;
        let count = self.vector(&mut mods)?;
        let ty = self.memory_type(&mut mods, count)?;
        mods.finish()?;
        operand_count(instr, if hints.policy { &[3] } else { &[2] })?;
        if hints.policy {
            self.src(&instr.operands[2], Ty::B64)?;
        }
        if space == Space::Const {
            return Err(self.wrong_here("a store to constant memory"));
        }
        let elements = self.elements(&instr.operands[1], count)?;
        self.check_cell(&instr.operands[0], ty.bytes() * count)?;
        let address = self.address_of(&instr.operands[0], space)?;
        let mut values: Vec<(RowId, u32)> = Vec::with_capacity(elements.len());
        for element in &elements {
            values.push(self.src_wide(element, ty)?);
        }
        let address = match address {
            Target::Memory(address) => address,
            Target::Cell(store, offset) => {
                for (k, (a, bytes)) in values.into_iter().enumerate() {
                    if bytes != ty.bytes() {
                        self.next.insert(store);
                    }
                    if let Some(cell) = self.cell(store, offset + u64::from(ty.bytes()) * k as u64, ty.bytes()) {
                        let d = self.write(cell);
                        self.flow_copy(&elements[k], cell, true);
                        self.copy(d, a, types::rows(ty));
                    }
                }
                return Ok(());
            }
        };
        let space = address.space.unwrap_or(space);
        if space == Space::Param {
            return Err(self.wrong_here("a store to a parameter of the kernel"));
        }
        // Constants among registers that are wider than the type have its width, so a common one is found for all.
        let width = values.iter().map(|v| v.1).max().unwrap_or(4);
        let mut regs = Vec::with_capacity(values.len());
        for ((row, bytes), element) in values.into_iter().zip(&elements) {
            regs.push(if bytes == width {
                row
            } else {
                let wider = if width == 8 { Ty::B64 } else { Ty::B32 };
                self.src_wide(element, wider)?.0
            });
        }
        let access = Access { order, scope, ..access(space, ty.bytes(), count, width, regs, &address) };
        self.emit_access(Op::Store, access, &address);
        Ok(())
    }

    /// `bytes` bytes at a `.param` variable of the body must lie inside it.
    fn check_cell(&mut self, operand: &Operand, bytes: u32) -> Result<()> {
        let Operand::Address { base: Base::Name(name), offset } = operand else { return Ok(()) };
        if let Resolved::Entry(Entry::Store(store)) = self.resolve(name) {
            let has = self.stores[store as usize].bytes;
            let end = u64::try_from(*offset).ok().and_then(|o| o.checked_add(u64::from(bytes)));
            if end.is_none_or(|end| end > has) {
                return Err(self.wrong_here(&format!("{bytes} bytes at {offset} of `{name}`, which has {has} bytes")));
            }
        }
        Ok(())
    }

    /// An address, or the registers that stand for a `.param` variable.
    fn address_of(&mut self, operand: &Operand, space: Space) -> Result<Target> {
        if matches!(space, Space::Param | Space::Generic)
            && let Some((store, offset)) = self.cell_of(operand)
        {
            return Ok(Target::Cell(store, offset));
        }
        let mut address = self.address(operand, space)?;
        if space == Space::Param && address.space.is_none() && !self.calls.is_empty() {
            // The address of a parameter of a function is one in its frame.
            address.space = Some(Space::Local);
        }
        Ok(Target::Memory(address))
    }

    /// Appends the instruction of an access.
    pub fn emit_access(&mut self, op: Op, access: Access, address: &Address) {
        let class = match (access.space, op) {
            (Space::Shared, _) => Class::Shared,
            (Space::Local, _) => Class::Local,
            (Space::Const | Space::Param, _) => Class::Const,
            (_, Op::Load) => Class::LoadGlobal,
            (_, Op::Atom) => Class::AtomGlobal,
            _ => Class::StoreGlobal,
        };
        let x = self.access(access);
        self.push(Ins { a: address.row, imm: address.offset, x, ..Ins::machine(op, class) });
    }

    // ---- hints

    fn hint(&mut self, instr: &'a Instr, base: &str) -> Result<()> {
        let mut mods = Mods::new(instr);
        if mods.flag("tensormap") {
            return Err(self.error(true, "tensor maps"));
        }
        let space = self.space(&mut mods)?;
        let level = ["L1", "L2", "L2::evict_last", "L2::evict_normal"];
        let found = mods.choose(|m| level.iter().find(|l| **l == m).map(|_| ()))?;
        mods.finish()?;
        if found.is_none() {
            return Err(self.wrong_here(&format!("`{base}` without a cache level")));
        }
        operand_count(instr, if base == "applypriority" || base == "discard" { &[2] } else { &[1] })?;
        self.address(&instr.operands[0], space)?;
        if let Some(size) = instr.operands.get(1)
            && self.imm(size)? != 128
        {
            return Err(self.wrong_here("a size other than 128"));
        }
        self.plain(Op::Nop, Class::Other);
        Ok(())
    }

    /// `createpolicy`: a policy has no meaning here and is 0.
    fn policy(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        mods.one_of(&[("fractional", ()), ("range", ()), ("cvt", ())])?;
        mods.flag("L2");
        mods.flag("global");
        while mods.left().is_some_and(|m| m.starts_with("L2::evict_")) {
            let name = mods.left().unwrap_or_default();
            mods.flag(name);
        }
        mods.expect("b64")?;
        mods.finish()?;
        operand_count(instr, &[1, 2, 3, 4])?;
        let d = self.dst(&instr.operands[0], Ty::B64)?;
        self.special_into(Special::Zero, Ty::U64, d);
        Ok(())
    }

    // ---- addresses

    fn convert_address(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        let to = mods.flag("to");
        let space = self.space(&mut mods)?;
        let ty = mods.ty()?;
        mods.finish()?;
        operand_count(instr, &[2])?;
        if space == Space::Generic {
            return Err(self.wrong_here("`cvta` without a space"));
        }
        if ty != Ty::U64 {
            return Err(self.error(true, "32-bit generic addresses"));
        }
        if let Operand::Name(name) | Operand::NameOffset(name, _) = &instr.operands[1]
            && let Resolved::Entry(entry) = self.resolve(name)
        {
            let has = match entry {
                Entry::Var(_, has) => Some(has),
                Entry::Param(_) => Some(Space::Param),
                // The address of a function's parameter is one in its frame.
                Entry::Store(_) => Some(if space == Space::Local { Space::Local } else { Space::Param }),
                _ => None,
            };
            if to && has.is_some() {
                return Err(self.wrong_here(&format!("`{name}` is no generic address")));
            }
            if let Some(has) = has.filter(|h| *h != space) {
                let (has, space) = (has.name(), space.name());
                return Err(self.wrong_here(&format!("`{name}` is in .{has}, not in .{space}")));
            }
        }
        let a = self.src(&instr.operands[1], Ty::U64)?;
        let d = self.dst(&instr.operands[0], Ty::U64)?;
        let space = if space == Space::Param && !self.calls.is_empty() { Space::Local } else { space };
        // Global addresses are generic ones.
        let class = if space == Space::Global { Class::Mov } else { Class::Int64 };
        self.push(Ins { a, d, x: space as u32, imm: i64::from(to), ..Ins::machine(Op::Cvta, class) });
        Ok(())
    }

    fn is_space(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        let space = self.space(&mut mods)?;
        mods.finish()?;
        operand_count(instr, &[2])?;
        if space == Space::Generic {
            return Err(self.wrong_here("`isspacep` without a space"));
        }
        let a = self.src(&instr.operands[1], Ty::U64)?;
        let d = self.pred_dst(&instr.operands[0])?;
        self.push(Ins { a, d, x: space as u32, ..Ins::machine(Op::Isspacep, Class::Pred) });
        Ok(())
    }

    fn fence(&mut self, instr: &'a Instr, base: &str) -> Result<()> {
        let mut mods = Mods::new(instr);
        if base == "fence"
            && instr.op.iter().any(|m| m == "proxy" || m.starts_with("mbarrier_init") || m.starts_with("sync_restrict"))
        {
            return Err(self.error(true, &format!("`{}`: the asynchronous proxy and clusters", instr.op.join("."))));
        }
        let scope = if base == "membar" {
            mods.need(&[("cta", Scope::Cta), ("gl", Scope::Gpu), ("sys", Scope::Sys)])?
        } else {
            mods.one_of(&[("sc", ()), ("acq_rel", ()), ("acquire", ()), ("release", ())])?;
            mods.need(SCOPES)?
        };
        mods.finish()?;
        operand_count(instr, &[0])?;
        self.push(Ins { x: scope as u32, d: 1, ..Ins::machine(Op::Fence, Class::Barrier) });
        Ok(())
    }

    /// A row that a `.b64` cache policy may come from; checked, then ignored.
    pub fn cache_policy(&mut self, operand: &Operand) -> Result<()> {
        match operand {
            Operand::Name(_) => self.src(operand, Ty::B64).map(|_| ()),
            other => Err(self.wrong_here(&format!("{} where a cache policy should be", describe(other)))),
        }
    }
}

/// What an access goes to.
enum Target {
    Memory(Address),
    /// Registers that stand for a `.param` variable: its number, and the offset.
    Cell(u32, u64),
}

/// A weak access.
pub(super) fn access(
    space: Space,
    width: u32,
    count: u32,
    reg_bytes: u32,
    regs: Vec<RowId>,
    address: &Address,
) -> Access {
    Access {
        space,
        width,
        count,
        signed: false,
        reg_bytes,
        regs,
        results: Vec::new(),
        order: Order::Weak,
        scope: Scope::Cta,
        nc: false,
        atom: None,
        wide: address.wide,
        offset2: 0,
    }
}
