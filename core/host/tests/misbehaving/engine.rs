//! The engine with a plugin that fails: what the others say arrives byte for byte, and the ledger names
//! the rest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tcpcopy_engine::{
    Closing, DropReason, Engine, EngineConfig, Instant, Mapping, Output, SessionId, ShutDown,
    Upstream, UpstreamEvent,
};
use tcpcopy_host::{Host, Limits, State, Step};
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags, TcpOptions};

use crate::bed::told;
use crate::common::load;

const CLIENTS: u16 = 20;
const LINES: u32 = 5;

/// A client that makes the plugin misbehave.
const BAD: u16 = 1010;

/// What one does in each form of a plugin.
const FAULTS: [(&str, &str); 3] = [("so", "panic"), ("wasm", "panic"), ("wasm", "loop")];

/// What both servers answer to a line.
const ANSWER: &str = "ok\n";

fn endpoint(last: u8, port: u16) -> Endpoint {
    Endpoint::new([192, 0, 2, last].into(), port)
}

/// A client of this port; those of odd ones are good.
fn client(port: u16) -> Endpoint {
    endpoint(1, port)
}

fn line(port: u16, number: u32) -> String {
    format!("client {port} says line {number}\n")
}

/// An engine between captured clients and a target that answers every line.
struct World {
    engine: Engine,
    host: Host,
    now: Instant,
    /// Whether the target answers.
    answers: bool,
    /// Live connections to the target, by the client's port.
    live: BTreeMap<u64, u16>,
    /// What the target has heard in the name of each client, on each of its connections.
    heard: BTreeMap<u16, Vec<String>>,
    ended: BTreeMap<u16, Vec<Option<DropReason>>>,
}

impl World {
    /// The plugin misbehaves when it hears clients of even ports, or the first of them only.
    fn new(form: &str, fault: &str, once: bool, limits: Limits) -> Self {
        let step = Step {
            library: load(&format!("misbehaving.{form}")),
            port: None,
            config: told(fault, "on_client").with("once", once),
        };
        let host = Host::new(vec![step], limits).unwrap_or_else(|error| panic!("{error}"));
        let config = EngineConfig {
            upstream: Upstream::Socket,
            mappings: vec![Mapping {
                origin_address: None,
                origin_port: 80,
                target: endpoint(3, 8080),
            }],
            ..EngineConfig::default()
        };
        let plugins = host.plugins(Arc::new(|| {}));
        Self {
            engine: Engine::with_plugins(config, 1, Box::new(plugins)),
            host,
            now: Instant::ZERO,
            answers: true,
            live: BTreeMap::new(),
            heard: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    /// A segment of a client, after so many lines of its own and their answers.
    fn segment(&mut self, port: u16, flags: TcpFlags, said: u32, text: &str) {
        let before: usize = (0..said).map(|number| line(port, number).len()).sum();
        let starts = u32::from(!flags.contains(TcpFlags::SYN));
        let segment = Segment {
            tuple: FourTuple::new(client(port), endpoint(2, 80)),
            seq: starts + before as u32,
            ack: starts * (1 + said * ANSWER.len() as u32),
            flags,
            window: 502,
            hop_limit: 64,
            options: TcpOptions::default(),
            payload: text.as_bytes(),
            payload_len: text.len() as u32,
        };
        self.now += Duration::from_millis(1);
        self.engine.segment(self.now, &segment);
        self.pump();
    }

    fn connect(&mut self, port: u16) {
        self.segment(port, TcpFlags::SYN, 0, "");
        self.segment(port, TcpFlags::ACK, 0, "");
    }

    fn say(&mut self, port: u16, number: u32) {
        self.segment(
            port,
            TcpFlags::ACK | TcpFlags::PSH,
            number,
            &line(port, number),
        );
    }

    fn finish(&mut self, port: u16) {
        self.segment(port, TcpFlags::ACK | TcpFlags::FIN, LINES, "");
    }

    /// Lets time go by, with all that is due.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += Duration::from_millis(10);
            self.engine.timeout(self.now);
            self.pump();
        }
    }

