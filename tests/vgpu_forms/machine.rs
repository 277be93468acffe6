//! Lowers one instruction and runs it on rows.

use std::collections::HashMap;

use earlybird::vgpu::ir::{CARRY, FALSE, FIRST_PRED, File, Ins, Isa, Options, PSINK, PredId, Row, RowId, TRUE};
use earlybird::vgpu::lower::forms;
use earlybird::vgpu::lower::operands::{LowerError, Operands, Result};
use earlybird::vgpu::ptx::ast::{Imm, Instr, Operand, Pos, Ty};

use crate::Kind;

/// Registers of a program of a few instructions.
pub struct Machine {
    pub options: Options,
    regs: HashMap<String, (u16, Kind)>,
    rows: Vec<Row>,
    preds: Vec<u32>,
    lists: Vec<u16>,
}

impl Machine {
    pub fn new(isa: Isa) -> Machine {
        let mut preds = vec![0; FIRST_PRED as usize];
        preds[TRUE as usize] = u32::MAX;
        let options = Options { isa, ..Options::default() };
        Machine { options, regs: HashMap::new(), rows: Vec::new(), preds, lists: Vec::new() }
    }

    /// Declares a register with its values by lane.
    pub fn reg(&mut self, name: &str, kind: Kind, values: &[u128; 32]) {
        let id = match kind {
            Kind::Pred => {
                self.preds.push(0);
                self.preds.len() - 1
            }
            Kind::Bits(w) => self.fresh(w.div_ceil(32).max(1)) as usize,
        };
        self.regs.insert(name.into(), (id as u16, kind));
        self.set(name, values);
    }

    fn fresh(&mut self, rows: u32) -> RowId {
        let first = self.rows.len();
        self.rows.extend((0..rows).map(|_| Row([0; 32])));
        first as RowId
    }

    pub fn set(&mut self, name: &str, values: &[u128; 32]) {
        let (id, kind) = self.regs[name];
        let id = id as usize;
        match kind {
            Kind::Pred => self.preds[id] = (0..32).fold(0, |p, l| p | (values[l] as u32 & 1) << l),
            Kind::Bits(w) => {
                let words = w.div_ceil(32).max(1) as usize;
                for (lane, value) in values.iter().enumerate() {
                    for word in 0..words {
                        let at = lane * words + word;
                        self.rows[id + at / 32].0[at % 32] = (value >> (32 * word)) as u32;
                    }
                }
            }
        }
    }

    pub fn get(&self, name: &str) -> [u128; 32] {
        let (id, kind) = self.regs[name];
        let id = id as usize;
        std::array::from_fn(|lane| match kind {
            Kind::Pred => u128::from(self.preds[id] >> lane & 1),
            Kind::Bits(w) => {
                let words = w.div_ceil(32).max(1) as usize;
                (0..words).fold(0, |v, word| {
                    let at = lane * words + word;
                    v | u128::from(self.rows[id + at / 32].0[at % 32]) << (32 * word)
                })
            }
        })
    }

    pub fn set_carry(&mut self, bits: u32) {
        self.preds[CARRY as usize] = bits;
    }

    pub fn carry(&self) -> u32 {
        self.preds[CARRY as usize]
    }

    /// Lowers an instruction of the table.
    pub fn lower(&mut self, instr: &Instr) -> Result<Vec<Ins>> {
        match forms::lower(instr, self)? {
            Some(code) => Ok(code),
            None => Err(self.wrong(format!("{} is not in the table", instr.text))),
        }
    }

    /// Runs lowered code on the lanes of `mask`.
    pub fn run(&mut self, code: &[Ins], mask: u32) {
        for ins in code {
            let file =
                File { rows: self.rows.as_mut_ptr(), preds: self.preds.as_mut_ptr(), lists: self.lists.as_ptr() };
            // SAFETY: `ins` was lowered against this machine, so its rows, predicates and lists exist.
            unsafe { (ins.row)(&file, ins, mask) };
        }
    }

    fn find(&self, operand: &Operand, ty: Ty, relaxed: bool) -> Result<(RowId, u32)> {
        let Operand::Name(name) = operand else {
            return Err(self.wrong(format!("{operand:?} is no register")));
        };
        let Some(&(id, Kind::Bits(width))) = self.regs.get(name) else {
            return Err(self.wrong(format!("no register {name}")));
        };
        let want = ty.bytes() * 8;
        if width == want || (relaxed && width > want) {
            Ok((id, width / 8))
        } else {
            Err(self.wrong(format!("{name} has {width} bits, not {want}")))
        }
    }
}

