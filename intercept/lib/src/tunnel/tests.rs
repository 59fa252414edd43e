//! Both ends of a tunnel joined in memory.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tcpcopy_packet::{Endpoint, FourTuple};

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// What a client said, with its bytes copied.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Connect,
    Up(Features),
    Confirmed(u64),
    Conflict(u64),
    Reply(u64, u32, Vec<u8>, Vec<u8>),
    Overflow(u64),
    Diagnosis(Diagnosis),
    Down(DownReason, bool),
}

fn key(byte: u8) -> Security {
    Security::Key(TunnelKey::from_bytes([byte; 32]))
}

fn hello() -> Hello {
    Hello {
        features: Features::NONE,
        instance: 42,
        shard: 3,
        name: "shop-1".into(),
    }
}

fn registration(session: u64) -> Registration {
    let port = 1024 + (session % 60_000) as u16;
    let ends = if session.is_multiple_of(2) {
        [
            "198.51.100.9".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ]
    } else {
        [
            "2001:db8::9".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        ]
    };
    let [source, destination] = ends;
    let tuple = FourTuple::new(Endpoint::new(source, port), Endpoint::new(destination, 80));
    Registration {
        session,
        tuple,
        iss: session as u32 ^ 0xdead_beef,
    }
}

fn unregistration(session: u64) -> Unregistration {
    Unregistration {
        session,
        tuple: registration(session).tuple,
    }
}

fn tcp_header(fill: u8) -> [u8; 32] {
    let mut header = [fill; 32];
    header[12] = 8 << 4;
    header
}

/// A client and a link, with the bytes between them cut as the test likes.
struct Pair {
    now: Instant,
    client: TunnelClient,
    server: ServerLink,
    client_said: Vec<Said>,
    server_said: Vec<ServerEvent>,
}

impl Pair {
    fn new(client: Security, server: Security, peer: IpAddr, hello: Hello) -> Self {
        let now = Instant::now();
        let config = ClientConfig {
            security: client,
            hello,
            required: Features::NONE,
            backoff: Backoff::default(),
        };
        let mut pair = Self {
            now,
            client: TunnelClient::new(config, now),
            server: ServerLink::new(&server, peer, now),
            client_said: Vec::new(),
            server_said: Vec::new(),
        };
        pair.client.timeout(now);
        pair.drain_client();
        assert_eq!(pair.client_said, [Said::Connect]);
        pair.client_said.clear();
        pair.client.connected(now);
        pair
    }

    /// A pair whose link is up.
    fn up(security: Security) -> Self {
        let mut pair = Self::new(security.clone(), security, LOOPBACK, hello());
        pair.greet();
        pair
    }

    fn greet(&mut self) {
        self.drive();
        let Some(ServerEvent::Hello(hello)) = self.server_said.pop() else {
            panic!(
                "no hello: {:?} {:?}",
                self.client_said,
                self.server.closed()
            );
        };
        self.server.accept(hello.features);
        self.drive();
        assert!(matches!(self.client_said.remove(0), Said::Up(_)));
        assert!(self.client.is_up() && self.server.is_up());
    }

    fn drive(&mut self) {
        self.drive_cut(&mut || usize::MAX);
    }

    /// Carries bytes both ways in pieces of `cut()` bytes until both ends are quiet.
    fn drive_cut(&mut self, cut: &mut dyn FnMut() -> usize) {
        loop {
            let to_server = take(self.client.transmit(), cut());
            self.client.consume(to_server.len());
            self.server.receive(self.now, &to_server);
            while let Some(event) = self.server.poll_event() {
                self.server_said.push(event);
            }
            let to_client = take(self.server.transmit(), cut());
            self.server.consume(to_client.len());
            self.client.receive(self.now, &to_client);
            self.drain_client();
            if to_server.is_empty() && to_client.is_empty() {
                return;
            }
        }
    }

