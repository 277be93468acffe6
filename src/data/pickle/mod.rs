//! The subset of Python's pickle format that CIFAR's Python versions need, read as data: nothing is imported, called or executed.
//!
//! Dicts, lists, tuples, integers, strings and byte strings of protocols 0 to 5, and NumPy's way of writing an array of bytes. A name other than those in `numpy.rs`,
//! an opcode for anything else, and a call with other arguments are refused with their byte offset. Opcodes: CPython's `Lib/pickletools.py`.
//!
//! Memory is bounded by the file: every opcode makes at most one [`Node`], opcodes are at most [`MAX_OPCODES`], nodes refer to each other by number, strings stay
//! where they are in the file until they are asked for. So sharing cannot multiply, nesting cannot overflow a stack, cycles do no harm.

mod machine;
mod numpy;
mod text;

use std::borrow::Cow;
use std::path::Path;

use self::numpy::Global;
use crate::{Error, Result};

/// Most opcodes of one file; CIFAR-100's training file needs about 400,000 in the wordiest protocol.
pub const MAX_OPCODES: usize = 1 << 21;

/// Number of a [`Node`].
pub type Id = u32;

/// An array of bytes.
#[derive(Clone, Debug, PartialEq)]
struct Array {
    shape: Vec<u64>,
    /// First index fastest.
    fortran: bool,
    /// Its content, a byte string.
    data: Id,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// `bytes`, `bytearray`, and Python 2's `str`.
    Bytes(Cow<'a, [u8]>),
    Text(Cow<'a, str>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// Keys and values in turn, as they came; of equal keys the last counts.
    Dict(Vec<Id>),
    Global(Global),
    /// A text whose characters are bytes.
    Latin1(Id),
    /// `uint8`, the one element type.
    Uint8,
    /// `None` until BUILD has filled it.
    Array(Option<Box<Array>>),
}

impl Node<'_> {
    /// For messages.
    fn kind(&self) -> &'static str {
        match self {
            Node::None => "None",
            Node::Bool(_) => "a boolean",
            Node::Int(_) => "an integer",
            Node::Bytes(_) | Node::Latin1(_) => "a byte string",
            Node::Text(_) => "a text",
            Node::List(_) => "a list",
            Node::Tuple(_) => "a tuple",
            Node::Dict(_) => "a dict",
            Node::Global(_) => "a name",
            Node::Uint8 => "a dtype",
            Node::Array(_) => "an array",
        }
    }
}

/// Rows of equally many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix<'p> {
    /// Rows.
    pub rows: usize,
    /// Bytes per row.
    pub columns: usize,
    /// Row by row.
    pub bytes: Cow<'p, [u8]>,
}

/// A pickle that has been read. The accessors say what was expected where something else stands.
#[derive(Debug)]
pub struct Pickle<'a> {
    path: &'a Path,
    hint: &'static str,
    nodes: Vec<Node<'a>>,
    /// Byte offset of the opcode that made each node.
    origins: Vec<u32>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a whole pickle; `path` and `hint` are for messages.
    ///
    /// # Errors
    /// [`Error::BadFile`] with opcode and byte offset.
    pub fn read(path: &'a Path, bytes: &'a [u8], hint: &'static str) -> Result<Pickle<'a>> {
        let fault = |fault: machine::Fault| Error::bad_file(path, Some(fault.at as u64), fault.what, hint);
        let (nodes, origins, root) = machine::run(bytes).map_err(fault)?;
        Ok(Pickle { path, hint, nodes, origins, root })
    }

    fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    /// An error at the value `id`.
    pub fn bad(&self, id: Id, what: impl Into<String>) -> Error {
        Error::bad_file(self.path, Some(u64::from(self.origins[id as usize])), what, self.hint)
    }

    /// The value under `key` in the outermost dict.
    pub fn field(&self, key: &str) -> Result<Id> {
        let Node::Dict(items) = self.node(self.root) else {
            return Err(self.bad(self.root, format!("holds {}, no dict", self.node(self.root).kind())));
        };
        let found = items.chunks_exact(2).rev().find(|pair| match self.node(pair[0]) {
            Node::Bytes(bytes) => **bytes == *key.as_bytes(),
            Node::Text(text) => *text == key,
            Node::Latin1(text) => matches!(self.node(*text), Node::Text(text) if *text == key),
            _ => false,
        });
        found.map(|pair| pair[1]).ok_or_else(|| self.bad(self.root, format!("its dict has no `{key}`")))
    }

    /// Elements of a list or tuple; `what` names it.
    pub fn list(&self, id: Id, what: &str) -> Result<&[Id]> {
        match self.node(id) {
            Node::List(items) | Node::Tuple(items) => Ok(items),
            other => Err(self.bad(id, format!("{what} is {}, should be a list", other.kind()))),
        }
    }

    /// An integer.
    pub fn int(&self, id: Id, what: &str) -> Result<i64> {
        match self.node(id) {
            Node::Int(value) => Ok(*value),
            other => Err(self.bad(id, format!("{what} is {}, should be an integer", other.kind()))),
        }
    }

    /// A text, or a byte string that is UTF-8.
    pub fn text(&self, id: Id, what: &str) -> Result<String> {
        let text = match self.node(id) {
            Node::Text(text) => Some(text.to_string()),
            Node::Bytes(_) | Node::Latin1(_) => String::from_utf8(self.byte_string(id, what)?.into_owned()).ok(),
            _ => None,
        };
        text.ok_or_else(|| self.bad(id, format!("{what} is {}, should be a text", self.node(id).kind())))
    }

    fn byte_string(&self, id: Id, what: &str) -> Result<Cow<'_, [u8]>> {
        match self.node(id) {
            Node::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Node::Latin1(inner) => {
                let Node::Text(text) = self.node(*inner) else {
                    return Err(self.bad(*inner, format!("{what} is no text")));
                };
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
                bytes.map(Cow::Owned).ok_or_else(|| self.bad(*inner, format!("{what} has characters beyond a byte")))
            }
            other => Err(self.bad(id, format!("{what} is {}, should be a byte string", other.kind()))),
        }
    }

    /// An array of two dimensions.
    pub fn matrix(&self, id: Id, what: &str) -> Result<Matrix<'_>> {
        let array = match self.node(id) {
            Node::Array(Some(array)) => array,
            Node::Array(None) => return Err(self.bad(id, format!("{what} is an array without content"))),
            other => return Err(self.bad(id, format!("{what} is {}, should be an array of uint8", other.kind()))),
        };
        let &[rows, columns] = &array.shape[..] else {
            return Err(self.bad(id, format!("{what} has shape {:?}, should have two dimensions", array.shape)));
        };
        let bytes = self.byte_string(array.data, what)?;
        if rows.checked_mul(columns) != Some(bytes.len() as u64) {
            let what = format!("{what} has shape {rows}x{columns} but {} bytes", bytes.len());
            return Err(self.bad(array.data, what));
        }
        let (rows, columns) = (rows as usize, columns as usize); // their product is a length in memory, or 0
        if array.fortran && rows > 1 && columns > 1 {
            let turned = (0..bytes.len()).map(|i| bytes[i % columns * rows + i / columns]).collect();
            return Ok(Matrix { rows, columns, bytes: Cow::Owned(turned) });
        }
        Ok(Matrix { rows, columns, bytes })
    }
}
