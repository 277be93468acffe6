//! Kernel arguments on the command line: `i32:5`, `in:FILE`, `out:BYTES:FILE` .., and the parameter space made of them.

use std::path::PathBuf;

use crate::vgpu::device::Device;
use crate::vgpu::ir::Kernel;
use crate::vgpu::report::{Finding, Kind, Report};
use crate::{Error, Result};

/// Reads `X`, `X,Y` or `X,Y,Z`.
pub(super) fn dims(text: &str) -> std::result::Result<[u32; 3], String> {
    let mut out = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err("at most three numbers: X,Y,Z".into());
    }
    for (to, part) in out.iter_mut().zip(parts) {
        *to = part.trim().parse().map_err(|_| format!("{part:?} is no number"))?;
    }
    Ok(out)
}

/// An argument as written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Argument {
    /// A number, little-endian.
    Scalar(Vec<u8>),
    /// The content of a file, by value.
    Bytes(PathBuf),
    /// A device buffer: filled from a file, or of so many undefined bytes; written to a file afterwards.
    Buffer { from: Option<PathBuf>, bytes: u64, to: Option<PathBuf>, name: String },
}

/// An argument on the device.
pub(super) enum Value {
    /// Its bytes.
    Scalar(Vec<u8>),
    /// A buffer.
    Buffer { address: u64, bytes: u64, to: Option<PathBuf> },
}

impl Argument {
    /// Reads an argument.
    ///
    /// # Errors
    /// [`Error::BadSetting`] that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Argument> {
        let wrong = |what: String| {
            let hint = "write i32:5, u64:7, f32:1.5, in:FILE, out:BYTES:FILE, inout:FILE[:OUTFILE], tmp:BYTES, bytes:FILE or null";
            Error::bad_setting(format!("--arg {text}"), what, hint)
        };
        if text == "null" {
            return Ok(Argument::Scalar(vec![0; 8]));
        }
        let (kind, rest) = text.split_once(':').ok_or_else(|| wrong("no kind in front of a colon".into()))?;
        let size = |text: &str| text.parse::<u64>().map_err(|_| wrong(format!("{text:?} is no number of bytes")));
        let path = |text: &str| match text {
            "" => Err(wrong("no file name".into())),
            name => Ok(PathBuf::from(name)),
        };
        let buffer = |from, bytes, to| Argument::Buffer { from, bytes, to, name: text.to_string() };
        macro_rules! integer {
            ($signed:ty, $unsigned:ty) => {{
                let bits = parse_integer(rest).ok_or_else(|| wrong(format!("{rest:?} is no integer")))?;
                let fits = (i128::from(<$signed>::MIN)..=i128::from(<$unsigned>::MAX)).contains(&bits);
                if !fits
                    || (kind.starts_with('u') && bits < 0)
                    || (kind.starts_with('i') && bits > i128::from(<$signed>::MAX))
                {
                    return Err(wrong(format!("{rest} does not fit {kind}")));
                }
                Argument::Scalar((bits as $unsigned).to_le_bytes().to_vec())
            }};
        }
        let float = || rest.parse::<f64>().map_err(|_| wrong(format!("{rest:?} is no number")));
        Ok(match kind {
            "i8" | "u8" => integer!(i8, u8),
            "i16" | "u16" => integer!(i16, u16),
            "i32" | "u32" => integer!(i32, u32),
            "i64" | "u64" => integer!(i64, u64),
            "f16" => Argument::Scalar(half::f16::from_f64(float()?).to_le_bytes().to_vec()),
            "bf16" => Argument::Scalar(half::bf16::from_f64(float()?).to_le_bytes().to_vec()),
            "f32" => {
                let value: f32 = rest.parse().map_err(|_| wrong(format!("{rest:?} is no number")))?;
                Argument::Scalar(value.to_le_bytes().to_vec())
            }
            "f64" => Argument::Scalar(float()?.to_le_bytes().to_vec()),
            "bytes" => Argument::Bytes(path(rest)?),
            "in" => buffer(Some(path(rest)?), 0, None),
            "tmp" => buffer(None, size(rest)?, None),
            "out" => {
                let (bytes, to) = rest.split_once(':').ok_or_else(|| wrong("out needs bytes and a file".into()))?;
                buffer(None, size(bytes)?, Some(path(to)?))
            }
            "inout" => {
                let (from, to) = rest.split_once(':').unwrap_or((rest, rest));
                buffer(Some(path(from)?), 0, Some(path(to)?))
            }
            _ => return Err(wrong(format!("no kind {kind:?}"))),
        })
    }

    /// Puts the argument on the device.
    ///
    /// # Errors
    /// A file that cannot be read, memory that is not there.
    pub fn place(&self, device: &mut Device) -> Result<Value> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|e| Error::io("read", path, e));
        match self {
            Argument::Scalar(bytes) => Ok(Value::Scalar(bytes.clone())),
            Argument::Bytes(path) => Ok(Value::Scalar(read(path)?)),
            Argument::Buffer { from, bytes, to, name } => {
                let data = from.as_ref().map(read).transpose()?;
                let bytes = data.as_ref().map_or(*bytes, |d| d.len() as u64);
                if bytes == 0 {
                    // An empty buffer has no bytes that could be accessed.
                    return Ok(Value::Scalar(vec![0; 8]));
                }
                let no_memory = || {
                    let what = format!("no memory for a buffer of {bytes} bytes");
                    Error::bad_setting(format!("--arg {name}"), what, "make it smaller")
                };
                let address = device.alloc(bytes, Some(name)).ok_or_else(no_memory)?;
                if let Some(data) = data {
                    device.write(address, &data).map_err(|_| no_memory())?;
                }
                Ok(Value::Buffer { address, bytes, to: to.clone() })
            }
        }
    }
}

