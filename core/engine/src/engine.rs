//! The engine's face: inputs, the one output call, and the end.

use tcpcopy_packet::Segment;

use crate::capture::Capture;
use crate::config::{EngineConfig, Tuning};
use crate::delay::DelayHistogram;
use crate::ledger::Ledger;
use crate::output::{CaptureEvent, Gauges, InFlight, Output, SessionId, ShutDown, UpstreamEvent};
use crate::plugin::{Installed, Plugins};
use crate::replay::Replay;
use crate::session::Session;
use crate::socket::SocketEvent;
use crate::time::Instant;

/// The replay engine of one shard: captured segments in, packets for the target out.
///
/// It has no socket, clock or thread. Each input carries the present time, which never goes back;
/// after each input, [`poll_output`](Self::poll_output) is drained until it answers
/// [`Output::Timeout`]. The same inputs give the same outputs, always.
#[derive(Debug)]
pub struct Engine {
    capture: Capture,
    replay: Replay,
    shut_down: Option<ShutDown>,
}

impl Engine {
    /// An engine with nothing in it. `seed` makes its initial sequence numbers and hash tables
    /// unpredictable to others.
    #[must_use]
    pub fn new(config: EngineConfig, seed: u64) -> Self {
        Self::build(config, seed, None)
    }

    /// An engine whose sessions have `plugins` between client and target, where those want it.
    #[must_use]
    pub fn with_plugins(config: EngineConfig, seed: u64, plugins: Box<dyn Plugins>) -> Self {
        let ports = config.mappings.iter().map(|mapping| mapping.origin_port);
        let installed = Installed::new(plugins, ports, seed);
        Self::build(config, seed, Some(installed))
    }

    fn build(config: EngineConfig, seed: u64, plugins: Option<Installed>) -> Self {
        let capture = Capture::new(&config, seed);
        Self {
            capture,
            replay: Replay::new(config, plugins, seed),
            shut_down: None,
        }
    }

    /// A captured segment, of a client or of an origin.
    pub fn segment(&mut self, now: Instant, segment: &Segment<'_>) {
        if self.shut_down.is_none() {
            self.capture.segment(now, segment, &mut self.replay);
            self.settle_news(now);
        }
    }

    /// Whether a captured SYN is of one of this engine's own connections to the target. Where
    /// several engines hear the same capture, one asks all of them, since each knows only its own.
    pub fn is_own(&mut self, now: Instant, segment: &Segment<'_>) -> bool {
        self.replay.own.includes(now, segment)
    }

    /// A captured SYN that is [another engine's own](Self::is_own): its connection is left alone.
    pub fn leave_alone(&mut self, now: Instant, segment: &Segment<'_>) {
        if self.shut_down.is_none() {
            self.capture.leave_alone(now, segment, &mut self.replay);
            self.settle_news(now);
        }
    }

    /// Something about the capture that is not a segment.
    pub fn capture_event(&mut self, event: CaptureEvent) {
        let counters = &mut self.replay.ledger.capture;
        match event {
            CaptureEvent::RingDropped(count) => counters.ring_dropped += count,
            CaptureEvent::Malformed => counters.malformed += 1,
            CaptureEvent::Fragment => counters.fragments += 1,
            CaptureEvent::NotTcp => counters.not_tcp += 1,
        }
        if !matches!(event, CaptureEvent::RingDropped(_)) {
            counters.packets += 1;
        }
    }

    /// What intercept reports: a segment of the target for a session.
    pub fn reply(&mut self, now: Instant, session: SessionId, segment: &Segment<'_>) {
        self.replay.reply(now, session, segment);
        self.settle_news(now);
    }

    /// Bytes that the target has sent to a session's kernel connection. `is_last` says that no more
    /// wait in the kernel: the target has paused, which is how its answers end.
    pub fn received(&mut self, now: Instant, session: SessionId, bytes: &[u8], is_last: bool) {
        let event = SocketEvent::Received {
            bytes: bytes.len() as u64,
            is_last,
        };
        self.replay.socket_event(now, session, event, bytes);
        self.settle_news(now);
    }

