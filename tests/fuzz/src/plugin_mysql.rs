//! The MySQL plugin: what a client and two servers say, behind a login that is as it should be.

use plugin_api::testkit::{self, Opening, Step, Transcript};
use plugin_api::{Config, Direction};
use tcpcopy_plugin_mysql::Mysql;

use crate::Seed;

/// Capabilities that the first byte of an input switches on: compression, attributes of queries, OK
/// in place of EOF, changes of the session told.
const SWITCHED: [u32; 4] = [1 << 5, 1 << 27, 1 << 24, 1 << 23];

/// What both ends can do besides.
const USUAL: u32 = 0x000f_a281;

/// In the first byte: the connection was there before the capture; only reading is replayed.
const LATE: u8 = 0x10;
const READ_ONLY: u8 = 0x20;

/// Plays the input: its first byte says how the connection is made, the others are steps. Whatever
/// is said, the plugin does not send much more than it heard.
pub fn run(input: &[u8]) {
    let Some((&how, rest)) = input.split_first() else {
        return;
    };
    let mut steps = beginning(how);
    steps.extend(read_steps(rest));
    let config = Config::new()
        .with("user", "app")
        .with("password", "secret")
        .with("read_only", how & READ_ONLY != 0);
    let played = testkit::run::<Mysql>(&config, &Transcript { steps }).expect("played");
    let sent: usize = played
        .sessions
        .iter()
        .map(|session| session.sent.len())
        .sum();
    // Statements may be prepared again, each time with all of their text; compressed text grows.
    assert!(sent <= (1 << 20) + input.len() * 4096);
}

fn beginning(how: u8) -> Vec<Step> {
    let switched = SWITCHED
        .iter()
        .enumerate()
        .filter(|(bit, _)| how & (1 << bit) != 0);
    let capabilities = switched.fold(USUAL, |all, (_, flag)| all | flag);
    let ok = message(2, b"\0\0\0\x02\0\0\0");
    let greeting = message(0, &greeting(capabilities));
    let mut steps = Vec::new();
    let mut say = |direction, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        steps.push(Step::Data { direction, bytes });
    };
    if how & LATE != 0 {
        say(Direction::Target, &greeting);
        say(Direction::Target, &ok);
        let late = Opening {
            start_seen: false,
            ..Opening::new(1)
        };
        steps.insert(0, Step::Session(late));
        return steps;
    }
    say(Direction::Origin, &greeting);
    say(
        Direction::Client,
        &message(1, &handshake_response(capabilities)),
    );
    say(Direction::Origin, &ok);
    say(Direction::Target, &greeting);
    say(Direction::Target, &ok);
    steps
}

/// Each step is a byte that says what it is, one for its length, and so many bytes.
fn read_steps(mut rest: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let [what, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        let direction = match what % 3 {
            0 => Direction::Client,
            1 => Direction::Origin,
            _ => Direction::Target,
        };
        steps.push(match what / 3 % 16 {
            0 if direction != Direction::Target => Step::Gap {
                direction,
                missing: None,
            },
            1 if direction != Direction::Target => {
                let missing = Some(u64::from(*length));
                Step::Gap { direction, missing }
            }
            2 => Step::End { direction },
            3 => Step::After(std::time::Duration::from_secs(3)),
            _ if bytes.is_empty() => continue,
            _ => Step::Data {
                direction,
                bytes: bytes.to_vec(),
            },
        });
    }
    steps
}

/// Inputs as described at [`read_steps`].
pub fn seeds() -> Vec<Seed> {
    let select = select();
    let prepared = prepared();
    let hole = [&select[..], &[0, 0], &select, &select].concat();
    let late = [&select[..], &select, &select].concat();
    let of = |how: u8, steps: &[u8]| [&[how], steps].concat();
    vec![
        ("select", of(0, &select)),
        ("select_late", of(LATE, &late)),
        ("select_behind_a_hole", of(0, &hole)),
        ("prepared", of(0, &prepared)),
        ("prepared_read_only", of(READ_ONLY, &prepared)),
        ("local_file", of(0, &local_file())),
        ("compressed", of(1, &compressed())),
        ("attributes_and_another_user", of(2, &attributes())),
    ]
}

