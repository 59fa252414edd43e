use proptest::prelude::*;

use super::*;

/// The arguments of a command.
type Words = Vec<Vec<u8>>;

/// All commands in `bytes`, with their arguments; the offset of the first that is not complete.
fn commands(bytes: &[u8]) -> Result<(Vec<Words>, usize), Malformed> {
    let (mut spans, mut decoded) = (Vec::new(), Vec::new());
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let parsed = parse(&bytes[at..], &mut spans)?;
        let length = match parsed {
            Parsed::Array(length) | Parsed::Inline(length) | Parsed::Nothing(length) => length,
            Parsed::Partial { .. } => break,
        };
        if let Some(command) = whole(&parsed, &bytes[at..], &mut spans, &mut decoded)? {
            assert_eq!(command.raw, &bytes[at..at + length]);
            assert!(command.is_whole());
            all.push(command.args().map(<[u8]>::to_vec).collect());
        }
        at += length;
    }
    Ok((all, at))
}

fn words(text: &str) -> Words {
    let (all, at) = commands(text.as_bytes()).expect("a command");
    assert_eq!((all.len(), at), (1, text.len()), "{text}");
    all[0].clone()
}

#[test]
fn arrays_and_lines_are_commands() {
    assert_eq!(
        words("*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n"),
        [&b"GET"[..], b"a\r\nb"]
    );
    assert_eq!(words("*1\r\n$0\r\n\r\n"), [b""]);
    assert_eq!(words("  set a\tb \r\n"), [b"set", &b"a"[..], b"b"]);
    assert_eq!(words("PING\n"), [b"PING"]);
    assert_eq!(
        words("set \"a \\x41\\n\\\"\" 'b \\' \\n' c\"d e\"\r\n"),
        [&b"set"[..], b"a A\n\"", b"b ' \\n", b"cd e"]
    );
}

#[test]
fn what_has_no_answer_is_no_command() {
    for text in ["\r\n", "\n", "  \t\r\n", "*0\r\n", "*-1\r\n"] {
        let nothing = commands(text.as_bytes()).expect("nothing");
        assert_eq!(nothing, (Vec::new(), text.len()), "{text:?}");
    }
}

#[test]
fn what_the_server_would_not_take_is_malformed() {
    let long = format!("*{}1\r\n", "0".repeat(40));
    for text in [
        "*x\r\n",
        "*1\n",
        "*1\r\n:1\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$x\r\n",
        "*2147483648\r\n",
        "*1\r\n$99999999999999\r\n",
        "*99999999999999999999999\r\n",
        "set \"a\r\n",
        "set 'a\r\n",
        "set \"a\"b\r\n",
        long.as_str(),
    ] {
        assert_eq!(commands(text.as_bytes()), Err(Malformed), "{text:?}");
    }
}

#[test]
fn a_part_tells_how_much_more_there_must_be() {
    let mut spans = Vec::new();
    let partial = |bytes: &str, spans: &mut Vec<Span>| match parse(bytes.as_bytes(), spans) {
        Ok(Parsed::Partial {
            wanted,
            count,
            first,
        }) => (wanted, count, first),
        other => panic!("{other:?}"),
    };
    assert_eq!(partial("*", &mut spans), (2, 0, 0));
    assert_eq!(partial("*3\r\n$3\r\nSE", &mut spans), (13, 3, 4));
    let large = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nabc";
    assert_eq!(partial(large, &mut spans), (29 + 100_000 + 2, 3, 4));
    let command = beginning(large.as_bytes(), &spans, 3);
    assert_eq!(
        (command.arg(1), command.is_whole()),
        (Some(&b"k"[..]), false)
    );
}

#[test]
fn the_rest_of_a_long_command_is_followed() {
    let text = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\r\n$1\r\nPING\r\n";
    for cut in 4..30 {
        let mut rest = Rest::of(3);
        let first = rest.follow(&text[4..cut]).expect("well formed");
        assert_eq!(first, cut - 4);
        assert_eq!(rest.is_over(), cut == 30, "{cut}");
        let second = rest.follow(&text[cut..]).expect("well formed");
        assert!(rest.is_over());
        assert_eq!(first + second, 26, "{cut}");
    }
    for wrong in [
        "+1\r\n",
        "$\r\n",
        "$1x\r\n",
        "$1\rx",
        "$99999999999999999999999\r\n",
    ] {
        assert_eq!(
            Rest::of(1).follow(wrong.as_bytes()),
            Err(Malformed),
            "{wrong}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = commands(&bytes);
        let _ = Rest::of(3).follow(&bytes);
    }

    #[test]
    fn almost_commands_are_read_without_a_panic(text in "[*$\\-0-9a\r\n\" ]{0,60}") {
        let _ = commands(text.as_bytes());
        let _ = Rest::of(3).follow(text.as_bytes());
    }

    #[test]
    fn what_is_written_is_read_again(
        arguments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..8),
        tail in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        crate::rewrite::write(&mut bytes, arguments.iter().map(Vec::as_slice));
        let length = bytes.len();
        let (all, at) = commands(&bytes).expect("well formed");
        prop_assert_eq!((&all[0], at), (&arguments, length));
        for cut in 0..length {
            let (all, at) = commands(&bytes[..cut]).expect("a part");
            prop_assert!(all.is_empty() && at == 0);
        }
        bytes.extend(tail);
        let mut rest = Rest::of(arguments.len() as u64);
        let header = 2 + arguments.len().to_string().len() + 1;
        prop_assert_eq!(rest.follow(&bytes[header..]), Ok(length - header));
        prop_assert!(rest.is_over());
    }
}
