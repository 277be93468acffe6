//! Special registers, conversions between spaces and generic addresses, and the functions that a device provides: `vprintf`, `__assertfail`.

use super::Halt;
use super::access::classify;
use super::block::Block;
use super::lanes::{bits, each, get, get64, put, put_pred, put64};
use crate::vgpu::ir::{File, Ins, NO_ROW, Special, Syscall, window};
use crate::vgpu::mem::GLOBAL;
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::{Finding, Kind};

/// Longest string that `printf` and `assert` read.
const LONGEST: usize = 1 << 16;

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// `mov` from a special register. `now`: warp instructions that this block has issued.
    pub fn special(&mut self, w: usize, file: &File, ins: &Ins, m: u32, now: u64) {
        let launch = self.task.launch;
        let [nx, ny, nz] = launch.block;
        let thread = |lane: u32| w as u32 * 32 + lane;
        let row = |f: &dyn Fn(u32) -> u32| std::array::from_fn::<u32, 32, _>(|lane| f(lane as u32));
        let all = |v: u32| [v; 32];
        let is = |s: Special| ins.x == s as u32;
        // Clocks only have to rise: four cycles an instruction, a microsecond of "global" time per clock tick of the launch.
        let clock = 4 * now;
        let global = 1000 * (now + launch.id * 1_000_000);
        let values: [u32; 32] = match () {
            _ if is(Special::TidX) => row(&|l| thread(l) % nx),
            _ if is(Special::TidY) => row(&|l| thread(l) / nx % ny),
            _ if is(Special::TidZ) => row(&|l| thread(l) / nx / ny),
            _ if is(Special::NtidX) => all(nx),
            _ if is(Special::NtidY) => all(ny),
            _ if is(Special::NtidZ) => all(nz),
            _ if is(Special::CtaidX) => all(self.id[0]),
            _ if is(Special::CtaidY) => all(self.id[1]),
            _ if is(Special::CtaidZ) => all(self.id[2]),
            _ if is(Special::NctaidX) => all(launch.grid[0]),
            _ if is(Special::NctaidY) => all(launch.grid[1]),
            _ if is(Special::NctaidZ) => all(launch.grid[2]),
            _ if is(Special::Laneid) => row(&|l| l),
            _ if is(Special::Warpid) => all(w as u32),
            _ if is(Special::Nwarpid) => all(self.task.warps),
            _ if is(Special::Smid) => all((self.linear % u64::from(launch.sms.max(1))) as u32),
            _ if is(Special::Nsmid) => all(launch.sms),
            _ if is(Special::Gridid) => all(launch.id as u32),
            _ if is(Special::LanemaskEq) => row(&|l| 1 << l),
            _ if is(Special::LanemaskLt) => row(&|l| (1 << l) - 1),
            _ if is(Special::LanemaskLe) => row(&|l| (1 << l) | ((1 << l) - 1)),
            _ if is(Special::LanemaskGt) => row(&|l| !((1 << l) | ((1 << l) - 1))),
            _ if is(Special::LanemaskGe) => row(&|l| !((1u32 << l) - 1)),
            _ if is(Special::Clock) || is(Special::Clock64) => all(clock as u32),
            _ if is(Special::ClockHi) => all((clock >> 32) as u32),
            _ if is(Special::Globaltimer) || is(Special::GlobaltimerLo) => all(global as u32),
            _ if is(Special::GlobaltimerHi) => all((global >> 32) as u32),
            _ if is(Special::DynamicSmemSize) => all(launch.dynamic_shared),
            _ if is(Special::TotalSmemSize) || is(Special::AggrSmemSize) => all(self.task.shared_bytes),
            _ if is(Special::One) => all(1),
            _ => all(0),
        };
        // SAFETY: lowering gave the instruction a row (two where it is wide) that exists.
        unsafe {
            if ins.imm == 64 {
                let high = match () {
                    _ if is(Special::Clock64) => clock & !0xffff_ffff,
                    _ if is(Special::Globaltimer) => global & !0xffff_ffff,
                    _ if is(Special::Gridid) => launch.id & !0xffff_ffff,
                    _ => 0,
                };
                put64(file, ins.d, m, &values.map(|v| u64::from(v) | high));
            } else {
                put(file, ins.d, m, &values);
            }
        }
        if is(Special::Clock) || is(Special::Clock64) || is(Special::Globaltimer) || is(Special::GlobaltimerLo) {
            self.effects += 1; // time goes on: a loop that waits for it is no livelock
        }
    }

    /// `cvta`.
    pub fn cvta(&mut self, w: usize, pc: u32, file: &File, ins: &Ins, m: u32) -> Result<(), Halt> {
        let space = space_of(ins.x);
        let base = base_of(space);
        // SAFETY: lowering gave the instruction rows that exist.
        let a = unsafe { get64(file, ins.a) };
        let to_space = ins.imm == 1;
        if to_space && CHECK {
            let wrong = m & bits(|lane| classify(a[lane]).0 != space && a[lane] != 0);
            if wrong != 0 {
                let lane = wrong.trailing_zeros();
                let there = classify(a[lane as usize]).0.name();
                let what = format!("cvta.to.{} of an address in {there} memory", space.name());
                let at = Finding::at(Kind::WrongSpace, what, self.kernel, pc, Some(self.who(w as u32, lane)));
                self.found(at.with_address(Space::Generic, a[lane as usize], 0))?;
            }
        }
        let d = a.map(|v| match (v, to_space) {
            // Null stays null both ways; but the first parameter does lie at 0.
            (0, false) if space == Space::Param => base,
            (0, _) => 0,
            (v, true) => v.wrapping_sub(base),
            (v, false) => v.wrapping_add(base),
        });
        // SAFETY: as above.
        unsafe { put64(file, ins.d, m, &d) };
        Ok(())
    }

    /// `isspacep`.
    pub fn isspacep(&mut self, file: &File, ins: &Ins, m: u32) {
        let space = space_of(ins.x);
        // SAFETY: lowering gave the instruction rows that exist.
        unsafe {
            let a = get64(file, ins.a);
            let found = bits(|lane| {
                let inside = a[lane] >= window::SHARED && classify(a[lane]).0 == space;
                inside && (space != Space::Global || a[lane] >= GLOBAL)
            });
            put_pred(file, ins.d, m, found);
        }
    }

    /// `vprintf` and `__assertfail`.
    pub fn syscall(&mut self, w: usize, pc: u32, file: &File, ins: &Ins, m: u32) -> Result<(), Halt> {
        // SAFETY: lowering gave the call rows that exist.
        let wide = |r: u16| unsafe { get64(file, r) };
        match &self.kernel.syscalls[ins.x as usize] {
            Syscall::Vprintf { format, args, result } => {
                let (formats, blocks) = (wide(*format), wide(*args));
                let mut written = [0u32; 32];
                for lane in each(m) {
                    let text = self.string(w, lane, formats[lane]);
                    let line = self.print(w, lane, &text, blocks[lane], &mut written[lane]);
                    self.output.push((self.linear, w as u32 * 32 + lane as u32, line));
                }
                if *result != NO_ROW {
                    // SAFETY: as above.
                    unsafe { put(file, *result, m, &written) };
                }
                Ok(())
            }
            Syscall::Assertfail { message, file: name, line, function } => {
                let lane = m.trailing_zeros() as usize & 31;
                let read =
                    |b: &mut Self, r: u16| String::from_utf8_lossy(&b.string(w, lane, wide(r)[lane])).into_owned();
                let (message, name, function) = (read(self, *message), read(self, *name), read(self, *function));
                // SAFETY: as above.
                let line = unsafe { get(file, *line) }[lane];
                let what = format!("assertion `{message}` failed in {function} ({name}:{line})");
                self.fault(Kind::Assert, what, pc, w, lane as u32)?;
                Err(Halt)
            }
        }
    }

    /// Bytes at a generic address, as far as they can be read.
    fn bytes_at(&mut self, w: usize, lane: usize, addr: u64, n: usize) -> Vec<u8> {
        let (space, base) = classify(addr);
        let mut out = Vec::with_capacity(n);
        for i in 0..n as u64 {
            match self.peek(w, lane, space, addr.wrapping_sub(base).wrapping_add(i)) {
                Some(byte) => out.push(byte),
                None => break,
            }
        }
        out
    }

    /// A zero-terminated string at a generic address.
    fn string(&mut self, w: usize, lane: usize, addr: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < LONGEST {
            match self.bytes_at(w, lane, addr.wrapping_add(out.len() as u64), 1).first() {
                None | Some(0) => break,
                Some(&byte) => out.push(byte),
            }
        }
        out
    }

    /// `printf` of C on an argument block: 4-byte arguments aligned to 4, 8-byte ones to 8.
    fn print(&mut self, w: usize, lane: usize, format: &[u8], block: u64, count: &mut u32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0u64;
        let mut i = 0;
        while i < format.len() {
            if format[i] != b'%' {
                out.push(format[i]);
                i += 1;
                continue;
            }
            let end = i + 1 + format[i + 1..].iter().take_while(|c| !c.is_ascii_alphabetic() && **c != b'%').count();
            let mut last = end;
            while last < format.len() && matches!(format[last], b'l' | b'h' | b'z' | b'j' | b't' | b'L') {
                last += 1;
            }
            let Some(&conversion) = format.get(last) else {
                out.extend_from_slice(&format[i..]);
                break;
            };
            let flags = String::from_utf8_lossy(&format[i + 1..end]).into_owned();
            let length = &format[end..last];
            i = last + 1;
            if conversion == b'%' {
                out.push(b'%');
                continue;
            }
            let long = length.contains(&b'l') || length.iter().any(|c| matches!(c, b'z' | b'j' | b't'));
            let eight =
                long || matches!(conversion, b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' | b's' | b'p');
            // `*` takes its width from the arguments.
            let mut flags_out = String::new();
            for c in flags.chars() {
                if c == '*' {
                    at = at.next_multiple_of(4);
                    let bytes = self.bytes_at(w, lane, block.wrapping_add(at), 4);
                    at += 4;
                    flags_out += &i32::from_le_bytes(bytes.try_into().unwrap_or_default()).to_string();
                } else {
                    flags_out.push(c);
                }
            }
            let size = if eight { 8 } else { 4 };
            at = at.next_multiple_of(size);
            let raw = self.bytes_at(w, lane, block.wrapping_add(at), size as usize);
            at += size;
            let mut word = [0u8; 8];
            word[..raw.len()].copy_from_slice(&raw);
            let bits = u64::from_le_bytes(word);
            let text = match conversion {
                b's' => Some(self.string(w, lane, bits)),
                _ => None,
            };
            out.extend_from_slice(&format_one(&flags_out, conversion, bits, eight, text));
            *count += 1;
        }
        out
    }
}

