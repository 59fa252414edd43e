//! Conversations of a client with two servers, put together packet by packet.

#![allow(dead_code, reason = "each test file uses its part")]

use plugin_api::testkit::{self, Opening, Played, Step, Transcript};
use plugin_api::{Config, Direction};
use tcpcopy_plugin_mysql::Mysql;

pub(crate) const CONNECT_WITH_DB: u32 = 1 << 3;
pub(crate) const COMPRESS: u32 = 1 << 5;
pub(crate) const LOCAL_FILES: u32 = 1 << 7;
pub(crate) const PROTOCOL_41: u32 = 1 << 9;
pub(crate) const TRANSACTIONS: u32 = 1 << 13;
pub(crate) const SECURE: u32 = 1 << 15;
pub(crate) const MULTI: u32 = 0b111 << 16;
pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
pub(crate) const SESSION_TRACK: u32 = 1 << 23;
pub(crate) const DEPRECATE_EOF: u32 = 1 << 24;
pub(crate) const QUERY_ATTRIBUTES: u32 = 1 << 27;

/// What every end here can do.
pub(crate) const USUAL: u32 =
    1 | CONNECT_WITH_DB | LOCAL_FILES | PROTOCOL_41 | TRANSACTIONS | SECURE | MULTI | PLUGIN_AUTH;

pub(crate) const IN_TRANSACTION: u16 = 1;
pub(crate) const AUTOCOMMIT: u16 = 2;
pub(crate) const MORE_RESULTS: u16 = 8;
pub(crate) const CURSOR: u16 = 0x40;

/// A conversation that is being written down.
pub(crate) struct Talk {
    pub(crate) steps: Vec<Step>,
    /// What the two connections have agreed upon.
    pub(crate) client: u32,
    pub(crate) target: u32,
}

impl Talk {
    /// One of a connection whose beginning was not captured.
    pub(crate) fn late(id: u64) -> Self {
        let opening = Opening {
            start_seen: false,
            ..Opening::new(id)
        };
        Self {
            steps: vec![Step::Session(opening)],
            client: USUAL,
            target: USUAL,
        }
    }

    /// One that begins, whose ends can do this; it is logged in everywhere.
    pub(crate) fn logged_in(client: u32, target: u32) -> Self {
        let mut talk = Self {
            steps: Vec::new(),
            client,
            target,
        };
        talk.origin(0, &greeting(client | USUAL, 41));
        talk.greet_target(42);
        talk.client(1, &handshake_response(client));
        talk.origin(2, &ok(0, AUTOCOMMIT));
        talk.target(2, &ok(0, AUTOCOMMIT));
        talk
    }

    /// One that is logged in at the origin; the target has not greeted yet.
    pub(crate) fn before_the_target() -> Self {
        let mut talk = Self {
            steps: Vec::new(),
            client: USUAL,
            target: USUAL,
        };
        talk.origin(0, &greeting(USUAL, 41))
            .client(1, &handshake_response(USUAL));
        talk.origin(2, &ok(0, AUTOCOMMIT));
        talk
    }

    pub(crate) fn usual() -> Self {
        Self::logged_in(USUAL, USUAL)
    }

    pub(crate) fn greet_target(&mut self, id: u32) {
        let capabilities = self.target;
        self.target(0, &greeting(capabilities, id));
    }

    fn say(&mut self, direction: Direction, bytes: Vec<u8>) -> &mut Self {
        self.steps.push(Step::Data { direction, bytes });
        self
    }

    pub(crate) fn client(&mut self, sequence: u8, payload: &[u8]) -> &mut Self {
        self.say(Direction::Client, message(sequence, payload))
    }

    pub(crate) fn origin(&mut self, sequence: u8, payload: &[u8]) -> &mut Self {
        self.say(Direction::Origin, message(sequence, payload))
    }

    pub(crate) fn target(&mut self, sequence: u8, payload: &[u8]) -> &mut Self {
        self.say(Direction::Target, message(sequence, payload))
    }

    pub(crate) fn raw(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.say(direction, bytes.to_vec())
    }

    /// Both servers say these packets, numbered from 1.
    pub(crate) fn both(&mut self, packets: &[Vec<u8>]) -> &mut Self {
        self.origin_all(packets).target_all(packets)
    }

    pub(crate) fn origin_all(&mut self, packets: &[Vec<u8>]) -> &mut Self {
        self.say(Direction::Origin, numbered(packets))
    }

