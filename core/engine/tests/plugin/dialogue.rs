//! A captured client, a target and a plugin that does what the test says.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tcpcopy_engine::plugin::{Actions, Event, Failure, Needs, Plugins, SessionInfo};
use tcpcopy_engine::{
    Closing, DropReason, Engine, EngineConfig, Instant, Ledger, Mapping, Output, SessionId,
    Upstream, UpstreamEvent,
};
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags, TcpOptions};

pub(crate) const CLIENT: Endpoint = endpoint([203, 0, 113, 5], 40_000);
pub(crate) const ORIGIN: Endpoint = endpoint([192, 0, 2, 1], 80);
pub(crate) const TARGET: Endpoint = endpoint([198, 51, 100, 9], 8080);
const SOURCE: Endpoint = endpoint([192, 0, 2, 77], 51_000);

const fn endpoint(address: [u8; 4], port: u16) -> Endpoint {
    let [a, b, c, d] = address;
    Endpoint::new(std::net::IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// What the plugin does on an event; the text is the event's bytes.
type Rule = fn(&mut Actions, &str) -> Result<(), Failure>;

/// A plugin made of rules: one for each kind of event, by name. It writes down what it hears.
#[derive(Default)]
struct Scripted {
    needs: Needs,
    rules: BTreeMap<&'static str, Rule>,
    notes: Arc<Mutex<Notes>>,
}

/// What the plugin has heard, and what it wants to be woken for.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) heard: Vec<String>,
    pub(crate) infos: Vec<SessionInfo>,
    pub(crate) wakes: Vec<SessionId>,
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) closed: usize,
    /// How long the exchanges took that it has ended.
    pub(crate) took: Vec<Option<Duration>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a plugin of {} rules", self.rules.len())
    }
}

impl Scripted {
    fn follow(&self, name: &str, text: &str, actions: &mut Actions) -> Result<(), Failure> {
        let mut notes = self.notes.lock().expect("no test panics holding it");
        notes
            .heard
            .push(format!("{name} {text}").trim_end().to_owned());
        match self.rules.get(name) {
            Some(rule) => rule(actions, text),
            None => Ok(()),
        }
    }
}

impl Plugins for Scripted {
    fn needs(&self, origin_port: u16) -> Option<Needs> {
        (origin_port == ORIGIN.port).then_some(self.needs)
    }

    fn open(
        &mut self,
        _now: Instant,
        session: SessionId,
        info: &SessionInfo,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        let mut notes = self.notes.lock().expect("no test panics holding it");
        notes.infos.push(*info);
        notes.sessions.push(session);
        drop(notes);
        self.follow("open", "", actions)
    }

    fn event(
        &mut self,
        _now: Instant,
        _session: SessionId,
        event: Event<'_>,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        let text = |bytes| std::str::from_utf8(bytes).expect("the tests speak text");
        match event {
            Event::Client(bytes) => self.follow("client", text(bytes), actions),
            Event::Origin(bytes) => self.follow("origin", text(bytes), actions),
            Event::Target(bytes) => self.follow("target", text(bytes), actions),
            Event::Gap { direction, missing } => {
                let text = format!("{direction:?} {missing:?}");
                self.follow("gap", &text, actions)
            }
            Event::ClientEnd => self.follow("client end", "", actions),
            Event::OriginEnd => self.follow("origin end", "", actions),
            Event::TargetEnd => self.follow("target end", "", actions),
            Event::Timer => self.follow("timer", "", actions),
            Event::Woken => self.follow("woken", "", actions),
        }
    }

    fn close(&mut self, _session: SessionId) {
        self.notes.lock().expect("no test panics holding it").closed += 1;
    }

    fn exchange_ended(&mut self, _session: SessionId, took: Option<Duration>) {
        let mut notes = self.notes.lock().expect("no test panics holding it");
        notes.took.push(took);
    }

    fn woken(&mut self) -> Option<SessionId> {
        self.notes
            .lock()
            .expect("no test panics holding it")
            .wakes
            .pop()
    }
}

/// What the engine asks for, without its borrow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Connect,
    Send(String),
    Close(Closing),
    Ended(Option<DropReason>),
    Rest,
}

/// Builds a [`Dialogue`].
pub(crate) struct Setup {
    plugin: Scripted,
    config: EngineConfig,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let config = EngineConfig {
            upstream: Upstream::Socket,
            mappings: vec![Mapping {
                origin_address: None,
                origin_port: ORIGIN.port,
                target: TARGET,
            }],
            ..EngineConfig::default()
        };
        let needs = Needs {
            origin: false,
            target: true,
        };
        let plugin = Scripted {
            needs,
            ..Scripted::default()
        };
        Self { plugin, config }
    }

    pub(crate) fn needs(mut self, origin: bool, target: bool) -> Self {
        self.plugin.needs = Needs { origin, target };
        self
    }

    pub(crate) fn config(mut self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        change(&mut self.config);
        self
    }

    pub(crate) fn on(mut self, event: &'static str, rule: Rule) -> Self {
        self.plugin.rules.insert(event, rule);
        self
    }

    /// The client's lines are marked and sent as they are; `.` ends an answer.
    pub(crate) fn marking(self) -> Self {
        self.on("client", |actions, text| {
            for line in text.split_inclusive(' ') {
                actions.begin_exchange();
                actions.send(line.as_bytes());
            }
            Ok(())
        })
        .on("target", |actions, text| {
            text.matches('.').for_each(|_| actions.end_exchange(true));
            Ok(())
        })
    }

    /// The client's words are marked; those with an `x` are left out.
    pub(crate) fn leaving_out(self) -> Self {
        self.marking().on("client", |actions, text| {
            for word in text.split_inclusive(' ') {
                actions.begin_exchange();
                if !word.starts_with('x') {
                    actions.send(word.as_bytes());
                }
            }
            Ok(())
        })
    }

    pub(crate) fn build(self) -> Dialogue {
        let notes = Arc::clone(&self.plugin.notes);
        Dialogue {
            engine: Engine::with_plugins(self.config, 1, Box::new(self.plugin)),
            session: None,
            now: Instant::ZERO,
            client_seq: 0,
            notes,
        }
    }

    /// A client that has connected, and the engine's connection for it.
    pub(crate) fn established(self) -> Dialogue {
        let mut dialogue = self.build();
        dialogue.client(TcpFlags::SYN, 0, "");
        dialogue.client_seq = 1;
        dialogue.connect();
        dialogue.client(TcpFlags::ACK, 1, "");
        dialogue
    }
}