/// One conversion of `printf`.
fn format_one(flags: &str, conversion: u8, bits: u64, eight: bool, text: Option<Vec<u8>>) -> Vec<u8> {
    let sign = if eight { bits as i64 } else { bits as u32 as i32 as i64 };
    let flag = |c: char| flags.chars().take_while(|c| "-+ #0".contains(*c)).any(|f| f == c);
    let rest = flags.trim_start_matches(['-', '+', ' ', '#', '0']);
    let (width, precision) = match rest.split_once('.') {
        Some((w, p)) => (w.parse().unwrap_or(0), Some(p.parse::<usize>().unwrap_or(0))),
        None => (rest.parse().unwrap_or(0), None),
    };
    let width: usize = width;
    let (width, precision) = (width.min(LONGEST), precision.map(|p| p.min(LONGEST)));
    let value = f64::from_bits(bits);
    let digits = |s: String| format!("{s:0>least$}", least = precision.unwrap_or(1));
    let plus = |negative: bool| match (negative, flag('+'), flag(' ')) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let (prefix, body) = match conversion {
        b'd' | b'i' => (plus(sign < 0).to_string(), digits(sign.unsigned_abs().to_string())),
        b'u' => (String::new(), digits(bits.to_string())),
        b'x' => (if flag('#') && bits != 0 { "0x" } else { "" }.into(), digits(format!("{bits:x}"))),
        b'X' => (if flag('#') && bits != 0 { "0X" } else { "" }.into(), digits(format!("{bits:X}"))),
        b'o' => (if flag('#') { "0" } else { "" }.into(), digits(format!("{bits:o}"))),
        b'p' => ("0x".into(), format!("{bits:x}")),
        b'c' => (String::new(), (bits as u8 as char).to_string()),
        b's' => {
            let mut text = text.unwrap_or_default();
            text.truncate(precision.unwrap_or(usize::MAX));
            (String::new(), String::from_utf8_lossy(&text).into_owned())
        }
        b'f' | b'F' | b'e' | b'E' | b'g' | b'G' if !value.is_finite() => {
            let name = if value.is_nan() { "nan" } else { "inf" };
            (plus(value < 0.0).into(), name.into())
        }
        b'f' | b'F' => (plus(value.is_sign_negative()).into(), format!("{:.*}", precision.unwrap_or(6), value.abs())),
        b'e' | b'E' => {
            let text = scientific(value.abs(), precision.unwrap_or(6));
            (plus(value.is_sign_negative()).into(), if conversion == b'E' { text.to_uppercase() } else { text })
        }
        b'g' | b'G' => {
            let text = general(value.abs(), precision.unwrap_or(6).max(1), flag('#'));
            (plus(value.is_sign_negative()).into(), if conversion == b'G' { text.to_uppercase() } else { text })
        }
        other => (String::new(), format!("%{flags}{}", other as char)),
    };
    let pad = width.saturating_sub(prefix.len() + body.chars().count());
    match (flag('-'), flag('0')) {
        (true, _) => format!("{prefix}{body}{:pad$}", ""),
        (_, true) if precision.is_none() || matches!(conversion, b'f' | b'e' | b'g') => {
            format!("{prefix}{}{body}", "0".repeat(pad))
        }
        _ => format!("{:pad$}{prefix}{body}", ""),
    }
    .into_bytes()
}

