//! The pickle machine: runs the opcodes over a stack of node numbers. Not here: what a pickle may name and call (`numpy`).

use std::borrow::Cow;
use std::collections::HashMap;

use super::text::{decimal, raw_unicode, unquote};
use super::{Id, MAX_OPCODES, Node};

/// What is wrong and at which byte.
#[derive(Debug)]
pub struct Fault {
    /// Offset of the opcode, or of the end of the file.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

/// What may go wrong in a pickle.
pub type Outcome<T> = std::result::Result<T, Fault>;

/// Opcodes that Python knows and CIFAR does not need.
const REFUSED: [(u8, &str); 19] = [
    (b'i', "INST"),
    (b'o', "OBJ"),
    (0x81, "NEWOBJ"),
    (0x92, "NEWOBJ_EX"),
    (b'P', "PERSID"),
    (b'Q', "BINPERSID"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (b'F', "FLOAT"),
    (b'G', "BINFLOAT"),
    (b'0', "POP"),
    (b'1', "POP_MARK"),
    (b'2', "DUP"),
    (0x8f, "EMPTY_SET"),
    (0x90, "ADDITEMS"),
    (0x91, "FROZENSET"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];

/// A machine at work.
pub struct Machine<'a> {
    bytes: &'a [u8],
    /// Where the current opcode stands.
    start: usize,
    /// Where the next byte is read.
    at: usize,
    pub(super) nodes: Vec<Node<'a>>,
    origins: Vec<u32>,
    stack: Vec<Id>,
    /// Stack heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// Runs a pickle to its STOP: all nodes, the offset of the opcode that made each, and the number of the outermost.
pub fn run(bytes: &[u8]) -> Outcome<(Vec<Node<'_>>, Vec<u32>, Id)> {
    let mut machine = Machine {
        bytes,
        start: 0,
        at: 0,
        nodes: Vec::new(),
        origins: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    if u32::try_from(bytes.len()).is_err() {
        return machine.fault("is too large for a pickle of CIFAR");
    }
    for _ in 0..MAX_OPCODES {
        if let Some(root) = machine.step()? {
            return Ok((machine.nodes, machine.origins, root));
        }
    }
    machine.fault(format!("has more than {MAX_OPCODES} opcodes, CIFAR needs far fewer"))
}

impl<'a> Machine<'a> {
    pub(super) fn fault<T>(&self, what: impl Into<String>) -> Outcome<T> {
        Err(Fault { at: self.start, what: what.into() })
    }

    // ---- input ----------------------------------------------------------------------------------------------------

    fn take(&mut self, n: u64) -> Outcome<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => {
                let at = self.bytes.len();
                let what = format!(
                    "the file ends within an opcode that began at byte {} and needs {n} bytes more: truncated?",
                    self.start
                );
                Err(Fault { at, what })
            }
        }
    }

    /// A little-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> Outcome<u64> {
        Ok(self.take(N as u64)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Bytes behind their length of `N` bytes.
    fn counted<const N: usize>(&mut self) -> Outcome<&'a [u8]> {
        let n = self.number::<N>()?;
        self.take(n)
    }

    fn line(&mut self) -> Outcome<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(n) => {
                self.at += n + 1;
                Ok(&rest[..n])
            }
            None => {
                let what = format!("the file ends within the line that began at byte {}: truncated?", self.at);
                Err(Fault { at: self.bytes.len(), what })
            }
        }
    }

    // ---- stack ----------------------------------------------------------------------------------------------------

    pub(super) fn push(&mut self, node: Node<'a>) {
        let id = self.nodes.len() as Id; // at most MAX_OPCODES
        self.nodes.push(node);
        self.origins.push(self.start as u32);
        self.stack.push(id);
    }

