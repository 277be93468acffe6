//! A register file to run one instruction on, without the rest of the virtual GPU.

use std::collections::HashMap;

use earlybird::vgpu::exec::mma::{self, Form};
use earlybird::vgpu::ir::{File, Ins, Isa, MmaMode, Options, PredId, Row, RowId};
use earlybird::vgpu::lower::operands::{LowerError, Operands, Result};
use earlybird::vgpu::lower::tensor;
use earlybird::vgpu::ptx::ast::{Imm, Instr, Operand, Pos, Ty};

/// Registers by name; those of 64 bits take two rows.
pub struct Machine {
    pub rows: Vec<Row>,
    pub lists: Vec<u16>,
    pub options: Options,
    names: HashMap<String, (RowId, u32)>,
}

impl Machine {
    pub fn new(isa: Isa, mma: MmaMode) -> Machine {
        let options = Options { isa, mma, jitter: 0 };
        Machine { rows: Vec::new(), lists: Vec::new(), options, names: HashMap::new() }
    }

    /// Declares a register of `bytes`; filled with a pattern that no result has by chance.
    pub fn declare(&mut self, name: &str, bytes: u32) -> RowId {
        let at = self.rows.len() as RowId;
        self.rows.extend(vec![Row([0xdead_beef; 32]); bytes.div_ceil(4) as usize]);
        self.names.insert(name.to_string(), (at, bytes));
        at
    }

    pub fn set(&mut self, name: &str, values: &[u64; 32]) {
        let (at, bytes) = self.names[name];
        if bytes == 8 {
            let all: Vec<u32> = values.iter().flat_map(|&v| [v as u32, (v >> 32) as u32]).collect();
            self.rows[at as usize].0.copy_from_slice(&all[..32]);
            self.rows[at as usize + 1].0.copy_from_slice(&all[32..]);
        } else {
            self.rows[at as usize].0 = values.map(|v| v as u32);
        }
    }

    pub fn get(&self, name: &str) -> [u64; 32] {
        let (at, bytes) = self.names[name];
        if bytes == 8 {
            let word = |i: usize| u64::from(self.rows[at as usize + i / 32].0[i % 32]);
            std::array::from_fn(|l| word(2 * l) | word(2 * l + 1) << 32)
        } else {
            self.rows[at as usize].0.map(u64::from)
        }
    }

    /// Lowers one instruction.
    pub fn lower(&mut self, text: &str) -> Result<Vec<Ins>> {
        tensor::lower(&instr(text), self).map(Option::unwrap_or_default)
    }

    pub fn run(&mut self, ins: &Ins) {
        let mut preds = [u32::MAX, 0, 0, 0];
        let file = File { rows: self.rows.as_mut_ptr(), preds: preds.as_mut_ptr(), lists: self.lists.as_ptr() };
        // SAFETY: rows and lists are those that lowering was given.
        unsafe { (ins.row)(&file, ins, u32::MAX) };
    }

    fn find(&self, operand: &Operand, ty: Ty) -> Result<RowId> {
        let Operand::Name(name) = operand else { return Err(self.wrong(format!("{operand:?} is no register"))) };
        match self.names.get(name) {
            Some(&(row, bytes)) if bytes == ty.bytes().max(4) => Ok(row),
            Some((_, bytes)) => Err(self.wrong(format!("{name} has {bytes} bytes, not those of {ty:?}"))),
            None => Err(self.wrong(format!("unknown register {name}"))),
        }
    }
}

impl Operands for Machine {
    fn src(&mut self, operand: &Operand, ty: Ty) -> Result<RowId> {
        if let Operand::Imm(Imm::Int(v)) = operand {
            return Ok(self.constant(*v as u64, ty.bytes() == 8));
        }
        self.find(operand, ty)
    }