    /// Something happened on the way to the target.
    pub fn upstream_event(&mut self, now: Instant, event: UpstreamEvent) {
        self.replay.upstream_event(now, event);
        self.settle_news(now);
    }

    /// Time has passed.
    pub fn timeout(&mut self, now: Instant) {
        self.capture.timeout(now, &mut self.replay);
        self.replay.timeout(now);
        self.settle_news(now);
        if let Some(ShutDown::Drain { deadline }) = self.shut_down
            && deadline <= now
        {
            self.shut_down(now, ShutDown::Now);
        }
    }

    /// Shapes the load otherwise from now on. What was begun goes on as it is.
    pub fn tune(&mut self, now: Instant, tuning: Tuning) {
        self.capture.tune(now, tuning);
    }

    /// A capture file has come to its end and begins again: what follows are other connections. Those
    /// still open end as if their clients closed after the answer to their last request.
    pub fn end_round(&mut self, now: Instant) {
        self.capture.end_round(now, &mut self.replay);
        self.settle_news(now);
    }

    /// What to do next. Call it until it answers [`Output::Timeout`].
    pub fn poll_output(&mut self, now: Instant) -> Output<'_> {
        if self.replay.prepare_output(now) {
            return self.replay.output();
        }
        self.settle_news(now);
        // What has become known last may have given a session something to say.
        if self.replay.prepare_output(now) {
            return self.replay.output();
        }
        Output::Timeout(self.next_timeout())
    }

    fn next_timeout(&self) -> Option<Instant> {
        let deadline = match self.shut_down {
            Some(ShutDown::Drain { deadline }) => Some(deadline),
            _ => None,
        };
        [
            self.capture.next_timeout(),
            self.replay.next_timeout(),
            deadline,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes no more captured segments and ends every session; [`is_finished`](Self::is_finished)
    /// says when that is done.
    pub fn shut_down(&mut self, now: Instant, how: ShutDown) {
        self.capture.close(&mut self.replay);
        self.shut_down = Some(how);
        match how {
            ShutDown::Drain { .. } => self.replay.finish_all(now),
            ShutDown::Now => self.replay.end_all(now, crate::DropReason::ShutDown),
        }
        self.settle_news(now);
    }

    /// Whether everything is over after a [`shut_down`](Self::shut_down).
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shut_down.is_some() && self.replay.session_count() == 0
    }

    /// The account so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.replay.ledger
    }

    /// For each request that has left, how long that took: from its first byte in order to its first
    /// byte towards the target. Waiting for an answer, for the connection, and a latency asked for
    /// are in it.
    #[must_use]
    pub fn send_delay(&self) -> &DelayHistogram {
        &self.replay.send_delay
    }

    /// How much the engine holds at the moment.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.capture.connection_count() as u64,
            sessions: self.replay.session_count() as u64,
            buffered_bytes: self.replay.buffered_bytes() + self.capture.held_bytes(),
            held_bytes: self.capture.held_bytes(),
            hurried_sessions: self.replay.hurried_sessions(),
        }
    }

    /// What is neither delivered nor dropped, counted session by session: the ledger must say the
    /// same. Takes time in proportion to the sessions.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        let sum = |count: fn(&Session) -> u64| self.replay.sessions().map(count).sum();
        InFlight {
            connections: sum(|session| u64::from(session.owes_connection))
                + self.capture.owed_connections(),
            requests: sum(Session::pending_requests),
            bytes: sum(|session| {
                if session.is_settled {
                    0
                } else {
                    session.buffered()
                }
            }),
        }
    }

    fn settle_news(&mut self, now: Instant) {
        self.replay.wake(now);
        while let Some(news) = self.replay.news.pop_front() {
            self.capture.hear(news, &mut self.replay);
        }
    }
}
