//! PTX text into tokens. Words are not told apart by meaning here: `ld`, `%r1` and a label are all [`Kind::Ident`], everything that starts with a dot is one
//! [`Kind::Dot`].

use super::ParseError;
use super::ast::Pos;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ld`, `%r1`, `$L__BB0_1`, `_`.
    Ident,
    /// `.global`, `.L2::128B`, `.b32`: a dot and a word, `::` parts with it.
    Dot,
    /// An integer, with its suffix.
    Int,
    /// `0f3f800000`.
    F32,
    /// `0d..` or a decimal float.
    F64,
    /// A string, with its quotes.
    Str,
    /// Punctuation: the character, or the first of two and [`Kind::Punct2`].
    Punct(u8),
    /// `<<`, `>>`, `<=`, `>=`, `==`, `!=`, `&&`, `||`, by both characters.
    Punct2(u8, u8),
    /// The end of the text.
    End,
}

/// A token: what it is and its bytes in the text.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
}

/// Where lines start, to turn byte offsets into places.
#[derive(Debug)]
pub struct Lines(Vec<u32>);

impl Lines {
    fn new(text: &str) -> Lines {
        let after = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i as u32 + 1);
        Lines(std::iter::once(0).chain(after).collect())
    }

    /// The place of a byte. Columns count bytes.
    pub fn pos(&self, at: u32) -> Pos {
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        Pos { line: line as u32, col: at - start + 1 }
    }
}

fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$'
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    lines: Lines,
}

/// Splits `text` into tokens, the last one [`Kind::End`].
///
/// # Errors
/// A character that PTX has no use for, a comment or string without its end, a malformed number.
pub fn lex(text: &str) -> Result<(Vec<Token>, Lines), ParseError> {
    let lines = Lines::new(text);
    if text.len() >= u32::MAX as usize {
        return Err(ParseError::new(Pos { line: 1, col: 1 }, "the text is 4 GiB or longer", ""));
    }
    let mut lexer = Lexer { bytes: text.as_bytes(), at: 0, lines };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        let kind = lexer.token()?;
        tokens.push(Token { kind, start: start as u32, end: lexer.at as u32 });
        if kind == Kind::End {
            return Ok((tokens, lexer.lines));
        }
    }
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn fail<T>(&self, at: usize, what: impl Into<String>, hint: &str) -> Result<T, ParseError> {
        Err(ParseError::new(self.lines.pos(at as u32), what, hint))
    }

    fn line_start(&self) -> bool {
        let before = &self.bytes[..self.at];
        before.iter().rev().take_while(|b| **b != b'\n').take(64).all(u8::is_ascii_whitespace)
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.peek(0) != b'\n' {
            self.at += 1;
        }
    }

    /// White space, comments, and the line markers that a C preprocessor leaves.
    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.at += 1,
                b'/' if self.peek(1) == b'/' => self.skip_line(),
                b'/' if self.peek(1) == b'*' => {
                    let rest = &self.bytes[self.at + 2..];
                    match rest.windows(2).position(|w| w == b"*/") {
                        Some(i) => self.at += i + 4,
                        None => return self.fail(self.at, "this comment has no end", "close it with */"),
                    }
                }
                b'#' if self.line_start() => {
                    let rest = self.bytes[self.at + 1..].trim_ascii_start();
                    if !rest.starts_with(b"line") && !rest.first().is_some_and(u8::is_ascii_digit) {
                        let hint = "run a C preprocessor over the text first";
                        return self.fail(self.at, "a preprocessor directive", hint);
                    }
                    self.skip_line();
                }
                _ => return Ok(()),
            }
        }
    }

    fn token(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        let Some(&first) = self.bytes.get(start) else { return Ok(Kind::End) };
        // `%` alone is the remainder operator; at the start of a word it is part of the name.
        let percent = first == b'%' && word(self.peek(1));
        if percent || (word(first) && !first.is_ascii_digit()) {
            self.at += 1;
            self.skip_word();
            return Ok(Kind::Ident);
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == b'.' && self.peek(1).is_ascii_digit() && self.fraction() {
            return self.decimal();
        }
        if first == b'.' && word(self.peek(1)) {
            self.at += 1;
            self.skip_word();
            while self.peek(0) == b':' && self.peek(1) == b':' && word(self.peek(2)) {
                self.at += 2;
                self.skip_word();
            }
            return Ok(Kind::Dot);
        }
        if first == b'"' {
            return self.string();
        }
        let pair = (first, self.peek(1));
        if let (b'<', b'<' | b'=') | (b'>', b'>' | b'=') | (b'=' | b'!', b'=') | (b'&', b'&') | (b'|', b'|') = pair {
            self.at += 2;
            return Ok(Kind::Punct2(pair.0, pair.1));
        }
        if b"{}()[]<>,;:@!|+-*/%&^~?=".contains(&first) {
            self.at += 1;
            return Ok(Kind::Punct(first));
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.bytes.len().min(start + 8)]).into_owned();
        let shown = text.chars().next().unwrap_or(' ');
        self.fail(start, format!("PTX has no use for the character {shown:?}"), "is this PTX text?")
    }

    fn skip_word(&mut self) {
        while word(self.peek(0)) {
            self.at += 1;
        }
    }

    /// `.5` and `.5e3` are floats, `.1d` and `.16x256b` modifiers: a float's digits end the word.
    fn fraction(&self) -> bool {
        let rest = &self.bytes[self.at + 1..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        match rest.get(digits) {
            Some(b'e' | b'E') => match rest.get(digits + 1) {
                Some(b'+' | b'-') => rest.get(digits + 2).is_some_and(u8::is_ascii_digit),
                next => next.is_some_and(u8::is_ascii_digit),
            },
            next => !next.is_some_and(|b| word(*b) || *b == b':'),
        }
    }

    fn number(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        let hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
        match (self.peek(0), self.peek(1)) {
            (b'0', p @ (b'f' | b'F' | b'd' | b'D')) => {
                let (count, kind) = if p.eq_ignore_ascii_case(&b'f') { (8, Kind::F32) } else { (16, Kind::F64) };
                self.at += 2;
                let digits = self.at;
                self.skip_word();
                if self.at - digits != count || !hex(&self.bytes[digits..self.at]) {
                    let what = format!("a 0{} constant has {count} hexadecimal digits", p as char);
                    return self.fail(start, what, "write the bits of the float");
                }
                Ok(kind)
            }
            (b'0', b'x' | b'X') => self.integer(2, u8::is_ascii_hexdigit, "hexadecimal"),
            (b'0', b'b' | b'B') => self.integer(2, |b| matches!(b, b'0' | b'1'), "binary"),
            _ => {
                let digits = self.bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
                match self.bytes.get(start + digits) {
                    Some(b'.' | b'e' | b'E') => self.decimal(),
                    _ if self.peek(0) == b'0' => self.integer(0, |b| (b'0'..=b'7').contains(b), "octal"),
                    _ => self.integer(0, u8::is_ascii_digit, "decimal"),
                }
            }
        }
    }

    fn integer(&mut self, prefix: usize, digit: impl Fn(&u8) -> bool, name: &str) -> Result<Kind, ParseError> {
        let start = self.at;
        self.at += prefix;
        let digits = self.at;
        self.skip_word();
        let body = &self.bytes[digits..self.at];
        let body = body.strip_suffix(b"U").unwrap_or(body);
        if body.is_empty() || !body.iter().all(digit) {
            let text = String::from_utf8_lossy(&self.bytes[start..self.at.min(start + 40)]).into_owned();
            return self.fail(start, format!("`{text}` is no {name} integer"), "");
        }
        Ok(Kind::Int)
    }

    fn decimal(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        let digits = |l: &mut Self| {
            while l.peek(0).is_ascii_digit() {
                l.at += 1;
            }
        };
        digits(self);
        if self.peek(0) == b'.' {
            self.at += 1;
            digits(self);
        }
        if self.peek(0).eq_ignore_ascii_case(&b'e') {
            self.at += 1;
            if matches!(self.peek(0), b'+' | b'-') {
                self.at += 1;
            }
            if !self.peek(0).is_ascii_digit() {
                return self.fail(start, "this float has no digits in its exponent", "");
            }
            digits(self);
        }
        if word(self.peek(0)) {
            return self.fail(start, "a letter follows this float", "PTX floats have no suffix");
        }
        Ok(Kind::F64)
    }

    fn string(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek(0) {
                b'"' => {
                    self.at += 1;
                    return Ok(Kind::Str);
                }
                b'\\' if self.at + 1 < self.bytes.len() => self.at += 2,
                b'\n' => return self.fail(start, "this string has no end on its line", "close it with \""),
                _ if self.at >= self.bytes.len() => return self.fail(start, "this string has no end", ""),
                _ => self.at += 1,
            }
        }
    }
}

/// The value of an integer token: `None` above 64 bits; whether it is unsigned (suffix `U`, or too large for `.s64`).
pub fn integer(text: &str) -> Option<(u64, bool)> {
    let (body, suffix) = match text.strip_suffix('U') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let (radix, digits) = match body.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &body[2..]),
        [b'0', b'b' | b'B', ..] => (2, &body[2..]),
        [b'0', _, ..] => (8, &body[1..]),
        _ => (10, body),
    };
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some((value, suffix || value > i64::MAX as u64))
}

/// The contents of a string token, escapes resolved.
pub fn unquote(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.bytes().peekable();
    while let Some(b) = bytes.next() {
        if b != b'\\' {
            out.push(b);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(d @ b'0'..=b'7') => {
                let mut value = u32::from(d - b'0');
                for _ in 0..2 {
                    if let Some(d) = bytes.next_if(|d| (b'0'..=b'7').contains(d)) {
                        value = value * 8 + u32::from(d - b'0');
                    }
                }
                out.push(value as u8);
            }
            Some(other) => out.push(other),
            None => out.push(b'\\'),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