/// `%e`: C writes at least two digits of exponent.
fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%g`: the shorter of `%e` and `%f`, without trailing zeros.
fn general(value: f64, precision: usize, keep: bool) -> String {
    let text = scientific(value, precision - 1);
    let exponent: i32 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trim = |s: &str| match s.contains('.') && !keep {
        true => s.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => s.to_string(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{power}", trim(mantissa));
    }
    trim(&format!("{:.*}", (precision as i32 - 1 - exponent).max(0) as usize, value))
}

/// The space in [`Ins::x`].
fn space_of(code: u32) -> Space {
    [Space::Global, Space::Shared, Space::Local, Space::Const, Space::Param]
        .into_iter()
        .find(|s| *s as u32 == code)
        .unwrap_or(Space::Generic)
}

fn base_of(space: Space) -> u64 {
    match space {
        Space::Shared => window::SHARED,
        Space::Local => window::LOCAL,
        Space::Const => window::CONST,
        Space::Param => window::PARAM,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(flags: &str, conversion: u8, bits: u64, eight: bool) -> String {
        String::from_utf8(format_one(flags, conversion, bits, eight, None)).unwrap()
    }

    #[test]
    fn printf_formats_as_c_does() {
        assert_eq!(one("5", b'd', 0xffff_fff9, false), "   -7");
        assert_eq!(one("-5", b'd', 7, false), "7    ");
        assert_eq!(one("05", b'd', 0xffff_fff9, false), "-0007");
        assert_eq!(one("+.3", b'i', 7, false), "+007");
        assert_eq!(one("#", b'x', 255, false), "0xff");
        assert_eq!(one(".3", b'f', 1.5f64.to_bits(), true), "1.500");
        assert_eq!(one("", b'e', 12345.678f64.to_bits(), true), "1.234568e+04");
        assert_eq!(one("", b'g', 0.0001f64.to_bits(), true), "0.0001");
        assert_eq!(one("", b'g', 1e10f64.to_bits(), true), "1e+10");
        assert_eq!(one("", b'g', 100.0f64.to_bits(), true), "100");
        assert_eq!(one("", b'u', u64::MAX, true), "18446744073709551615");
    }
}
