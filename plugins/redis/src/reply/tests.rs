use proptest::prelude::*;

use super::*;

/// All replies in `bytes`, which are given in pieces of this size.
fn replies(bytes: &[u8], piece: usize) -> Result<Vec<Reply>, Malformed> {
    let mut parser = ReplyParser::new();
    let mut all = Vec::new();
    for mut bytes in bytes.chunks(piece.max(1)) {
        while let Some(reply) = parser.next(&mut bytes)? {
            all.push(reply.clone());
        }
    }
    Ok(all)
}

/// The only reply, in whatever pieces it comes.
fn reply(text: &str) -> Reply {
    let whole = replies(text.as_bytes(), text.len()).expect("well formed");
    assert_eq!(whole.len(), 1, "{text:?}: {whole:?}");
    for piece in 1..text.len() {
        let pieces = replies(text.as_bytes(), piece).expect("well formed");
        assert_eq!(pieces, whole, "in pieces of {piece}");
        let part = replies(&text.as_bytes()[..piece], text.len());
        assert_eq!(part, Ok(Vec::new()), "cut at {piece}");
    }
    whole[0].clone()
}

fn facts(text: &str) -> (Shape, String, u64, Option<u64>, u64) {
    let reply = reply(text);
    let word = String::from_utf8_lossy(reply.word()).into_owned();
    (reply.shape, word, reply.count, reply.third, reply.errors)
}

fn simple(shape: Shape, word: &str) -> (Shape, String, u64, Option<u64>, u64) {
    (shape, word.to_owned(), 0, None, 0)
}

#[test]
fn single_values() {
    assert_eq!(facts("+OK\r\n"), simple(Shape::Line, "OK"));
    assert_eq!(facts("+\r\n"), simple(Shape::Line, ""));
    assert_eq!(facts(":-12\r\n"), simple(Shape::Line, "-12"));
    assert_eq!(facts("#t\r\n"), simple(Shape::Line, "t"));
    assert_eq!(facts(",1.5e9\r\n"), simple(Shape::Line, "1.5e9"));
    assert_eq!(
        facts("(3492890328409238509324850943850943825024385\r\n").0,
        Shape::Line
    );
    assert_eq!(facts("_\r\n"), simple(Shape::Null, ""));
    assert_eq!(facts("$-1\r\n"), simple(Shape::Null, ""));
    assert_eq!(facts("*-1\r\n"), simple(Shape::Null, ""));
    assert_eq!(facts("$0\r\n\r\n"), simple(Shape::Text, ""));
    assert_eq!(facts("$4\r\n\r\n\r\n\r\n"), simple(Shape::Text, "\r\n\r\n"));
    assert_eq!(facts("=7\r\ntxt:abc\r\n"), simple(Shape::Text, "txt:abc"));
}

#[test]
fn errors_have_a_code() {
    let moved = reply("-MOVED 3999 127.0.0.1:6381\r\n");
    assert_eq!((moved.shape, moved.code()), (Shape::Error, Some("MOVED")));
    let blob = reply("!21\r\nSYNTAX invalid syntax\r\n");
    assert_eq!((blob.shape, blob.code()), (Shape::Error, Some("SYNTAX")));
    assert_eq!(reply("+OK\r\n").code(), None);
}

#[test]
fn several_values() {
    let array = (Shape::Array, String::new(), 0, None, 0);
    assert_eq!(facts("*0\r\n"), array);
    let subscribed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:7\r\n";
    let wanted = (Shape::Array, "subscribe".to_owned(), 3, Some(7), 0);
    assert_eq!(facts(subscribed), wanted);
    let pushed = ">3\r\n+subscribe\r\n+a\r\n:7\r\n";
    let wanted = (Shape::Push, "subscribe".to_owned(), 3, Some(7), 0);
    assert_eq!(facts(pushed), wanted);
    let map = "%2\r\n+first\r\n:1\r\n+second\r\n*2\r\n:2\r\n~1\r\n#f\r\n";
    assert_eq!(facts(map), (Shape::Array, "first".to_owned(), 4, None, 0));
    let nested = "*2\r\n*2\r\n-ERR a\r\n!3\r\nERR\r\n-EXECABORT b\r\n";
    assert_eq!(facts(nested), (Shape::Array, String::new(), 2, None, 3));
    assert_eq!(facts("*3\r\n*0\r\n%0\r\n*-1\r\n").2, 3);
}