impl Operands for Machine {
    fn src(&mut self, operand: &Operand, ty: Ty) -> Result<RowId> {
        if let Operand::Imm(Imm::Int(v)) = operand {
            let mask = if ty.bytes() >= 8 { u64::MAX } else { (1 << (8 * ty.bytes())) - 1 };
            return Ok(self.constant(*v as u64 & mask, ty.bytes() == 8));
        }
        self.find(operand, ty, false).map(|r| r.0)
    }

    fn src_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)> {
        self.find(operand, ty, true)
    }

    fn dst(&mut self, operand: &Operand, ty: Ty) -> Result<RowId> {
        if *operand == Operand::Sink {
            return Ok(self.scratch(ty.bytes().div_ceil(4)));
        }
        self.find(operand, ty, false).map(|r| r.0)
    }

    fn dst_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)> {
        self.find(operand, ty, true)
    }

    fn pred(&mut self, operand: &Operand) -> Result<(PredId, bool)> {
        let (name, negated) = match operand {
            Operand::Imm(Imm::Int(v)) => return Ok((if *v == 0 { FALSE } else { TRUE }, false)),
            Operand::Name(name) => (name, false),
            Operand::Not(name) => (name, true),
            other => return Err(self.wrong(format!("{other:?} is no predicate"))),
        };
        match self.regs.get(name) {
            Some((id, Kind::Pred)) => Ok((*id, negated)),
            _ => Err(self.wrong(format!("{name} is no predicate"))),
        }
    }

    fn pred_dst(&mut self, operand: &Operand) -> Result<PredId> {
        if *operand == Operand::Sink { Ok(PSINK) } else { self.pred(operand).map(|p| p.0) }
    }

    fn imm(&mut self, operand: &Operand) -> Result<i64> {
        match operand {
            Operand::Imm(Imm::Int(v)) => Ok(*v),
            other => Err(self.wrong(format!("{other:?} is no constant"))),
        }
    }

    fn constant(&mut self, bits: u64, wide: bool) -> RowId {
        let first = self.fresh(if wide { 2 } else { 1 });
        let words = if wide { 2 } else { 1 };
        for at in 0..32 * words {
            self.rows[first as usize + at / 32].0[at % 32] = (bits >> (32 * (at % words))) as u32;
        }
        first
    }

    fn scratch(&mut self, rows: u32) -> RowId {
        self.fresh(rows)
    }

    fn scratch_pred(&mut self) -> PredId {
        self.preds.push(0);
        self.preds.len() as PredId - 1
    }

    fn list(&mut self, entries: &[u16]) -> u32 {
        let first = self.lists.len();
        self.lists.extend_from_slice(entries);
        first as u32
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn lint(&mut self, text: String) {
        panic!("a hint that nobody asked for: {text}");
    }

    fn wrong(&self, what: String) -> LowerError {
        LowerError { pos: Pos { line: 1, col: 1 }, unsupported: false, what, hint: String::new() }
    }

    fn unsupported(&self, what: String) -> LowerError {
        LowerError { unsupported: true, ..self.wrong(what) }
    }
}

/// Reads an instruction of registers, constants, `!p`, `d|p`, `_` and `{..}` without the parser.
pub fn instr(text: &str) -> Instr {
    let (op, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut operands = Vec::new();
    let mut rest = rest.trim();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('{') {
            Some(_) => rest.find('}').unwrap() + 1,
            None => rest.find(',').unwrap_or(rest.len()),
        };
        operands.push(operand(rest[..end].trim()));
        rest = rest[end..].trim_start_matches([',', ' ']);
    }
    let op = op.split('.').map(String::from).collect();
    Instr { pos: Pos { line: 1, col: 1 }, text: text.into(), guard: None, op, operands }
}

fn operand(text: &str) -> Operand {
    if let Some(inside) = text.strip_prefix('{') {
        return Operand::Vector(inside.trim_end_matches('}').split(',').map(|o| operand(o.trim())).collect());
    }
    if let Some((d, p)) = text.split_once('|') {
        return Operand::Pair(Box::new(operand(d)), Box::new(operand(p)));
    }
    match (text, text.strip_prefix('!'), text.parse::<i64>()) {
        ("_", ..) => Operand::Sink,
        (_, Some(name), _) => Operand::Not(name.into()),
        (.., Ok(v)) => Operand::Imm(Imm::Int(v)),
        _ => Operand::Name(text.into()),
    }
}
