//! Regular expressions over bytes.
//!
//! `regex-lite` makes the module 70 kB larger and `regex` 370 to 540 kB, each kB of which costs half a
//! millisecond at start. It reads text only, so bytes that are no UTF-8 are shown to it as Latin-1,
//! and it is slow over long texts, so what a pattern begins with is looked for first.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem::Finder;
use regex_lite::Regex;

/// How much of a text a pattern may match behind the literal that it begins with, and how many of
/// those literals are tried: 10 to 25 MB a second are read, and a shard does nothing else meanwhile.
const MATCH_BYTES: usize = 2 * 1024;
const TRIES: usize = 64;

/// How much of a text is searched with a pattern that begins with no literal.
const SEARCH_BYTES: usize = 64 * 1024;

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    literal: Option<Literal>,
}

/// What each match begins with.
#[derive(Clone, Debug)]
struct Literal {
    finder: Finder<'static>,
    /// The whole pattern, at a text's beginning only.
    anchored: Regex,
}

impl Pattern {
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let compile = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let regex = compile(text)?;
        let literal = leading_literal(text);
        let literal = match literal.len() {
            // Too short to be rare.
            0..3 => None,
            _ => Some(Literal {
                finder: Finder::new(&literal).into_owned(),
                anchored: compile(&format!("^(?:{text})"))?,
            }),
        };
        Ok(Self { regex, literal })
    }

    /// How many groups it captures.
    pub(crate) fn groups(&self) -> usize {
        self.regex.captures_len() - 1
    }

    /// Whether a replacement speaks of groups that there are.
    ///
    /// # Errors
    /// The first that is none, in words.
    pub(crate) fn check_groups(&self, with: &str) -> Result<(), String> {
        let plain = with.replace("$$", "");
        for reference in plain.split('$').skip(1) {
            let name = match reference.strip_prefix('{') {
                Some(braced) => braced.split('}').next().unwrap_or_default(),
                None => {
                    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
                    reference
                        .split(|it| !is_name(it))
                        .next()
                        .unwrap_or_default()
                }
            };
            let is_number = name.parse().is_ok_and(|it: usize| it <= self.groups());
            let mut names = self.regex.capture_names().flatten();
            if !is_number && !names.any(|it| it == name) {
                return Err(format!(
                    "`{name}` is no group of the pattern; ${{1}} may be followed by letters"
                ));
            }
        }
        Ok(())
    }

    /// Whether it matches anywhere in a part of a head, which is bounded itself: whoever wrote it
    /// could else hide a match behind enough other text.
    pub(crate) fn is_match(&self, bytes: &[u8]) -> bool {
        self.may_match(bytes) && self.regex.is_match(&text_of(bytes))
    }

    /// False where the literal shows that there is no match.
    fn may_match(&self, bytes: &[u8]) -> bool {
        let literal = self.literal.as_ref();
        literal.is_none_or(|it| it.finder.find(bytes).is_some())
    }

    /// Where the first group matches first. Of a long text not all is searched.
    pub(crate) fn first_group(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let look_from = |regex: &Regex, at: usize, end: usize| {
            let shown = &bytes[at..end];
            let text = text_of(shown);
            let range = regex.captures(&text)?.get(1)?.range();
            let place = |place: usize| match text.len() == shown.len() {
                true => at + place,
                // Each byte is a letter there.
                false => at + text[..place].chars().count(),
            };
            Some(place(range.start)..place(range.end))
        };
        let Some(Literal { finder, anchored }) = &self.literal else {
            return look_from(&self.regex, 0, bytes.len().min(SEARCH_BYTES));
        };
        let mut places = finder.find_iter(bytes).take(TRIES);
        places.find_map(|at| look_from(anchored, at, bytes.len().min(at + MATCH_BYTES)))
    }

    /// Replaces the matches; `None` where there is none. `$1` stands for a group.
    pub(crate) fn replace(&self, bytes: &[u8], with: &str) -> Option<Vec<u8>> {
        if !self.may_match(bytes) {
            return None;
        }
        let text = text_of(bytes);
        let is_latin = text.len() != bytes.len();
        let with = match is_latin {
            true => latin(with.as_bytes()),
            false => with.to_owned(),
        };
        let Cow::Owned(new) = self.regex.replace_all(&text, with.as_str()) else {
            return None;
        };
        Some(match is_latin {
            true => new.chars().map(|it| it as u32 as u8).collect(),
            false => new.into_bytes(),
        })
    }
}