    /// The value on top, above the last mark.
    pub(super) fn top(&self) -> Outcome<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.get(floor..).and_then(<[Id]>::last) {
            Some(id) => Ok(*id),
            None => self.fault("an opcode finds nothing on the stack"),
        }
    }

    pub(super) fn pop(&mut self) -> Outcome<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    /// Everything above the last mark, which goes.
    fn pop_to_mark(&mut self) -> Outcome<Vec<Id>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.fault("an opcode finds no mark on the stack"),
        }
    }

    pub(super) fn pop_n<const N: usize>(&mut self) -> Outcome<Vec<Id>> {
        let mut items = (0..N).map(|_| self.pop()).collect::<Outcome<Vec<Id>>>()?;
        items.reverse();
        Ok(items)
    }

    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    // ---- opcodes --------------------------------------------------------------------------------------------------

    /// One opcode; the outermost value at STOP.
    fn step(&mut self) -> Outcome<Option<Id>> {
        self.start = self.at;
        let opcode = self.take(1)?[0];
        match opcode {
            0x80 => {
                let protocol = self.number::<1>()?;
                if protocol > 5 {
                    return self.fault(format!("is of pickle protocol {protocol}, 0 to 5 are read"));
                }
            }
            0x95 => {
                let length = self.number::<8>()?;
                let left = (self.bytes.len() - self.at) as u64;
                if length > left {
                    let what = format!("a frame of {length} bytes begins, the file has {left} more: truncated?");
                    return self.fault(what);
                }
            }
            b'.' => {
                let root = self.pop()?;
                if !self.stack.is_empty() || !self.marks.is_empty() {
                    return self.fault("STOP leaves values on the stack");
                }
                if self.at != self.bytes.len() {
                    return self.fault(format!("{} bytes follow STOP", self.bytes.len() - self.at));
                }
                return Ok(Some(root));
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'I' | b'L' | b'J' | b'K' | b'M' | 0x8a | 0x8b => {
                let value = self.integer(opcode)?;
                self.push(value);
            }
            b'S' | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => {
                let bytes = self.byte_string(opcode)?;
                self.push(Node::Bytes(bytes));
            }
            b'V' | b'X' | 0x8c | 0x8d => {
                let text = self.text(opcode)?;
                self.push(Node::Text(text));
            }
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Dict(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items));
            }
            b'd' => {
                let items = self.pop_to_mark()?;
                self.pairs(&items)?;
                self.push(Node::Dict(items));
            }
            0x85 => {
                let items = self.pop_n::<1>()?;
                self.push(Node::Tuple(items));
            }
            0x86 => {
                let items = self.pop_n::<2>()?;
                self.push(Node::Tuple(items));
            }
            0x87 => {
                let items = self.pop_n::<3>()?;
                self.push(Node::Tuple(items));
            }
            b'a' => {
                let items = self.pop_n::<1>()?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.pop_n::<2>()?;
                self.set_items(items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
            b'p' | b'q' | b'r' | 0x94 => self.remember(opcode)?,
            b'g' | b'h' | b'j' => self.recall(opcode)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global("GLOBAL", module, name)?;
            }
            0x93 => {
                let names = self.pop_n::<2>()?;
                let (Node::Text(module), Node::Text(name)) = (self.node(names[0]), self.node(names[1])) else {
                    return self.fault("STACK_GLOBAL finds no two texts on the stack");
                };
                let (module, name) = (module.clone(), name.clone());
                self.global("STACK_GLOBAL", module.as_bytes(), name.as_bytes())?;
            }
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => {
                let what = match REFUSED.iter().find(|(refused, _)| *refused == opcode) {
                    Some((_, name)) => format!("pickle opcode {name} (0x{opcode:02x})"),
                    None => format!("byte 0x{opcode:02x} in place of a pickle opcode"),
                };
                return self.fault(format!("{what} is refused, no file of CIFAR needs it; nothing was executed"));
            }
        }
        Ok(None)
    }

    fn integer(&mut self, opcode: u8) -> Outcome<Node<'a>> {
        let signed = |bytes: &[u8]| {
            let fill = if bytes.last().is_some_and(|last| last >> 7 == 1) { 0xff } else { 0 };
            let mut all = [fill; 8];
            all.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(i64::from_le_bytes(all))
        };
        let value = match opcode {
            b'I' => match self.line()? {
                b"00" => return Ok(Node::Bool(false)),
                b"01" => return Ok(Node::Bool(true)),
                line => decimal(line),
            },
            b'L' => {
                let line = self.line()?;
                decimal(line.strip_suffix(b"L").unwrap_or(line))
            }
            b'J' => signed(self.take(4)?),
            b'K' => signed(&[self.take(1)?[0], 0]),
            b'M' => Some(self.number::<2>()? as i64),
            0x8a => signed(self.counted::<1>()?),
            _ => signed(self.counted::<4>()?),
        };
        match value {
            Some(value) => Ok(Node::Int(value)),
            None => self.fault("holds no integer of 64 bits where one should be"),
        }
    }

    fn byte_string(&mut self, opcode: u8) -> Outcome<Cow<'a, [u8]>> {
        Ok(Cow::Borrowed(match opcode {
            b'S' => {
                let line = self.line()?;
                return match unquote(line.strip_suffix(b"\r").unwrap_or(line)) {
                    Some(bytes) => Ok(bytes),
                    None => self.fault("holds no quoted string where one should be"),
                };
            }
            b'U' | b'C' => self.counted::<1>()?,
            b'T' | b'B' => self.counted::<4>()?,
            _ => self.counted::<8>()?,
        }))
    }

    fn text(&mut self, opcode: u8) -> Outcome<Cow<'a, str>> {
        let text = match opcode {
            b'V' => raw_unicode(self.line()?),
            0x8c => std::str::from_utf8(self.counted::<1>()?).ok().map(Cow::Borrowed),
            b'X' => std::str::from_utf8(self.counted::<4>()?).ok().map(Cow::Borrowed),
            _ => std::str::from_utf8(self.counted::<8>()?).ok().map(Cow::Borrowed),
        };
        match text {
            Some(text) => Ok(text),
            None => self.fault("holds a text that is no Unicode"),
        }
    }

    // ---- containers -----------------------------------------------------------------------------------------------

    fn append(&mut self, items: Vec<Id>) -> Outcome<()> {
        let list = self.top()?;
        match &mut self.nodes[list as usize] {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            other => {
                let kind = other.kind();
                self.fault(format!("appends to {kind}"))
            }
        }
    }

    fn pairs(&self, items: &[Id]) -> Outcome<()> {
        if items.len().is_multiple_of(2) { Ok(()) } else { self.fault("a dict has a key without a value") }
    }

    fn set_items(&mut self, items: Vec<Id>) -> Outcome<()> {
        self.pairs(&items)?;
        let dict = self.top()?;
        match &mut self.nodes[dict as usize] {
            Node::Dict(dict) => {
                dict.extend(items);
                Ok(())
            }
            other => {
                let kind = other.kind();
                self.fault(format!("sets an item of {kind}"))
            }
        }
    }

    // ---- memo -----------------------------------------------------------------------------------------------------

    fn remember(&mut self, opcode: u8) -> Outcome<()> {
        let key = match opcode {
            b'p' => self.key()?,
            b'q' => self.number::<1>()? as u32,
            b'r' => self.number::<4>()? as u32,
            _ => self.memo.len() as u32,
        };
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Outcome<()> {
        let key = match opcode {
            b'g' => self.key()?,
            b'h' => self.number::<1>()? as u32,
            _ => self.number::<4>()? as u32,
        };
        match self.memo.get(&key) {
            Some(id) => {
                self.stack.push(*id);
                Ok(())
            }
            None => self.fault(format!("asks for value {key} of the memo, which was never put there")),
        }
    }

    fn key(&mut self) -> Outcome<u32> {
        match decimal(self.line()?).and_then(|key| u32::try_from(key).ok()) {
            Some(key) => Ok(key),
            None => self.fault("holds no number of the memo where one should be"),
        }
    }
}
