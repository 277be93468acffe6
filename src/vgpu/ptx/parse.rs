//! The parser's core and the module level: `.version`, `.target`, `.file`, `.section`, `.alias`. Variables and functions are in [`super::decl`], bodies in
//! [`super::stmt`], constant expressions in [`super::constant`].

use std::collections::HashMap;

use super::ParseError;
use super::ast::{Alias, Module, Pos, Section, SectionItem};
use super::lex::{self, Kind, Lines, Token};

/// What the parser's functions return.
pub type Result<T> = std::result::Result<T, ParseError>;

/// Braces, brackets and parentheses may nest this deep; no compiler comes near.
const MAX_DEPTH: u32 = 64;

/// Reads a PTX module.
///
/// Accepts what compilers and the PTX ISA write, line markers of a preprocessor and the zero byte that NVRTC puts behind its text included. Neither time nor
/// memory grows faster than the text, whatever it holds.
///
/// # Errors
/// The first place that is no PTX. Opcodes, modifiers and operand types are not judged here.
pub fn parse(text: &str) -> Result<Module> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches('\0');
    let (tokens, lines) = lex::lex(text)?;
    let mut parser = Parser { text, tokens, lines, at: 0, depth: 0, added: 0, chains: HashMap::new() };
    parser.module()
}

/// File, line and column of a `.loc`.
pub(super) type Place = (u32, u32, u32);

/// Tokens and where the parser is in them.
pub struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    lines: Lines,
    at: usize,
    depth: u32,
    /// Elements of the tree that the text does not spell out, which [`super::decl`] limits.
    pub(super) added: u64,
    /// Places of this function's `.loc` that are inlined, with the calls around them.
    pub(super) chains: HashMap<Place, Vec<Place>>,
}

impl<'a> Parser<'a> {
    /// The token `ahead` of the present one.
    pub fn token(&self, ahead: usize) -> Token {
        let last = self.tokens.len() - 1;
        self.tokens[(self.at + ahead).min(last)]
    }

    /// The kind of the present token.
    pub fn kind(&self) -> Kind {
        self.token(0).kind
    }