    /// Does what the engine wants, until it rests.
    fn pump(&mut self) {
        loop {
            let told = match self.engine.poll_output(self.now) {
                Output::Connect {
                    session, client, ..
                } => {
                    self.live.insert(session.as_u64(), client.port);
                    self.heard
                        .entry(client.port)
                        .or_default()
                        .push(String::new());
                    let source = endpoint(4, 10_000 + client.port);
                    vec![
                        UpstreamEvent::Connecting { session, source },
                        UpstreamEvent::Connected(session),
                    ]
                }
                Output::Send { session, bytes } => {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    self.take(session, &text);
                    continue;
                }
                Output::Close { session, how } => match how {
                    Closing::Finish => vec![UpstreamEvent::Finished(session)],
                    Closing::Reset | Closing::Release => {
                        self.live.remove(&session.as_u64());
                        continue;
                    }
                },
                Output::Record(record) => {
                    let ended = self.ended.entry(record.client.port).or_default();
                    ended.push(record.reason);
                    continue;
                }
                Output::Timeout(_) => return,
                other => panic!("sockets need no such thing: {other:?}"),
            };
            for event in told {
                self.engine.upstream_event(self.now, event);
            }
        }
    }

    /// The target hears something and answers its lines.
    fn take(&mut self, session: SessionId, text: &str) {
        let port = self.live[&session.as_u64()];
        let heard = self.heard.get_mut(&port).and_then(|all| all.last_mut());
        heard.expect("it has connected").push_str(text);
        let bytes = text.len();
        let taken = UpstreamEvent::Taken { session, bytes };
        self.engine.upstream_event(self.now, taken);
        let acknowledged = UpstreamEvent::Acknowledged {
            session,
            unacknowledged: 0,
        };
        self.engine.upstream_event(self.now, acknowledged);
        for _ in text.matches('\n').filter(|_| self.answers) {
            self.engine
                .received(self.now, session, ANSWER.as_bytes(), true);
        }
    }

    /// Ends the replay; everything must be accounted for.
    fn shut_down(&mut self) {
        let deadline = self.now + Duration::from_secs(1);
        self.engine
            .shut_down(self.now, ShutDown::Drain { deadline });
        self.pump();
        self.wait(Duration::from_secs(2));
        assert!(self.engine.is_finished());
        let ledger = self.engine.ledger();
        assert!(ledger.balance().is_zero(), "{:?}", ledger.balance());
        assert_eq!(ledger.bytes.overdrawn() + ledger.requests.overdrawn(), 0);
    }

    /// From line `first` on, everything that this client has said came, in order and once, whatever
    /// the number of connections.
    fn assert_heard(&self, port: u16, first: u32) {
        let all: String = (first..LINES).map(|number| line(port, number)).collect();
        assert_eq!(self.heard[&port].concat(), all, "client {port}");
    }

    fn has_failed(&self, port: u16) -> bool {
        self.ended[&port].contains(&Some(DropReason::PluginFailed))
    }
}

/// 20 clients, one after the other; the tenth makes the plugin trap with its first line.
#[test]
fn one_of_twenty_traps_and_nineteen_are_exact() {
    for (form, fault) in FAULTS {
        let mut world = World::new(form, fault, true, Limits::default());
        let port = |number: u16| match number {
            10 => BAD,
            other => 1001 + 2 * other,
        };
        for number in 0..CLIENTS {
            let port = port(number);
            world.connect(port);
            (0..LINES).for_each(|line| world.say(port, line));
            world.finish(port);
            world.wait(Duration::from_millis(100));
        }
        world.shut_down();

        for number in (0..CLIENTS).filter(|number| *number != 10) {
            let port = port(number);
            world.assert_heard(port, 0);
            assert!(!world.has_failed(port), "{form} {fault}: client {port}");
        }
        // What is said after that is replayed, on another connection.
        world.assert_heard(BAD, 1);
        assert!(world.has_failed(BAD), "{form} {fault}");
        // The plugin had not marked it as a request, so it is bytes.
        let ledger = world.engine.ledger();
        let (requests, bytes) = (&ledger.requests, &ledger.bytes);
        let all = u64::from(CLIENTS) * u64::from(LINES);
        let counted = (requests.captured, requests.delivered);
        assert_eq!(counted, (all - 1, all - 1), "{form} {fault}");
        let lost = line(BAD, 0).len() as u64;
        let named = bytes.dropped[DropReason::PluginFailed];
        assert_eq!(
            (named, bytes.dropped_total()),
            (lost, lost),
            "{form} {fault}"
        );
        let failures = world.host.figures()[0].failures;
        assert_eq!(failures.trapped + failures.timed_out, 1, "{form} {fault}");
    }
}

