//! Operands to rows: [`Operands`] for the tables of forms, and addresses.

use super::context::{Context, Place, Resolved};
use super::image::convert;
use super::moves;
use super::names::{Entry, RegId};
use super::operands::{LowerError, Operands, Result};
use super::special::special;
use super::types;
use crate::vgpu::ir::{FALSE, Ins, Options, PSINK, PredId, RowId, Special, TRUE, window};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Base, Imm, Operand, Space, Ty};

/// An address operand: base row, its width, and what is added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub row: RowId,
    pub wide: bool,
    pub offset: i64,
    /// The space of the variable that the address names; `None` for registers and numbers.
    pub space: Option<Space>,
}

impl<'a> Context<'a> {
    /// The register behind an operand, or what else it is.
    pub fn register(&mut self, operand: &Operand) -> Result<std::result::Result<RegId, Resolved<'a>>> {
        match operand {
            Operand::Name(name) => Ok(match self.resolve(name) {
                Resolved::Entry(Entry::Reg(id)) => Ok(id),
                Resolved::Nothing => return Err(self.unknown(name)),
                other => Err(other),
            }),
            Operand::Component(name, c) => match self.resolve(name) {
                Resolved::Entry(Entry::Vector { first, count }) if u32::from(*c) < count => {
                    Ok(Ok(first + u32::from(*c)))
                }
                Resolved::Nothing => match special(name, Some(*c)) {
                    Some((register, ty)) => Ok(Err(Resolved::Special(register, ty))),
                    None => Err(self.unknown(name)),
                },
                _ => Err(self.wrong_here(&format!("`{name}` has no component {c}"))),
            },
            other => Err(self.wrong_here(&format!("{} where a register should be", describe(other)))),
        }
    }

    /// The special register behind an operand, if it is one.
    pub fn special_operand(&mut self, operand: &Operand) -> Option<(Special, Ty)> {
        match self.register(operand) {
            Ok(Err(Resolved::Special(register, ty))) => Some((register, ty)),
            _ => None,
        }
    }

    fn mismatch(&self, reg: RegId, ty: Ty) -> LowerError {
        let reg = &self.regs[reg as usize];
        self.wrong_here(&format!(
            "register `{}` of type {} where {} should be",
            reg.name,
            types::name(reg.ty),
            types::name(ty)
        ))
    }

    /// A source that may be wider than `ty` where `relaxed`; its row and width in bytes.
    fn source(&mut self, operand: &Operand, ty: Ty, relaxed: bool) -> Result<(RowId, u32)> {
        let width = types::rows(ty) * 4;
        match operand {
            Operand::Imm(imm) => match convert(*imm, ty) {
                Some(bits) => Ok((self.constant_row(bits, width == 8), width)),
                None => Err(self.wrong_here(&format!("constant where {} should be", types::name(ty)))),
            },
            Operand::NameOffset(name, offset) => match self.resolve(name) {
                Resolved::Entry(entry) => Ok((self.entry_address(entry, name, *offset, ty)?, width)),
                Resolved::Nothing => Err(self.unknown(name)),
                _ => Err(self.wrong_here(&format!("`{name}` has no address"))),
            },
            Operand::Index(..) => {
                let (name, offset) = self.element(operand)?;
                self.source(&Operand::NameOffset(name, offset), ty, relaxed)
            }
            Operand::Name(_) | Operand::Component(..) => match self.register(operand)? {
                Ok(reg) => {
                    let has = self.regs[reg as usize].ty;
                    if !(types::agrees(ty, has) || (relaxed && types::agrees_wide(ty, has))) {
                        return Err(self.mismatch(reg, ty));
                    }
                    Ok((self.read(reg), types::rows(has) * 4))
                }
                Err(Resolved::Special(register, has)) => Ok((self.special_source(register, has, ty)?, width)),
                Err(Resolved::WarpSize) => match convert(Imm::Int(32), ty) {
                    Some(bits) => Ok((self.constant_row(bits, width == 8), width)),
                    None => Err(self.wrong_here("WARP_SZ is an integer")),
                },
                Err(Resolved::Entry(Entry::Vector { .. })) => {
                    Err(self.wrong_here("a vector register where a scalar should be"))
                }
                Err(Resolved::Entry(entry)) => {
                    let name = if let Operand::Name(name) = operand { name.as_str() } else { "" };
                    Ok((self.entry_address(entry, name, 0, ty)?, width))
                }
                Err(Resolved::Nothing) => Err(self.wrong_here("unknown name")),
            },
            other => Err(self.wrong_here(&format!("{} where a value should be", describe(other)))),
        }
    }

    fn special_source(&mut self, register: Special, has: Ty, ty: Ty) -> Result<RowId> {
        // 16-bit reads of 32-bit special registers are legacy, but allowed.
        let narrow = ty.bytes() == 2 && has == Ty::U32 && !types::float(ty);
        if has == Ty::Pred || (!types::agrees(ty, has) && !narrow) {
            let what = format!("special register of type {} where {} should be", types::name(has), types::name(ty));
            return Err(self.wrong_here(&what));
        }
        let row = self.scratch_rows(types::rows(has));
        self.special_into(register, has, row);
        if narrow {
            self.push(Ins { d: row, a: row, ..Ins::row(moves::cut16, Class::Mov) });
        }
        Ok(row)
    }

    /// The address of a variable as a value.
    fn entry_address(&mut self, entry: Entry<'a>, name: &str, offset: i64, ty: Ty) -> Result<RowId> {
        let wide = ty.bytes() == 8;
        if types::float(ty) || !(wide || ty.bytes() == 4) {
            return Err(self.wrong_here(&format!("the address of `{name}` does not fit {}", types::name(ty))));
        }
        let (place, space) = match entry {
            Entry::Var(var, space) => (self.place(var, space)?, space),
            Entry::Param(n) => (Place::Fixed(u64::from(self.params[n].offset)), Space::Param),
            Entry::Store(store) => {
                self.next.insert(store);
                (Place::Fixed(self.store_place(store)?), Space::Local)
            }
            Entry::Func(_) => {
                let mut error = self.error(true, &format!("the address of function `{name}`"));
                error.hint = "indirect calls are not supported".into();
                return Err(error);
            }
            _ => return Err(self.wrong_here(&format!("`{name}` is no value"))),
        };
        if space == Space::Global && !wide {
            return Err(self.wrong_here(&format!("the 64-bit address of `{name}` does not fit {}", types::name(ty))));
        }
        Ok(self.address_row(place, space, offset, wide, false))
    }

    /// The local address of a `.param` variable that is memory.
    pub fn store_place(&mut self, store: u32) -> Result<u64> {
        let s = &self.stores[store as usize];
        let offset = match s.place {
            Some(offset) => offset,
            None => {
                let (name, bytes, align) = (s.name.clone(), s.bytes, s.align);
                let offset = self.frame(&name, bytes, align)?;
                self.stores[store as usize].place = Some(offset);
                offset
            }
        };
        Ok(u64::from(window::LOCAL_BASE) + u64::from(offset))
    }

    /// The register that holds `bytes` bytes at `offset` of a `.param` variable, or `None` where the variable is memory.
    pub fn cell(&mut self, store: u32, offset: u64, bytes: u32) -> Option<RegId> {
        if self.plan.framed.contains(&store) {
            return None;
        }
        let s = &self.stores[store as usize];
        if let Some(cell) = s.cells.iter().find(|c| c.0 == offset && c.1 == bytes) {
            return Some(cell.2);
        }
        let clash = s.cells.iter().any(|c| c.0 < offset + u64::from(bytes) && offset < c.0 + u64::from(c.1));
        if clash || !matches!(bytes, 4 | 8 | 16) || s.cells.len() >= 64 {
            self.next.insert(store);
        }
        let name = format!("{}+{offset}", s.name);
        let ty = match bytes {
            8 => Ty::B64,
            16 => Ty::B128,
            _ => Ty::B32,
        };
        let reg = self.new_reg(name, ty);
        self.stores[store as usize].cells.push((offset, bytes, reg));
        Some(reg)
    }

    /// `name[3]` as a name and bytes: the index counts elements.
    fn element(&mut self, operand: &Operand) -> Result<(String, i64)> {
        let Operand::Index(name, register, index) = operand else {
            return Err(self.wrong_here(&format!("{} where an element should be", describe(operand))));
        };
        if register.is_some() {
            return Err(self.error(true, &format!("an element of `{name}` by register")));
        }
        let Resolved::Entry(Entry::Var(var, _)) = self.resolve(name) else {
            return Err(self.wrong_here(&format!("`{name}` is no array")));
        };
        let bytes = i64::from(var.ty.bytes()) * i64::from(var.vec.max(1));
        Ok((name.clone(), index.wrapping_mul(bytes)))
    }

    /// An address operand for an access to `space`.
    pub fn address(&mut self, operand: &Operand, space: Space) -> Result<Address> {
        if matches!(operand, Operand::Index(..)) {
            let (name, offset) = self.element(operand)?;
            return self.address(&Operand::Address { base: Base::Name(name), offset }, space);
        }
        let Operand::Address { base, offset } = operand else {
            return Err(self.wrong_here(&format!("{} where an address `[..]` should be", describe(operand))));
        };
        let offset = *offset;
        let name = match base {
            Base::Absolute => {
                let wide = matches!(space, Space::Global | Space::Generic);
                return Ok(Address { row: self.constant_row(offset as u64, wide), wide, offset: 0, space: None });
            }
            Base::Name(name) => name,
        };
        let entry = match self.resolve(name) {
            Resolved::Entry(entry) => entry,
            Resolved::Nothing => return Err(self.unknown(name)),
            _ => return Err(self.wrong_here(&format!("`{name}` is no address"))),
        };
        match entry {
            Entry::Reg(reg) => {
                let ty = self.regs[reg as usize].ty;
                if types::float(ty) || !matches!(ty.bytes(), 4 | 8) || ty == Ty::Pred {
                    return Err(self.mismatch(reg, Ty::U64));
                }
                if matches!(space, Space::Global | Space::Generic) {
                    self.flows.addresses.push(reg);
                    self.lint_generic(space, reg);
                }
                Ok(Address { row: self.read(reg), wide: ty.bytes() == 8, offset, space: None })
            }
            Entry::Var(var, has) => {
                if space != has && space != Space::Generic {
                    let (has, asked) = (has.name(), space.name());
                    return Err(self.wrong_here(&format!("`{name}` is in .{has}, the access is to .{asked}")));
                }
                let place = self.place(var, has)?;
                let wide = has == Space::Global;
                Ok(Address { row: self.address_row(place, has, 0, wide, false), wide, offset, space: Some(has) })
            }
            Entry::Param(n) => {
                if space != Space::Param && space != Space::Generic {
                    return Err(
                        self.wrong_here(&format!("`{name}` is a parameter, the access is to .{}", space.name()))
                    );
                }
                let start = i64::from(self.params[n].offset);
                Ok(Address {
                    row: self.constant_row(0, false),
                    wide: false,
                    offset: start + offset,
                    space: Some(Space::Param),
                })
            }
            Entry::Store(store) => {
                if !matches!(space, Space::Param | Space::Local | Space::Generic) {
                    return Err(self.wrong_here(&format!("`{name}` is in .param, the access is to .{}", space.name())));
                }
                self.next.insert(store);
                let start = self.store_place(store)?;
                Ok(Address { row: self.constant_row(start, false), wide: false, offset, space: Some(Space::Local) })
            }
            _ => Err(self.wrong_here(&format!("`{name}` is no address"))),
        }
    }

    /// The type of the register that an operand names, if it names one.
    pub fn type_of(&mut self, operand: &Operand) -> Option<Ty> {
        match operand {
            Operand::Name(_) | Operand::Component(..) => {
                let reg = self.register(operand).ok()?.ok()?;
                Some(self.regs[reg as usize].ty)
            }
            _ => None,
        }
    }

    fn destination(&mut self, operand: &Operand, ty: Ty, relaxed: bool) -> Result<(RowId, u32)> {
        if *operand == Operand::Sink {
            return Ok((self.scratch_rows(types::rows(ty)), ty.bytes()));
        }
        match self.register(operand)? {
            Ok(reg) => {
                let has = self.regs[reg as usize].ty;
                if !(types::agrees(ty, has) || (relaxed && types::agrees_wide(ty, has))) {
                    return Err(self.mismatch(reg, ty));
                }
                Ok((self.write(reg), has.bytes()))
            }
            Err(_) => Err(self.wrong_here(&format!("{} is no register that can be written", describe(operand)))),
        }
    }
}

