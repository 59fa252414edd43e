//! Clients and targets of the plugin for Redis that say anything, in pieces of any size.

use std::time::Duration;

use plugin_api::testkit::{self, Opening, Step, Transcript};
use plugin_api::{Config, Direction};
use tcpcopy_plugin_redis::Redis;

use crate::Seed;

/// Plays what the input says: its first byte chooses a configuration; then each step is a byte that
/// says what happens, and for bytes of a stream another one that says how many there are. No
/// exchange may end twice, and cuts must change nothing.
pub fn run(input: &[u8]) {
    let Some((&which, mut rest)) = input.split_first() else {
        return;
    };
    let mut steps = Vec::new();
    let mut is_whole = true;
    while let Some((&kind, after)) = rest.split_first() {
        rest = after;
        let direction = match kind % 8 {
            0..=2 => Direction::Client,
            3..=5 => Direction::Target,
            6 => {
                let (direction, missing) = (Direction::Client, None);
                steps.push(Step::Gap { direction, missing });
                is_whole = false;
                continue;
            }
            _ => {
                let start_seen = false;
                let late = Opening::new(2);
                steps.push(Step::Session(Opening { start_seen, ..late }));
                steps.push(Step::After(Duration::from_millis(1)));
                is_whole = false;
                continue;
            }
        };
        let length = rest.first().map_or(0, |length| usize::from(*length));
        let (bytes, after) = rest[rest.len().min(1)..].split_at(length.min(rest.len().max(1) - 1));
        rest = after;
        if !bytes.is_empty() {
            let bytes = bytes.to_vec();
            steps.push(Step::Data { direction, bytes });
        }
    }
    let config = config(which);
    let played = play(&config, steps.clone());
    if is_whole {
        let single = play(&config, steps.iter().flat_map(single_bytes).collect());
        assert_eq!(single.sent(), played.sent());
        assert_eq!(single.exchanges(), played.exchanges());
        assert_eq!(single.refusal(), played.refusal());
    }
}

fn play(config: &Config, steps: Vec<Step>) -> testkit::Played {
    let played = testkit::run::<Redis>(config, &Transcript { steps });
    let played = played.expect("the configuration is right, and no session is closed");
    let surplus = played.sessions.iter().map(|session| session.surplus_ends);
    assert_eq!(surplus.sum::<u64>(), 0, "{played}");
    played
}

fn single_bytes(step: &Step) -> Vec<Step> {
    match step {
        Step::Data { direction, bytes } => (bytes.iter())
            .map(|byte| Step::Data {
                direction: *direction,
                bytes: vec![*byte],
            })
            .collect(),
        other => vec![other.clone()],
    }
}

fn config(which: u8) -> Config {
    match which % 3 {
        0 => Config::new(),
        1 => Config::new()
            .with("auth", "drop")
            .with("drop", vec!["FLUSHALL", "CLIENT KILL"]),
        _ => Config::new()
            .with("user", "eve")
            .with("password", "new")
            .with("accounts", "app app2 x")
            .with("databases", Config::new().with("0", 2))
            .with("block_limit_ms", 10),
    }
}

/// Dialogues of each kind.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let dialogue = |which: u8, steps: &[(u8, &str)]| {
        let mut input = vec![which];
        for (kind, text) in steps {
            input.push(*kind);
            if *kind < 6 {
                input.push(u8::try_from(text.len()).expect("a short step"));
                input.extend_from_slice(text.as_bytes());
            }
        }
        input
    };
    let subscribed = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n\
        *3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";
    let resp3 = "%1\r\n+proto\r\n:3\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:1\r\n$?\r\n;1\r\nx\r\n;0\r\n";
    vec![
        (
            "pipelined",
            dialogue(
                0,
                &[
                    (0, "*2\r\n$3\r\nGET\r\n$1\r\na\r\nSET \"a\\x41\" 'b'\r\n"),
                    (3, "$-1\r\n-MOVED 1 a:1\r\n"),
                ],
            ),
        ),
        (
            "login-added",
            dialogue(2, &[(0, "PING\r\n"), (3, "+OK\r\n+OK\r\n+PONG\r\n")]),
        ),
        (
            "login-mapped",
            dialogue(2, &[(0, "AUTH app x\r\nMULTI\r\n"), (3, "+OK\r\n+OK\r\n")]),
        ),
        (
            "resp3",
            dialogue(0, &[(0, "HELLO 3 AUTH a b\r\nGET a\r\n"), (3, resp3)]),
        ),
        (
            "subscriber",
            dialogue(0, &[(0, "SUBSCRIBE a\r\nUNSUBSCRIBE\r\n"), (3, subscribed)]),
        ),
        (
            "silence",
            dialogue(
                1,
                &[(0, "CLIENT REPLY SKIP\r\nFLUSHALL\r\nPING\r\nRESET\r\n")],
            ),
        ),
        (
            "transaction-with-a-hole",
            dialogue(
                0,
                &[
                    (0, "MULTI\r\nINCR a\r\n"),
                    (6, ""),
                    (0, "\r\n*1\r\n$4\r\nEXEC\r\n"),
                ],
            ),
        ),
        (
            "long-value",
            dialogue(0, &[(0, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$99999\r\nabc")]),
        ),
        (
            "joined-late",
            dialogue(2, &[(7, ""), (0, "x\r\n*1\r\n$4\r\nPING\r\n")]),
        ),
    ]
}
