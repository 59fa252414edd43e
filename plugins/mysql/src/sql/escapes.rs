//! Where the texts in a statement end. That hangs on the session: on `NO_BACKSLASH_ESCAPES`, which
//! every answer of a server tells; on `ANSI_QUOTES`, which none does; and on the character set,
//! where a backslash may be the second byte of a letter. What isn't known is read in each way.

use crate::ok::Status;

/// A way to read the texts of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// A backslash takes away the meaning of what follows it.
    Backslash,
    /// The same, but not between double quotes, which hold names.
    Names,
    /// The same, and letters may take two bytes, of which the second is any.
    Pairs,
    /// A backslash is a letter.
    Plain,
}

/// What is known of a session, as far as it says how its texts are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Escapes {
    /// Whether a backslash is more than a letter, if that is known.
    pub(crate) backslash: Option<bool>,
    /// Its character set has letters of two bytes.
    pub(crate) has_pairs: bool,
}

/// Character sets in which a letter's second byte may be a backslash or a quote.
const PAIRED: [&[u8]; 5] = [b"sjis", b"cp932", b"gbk", b"gb18030", b"big5"];

impl Reading {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Backslash, Self::Names, Self::Pairs, Self::Plain];

    /// Whether a byte escapes the one behind it, in a text with these quotes.
    pub(crate) fn is_escape(self, byte: u8, quote: u8) -> bool {
        let escapes = match self {
            Self::Plain => false,
            Self::Names => quote == b'\'',
            Self::Backslash | Self::Pairs => quote != b'`',
        };
        escapes && byte == b'\\'
    }

    /// Whether two bytes are one letter.
    pub(crate) fn is_pair(self, first: u8, second: u8) -> bool {
        self == Self::Pairs && first > 0x80 && second >= 0x40
    }

    /// What a text in quotes says.
    pub(crate) fn unescape(self, raw: &[u8], quote: u8) -> Vec<u8> {
        let mut said = Vec::with_capacity(raw.len());
        let mut rest = raw;
        while let [first, behind @ ..] = rest {
            rest = behind;
            match behind {
                [second, behind @ ..] if self.is_pair(*first, *second) => {
                    said.extend_from_slice(&[*first, *second]);
                    rest = behind;
                }
                [second, behind @ ..] if self.is_escape(*first, quote) => {
                    // What these stand for is a blank, or no part of a statement.
                    let is_blank = matches!(second, b'n' | b't' | b'r' | b'b' | b'0' | b'Z');
                    said.push(if is_blank { b' ' } else { *second });
                    rest = behind;
                }
                [second, behind @ ..] if *first == quote && *second == quote => {
                    said.push(quote);
                    rest = behind;
                }
                _ => said.push(*first),
            }
        }
        said
    }
}

impl Escapes {
    /// What a server's status and the name of a character set tell.
    pub(crate) fn of(status: Option<Status>, names: Option<&[u8]>) -> Self {
        let is_paired = |names: &[u8]| PAIRED.iter().any(|it| names.eq_ignore_ascii_case(it));
        Self {
            backslash: status.map(Status::has_backslash_escapes),
            has_pairs: names.is_some_and(is_paired),
        }
    }

    /// The ways in which a text may have to be read; the likeliest first.
    pub(crate) fn readings(self, text: &[u8]) -> Vec<Reading> {
        if !text.contains(&b'\\') && !self.may_pair(text) {
            return vec![Reading::Backslash];
        }
        let follows = |first: u8, second: u8| text.windows(2).any(|it| it == [first, second]);
        let changes_mode = || {
            text.windows(8)
                .any(|it| it.eq_ignore_ascii_case(b"sql_mode"))
        };
        let backslash = self.backslash.filter(|_| !changes_mode());
        if backslash == Some(false) && !self.may_pair(text) {
            return vec![Reading::Plain];
        }
        let mut readings = Vec::new();
        if backslash != Some(false) {
            readings.push(Reading::Backslash);
            if follows(b'\\', b'"') {
                readings.push(Reading::Names);
            }
        }
        if self.may_pair(text) {
            readings.push(Reading::Pairs);
        }
        if backslash != Some(true) {
            readings.push(Reading::Plain);
        }
        readings
    }

    /// Whether a letter of two bytes may hide a backslash or a quote. UTF-8 has none that does.
    fn may_pair(self, text: &[u8]) -> bool {
        let hides = |pair: &[u8]| pair[0] > 0x80 && matches!(pair[1], b'\\' | b'`');
        !text.is_ascii()
            && text.windows(2).any(hides)
            && (self.has_pairs || std::str::from_utf8(text).is_err())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Escapes = Escapes {
        backslash: Some(true),
        has_pairs: false,
    };

    #[test]
    fn what_is_not_known_is_read_in_each_way() {
        use Reading::{Backslash, Names, Pairs, Plain};
        let unknown = Escapes::default();
        let plain = Escapes {
            backslash: Some(false),
            ..KNOWN
        };
        let paired = Escapes {
            has_pairs: true,
            ..KNOWN
        };
        for (escapes, text, expected) in [
            (unknown, &b"select 'a'"[..], &[Backslash][..]),
            (unknown, br"select 'a\'", &[Backslash, Plain]),
            (KNOWN, br"select 'a\''", &[Backslash]),
            (KNOWN, br#"select "a\"""#, &[Backslash, Names]),
            (KNOWN, br"set sql_mode=''; select '\'", &[Backslash, Plain]),
            (plain, br"select 'a\'", &[Plain]),
            (KNOWN, b"select '\x83\\'", &[Backslash, Pairs]),
            (KNOWN, "select 'é\\''".as_bytes(), &[Backslash]),
            (paired, "select 'é\\''".as_bytes(), &[Backslash, Pairs]),
            (plain, b"select `\x83``", &[Pairs, Plain]),
        ] {
            assert_eq!(escapes.readings(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn sessions_tell_how_they_are_read() {
        let told = Escapes::of(Some(Status(0x0200)), Some(b"GBK"));
        assert_eq!((told.backslash, told.has_pairs), (Some(false), true));
        let told = Escapes::of(Some(Status(2)), Some(b"utf8mb4"));
        assert_eq!((told.backslash, told.has_pairs), (Some(true), false));
        assert_eq!(Escapes::of(None, None), Escapes::default());
    }

    #[test]
    fn texts_in_quotes_say_what_they_say() {
        let said = |reading: Reading, raw: &[u8]| reading.unescape(raw, b'\'');
        assert_eq!(said(Reading::Backslash, br"a''b\'c\nd\"), br"a'b'c d\");
        assert_eq!(said(Reading::Plain, br"a''b\n"), br"a'b\n");
        assert_eq!(said(Reading::Pairs, b"\x83\\n\\n"), b"\x83\\n ");
        assert_eq!(Reading::Names.unescape(br#"a\b"""#, b'"'), br#"a\b""#);
    }
}