/// Decimal, `0x..`, `0b..`, with an optional sign.
fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let value = match (digits.strip_prefix("0x"), digits.strip_prefix("0b")) {
        (Some(hex), _) => i128::from_str_radix(hex, 16),
        (_, Some(bits)) => i128::from_str_radix(bits, 2),
        _ => digits.parse(),
    };
    let value = value.ok().filter(|v| *v >= 0)?;
    Some(if negative { -value } else { value })
}

/// The parameter space, or what is wrong with number and sizes of the arguments.
pub(super) fn pack(kernel: &Kernel, values: &[Value]) -> std::result::Result<Vec<u8>, Box<Report>> {
    let mut report = Report::new(&kernel.name);
    let mut wrong = |what: String| {
        let finding = Finding::launch(Kind::WrongArgument, what, &kernel.name);
        report.add(finding.with_hint("one --arg for each parameter, in order, of its size"));
    };
    if values.len() != kernel.params.len() {
        let list: Vec<String> = kernel.params.iter().map(|p| format!("{} ({} bytes)", p.name, p.bytes)).collect();
        let list = if list.is_empty() { "none".to_string() } else { list.join(", ") };
        wrong(format!("{} arguments, the kernel takes {}: {list}", values.len(), kernel.params.len()));
    }
    let mut space = vec![0; kernel.param_bytes as usize];
    for (i, (param, value)) in kernel.params.iter().zip(values).enumerate() {
        let bytes = match value {
            Value::Scalar(bytes) => bytes.clone(),
            Value::Buffer { address, .. } => address.to_le_bytes().to_vec(),
        };
        let at = param.offset as usize;
        match space.get_mut(at..at + param.bytes as usize) {
            Some(to) if to.len() == bytes.len() => to.copy_from_slice(&bytes),
            _ => wrong(format!("argument {i} has {} bytes, parameter {} has {}", bytes.len(), param.name, param.bytes)),
        }
    }
    if report.is_clean() { Ok(space) } else { Err(Box::new(report)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let scalar = |text: &str| match Argument::parse(text).unwrap() {
            Argument::Scalar(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(scalar("i32:-5"), (-5i32).to_le_bytes());
        assert_eq!(scalar("u32:0xffffffff"), [255; 4]);
        assert_eq!(scalar("i64:-1"), [255; 8]);
        assert_eq!(scalar("f32:1.5"), 1.5f32.to_le_bytes());
        assert_eq!(scalar("f64:-inf"), f64::NEG_INFINITY.to_le_bytes());
        assert_eq!(scalar("null"), [0; 8]);
        let Argument::Buffer { from, bytes, to, .. } = Argument::parse("out:64:a:b.bin").unwrap() else { panic!() };
        assert_eq!((from, bytes, to), (None, 64, Some(PathBuf::from("a:b.bin"))));
        let Argument::Buffer { from, to, .. } = Argument::parse("inout:x.bin").unwrap() else { panic!() };
        assert_eq!(from, to);
        for bad in ["", "5", "i32:", "i32:x", "u8:256", "u32:-1", "i8:128", "out:x:f", "out:4", "in:", "q:1", "f32:one"]
        {
            assert!(Argument::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dimensions() {
        assert_eq!(dims("7"), Ok([7, 1, 1]));
        assert_eq!(dims("7,2,3"), Ok([7, 2, 3]));
        assert!(dims("1,2,3,4").is_err() && dims("").is_err() && dims("-1").is_err());
    }
}
