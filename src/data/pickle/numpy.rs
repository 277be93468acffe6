//! What a pickle may name and call: the few names that NumPy writes for an array of bytes, with the arguments that it writes.
//!
//! Nothing is called. The machine makes the [`Node`] that stands for the result; every other name or argument is refused.

use std::borrow::Cow;

use super::machine::{Machine, Outcome};
use super::{Array, Id, Node};

/// The names that a pickle may mention. They stand for themselves; the machine knows what NumPy would make of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Global {
    /// `numpy.core.multiarray._reconstruct(numpy.ndarray, ..)`: an array, to be filled by BUILD.
    Reconstruct,
    /// `numpy.ndarray`, only as an argument of the above.
    NdArray,
    /// `numpy.dtype(name, ..)`.
    Dtype,
    /// `numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`: an array, as protocol 5 writes it.
    FromBuffer,
    /// `_codecs.encode(text, 'latin1')`: a byte string, as Python 3 writes it in protocols 0 to 2.
    Encode,
    /// `bytes()`: the empty byte string, likewise.
    Bytes,
}

impl Global {
    /// By its full name.
    fn find(module: &[u8], name: &[u8]) -> Option<Global> {
        Some(match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Global::Reconstruct,
            (b"numpy", b"ndarray") => Global::NdArray,
            (b"numpy", b"dtype") => Global::Dtype,
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => Global::FromBuffer,
            (b"_codecs", b"encode") => Global::Encode,
            (b"__builtin__" | b"builtins", b"bytes") => Global::Bytes,
            _ => return None,
        })
    }
}

impl<'a> Machine<'a> {
    /// A name, by GLOBAL or STACK_GLOBAL.
    pub(super) fn global(&mut self, opcode: &str, module: &[u8], name: &[u8]) -> Outcome<()> {
        if let Some(global) = Global::find(module, name) {
            self.push(Node::Global(global));
            return Ok(());
        }
        let short = |name: &[u8]| name[..name.len().min(80)].escape_ascii().to_string();
        let shown = format!("{}.{}", short(module), short(name));
        let what = format!(
            "pickle opcode {opcode} names `{shown}`, which no file of CIFAR needs: refused; nothing was executed"
        );
        self.fault(what)
    }

    /// A call of one of the known names, with the arguments that NumPy writes.
    pub(super) fn reduce(&mut self) -> Outcome<()> {
        let ids = self.pop_n::<2>()?;
        let (Node::Global(global), Node::Tuple(arguments)) = (self.node(ids[0]), self.node(ids[1])) else {
            let (what, kind) = (self.node(ids[0]).kind(), self.node(ids[1]).kind());
            return self.fault(format!("pickle opcode REDUCE calls {what} with {kind}: refused; nothing was executed"));
        };
        let global = *global;
        let node = match (global, &arguments[..]) {
            (Global::Reconstruct, &[class, _, _]) if *self.node(class) == Node::Global(Global::NdArray) => {
                Some(Node::Array(None))
            }
            (Global::Dtype, &[name, _, _]) => match self.node(name) {
                Node::Bytes(name) if **name == *b"u1" => Some(Node::Uint8),
                Node::Text(name) if *name == "u1" => Some(Node::Uint8),
                _ => return self.fault("names an element type other than uint8 (`u1`), which CIFAR's arrays have"),
            },
            (Global::FromBuffer, &[data, dtype, shape, order]) if *self.node(dtype) == Node::Uint8 => {
                match self.node(order) {
                    Node::Text(order) if *order == "C" => self.array(shape, false, data),
                    Node::Text(order) if *order == "F" => self.array(shape, true, data),
                    _ => None,
                }
            }
            (Global::Encode, &[text, codec]) => match (self.node(text), self.node(codec)) {
                (Node::Text(_), Node::Text(codec)) if *codec == "latin1" => Some(Node::Latin1(text)),
                _ => None,
            },
            (Global::Bytes, []) => Some(Node::Bytes(Cow::Borrowed(b""))),
            _ => None,
        };
        match node {
            Some(node) => {
                self.push(node);
                Ok(())
            }
            None => self.fault(format!(
                "pickle opcode REDUCE calls {global:?} with other arguments than NumPy writes: refused; nothing was executed"
            )),
        }
    }

    /// Fills what a REDUCE made, from the state that NumPy writes.
    pub(super) fn build(&mut self) -> Outcome<()> {
        let state = self.pop()?;
        let target = self.top()?;
        let filled = match (self.node(target), self.node(state)) {
            (Node::Array(None), Node::Tuple(state)) => match state[..] {
                [_, shape, dtype, fortran, data] if *self.node(dtype) == Node::Uint8 => match self.node(fortran) {
                    Node::Bool(fortran) => self.array(shape, *fortran, data),
                    Node::Int(fortran) => self.array(shape, *fortran != 0, data),
                    _ => None,
                },
                _ => None,
            },
            // Of a dtype only what makes it a plain one: no subarray, no names, no fields.
            (Node::Uint8, Node::Tuple(state)) => {
                let plain = state.get(2..5).is_some_and(|ids| ids.iter().all(|id| *self.node(*id) == Node::None));
                plain.then_some(Node::Uint8)
            }
            _ => None,
        };
        match filled {
            Some(node) => {
                self.nodes[target as usize] = node;
                Ok(())
            }
            None => {
                let kind = self.node(target).kind();
                self.fault(format!(
                    "pickle opcode BUILD gives {kind} a state that NumPy does not write: refused; nothing was executed"
                ))
            }
        }
    }

    fn array(&self, shape: Id, fortran: bool, data: Id) -> Option<Node<'a>> {
        let Node::Tuple(sides) = self.node(shape) else { return None };
        let side = |id: &Id| match self.node(*id) {
            Node::Int(side) => u64::try_from(*side).ok(),
            _ => None,
        };
        let bytes = matches!(self.node(data), Node::Bytes(_) | Node::Latin1(_));
        if !bytes || sides.len() > 32 {
            return None;
        }
        let shape = sides.iter().map(side).collect::<Option<_>>()?;
        Some(Node::Array(Some(Box::new(Array { shape, fortran, data }))))
    }
}
