//! Where a command begins in a stream whose beginning is missing.
//!
//! A value may look like a command, so a place counts only where a whole header with a sound name
//! follows. An inline command is no such place: every second line of a text would be one.

use crate::command::{Parsed, Span, parse};

/// The longest name that is believed in, in bytes.
const NAME_BYTES: usize = 32;

/// How much is looked at behind a place before it is believed in.
const HEADER_BYTES: usize = 128;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A command begins here.
    At(usize),
    /// None does, unless it does at this offset or behind.
    NotBefore(usize),
}

/// Looks for the first command in `bytes`.
pub(crate) fn find(bytes: &[u8]) -> Found {
    let mut at = 0;
    while at < bytes.len() {
        let is_behind_line = at == 0 || bytes[..at].ends_with(b"\r\n");
        if bytes[at] == b'*' && is_behind_line {
            match header(&bytes[at..]) {
                Some(true) => return Found::At(at),
                Some(false) => {}
                None => return Found::NotBefore(at),
            }
        }
        let star = bytes[at + 1..].iter().position(|byte| *byte == b'*');
        at = star.map_or(bytes.len(), |star| at + 1 + star);
    }
    // A line end may have come in part.
    Found::NotBefore(bytes.len().saturating_sub(2))
}

/// Whether bytes begin like a command; `None` while they are too few to tell.
fn header(bytes: &[u8]) -> Option<bool> {
    let mut lines = bytes[..bytes.len().min(HEADER_BYTES)].split(|byte| *byte == b'\n');
    let too_few = match bytes.len() < HEADER_BYTES {
        true => None,
        false => Some(false),
    };
    let mut length = |sign: u8| {
        let line = lines.next()?;
        let digits = line.strip_suffix(b"\r").map(|line| line.split_first());
        Some(match digits {
            Some(Some((first, digits))) if *first == sign => {
                std::str::from_utf8(digits).ok()?.parse::<usize>().ok()
            }
            _ => None,
        })
    };
    let complete = bytes.iter().filter(|byte| **byte == b'\n').count();
    if complete < 3 {
        // Each line that is there must be what it should be.
        let wrong_first = complete >= 1 && length(b'*').flatten().is_none();
        let wrong_second = complete >= 2 && length(b'$').flatten().is_none();
        return match wrong_first || wrong_second {
            true => Some(false),
            false => too_few,
        };
    }
    let (Some(Some(count)), Some(Some(name_length))) = (length(b'*'), length(b'$')) else {
        return Some(false);
    };
    let name = lines.next().and_then(|line| line.strip_suffix(b"\r"));
    let is_name = |name: &&[u8]| {
        let is_sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-|".contains(byte);
        (1..=NAME_BYTES).contains(&name.len())
            && name.len() == name_length
            && name[0].is_ascii_alphabetic()
            && name.iter().all(is_sound)
    };
    Some(count > 0 && name.filter(is_name).is_some())
}

/// Where to go on if `bytes`, which begin with a command, begin within a transaction, as far as they
/// tell: behind an `EXEC` or `DISCARD` that no `MULTI` precedes.
pub(crate) fn behind_transaction(bytes: &[u8], spans: &mut Vec<Span>) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(Parsed::Array(length)) = parse(&bytes[at..], spans) else {
            return None;
        };
        let name = &bytes[at..][spans.first()?.clone()];
        if name.eq_ignore_ascii_case(b"multi") {
            return None;
        }
        at += length;
        if name.eq_ignore_ascii_case(b"exec") || name.eq_ignore_ascii_case(b"discard") {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

    #[test]
    fn a_command_is_found_behind_the_end_of_another() {
        assert_eq!(find(PING), Found::At(0));
        let cut = [b"ue*2\r\n*x\r\n*3\r\nfoo\r\n", PING].concat();
        assert_eq!(find(&cut), Found::At(cut.len() - PING.len()));
        for length in 1..PING.len() {
            assert_eq!(find(&PING[..length]), Found::NotBefore(0), "{length}");
        }
    }

    #[test]
    fn what_only_looks_like_a_command_is_none() {
        for text in [
            "*1\r\n$4\r\nPI\r\n\r\n",
            "*x\r\n$1\r\nA\r\n",
            "*1\r\n:4\r\n",
            "*0\r\n$1\r\nA\r\n",
        ] {
            let Found::NotBefore(_) = find(text.as_bytes()) else {
                panic!("{text}");
            };
        }
        assert_eq!(find(&[b'*'; 300]), Found::NotBefore(298));
        assert_eq!(find(b"set a b\r\n"), Found::NotBefore(7));
    }

    #[test]
    fn the_end_of_a_transaction_is_left_out() {
        let exec = b"*1\r\n$4\r\nexec\r\n";
        let mut spans = Vec::new();
        let inside = [PING, exec, PING].concat();
        assert_eq!(
            behind_transaction(&inside, &mut spans),
            Some(PING.len() + exec.len())
        );
        assert_eq!(behind_transaction(PING, &mut spans), None);
        let outside = [&b"*1\r\n$5\r\nMULTI\r\n"[..], PING, exec].concat();
        assert_eq!(behind_transaction(&outside, &mut spans), None);
    }
}
