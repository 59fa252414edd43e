//! One session: the replayed twin of a captured connection, or of one copy of it.
//!
//! A session joins the gate (what may leave) with the channel (how it reaches the target) and keeps
//! the account of both. What only one kind of channel needs is in [`raw`] and [`socket`]; what a
//! plugin between client and target needs is in [`plugged`].

mod carry;
mod intake;
mod past;
mod plugged;
mod raw;
mod socket;

use bytes::Bytes;
use tcpcopy_packet::{Endpoint, FourTuple};

use crate::channel::{Channel, Heard, Request};
use crate::config::EngineConfig;
use crate::delay::DelayHistogram;
use crate::gate::{Gate, StreamEnd, View};
use crate::latency::Distance;
use crate::ledger::{DropReason, Ledger};
use crate::mirror::{Expired, SynOffer};
use crate::plugin::{Event, Installed};
use crate::time::Instant;
use crate::timer::TimerEntries;
use plugged::Plugged;
pub(crate) use plugged::open_plugin;

/// How long a session whose client never answers the origin's SYN-ACK is kept: servers give up
/// after 63 s.
pub(crate) const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(64);

/// How long a session waits in line for a source port or a file descriptor: longer than TIME_WAIT
/// keeps a port (60 s on Linux).
const SHORTAGE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(65);

/// How long a session waits for intercept to confirm its registration.
const REGISTRATION_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// Which slot of which connection a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    /// The connection's place in the table, and its serial number there.
    pub(crate) connection: u32,
    pub(crate) serial: u32,
    pub(crate) slot: u16,
}

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Both sides have closed.
    Done,
    /// Something was in the way; what is not delivered is lost for this reason.
    Failed(DropReason),
}

/// What sessions ask of the engine, as sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Memory that captured bytes take.
    pub(crate) memory_bytes: u64,
    /// Sessions with captured bytes that wait for the target's answer or acknowledgement.
    pub(crate) hurried_sessions: u64,
}

impl Load {
    /// Takes one session's change into the sum.
    pub(crate) fn replace(&mut self, before: Self, after: Self) {
        self.memory_bytes = self.memory_bytes + after.memory_bytes - before.memory_bytes;
        self.hurried_sessions =
            self.hurried_sessions + after.hurried_sessions - before.hurried_sessions;
    }
}