    fn src_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)> {
        Ok((self.find(operand, ty)?, 4))
    }

    fn dst(&mut self, operand: &Operand, ty: Ty) -> Result<RowId> {
        self.find(operand, ty)
    }

    fn dst_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)> {
        Ok((self.find(operand, ty)?, 4))
    }

    fn pred(&mut self, _: &Operand) -> Result<(PredId, bool)> {
        Err(self.wrong("no predicates here".into()))
    }

    fn pred_dst(&mut self, _: &Operand) -> Result<PredId> {
        Err(self.wrong("no predicates here".into()))
    }

    fn imm(&mut self, _: &Operand) -> Result<i64> {
        Err(self.wrong("no constants here".into()))
    }

    fn constant(&mut self, bits: u64, wide: bool) -> RowId {
        let at = self.rows.len() as RowId;
        self.rows.extend(vec![Row([bits as u32; 32]); if wide { 2 } else { 1 }]);
        at
    }

    fn scratch(&mut self, rows: u32) -> RowId {
        let at = self.rows.len() as RowId;
        self.rows.extend(vec![Row([0; 32]); rows as usize]);
        at
    }

    fn scratch_pred(&mut self) -> PredId {
        3
    }

    fn list(&mut self, entries: &[u16]) -> u32 {
        let at = self.lists.len() as u32;
        self.lists.extend_from_slice(entries);
        at
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn lint(&mut self, _: String) {}

    fn wrong(&self, what: String) -> LowerError {
        LowerError { pos: Pos { line: 1, col: 1 }, unsupported: false, what, hint: String::new() }
    }

    fn unsupported(&self, what: String) -> LowerError {
        LowerError { pos: Pos { line: 1, col: 1 }, unsupported: true, what, hint: String::new() }
    }
}

/// Reads `op {a, b}, c, 0;`: all that these tests write.
pub fn instr(text: &str) -> Instr {
    let (op, mut rest) = text.split_once(' ').unwrap();
    let mut operands = Vec::new();
    let one = |s: &str| match s.trim().parse::<i64>() {
        Ok(v) => Operand::Imm(Imm::Int(v)),
        Err(_) => Operand::Name(s.trim().to_string()),
    };
    while !rest.trim().is_empty() {
        rest = rest.trim().trim_start_matches(',').trim();
        if let Some(list) = rest.strip_prefix('{') {
            let (list, after) = list.split_once('}').unwrap();
            operands.push(Operand::Vector(list.split(',').map(one).collect()));
            rest = after;
        } else {
            let (name, after) = rest.split_once(',').unwrap_or((rest, ""));
            operands.push(one(name));
            rest = after;
        }
    }
    let op = op.split('.').map(String::from).collect();
    Instr { pos: Pos { line: 1, col: 1 }, text: text.to_string(), guard: None, op, operands }
}

/// Names of the registers of D, A, B and C.
pub fn names(counts: [usize; 4]) -> [Vec<String>; 4] {
    let mut letters = ["d", "a", "b", "c"].into_iter();
    counts.map(|n| {
        let letter = letters.next().unwrap();
        (0..n).map(|i| format!("%{letter}{i}")).collect()
    })
}

/// `mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {..}, {..}, {..}, {..}`.
pub fn mma_text(form: &Form, counts: [usize; 4]) -> String {
    let lists = names(counts).map(|list| format!("{{{}}}", list.join(", ")));
    format!("{} {}", opcode(form), lists.join(", "))
}

/// The opcode of a form.
pub fn opcode(form: &Form) -> String {
    let layout = |col: bool| if col { "col" } else { "row" };
    let mut op = format!("mma.sync.aligned.m{}n8k{}", form.m, form.k);
    op += &format!(".{}.{}", layout(form.a_col), layout(!form.b_row));
    if form.sat {
        op += ".satfinite";
    }
    op += &format!(".{}.{}.{}.{}", form.d.name(), form.a.name(), form.b.name(), form.c.name());
    if form.a == mma::Elem::B1 {
        op += if form.and { ".and.popc" } else { ".xor.popc" };
    }
    op
}

/// The instruction sets that this host can run.
pub fn isas() -> Vec<Isa> {
    if Isa::detect() == Isa::Avx2 { vec![Isa::Base, Isa::Avx2] } else { vec![Isa::Base] }
}
