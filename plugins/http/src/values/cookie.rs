//! Cookies (RFC 6265): `Cookie` of requests, `Set-Cookie` of answers.

use std::ops::Range;

/// Where the values of the cookie of this name are in the value of `Cookie`, quotes included.
pub(crate) fn find<'a>(value: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
    let mut start = 0;
    let pairs = value.split(|byte| *byte == b';').map(move |pair| {
        let at = start;
        start += pair.len() + 1;
        (at, pair)
    });
    pairs.filter_map(move |(at, pair)| {
        let equals = memchr::memchr(b'=', pair)?;
        let (left, right) = (&pair[..equals], &pair[equals + 1..]);
        let blanks = right.len() - right.trim_ascii_start().len();
        let from = at + equals + 1 + blanks;
        (left.trim_ascii() == name).then_some(from..from + right.trim_ascii().len())
    })
}

/// Name and value of a `Set-Cookie`, without its attributes; `None` for one that is none.
pub(crate) fn set_cookie(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let pair = &value[..end];
    let equals = memchr::memchr(b'=', pair)?;
    Some((pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()))
}

/// A value without the quotes around it: programs differ in whether they are a part of it.
pub(crate) fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &'static [u8], name: &'static [u8]) -> Vec<&'static [u8]> {
        find(value, name).map(|it| &value[it]).collect()
    }

    #[test]
    fn one_of_several_cookies_is_found() {
        let value = b"a=1; sid=x=y==; b=\"q r\";c = 3 ;sid=2; d";
        assert_eq!(of(value, b"sid"), [&b"x=y=="[..], b"2"]);
        assert_eq!(of(value, b"b"), [b"\"q r\""]);
        assert_eq!(of(value, b"c"), [b"3"]);
        assert_eq!(of(value, b"SID"), [&b""[..]; 0]);
        assert_eq!(of(value, b"d"), [&b""[..]; 0]);
        assert_eq!(of(b"a=", b"a"), [b""]);
    }

    #[test]
    fn attributes_are_no_part_of_a_value() {
        let set = |value| set_cookie(value).map(|(name, value)| [name, value]);
        assert_eq!(
            set(b"sid=\"a b\"; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"),
            Some([&b"sid"[..], b"\"a b\""])
        );
        assert_eq!(set(b" sid = v=1 ;HttpOnly"), Some([&b"sid"[..], b"v=1"]));
        assert_eq!(set(b"sid; Path=/x=y"), None);
        assert_eq!(unquoted(b"\"a b\""), b"a b");
        assert_eq!(unquoted(b"\""), b"\"");
    }
}
