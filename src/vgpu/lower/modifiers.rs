//! The modifiers of an instruction as a set: every one must be taken by the form that is lowered, those that exclude each other may not meet. What is left
//! over is an error that names it, so that no modifier is ever ignored by accident.

use super::operands::{LowerError, Result};
use crate::vgpu::ptx::ast::{Instr, Ty};

/// Modifiers not yet taken.
pub(super) struct Mods<'i> {
    instr: &'i Instr,
    rest: Vec<&'i str>,
}

/// An error at an instruction, with its text.
pub(super) fn error(instr: &Instr, unsupported: bool, what: &str) -> LowerError {
    let mut text: String = instr.text.chars().take(200).collect();
    if text.len() < instr.text.len() {
        text.push_str("..");
    }
    LowerError { pos: instr.pos, unsupported, what: format!("{what} in `{text}`"), hint: String::new() }
}

impl<'i> Mods<'i> {
    pub fn new(instr: &'i Instr) -> Mods<'i> {
        Mods { instr, rest: instr.op.iter().skip(1).map(String::as_str).collect() }
    }

    /// Takes a modifier if it is there.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.rest.iter().position(|m| *m == name) {
            Some(i) => {
                self.rest.remove(i);
                true
            }
            None => false,
        }
    }

    /// Takes the one of `choices` that is there, if any.
    ///
    /// # Errors
    /// Two of them are there.
    pub fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<Option<T>> {
        self.choose(|m| choices.iter().find(|c| c.0 == m).map(|c| c.1))
    }

    /// Takes the modifier that `read` understands, if any.
    ///
    /// # Errors
    /// Two of them are there.
    pub fn choose<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let mut found: Option<(&str, T)> = None;
        let mut i = 0;
        while i < self.rest.len() {
            match read(self.rest[i]) {
                Some(value) => {
                    let name = self.rest.remove(i);
                    if let Some((first, _)) = &found {
                        return Err(error(self.instr, false, &format!("both `.{first}` and `.{name}`")));
                    }
                    found = Some((name, value));
                }
                None => i += 1,
            }
        }
        Ok(found.map(|f| f.1))
    }

    /// Takes the one of `choices` that must be there.
    ///
    /// # Errors
    /// None or two of them are there.
    pub fn need<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T> {
        let found = self.one_of(choices)?;
        found.ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|c| format!(".{}", c.0)).collect();
            error(self.instr, false, &format!("`{}` without one of {}", self.base(), names.join(" ")))
        })
    }

    /// Takes a modifier that must be there.
    ///
    /// # Errors
    /// It is missing.
    pub fn expect(&mut self, name: &str) -> Result<()> {
        if self.flag(name) {
            return Ok(());
        }
        Err(error(self.instr, false, &format!("`{}` without `.{name}`", self.base())))
    }

    /// Takes the only type.
    ///
    /// # Errors
    /// None or two are there.
    pub fn ty(&mut self) -> Result<Ty> {
        self.choose(Ty::parse)?.ok_or_else(|| error(self.instr, false, &format!("`{}` without a type", self.base())))
    }

    /// The first modifier left.
    pub fn left(&self) -> Option<&'i str> {
        self.rest.first().copied()
    }

    /// All must have been taken.
    ///
    /// # Errors
    /// One is left.
    pub fn finish(self) -> Result<()> {
        match self.rest.first() {
            None => Ok(()),
            Some(m) => Err(error(self.instr, true, &format!("modifier `.{m}` of `{}` is not supported", self.base()))),
        }
    }

    fn base(&self) -> &'i str {
        self.instr.op.first().map_or("", String::as_str)
    }
}

/// The number of operands must be one of `counts`.
///
/// # Errors
/// It is not.
pub(super) fn operand_count(instr: &Instr, counts: &[usize]) -> Result<()> {
    if counts.contains(&instr.operands.len()) {
        return Ok(());
    }
    let wanted: Vec<String> = counts.iter().map(usize::to_string).collect();
    let what = format!("{} operands instead of {}", instr.operands.len(), wanted.join(" or "));
    Err(error(instr, false, &what))
}
