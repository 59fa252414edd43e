//! The replaying half of the engine: all sessions, what they have to send, and when.

mod ends;
mod line;
mod plugins;
mod upstream;

use std::collections::VecDeque;

use bytes::Bytes;
use slab::Slab;
use tcpcopy_packet::{Endpoint, FourTuple};

use crate::allocator::{AllocateError, TupleAllocator};
use crate::channel::{Channel, Request};
use crate::config::{EngineConfig, Upstream};
use crate::delay::DelayHistogram;
use crate::latency::Distance;
use crate::ledger::{DropReason, Ledger};
use crate::mirror::{Mirror, SynOffer};
use crate::output::{Closing, Output, Registration, SessionId, SessionRecord};
use crate::own::OwnConnections;
use crate::plugin::Installed;
use crate::session::{Context, Home, Load, Session};
use crate::socket::Socket;
use crate::time::Instant;
use crate::timer::TimerQueue;
use line::Lines;

/// What a session costs of the memory budget beside its captured bytes: its state, its timers, its
/// tuple, and its place in the tables.
const SESSION_COST_BYTES: u64 = 1024;

/// Names a session inside the engine.
pub(crate) type SessionKey = SessionId;

/// What a connection has to learn about one of its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HomeNews {
    /// The session is over; the next request boundary opens another.
    Ended {
        home: Home,
        session: SessionKey,
        reason: DropReason,
        owes_connection: bool,
    },
    /// Another session goes on in its place.
    Moved { home: Home, session: SessionKey },
}

/// Everything a new session has to be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) client: Endpoint,
    pub(crate) origin: Endpoint,
    pub(crate) target: Endpoint,
    pub(crate) copy: u16,
    pub(crate) offer: SynOffer,
    pub(crate) home: Option<Home>,
    pub(crate) owes_connection: bool,
    /// Whether the first byte of the session is the first that the client said.
    pub(crate) start_seen: bool,
}

#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) config: EngineConfig,
    pub(crate) ledger: Ledger,
    pub(crate) news: VecDeque<HomeNews>,
    /// How long requests were held before they left.
    pub(crate) send_delay: DelayHistogram,
    /// Our own connections, should the capture see them.
    pub(crate) own: OwnConnections,
    sessions: Slab<(u32, Session)>,
    next_serial: u32,
    allocator: TupleAllocator,
    seed: u64,
    timers: TimerQueue<SessionId>,
    /// Sessions that may have something to send.
    ready: VecDeque<SessionId>,
    /// Sessions that can't connect for want of a port or a descriptor.
    lines: Lines,
    notices: VecDeque<Notice>,
    /// What the session at the front of `ready` wants, and the packet if it is one.
    request: Request,
    packet: Vec<u8>,
    load: Load,
    plugins: Option<Installed>,
    /// More sessions may be waiting to be woken, since then.
    woken_since: Option<Instant>,
    tunnel_is_up: bool,
    /// Lingering sessions end as soon as they have nothing to send.
    is_closing: bool,
}

/// Outputs that don't depend on a session any more.
#[derive(Debug)]
enum Notice {
    Register(Registration),
    Unregister(SessionId, FourTuple),
    Close(SessionId, Closing),
    Record(SessionRecord),
}

impl Replay {
    pub(crate) fn new(config: EngineConfig, plugins: Option<Installed>, seed: u64) -> Self {
        let allocator = TupleAllocator::new(
            config.client_pool.clone(),
            config.localhost_replacement,
            config.port_shift,
            config.ownership,
            seed,
        );
        Self {
            own: OwnConnections::new(seed),
            config,
            ledger: Ledger::default(),
            news: VecDeque::new(),
            send_delay: DelayHistogram::new(),
            sessions: Slab::new(),
            next_serial: 0,
            allocator,
            seed,
            timers: TimerQueue::new(),
            ready: VecDeque::new(),
            lines: Lines::default(),
            notices: VecDeque::new(),
            request: Request::Packet,
            packet: Vec::with_capacity(2048),
            load: Load::default(),
            plugins,
            woken_since: None,
            tunnel_is_up: false,
            is_closing: false,
        }
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|(_, (_, session))| session)
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn hurried_sessions(&self) -> u64 {
        self.load.hurried_sessions
    }

    pub(crate) fn buffered_bytes(&self) -> u64 {
        self.load.memory_bytes
    }