    /// Bytes of a token.
    pub fn slice(&self, token: Token) -> &'a str {
        &self.text[token.start as usize..token.end as usize]
    }

    /// The text of the present token.
    pub fn word(&self) -> &'a str {
        self.slice(self.token(0))
    }

    /// The place of the present token.
    pub fn pos(&self) -> Pos {
        self.lines.pos(self.token(0).start)
    }

    /// Index of the present token, for [`Parser::text_since`].
    pub fn mark(&self) -> usize {
        self.at
    }

    /// The text of the tokens since `mark`, white space and comments folded to one blank.
    pub fn text_since(&self, mark: usize) -> String {
        let mut out = String::new();
        let mut end = None;
        for token in &self.tokens[mark..self.at] {
            if end.is_some_and(|end| end != token.start) {
                out.push(' ');
            }
            out.push_str(self.slice(*token));
            end = Some(token.end);
        }
        out
    }

    /// Goes on to the next token and gives this one.
    pub fn next(&mut self) -> Token {
        let token = self.token(0);
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    /// Whether the present token is `punct`.
    pub fn is(&self, punct: u8) -> bool {
        self.kind() == Kind::Punct(punct)
    }

    /// Takes the present token if it is `punct`.
    pub fn take(&mut self, punct: u8) -> bool {
        let found = self.is(punct);
        if found {
            self.at += 1;
        }
        found
    }

    /// Takes the present token if it is the directive `word` (with its dot).
    pub fn take_dot(&mut self, word: &str) -> bool {
        let found = self.kind() == Kind::Dot && self.word() == word;
        if found {
            self.at += 1;
        }
        found
    }

    /// An error at the present token.
    pub fn fail<T>(&self, what: impl Into<String>, hint: impl Into<String>) -> Result<T> {
        Err(ParseError::new(self.pos(), what, hint))
    }

    /// An error at the present token that says what should be there.
    pub fn expected<T>(&self, what: &str) -> Result<T> {
        let found = match self.kind() {
            Kind::End => "the end of the text".to_string(),
            _ => {
                let word: String = self.word().chars().take(60).collect();
                format!("`{word}`")
            }
        };
        self.fail(format!("expected {what}, found {found}"), "")
    }

    /// Takes `punct`; `place` says where, as in "after the parameters".
    pub fn expect(&mut self, punct: u8, place: &str) -> Result<()> {
        if self.take(punct) { Ok(()) } else { self.expected(&format!("`{}` {place}", punct as char)) }
    }

    /// Takes a name.
    pub fn name(&mut self, what: &str) -> Result<String> {
        if self.kind() == Kind::Ident {
            let token = self.next();
            return Ok(self.slice(token).to_string());
        }
        self.expected(what)
    }

    /// Takes a string.
    pub fn string(&mut self, what: &str) -> Result<String> {
        if self.kind() == Kind::Str {
            let token = self.next();
            return Ok(lex::unquote(self.slice(token)));
        }
        self.expected(what)
    }

    /// Takes an integer below 2^32.
    pub fn number(&mut self, what: &str) -> Result<u32> {
        if self.kind() == Kind::Int {
            let Some(value) = lex::integer(self.word()).and_then(|(v, _)| u32::try_from(v).ok()) else {
                return self.fail(format!("{what} does not fit in 32 bits"), "");
            };
            self.at += 1;
            return Ok(value);
        }
        self.expected(what)
    }

    /// Runs `parse` one level deeper.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return self.fail(format!("nested deeper than {MAX_DEPTH} levels"), "");
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Names with commas between them up to `;`.
    pub fn names(&mut self, what: &str) -> Result<Vec<String>> {
        let mut names = vec![self.name(what)?];
        while self.take(b',') {
            names.push(self.name(what)?);
        }
        self.expect(b';', "at the end of the list")?;
        Ok(names)
    }

    fn module(&mut self) -> Result<Module> {
        let mut module = Module { address_size: 64, ..Module::default() };
        self.skip_dwarf_lines();
        if !self.take_dot(".version") {
            let what = format!("PTX starts with `.version`, this text with `{:.40}`", self.word());
            return self.fail(what, "is this PTX text?");
        }
        module.version = self.version()?;
        loop {
            self.skip_dwarf_lines();
            if self.kind() == Kind::End {
                break;
            }
            if self.kind() != Kind::Dot {
                return self.expected("a directive, a variable or a function");
            }
            self.item(&mut module)?;
        }
        if module.target.is_empty() {
            return self.fail("the module has no `.target`", "add `.target sm_80` after `.version`");
        }
        Ok(module)
    }

    /// `@@DWARF ..` lines of PTX 1: debug data that nothing here reads.
    fn skip_dwarf_lines(&mut self) {
        while self.is(b'@') && self.token(1).kind == Kind::Punct(b'@') {
            let line = self.pos().line;
            while self.kind() != Kind::End && self.pos().line == line {
                self.at += 1;
            }
        }
    }

    fn item(&mut self, module: &mut Module) -> Result<()> {
        match self.word() {
            ".version" => return self.fail("a second `.version`", "give one module per text"),
            ".target" => {
                self.at += 1;
                module.target.push(self.name("a target such as sm_80")?);
                while self.take(b',') {
                    module.target.push(self.name("a target option")?);
                }
            }
            ".address_size" => {
                self.at += 1;
                module.address_size = self.number("32 or 64")?;
                if !matches!(module.address_size, 32 | 64) {
                    return self.fail("`.address_size` is 32 or 64", "");
                }
            }
            ".file" => {
                let file = self.file()?;
                module.files.push(file);
            }
            ".section" => {
                let section = self.section()?;
                module.sections.push(section);
            }
            ".pragma" => self.pragma(&mut module.pragmas)?,
            ".loc" => {
                self.loc()?; // outside functions it says nothing
            }
            ".alias" => {
                let pos = self.pos();
                self.at += 1;
                let name = self.name("the alias")?;
                self.expect(b',', "after the alias")?;
                let target = self.name("the function that the alias stands for")?;
                self.expect(b';', "after `.alias`")?;
                module.aliases.push(Alias { pos, name, target });
            }
            _ => self.declaration(module)?,
        }
        Ok(())
    }

    fn version(&mut self) -> Result<(u32, u32)> {
        let text = self.word();
        let number = |part: &str| part.parse::<u32>().ok();
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let (Some(major), Some(minor)) = (number(major), number(minor)) else {
            return self.expected("a version such as 8.4");
        };
        self.at += 1;
        Ok((major, minor))
    }

    /// `.file 1 "name"{, time, size}`
    pub fn file(&mut self) -> Result<(u32, String)> {
        self.at += 1;
        let number = self.number("a file number")?;
        let name = self.string("a file name in quotes")?;
        while self.take(b',') {
            if self.kind() != Kind::Int {
                return self.expected("a time or a size");
            }
            self.at += 1;
        }
        Ok((number, name))
    }

    /// `.pragma "a", "b";`
    pub fn pragma(&mut self, into: &mut Vec<String>) -> Result<()> {
        self.at += 1;
        into.push(self.string("a string after `.pragma`")?);
        while self.take(b',') {
            into.push(self.string("a string")?);
        }
        self.expect(b';', "after `.pragma`")
    }

    fn section(&mut self) -> Result<Section> {
        let pos = self.pos();
        self.at += 1;
        let name = self.symbol("a section name")?;
        self.expect(b'{', "after the section's name")?;
        let mut items = Vec::new();
        while !self.take(b'}') {
            if self.kind() == Kind::Ident && self.token(1).kind == Kind::Punct(b':') {
                items.push(SectionItem::Label(self.name("a label")?));
                self.at += 1;
                continue;
            }
            let bytes = match (self.kind(), self.word()) {
                (Kind::Dot, ".b8") => 1,
                (Kind::Dot, ".b16") => 2,
                (Kind::Dot, ".b32") => 4,
                (Kind::Dot, ".b64") => 8,
                _ => return self.expected("`.b8`, `.b16`, `.b32`, `.b64`, a label or `}` in a section"),
            };
            self.at += 1;
            self.section_item(bytes, &mut items)?;
            while self.take(b',') {
                self.section_item(bytes, &mut items)?;
            }
        }
        Ok(Section { pos, name, items })
    }

    /// A name that may start with a dot (`.debug_str`).
    fn symbol(&mut self, what: &str) -> Result<String> {
        if matches!(self.kind(), Kind::Ident | Kind::Dot) {
            let token = self.next();
            return Ok(self.slice(token).to_string());
        }
        self.expected(what)
    }

    fn section_item(&mut self, bytes: u32, items: &mut Vec<SectionItem>) -> Result<()> {
        if !matches!(self.kind(), Kind::Ident | Kind::Dot) {
            let value = self.constant_integer("a number or a label in a section")?;
            let data = &value.to_le_bytes()[..bytes as usize];
            match items.last_mut() {
                Some(SectionItem::Bytes(before)) => before.extend_from_slice(data),
                _ => items.push(SectionItem::Bytes(data.to_vec())),
            }
            return Ok(());
        }
        let name = self.symbol("a label")?;
        let mut item = (0, None);
        if self.is(b'-') && matches!(self.token(1).kind, Kind::Ident | Kind::Dot) {
            self.at += 1;
            item.1 = Some(self.symbol("a label")?);
        }
        if self.is(b'+') || self.is(b'-') {
            item.0 = self.constant_integer("an offset")?;
        }
        items.push(SectionItem::Ref { bytes, name, offset: item.0, minus: item.1 });
        Ok(())
    }
}