pub(crate) struct Dialogue {
    pub(crate) engine: Engine,
    pub(crate) session: Option<SessionId>,
    pub(crate) now: Instant,
    /// The number of the client's next byte.
    pub(crate) client_seq: u32,
    notes: Arc<Mutex<Notes>>,
}

impl Dialogue {
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("no test panics holding it")
    }

    /// What the plugin has heard since the last time.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.notes().heard)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.engine.ledger()
    }

    /// The engine connects, and is connected.
    pub(crate) fn connect(&mut self) {
        assert_eq!(self.asked(), Asked::Connect);
        self.tell(|session| UpstreamEvent::Connecting {
            session,
            source: SOURCE,
        });
        self.tell(UpstreamEvent::Connected);
    }

    /// A segment of the client; `ack` is how much of the origin it has seen.
    pub(crate) fn client(&mut self, flags: TcpFlags, ack: u32, text: &str) {
        let tuple = FourTuple::new(CLIENT, ORIGIN);
        self.segment(tuple, flags, self.client_seq, ack, text);
        self.client_seq += u32::try_from(text.len()).expect("a short text");
    }

    /// The client says something after having seen so much of the origin's stream.
    pub(crate) fn say(&mut self, seen: u32, text: &str) {
        self.client(TcpFlags::ACK, 1 + seen, text);
    }

    pub(crate) fn client_ends(&mut self, seen: u32) {
        self.client(TcpFlags::ACK | TcpFlags::FIN, 1 + seen, "");
    }

    /// The origin says something from this offset of its stream on.
    pub(crate) fn origin(&mut self, flags: TcpFlags, offset: u32, text: &str) {
        let tuple = FourTuple::new(ORIGIN, CLIENT);
        self.segment(
            tuple,
            flags | TcpFlags::ACK,
            offset.wrapping_add(1),
            1,
            text,
        );
    }

    fn segment(&mut self, tuple: FourTuple, flags: TcpFlags, seq: u32, ack: u32, text: &str) {
        let segment = Segment {
            tuple,
            seq,
            ack,
            flags,
            window: 502,
            hop_limit: 64,
            options: TcpOptions::default(),
            payload: text.as_bytes(),
            payload_len: u32::try_from(text.len()).expect("a short text"),
        };
        self.engine.segment(self.now, &segment);
    }

    pub(crate) fn tell(&mut self, event: impl FnOnce(SessionId) -> UpstreamEvent) {
        let session = self.session.expect("a session has asked for something");
        self.engine.upstream_event(self.now, event(session));
    }

    /// The target has acknowledged all that the kernel has.
    pub(crate) fn acknowledge(&mut self) {
        self.tell(|session| UpstreamEvent::Acknowledged {
            session,
            unacknowledged: 0,
        });
    }

    pub(crate) fn target(&mut self, text: &str) {
        let session = self.session.expect("a session has asked for something");
        self.engine
            .received(self.now, session, text.as_bytes(), true);
    }

    pub(crate) fn at_ms(&mut self, ms: u64) {
        self.now = Instant::from_micros(ms * 1000);
        self.engine.timeout(self.now);
    }

    /// What the engine wants next. What it sends is taken whole.
    pub(crate) fn asked(&mut self) -> Asked {
        let asked = match self.engine.poll_output(self.now) {
            Output::Connect { session, .. } => {
                self.session = Some(session);
                Asked::Connect
            }
            Output::Send { session, bytes } => {
                assert_eq!(Some(session), self.session);
                Asked::Send(String::from_utf8(bytes.to_vec()).expect("the tests speak text"))
            }
            Output::Close { how, .. } => Asked::Close(how),
            Output::Record(record) => Asked::Ended(record.reason),
            Output::Timeout(_) => Asked::Rest,
            output => panic!("sockets need no such thing: {output:?}"),
        };
        if let Asked::Send(text) = &asked {
            let bytes = text.len();
            self.tell(|session| UpstreamEvent::Taken { session, bytes });
        }
        self.check();
        asked
    }

    /// When the engine wants to be called again, after all that it wants now.
    pub(crate) fn due(&mut self) -> Option<Instant> {
        loop {
            if let Output::Timeout(at) = self.engine.poll_output(self.now) {
                return at;
            }
        }
    }

    /// All that is sent until the engine rests.
    pub(crate) fn sent(&mut self) -> String {
        let mut all = String::new();
        loop {
            match self.asked() {
                Asked::Send(text) => all.push_str(&text),
                Asked::Rest => return all,
                other => panic!("{other:?} instead of bytes, after {all:?}"),
            }
        }
    }

    /// The ledger agrees with the sessions.
    fn check(&self) {
        let (ledger, held) = (self.engine.ledger(), self.engine.in_flight());
        assert_eq!(ledger.bytes.in_flight(), held.bytes, "bytes");
        assert_eq!(ledger.requests.in_flight(), held.requests, "requests");
        assert_eq!(ledger.bytes.overdrawn() + ledger.requests.overdrawn(), 0);
    }
}
