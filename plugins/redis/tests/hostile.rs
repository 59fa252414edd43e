//! Clients and targets that say anything: nothing panics, and no exchange ends twice.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use plugin_api::testkit::{self, Opening, Step, Transcript};
use plugin_api::{Config, Direction};
use proptest::prelude::*;
use tcpcopy_plugin_redis::Redis;

/// What clients may say, and parts of it.
const CLIENT: &[&str] = &[
    "*1\r\n$4\r\nPING\r\n",
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    "*1\r\n$5\r\nMULTI\r\n",
    "*1\r\n$4\r\nEXEC\r\n",
    "SUBSCRIBE a b\r\n",
    "UNSUBSCRIBE\r\n",
    "PUNSUBSCRIBE x\r\n",
    "MONITOR\r\n",
    "RESET\r\n",
    "AUTH x\r\n",
    "HELLO 3 AUTH a b\r\n",
    "SELECT 1\r\n",
    "CLIENT REPLY SKIP\r\n",
    "CLIENT REPLY OFF\r\n",
    "CLIENT REPLY ON\r\n",
    "FLUSHALL\r\n",
    "BLPOP a 0\r\n",
    "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$70000\r\nabc",
    "*2\r\n",
    "$1\r\n",
    "\r\n",
    "*0\r\n",
    "\"",
];

/// What targets may say, and parts of it.
const TARGET: &[&str] = &[
    "+OK\r\n",
    "-ERR no\r\n",
    "$1\r\na\r\n",
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
    ">3\r\n+subscribe\r\n+a\r\n:18446744073709551615\r\n",
    "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
    "*?\r\n",
    ".\r\n",
    "|1\r\n+a\r\n:1\r\n",
    "%1\r\n",
    "*-1\r\n",
    "+1.1 [0 a] \"x\"\r\n",
    "$?\r\n",
    ";0\r\n",
];

fn step() -> impl Strategy<Value = Step> {
    let data = |direction| move |bytes| Step::Data { direction, bytes };
    let said = |parts: &'static [&'static str], direction| {
        proptest::collection::vec(proptest::sample::select(parts), 1..6)
            .prop_map(move |parts| data(direction)(parts.concat().into_bytes()))
    };
    let any = proptest::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        6 => said(CLIENT, Direction::Client),
        8 => said(TARGET, Direction::Target),
        1 => any.clone().prop_map(data(Direction::Client)),
        1 => any.prop_map(data(Direction::Target)),
        1 => Just(Step::Gap { direction: Direction::Client, missing: None }),
        1 => Just(Step::Session(Opening { start_seen: false, ..Opening::new(2) })),
    ]
}

fn config(which: u8) -> Config {
    match which {
        0 => Config::new(),
        1 => Config::new()
            .with("auth", "drop")
            .with("drop", vec!["FLUSHALL"]),
        _ => Config::new()
            .with("password", "new")
            .with("databases", Config::new().with("0", 2))
            .with("block_limit_ms", 10),
    }
}

proptest! {
    #[test]
    fn nothing_panics(steps in proptest::collection::vec(step(), 1..20), which in 0..3u8) {
        let transcript = Transcript { steps };
        let played = testkit::run::<Redis>(&config(which), &transcript).unwrap();
        for session in &played.sessions {
            prop_assert_eq!(session.surplus_ends, 0, "{}\n{}", transcript, played);
        }
    }
}