    pub(crate) fn target_all(&mut self, packets: &[Vec<u8>]) -> &mut Self {
        self.say(Direction::Target, numbered(packets))
    }

    /// A text that both servers answer so.
    pub(crate) fn query(&mut self, text: &str, answer: &[Vec<u8>]) -> &mut Self {
        self.client(0, &query(text)).both(answer)
    }

    /// A statement that the servers number so.
    pub(crate) fn prepare(
        &mut self,
        text: &str,
        origin: u32,
        target: u32,
        parameters: u16,
    ) -> &mut Self {
        let answer = |id, capabilities| prepared(id, parameters, 0, capabilities);
        let (of_origin, of_target) = (answer(origin, self.client), answer(target, self.target));
        self.client(0, &[&[0x16], text.as_bytes()].concat());
        self.origin_all(&of_origin).target_all(&of_target)
    }

    pub(crate) fn end(&mut self, direction: Direction) -> &mut Self {
        self.steps.push(Step::End { direction });
        self
    }

    pub(crate) fn step(&mut self, step: Step) -> &mut Self {
        self.steps.push(step);
        self
    }

    pub(crate) fn play(&self) -> Played {
        self.play_with(config())
    }

    pub(crate) fn play_with(&self, config: Config) -> Played {
        play(&config, self.steps.clone())
    }

    /// Plays it with every stream cut into chunks of this size.
    pub(crate) fn play_cut(&self, chunk: usize) -> Played {
        let steps = self.steps.iter().flat_map(|step| match step {
            Step::Data { direction, bytes } => bytes
                .chunks(chunk)
                .map(|bytes| Step::Data {
                    direction: *direction,
                    bytes: bytes.to_vec(),
                })
                .collect(),
            other => vec![other.clone()],
        });
        play(&config(), steps.collect())
    }
}

pub(crate) fn config() -> Config {
    Config::new().with("user", "app").with("password", "secret")
}

pub(crate) fn play(config: &Config, steps: Vec<Step>) -> Played {
    testkit::run::<Mysql>(config, &Transcript { steps }).expect("played")
}

/// A message as packets.
pub(crate) fn message(mut sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chunks: Vec<&[u8]> = payload.chunks(0xff_ffff).collect();
    if payload.len().is_multiple_of(0xff_ffff) {
        chunks.push(&[]);
    }
    for chunk in chunks {
        out.extend_from_slice(&(chunk.len() as u32).to_le_bytes()[..3]);
        out.push(sequence);
        out.extend_from_slice(chunk);
        sequence = sequence.wrapping_add(1);
    }
    out
}

pub(crate) fn numbered(packets: &[Vec<u8>]) -> Vec<u8> {
    let all = packets.iter().enumerate();
    all.flat_map(|(at, packet)| message(at as u8 + 1, packet))
        .collect()
}

/// The packets of a stream: numbers and payloads.
pub(crate) fn packets(mut stream: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [a, b, c, sequence, rest @ ..] = stream {
        let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        assert!(rest.len() >= length, "cut off: {stream:?}");
        found.push((*sequence, rest[..length].to_vec()));
        stream = &rest[length..];
    }
    assert!(stream.is_empty());
    found
}

/// What the target was told behind the login.
pub(crate) fn told(played: &Played) -> Vec<(u8, Vec<u8>)> {
    let mut all = packets(played.sent());
    assert!(
        !all.is_empty() && all[0].0 == 1,
        "there is no login: {all:?}"
    );
    all.remove(0);
    all
}

/// The same, of commands that are one packet each.
pub(crate) fn commands(played: &Played) -> Vec<Vec<u8>> {
    let told = told(played).into_iter();
    told.inspect(|(sequence, payload)| assert_eq!(*sequence, 0, "{payload:?}"))
        .map(|(_, payload)| payload)
        .collect()
}

/// Labels and outcomes of the exchanges that were said, without the login.
pub(crate) fn outcomes(played: &Played) -> Vec<(String, Option<(bool, u32)>)> {
    let said = played
        .exchanges()
        .iter()
        .filter(|it| !it.request.is_empty() && it.label != "login");
    said.map(|it| {
        (
            it.label.clone(),
            it.outcome.as_ref().map(|(ok, code, _)| (*ok, *code)),
        )
    })
    .collect()
}

