//! Python's text forms of strings and numbers, as protocol 0 writes them.

use std::borrow::Cow;

/// Content of a quoted literal as `repr` writes a byte string, quotes included; `None` where it is none.
pub fn unquote(literal: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (&quote, rest) = literal.split_first()?;
    let (&last, inner) = rest.split_last()?;
    if quote != last || !matches!(quote, b'\'' | b'"') {
        return None;
    }
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut at = 0;
    while let Some(&byte) = inner.get(at) {
        at += 1;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let escape = *inner.get(at)?;
        at += 1;
        out.push(match escape {
            b'\\' | b'\'' | b'"' => escape,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => {
                let value = hex(inner.get(at..at + 2)?)?;
                at += 2;
                value as u8
            }
            _ => return None,
        });
    }
    Some(Cow::Owned(out))
}

/// A line in `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`; `None` for an escape that is no character.
pub fn raw_unicode(line: &[u8]) -> Option<Cow<'_, str>> {
    if line.is_ascii() && !line.contains(&b'\\') {
        return std::str::from_utf8(line).ok().map(Cow::Borrowed);
    }
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digits = match (byte, line.get(at + 1)) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                out.push(char::from(byte));
                at += 1;
                continue;
            }
        };
        out.push(char::from_u32(hex(line.get(at + 2..at + 2 + digits)?)?)?);
        at += 2 + digits;
    }
    Some(Cow::Owned(out))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// A decimal integer.
pub fn decimal(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_python_writes_them() {
        assert_eq!(unquote(b"'plain'").unwrap().as_ref(), b"plain");
        assert_eq!(unquote(br#""it's""#).unwrap().as_ref(), b"it's");
        assert_eq!(unquote(br"'a\x00\xff\n\\\''").unwrap().as_ref(), b"a\x00\xff\n\\'");
        for bad in [&b""[..], b"'", b"'a", b"a'", b"'a\"", br"'\x0'", br"'\q'", br"'\'"] {
            assert_eq!(unquote(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn raw_unicode_lines_are_latin_1_with_escapes() {
        assert_eq!(raw_unicode(b"a\xe9\\u000a\\U0001f600\\u005cx").unwrap(), "a\u{e9}\n\u{1f600}\\x");
        for bad in [&b"\\u12"[..], b"\\ud800", b"\\Uffffffff", b"\\uzzzz"] {
            assert_eq!(raw_unicode(bad), None);
        }
    }

    #[test]
    fn numbers_are_decimal() {
        assert_eq!((decimal(b"12"), decimal(b"-3\r"), decimal(b"0x1"), decimal(b"")), (Some(12), Some(-3), None, None));
        assert_eq!(decimal(b"99999999999999999999"), None);
    }
}
