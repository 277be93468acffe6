//! Declarations: variables with their initialisers, functions with their parameters and directives.

use super::ParseError;
use super::ast::{Func, Imm, Init, Linkage, Module, Opaque, Pos, PtrAttr, Space, Stmt, Ty, Var};
use super::lex::Kind;
use super::parse::{Parser, Result};

/// Variables that all `name<n>` of a module may stand for and elements that braces inside initialisers may leave out: no short text asks for gigabytes.
const MAX_EXPANSION: u64 = 1 << 20;

/// The words in front of a declared name.
#[derive(Default)]
struct Words {
    linkage: Linkage,
    reg: bool,
    space: Option<Space>,
    ty: Option<Ty>,
    vec: Option<u32>,
    align: Option<u32>,
    ptr: Option<PtrAttr>,
    opaque: Option<Opaque>,
    attributes: Vec<String>,
}

fn space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" => Space::Global,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".const" => Space::Const,
        ".param" => Space::Param,
        _ => return None,
    })
}

fn linkage(word: &str) -> Option<Linkage> {
    Some(match word {
        ".extern" => Linkage::Extern,
        ".visible" => Linkage::Visible,
        ".weak" => Linkage::Weak,
        ".common" => Linkage::Common,
        _ => return None,
    })
}

impl Parser<'_> {
    /// A variable or function at module level.
    pub fn declaration(&mut self, module: &mut Module) -> Result<()> {
        let mut ahead = 0;
        while self.token(ahead).kind == Kind::Dot && linkage(self.slice(self.token(ahead))).is_some() {
            ahead += 1;
        }
        let word = self.slice(self.token(ahead));
        if matches!(word, ".entry" | ".func") {
            let func = self.function()?;
            module.funcs.push(func);
            return Ok(());
        }
        if ahead == 0 && space(word).is_none() && !matches!(word, ".texref" | ".samplerref" | ".surfref" | ".tex") {
            if self.word() == ".reg" {
                return self.fail("`.reg` outside a function", "declare registers inside the function that uses them");
            }
            return self.fail(format!("no directive `{word}` at module level"), "");
        }
        self.variables(&mut module.vars)
    }

    /// `.shared .align 16 .b8 name[4], other;` with initialisers.
    pub fn variables(&mut self, into: &mut Vec<Var>) -> Result<()> {
        let words = self.words()?;
        loop {
            let (var, count) = self.declarator(&words)?;
            match count {
                None => into.push(var),
                Some(count) => {
                    self.add(count.into())?;
                    into.extend((0..count).map(|i| Var { name: format!("{}{i}", var.name), ..var.clone() }));
                }
            }
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b';', "after a declaration")
    }

    /// Counts elements that the text does not spell out.
    fn add(&mut self, count: u64) -> Result<()> {
        self.added = self.added.saturating_add(count);
        if self.added > MAX_EXPANSION {
            let what = format!("declarations stand for more than {MAX_EXPANSION} variables or omitted elements");
            return self.fail(what, "");
        }
        Ok(())
    }

    /// `.reg .v2 .b32 %r<10>, x;`
    pub fn registers(&mut self) -> Result<Stmt> {
        let pos = self.pos();
        let words = self.words()?;
        let Some(ty) = words.ty else { return self.expected("a type after `.reg`") };
        let mut names = Vec::new();
        loop {
            let name = self.name("a register name")?;
            let count = if self.take(b'<') {
                let count = self.count("a number of registers")?;
                self.expect(b'>', "after the number of registers")?;
                Some(count)
            } else {
                None
            };
            names.push((name, count));
            if !self.take(b',') {
                break;
            }
        }
        if self.is(b'[') {
            return self.fail("an array of registers", "write `name<4>` for `name0` to `name3`");
        }
        self.expect(b';', "after the registers")?;
        Ok(Stmt::Reg { pos, ty, vec: words.vec.unwrap_or(1), names })
    }

    /// The dotted words of a declaration, in any order.
    fn words(&mut self) -> Result<Words> {
        let mut words = Words::default();
        while self.kind() == Kind::Dot {
            let word = self.word();
            let pos = self.pos();
            if let Some(found) = linkage(word) {
                self.next();
                words.linkage = found;
            } else if let Some(found) = space(word) {
                self.next();
                if let Some(ptr) = &mut words.ptr {
                    ptr.space = found;
                } else if words.space.is_some() || words.reg {
                    return Err(ParseError::new(pos, format!("a second state space `{word}`"), ""));
                } else {
                    words.space = Some(found);
                }
                if self.is(b'[') {
                    let hint = "PTX has one constant bank since 2.2: use `.const`";
                    return self.fail("a constant bank number", hint);
                }
            } else if let Some(found) = Ty::parse(&word[1..]) {
                self.next();
                if words.ty.replace(found).is_some() {
                    return Err(ParseError::new(pos, format!("a second type `{word}`"), ""));
                }
            } else {
                self.word_of_declaration(word, &mut words)?;
            }
        }
        Ok(words)
    }

    fn word_of_declaration(&mut self, word: &str, words: &mut Words) -> Result<()> {
        match word {
            ".reg" => words.reg = true,
            ".v2" => words.vec = Some(2),
            ".v4" => words.vec = Some(4),
            ".v8" => words.vec = Some(8),
            ".texref" | ".tex" => words.opaque = Some(Opaque::Texref),
            ".samplerref" => words.opaque = Some(Opaque::Samplerref),
            ".surfref" => words.opaque = Some(Opaque::Surfref),
            ".ptr" => words.ptr = Some(PtrAttr { space: Space::Generic, align: 4 }),
            ".align" => {
                self.next();
                let align = self.number("an alignment in bytes")?;
                if !align.is_power_of_two() {
                    return self.fail(format!("alignment {align} is no power of two"), "");
                }
                match &mut words.ptr {
                    Some(ptr) => ptr.align = align,
                    None => words.align = Some(align),
                }
                return Ok(());
            }
            ".attribute" => {
                self.next();
                return self.attributes(&mut words.attributes);
            }
            _ => return self.fail(format!("`{word}` is no part of a declaration"), ""),
        }
        if word == ".tex" {
            words.space = words.space.or(Some(Space::Global));
        }
        self.next();
        Ok(())
    }

    /// `(.managed, .unified(0, 1))`
    fn attributes(&mut self, into: &mut Vec<String>) -> Result<()> {
        self.expect(b'(', "after `.attribute`")?;
        loop {
            if self.kind() != Kind::Dot {
                return self.expected("an attribute such as `.managed`");
            }
            let mark = self.mark();
            self.next();
            if self.take(b'(') {
                while !self.take(b')') {
                    if self.kind() == Kind::End {
                        return self.expected("`)` after an attribute's arguments");
                    }
                    self.next();
                }
            }
            let text = self.text_since(mark);
            into.push(text.trim_start_matches('.').to_string());
            if !self.take(b',') {
                break;
            }
        }
        self.expect(b')', "after the attributes")
    }

    /// A name with its array dimensions and initialiser, and the count of `name<n>`.
    fn declarator(&mut self, words: &Words) -> Result<(Var, Option<u32>)> {
        let pos = self.pos();
        let ty = match (words.ty, words.opaque) {
            (_, Some(_)) => Ty::B64,
            (Some(ty), None) => ty,
            (None, None) => return self.expected("a type such as `.b32`"),
        };
        let name = self.name("a name")?;
        let mut count = None;
        if self.take(b'<') {
            count = Some(self.count("a number of variables")?);
            self.expect(b'>', "after the number of variables")?;
        }
        let mut dims = Vec::new();
        while self.take(b'[') {
            if self.take(b']') {
                dims.push(None);
                continue;
            }
            let at = self.pos();
            let n = self.constant_integer("an array length")?;
            let n = u64::try_from(n).map_err(|_| ParseError::new(at, format!("an array of {n} elements"), ""))?;
            dims.push(Some(n));
            self.expect(b']', "after an array length")?;
        }
        let mut var = Var {
            pos,
            linkage: words.linkage,
            space: words.space,
            ty,
            vec: words.vec.unwrap_or(1),
            align: words.align,
            name,
            dims,
            init: None,
            ptr: words.ptr,
            opaque: words.opaque,
            attributes: words.attributes.clone(),
        };
        if self.take(b'=') {
            var.init = Some(self.initialiser(&var)?);
        }
        Ok((var, count))
    }

    fn initialiser(&mut self, var: &Var) -> Result<Vec<Init>> {
        let mut values = Vec::new();
        if !self.is(b'{') {
            values.push(self.init_value()?);
            return Ok(values);
        }
        if var.opaque.is_some() {
            self.skip_fields()?;
            return Ok(values);
        }
        // Elements that one pair of braces at each level fills; the outermost may be open.
        let mut inner: Vec<u64> = var.dims.iter().skip(1).map(|d| d.unwrap_or(0)).collect();
        if var.vec > 1 && !var.dims.is_empty() {
            inner.push(var.vec.into());
        }
        let mut strides = vec![u64::MAX];
        for level in 0..inner.len() {
            strides.push(inner[level..].iter().fold(1, |a: u64, b| a.saturating_mul(*b)));
        }
        self.init_level(&strides, &mut values)?;
        Ok(values)
    }

    fn init_level(&mut self, strides: &[u64], into: &mut Vec<Init>) -> Result<()> {
        let stride = strides.first().copied().unwrap_or(1);
        let start = into.len() as u64;
        let pos = self.pos();
        self.expect(b'{', "before an initialiser")?;
        while !self.take(b'}') {
            if self.is(b'{') {
                self.nested(|p| p.init_level(strides.get(1..).unwrap_or_default(), into))?;
            } else {
                let value = self.init_value()?;
                into.push(value);
            }
            if !self.take(b',') {
                self.expect(b'}', "after an initialiser")?;
                break;
            }
        }
        if stride == u64::MAX {
            return Ok(());
        }
        let filled = into.len() as u64 - start;
        if filled > stride {
            let what = format!("{filled} values where the array has {stride}");
            return Err(ParseError::new(pos, what, ""));
        }
        self.add(stride - filled)?;
        into.resize((start + stride) as usize, Init::Imm(Imm::Int(0)));
        Ok(())
    }

    /// A number, `symbol + 4`, `generic(symbol) + 4`, `0xff(symbol)`.
    fn init_value(&mut self) -> Result<Init> {
        let mut mask = None;
        if self.kind() == Kind::Int && self.token(1).kind == Kind::Punct(b'(') {
            mask = Some(self.constant_mask()?);
        } else if self.at_constant() {
            return Ok(Init::Imm(self.constant("a number")?));
        }
        let closing = mask.is_some();
        if closing {
            self.expect(b'(', "after a mask")?;
        }
        let mut name = self.name("a number or a symbol in an initialiser")?;
        let generic = name == "generic" && self.take(b'(');
        let mut offset = 0;
        if generic {
            name = self.name("a symbol")?;
            offset += self.offset()?;
            self.expect(b')', "after the symbol")?;
        }
        offset += self.offset()?;
        if closing {
            self.expect(b')', "after the masked symbol")?;
        }
        Ok(Init::Symbol { name, offset, generic, mask })
    }

    fn constant_mask(&mut self) -> Result<u64> {
        let value = super::lex::integer(self.word());
        match value {
            Some((mask, _)) => {
                self.next();
                Ok(mask)
            }
            None => self.fail("this integer does not fit in 64 bits", ""),
        }
    }

    /// `{ width = 64, addr_mode_0 = wrap }` of a sampler or texture: not kept, no texture is ever read.
    fn skip_fields(&mut self) -> Result<()> {
        self.expect(b'{', "before an initialiser")?;
        let mut depth = 1;
        while depth > 0 {
            match self.kind() {
                Kind::Punct(b'{') => depth += 1,
                Kind::Punct(b'}') => depth -= 1,
                Kind::End => return self.expected("`}` after an initialiser"),
                _ => {}
            }
            self.next();
        }
        Ok(())
    }

    /// `.visible .func (ret) name (params) .noreturn { .. }`
    fn function(&mut self) -> Result<Func> {
        let mut found = Linkage::Local;
        while let Some(word) = linkage(self.word()) {
            found = word;
            self.next();
        }
        let entry = self.word() == ".entry";
        self.next();
        let mut func = self.signature(entry, found)?;
        if self.take(b';') {
            return Ok(func);
        }
        if !self.is(b'{') {
            return self.expected("`{` or `;` after a function's header");
        }
        self.chains.clear();
        func.body = Some(self.block()?);
        Ok(func)
    }

    /// What `.func`, `.entry` and `.callprototype` share: results, name, parameters, directives.
    pub fn signature(&mut self, entry: bool, linkage: Linkage) -> Result<Func> {
        let mut attributes = Vec::new();
        while self.take_dot(".attribute") {
            self.attributes(&mut attributes)?;
        }
        let rets = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let pos = self.pos();
        let name = self.name("a function name")?;
        let params = if self.is(b'(') { self.parameters()? } else { Vec::new() };
        let mut func = Func {
            pos,
            entry,
            linkage,
            name,
            rets,
            params,
            directives: Vec::new(),
            pragmas: Vec::new(),
            attributes,
            body: None,
        };
        while self.kind() == Kind::Dot {
            match self.word() {
                ".pragma" => self.pragma(&mut func.pragmas)?,
                ".attribute" => {
                    self.next();
                    self.attributes(&mut func.attributes)?;
                }
                word => {
                    self.next();
                    let numbers = self.directive_numbers(word)?;
                    func.directives.push((word[1..].to_string(), numbers));
                }
            }
        }
        Ok(func)
    }

    fn directive_numbers(&mut self, word: &str) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        while self.at_constant() {
            let at: Pos = self.pos();
            let value = self.constant_integer("a number")?;
            let value = u32::try_from(value)
                .map_err(|_| ParseError::new(at, format!("`{word}` takes numbers below 2^32, not {value}"), ""))?;
            numbers.push(value);
            if !self.take(b',') {
                break;
            }
        }
        Ok(numbers)
    }

    fn parameters(&mut self) -> Result<Vec<Var>> {
        self.expect(b'(', "before the parameters")?;
        let mut params = Vec::new();
        while !self.take(b')') {
            if self.kind() != Kind::Dot {
                return self.expected("a parameter or `)`");
            }
            let words = self.words()?;
            let (var, count) = self.declarator(&words)?;
            if count.is_some() || var.init.is_some() {
                return self.fail("a parameter is one name without a value", "");
            }
            params.push(var);
            if !self.take(b',') {
                self.expect(b')', "after the parameters")?;
                break;
            }
        }
        Ok(params)
    }
}