/// What a session may use of its engine.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) send_delay: &'a mut DelayHistogram,
    pub(crate) plugins: Option<&'a mut Installed>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) home: Option<Home>,
    /// The captured client; the source that stands for it is the channel's.
    pub(crate) client: Endpoint,
    /// The server that the client spoke to.
    pub(crate) origin: Endpoint,
    pub(crate) copy: u16,
    /// Whether the connection's account still waits for this session to be established.
    pub(crate) owes_connection: bool,
    /// Whether the session waits in the engine's list of those with something to send.
    pub(crate) is_queued: bool,
    /// Its entries in the timer queue.
    pub(crate) entries: TimerEntries,
    /// intercept knows the session at the moment, so that no answer can get past it; a kernel
    /// connection needs no intercept.
    may_speak: bool,
    /// The account is closed; only the target's retransmissions are answered.
    pub(crate) is_settled: bool,
    channel: Channel,
    gate: Gate,
    plugin: Option<Box<Plugged>>,
    /// How much further away than the captured client it seems to be.
    distance: Distance,
    /// Origin bytes that the client has seen since this session began.
    seen_total: u64,
    last_activity_at: Instant,
    /// Since when the target has owed us a word.
    expecting_since: Instant,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        client: Endpoint,
        origin: Endpoint,
        copy: u16,
        channel: Channel,
        distance: Distance,
        config: &EngineConfig,
    ) -> Self {
        Self {
            home: None,
            client,
            origin,
            copy,
            owes_connection: false,
            is_queued: false,
            entries: TimerEntries::default(),
            may_speak: matches!(channel, Channel::Socket(_)),
            is_settled: false,
            channel,
            gate: Gate::new(config.wait_for_answers),
            plugin: None,
            distance,
            seen_total: 0,
            last_activity_at: now,
            expecting_since: now,
        }
    }

    pub(crate) fn tuple(&self) -> FourTuple {
        self.channel.tuple()
    }

    pub(crate) fn offer(&self) -> SynOffer {
        self.channel.offer()
    }

    /// Bytes captured, delivered and received.
    pub(crate) fn byte_counts(&self) -> (u64, u64, u64) {
        let received = self.channel.received();
        match &self.plugin {
            Some(plugged) => (plugged.intake.taken(), plugged.intake.delivered(), received),
            None => (self.channel.end(), self.channel.delivered(), received),
        }
    }

    /// The round-trip time it imitates.
    pub(crate) fn rtt(&self) -> std::time::Duration {
        self.channel.rtt()
    }

    /// Whether an answer of the target is still to come, as far as one can tell.
    pub(crate) fn expects_answer(&self) -> bool {
        self.gate.expects_answer()
    }

    /// Captured bytes that the target has not acknowledged.
    pub(crate) fn buffered(&self) -> u64 {
        match &self.plugin {
            Some(plugged) => plugged.intake.pending(),
            None => self.channel.end() - self.channel.delivered(),
        }
    }

    /// What it adds to the engine's load.
    pub(crate) fn load(&self) -> Load {
        if self.is_settled {
            return Load::default();
        }
        let has_unsent = self.channel.sent() < self.channel.end();
        let past = (self.plugin.as_ref()).map_or(0, |plugged| plugged.past.memory_bytes());
        Load {
            memory_bytes: self.channel.memory_bytes() + past,
            hurried_sessions: u64::from(has_unsent),
        }
    }

    /// Requests neither delivered nor dropped yet.
    pub(crate) fn pending_requests(&self) -> u64 {
        if self.is_settled {
            0
        } else {
            self.gate.pending() + self.plugin.as_ref().map_or(0, |plugged| plugged.credit)
        }
    }

    pub(crate) fn has_reset_to_send(&self) -> bool {
        self.channel.has_reset_to_send()
    }

    pub(crate) fn is_lingering(&self) -> bool {
        self.channel.is_lingering()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Whether the target has closed its side, so that a new request needs a new session.
    pub(crate) fn target_finished(&self) -> bool {
        self.channel.target_finished() || self.channel.is_lingering()
    }

    pub(crate) fn client_established(&mut self, rtt: std::time::Duration) {
        self.channel.client_established(rtt);
    }

    /// A request begins with the client's next byte, as far as TCP can tell; the client had seen so
    /// much of the origin's answers since the one before.
    pub(crate) fn begin(&mut self, now: Instant, seen: u64, ledger: &mut Ledger) {
        self.seen_total += seen;
        if self.has_plugin() {
            self.note_boundary(now, seen);
        } else {
            self.begin_exchange(now, seen, ledger);
        }
    }

    /// More bytes of the client.
    pub(crate) fn push(&mut self, now: Instant, chunk: Bytes, cx: &mut Context<'_>) {
        cx.ledger.bytes.capture(chunk.len() as u64);
        self.take_in(now, chunk, cx);
    }

    /// Bytes of the client that are in the account.
    fn take_in(&mut self, now: Instant, chunk: Bytes, cx: &mut Context<'_>) {
        self.last_activity_at = now;
        match self.plugin {
            Some(_) => self.push_plugged(now, chunk, cx),
            None => self.channel.push(chunk),
        }
        self.pass(now, cx.ledger);
    }

    /// The client has closed or aborted, having seen so much since its last request.
    pub(crate) fn end_stream(
        &mut self,
        now: Instant,
        abort: bool,
        seen: u64,
        cx: &mut Context<'_>,
    ) {
        if self.gate.has_ended() {
            return;
        }
        let seen = self.end_plugged(now, seen, cx);
        self.seen_total += seen;
        self.gate.end(StreamEnd {
            abort,
            seen,
            seen_total: self.seen_total,
            arrival: self.distance.arrival(now),
        });
        self.last_activity_at = now;
        if !abort {
            self.channel.finish();
        }
        self.pass(now, cx.ledger);
    }

    /// Acts on whatever time has made due.
    pub(crate) fn timeout(&mut self, now: Instant, cx: &mut Context<'_>) -> Option<Fate> {
        let upstream = &mut cx.ledger.upstream;
        let expired = match self.may_speak || self.is_lingering() {
            true => self.channel.timeout(now),
            false => Expired::Nothing,
        };
        match expired {
            Expired::Ended(ending) => return Some(ending.into()),
            Expired::Retransmission => upstream.retransmission_timeouts += 1,
            Expired::WindowProbe => upstream.zero_window_probes += 1,
            Expired::TailProbe => upstream.tail_loss_probes += 1,
            Expired::Nothing => {}
        }
        if self.is_settled {
            return None;
        }
        self.plugin_timeout(now, cx);
        self.pass(now, cx.ledger);
        let (due, reason) = self.patience(cx.config);
        (due <= now).then_some(match reason {
            DropReason::IdleTimeout if self.buffered() == 0 => Fate::Done,
            reason => Fate::Failed(reason),
        })
    }

    /// How long the session lives on if nothing happens, and what that is called.
    fn patience(&self, config: &EngineConfig) -> (Instant, DropReason) {
        let since = self.expecting_since;
        if let Some(patience) = self.patience_before_speaking(config) {
            patience
        } else if self.channel.is_waiting_for_target() {
            let reason = self.channel.silence_reason();
            (since + config.session_timeout, reason)
        } else if !self.channel.client_is_established() {
            let since = self.last_activity_at;
            (
                since + HANDSHAKE_TIMEOUT.min(config.idle_timeout),
                DropReason::IdleTimeout,
            )
        } else if let Some(since) = self.gate.held_since() {
            (since + config.session_timeout, DropReason::PluginHeld)
        } else if let Some(since) = self.gate.waiting_since() {
            // Keep-alive probes are no answer.
            (since + config.session_timeout, DropReason::GateTimeout)
        } else {
            let since = self.gate.leaves_at().unwrap_or(Instant::ZERO);
            (
                self.last_activity_at.max(since) + config.idle_timeout,
                DropReason::IdleTimeout,
            )
        }
    }

    /// The same for a session that can't reach the target at the moment.
    fn patience_before_speaking(&self, config: &EngineConfig) -> Option<(Instant, DropReason)> {
        let since = self.expecting_since;
        match &self.channel {
            Channel::Raw(mirror) if mirror.is_registering() => {
                Some((since + REGISTRATION_TIMEOUT, DropReason::TunnelDown))
            }
            Channel::Raw(_) if !self.may_speak => {
                Some((since + config.session_timeout, DropReason::TunnelDown))
            }
            Channel::Raw(_) => None,
            Channel::Socket(socket) => socket.shortage().map(|(since, reason)| {
                let patience = SHORTAGE_PATIENCE.min(config.session_timeout);
                (since + patience, reason)
            }),
        }
    }

    /// When [`Self::timeout`] or [`Self::poll`] should be called again.
    pub(crate) fn deadline(&self, config: &EngineConfig) -> Option<Instant> {
        let channel = match self.may_speak {
            true => self.channel.deadline(),
            false => self.channel.lingers_until(),
        };
        if self.is_settled {
            return channel;
        }
        let patience = self.patience(config).0;
        let plugin = self.plugin.as_ref().and_then(|plugged| plugged.deadline());
        [channel, self.gate.deadline(), plugin, Some(patience)]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing to do, if one may be done; a packet is written into `packet`.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        packet: &mut Vec<u8>,
        ledger: &mut Ledger,
    ) -> Option<Request> {
        match &self.channel {
            Channel::Raw(_) => self.poll_packet(now, packet, ledger),
            Channel::Socket(_) => self.poll_socket(now, ledger),
        }
    }

    /// Accounts for what was heard of the target, and lets plugin and gate look. `payload` is what
    /// has come of the target's bytes, where a plugin wants them.
    fn hear(&mut self, now: Instant, heard: &Heard, payload: &[u8], cx: &mut Context<'_>) {
        if self.is_settled {
            return;
        }
        let delivered = match &mut self.plugin {
            Some(plugged) => plugged.intake.deliver(self.channel.delivered()),
            None => heard.delivered,
        };
        cx.ledger.bytes.deliver(delivered);
        if heard.established && std::mem::take(&mut self.owes_connection) {
            cx.ledger.connections.deliver(1);
        }
        if heard.received > 0 || heard.pushed || heard.target_finished {
            self.gate.reply(now, heard.pushed);
        }
        if !payload.is_empty() {
            self.call(now, Event::Target(payload), cx);
        }
        if heard.target_finished {
            self.call(now, Event::TargetEnd, cx);
        }
        self.pass(now, cx.ledger);
    }

    /// Records how long the requests were held of which a byte has left.
    pub(crate) fn note_departed(&mut self, now: Instant, delays: &mut DelayHistogram) {
        self.gate.note_departed(now, self.channel.sent(), delays);
    }

    /// Lets the gate look, and does what it decides.
    fn pass(&mut self, now: Instant, ledger: &mut Ledger) {
        let passage = self.gate.pass(now, &self.view());
        ledger.requests.deliver(passage.delivered);
        ledger.answered_requests += passage.answered;
        if self.gate.abort_is_due() {
            self.channel.abort(now);
        }
        if let Some(plugged) = &mut self.plugin {
            plugged.past.forget_sent(self.channel.sent());
        }
    }

    fn view(&self) -> View {
        View {
            sent: self.channel.sent(),
            delivered: self.channel.delivered(),
            end: self.channel.end(),
            received: self.channel.received(),
            finished: self.channel.target_finished(),
        }
    }

    /// Sends a RST and nothing else any more.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.channel.abort(now);
    }

    /// Closes the session's account: what is not delivered is dropped for `reason`. Returns how
    /// many bytes that were.
    pub(crate) fn settle(&mut self, reason: DropReason, ledger: &mut Ledger) -> u64 {
        if std::mem::replace(&mut self.is_settled, true) {
            return 0;
        }
        self.settle_plugged(reason, ledger);
        let (delivered, dropped) = self.gate.close(&self.view());
        ledger.requests.deliver(delivered);
        ledger.requests.drop(reason, dropped);
        let lost = self.buffered();
        ledger.bytes.drop(reason, lost);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Connection;

    #[test]
    fn a_million_idle_sessions_fit_in_two_gigabytes() {
        // What the tables hold for each, with hash table entries, timers and the allocator's
        // tuple taken as 200 bytes more.
        let each = size_of::<Session>() + size_of::<Connection>() + 200;
        assert!(
            each < 1400,
            "{} + {}",
            size_of::<Session>(),
            size_of::<Connection>()
        );
    }
}
