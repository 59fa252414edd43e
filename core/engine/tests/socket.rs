//! Conversations between the engine and a kernel, call by call.

#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use tcpcopy_engine::{
    Closing, DropReason, Engine, EngineConfig, Instant, Mapping, Output, SessionId, SocketFailure,
    Upstream, UpstreamEvent,
};
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags, TcpOptions};

const CLIENT: Endpoint = endpoint([203, 0, 113, 5], 40_000);
const ORIGIN: Endpoint = endpoint([192, 0, 2, 1], 80);
const TARGET: Endpoint = endpoint([198, 51, 100, 9], 8080);
const SOURCE: Endpoint = endpoint([192, 0, 2, 77], 51_000);

const T: fn(u64) -> Instant = |ms| Instant::from_micros(ms * 1000);

const fn endpoint(address: [u8; 4], port: u16) -> Endpoint {
    let [a, b, c, d] = address;
    Endpoint::new(std::net::IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// What the engine asks for, without its borrow.
#[derive(Debug, PartialEq)]
enum Asked {
    Connect(Endpoint, Endpoint, Endpoint),
    Send(&'static str),
    Close(Closing),
    Ended(FourTuple, u64, u64, u64, Option<DropReason>),
    Register,
    Rest,
}

struct Dialogue {
    engine: Engine,
    session: Option<SessionId>,
    now: Instant,
}

fn syn_of_another_client(seq: u32) -> Segment<'static> {
    Segment {
        tuple: FourTuple::new(endpoint([203, 0, 113, 6], 40_000), ORIGIN),
        seq,
        ack: 0,
        flags: TcpFlags::SYN,
        window: 502,
        options: TcpOptions::default(),
        hop_limit: 64,
        payload: &[],
        payload_len: 0,
    }
}

fn config(upstream: Upstream) -> EngineConfig {
    EngineConfig {
        upstream,
        mappings: vec![Mapping {
            origin_address: None,
            origin_port: ORIGIN.port,
            target: TARGET,
        }],
        ..EngineConfig::default()
    }
}

impl Dialogue {
    fn new(upstream: Upstream) -> Self {
        Self {
            engine: Engine::new(config(upstream), 1),
            session: None,
            now: T(0),
        }
    }

    /// A captured client that has connected, and the engine's connection for it.
    fn established() -> Self {
        let mut dialogue = Self::new(Upstream::Socket);
        dialogue.client(TcpFlags::SYN, 0, 0, "");
        assert_eq!(dialogue.asked(), Asked::Connect(CLIENT, ORIGIN, TARGET));
        dialogue.tell(|session| UpstreamEvent::Connecting {
            session,
            source: SOURCE,
        });
        dialogue.client(TcpFlags::ACK, 1, 1, "");
        dialogue.tell(UpstreamEvent::Connected);
        assert_eq!(dialogue.asked(), Asked::Rest);
        dialogue
    }

    fn client(&mut self, flags: TcpFlags, seq: u32, ack: u32, text: &str) {
        let segment = Segment {
            tuple: FourTuple::new(CLIENT, ORIGIN),
            seq,
            ack,
            flags,
            window: 502,
            options: TcpOptions::default(),
            hop_limit: 64,
            payload: text.as_bytes(),
            payload_len: u32::try_from(text.len()).expect("a short text"),
        };
        self.engine.segment(self.now, &segment);
    }

    fn tell(&mut self, event: impl FnOnce(SessionId) -> UpstreamEvent) {
        let session = self.session.expect("a session has asked for something");
        self.engine.upstream_event(self.now, event(session));
    }

    fn taken(&mut self, bytes: usize) {
        self.tell(|session| UpstreamEvent::Taken { session, bytes });
    }

    fn acknowledged(&mut self, unacknowledged: u64) {
        self.tell(|session| UpstreamEvent::Acknowledged {
            session,
            unacknowledged,
        });
    }

    fn answered(&mut self, bytes: &[u8], is_last: bool) {
        let session = self.session.expect("a session has asked for something");
        self.engine.received(self.now, session, bytes, is_last);
    }

    fn at(&mut self, now: Instant) {
        self.now = now;
        self.engine.timeout(now);
    }

    fn asked(&mut self) -> Asked {
        match self.engine.poll_output(self.now) {
            Output::Connect {
                session,
                client,
                origin,
                target,
            } => {
                self.session = Some(session);
                Asked::Connect(client, origin, target)
            }
            Output::Send { session, bytes } => {
                assert_eq!(Some(session), self.session);
                let known = ["request 1", "request 2", "1", "2"];
                let text = known.into_iter().find(|text| text.as_bytes() == bytes);
                Asked::Send(text.expect("what the client said"))
            }
            Output::Close { session, how } => {
                assert_eq!(Some(session), self.session);
                Asked::Close(how)
            }
            Output::Record(record) => Asked::Ended(
                record.tuple,
                record.captured_bytes,
                record.delivered_bytes,
                record.received_bytes,
                record.reason,
            ),
            Output::Register(registration) => {
                self.session = Some(registration.session);
                Asked::Register
            }
            Output::Timeout(_) => Asked::Rest,
            output @ (Output::Packet(_) | Output::Unregister { .. }) => panic!("{output:?}"),
        }
    }

    fn stale(&self) -> u64 {
        self.engine.ledger().upstream.stale_replies
    }
}

#[test]
fn a_session_from_its_connect_to_its_release() {
    let mut dialogue = Dialogue::established();
    dialogue.client(TcpFlags::ACK, 1, 1, "request 1");
    assert_eq!(dialogue.asked(), Asked::Send("request 1"));
    dialogue.taken(8);
    assert_eq!(dialogue.asked(), Asked::Rest, "the kernel is full");
    dialogue.tell(UpstreamEvent::Writable);
    assert_eq!(dialogue.asked(), Asked::Send("1"));
    dialogue.taken(1);
    assert_eq!(dialogue.asked(), Asked::Rest);
    assert_eq!(dialogue.engine.in_flight().bytes, 9);
    dialogue.acknowledged(0);
    assert_eq!(dialogue.engine.ledger().bytes.delivered, 9);
    dialogue.client(TcpFlags::ACK, 10, 101, "request 2");
    assert_eq!(dialogue.asked(), Asked::Rest, "it waits for the answer");
    dialogue.answered(&[0; 100], true);
    assert_eq!(dialogue.asked(), Asked::Send("request 2"));
    dialogue.taken(9);
    dialogue.client(TcpFlags::ACK | TcpFlags::FIN, 19, 201, "");
    dialogue.acknowledged(0);
    dialogue.answered(&[0; 100], true);
    assert_eq!(dialogue.asked(), Asked::Rest, "the target may close first");
    dialogue.tell(UpstreamEvent::Finished);
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
    assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
    let tuple = FourTuple::new(SOURCE, TARGET);
    assert_eq!(dialogue.asked(), Asked::Ended(tuple, 18, 18, 200, None));
    assert_eq!(dialogue.asked(), Asked::Rest);
    assert_eq!(dialogue.engine.gauges().sessions, 0);
    let ledger = dialogue.engine.ledger();
    assert!(ledger.requests.delivered == 2 && ledger.answered_requests == 2);
    assert_eq!(ledger.upstream.socket_bytes, 18);
}

#[test]
fn an_answer_whose_end_is_told_apart_opens_the_gate_at_once() {
    let mut dialogue = Dialogue::established();
    dialogue.client(TcpFlags::ACK, 1, 1, "request 1");
    assert_eq!(dialogue.asked(), Asked::Send("request 1"));
    dialogue.taken(9);
    dialogue.client(TcpFlags::ACK, 10, 101, "request 2");
    dialogue.answered(&[0; 100], false);
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.answered(&[], true);
    assert_eq!(dialogue.asked(), Asked::Send("request 2"));
}

#[test]
fn a_target_that_closes_while_a_request_waits_gets_it_on_another_connection() {
    let finished = UpstreamEvent::Finished;
    let reset = |session| UpstreamEvent::Failed {
        session,
        failure: SocketFailure::Reset,
    };
    for is_reset in [false, true] {
        let mut dialogue = Dialogue::established();
        dialogue.client(TcpFlags::ACK, 1, 1, "request 1");
        assert_eq!(dialogue.asked(), Asked::Send("request 1"));
        dialogue.taken(9);
        dialogue.client(TcpFlags::ACK, 10, 101, "request 2");
        dialogue.acknowledged(0);
        assert_eq!(dialogue.asked(), Asked::Rest);
        let first = dialogue.session;
        let tuple = FourTuple::new(SOURCE, TARGET);
        match is_reset {
            true => {
                dialogue.tell(reset);
                let ended = Asked::Ended(tuple, 9, 9, 0, None);
                assert_eq!(dialogue.asked(), ended);
            }
            false => {
                dialogue.tell(finished);
                assert_eq!(dialogue.asked(), Asked::Close(Closing::Finish));
                assert_eq!(dialogue.asked(), Asked::Close(Closing::Release));
                let ended = Asked::Ended(tuple, 9, 9, 0, None);
                assert_eq!(dialogue.asked(), ended);
            }
        }
        assert_eq!(dialogue.asked(), Asked::Connect(CLIENT, ORIGIN, TARGET));
        assert_ne!(dialogue.session, first);
        dialogue.tell(|session| UpstreamEvent::Connecting {
            session,
            source: SOURCE,
        });
        dialogue.tell(UpstreamEvent::Connected);
        assert_eq!(dialogue.asked(), Asked::Send("request 2"));
        dialogue.taken(9);
        dialogue.acknowledged(0);
        let ledger = dialogue.engine.ledger();
        assert_eq!(ledger.requests.dropped_total(), 0);
        assert_eq!(ledger.bytes.delivered, 18);
    }
}

#[test]
fn a_shortage_is_tried_again_by_one_session_for_all() {
    let mut dialogue = Dialogue::new(Upstream::Socket);
    dialogue.client(TcpFlags::SYN, 0, 0, "");
    assert_eq!(dialogue.asked(), Asked::Connect(CLIENT, ORIGIN, TARGET));
    let first = dialogue.session;
    let short = |session| UpstreamEvent::Failed {
        session,
        failure: SocketFailure::NoPort,
    };
    dialogue.tell(short);
    assert_eq!(dialogue.asked(), Asked::Rest);
    let another = syn_of_another_client(0);
    dialogue.engine.segment(T(1), &another);
    assert_eq!(dialogue.asked(), Asked::Rest, "it would fail as well");
    dialogue.at(T(50));
    assert!(matches!(dialogue.asked(), Asked::Connect(..)));
    assert_eq!(dialogue.session, first);
    dialogue.tell(short);
    assert_eq!(dialogue.asked(), Asked::Rest);
    dialogue.at(T(100));
    assert!(matches!(dialogue.asked(), Asked::Connect(..)));
    dialogue.tell(|session| UpstreamEvent::Connecting {
        session,
        source: SOURCE,
    });
    assert!(matches!(dialogue.asked(), Asked::Connect(..)));
    assert_ne!(dialogue.session, first, "the way is free");
    assert_eq!(dialogue.engine.ledger().upstream.connects, 4);
}

#[test]
fn late_events_and_those_of_another_upstream_are_counted_and_change_nothing() {
    let mut dialogue = Dialogue::established();
    for event in [
        UpstreamEvent::TunnelUp,
        UpstreamEvent::TunnelDown,
        UpstreamEvent::TunnelLost,
    ] {
        dialogue.tell(|_| event);
        assert_eq!(dialogue.asked(), Asked::Rest);
    }
    dialogue.tell(UpstreamEvent::Registered);
    dialogue.tell(UpstreamEvent::RegistrationRefused);
    assert_eq!(dialogue.stale(), 5);
    dialogue.tell(|session| UpstreamEvent::Failed {
        session,
        failure: SocketFailure::Reset,
    });
    assert!(matches!(dialogue.asked(), Asked::Ended(..)));
    dialogue.tell(UpstreamEvent::Finished);
    dialogue.taken(7);
    dialogue.answered(&[0; 10], true);
    assert_eq!(dialogue.stale(), 8);
    assert_eq!(dialogue.asked(), Asked::Rest);

    let mut dialogue = Dialogue::new(Upstream::Raw);
    dialogue.client(TcpFlags::SYN, 0, 0, "");
    dialogue
        .engine
        .upstream_event(T(0), UpstreamEvent::TunnelUp);
    assert_eq!(dialogue.asked(), Asked::Register);
    dialogue.tell(UpstreamEvent::Connected);
    dialogue.tell(|session| UpstreamEvent::Failed {
        session,
        failure: SocketFailure::Refused,
    });
    dialogue.answered(&[0; 10], true);
    assert_eq!(dialogue.asked(), Asked::Rest);
    assert_eq!(dialogue.engine.gauges().sessions, 1);
    assert_eq!(dialogue.stale(), 3);
}

#[test]
fn a_connection_of_another_engine_is_left_alone() {
    let mut engine = Engine::new(config(Upstream::Socket), 1);
    let syn = syn_of_another_client(5);
    assert!(!engine.is_own(T(0), &syn));
    engine.leave_alone(T(0), &syn);
    let data = Segment {
        seq: 6,
        ack: 1,
        flags: TcpFlags::ACK,
        payload: b"GET /",
        payload_len: 5,
        ..syn
    };
    engine.segment(T(1), &data);
    assert!(matches!(engine.poll_output(T(1)), Output::Timeout(_)));
    let ledger = engine.ledger();
    assert_eq!(ledger.bytes.dropped[DropReason::OwnReplay], 5);
    assert_eq!(ledger.capture.own_replay, 1);
}
