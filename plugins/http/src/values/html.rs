//! Character references in HTML (WHATWG HTML, section 13.2.5.72): those that attribute values need.

use std::borrow::Cow;

/// Longest reference: `&#x10ffff;`.
const REFERENCE_BYTES: usize = 10;

/// A value as a browser reads it.
pub(crate) fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'&', value).is_none() {
        return Cow::Borrowed(value);
    }
    let (mut plain, mut rest) = (Vec::with_capacity(value.len()), value);
    while let Some(at) = memchr::memchr(b'&', rest) {
        plain.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let end = memchr::memchr(b';', &rest[..rest.len().min(REFERENCE_BYTES)]);
        let letter = end.and_then(|end| Some((letter(&rest[1..end])?, end)));
        if let Some((letter, end)) = letter {
            plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[end + 1..];
        } else {
            plain.push(b'&');
            rest = &rest[1..];
        }
    }
    plain.extend_from_slice(rest);
    Cow::Owned(plain)
}

fn letter(name: &[u8]) -> Option<char> {
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok()?;
        char::from_u32(u32::from_str_radix(digits, radix).ok()?)
    };
    match name {
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16),
        [b'#', digits @ ..] => number(digits, 10),
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn references_are_read_and_others_left() {
        let plain = |text: &str| String::from_utf8(super::unescape(text.as_bytes()).into_owned());
        let expected = "a+b/c=&<\"'é& &nope; &#xzz;&".to_owned();
        let text = "a&#43;b&#x2F;c=&amp;&lt;&quot;&#39;&#xe9;& &nope; &#xzz;&";
        assert_eq!(plain(text), Ok(expected));
    }
}
