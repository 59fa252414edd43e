//! Bytes as a line of text, and back.

use std::fmt::Write;

/// Writes bytes so that a line holds them: printable ASCII as it is, all else escaped.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        // A space at either end would not survive editors, nor the reader.
        let at_end = at == 0 || at + 1 == bytes.len();
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b' ' if !at_end => text.push(' '),
            0x21..=0x7e => text.push(char::from(*byte)),
            other => write!(text, "\\x{other:02x}").expect("a string takes everything"),
        }
    }
    text
}

/// Reads what [`escape`] writes, and any other text as its UTF-8 bytes.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => match (rest.next().and_then(digit), rest.next().and_then(digit)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err("\\x must be followed by two hexadecimal digits".to_owned()),
            },
            _ => return Err("\\ must be followed by r, n, t, 0, \\ or xNN".to_owned()),
        });
    }
    Ok(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}