/// Who was asked to do what, in names: labels of exchanges of which nothing was said.
pub(crate) fn left_out(played: &Played) -> Vec<&str> {
    let left_out = played.exchanges().iter().filter(|it| it.request.is_empty());
    left_out.map(|it| it.label.as_str()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = match bytes.len() {
        short @ 0..=250 => vec![short as u8],
        long => [&[0xfc][..], &(long as u16).to_le_bytes()].concat(),
    };
    out.extend_from_slice(bytes);
    out
}

pub(crate) fn greeting(capabilities: u32, id: u32) -> Vec<u8> {
    let [low, high] = [capabilities as u16, (capabilities >> 16) as u16];
    let mut out = b"\x0a8.0.36\0".to_vec();
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(b"12345678\0");
    out.extend_from_slice(&low.to_le_bytes());
    out.push(45);
    out.extend_from_slice(&AUTOCOMMIT.to_le_bytes());
    out.extend_from_slice(&high.to_le_bytes());
    out.push(21);
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(b"123456789012\0mysql_native_password\0");
    out
}

pub(crate) fn handshake_response(capabilities: u32) -> Vec<u8> {
    let mut out = capabilities.to_le_bytes().to_vec();
    out.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    out.push(45);
    out.extend_from_slice(&[0; 23]);
    out.extend_from_slice(b"app\0");
    out.extend(text(&[9; 20]));
    if capabilities & CONNECT_WITH_DB != 0 {
        out.extend_from_slice(b"shop\0");
    }
    out.extend_from_slice(b"mysql_native_password\0");
    out
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    [&[3], text.as_bytes()].concat()
}

pub(crate) fn ok(affected: u8, status: u16) -> Vec<u8> {
    let [a, b] = status.to_le_bytes();
    vec![0, affected, 0, a, b, 0, 0]
}

pub(crate) fn eof(status: u16) -> Vec<u8> {
    let [a, b] = status.to_le_bytes();
    vec![0xfe, 0, 0, a, b]
}

/// What ends rows: an EOF, or an OK in its place.
pub(crate) fn end_of_rows(status: u16, capabilities: u32) -> Vec<u8> {
    if capabilities & DEPRECATE_EOF == 0 {
        return eof(status);
    }
    let mut end = ok(0, status);
    end[0] = 0xfe;
    end
}

pub(crate) fn error(code: u16) -> Vec<u8> {
    [&[0xff][..], &code.to_le_bytes(), b"#HY000no"].concat()
}

pub(crate) fn column(schema: &str) -> Vec<u8> {
    let mut out = text(b"def");
    for part in [schema, "t", "t", "a", "a"] {
        out.extend(text(part.as_bytes()));
    }
    out.extend_from_slice(&[0x0c, 45, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0]);
    out
}

/// One result of this many rows, of one column.
pub(crate) fn rows(count: usize, status: u16, capabilities: u32) -> Vec<Vec<u8>> {
    let mut out = vec![vec![1], column("shop")];
    if capabilities & DEPRECATE_EOF == 0 {
        out.push(eof(status & !MORE_RESULTS));
    }
    out.extend((0..count).map(|at| text(at.to_string().as_bytes())));
    out.push(end_of_rows(status, capabilities));
    out
}

/// The answer to a `COM_STMT_PREPARE`.
pub(crate) fn prepared(id: u32, parameters: u16, columns: u16, capabilities: u32) -> Vec<Vec<u8>> {
    let mut head = vec![0];
    head.extend_from_slice(&id.to_le_bytes());
    head.extend_from_slice(&columns.to_le_bytes());
    head.extend_from_slice(&parameters.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    let mut out = vec![head];
    for count in [parameters, columns] {
        out.extend((0..count).map(|_| column("")));
        if count > 0 && capabilities & DEPRECATE_EOF == 0 {
            out.push(eof(AUTOCOMMIT));
        }
    }
    out
}

/// A `COM_STMT_EXECUTE` with one parameter of four bytes, its type told or not.
pub(crate) fn execute(id: u32, tells_type: bool, value: u32) -> Vec<u8> {
    let mut out = of_statement(0x17, id, &[0, 1, 0, 0, 0, 0]);
    match tells_type {
        true => out.extend_from_slice(&[1, 3, 0]),
        false => out.push(0),
    }
    out.extend_from_slice(&value.to_le_bytes());
    out
}

/// A command that names a statement.
pub(crate) fn of_statement(code: u8, id: u32, rest: &[u8]) -> Vec<u8> {
    [&[code][..], &id.to_le_bytes(), rest].concat()
}
