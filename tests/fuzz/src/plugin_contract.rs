//! What crosses the border of plugins as bytes or text: actions, places of settings, transcripts.

use std::time::Duration;

use plugin_api::abi::{Action, ActionBuffer, Actions, Scalar, Setting, assemble, flatten};
use plugin_api::testkit::Transcript;
use plugin_api::{Config, Outcome};

use crate::Seed;

/// Reads the input as each of them. What was read says the same when it is written again.
pub fn run(input: &[u8]) {
    let mut again = ActionBuffer::new();
    let mut all = Actions::new(input);
    for action in all.by_ref().flatten() {
        again.push(action);
    }
    assert!(input.starts_with(again.bytes()));
    assert_eq!(all.next(), None);

    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let setting = |place: &str| Setting {
        place: place.to_owned(),
        value: Scalar::Text(place.to_owned()),
    };
    if let Ok(config) = assemble(text.lines().map(setting)) {
        let settings = flatten(&config);
        assert_eq!(settings.len(), text.lines().count());
        assert_eq!(assemble(settings), Ok(config));
    }
    if let Ok(transcript) = text.parse::<Transcript>() {
        assert_eq!(transcript.to_string().parse(), Ok(transcript));
    }
}

/// All actions, some cut off or changed; places; a transcript.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let micros = Duration::from_micros;
    let mut buffer = ActionBuffer::new();
    for action in [
        Action::BeginExchange { label: "GET" },
        Action::Send(b"GET / HTTP/1.1\r\n\r\n"),
        Action::EndExchange(Outcome::failed().status(404).label("not found")),
        Action::Hold,
        Action::Release,
        Action::Count { name: "many", n: 7 },
        Action::Timer {
            after: micros(1_500_000),
        },
        Action::Wait {
            key: b"cookie",
            timeout: micros(250_000),
        },
        Action::PassThrough,
        Action::Refuse { reason: "no_way" },
    ] {
        buffer.push(action);
    }
    let all = buffer.take();
    let cut = all[..all.len() - 1].to_vec();
    let mut long = all.clone();
    long[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
    let rule = Config::new().with("x.y", "\"").with("list", vec![1, 2]);
    let config = Config::new().with("rules", vec![rule]).with("user", "eve");
    let places: Vec<_> = flatten(&config).into_iter().map(|it| it.place).collect();
    let transcript = "# two sessions\nsession 1 mid-stream copy=1 client=[2001:db8::1]:1\n\
        C: a\\x00\\r\\n\nO gap 5\nsession 2\nT: \\\\\nafter 5 ms\nC end\nclose\n";
    vec![
        ("actions", all),
        ("actions-cut", cut),
        ("actions-long", long),
        ("places", places.join("\n").into_bytes()),
        ("places-out-of-order", b"a[1]\na[0]\n".to_vec()),
        (
            "places-nested",
            format!("a{}", "[0]".repeat(40)).into_bytes(),
        ),
        ("transcript", transcript.as_bytes().to_vec()),
    ]
}
