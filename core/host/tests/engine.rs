//! Plugins in an engine: what a client says reaches the target as the plugins want it, natively and
//! as WASM.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use plugin_api::Config;
use tcpcopy_engine::{
    DropReason, Engine, EngineConfig, Instant, Mapping, Output, SessionId, Upstream, UpstreamEvent,
};
use tcpcopy_host::{Host, Library, Limits, Step};
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags, TcpOptions};

const ORIGIN: Endpoint = endpoint(1, 80);
const TARGET: Endpoint = endpoint(2, 8080);

const fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port)
}

/// An engine with plugins, the time, and connections by the port of their client.
struct Lane {
    host: Host,
    engine: Engine,
    now: Instant,
    connected: Vec<SessionId>,
    ended: Vec<Option<DropReason>>,
}

impl Lane {
    fn new(steps: Vec<Step>, limits: Limits) -> Self {
        let host = Host::new(steps, limits).unwrap_or_else(|error| panic!("{error}"));
        let config = EngineConfig {
            upstream: Upstream::Socket,
            mappings: vec![Mapping {
                origin_address: None,
                origin_port: ORIGIN.port,
                target: TARGET,
            }],
            ..EngineConfig::default()
        };
        let plugins = host.plugins(Arc::new(|| {}));
        Self {
            host,
            engine: Engine::with_plugins(config, 1, Box::new(plugins)),
            now: Instant::ZERO,
            connected: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// A client connects. Returns what is sent.
    fn connect(&mut self, port: u16) -> String {
        self.segment(port, TcpFlags::SYN, 0, 0, b"");
        self.segment(port, TcpFlags::ACK, 1, 1, b"");
        self.outputs()
    }

    /// A client speaks, at this offset of its stream and after so much of the origin's. Returns what
    /// is sent.
    fn say(&mut self, port: u16, offset: u32, seen: u32, text: &[u8]) -> String {
        self.segment(port, TcpFlags::ACK, 1 + offset, 1 + seen, text);
        self.outputs()
    }

    fn segment(&mut self, port: u16, flags: TcpFlags, seq: u32, ack: u32, text: &[u8]) {
        let segment = Segment {
            tuple: FourTuple::new(endpoint(9, port), ORIGIN),
            seq,
            ack,
            flags,
            window: 502,
            hop_limit: 64,
            options: TcpOptions::default(),
            payload: text,
            payload_len: u32::try_from(text.len()).expect("a short text"),
        };
        self.engine.segment(self.now, &segment);
    }

    /// The target answers the client that connected as the `at`th.
    fn answer(&mut self, at: usize, text: &[u8]) -> String {
        let session = self.connected[at];
        self.engine.received(self.now, session, text, true);
        self.outputs()
    }

    fn at_ms(&mut self, ms: u64) {
        self.now = Instant::from_micros(ms * 1000);
        self.engine.timeout(self.now);
    }

    /// All that is sent until the engine rests. Connections are made, and bytes taken.
    fn outputs(&mut self) -> String {
        let mut sent = String::new();
        loop {
            let event = match self.engine.poll_output(self.now) {
                Output::Connect {
                    session, client, ..
                } => {
                    self.connected.push(session);
                    let source = client;
                    let connecting = UpstreamEvent::Connecting { session, source };
                    self.engine.upstream_event(self.now, connecting);
                    UpstreamEvent::Connected(session)
                }
                Output::Send { session, bytes } => {
                    sent.push_str(&String::from_utf8_lossy(bytes));
                    let bytes = bytes.len();
                    UpstreamEvent::Taken { session, bytes }
                }
                Output::Record(record) => {
                    self.ended.push(record.reason);
                    continue;
                }
                Output::Close { .. } => continue,
                Output::Timeout(_) => return sent,
                other => panic!("sockets need no such thing: {other:?}"),
            };
            self.engine.upstream_event(self.now, event);
        }
    }
}

fn step(library: &Library, prefix: &str) -> Step {
    Step {
        library: library.clone(),
        port: None,
        config: Config::new().with("prefix", prefix),
    }
}

#[test]
fn requests_are_changed_and_their_latency_is_known_by_label() {
    for library in common::both("upper") {
        let mut lane = Lane::new(vec![step(&library, "> ")], Limits::default());
        lane.connect(50_000);
        assert_eq!(lane.say(50_000, 0, 0, b"one\n"), "> ONE\n");
        lane.at_ms(2);
        assert_eq!(
            lane.say(50_000, 4, 3, b"two\n"),
            "",
            "it waits for the answer"
        );
        lane.at_ms(5);
        assert_eq!(lane.answer(0, b"1\n"), "> TWO\n");
        lane.at_ms(8);
        lane.answer(0, b"2\n");
        let figures = lane.host.figures().remove(0);
        let label = &figures.labels[0];
        assert_eq!((&*label.label, label.begun, label.ok), ("line", 2, 2));
        // 5 ms and 3 ms: what the second waited before it left is not the target's.
        let latency = label.latency;
        assert_eq!(
            (latency.count, latency.mean_us, latency.max_us),
            (2, 4000, 5000)
        );
        assert_eq!(figures.counters.get("lines"), Some(&2));
        assert_eq!(lane.engine.ledger().plugin.stray_ends, 0);
    }
}

#[test]
fn a_chain_of_both_forms_marks_each_request_once() {
    let [native, wasm] = common::both("upper");
    let steps = vec![step(&native, "a "), step(&wasm, "b ")];
    let mut lane = Lane::new(steps, Limits::default());
    lane.connect(50_000);
    assert_eq!(lane.say(50_000, 0, 0, b"one\ntw"), "b A ONE\n");
    assert_eq!(lane.say(50_000, 6, 0, b"o\n"), "b A TWO\n");
    lane.answer(0, b"1\n2\n");
    let ledger = lane.engine.ledger();
    assert_eq!((ledger.requests.captured, ledger.answered_requests), (2, 2));
    assert_eq!(ledger.plugin.stray_ends, 0);
    let ended = lane.host.figures().into_iter().map(|it| it.labels[0].ok);
    assert_eq!(ended.collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn too_much_output_ends_the_session_by_name() {
    for library in common::both("upper") {
        let limits = Limits {
            output_bytes: 1000,
            ..Limits::default()
        };
        let mut lane = Lane::new(vec![step(&library, "> ")], limits);
        lane.connect(50_000);
        let long = [&[b'x'; 2000][..], b"\n"].concat();
        assert_eq!(lane.say(50_000, 0, 0, &long), "");
        assert_eq!(lane.ended, [Some(DropReason::PluginFailed)]);
        assert_eq!(lane.engine.ledger().plugin.over_output_limit, 1);
        lane.connect(50_001);
        assert_eq!(lane.say(50_001, 0, 0, b"next\n"), "> NEXT\n");
    }
}

#[test]
fn too_much_memory_ends_the_sessions_of_the_instance_by_name() {
    let limits = Limits {
        memory_bytes: 4 << 20,
        ..Limits::default()
    };
    let library = common::load("upper.wasm");
    let mut lane = Lane::new(vec![step(&library, "")], limits);
    // Lines without an end have to be kept.
    let half = [b'x'; 60_000];
    for port in 0..200 {
        lane.connect(50_000 + port);
        lane.say(50_000 + port, 0, 0, &half);
        if !lane.ended.is_empty() {
            break;
        }
    }
    // The idle sessions were told at once, too.
    assert!(lane.ended.len() > 20, "{}", lane.ended.len());
    let ledger = lane.engine.ledger();
    assert_eq!(ledger.plugin.out_of_memory, lane.ended.len() as u64);
    assert_eq!(lane.host.figures()[0].failures.out_of_memory, 1);
    assert!(
        lane.ended
            .iter()
            .all(|it| *it == Some(DropReason::PluginFailed))
    );
    lane.connect(60_000);
    assert_eq!(lane.say(60_000, 0, 0, b"next\n"), "NEXT\n");
}

#[test]
fn an_instance_that_does_not_even_begin_is_an_error_of_loading() {
    let limits = Limits {
        memory_bytes: 64 << 10,
        ..Limits::default()
    };
    let error = Library::load(&common::path("upper.wasm"), &limits).expect_err("too small");
    assert!(
        error.to_string().contains("more memory than it is given"),
        "{error}"
    );
}
