//! Scopes: what a name stands for at a place in the text. A `{ .. }` hides names of the scopes around it; an inlined function sees its own scopes and
//! the module's only. Register ranges (`%r<4000>`) are never expanded: a register exists from its first use on.

use std::collections::HashMap;

use crate::vgpu::ptx::ast::{Func, Space, Stmt, Ty, Var};

/// Index of a register in [`Registers`].
pub(super) type RegId = u32;
/// Index of a label of this lowering.
pub(super) type LabelId = u32;
/// Index of a `.param` variable inside a body, or of a parameter of an inlined function.
pub(super) type StoreId = u32;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'a> {
    /// A scalar register.
    Reg(RegId),
    /// Registers `first..first + count` as a vector.
    Vector { first: RegId, count: u32 },
    /// A variable in `.global`, `.shared`, `.local` or `.const`.
    Var(&'a Var, Space),
    /// A parameter of the kernel, by number.
    Param(usize),
    /// Other `.param` variables.
    Store(StoreId),
    /// A function.
    Func(&'a Func),
    /// A list of `.branchtargets`.
    Targets(&'a [String]),
    /// A `.callprototype` or `.calltargets`.
    CallInfo,
}

/// A register of the program.
#[derive(Clone, Debug)]
pub(super) struct Reg {
    pub name: String,
    pub ty: Ty,
    /// First row; predicate for `.pred`.
    pub row: u16,
}

/// `%r<10>`.
struct Range {
    count: u32,
    ty: Ty,
    vec: u32,
}

#[derive(Default)]
struct Scope<'a> {
    names: HashMap<String, Entry<'a>>,
    ranges: HashMap<&'a str, Range>,
    labels: HashMap<&'a str, LabelId>,
}

/// A register that a lookup found declared but not yet used: the caller makes it.
pub(super) struct Fresh {
    pub name: String,
    pub ty: Ty,
    pub vec: u32,
    scope: usize,
}

/// Result of a lookup.
pub(super) enum Found<'a> {
    Entry(Entry<'a>),
    Fresh(Fresh),
    Nothing,
}

/// The scopes at a place; the first one is the module's.
#[derive(Default)]
pub(super) struct Names<'a> {
    scopes: Vec<Scope<'a>>,
    /// First scope of the function that is being walked.
    floor: usize,
}

/// Scopes nested deeper than this are refused; real code has a handful.
pub(super) const MOST_SCOPES: usize = 96;

