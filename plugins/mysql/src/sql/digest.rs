//! What statements are called in reports: their text, with `?` for what differs from one to the
//! next.

use super::token::{Token, Tokens};

/// The longest digest, in bytes; longer ones end with a hash of the whole.
const DIGEST_BYTES: usize = 120;

/// So much of a statement's text is read for its digest.
const READ_BYTES: usize = 16 * 1024;

/// The longest text that is made while a digest is: what is behind it can't be told apart.
const MADE_BYTES: usize = 1024;

/// The digest of a statement: blanks joined, comments left out, `?` for each literal, one `(?+)` for
/// lists of them.
///
/// Literals never show in it.
pub(crate) fn digest(text: &[u8]) -> String {
    let text = &text[..text.len().min(READ_BYTES)];
    let mut made = Made::default();
    for token in Tokens::new(text) {
        made.push(token);
        if made.text.len() > MADE_BYTES {
            break;
        }
    }
    made.finish()
}

#[derive(Default)]
struct Made {
    text: Vec<u8>,
    /// Where the parenthesis was opened that has held nothing but literals so far.
    opened: Option<usize>,
    /// Where the last list of literals begins, as long as nothing but a comma has followed it.
    list: Option<usize>,
}

const LIST: &[u8] = b"(?+)";

impl Made {
    fn push(&mut self, token: Token<'_>) {
        match token {
            Token::Text(_) | Token::Number(_) => self.literal(),
            Token::Sign(sign) => self.sign(sign),
            Token::Word(word) => self.word(&[], word),
            Token::Name(name) => self.word(b"`", name),
        }
    }

    fn literal(&mut self) {
        // Several texts in a row are one, and a sign before a number is part of it.
        let mut end = self.text.len();
        if let [.., before, b'-' | b'+'] = self.text.as_slice()
            && matches!(before, b'(' | b',' | b'=')
        {
            end -= 1;
        }
        self.text.truncate(end);
        if !self.text.ends_with(b"?") {
            self.space();
            self.text.push(b'?');
        }
        if self.opened.is_none() {
            self.list = None;
        }
    }

    fn word(&mut self, quote: &[u8], word: &[u8]) {
        (self.opened, self.list) = (None, None);
        self.space();
        for part in [quote, word, quote] {
            self.text.extend_from_slice(part);
        }
    }

    fn sign(&mut self, sign: u8) {
        match sign {
            b'(' => {
                self.opened = Some(self.text.len());
            }
            b')' if self.opened.is_some() => return self.close_list(),
            b',' if self.list.is_some() || self.opened.is_some() => {}
            b'-' | b'+' if self.opened.is_some() => {}
            b'?' => return self.literal(),
            _ => (self.opened, self.list) = (None, None),
        }
        if sign == b'*' && self.text.last().is_some_and(u8::is_ascii_alphanumeric) {
            self.text.push(b' ');
        }
        if sign == b'(' && self.text.ends_with(b",") && self.list.is_none() {
            self.text.push(b' ');
            self.opened = Some(self.text.len());
        }
        self.text.push(sign);
    }

    /// `( ? , ? )` becomes `(?+)`, and so do several of them.
    fn close_list(&mut self) {
        let Some(start) = self.opened.take() else {
            return;
        };
        if self.text.len() == start + 1 {
            self.list = None;
            return self.text.push(b')');
        }
        let start = *self.list.get_or_insert(start);
        self.text.truncate(start);
        self.text.extend_from_slice(LIST);
    }

    /// A blank between words.
    fn space(&mut self) {
        let is_needed = self.text.last().is_some_and(|last| {
            !matches!(
                last,
                b'(' | b'.'
                    | b'='
                    | b'<'
                    | b'>'
                    | b'-'
                    | b'+'
                    | b'/'
                    | b'*'
                    | b'%'
                    | b'!'
                    | b':'
                    | b' '
            )
        }) || self.text.ends_with(b"*");
        if is_needed {
            self.text.push(b' ');
        }
    }

    fn finish(self) -> String {
        let mut text = String::from_utf8_lossy(&self.text).into_owned();
        text.retain(|letter| !letter.is_control());
        if text.len() <= DIGEST_BYTES {
            return text;
        }
        let hash = format!("~{:08x}", hash(text.as_bytes()));
        let mut end = DIGEST_BYTES - hash.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text + &hash
    }
}

/// FNV-1a, folded to 32 bits: it tells digests apart that begin alike.
fn hash(bytes: &[u8]) -> u32 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_is_left_out() {
        for (text, expected) in [
            (
                "SELECT c FROM sbtest1 WHERE id=5049",
                "SELECT c FROM sbtest1 WHERE id=?",
            ),
            (
                "select  *\n from t where a = 'x' and b=-3",
                "select * from t where a=? and b=?",
            ),
            ("SELECT 1", "SELECT ?"),
            (
                "insert into t values (1,'a'),(2, 'b') , (3,-4)",
                "insert into t values(?+)",
            ),
            (
                "insert into t (a, b) values (1,2)",
                "insert into t(a, b) values(?+)",
            ),
            (
                "select a from t where id in (1,2,3) and x in (4)",
                "select a from t where id in(?+) and x in(?+)",
            ),
            (
                "select now(), f(1), g(a, 1)",
                "select now(), f(?+), g(a, ?)",
            ),
            (
                "select a-1, `b c`.d, @@version",
                "select a-?, `b c`.d, @@version",
            ),
            ("set names 'utf8'", "set names ?"),
            ("select /* secret */ 'a' 'b' -- c", "select ?"),
            ("", ""),
        ] {
            assert_eq!(digest(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn long_ones_end_with_a_hash() {
        let column = |name: &str| format!("select {}{name} from t", "long_column, ".repeat(20));
        let (a, b) = (
            digest(column("a").as_bytes()),
            digest(column("b").as_bytes()),
        );
        assert!(
            a.len() <= DIGEST_BYTES && b.len() <= DIGEST_BYTES && a != b,
            "{a} {b}"
        );
        assert_eq!(a[..100], b[..100]);
        let million = format!("insert into t values (1){}", ",(1)".repeat(250_000));
        assert_eq!(digest(million.as_bytes()), "insert into t values(?+)");
    }

    proptest! {
        #[test]
        fn digests_are_bounded_and_show_no_literal(
            text in prop::collection::vec(any::<u8>(), 0..400),
            secret in "[a-z]{6}",
        ) {
            prop_assert!(digest(&text).len() <= DIGEST_BYTES);
            let statement = format!("select '{secret}', \"{secret}\", 'x{secret}'");
            prop_assert!(!digest(statement.as_bytes()).contains(&secret));
        }
    }
}