impl Operands for Context<'_> {
    fn src(&mut self, operand: &Operand, ty: Ty) -> Result<RowId> {
        Ok(self.source(operand, ty, false)?.0)
    }

    fn src_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)> {
        self.source(operand, ty, true)
    }

    fn dst(&mut self, operand: &Operand, ty: Ty) -> Result<RowId> {
        Ok(self.destination(operand, ty, false)?.0)
    }

    fn dst_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)> {
        self.destination(operand, ty, true)
    }

    fn pred(&mut self, operand: &Operand) -> Result<(PredId, bool)> {
        let (name, negated) = match operand {
            Operand::Imm(Imm::Int(v)) => return Ok((if *v == 0 { FALSE } else { TRUE }, false)),
            Operand::Not(name) => (Operand::Name(name.clone()), true),
            other => (other.clone(), false),
        };
        match self.register(&name)? {
            Ok(reg) if self.regs[reg as usize].ty == Ty::Pred => Ok((self.read(reg), negated)),
            Ok(reg) => Err(self.mismatch(reg, Ty::Pred)),
            Err(Resolved::Special(Special::Zero, Ty::Pred)) => Ok((FALSE, negated)),
            Err(_) => Err(self.wrong_here(&format!("{} where a predicate should be", describe(operand)))),
        }
    }

    fn pred_dst(&mut self, operand: &Operand) -> Result<PredId> {
        if *operand == Operand::Sink {
            return Ok(PSINK);
        }
        match self.register(operand)? {
            Ok(reg) if self.regs[reg as usize].ty == Ty::Pred => Ok(self.write(reg)),
            Ok(reg) => Err(self.mismatch(reg, Ty::Pred)),
            Err(_) => Err(self.wrong_here(&format!("{} where a predicate register should be", describe(operand)))),
        }
    }

    fn imm(&mut self, operand: &Operand) -> Result<i64> {
        match operand {
            Operand::Imm(Imm::Int(v)) => Ok(*v),
            Operand::Name(name) if name == "WARP_SZ" => Ok(32),
            other => Err(self.wrong_here(&format!("{} where an integer constant should be", describe(other)))),
        }
    }

    fn constant(&mut self, bits: u64, wide: bool) -> RowId {
        self.constant_row(bits, wide)
    }

    fn scratch(&mut self, rows: u32) -> RowId {
        self.scratch_rows(rows)
    }

    fn scratch_pred(&mut self) -> PredId {
        self.scratch_predicate()
    }

    fn list(&mut self, entries: &[u16]) -> u32 {
        let first = self.lists.len() as u32;
        self.lists.extend_from_slice(entries);
        first
    }

    fn options(&self) -> &Options {
        self.options
    }

    fn lint(&mut self, text: String) {
        self.note(text);
    }

    fn wrong(&self, what: String) -> LowerError {
        self.error(false, &what)
    }

    fn unsupported(&self, what: String) -> LowerError {
        self.error(true, &what)
    }
}

/// An operand in words, for errors.
pub(super) fn describe(operand: &Operand) -> String {
    match operand {
        Operand::Name(name) | Operand::NameOffset(name, _) | Operand::Component(name, _) => format!("`{name}`"),
        Operand::Imm(_) => "a constant".into(),
        Operand::Address { .. } => "an address".into(),
        Operand::Vector(_) => "a vector".into(),
        Operand::Sink => "`_`".into(),
        Operand::Not(name) => format!("`!{name}`"),
        Operand::Pair(..) => "a pair `d|p`".into(),
        Operand::Tuple(_) => "a list `(..)`".into(),
        Operand::Selector(name, part) => format!("`{name}.{part}`"),
        Operand::Neg(inner) => format!("the negative of {}", describe(inner)),
        Operand::Index(name, ..) => format!("an element of `{name}`"),
        Operand::Bracket(_) => "coordinates `[..]`".into(),
    }
}
