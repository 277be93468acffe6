//! Reads `kernels/*.cu` far enough for launchers: which entries there are, and the name and kind of each parameter. Not a C++ parser: the kernel
//! contract (`kernels/README.md`) keeps signatures plain, and what does not fit it is an error with its line. Sizes come from the PTX (`ptx.rs`).

use std::collections::BTreeMap;
use std::path::Path;

/// What a parameter is for the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Any pointer: 8 bytes, a device address.
    Pointer,
    /// `unsigned int`.
    U32,
    /// `int`.
    I32,
    /// `float`.
    F32,
    /// A struct passed by value, with the path of its Rust twin.
    Struct(String),
}

/// A parameter of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name in the source.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
}

/// An `extern "C" __global__` function.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Symbol.
    pub name: String,
    /// Line of the signature, from 1.
    pub line: usize,
    /// The comment above it.
    pub doc: Vec<String>,
    /// In order.
    pub params: Vec<Param>,
}

/// One `.cu` file.
#[derive(Clone, Debug)]
pub struct Source {
    /// `mask` for `kernels/mask.cu`.
    pub stem: String,
    /// The text.
    pub text: String,
    /// Every own header it needs, direct or not, as (name, text).
    pub headers: Vec<(String, String)>,
    /// Its entries in order.
    pub entries: Vec<Entry>,
}

/// Reads every `.cu` of `folder`, sorted by name.
pub fn read(folder: &Path) -> Result<Vec<Source>, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".cu") || name.ends_with(".cuh") {
            let text = std::fs::read_to_string(entry.path()).map_err(|e| format!("cannot read kernels/{name}: {e}"))?;
            files.insert(name, text);
        }
    }
    files.iter().filter_map(|(name, text)| Some(source(name.strip_suffix(".cu")?, text, &files))).collect()
}

/// One file with what it includes from `files`.
pub fn source(stem: &str, text: &str, files: &BTreeMap<String, String>) -> Result<Source, String> {
    let mut headers = BTreeMap::new();
    include(&format!("{stem}.cu"), text, files, &mut headers)?;
    let twins = twins(text).chain(headers.values().flat_map(|t| twins(t))).collect::<BTreeMap<_, _>>();
    let entries = entries(stem, text, &twins)?;
    Ok(Source { stem: stem.into(), text: text.into(), headers: headers.into_iter().collect(), entries })
}

fn include(
    name: &str,
    text: &str,
    files: &BTreeMap<String, String>,
    found: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (i, line) in text.lines().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix('#').map(|r| r.trim_start()) else { continue };
        let Some(rest) = rest.strip_prefix("include") else { continue };
        let header = rest.trim().split('"').nth(1).unwrap_or_default();
        let Some(body) = files.get(header).filter(|_| header.ends_with(".cuh")) else {
            let line_number = i + 1;
            return Err(format!(
                "kernels/{name}:{line_number}: {}: kernels include only the .cuh files of kernels/",
                line.trim()
            ));
        };
        if found.insert(header.into(), body.clone()).is_none() {
            include(header, body, files, found)?;
        }
    }
    Ok(())
}

/// `// rust: path` above `struct Name` names the Rust twin of a parameter struct.
fn twins(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.lines().zip(text.lines().skip(1)).filter_map(|(above, line)| {
        let path = above.trim().strip_prefix("// rust:")?.trim();
        let name = words(line.trim().strip_prefix("struct ")?).next()?;
        Some((name.to_string(), path.to_string()))
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty())
}

fn entries(stem: &str, text: &str, twins: &BTreeMap<String, String>) -> Result<Vec<Entry>, String> {
    let code = blank_comments(text);
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("__global__") {
        let start = at + found;
        let line = code[..start].matches('\n').count() + 1;
        let fail = |what: &str| format!("kernels/{stem}.cu:{line}: {what} (kernels/README.md has the contract)");
        if !code[..start].trim_end().ends_with("extern \"C\"") {
            return Err(fail("a kernel must be written as `extern \"C\" __global__ void name(..)`"));
        }
        let mut rest = &code[start + "__global__".len()..];
        let name = loop {
            rest = rest.trim_start();
            let word = words(rest).next().unwrap_or_default();
            if word.is_empty() || !rest.starts_with(word) {
                return Err(fail("cannot read the signature"));
            }
            rest = rest[word.len()..].trim_start();
            match word {
                "void" => {}
                "__launch_bounds__" => {
                    let end = rest.find(')').ok_or_else(|| fail("__launch_bounds__ without `)`"))?;
                    rest = &rest[end + 1..];
                }
                name => break name.to_string(),
            }
        };
        let list_text = rest
            .strip_prefix('(')
            .and_then(|r| r.split_once(')'))
            .ok_or_else(|| fail("cannot read the parameter list"))?
            .0;
        let params = list_text
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .map(|p| param(p, twins).map_err(|e| fail(&e)))
            .collect::<Result<Vec<_>, _>>()?;
        list.push(Entry { name, line, doc: doc(text, line), params });
        at = start + "__global__".len();
    }
    match list.is_empty() {
        true => Err(format!("kernels/{stem}.cu: no kernel in it; what kernels share belongs into a .cuh")),
        false => Ok(list),
    }
}

fn param(text: &str, twins: &BTreeMap<String, String>) -> Result<Param, String> {
    const QUALIFIERS: [&str; 5] = ["const", "__restrict__", "__grid_constant__", "volatile", "struct"];
    let list: Vec<&str> = words(text).filter(|w| !QUALIFIERS.contains(w)).collect();
    let (Some(name), Some(types)) = (list.last(), list.get(..list.len().saturating_sub(1))) else {
        return Err(format!("parameter `{text}` has no name"));
    };
    let kind = match types.join(" ").as_str() {
        "" => return Err(format!("parameter `{text}` has no name")),
        _ if text.contains('*') => Kind::Pointer,
        "u32" | "unsigned" | "unsigned int" | "uint32_t" => Kind::U32,
        "i32" | "int" | "int32_t" => Kind::I32,
        "f32" | "float" => Kind::F32,
        other => match twins.get(other) {
            Some(path) => Kind::Struct(path.clone()),
            None => {
                return Err(format!(
                    "parameter `{text}`: every 64-bit parameter is a pointer, others are u32, i32, f32 or a struct with a `// rust: path` line above it"
                ));
            }
        },
    };
    Ok(Param { name: name.to_string(), kind })
}

/// The `//` lines directly above line `line` (from 1).
fn doc(text: &str, line: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut first = line - 1;
    while first > 0 && lines[first - 1].trim_start().starts_with("//") {
        first -= 1;
    }
    lines[first..line - 1].iter().map(|l| l.trim_start().trim_start_matches('/').trim().to_string()).collect()
}

/// The text with comments turned into blanks; lines and offsets stay.
fn blank_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(slash) = rest.find('/') {
        let (code, tail) = rest.split_at(slash);
        out.push_str(code);
        let length = if tail.starts_with("//") {
            tail.find('\n').unwrap_or(tail.len())
        } else if tail.starts_with("/*") {
            tail.find("*/").map_or(tail.len(), |e| e + 2)
        } else {
            out.push('/');
            rest = &tail[1..];
            continue;
        };
        out.extend(tail[..length].chars().flat_map(|c| {
            let blank = if c == '\n' { '\n' } else { ' ' };
            std::iter::repeat_n(blank, if c == '\n' { 1 } else { c.len_utf8() })
        }));
        rest = &tail[length..];
    }
    out.push_str(rest);
    out
}
