//! Bodies: statements, instructions, operands.

use super::ParseError;
use super::ast::{Base, Instr, Linkage, Loc, Operand, Stmt};
use super::lex::Kind;
use super::parse::{Parser, Place, Result};

/// Calls around an inlined place that are kept.
const MAX_INLINED: usize = 64;

impl Parser<'_> {
    /// `{ .. }`
    pub fn block(&mut self) -> Result<Vec<Stmt>> {
        self.nested(|p| {
            let open = p.pos();
            p.expect(b'{', "before a body")?;
            let mut body = Vec::new();
            while !p.take(b'}') {
                if p.kind() == Kind::End {
                    let what = format!("the `{{` of line {} has no `}}`", open.line);
                    return p.fail(what, "is the text cut off?");
                }
                p.statement(&mut body)?;
            }
            Ok(body)
        })
    }

    fn statement(&mut self, body: &mut Vec<Stmt>) -> Result<()> {
        match self.kind() {
            Kind::Punct(b'{') => body.push(Stmt::Block(self.block()?)),
            Kind::Dot => self.directive(body)?,
            Kind::Ident if self.token(1).kind == Kind::Punct(b':') => {
                let pos = self.pos();
                let name = self.name("a label")?;
                self.next();
                match self.word() {
                    ".branchtargets" => {
                        self.next();
                        let targets = self.names("a label")?;
                        body.push(Stmt::BranchTargets { pos, name, targets });
                    }
                    ".calltargets" => {
                        self.next();
                        let targets = self.names("a function")?;
                        body.push(Stmt::CallInfo { pos, name, targets, prototype: None });
                    }
                    ".callprototype" => {
                        self.next();
                        let prototype = Some(Box::new(self.signature(false, Linkage::Local)?));
                        self.expect(b';', "after `.callprototype`")?;
                        body.push(Stmt::CallInfo { pos, name, targets: Vec::new(), prototype });
                    }
                    _ => body.push(Stmt::Label { pos, name }),
                }
            }
            Kind::Ident | Kind::Punct(b'@') => body.push(Stmt::Instr(self.instruction()?)),
            _ => return self.expected("an instruction, a label, a declaration or `}`"),
        }
        Ok(())
    }

    fn directive(&mut self, body: &mut Vec<Stmt>) -> Result<()> {
        match self.word() {
            ".reg" => body.push(self.registers()?),
            ".loc" => body.push(Stmt::Loc(self.loc()?)),
            ".pragma" => {
                let mut pragmas = Vec::new();
                self.pragma(&mut pragmas)?;
                body.extend(pragmas.into_iter().map(Stmt::Pragma));
            }
            ".global" | ".shared" | ".local" | ".const" | ".param" | ".align" | ".texref" | ".samplerref"
            | ".surfref" | ".attribute" | ".extern" | ".visible" | ".weak" | ".common" => {
                let mut vars = Vec::new();
                self.variables(&mut vars)?;
                body.extend(vars.into_iter().map(Stmt::Var));
            }
            ".branchtargets" | ".calltargets" | ".callprototype" => {
                return self.fail(format!("`{}` has no label", self.word()), "write `name: .branchtargets ..;`");
            }
            word => return self.fail(format!("no directive `{word:.60}` inside a function"), ""),
        }
        Ok(())
    }

    /// `.loc 1 23 5{, function_name label{+off}, inlined_at 1 40 3}`
    pub fn loc(&mut self) -> Result<Loc> {
        self.next();
        let place = |p: &mut Self| -> Result<Place> {
            Ok((p.number("a file number")?, p.number("a line number")?, p.number("a column number")?))
        };
        let (file, line, col) = place(self)?;
        let mut loc = Loc { file, line, col, function: None, inlined_at: Vec::new() };
        while self.take(b',') {
            match self.word() {
                "function_name" => {
                    self.next();
                    let label = self.name("a label after `function_name`")?;
                    loc.function = Some((label, self.offset()?));
                }
                "inlined_at" => {
                    self.next();
                    let call = place(self)?;
                    loc.inlined_at.push(call);
                    // The call may lie in an inlined function itself: compilers give its own `.loc` first.
                    if let Some(outer) = self.chains.get(&call) {
                        loc.inlined_at.extend(outer.iter().take(MAX_INLINED - 1));
                    }
                }
                _ => return self.expected("`function_name` or `inlined_at`"),
            }
        }
        if loc.inlined_at.is_empty() {
            self.chains.remove(&(file, line, col));
        } else {
            self.chains.insert((file, line, col), loc.inlined_at.clone());
        }
        Ok(loc)
    }

    /// `+ 4`, `- 4`, or nothing, behind a name.
    pub fn offset(&mut self) -> Result<i64> {
        if self.take(b'+') || self.is(b'-') {
            return self.constant_integer("a constant offset");
        }
        Ok(0)
    }

    fn instruction(&mut self) -> Result<Instr> {
        let pos = self.pos();
        let mark = self.mark();
        let mut guard = None;
        if self.take(b'@') {
            let negated = self.take(b'!');
            guard = Some((self.name("a predicate after `@`")?, negated));
        }
        let mut op = vec![self.name("an instruction")?];
        while self.kind() == Kind::Dot {
            let token = self.next();
            op.push(self.slice(token)[1..].to_string());
        }
        let call = op[0] == "call";
        let mut operands = Vec::new();
        if !self.is(b';') {
            operands.push(self.operand(call)?);
            while self.take(b',') {
                operands.push(self.operand(call)?);
            }
        }
        let text = self.text_since(mark);
        if !self.is(b';') {
            let here = self.pos();
            let short: String = text.chars().take(80).collect();
            let found = if self.kind() == Kind::End { "the end of the text" } else { self.word() };
            let found: String = found.chars().take(60).collect();
            let what = format!("expected `,` or `;` after `{short}`, found `{found}`");
            return Err(ParseError::new(here, what, ""));
        }
        self.next();
        Ok(Instr { pos, text, guard, op, operands })
    }

    fn operand(&mut self, call: bool) -> Result<Operand> {
        let first = self.nested(|p| p.operand_alone(call))?;
        let destination =
            matches!(first, Operand::Name(_) | Operand::Sink | Operand::Vector(_) | Operand::Component(..));
        if destination && self.take(b'|') {
            let second = self.nested(|p| p.operand_alone(call))?;
            return Ok(Operand::Pair(Box::new(first), Box::new(second)));
        }
        Ok(first)
    }

    /// Whether the token `ahead` is a name that stands for no constant.
    fn name_at(&self, ahead: usize) -> bool {
        let token = self.token(ahead);
        token.kind == Kind::Ident && self.slice(token) != "WARP_SZ"
    }

    fn operand_alone(&mut self, call: bool) -> Result<Operand> {
        match self.kind() {
            Kind::Ident if self.name_at(0) => self.named(),
            Kind::Punct(b'{') => {
                self.next();
                Ok(Operand::Vector(self.list(b'}', "after a vector")?))
            }
            Kind::Punct(b'[') => self.bracket(),
            Kind::Punct(b'!') if self.name_at(1) => {
                self.next();
                Ok(Operand::Not(self.name("a predicate")?))
            }
            Kind::Punct(b'-') if self.name_at(1) => {
                self.next();
                let operand = self.named()?;
                Ok(Operand::Neg(Box::new(operand)))
            }
            Kind::Punct(b'(') if call || self.name_at(1) || self.token(1).kind == Kind::Punct(b')') => {
                self.next();
                Ok(Operand::Tuple(self.list(b')', "after the arguments")?))
            }
            _ => Ok(Operand::Imm(self.constant("an operand")?)),
        }
    }

    /// Operands up to `close`, which is taken.
    fn list(&mut self, close: u8, place: &str) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        while !self.take(close) {
            operands.push(self.operand(false)?);
            if !self.take(b',') {
                self.expect(close, place)?;
                break;
            }
        }
        Ok(operands)
    }

    /// A name and what may follow it: a component, an index, an offset.
    fn named(&mut self) -> Result<Operand> {
        let name = self.name("a name")?;
        if name == "_" {
            return Ok(Operand::Sink);
        }
        if self.kind() == Kind::Dot {
            let token = self.next();
            let suffix = &self.slice(token)[1..];
            let component = match suffix {
                "x" | "r" => 0,
                "y" | "g" => 1,
                "z" | "b" => 2,
                "w" | "a" => 3,
                _ => return Ok(Operand::Selector(name, suffix.to_string())),
            };
            return Ok(Operand::Component(name, component));
        }
        if self.take(b'[') {
            let register = if self.name_at(0) { Some(self.name("a register")?) } else { None };
            let offset = match register {
                Some(_) => self.offset()?,
                None => self.constant_integer("an index")?,
            };
            self.expect(b']', "after an index")?;
            return Ok(Operand::Index(name, register, offset));
        }
        if self.is(b'+') || self.is(b'-') {
            return Ok(Operand::NameOffset(name, self.offset()?));
        }
        Ok(Operand::Name(name))
    }

    /// `[base + 4]`, `[4]`, `[tex, {x, y}]`.
    fn bracket(&mut self) -> Result<Operand> {
        self.next();
        let address = if self.name_at(0) {
            let base = Base::Name(self.name("a base")?);
            if (self.is(b'+') || self.is(b'-')) && self.name_at(1) {
                let hint = "add the two registers with an instruction of its own";
                return self.fail("an address is a register or a variable and a constant", hint);
            }
            Operand::Address { base, offset: self.offset()? }
        } else {
            Operand::Address { base: Base::Absolute, offset: self.constant_integer("an address")? }
        };
        if self.take(b']') {
            return Ok(address);
        }
        if !self.is(b',') {
            return self.expected("`]` after an address");
        }
        let mut parts = vec![match address {
            Operand::Address { base: Base::Name(name), offset: 0 } => Operand::Name(name),
            Operand::Address { base: Base::Name(name), offset } => Operand::NameOffset(name, offset),
            Operand::Address { offset, .. } => Operand::Imm(super::ast::Imm::Int(offset)),
            other => other,
        }];
        while self.take(b',') {
            parts.push(self.operand(false)?);
        }
        self.expect(b']', "after an address")?;
        Ok(Operand::Bracket(parts))
    }
}
