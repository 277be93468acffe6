//! `atom` and `red`.

use std::collections::HashSet;

use super::context::Context;
use super::memory::{SCOPES, access};
use super::modifiers::{Mods, operand_count};
use super::operands::{Operands, Result};
use super::types;
use crate::vgpu::ir::{Access, Atom, AtomTy, Ins, NO_ROW, Op, Order, Scope};
use crate::vgpu::ptx::ast::{Instr, Operand, Space, Ty};

const OPERATIONS: &[(&str, Atom)] = &[
    ("add", Atom::Add),
    ("min", Atom::Min),
    ("max", Atom::Max),
    ("inc", Atom::Inc),
    ("dec", Atom::Dec),
    ("and", Atom::And),
    ("or", Atom::Or),
    ("xor", Atom::Xor),
    ("exch", Atom::Exch),
    ("cas", Atom::Cas),
];

/// What an operation computes on, or `None` where the ISA has no such form.
fn operand_type(atom: Atom, ty: Ty) -> Option<AtomTy> {
    Some(match (atom, ty) {
        (Atom::Exch, Ty::B32 | Ty::B64 | Ty::B128) | (Atom::Cas, Ty::B16 | Ty::B32 | Ty::B64 | Ty::B128) => AtomTy::B,
        (Atom::And | Atom::Or | Atom::Xor, Ty::B32 | Ty::B64) => AtomTy::B,
        (Atom::Inc | Atom::Dec, Ty::U32) => AtomTy::U,
        (Atom::Add, Ty::U32 | Ty::U64) | (Atom::Min | Atom::Max, Ty::U32 | Ty::U64) => AtomTy::U,
        (Atom::Add, Ty::S32) | (Atom::Min | Atom::Max, Ty::S32 | Ty::S64) => AtomTy::S,
        (Atom::Add, Ty::F32) => AtomTy::F32,
        (Atom::Add, Ty::F64) => AtomTy::F64,
        (Atom::Add | Atom::Min | Atom::Max, Ty::F16) => AtomTy::F16,
        (Atom::Add | Atom::Min | Atom::Max, Ty::F16x2) => AtomTy::F16x2,
        (Atom::Add | Atom::Min | Atom::Max, Ty::Bf16) => AtomTy::Bf16,
        (Atom::Add | Atom::Min | Atom::Max, Ty::Bf16x2) => AtomTy::Bf16x2,
        _ => return None,
    })
}

impl<'a> Context<'a> {
    /// Lowers `atom` and `red`.
    pub fn atomic(&mut self, instr: &'a Instr, base: &str) -> Result<()> {
        if instr.op.get(1).is_some_and(|m| m == "async") {
            return Err(self.error(true, "`red.async`: clusters are not supported"));
        }
        let mut mods = Mods::new(instr);
        let order = mods.one_of(&[
            ("relaxed", Order::Relaxed),
            ("acquire", Order::Acquire),
            ("release", Order::Release),
            ("acq_rel", Order::AcqRel),
        ])?;
        let scope = mods.one_of(SCOPES)?.unwrap_or(Scope::Gpu);
        let space = self.space(&mut mods)?;
        if !matches!(space, Space::Global | Space::Shared | Space::Generic) {
            return Err(self.wrong_here("an atomic on memory that is neither global nor shared"));
        }
        let atom = mods.need(OPERATIONS)?;
        let noftz = mods.flag("noftz");
        let policy = mods.flag("L2::cache_hint");
        let count = mods.one_of(&[("v2", 2), ("v4", 4), ("v8", 8)])?.unwrap_or(1u32);
        let ty = mods.ty()?;
        mods.finish()?;
        let Some(kind) = operand_type(atom, ty) else {
            return Err(self.wrong_here(&format!(
                "no atomic `{}` on {}",
                format!("{atom:?}").to_lowercase(),
                types::name(ty)
            )));
        };
        if matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2) != noftz {
            return Err(self.wrong_here(if noftz {
                "`.noftz` on a type other than f16 and bf16"
            } else {
                "an f16 atomic without `.noftz`"
            }));
        }
        let red = base == "red";
        if red && matches!(atom, Atom::Exch | Atom::Cas) {
            return Err(self.wrong_here("`red` cannot exchange"));
        }
        let vector = count > 1;
        if vector && (!types::float(ty) || ty == Ty::F64 || ty.bytes() * count > 16 || space == Space::Shared) {
            return Err(self.wrong_here(&format!("no atomic on {count} {}", types::name(ty))));
        }
        let values = if atom == Atom::Cas { 2 } else { 1 };
        operand_count(instr, &[usize::from(!red) + 1 + values + usize::from(policy)])?;
        let mut operands = instr.operands.as_slice();
        let result = if red { None } else { operands.split_first().map(|(d, rest)| (d, operands = rest).0) };
        let address = self.address(&operands[0], space)?;
        let space = address.space.unwrap_or(space);
        let (sources, rest) = operands[1..].split_at(values);
        if let (Some(operand), true) = (rest.first(), policy) {
            self.cache_policy(operand)?;
        }
        let mut regs = Vec::with_capacity(4);
        for source in sources {
            for element in self.parts(source, count)? {
                regs.push(self.src(&element, ty)?);
            }
        }
        let mut results = Vec::new();
        let mut d = NO_ROW;
        if let Some(result) = result {
            for element in self.parts(result, count)? {
                results.push(self.dst(&element, ty)?);
            }
            if !vector {
                d = results.pop().unwrap_or(NO_ROW);
            }
            let ignored = *result == Operand::Sink;
            let used = self.events.last().filter(|e| e.write && !ignored).map(|e| e.reg);
            self.atomics.push((self.accesses.len() as u32, used));
        }
        let access = Access {
            results,
            order: order.unwrap_or(Order::Relaxed),
            scope,
            atom: Some((atom, kind)),
            signed: ty.signed(),
            ..access(space, ty.bytes(), count, types::rows(ty) * 4, regs, &address)
        };
        let class = if space == Space::Shared {
            crate::vgpu::prof::Class::Shared
        } else {
            crate::vgpu::prof::Class::AtomGlobal
        };
        let x = self.access(access);
        self.push(Ins { a: address.row, imm: address.offset, x, d, ..Ins::machine(Op::Atom, class) });
        Ok(())
    }

    fn parts(&mut self, operand: &Operand, count: u32) -> Result<Vec<Operand>> {
        match operand {
            Operand::Vector(parts) if parts.len() == count as usize => Ok(parts.clone()),
            other if count == 1 => Ok(vec![other.clone()]),
            _ => Err(self.wrong_here(&format!("no vector of {count} registers"))),
        }
    }

    /// Whether the result may depend on the order of blocks: atomics on memory that blocks share whose value is read, or that do not commute.
    pub fn ordered_atomics(&self) -> bool {
        let read: HashSet<u32> = self.events.iter().filter(|e| !e.write).map(|e| e.reg).collect();
        let used = self.atomics.iter().filter(|a| a.1.is_some_and(|reg| read.contains(&reg)));
        let used: HashSet<u32> = used.map(|a| a.0).collect();
        self.accesses.iter().enumerate().any(|(i, access)| {
            let Some((atom, ty)) = access.atom else { return false };
            let float = !matches!(ty, AtomTy::B | AtomTy::U | AtomTy::S);
            let order = float || matches!(atom, Atom::Exch | Atom::Cas) || used.contains(&(i as u32));
            order && access.space != Space::Shared
        })
    }
}