    fn drain_client(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.client_said.push(match event {
                ClientEvent::Connect => Said::Connect,
                ClientEvent::Up { features } => Said::Up(features),
                ClientEvent::Confirmed(session) => Said::Confirmed(session),
                ClientEvent::Conflict(session) => Said::Conflict(session),
                ClientEvent::Reply(r) => {
                    Said::Reply(r.session, r.payload_len, r.tcp.to_vec(), r.payload.to_vec())
                }
                ClientEvent::Overflow(lost) => Said::Overflow(lost),
                ClientEvent::Diagnosis(diagnosis) => Said::Diagnosis(diagnosis),
                ClientEvent::Down { reason, was_up, .. } => Said::Down(reason, was_up),
            });
        }
    }
}

fn take(bytes: &[u8], count: usize) -> Vec<u8> {
    bytes[..bytes.len().min(count)].to_vec()
}

#[test]
fn a_session_is_registered_answered_and_ended() {
    for security in [key(1), Security::LoopbackOnly] {
        let mut pair = Pair::up(security);
        assert!(pair.client.register(&registration(7)) && pair.client.register(&registration(8)));
        assert_eq!(pair.client.unanswered(), 2);
        pair.drive();
        let expected = [7, 8].map(|session| ServerEvent::Register(registration(session)));
        assert_eq!(pair.server_said, expected);

        pair.server.confirm(1);
        pair.server.conflict(1);
        let mut batch = ReplyBatch::default();
        batch.push(7, 1448, &tcp_header(0));
        pair.server.send_replies(&batch);
        pair.client.unregister(&unregistration(7));
        pair.client.bye();
        pair.server_said.clear();
        pair.drive();
        let reply = Said::Reply(7, 1448, tcp_header(0).to_vec(), vec![]);
        assert_eq!(
            pair.client_said,
            [Said::Confirmed(7), Said::Conflict(8), reply]
        );
        let expected = [ServerEvent::Unregister(unregistration(7)), ServerEvent::Bye];
        assert_eq!(pair.server_said, expected);
    }
}

