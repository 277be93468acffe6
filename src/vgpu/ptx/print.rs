//! The syntax tree as PTX text again. Reading it back gives the same tree but for places; constant expressions print as their value.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{
    Base, Func, Imm, Init, Instr, Linkage, Loc, Module, Opaque, Operand, PtrAttr, Section, SectionItem, Space, Stmt,
    Ty, Var,
};

impl Display for Ty {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Display for Space {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Linkage {
    fn prefix(self) -> &'static str {
        match self {
            Linkage::Local => "",
            Linkage::Extern => ".extern ",
            Linkage::Visible => ".visible ",
            Linkage::Weak => ".weak ",
            Linkage::Common => ".common ",
        }
    }
}

/// `a, b, c`
fn list<T>(f: &mut Formatter<'_>, items: &[T], show: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        show(f, item)?;
    }
    Ok(())
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl Display for Imm {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Imm::Int(v) => write!(f, "{v}"),
            Imm::F32(bits) => write!(f, "0f{bits:08X}"),
            Imm::F64(bits) => write!(f, "0d{bits:016X}"),
        }
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let show = |f: &mut Formatter<'_>, o: &Operand| write!(f, "{o}");
        match self {
            Operand::Name(name) => f.write_str(name),
            Operand::Component(name, i) => write!(f, "{name}.{}", ["x", "y", "z", "w"][usize::from(*i).min(3)]),
            Operand::Selector(name, selector) => write!(f, "{name}.{selector}"),
            Operand::Neg(operand) => write!(f, "-{operand}"),
            Operand::Index(name, Some(register), offset) => write!(f, "{name}[{register}+{offset}]"),
            Operand::Index(name, None, offset) => write!(f, "{name}[{offset}]"),
            Operand::NameOffset(name, offset) => write!(f, "{name}+{offset}"),
            Operand::Imm(imm) => write!(f, "{imm}"),
            Operand::Address { base: Base::Name(name), offset: 0 } => write!(f, "[{name}]"),
            Operand::Address { base: Base::Name(name), offset } => write!(f, "[{name}+{offset}]"),
            Operand::Address { base: Base::Absolute, offset } => write!(f, "[{offset}]"),
            Operand::Bracket(parts) => {
                f.write_str("[")?;
                list(f, parts, show)?;
                f.write_str("]")
            }
            Operand::Vector(parts) => {
                f.write_str("{")?;
                list(f, parts, show)?;
                f.write_str("}")
            }
            Operand::Sink => f.write_str("_"),
            Operand::Not(name) => write!(f, "!{name}"),
            Operand::Pair(a, b) => write!(f, "{a}|{b}"),
            Operand::Tuple(parts) => {
                f.write_str("(")?;
                list(f, parts, show)?;
                f.write_str(")")
            }
        }
    }
}

impl Display for Instr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some((name, negated)) = &self.guard {
            write!(f, "@{}{name} ", if *negated { "!" } else { "" })?;
        }
        f.write_str(&self.op.join("."))?;
        if !self.operands.is_empty() {
            f.write_str(" ")?;
            list(f, &self.operands, |f, o| write!(f, "{o}"))?;
        }
        f.write_str(";")
    }
}

impl Display for Init {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Init::Imm(imm) => write!(f, "{imm}"),
            Init::Symbol { name, offset, generic, mask } => {
                if let Some(mask) = mask {
                    write!(f, "0x{mask:x}(")?;
                }
                if *generic {
                    write!(f, "generic({name})")?
                } else {
                    f.write_str(name)?
                }
                if *offset != 0 {
                    write!(f, "+{offset}")?;
                }
                f.write_str(if mask.is_some() { ")" } else { "" })
            }
        }
    }
}

impl Display for Loc {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, ".loc {} {} {}", self.file, self.line, self.col)?;
        if let Some((label, offset)) = &self.function {
            write!(f, ", function_name {label}+{offset}")?;
        }
        // The calls further out come from that place's own `.loc`.
        if let Some((file, line, col)) = self.inlined_at.first() {
            write!(f, ", inlined_at {file} {line} {col}")?;
        }
        Ok(())
    }
}

fn attributes(f: &mut Formatter<'_>, attributes: &[String]) -> fmt::Result {
    if attributes.is_empty() {
        return Ok(());
    }
    f.write_str(".attribute(")?;
    list(f, attributes, |f, a| write!(f, ".{a}"))?;
    f.write_str(") ")
}

impl Display for Var {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.linkage.prefix())?;
        match self.space {
            Some(space) => write!(f, ".{space} ")?,
            None if self.opaque.is_some() => {}
            None => f.write_str(".reg ")?,
        }
        attributes(f, &self.attributes)?;
        if let Some(align) = self.align {
            write!(f, ".align {align} ")?;
        }
        if self.vec > 1 {
            write!(f, ".v{} ", self.vec)?;
        }
        match self.opaque {
            Some(Opaque::Texref) => f.write_str(".texref ")?,
            Some(Opaque::Samplerref) => f.write_str(".samplerref ")?,
            Some(Opaque::Surfref) => f.write_str(".surfref ")?,
            None => {}
        }
        if self.opaque.is_none() || self.ptr.is_some() {
            write!(f, ".{} ", self.ty)?;
        }
        if let Some(PtrAttr { space, align }) = self.ptr {
            f.write_str(".ptr ")?;
            if space != Space::Generic {
                write!(f, ".{space} ")?;
            }
            write!(f, ".align {align} ")?;
        }
        f.write_str(&self.name)?;
        for dim in &self.dims {
            match dim {
                Some(n) => write!(f, "[{n}]")?,
                None => f.write_str("[]")?,
            }
        }
        if let Some(init) = &self.init {
            f.write_str(" = {")?;
            list(f, init, |f, i| write!(f, "{i}"))?;
            f.write_str("}")?;
        }
        Ok(())
    }
}