/// Bytes as text: each as a character where they are no UTF-8.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(latin(bytes)),
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// What each match of a pattern begins with, as far as that shows at once; at most so much.
fn leading_literal(pattern: &str) -> Vec<u8> {
    // One alternative might begin with something else.
    if pattern.contains('|') {
        return Vec::new();
    }
    let mut literal = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(next) = chars.next() {
        let plain = match next {
            '\\' => match chars.next() {
                // Escapes of letters and digits are classes and the like, these begin or end a word.
                Some('<' | '>') => break,
                Some(escaped) if escaped.is_ascii_punctuation() => escaped,
                _ => break,
            },
            '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' => break,
            plain => plain,
        };
        // What may be missing or come again is not literal, and what is not ASCII has other bytes
        // in Latin-1.
        if !plain.is_ascii() || matches!(chars.peek(), Some('?' | '*' | '+' | '{')) {
            break;
        }
        literal.push(plain as u8);
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("a pattern")
    }

    #[test]
    fn what_a_match_begins_with_is_found() {
        let of = |text: &str| String::from_utf8(leading_literal(text)).expect("text");
        assert_eq!(
            of(r#"name="csrf" value="([^"]+)""#),
            r#"name="csrf" value=""#
        );
        assert_eq!(of(r"a\.b+c"), "a.");
        assert_eq!(of(r"abc?d"), "ab");
        assert_eq!(of(r"abc{2}"), "ab");
        assert_eq!(of(r"ab\dc"), "ab");
        assert_eq!(of("^/login"), "");
        assert_eq!(of(r"user\>-x"), "user");
        assert_eq!(of(r"\<user"), "");
        assert_eq!(of("abc|def"), "");
        assert_eq!(of("/café/x"), "/caf");
    }

    #[test]
    fn groups_are_found_in_any_bytes() {
        for text in [r#"token="([^"]+)""#, r#"(?:token)="([^"]+)""#] {
            let pattern = pattern(text);
            let find = |bytes: &[u8]| pattern.first_group(bytes).map(|it| bytes[it].to_vec());
            let found = find(b"\xff\xe9 token=\"\" token=\"ab\xe9c\" token=\"d\"");
            assert_eq!(found.as_deref(), Some(&b"ab\xe9c"[..]));
            assert_eq!(find("é token=\"é\"".as_bytes()), Some("é".into()));
            assert_eq!(find(b"token=\""), None);
        }
    }

    #[test]
    fn a_letter_matches_as_latin_1_and_as_utf_8() {
        for text in ["^/café$", "/café", "é", "café/?", "(?i)CAFé"] {
            let pattern = pattern(text);
            assert!(pattern.is_match(b"/caf\xe9"), "{text}");
            assert!(pattern.is_match("/café".as_bytes()), "{text}");
            assert!(!pattern.is_match(b"/caf\xe8"), "{text}");
        }
    }

    #[test]
    fn matches_are_replaced_in_any_bytes() {
        let replaced = |text: &str, bytes: &[u8], with: &str| {
            let new = pattern(text).replace(bytes, with)?;
            Some(new.escape_ascii().to_string())
        };
        for (text, bytes, with, expected) in [
            ("^/v1/", &b"/v1/a"[..], "/v2/", Some("/v2/a")),
            (
                "host-(\\d)",
                b"host-1 \xff host-2 host-x",
                "h$1",
                Some("h1 \\xff h2 host-x"),
            ),
            ("ost-(\\d)", b"host-1", "é$1", Some("h\\xc3\\xa91")),
            ("(\\d)", b"\xe9 1", "é$1", Some("\\xe9 \\xc3\\xa91")),
            ("abcd", b"abc", "", None),
            ("x", b"abc", "", None),
        ] {
            assert_eq!(replaced(text, bytes, with).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn no_other_text_hides_a_match() {
        let tries = "/pay/a".repeat(TRIES);
        let long = format!("/pay/{}", "a".repeat(MATCH_BYTES));
        let far = "/a".repeat(SEARCH_BYTES);
        for before in [tries, long, far] {
            for text in [r"/pay/\d+", r"\d+", r"(?i)/PAY/\d"] {
                let pattern = pattern(text);
                assert!(pattern.is_match(format!("{before}/pay/1").as_bytes()));
                assert!(!pattern.is_match(before.as_bytes()));
            }
        }
        // Of a body not all is searched.
        let body = |before: usize| format!("{}token=a ", "token= ".repeat(before));
        let pattern = pattern(r"token=(\w)");
        assert!(pattern.first_group(body(TRIES - 1).as_bytes()).is_some());
        assert!(pattern.first_group(body(TRIES).as_bytes()).is_none());
    }

    #[test]
    fn words_end_where_the_regex_says() {
        let pattern = pattern(r"user\>-(\d)");
        assert!(pattern.is_match(b"a user-1") && !pattern.is_match(b"user>-1"));
        assert_eq!(pattern.replace(b"user-1", "$1").as_deref(), Some(&b"1"[..]));
        assert_eq!(pattern.first_group(b"user-1"), Some(5..6));
    }

    /// Time that grows with the square of the length would be minutes here.
    #[test]
    fn a_long_text_without_a_match_takes_no_longer_than_others() {
        let text = "token=".repeat(11_000);
        let pattern = pattern("token=([^&]+)&");
        let start = std::time::Instant::now();
        assert_eq!(pattern.replace(text.as_bytes(), "$1"), None);
        let first = format!("{text}&token=b&token=");
        let expected = format!("{}<b>token=", format_args!("<{}>", &text["token=".len()..]));
        let new = pattern.replace(first.as_bytes(), "<$1>");
        assert_eq!(new.as_deref(), Some(expected.as_bytes()));
        assert!(start.elapsed() < std::time::Duration::from_secs(2));
    }

    #[test]
    fn a_pattern_that_is_none_is_explained() {
        assert!(Pattern::new("(").is_err());
        assert_eq!(pattern("a(b)(?:c)(d)").groups(), 2);
        assert!(pattern("(?i)CURL").is_match(b"curl/8"));
    }
}