#[test]
fn payload_comes_only_when_asked_for() {
    let asking = Hello {
        features: Features::PAYLOAD,
        ..hello()
    };
    let mut pair = Pair::new(key(1), key(1), OUTSIDE, asking);
    pair.greet();
    assert_eq!(pair.server.features(), Features::PAYLOAD);
    let data: Vec<u8> = (0..200_000u32).map(|i| (i / 7) as u8).collect();
    let mut batch = ReplyBatch::default();
    for chunk in data.chunks(30_000) {
        batch.push_with_payload(1, chunk.len() as u32, &tcp_header(0), chunk);
    }
    assert_eq!(pair.server.send_replies(&batch), 0);
    pair.drive();
    let got: Vec<u8> = std::mem::take(&mut pair.client_said)
        .into_iter()
        .flat_map(|said| match said {
            Said::Reply(1, len, _, payload) if len as usize == payload.len() => payload,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(got, data);
}

#[test]
fn a_probe_is_diagnosed_for_those_who_were_granted_it() {
    let probe = Probe {
        tuple: registration(1).tuple,
        iss: 99,
    };
    let diagnosis = Diagnosis {
        iss: 99,
        place: Place::Queue,
        target_is_here: true,
        forwards: false,
        passlisted: false,
        watching: true,
        routes_back: false,
        tcp: TargetState::Listening,
        reverse_path: ReversePath::Accepts,
        rp_filter: 1,
        sightings: Vec::new(),
    };
    for features in [Features::NONE, Features::DIAGNOSIS] {
        let asking = Hello {
            features,
            ..hello()
        };
        let mut pair = Pair::new(key(1), key(1), OUTSIDE, asking);
        pair.greet();
        assert!(pair.client.diagnose(&probe));
        pair.drive();
        if features == Features::NONE {
            assert_eq!(pair.server_said, []);
            continue;
        }
        assert_eq!(pair.server_said, [ServerEvent::Diagnose(probe)]);
        pair.server.diagnosis(&diagnosis);
        pair.drive();
        assert_eq!(pair.client_said, [Said::Diagnosis(diagnosis.clone())]);
    }
}

#[test]
fn different_keys_never_open() {
    let mut pair = Pair::new(key(1), key(2), LOOPBACK, hello());
    pair.drive();
    assert_eq!(
        pair.server.closed(),
        Some(CloseReason::Channel(ChannelError::Key))
    );
    assert_eq!((&pair.server_said, &pair.client_said), (&vec![], &vec![]));
    pair.client
        .disconnected(pair.now, Some("connection reset by peer".into()));
    pair.drain_client();
    assert_eq!(
        pair.client_said,
        [Said::Down(DownReason::KeyRejected, false)]
    );
}

#[test]
fn a_key_on_one_side_only_is_named_on_both() {
    use ChannelError::{KeyMissingHere, KeyMissingThere};
    for (client, server, client_error, server_error) in [
        (key(1), Security::Insecure, KeyMissingThere, KeyMissingHere),
        (Security::Insecure, key(1), KeyMissingHere, KeyMissingThere),
    ] {
        let mut pair = Pair::new(client, server, LOOPBACK, hello());
        pair.drive();
        assert_eq!(
            pair.server.closed(),
            Some(CloseReason::Channel(server_error))
        );
        assert_eq!(
            pair.client_said,
            [Said::Down(DownReason::Channel(client_error), false)]
        );
    }
}

#[test]
fn another_version_is_named_on_both_sides() {
    let now = Instant::now();
    let mut server = ServerLink::new(&key(1), LOOPBACK, now);
    server.receive(now, b"TcIn\x00\x09\x00\x01");
    assert_eq!(server.poll_event(), None);
    let error = ChannelError::Version { theirs: 9 };
    assert_eq!(server.closed(), Some(CloseReason::Channel(error)));
    assert_eq!(server.transmit(), b"TcIn\x00\x01\x00\x01");

    let mut pair = Pair::new(key(1), key(1), LOOPBACK, hello());
    pair.client.receive(now, b"TcIn\x00\x09\x00\x01");
    pair.drain_client();
    assert_eq!(
        pair.client_said,
        [Said::Down(DownReason::Channel(error), false)]
    );
}

#[test]
fn clear_text_from_outside_is_refused_with_a_reason() {
    let mut pair = Pair::new(Security::Insecure, Security::LoopbackOnly, OUTSIDE, hello());
    pair.drive();
    assert_eq!(
        pair.server.closed(),
        Some(CloseReason::Channel(ChannelError::Insecure))
    );
    let [
        Said::Down(
            DownReason::Refused {
                code: RefuseCode::Insecure,
                text,
            },
            false,
        ),
    ] = pair.client_said.as_slice()
    else {
        panic!("{:?}", pair.client_said);
    };
    assert!(text.contains("--insecure"));
}

#[test]
fn a_stranger_gets_no_byte() {
    let now = Instant::now();
    for stranger in [
        b"GET / HTTP/1.1\r\n".as_slice(),
        b"\x16\x03\x01",
        b"T",
        b"TcI\x00",
    ] {
        let mut server = ServerLink::new(&key(1), OUTSIDE, now);
        server.receive(now, stranger);
        assert_eq!(server.poll_event(), None);
        assert!(server.transmit().is_empty());
    }
}

#[test]
fn a_seal_that_was_broken_ends_the_link() {
    let mut pair = Pair::up(key(1));
    pair.client.register(&registration(1));
    let mut bytes = pair.client.transmit().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    pair.server.receive(pair.now, &bytes);
    assert_eq!(pair.server.poll_event(), None);
    assert_eq!(
        pair.server.closed(),
        Some(CloseReason::Channel(ChannelError::Seal))
    );
}

#[test]
fn a_silent_end_is_noticed_and_a_living_one_is_not() {
    let mut pair = Pair::up(key(1));
    for _ in 0..30 {
        pair.now = pair.client.next_timeout();
        pair.client.timeout(pair.now);
        pair.drive();
        pair.server.timeout(pair.now);
    }
    assert!(pair.client.is_up() && pair.server.is_up());

    let end = pair.now + SILENCE + HEARTBEAT;
    while pair.client.is_up() && pair.now <= end {
        pair.now = pair.client.next_timeout();
        pair.client.timeout(pair.now);
    }
    pair.drain_client();
    assert_eq!(pair.client_said, [Said::Down(DownReason::Silent, true)]);
    pair.server.timeout(end);
    assert_eq!(pair.server.closed(), Some(CloseReason::Silent));
}

#[test]
fn a_half_open_peer_is_given_five_seconds() {
    let now = Instant::now();
    let mut server = ServerLink::new(&key(1), OUTSIDE, now);
    server.receive(now, b"TcIn\x00");
    server.timeout(now + HELLO_TIMEOUT - Duration::from_millis(1));
    assert_eq!(server.closed(), None);
    server.timeout(now + HELLO_TIMEOUT);
    assert_eq!(server.closed(), Some(CloseReason::HelloTimeout));
}

#[test]
fn the_client_comes_back_with_growing_patience() {
    let mut pair = Pair::up(key(1));
    let mut waits = Vec::new();
    pair.client.disconnected(pair.now, None);
    for _ in 0..7 {
        let retry_at = pair.client.next_timeout();
        waits.push(retry_at.duration_since(pair.now).as_millis());
        pair.now = retry_at;
        pair.client.timeout(pair.now);
        pair.client
            .disconnected(pair.now, Some("connection refused".into()));
    }
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
    pair.drain_client();
    assert_eq!(pair.client_said[0], Said::Down(DownReason::Closed, true));
    assert!(
        !pair.client.register(&registration(1)),
        "no link, no registration"
    );
    assert_eq!(
        pair.client_said
            .iter()
            .filter(|said| **said == Said::Connect)
            .count(),
        7
    );
}

#[test]
fn a_slow_reader_loses_records_and_is_told_how_many() {
    let mut pair = Pair::up(key(1));
    let mut batch = ReplyBatch::default();
    for session in 0..1000 {
        batch.push(session, 1, &tcp_header(0));
    }
    let (mut sent, mut lost) = (0, 0);
    while lost < 5000 {
        let dropped = pair.server.send_replies(&batch);
        lost += dropped;
        sent += batch.count() - dropped;
    }
    let bound = MAX_QUEUED_REPLIES + 100_000;
    assert!(pair.server.transmit().len() < bound, "the queue is bounded");
    pair.drive();
    let mut last = ReplyBatch::default();
    last.push(1, 1, &tcp_header(0));
    assert_eq!(pair.server.send_replies(&last), 0);
    pair.drive();
    let overflow: Vec<&Said> = pair
        .client_said
        .iter()
        .filter(|said| matches!(said, Said::Overflow(_)))
        .collect();
    assert_eq!(overflow, [&Said::Overflow(lost)]);
    assert_eq!(pair.client_said.len() as u64, sent + 2);
}

#[test]
fn a_peer_that_reads_no_answers_is_given_up() {
    let mut pair = Pair::up(key(1));
    let most = 3 * MAX_QUEUED_REPLIES;
    for _ in 0..most / 7 {
        pair.server.confirm(1);
    }
    assert!(pair.server.transmit().len() < most);
    assert_eq!(pair.server.closed(), Some(CloseReason::Stalled));
}

#[test]
fn unknown_frames_and_features_are_skipped() {
    let now = Instant::now();
    let mut server = ServerLink::new(&Security::LoopbackOnly, LOOPBACK, now);
    server.receive(now, b"TcIn\x00\x01\x00\x00");
    let mut body = vec![0xff; 4];
    body.extend([0; 8 + 2]);
    let mut frames = vec![0x55, 0, 2, 9, 9, 1, 0, body.len() as u8];
    frames.extend(body);
    server.receive(now, &(frames.len() as u16).to_be_bytes());
    server.receive(now, &frames);
    let Some(ServerEvent::Hello(hello)) = server.poll_event() else {
        panic!()
    };
    server.accept(hello.features);
    assert_eq!(server.features(), Features::KNOWN);
}

#[test]
fn requests_before_the_hello_end_the_link() {
    let now = Instant::now();
    let mut server = ServerLink::new(&Security::LoopbackOnly, LOOPBACK, now);
    server.receive(now, b"TcIn\x00\x01\x00\x00\x00\x03\x02\x00\x00");
    assert_eq!(server.poll_event(), None);
    assert_eq!(
        server.closed(),
        Some(CloseReason::Channel(ChannelError::Malformed))
    );
}

#[test]
fn names_from_a_peer_are_fit_for_a_log() {
    let name = format!("a\n\u{1b}[31mb{}", "é".repeat(100));
    let mut bytes = Vec::new();
    Hello { name, ..hello() }.encode(&mut bytes);
    let name = Hello::decode(&bytes).unwrap().name;
    assert!(name.starts_with("a[31mbéé") && name.chars().all(|c| !c.is_control()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the stream is cut, the same requests and records come out.
    #[test]
    fn any_fragmentation_carries_the_same_frames(
        cuts in prop::collection::vec(1usize..200, 1..50),
        sessions in prop::collection::vec(any::<u64>(), 1..300),
        sealed in any::<bool>(),
    ) {
        let security = if sealed { key(9) } else { Security::LoopbackOnly };
        let mut pair = Pair::new(security.clone(), security, LOOPBACK, hello());
        let mut turn = 0;
        let mut cut = || { turn += 1; cuts[turn % cuts.len()] };
        pair.drive_cut(&mut cut);
        let Some(ServerEvent::Hello(got)) = pair.server_said.pop() else { panic!("no hello") };
        prop_assert_eq!(&got, &hello());
        pair.server.accept(got.features);
        pair.drive_cut(&mut cut);
        pair.client_said.clear();

        let mut batch = ReplyBatch::default();
        for (i, &session) in sessions.iter().enumerate() {
            prop_assert!(pair.client.register(&registration(session)));
            batch.push(session, i as u32, &tcp_header(i as u8));
        }
        pair.drive_cut(&mut cut);
        pair.server.confirm(sessions.len() as u32);
        pair.server.send_replies(&batch);
        pair.drive_cut(&mut cut);
        let expected: Vec<ServerEvent> =
            sessions.iter().map(|&s| ServerEvent::Register(registration(s))).collect();
        prop_assert_eq!(&pair.server_said, &expected);
        let confirmed = sessions.iter().map(|&s| Said::Confirmed(s));
        let replies = sessions.iter().enumerate().map(|(i, &s)| {
            Said::Reply(s, i as u32, tcp_header(i as u8).to_vec(), vec![])
        });
        prop_assert_eq!(&pair.client_said, &confirmed.chain(replies).collect::<Vec<_>>());
    }

    /// Whatever a peer sends after a good prelude, neither end panics or grows without bound.
    #[test]
    fn random_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..4096),
        good_prelude in any::<bool>(),
        sealed in any::<bool>(),
    ) {
        let security = if sealed { key(9) } else { Security::LoopbackOnly };
        let mut pair = Pair::new(security.clone(), security, LOOPBACK, hello());
        let start: &[u8] = match (good_prelude, sealed) {
            (true, true) => b"TcIn\x00\x01\x00\x01",
            (true, false) => b"TcIn\x00\x01\x00\x00",
            (false, _) => b"",
        };
        let now = pair.now;
        for part in [start, &bytes] {
            pair.server.receive(now, part);
            while let Some(event) = pair.server.poll_event() {
                if let ServerEvent::Hello(hello) = event {
                    pair.server.accept(hello.features);
                }
            }
            pair.client.receive(now, part);
            pair.drain_client();
        }
        prop_assert!(pair.server.transmit().len() < 70_000);
    }
}