fn signature(f: &mut Formatter<'_>, func: &Func) -> fmt::Result {
    attributes(f, &func.attributes)?;
    if !func.rets.is_empty() {
        f.write_str("(")?;
        list(f, &func.rets, |f, v| write!(f, "{v}"))?;
        f.write_str(") ")?;
    }
    write!(f, "{}(", func.name)?;
    list(f, &func.params, |f, v| write!(f, "{v}"))?;
    f.write_str(")")?;
    for (name, numbers) in &func.directives {
        write!(f, " .{name} ")?;
        list(f, numbers, |f, n| write!(f, "{n}"))?;
    }
    for pragma in &func.pragmas {
        f.write_str(" .pragma ")?;
        quoted(f, pragma)?;
        f.write_str(";")?;
    }
    Ok(())
}

impl Display for Func {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{} ", self.linkage.prefix(), if self.entry { ".entry" } else { ".func" })?;
        signature(f, self)?;
        match &self.body {
            None => f.write_str(";\n"),
            Some(body) => {
                f.write_str("\n")?;
                block(f, body, 0)
            }
        }
    }
}

fn block(f: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
    writeln!(f, "{:1$}{{", "", depth * 4)?;
    for stmt in body {
        statement(f, stmt, depth + 1)?;
    }
    writeln!(f, "{:1$}}}", "", depth * 4)
}

fn statement(f: &mut Formatter<'_>, stmt: &Stmt, depth: usize) -> fmt::Result {
    if let Stmt::Block(body) = stmt {
        return block(f, body, depth);
    }
    let indent = if matches!(stmt, Stmt::Label { .. }) { 0 } else { depth * 4 };
    write!(f, "{:indent$}", "")?;
    match stmt {
        Stmt::Reg { ty, vec, names, .. } => {
            let vec = if *vec > 1 { format!(".v{vec} ") } else { String::new() };
            write!(f, ".reg {vec}.{ty} ")?;
            list(f, names, |f, (name, count)| match count {
                Some(n) => write!(f, "{name}<{n}>"),
                None => f.write_str(name),
            })?;
            f.write_str(";")?;
        }
        Stmt::Var(var) => write!(f, "{var};")?,
        Stmt::Label { name, .. } => write!(f, "{name}:")?,
        Stmt::Instr(instr) => write!(f, "{instr}")?,
        Stmt::Block(_) => {}
        Stmt::Loc(loc) => write!(f, "{loc}")?,
        Stmt::BranchTargets { name, targets, .. } => write!(f, "{name}: .branchtargets {};", targets.join(", "))?,
        Stmt::CallInfo { name, targets, prototype, .. } => match prototype {
            Some(prototype) => {
                write!(f, "{name}: .callprototype ")?;
                signature(f, prototype)?;
                f.write_str(";")?;
            }
            None => write!(f, "{name}: .calltargets {};", targets.join(", "))?,
        },
        Stmt::Pragma(pragma) => {
            f.write_str(".pragma ")?;
            quoted(f, pragma)?;
            f.write_str(";")?;
        }
    }
    f.write_str("\n")
}

impl Display for Section {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, ".section {} {{", self.name)?;
        for item in &self.items {
            match item {
                SectionItem::Label(name) => writeln!(f, "{name}:")?,
                SectionItem::Bytes(bytes) => {
                    for line in bytes.chunks(16) {
                        f.write_str(".b8 ")?;
                        list(f, line, |f, b| write!(f, "{b}"))?;
                        f.write_str("\n")?;
                    }
                }
                SectionItem::Ref { bytes, name, offset, minus } => {
                    write!(f, ".b{} {name}", bytes * 8)?;
                    if let Some(minus) = minus {
                        write!(f, "-{minus}")?;
                    }
                    if *offset != 0 {
                        write!(f, "{offset:+}")?;
                    }
                    f.write_str("\n")?;
                }
            }
        }
        f.write_str("}\n")
    }
}

impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, ".version {}.{}", self.version.0, self.version.1)?;
        writeln!(f, ".target {}", self.target.join(", "))?;
        writeln!(f, ".address_size {}", self.address_size)?;
        for (number, name) in &self.files {
            write!(f, ".file {number} ")?;
            quoted(f, name)?;
            f.write_str("\n")?;
        }
        for pragma in &self.pragmas {
            f.write_str(".pragma ")?;
            quoted(f, pragma)?;
            f.write_str(";\n")?;
        }
        for var in &self.vars {
            writeln!(f, "{var};")?;
        }
        for func in &self.funcs {
            write!(f, "{func}")?;
        }
        for alias in &self.aliases {
            writeln!(f, ".alias {}, {};", alias.name, alias.target)?;
        }
        for section in &self.sections {
            write!(f, "{section}")?;
        }
        Ok(())
    }
}