const COLUMN: &[u8] = b"\x03def\x04shop\x01t\x01t\x01a\x01a\x0c\x2d\0\0\0\0\0\x03\0\0\0\0\0";
const EOF: &[u8] = b"\xfe\0\0\x02\0";
const OK: &[u8] = b"\0\x01\0\x02\0\0\0";

fn say(what: u8, message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(message.len()).expect("short");
    [&[what + 12, length], message].concat()
}

fn client(payload: &[u8]) -> Vec<u8> {
    say(0, &message(0, payload))
}

fn both(packets: &[&[u8]]) -> Vec<u8> {
    let numbered = packets.iter().enumerate();
    let bytes: Vec<u8> = numbered
        .flat_map(|(at, packet)| message(at as u8 + 1, packet))
        .collect();
    [say(1, &bytes), say(2, &bytes)].concat()
}

fn select() -> Vec<u8> {
    let answer = both(&[b"\x01", COLUMN, EOF, b"\x011", EOF]);
    [client(b"\x03select a from t"), answer].concat()
}

fn prepared() -> Vec<u8> {
    let steps = [
        client(b"\x16select ?"),
        both(&[b"\0\x07\0\0\0\0\0\x01\0\0\0\0", COLUMN, EOF]),
        client(b"\x17\x07\0\0\0\0\x01\0\0\0\0\x01\x03\0\x05\0\0\0"),
        both(&[b"\x01", COLUMN, EOF, b"\0\0\x05", EOF]),
        client(b"\x18\x07\0\0\0\0\0long"),
        client(b"\x17\x07\0\0\0\0\x01\0\0\0\0\0\x05\0\0\0"),
        client(b"\x19\x07\0\0\0"),
        client(b"\x01"),
    ];
    steps.concat()
}

fn local_file() -> Vec<u8> {
    let steps = [
        client(b"\x03load data local infile 'x' into table t"),
        both(&[b"\xfbx"]),
        say(0, &message(2, b"1\n2\n")),
        say(0, &message(3, b"")),
        say(1, &message(4, OK)),
        say(2, &message(4, OK)),
    ];
    steps.concat()
}

fn compressed() -> Vec<u8> {
    let packed = |sequence: u8, payload: &[u8]| {
        let inner = message(sequence, payload);
        [&message(sequence, &inner)[..4], &[0; 3], &inner].concat()
    };
    let steps = [
        say(0, &packed(0, b"\x03select 1")),
        say(1, &packed(1, OK)),
        say(2, &message(1, OK)),
    ];
    steps.concat()
}

fn attributes() -> Vec<u8> {
    let steps = [
        client(b"\x03\x01\x01\0\x01\xfd\0\x01k\x01vselect 1"),
        both(&[OK]),
        client(b"\x11other\0\0shop\0\x2d\0mysql_native_password\0"),
        both(&[b"\xfemysql_native_password\x0012345678901234567890\0"]),
    ];
    steps.concat()
}

fn message(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_le_bytes();
    out[3] = sequence;
    [&out[..], payload].concat()
}

fn greeting(capabilities: u32) -> Vec<u8> {
    let [a, b, c, d] = capabilities.to_le_bytes();
    let parts: [&[u8]; 5] = [
        b"\x0a8.0.36\0\x29\0\0\x0012345678\0",
        &[a, b, 45, 2, 0, c, d, 21],
        &[0; 10],
        b"123456789012\0",
        b"mysql_native_password\0",
    ];
    parts.concat()
}

fn handshake_response(capabilities: u32) -> Vec<u8> {
    let parts: [&[u8]; 5] = [
        &capabilities.to_le_bytes(),
        &[0, 0, 0, 1, 45],
        &[0; 23],
        b"app\0\0shop\0",
        b"mysql_native_password\0",
    ];
    parts.concat()
}
