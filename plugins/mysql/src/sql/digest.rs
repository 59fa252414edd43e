//! What statements are called in reports: their text, with `?` for what differs from one to the
//! next.

use super::escapes::{Escapes, Reading};
use super::token::{Token, Tokens};

/// The longest digest, in bytes; longer ones end with a hash of the whole.
const DIGEST_BYTES: usize = 120;

/// So much of a statement's text is read for its digest.
const READ_BYTES: usize = 16 * 1024;

/// The longest text that is made while a digest is: what is behind it can't be told apart.
const MADE_BYTES: usize = 1024;

/// The digest of a statement: blanks joined, comments left out, `?` for each literal, one `(?+)` for
/// lists of them, one of several rows that are alike.
///
/// Literals never show in it: where the session does not tell what is one, it ends.
pub(crate) fn digest(text: &[u8], escapes: Escapes) -> String {
    let text = &text[..text.len().min(READ_BYTES)];
    let readings = escapes.readings(text).into_iter();
    let mut all = readings.map(|reading| Made::of(text, reading).text);
    let first = all.next().unwrap_or_default();
    let mut made = first.clone();
    for other in all {
        let same = made.iter().zip(&other).take_while(|(a, b)| a == b).count();
        made.truncate(same);
    }
    if made.len() < first.len() {
        let is_whole = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte < 0x80;
        made.truncate(made.iter().rposition(is_whole).map_or(0, |at| at + 1));
        made.extend_from_slice(b"?~");
    }
    finish(&made)
}

#[derive(Default)]
struct Made {
    text: Vec<u8>,
    /// The parentheses that are open, the innermost last.
    open: Vec<Open>,
}

/// A parenthesis that is open.
struct Open {
    /// Where it stands.
    at: usize,
    /// It has held nothing but literals so far.
    is_list: bool,
}

const LIST: &[u8] = b"(?+)";

/// Words that are literals where a value stands.
const VALUES: [&str; 4] = ["NULL", "TRUE", "FALSE", "DEFAULT"];

impl Made {
    fn of(text: &[u8], reading: Reading) -> Self {
        let mut made = Self::default();
        for token in Tokens::new(text, reading) {
            made.push(token);
            if made.text.len() > MADE_BYTES {
                break;
            }
        }
        made.close_all();
        made
    }

    fn push(&mut self, token: Token<'_>) {
        let follows_sign = matches!(self.text.last(), Some(b'(' | b',' | b'='));
        match token {
            Token::Text(_) | Token::Number(_) | Token::Sign(b'?') => self.literal(),
            Token::Word(_) if follows_sign && VALUES.iter().any(|it| token.is(it)) => {
                self.literal();
            }
            Token::Sign(sign) => self.sign(sign),
            Token::Word(word) => self.word(&[], word),
            Token::Name(name) => self.word(b"`", name),
        }
    }

    fn literal(&mut self) {
        // A sign before a number is part of it.
        if let [.., b'(' | b',' | b'=', b'-' | b'+'] = self.text.as_slice() {
            self.text.pop();
        }
        // Several texts in a row are one.
        if self.text.ends_with(b"?") {
            return;
        }
        if self.open.last().is_some_and(|open| open.is_list) && self.text.ends_with(b"?,") {
            self.text.pop();
            return;
        }
        self.space();
        self.text.push(b'?');
    }

    fn word(&mut self, quote: &[u8], word: &[u8]) {
        self.is_no_list();
        self.space();
        for part in [quote, word, quote] {
            self.text.extend_from_slice(part);
        }
    }

    fn is_no_list(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.is_list = false;
        }
    }

    fn sign(&mut self, sign: u8) {
        match sign {
            b'(' => {
                self.is_no_list();
                if self.text.ends_with(b",") {
                    self.text.push(b' ');
                }
                let at = self.text.len();
                self.open.push(Open { at, is_list: true });
            }
            b')' => return self.close(),
            b',' | b'-' | b'+' => {}
            _ => self.is_no_list(),
        }
        if sign == b'*' && self.text.last().is_some_and(u8::is_ascii_alphanumeric) {
            self.text.push(b' ');
        }
        self.text.push(sign);
    }

    /// `( ? , ? )` becomes `(?+)`, and several rows that are alike become one.
    fn close(&mut self) {
        let Some(Open { at, is_list }) = self.open.pop() else {
            return self.text.push(b')');
        };
        if is_list && self.text.len() > at + 1 {
            self.text.truncate(at);
            self.text.extend_from_slice(LIST);
        } else {
            self.text.push(b')');
        }
        let (before, row) = self.text.split_at(at);
        if let Some(before) = before.strip_suffix(b", ")
            && before.ends_with(row)
        {
            self.text.truncate(at - b", ".len());
        }
    }

    /// Closes what is open where the text was cut; a row that has begun is like the one before.
    fn close_all(&mut self) {
        let row = self
            .open
            .iter()
            .find(|open| self.text[..open.at].ends_with(b"), "));
        if let Some(at) = row.map(|open| open.at) {
            self.text.truncate(at - b", ".len());
            self.open.retain(|open| open.at < at);
        }
        while !self.open.is_empty() {
            self.close();
        }
    }

    /// A blank between words.
    fn space(&mut self) {
        let is_needed = self.text.last().is_some_and(|last| {
            !matches!(
                last,
                b'(' | b'.' | b'=' | b'<' | b'>' | b'-' | b'+' | b'/' | b'%' | b'!' | b':' | b' '
            )
        });
        if is_needed {
            self.text.push(b' ');
        }
    }
}

