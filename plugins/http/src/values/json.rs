//! Finds a value in a JSON text (RFC 8259) and leaves all around it as it is.

use std::borrow::Cow;
use std::ops::Range;

/// Deepest nesting that is followed.
const DEPTH: usize = 64;

/// Where the value at a path is: the inside of a string, or a number, `true` or `false` as it
/// stands. Keys of the path are those of objects, or places in lists.
pub(crate) fn find(text: &[u8], path: &[Vec<u8>]) -> Option<Range<usize>> {
    let mut reader = Reader { text, at: 0 };
    let mut found = None;
    reader.value(Some(path), 0, &mut found);
    found
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Reads a value; `path` leads to what is looked for, if that is within. `None` where the text
    /// ends or is no JSON.
    fn value(
        &mut self,
        path: Option<&[Vec<u8>]>,
        depth: usize,
        found: &mut Option<Range<usize>>,
    ) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.members(path, depth, found),
            b'[' => self.elements(path, depth, found),
            b'"' => {
                let inside = self.string()?;
                if path.is_some_and(<[_]>::is_empty) {
                    *found = Some(inside);
                }
                Some(())
            }
            _ => {
                let start = self.at;
                let is_plain = |it: &u8| it.is_ascii_alphanumeric() || b"+-.".contains(it);
                let length = self.text[start..].iter().take_while(|it| is_plain(it));
                self.at += length.count();
                let token = self.text.get(start..self.at).filter(|it| !it.is_empty())?;
                if path.is_some_and(<[_]>::is_empty) && token != b"null" {
                    *found = Some(start..self.at);
                }
                Some(())
            }
        }
    }

    fn members(
        &mut self,
        path: Option<&[Vec<u8>]>,
        depth: usize,
        found: &mut Option<Range<usize>>,
    ) -> Option<()> {
        self.at += 1;
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            if self.peek()? != b'"' {
                return None;
            }
            let key = self.string()?;
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            let inner = path.and_then(<[_]>::split_first).and_then(|(first, rest)| {
                let is_it = unescape(&self.text[key])?.as_ref() == first.as_slice();
                is_it.then_some(rest)
            });
            self.value(inner, depth + 1, found)?;
            if self.is_last(b'}')? || found.is_some() {
                return Some(());
            }
        }
    }

    fn elements(
        &mut self,
        path: Option<&[Vec<u8>]>,
        depth: usize,
        found: &mut Option<Range<usize>>,
    ) -> Option<()> {
        self.at += 1;
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        let place = path.and_then(<[_]>::split_first).and_then(|(first, rest)| {
            let place: usize = std::str::from_utf8(first).ok()?.parse().ok()?;
            Some((place, rest))
        });
        for element in 0.. {
            let inner = place.and_then(|(place, rest)| (place == element).then_some(rest));
            self.value(inner, depth + 1, found)?;
            if self.is_last(b']')? || found.is_some() {
                return Some(());
            }
        }
        None
    }

    /// Behind a member or element: whether it was the last.
    fn is_last(&mut self, end: u8) -> Option<bool> {
        let next = self.peek()?;
        self.at += 1;
        match next {
            b',' => Some(false),
            next if next == end => Some(true),
            _ => None,
        }
    }

    /// Reads a string; where its inside is.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += memchr::memchr2(b'"', b'\\', self.text.get(at..)?)?;
            if self.text[at] == b'"' {
                self.at = at + 1;
                return Some(start..at);
            }
            at += 2;
        }
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at)? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Some(*byte),
            }
        }
    }
}

/// The inside of a string without escapes; `None` where one is none.
pub(crate) fn unescape(inside: &[u8]) -> Option<Cow<'_, [u8]>> {
    if memchr::memchr(b'\\', inside).is_none() {
        return Some(Cow::Borrowed(inside));
    }
    let mut plain = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        plain.extend_from_slice(&rest[..at]);
        let escape = *rest.get(at + 1)?;
        rest = &rest[at + 2..];
        plain.push(match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (letter, after) = unicode(rest)?;
                plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            b'"' | b'\\' | b'/' => escape,
            _ => return None,
        });
    }
    plain.extend_from_slice(rest);
    Some(Cow::Owned(plain))
}

/// The letter of `\u`, or of a pair of them, and what follows.
fn unicode(digits: &[u8]) -> Option<(char, &[u8])> {
    let unit = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let first = unit(digits)?;
    let after = &digits[4..];
    if let Some(letter) = char::from_u32(first) {
        return Some((letter, after));
    }
    let second = unit(after.strip_prefix(b"\\u")?)?;
    let is_pair = (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second);
    let letter = 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
    Some((char::from_u32(letter).filter(|_| is_pair)?, &after[6..]))
}

/// Writes the inside of a string.
pub(crate) fn escape(plain: &[u8]) -> Vec<u8> {
    let mut inside = Vec::with_capacity(plain.len());
    for byte in plain {
        match byte {
            b'"' | b'\\' => inside.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => inside.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            byte => inside.push(*byte),
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::place::json_path;

    fn at<'a>(text: &'a str, path: &str) -> Option<&'a str> {
        find(text.as_bytes(), &json_path(path)).map(|it| &text[it])
    }

    #[test]
    fn values_are_found_by_path() {
        let text = r#" {"a": {"token": "x\"y", "b": [1, {"id": -2.5e3}, "z"]}, "t\u006fken": "top",
            "e": {}, "l": [], "n": null, "y": true} "#;
        assert_eq!(at(text, "a.token"), Some(r#"x\"y"#));
        assert_eq!(at(text, "a.b.1.id"), Some("-2.5e3"));
        assert_eq!(at(text, "a.b.2"), Some("z"));
        assert_eq!(at(text, "token"), Some("top"));
        assert_eq!(at(text, "y"), Some("true"));
        for missing in [
            "b",
            "a",
            "a.b",
            "a.b.9",
            "a.token.x",
            "n",
            "e.x",
            "l.0",
            "b.1",
        ] {
            assert_eq!(at(text, missing), None, "{missing}");
        }
        assert_eq!(at(r#"{"a": "x", "b": "cut"#, "a"), Some("x"));
        assert_eq!(at(r#"{"a": "cut"#, "a"), None);
        assert_eq!(at(&"[".repeat(100_000), "0"), None);
    }

    #[test]
    fn strings_are_unescaped_and_escaped() {
        let plain = |inside: &str| unescape(inside.as_bytes()).map(Cow::into_owned);
        assert_eq!(plain(r"a\/b\n\u00e9\ud83d\ude00"), Some("a/b\né😀".into()));
        for wrong in [r"\", r"\x", r"\u12", r"\ud83d", r"\ud83dx\u0041", r"\ude00"] {
            assert_eq!(plain(wrong), None, "{wrong}");
        }
        assert_eq!(escape(b"a\"b\\\n"), br#"a\"b\\\u000a"#);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[\\[\\]{}\",:\\\\ua0d8 ]{0,60}", path in "[a0.]{0,6}") {
            if let Some(found) = at(&text, &path) {
                let _ = unescape(found.as_bytes());
            }
        }

        #[test]
        fn what_is_escaped_is_read(plain in ".*") {
            let inside = escape(plain.as_bytes());
            let back = unescape(&inside).map(Cow::into_owned);
            prop_assert_eq!(back, Some(plain.into_bytes()));
        }
    }
}
