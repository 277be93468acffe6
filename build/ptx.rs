//! What the build needs to know of NVRTC's PTX: the `.param` list of each entry, and a text that is the same on every machine. The real parser is the
//! virtual GPU's.

/// A parameter as the PTX declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// `.u64`, `.u32`, `.f32` and so on, without the point; `b8` for arrays.
    pub type_name: PtxType,
    /// Bytes from the start of the parameter space.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// Type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtxType {
    /// 64 bits, of whatever signedness: a pointer by the kernel contract.
    Bits64,
    /// 32 bits, integer.
    Bits32,
    /// 32 bits, float.
    F32,
    /// A struct: `.align A .b8 name[SIZE]`.
    Array,
    /// Anything else: against the contract.
    Other,
}

/// An entry with its parameters and their total size.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Symbol.
    pub name: String,
    /// In order.
    pub params: Vec<Param>,
    /// Size of the parameter space in bytes.
    pub bytes: usize,
}

/// Every `.entry` of a PTX text.
pub fn entries(ptx: &str) -> Result<Vec<Entry>, String> {
    let mut list = Vec::new();
    let mut rest = ptx;
    while let Some(at) = rest.find(".entry") {
        rest = rest[at + ".entry".len()..].trim_start();
        let end = rest.find(|c: char| c == '(' || c == '{' || c.is_whitespace()).unwrap_or(rest.len());
        let name = rest[..end].to_string();
        rest = rest[end..].trim_start();
        let mut entry = Entry { name, params: Vec::new(), bytes: 0 };
        if let Some(inner) = rest.strip_prefix('(') {
            let close = inner.find(')').ok_or_else(|| format!("{}: parameter list without `)`", entry.name))?;
            for text in inner[..close].split(',').map(str::trim).filter(|t| !t.is_empty()) {
                let (type_name, size, align) =
                    param(text).ok_or_else(|| format!("{}: cannot read `{text}`", entry.name))?;
                let offset = entry.bytes.next_multiple_of(align);
                entry.params.push(Param { type_name, offset, size });
                entry.bytes = offset + size;
            }
            rest = &inner[close..];
        }
        list.push(entry);
    }
    Ok(list)
}

/// Type, size and alignment of one `.param` declaration.
fn param(text: &str) -> Option<(PtxType, usize, usize)> {
    let mut align = 0;
    let mut parts = text.split_whitespace().peekable();
    let mut scalar = None;
    if parts.next()? != ".param" {
        return None;
    }
    let mut name = "";
    while let Some(part) = parts.next() {
        match part {
            ".ptr" | ".const" | ".global" | ".local" | ".shared" => {}
            // Behind .ptr the alignment is that of the memory pointed at.
            ".align" if scalar.is_some() => drop(parts.next()?),
            ".align" => align = parts.next()?.parse().ok()?,
            type_name if type_name.starts_with('.') => scalar = Some(&type_name[1..]),
            other => name = other,
        }
    }
    let scalar = scalar?;
    let width: usize = scalar.trim_start_matches(|c: char| c.is_alphabetic()).parse::<usize>().ok()? / 8;
    if let Some((_, count)) = name.split_once('[') {
        let count: usize = count.trim_end_matches(']').parse().ok()?;
        return Some((PtxType::Array, count * width, align.max(width)));
    }
    let kind = match scalar {
        "u64" | "s64" | "b64" => PtxType::Bits64,
        "u32" | "s32" | "b32" => PtxType::Bits32,
        "f32" => PtxType::F32,
        _ => PtxType::Other,
    };
    Some((kind, width, align.max(width)))
}

/// The PTX without what differs between machines and says nothing: comment lines of the compiler (its version and build number) and the folders in
/// front of our own file names in `.file`.
pub fn normalise(ptx: &str) -> String {
    let mut out = String::with_capacity(ptx.len());
    for line in ptx.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("//") {
            continue;
        }
        match trimmed.starts_with(".file").then(|| file_line(line)).flatten() {
            Some(text) => out.push_str(&text),
            None => out.push_str(line.trim_end()),
        }
        out.push('\n');
    }
    let body = out.trim_matches('\n');
    format!("{body}\n")
}

/// `.file 1 "/home/me/earlybird/kernels/mask.cu"` becomes `.file 1 "kernels/mask.cu"`; time stamp and size behind it go.
fn file_line(line: &str) -> Option<String> {
    let (head, rest) = line.split_once('"')?;
    let (path, _) = rest.split_once('"')?;
    let base = path.rsplit(['/', '\\']).next()?;
    let ours = base.ends_with(".cu") || base.ends_with(".cuh");
    let shown = if ours { format!("kernels/{base}") } else { base.to_string() };
    Some(format!("{head}\"{shown}\""))
}
