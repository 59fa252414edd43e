//! A statement's text as tokens. Comments are passed over, but what `/*! … */` hides from other
//! databases is part of the statement.

use std::ops::Range;

use super::escapes::Reading;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A keyword, a name or a variable, without quotes.
    Word(&'a [u8]),
    /// A name in backticks, without them.
    Name(&'a [u8]),
    /// A text in quotes, without them; what is escaped within stays so.
    Text(&'a [u8]),
    /// A number, also in hexadecimal.
    Number(&'a [u8]),
    /// One character of its own.
    Sign(u8),
}

impl Token<'_> {
    /// Whether it is this keyword, in capitals or not.
    pub(crate) fn is(self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }
}

/// Splits a text into tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens<'a> {
    text: &'a [u8],
    reading: Reading,
    /// Where the last token begins.
    start: usize,
    at: usize,
    /// Within `/*! … */`.
    in_comment: bool,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a [u8], reading: Reading) -> Self {
        Self {
            text,
            reading,
            start: 0,
            at: 0,
            in_comment: false,
        }
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    /// Where the last token stands, its quotes included.
    pub(crate) fn span(&self) -> Range<usize> {
        self.start..self.at
    }

    /// The quote that the last token begins with, if it does with one.
    pub(crate) fn quote(&self) -> Option<u8> {
        let first = self.text.get(self.start).copied();
        first.filter(|byte| matches!(byte, b'\'' | b'"'))
    }

    /// Passes over the rest of a statement.
    pub(crate) fn pass_statement(&mut self) {
        if self.text[self.at..].contains(&b';') {
            self.any(|token| token == Token::Sign(b';'));
        } else {
            self.at = self.text.len();
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn starts_with(&self, what: &[u8]) -> bool {
        self.text[self.at..].starts_with(what)
    }

    /// Takes bytes as long as they are of a kind.
    fn take(&mut self, is_taken: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| !is_taken(*byte));
        let (taken, _) = rest.split_at(length.unwrap_or(rest.len()));
        self.at += taken.len();
        taken
    }

    fn pass_line(&mut self) {
        self.take(|byte| byte != b'\n');
    }

    fn pass_comment(&mut self) {
        let rest = &self.text[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"*/");
        self.at += end.map_or(rest.len(), |end| end + 2);
    }

    /// Passes over blanks and comments.
    fn pass(&mut self) {
        loop {
            self.take(|byte| byte.is_ascii_whitespace() || byte == 0x0b);
            if self.starts_with(b"/*!") || self.starts_with(b"/*M!") {
                self.at += if self.starts_with(b"/*!") { 3 } else { 4 };
                self.take(|byte| byte.is_ascii_digit());
                self.in_comment = true;
            } else if self.in_comment && self.starts_with(b"*/") {
                self.at += 2;
                self.in_comment = false;
            } else if self.starts_with(b"/*") {
                self.at += 2;
                self.pass_comment();
            } else if self.peek(0) == Some(b'#') || self.is_dashes() {
                self.pass_line();
            } else {
                return;
            }
        }
    }

    /// `--` is a comment only before a blank.
    fn is_dashes(&self) -> bool {
        self.starts_with(b"--") && self.peek(2).is_none_or(|byte| byte <= b' ')
    }

    /// A text in these quotes, behind the first of them.
    fn quoted(&mut self, quote: u8) -> &'a [u8] {
        let start = self.at;
        while let Some(byte) = self.peek(0) {
            if let Some(next) = self.peek(1)
                && (self.reading.is_pair(byte, next) || self.reading.is_escape(byte, quote))
            {
                self.at += 2;
            } else if byte != quote {
                self.at += 1;
            } else if self.peek(1) == Some(quote) {
                self.at += 2;
            } else {
                self.at += 1;
                return &self.text[start..self.at - 1];
            }
        }
        &self.text[start..]
    }

    fn word(&mut self) -> &'a [u8] {
        let start = self.at;
        while let Some(byte) = self.peek(0).filter(|byte| is_of_word(*byte)) {
            let next = self.peek(1);
            let is_pair = next.is_some_and(|next| self.reading.is_pair(byte, next));
            self.at += if is_pair { 2 } else { 1 };
        }
        &self.text[start..self.at]
    }

    fn number(&mut self) -> &'a [u8] {
        let start = self.at;
        self.take(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
        let is_scientific = matches!(self.text.get(self.at.wrapping_sub(1)), Some(b'e' | b'E'))
            && !self.text[start..].starts_with(b"0x");
        if is_scientific && matches!(self.peek(0), Some(b'+' | b'-')) {
            self.at += 1;
            self.take(|byte| byte.is_ascii_digit());
        }
        &self.text[start..self.at]
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'@') || byte >= 0x80
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.pass();
        self.start = self.at;
        let first = self.peek(0)?;
        let is_number = first.is_ascii_digit()
            || (first == b'.' && self.peek(1).is_some_and(|it| it.is_ascii_digit()));
        Some(match first {
            _ if is_number => Token::Number(self.number()),
            b'x' | b'X' | b'b' | b'B' | b'n' | b'N' if self.peek(1) == Some(b'\'') => {
                self.at += 2;
                Token::Text(self.quoted(b'\''))
            }
            _ if is_of_word(first) => Token::Word(self.word()),
            b'\'' | b'"' => {
                self.at += 1;
                Token::Text(self.quoted(first))
            }
            b'`' => {
                self.at += 1;
                Token::Name(self.quoted(b'`'))
            }
            sign => {
                self.at += 1;
                Token::Sign(sign)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let shown = Tokens::new(text.as_bytes(), Reading::Backslash).map(|token| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            match token {
                Token::Word(word) => text(word),
                Token::Name(name) => format!("`{}`", text(name)),
                Token::Text(within) => format!("'{}'", text(within)),
                Token::Number(number) => format!("#{}", text(number)),
                Token::Sign(sign) => char::from(sign).to_string(),
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn texts_are_split() {
        for (text, expected) in [
            (
                "select a.b,'it''s' from `x``y` -- c\nwhere i=1.5e-3",
                "select a . b , 'it''s' from `x``y` where i = #1.5e-3",
            ),
            (
                "a--1 #x\n/* y */ 'a\\'b' \"c\" 0xfe @@v @u",
                "a - - #1 'a\\'b' 'c' #0xfe @@v @u",
            ),
            (
                "/*!40001 SQL_NO_CACHE */ x /*M!100100 y*/z",
                "SQL_NO_CACHE x y z",
            ),
            ("x'ab' N'c' .5 é 'open", "'ab' 'c' #.5 é 'open'"),
            ("/* open", ""),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_endless_or_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            for reading in Reading::ALL {
                prop_assert!(Tokens::new(&text, reading).count() <= text.len());
            }
        }

        #[test]
        fn nor_one_of_the_signs_that_matter(text in "['\"`/*!\\\\#\\-; 0xe.\n]{0,60}") {
            for reading in Reading::ALL {
                prop_assert!(Tokens::new(text.as_bytes(), reading).count() <= text.len());
            }
        }
    }
}