#[test]
fn attributes_are_not_the_value() {
    let text = "|1\r\n+ttl\r\n*2\r\n:1\r\n-ERR no\r\n*3\r\n+x\r\n|1\r\n+a\r\n:9\r\n+y\r\n:3\r\n";
    assert_eq!(facts(text), (Shape::Array, "x".to_owned(), 3, Some(3), 0));
    assert_eq!(facts("|0\r\n+OK\r\n"), simple(Shape::Line, "OK"));
}

#[test]
fn values_that_come_in_pieces() {
    let text = "$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;1\r\nd\r\n;0\r\n";
    assert_eq!(facts(text), simple(Shape::Text, "Hello word"));
    let array = "*?\r\n+a\r\n$?\r\n;1\r\nb\r\n;0\r\n:3\r\n.\r\n";
    assert_eq!(facts(array), (Shape::Array, "a".to_owned(), 0, Some(3), 0));
    assert_eq!(facts("%?\r\n+a\r\n~?\r\n.\r\n.\r\n").0, Shape::Array);
    assert_eq!(
        facts("|?\r\n+a\r\n:1\r\n.\r\n+OK\r\n"),
        simple(Shape::Line, "OK")
    );
}

#[test]
fn of_a_long_text_the_beginning_is_kept() {
    let long = format!("$1000\r\n{}\r\n", "x".repeat(1000));
    assert_eq!(facts(&long).1, "x".repeat(WORD_BYTES));
    let line = format!("+{}\r\n", "y".repeat(200));
    assert_eq!(facts(&line).1, "y".repeat(WORD_BYTES));
}

#[test]
fn what_is_no_reply_is_malformed() {
    let deep = "*1\r\n".repeat(MAX_DEPTH + 1);
    let digits = format!("${}1\r\n", "0".repeat(40));
    for text in [
        "HTTP/1.1 200 OK\r\n",
        "+OK\n",
        "$x\r\n",
        "$1\r\nab\r\n",
        "$1\r\na\n\n",
        "*9223372036854775808\r\n",
        ".\r\n",
        "*1\r\n.\r\n",
        "*?\r\n.x\r\n",
        ";1\r\n",
        "$?\r\n+a\r\n",
        "$?\r\n;x\r\n",
        "$\r\n",
        deep.as_str(),
        digits.as_str(),
    ] {
        assert_eq!(replies(text.as_bytes(), 1000), Err(Malformed), "{text:?}");
        assert_eq!(replies(text.as_bytes(), 1), Err(Malformed), "{text:?}");
    }
}

/// Some value as text, and how many errors are within.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[+:#,(_-][a-zA-Z0-9 ]{0,70}".prop_map(|line| format!("{line}\r\n")),
        proptest::collection::vec(any::<char>(), 0..80).prop_map(|text| {
            let text: String = text.into_iter().collect();
            format!("${}\r\n{text}\r\n", text.len())
        }),
        Just("$-1\r\n".to_owned()),
        Just("$?\r\n;2\r\nab\r\n;0\r\n".to_owned()),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let several = proptest::collection::vec(inner, 0..6);
        (several, 0..4u8).prop_map(|(values, kind)| {
            let (count, all) = (values.len(), values.concat());
            match kind {
                0 => format!("*{count}\r\n{all}"),
                1 => format!("*?\r\n{all}.\r\n"),
                2 => format!("~{count}\r\n{all}"),
                _ => format!("%{count}\r\n{all}{all}"),
            }
        })
    })
}

proptest! {
    #[test]
    fn each_value_is_one_reply_however_it_is_cut(
        values in proptest::collection::vec(value(), 1..5),
        piece in 1..40usize,
    ) {
        let text = values.concat();
        let whole = replies(text.as_bytes(), text.len()).expect("well formed");
        prop_assert_eq!(whole.len(), values.len());
        prop_assert_eq!(replies(text.as_bytes(), piece), Ok(whole));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        text in "[+$*%|>;.?!\\-0-9\r\n]{0,80}",
    ) {
        let _ = replies(&bytes, 7);
        let _ = replies(text.as_bytes(), 7);
    }
}
