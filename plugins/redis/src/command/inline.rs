//! The words of an inline command, with quotes and escapes as Redis reads them.

use super::{Malformed, Span};

/// Puts the words of `line` one behind the other into `decoded`.
pub(super) fn split(
    line: &[u8],
    decoded: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), Malformed> {
    decoded.clear();
    spans.clear();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        let start = decoded.len();
        rest = word(rest, decoded)?;
        spans.push(start..decoded.len());
    }
}

/// Reads a word; answers what follows it.
fn word<'a>(mut rest: &'a [u8], decoded: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    loop {
        match rest {
            [] => return Ok(rest),
            [byte, ..] if byte.is_ascii_whitespace() => return Ok(rest),
            [b'"', quoted @ ..] => return closed(double_quoted(quoted, decoded)?),
            [b'\'', quoted @ ..] => return closed(single_quoted(quoted, decoded)?),
            [byte, after @ ..] => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
}

/// After a closing quote the word is over.
fn closed(rest: &[u8]) -> Result<&[u8], Malformed> {
    match rest.first() {
        Some(byte) if !byte.is_ascii_whitespace() => Err(Malformed),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], decoded: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    loop {
        let (byte, after) = match rest {
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [b'"', after @ ..] => return Ok(after),
            [byte, after @ ..] => (*byte, after),
            [] => return Err(Malformed),
        };
        decoded.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], decoded: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    loop {
        let (byte, after) = match rest {
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [b'\'', after @ ..] => return Ok(after),
            [byte, after @ ..] => (*byte, after),
            [] => return Err(Malformed),
        };
        decoded.push(byte);
        rest = after;
    }
}

/// What a digit stands for.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

fn unescape(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}