    /// What sessions take of the memory budget.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.load.memory_bytes + self.sessions.len() as u64 * SESSION_COST_BYTES
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let times = [self.timers.next(), self.lines.next_at(), self.woken_since];
        times.into_iter().flatten().min()
    }

    fn session_mut(&mut self, key: SessionKey) -> Option<&mut Session> {
        match self.sessions.get_mut(key.place() as usize) {
            Some((serial, session)) if *serial == key.serial() => Some(session),
            _ => None,
        }
    }

    /// Opens a session towards the target; its SYN leaves at once from a socket, and otherwise once
    /// intercept has confirmed it.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        opening: Opening,
    ) -> Result<SessionKey, DropReason> {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let place = u32::try_from(self.sessions.vacant_key()).expect("fewer than 2^32 sessions");
        let key = SessionId::new(serial, place);
        let plugin = self.open_plugin(now, key, &opening)?;
        let channel = match self.channel_for(now, &opening) {
            Ok(channel) => channel,
            Err(reason) => {
                self.abandon_plugin(key, plugin);
                return Err(reason);
            }
        };
        let Opening {
            client,
            origin,
            target,
            copy,
            home,
            owes_connection,
            ..
        } = opening;
        let distance = Distance::new(self.config.latency, self.seed, serial);
        let mut session = Session::new(now, client, origin, copy, channel, distance, &self.config);
        session.home = home;
        session.owes_connection = owes_connection;
        self.sessions.insert((serial, session));
        if let Some(needs) = plugin {
            self.touch(key, |session, cx| session.plug(now, key, needs, cx));
        }
        match self.config.upstream {
            Upstream::Raw if self.tunnel_is_up => self.register(key),
            Upstream::Raw => {}
            Upstream::Socket => self.connect(now, key, target),
        }
        self.reschedule(key);
        Ok(key)
    }

    fn channel_for(&mut self, now: Instant, opening: &Opening) -> Result<Channel, DropReason> {
        let Opening { target, offer, .. } = *opening;
        if self.config.upstream == Upstream::Socket {
            return Ok(Channel::Socket(Socket::new(target, offer)));
        }
        let tuple = self
            .allocator
            .allocate(opening.client, target, opening.copy)
            .map_err(|error| match error {
                AllocateError::NoTupleLeft => DropReason::NoTupleLeft,
                AllocateError::AddressFamily => DropReason::AddressFamily,
            })?;
        let mirror = Mirror::new(now, tuple, offer, self.config.mtu, self.seed);
        (self.own).mirror_opened(now, tuple.source, mirror.iss().value());
        Ok(Channel::Raw(mirror))
    }

    /// A new exchange begins in a session.
    pub(crate) fn begin(&mut self, now: Instant, key: SessionKey, seen: u64) {
        self.touch(key, |session, cx| session.begin(now, seen, cx.ledger));
    }

    /// Client bytes for a session. Returns false when the session is gone, or ended here for want
    /// of memory; the bytes are not in the account then.
    pub(crate) fn push(&mut self, now: Instant, key: SessionKey, chunk: Bytes) -> bool {
        if self.memory_bytes() + chunk.len() as u64 > self.config.memory_budget_bytes {
            self.fail(now, key, DropReason::MemoryBudget);
            return false;
        }
        self.act(now, key, |session, cx| session.push(now, chunk, cx))
    }

    /// The client has answered the origin's SYN-ACK.
    pub(crate) fn client_established(&mut self, key: SessionKey, rtt: std::time::Duration) {
        self.touch(key, |session, _| session.client_established(rtt));
    }

    /// The client advertises another window.
    pub(crate) fn follow_window(&mut self, key: SessionKey, window: u16) {
        if let Some(session) = self.session_mut(key) {
            session.follow_window(window);
        }
    }

    /// The client has closed (`abort`: reset) its connection.
    pub(crate) fn end_stream(&mut self, now: Instant, key: SessionKey, abort: bool, seen: u64) {
        self.act(now, key, |session, cx| {
            session.end_stream(now, abort, seen, cx);
        });
    }

    /// The captured stream has a permanent hole here.
    pub(crate) fn cut(&mut self, now: Instant, key: SessionKey, reason: DropReason) {
        self.act(now, key, |session, cx| {
            session.home = None;
            session.cut(now, reason, cx);
        });
    }

    /// The session belongs to no connection any more; it delivers what it has and closes.
    pub(crate) fn detach(&mut self, now: Instant, key: SessionKey) {
        self.act(now, key, |session, cx| {
            session.home = None;
            session.end_stream(now, true, 0, cx);
        });
        // A client that reuses its port is done with the old connection: so is the tuple.
        if self
            .session_mut(key)
            .is_some_and(|session| session.is_lingering())
        {
            self.remove(key, DropReason::PortReused);
        }
    }

    /// Closes a session towards the target, and leaves it to itself.
    pub(crate) fn finish(&mut self, now: Instant, key: SessionKey) {
        self.act(now, key, |session, cx| {
            session.home = None;
            session.end_stream(now, false, 0, cx);
        });
    }

    /// The capture ends here: the session closes once the last request is answered, and is left to
    /// itself.
    pub(crate) fn finish_answered(&mut self, now: Instant, key: SessionKey) {
        self.act(now, key, |session, cx| {
            session.home = None;
            let seen = u64::from(session.expects_answer());
            session.end_stream(now, false, seen, cx);
        });
    }

    /// Whether the session's account is closed, or the session gone.
    pub(crate) fn is_settled(&mut self, key: SessionKey) -> bool {
        self.session_mut(key)
            .is_none_or(|session| session.is_settled)
    }

    /// Whether the target has closed, so that the next request needs another session.
    pub(crate) fn target_finished(&mut self, key: SessionKey) -> bool {
        self.session_mut(key)
            .is_none_or(|session| session.target_finished())
    }

    /// Ends every session: RSTs leave, nothing is waited for.
    pub(crate) fn end_all(&mut self, now: Instant, reason: DropReason) {
        self.is_closing = true;
        let keys: Vec<SessionKey> = self.keys().collect();
        for key in keys {
            self.fail(now, key, reason);
            self.enqueue(key);
        }
    }

    fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.sessions
            .iter()
            .map(|(place, (serial, _))| SessionId::new(*serial, place as u32))
    }

    /// Sessions whose connection is still under way end like a client that closes.
    pub(crate) fn finish_all(&mut self, now: Instant) {
        let keys: Vec<SessionKey> = self.keys().collect();
        for key in keys {
            self.act(now, key, |session, cx| {
                let seen = u64::from(session.expects_answer());
                session.end_stream(now, false, seen, cx);
            });
        }
    }

    pub(crate) fn timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.pop_due_entry(now) {
            let mut fate = None;
            if !self
                .session_mut(key)
                .is_some_and(|session| session.entries.pop(at))
            {
                continue;
            }
            self.act(now, key, |session, cx| fate = session.timeout(now, cx));
            self.apply(now, key, fate);
        }
    }

    /// Looks for the next thing to do; [`output`](Self::output) has it then. False when there is
    /// nothing before the next input or timeout.
    pub(crate) fn prepare_output(&mut self, now: Instant) -> bool {
        loop {
            if !self.notices.is_empty() {
                return true;
            }
            let Some(&key) = self.ready.front() else {
                if self.call_from_line(now) {
                    continue;
                }
                return false;
            };
            if let Some((serial, session)) = self.sessions.get_mut(key.place() as usize)
                && *serial == key.serial()
            {
                let before = session.load();
                let request = session.poll(now, &mut self.packet, &mut self.ledger);
                self.load.replace(before, session.load());
                if let Some(request) = request {
                    session.note_departed(now, &mut self.send_delay);
                    self.request = request;
                    return true;
                }
                session.is_queued = false;
            }
            self.ready.pop_front();
            self.after_transmit(key);
        }
    }

    /// What [`prepare_output`](Self::prepare_output) found.
    pub(crate) fn output(&mut self) -> Output<'_> {
        match self.notices.pop_front() {
            None if self.request == Request::Packet => Output::Packet(&self.packet),
            None => self.socket_output(),
            Some(Notice::Register(registration)) => Output::Register(registration),
            Some(Notice::Unregister(session, tuple)) => Output::Unregister { session, tuple },
            Some(Notice::Close(session, how)) => Output::Close { session, how },
            Some(Notice::Record(record)) => Output::Record(record),
        }
    }

    fn after_transmit(&mut self, key: SessionKey) {
        let closing = self.is_closing;
        match self.session_mut(key) {
            Some(session) if closing && session.is_lingering() => {
                self.remove(key, DropReason::ShutDown);
            }
            // Aborted before its SYN had left, or a second time: no timer will fire.
            Some(session) if session.is_closed() => self.remove(key, DropReason::ClientReset),
            Some(session) => {
                if session.is_lingering() && !session.is_settled {
                    // The account needs nothing more from the target.
                    self.settle(key, DropReason::ClientReset);
                }
                self.reschedule(key);
            }
            None => {}
        }
    }

    /// Runs `action` on a session and keeps the engine's sums in step. False when it is gone.
    fn touch(
        &mut self,
        key: SessionKey,
        action: impl FnOnce(&mut Session, &mut Context<'_>),
    ) -> bool {
        let Some((serial, session)) = self.sessions.get_mut(key.place() as usize) else {
            return false;
        };
        if *serial != key.serial() {
            return false;
        }
        let before = session.load();
        action(
            session,
            &mut Context {
                config: &self.config,
                ledger: &mut self.ledger,
                send_delay: &mut self.send_delay,
                plugins: self.plugins.as_mut(),
            },
        );
        self.load.replace(before, session.load());
        if !std::mem::replace(&mut session.is_queued, true) {
            self.ready.push_back(key);
        }
        true
    }

    fn enqueue(&mut self, key: SessionKey) {
        self.touch(key, |_, _| {});
    }

    fn reschedule(&mut self, key: SessionKey) {
        let config = &self.config;
        let Some((_, session)) = self.sessions.get_mut(key.place() as usize) else {
            return;
        };
        if let Some(at) = session.deadline(config)
            && session.entries.push(at)
        {
            self.timers.schedule(key, at);
        }
    }
}