fn finish(made: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(made).into_owned();
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

    fn known(text: &[u8]) -> String {
        let backslash = Some(true);
        digest(
            text,
            Escapes {
                backslash,
                ..Escapes::default()
            },
        )
    }

    #[test]
    fn lists_and_rows_of_any_length_are_one() {
        for (head, row, tail, expected) in [
            (
                "select a from t where b in (",
                "123",
                ")",
                "select a from t where b in(?+)",
            ),
            (
                "insert into t values ",
                "(1,null)",
                "",
                "insert into t values(?+)",
            ),
            (
                "insert into t values ",
                "(1, now())",
                "",
                "insert into t values(?, now())",
            ),
            (
                "insert into t values ",
                "(1, f(a, 2), -3, default)",
                " on duplicate key update a = null",
                "insert into t values(?, f(a, ?), ?, ?) on duplicate key update a=?",
            ),
        ] {
            for count in [1, 2, 300, 400, 900] {
                let rows = vec![row; count].join(", ");
                let made = known(format!("{head}{rows}{tail}").as_bytes());
                // What is behind the part that is read does not show.
                let cut = expected.split(" on duplicate").next().unwrap_or_default();
                let is_cut = head.len() + rows.len() + tail.len() > READ_BYTES;
                assert_eq!(made, if is_cut { cut } else { expected }, "{count} {row}");
            }
        }
        for length in [5_000, 15_990, 16_356, 16_360, 17_000] {
            let text = format!("insert into t values (1, '{}', 2)", "x".repeat(length));
            assert_eq!(
                known(text.as_bytes()),
                "insert into t values(?+)",
                "{length}"
            );
        }
        let create = "create table t (a int not null default 3, b int)";
        assert_eq!(
            known(create.as_bytes()),
            "create table t(a int not null default ?, b int)"
        );
    }

    #[test]
    fn literals_do_not_show_where_it_is_not_known_what_is_one() {
        let secret = br"select a from f where p = 'C:\' and s = 'hunter2 hunter3' and x = 'y'";
        let plain = Escapes {
            backslash: Some(false),
            ..Escapes::default()
        };
        assert_eq!(
            digest(secret, plain),
            "select a from f where p=? and s=? and x=?"
        );
        assert_eq!(
            digest(secret, Escapes::default()),
            "select a from f where p=? ?~"
        );
        let escaped = br"select a from f where p = 'C\'s' and s = 'hunter2'";
        assert_eq!(known(escaped), "select a from f where p=? and s=?");
        for text in [
            &b"select * from f where p = '\x83\x5c' and secret = 'hunter2 hunter3'"[..],
            b"alter user a identified by 'a\x95\x5c' comment 'hunter2'",
            br#"select "C:\" , "hunter2", "x""#,
            br"set sql_mode = 'NO_BACKSLASH_ESCAPES'; select 'C:\', 'hunter2'",
        ] {
            let made = known(text);
            assert!(!made.contains("hunter") && made.ends_with('~'), "{made}");
        }
    }

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
            assert_eq!(known(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn long_ones_end_with_a_hash() {
        let column = |name: &str| format!("select {}{name} from t", "long_column, ".repeat(20));
        let (a, b) = (known(column("a").as_bytes()), known(column("b").as_bytes()));
        assert!(
            a.len() <= DIGEST_BYTES && b.len() <= DIGEST_BYTES && a != b,
            "{a} {b}"
        );
        assert_eq!(a[..100], b[..100]);
        let million = format!("insert into t values (1){}", ",(1)".repeat(250_000));
        assert_eq!(known(million.as_bytes()), "insert into t values(?+)");
    }

    proptest! {
        #[test]
        fn digests_are_bounded_and_show_no_literal(
            text in prop::collection::vec(any::<u8>(), 0..400),
            secret in "[a-z]{6}",
        ) {
            prop_assert!(digest(&text, Escapes::default()).len() <= DIGEST_BYTES);
            let statement = format!("select '{secret}', \"{secret}\", 'x{secret}'");
            prop_assert!(!known(statement.as_bytes()).contains(&secret));
        }
    }
}