/// 20 clients at once in one instance, each with a line that waits for an answer: a trap ends what is
/// under way, under that name. What is said after it is replayed.
#[test]
fn a_trap_costs_the_others_no_more_than_what_was_under_way() {
    for (form, fault) in FAULTS {
        let mut world = World::new(form, fault, true, Limits::default());
        let good: Vec<u16> = (0..CLIENTS - 1).map(|number| 1001 + 2 * number).collect();
        let everybody: Vec<u16> = good.iter().copied().chain([BAD]).collect();
        everybody.iter().for_each(|port| world.connect(*port));
        world.answers = false;
        good.iter().for_each(|port| world.say(*port, 0));
        good.iter().for_each(|port| world.say(*port, 1));
        world.say(BAD, 0);
        world.answers = true;
        good.iter()
            .for_each(|port| assert!(world.has_failed(*port)));
        for number in 2..LINES {
            good.iter().for_each(|port| world.say(*port, number));
        }
        (1..LINES).for_each(|number| world.say(BAD, number));
        everybody.iter().for_each(|port| world.finish(*port));
        world.wait(Duration::from_millis(100));
        world.shut_down();

        let under_way = |port: u16| line(port, 1);
        for &port in &good {
            let all: String = (0..LINES).map(|number| line(port, number)).collect();
            let expected = all.replace(&under_way(port), "");
            assert_eq!(world.heard[&port].concat(), expected, "{form} {fault}");
        }
        world.assert_heard(BAD, 1);
        let (ledger, figures) = (world.engine.ledger(), world.host.figures().remove(0));
        let (requests, bytes) = (&ledger.requests, &ledger.bytes);
        let lost = good.len() as u64;
        let named = requests.dropped[DropReason::PluginFailed];
        assert_eq!(
            (named, requests.dropped_total()),
            (lost, lost),
            "{form} {fault}"
        );
        let lost: usize = good.iter().map(|port| under_way(*port).len()).sum();
        let lost = (lost + line(BAD, 0).len()) as u64;
        let named = bytes.dropped[DropReason::PluginFailed];
        assert_eq!(
            (named, bytes.dropped_total()),
            (lost, lost),
            "{form} {fault}"
        );
        assert_eq!(figures.failures.trapped + figures.failures.timed_out, 1);
    }
}

/// Every connection makes it fail: after a few it is not called any more, and nothing of what clients
/// say goes to the target without it.
#[test]
fn a_plugin_that_is_switched_off_lets_nothing_pass() {
    let limits = Limits::default();
    let most = u64::from(limits.failures);
    let mut world = World::new("wasm", "panic", false, limits);
    for port in (2000..2000 + 2 * CLIENTS).step_by(2) {
        world.connect(port);
        (0..LINES).for_each(|line| world.say(port, line));
        world.finish(port);
        world.wait(Duration::from_millis(50));
    }
    world.shut_down();
    let heard = world.heard.values().flatten();
    assert_eq!(heard.map(String::len).sum::<usize>(), 0);
    let bytes = &world.engine.ledger().bytes;
    let named = bytes.dropped[DropReason::PluginFailed];
    assert!(
        named > 0 && (named, 0) == (bytes.captured, bytes.delivered),
        "{bytes:?}"
    );
    let figures = world.host.figures().remove(0);
    assert_eq!(figures.failures.trapped, most);
    let state = figures.state;
    assert!(matches!(state, State::SwitchedOff { .. }), "{state:?}");
}