impl<'a> Names<'a> {
    pub fn new() -> Names<'a> {
        Names { scopes: vec![Scope::default()], floor: 0 }
    }

    /// Opens a scope; false where there are too many.
    pub fn open(&mut self) -> bool {
        self.scopes.push(Scope::default());
        self.scopes.len() <= MOST_SCOPES
    }

    pub fn close(&mut self) {
        self.scopes.pop();
    }

    /// Opens the first scope of a function; the old floor goes back to [`Names::leave`].
    pub fn enter(&mut self) -> (bool, usize) {
        let old = std::mem::replace(&mut self.floor, self.scopes.len());
        (self.open(), old)
    }

    pub fn leave(&mut self, floor: usize) {
        self.scopes.truncate(self.floor);
        self.floor = floor;
    }

    fn top(&mut self) -> &mut Scope<'a> {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    /// Declares a name in the innermost scope; false where it is declared there already.
    pub fn declare(&mut self, name: &str, entry: Entry<'a>) -> bool {
        let scope = self.top();
        !scope.ranges.contains_key(name) && scope.names.insert(name.to_string(), entry).is_none()
    }

    /// Declares `name` (no count) or `name0` to `name(count-1)`; false where they are declared already.
    pub fn declare_regs(&mut self, name: &'a str, count: Option<u32>, ty: Ty, vec: u32) -> bool {
        // A single register is a range without digits.
        let scope = self.top();
        let single = u32::MAX;
        let fresh = !scope.names.contains_key(name) && !scope.ranges.contains_key(name);
        scope.ranges.insert(name, Range { count: count.unwrap_or(single), ty, vec });
        if count.is_none() {
            scope.names.remove(name);
        }
        fresh || count.is_some()
    }

    /// Declares the labels of a statement list, so that branches find the innermost one wherever it stands. Gives the first that is there twice.
    pub fn declare_labels(&mut self, body: &'a [Stmt], next: &mut LabelId) -> Option<&'a Stmt> {
        let scope = self.top();
        for stmt in body {
            if let Stmt::Label { name, .. } = stmt {
                if scope.labels.insert(name, *next).is_some() {
                    return Some(stmt);
                }
                *next += 1;
            }
        }
        None
    }

    /// The innermost label of that name in this function.
    pub fn label(&self, name: &str) -> Option<LabelId> {
        self.scopes[self.floor..].iter().rev().find_map(|s| s.labels.get(name)).copied()
    }

    /// What a name stands for here.
    pub fn find(&self, name: &str) -> Found<'a> {
        let own = (self.floor.max(1)..self.scopes.len()).rev();
        for i in own.chain([0]) {
            let Some(scope) = self.scopes.get(i) else { continue };
            if let Some(entry) = scope.names.get(name) {
                return Found::Entry(*entry);
            }
            if let Some((ty, vec)) = scope.range(name) {
                return Found::Fresh(Fresh { name: name.to_string(), ty, vec, scope: i });
            }
        }
        Found::Nothing
    }

    /// Remembers what a [`Fresh`] register became.
    pub fn settle(&mut self, fresh: Fresh, entry: Entry<'a>) {
        self.scopes[fresh.scope].names.insert(fresh.name, entry);
    }
}

impl Scope<'_> {
    fn range(&self, name: &str) -> Option<(Ty, u32)> {
        if self.ranges.is_empty() {
            return None;
        }
        if let Some(range) = self.ranges.get(name)
            && range.count == u32::MAX
        {
            return Some((range.ty, range.vec));
        }
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(10);
        // `%r12` may be number 12 of `%r<..>` or number 2 of `%r1<..>`.
        for n in (1..=digits).rev() {
            let (prefix, number) = name.split_at(name.len() - n);
            if n > 1 && number.starts_with('0') {
                continue;
            }
            if let (Some(range), Ok(number)) = (self.ranges.get(prefix), number.parse::<u32>())
                && number < range.count
                && range.count != u32::MAX
            {
                return Some((range.ty, range.vec));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(names: &Names<'_>, name: &str) -> Option<Ty> {
        match names.find(name) {
            Found::Fresh(fresh) => Some(fresh.ty),
            _ => None,
        }
    }

    #[test]
    fn ranges_and_shadows() {
        let mut names = Names::new();
        names.enter();
        assert!(names.declare_regs("%r", Some(11), Ty::B32, 1));
        assert!(names.declare_regs("%r1", Some(3), Ty::B64, 1));
        assert_eq!(kind(&names, "%r10"), Some(Ty::B32), "the longest number first");
        assert_eq!(kind(&names, "%r12"), Some(Ty::B64));
        assert_eq!(kind(&names, "%r13"), None);
        assert_eq!(kind(&names, "%r01"), None, "no leading zeros");
        assert_eq!(kind(&names, "%r"), None);
        names.open();
        assert!(names.declare_regs("low", None, Ty::F16, 1));
        assert!(!names.declare_regs("low", None, Ty::F16, 1), "twice in a scope");
        assert!(names.declare_regs("%r", Some(4_000_000_000), Ty::F32, 1));
        assert_eq!(kind(&names, "%r3999999999"), Some(Ty::F32));
        assert_eq!(kind(&names, "%r1"), Some(Ty::F32), "hidden");
        names.close();
        assert_eq!((kind(&names, "%r1"), kind(&names, "low")), (Some(Ty::B32), None));
        let (_, floor) = names.enter();
        assert_eq!(kind(&names, "%r1"), None, "a function does not see its caller");
        names.leave(floor);
        assert_eq!(kind(&names, "%r1"), Some(Ty::B32));
    }
}
