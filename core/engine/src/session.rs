//! One session: the replayed twin of a captured connection, or of one copy of it.
//!
//! A session joins the gate (what may leave) with the mirror (how it reaches the target) and keeps
//! the account of both.

mod carry;

use bytes::Bytes;
use tcpcopy_packet::{Endpoint, FourTuple, MirrorSeq, Segment};

use crate::config::EngineConfig;
use crate::gate::{Exchange, Gate, StreamEnd, View};
use crate::ledger::{DropReason, Ledger};
use crate::mirror::{Ending, Expired, Mirror, SynOffer};
use crate::time::Instant;
use crate::timer::TimerEntries;

/// How long a session whose client never answers the origin's SYN-ACK is kept: servers give up
/// after 63 s.
pub(crate) const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(64);

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

impl From<Ending> for Fate {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::Done,
            Ending::Refused => Self::Failed(DropReason::TargetRefused),
            Ending::Reset => Self::Failed(DropReason::TargetReset),
            Ending::Unanswered => Self::Failed(DropReason::TargetSilent),
        }
    }
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

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) home: Option<Home>,
    /// The captured client; the source that stands for it is the mirror's.
    pub(crate) client: Endpoint,
    pub(crate) copy: u16,
    /// Whether the connection's account still waits for this session to be established.
    pub(crate) owes_connection: bool,
    /// Whether the session waits in the engine's list of those with something to send.
    pub(crate) is_queued: bool,
    /// Its entries in the timer queue.
    pub(crate) entries: TimerEntries,
    /// intercept knows the session at the moment, so that no answer can get past it.
    may_speak: bool,
    /// The account is closed; only the target's retransmissions are answered.
    pub(crate) is_settled: bool,
    mirror: Mirror,
    gate: Gate,
    /// Origin bytes that the client has seen since this session began.
    seen_total: u64,
    last_activity_at: Instant,
    /// Since when the target has owed us a word.
    expecting_since: Instant,
}

impl Session {
    pub(crate) fn new(
        now: Instant,
        tuple: FourTuple,
        client: Endpoint,
        copy: u16,
        offer: SynOffer,
        config: &EngineConfig,
        seed: u64,
    ) -> Self {
        Self {
            home: None,
            client,
            copy,
            owes_connection: false,
            is_queued: false,
            entries: TimerEntries::default(),
            may_speak: false,
            is_settled: false,
            mirror: Mirror::new(now, tuple, offer, config.mtu, seed),
            gate: Gate::new(config.wait_for_answers),
            seen_total: 0,
            last_activity_at: now,
            expecting_since: now,
        }
    }

    pub(crate) fn tuple(&self) -> FourTuple {
        self.mirror.tuple()
    }

    pub(crate) fn iss(&self) -> MirrorSeq {
        self.mirror.iss()
    }

    pub(crate) fn offer(&self) -> SynOffer {
        self.mirror.offer()
    }

    /// Bytes captured, delivered and received.
    pub(crate) fn byte_counts(&self) -> (u64, u64, u64) {
        (
            self.mirror.end(),
            self.mirror.delivered(),
            self.mirror.received(),
        )
    }

    /// The round-trip time it imitates.
    pub(crate) fn rtt(&self) -> std::time::Duration {
        self.mirror.rtt()
    }

    /// Whether an answer of the target is still to come, as far as one can tell.
    pub(crate) fn expects_answer(&self) -> bool {
        self.gate.expects_answer()
    }

    /// Captured bytes that the target has not acknowledged.
    pub(crate) fn buffered(&self) -> u64 {
        self.mirror.end() - self.mirror.delivered()
    }

    /// What it adds to the engine's load.
    pub(crate) fn load(&self) -> Load {
        if self.is_settled {
            return Load::default();
        }
        let has_unsent = self.mirror.sent() < self.mirror.end();
        Load {
            memory_bytes: self.mirror.memory_bytes(),
            hurried_sessions: u64::from(has_unsent),
        }
    }

    pub(crate) fn has_reset_to_send(&self) -> bool {
        self.mirror.has_reset_to_send()
    }

    /// Requests neither delivered nor dropped yet.
    pub(crate) fn pending_requests(&self) -> u64 {
        if self.is_settled {
            0
        } else {
            self.gate.pending()
        }
    }

    pub(crate) fn is_lingering(&self) -> bool {
        self.mirror.is_lingering()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.mirror.is_closed()
    }

    /// Whether the target has closed its side, so that a new request needs a new session.
    pub(crate) fn target_finished(&self) -> bool {
        self.mirror.target_finished() || self.mirror.is_lingering()
    }

    /// intercept knows the session, for the first time or again.
    pub(crate) fn registered(&mut self, now: Instant) {
        self.may_speak = true;
        self.expecting_since = now;
        if self.mirror.is_registering() {
            self.last_activity_at = now;
            self.mirror.registered(now);
        } else {
            self.mirror.kick(now);
        }
    }

    /// intercept is away: what the target answered now would reach a real client.
    pub(crate) fn silence(&mut self) {
        self.may_speak = false;
    }

    pub(crate) fn client_established(&mut self, rtt: std::time::Duration) {
        self.mirror.client_established(rtt);
    }

    pub(crate) fn follow_window(&mut self, window: u16) {
        self.mirror.follow_window(window);
    }

    /// A new exchange begins with the next byte; `seen` as in [`Exchange::seen`].
    pub(crate) fn begin(&mut self, seen: u64, ledger: &mut Ledger) {
        self.seen_total += seen;
        let start = self.mirror.end();
        self.gate.begin(Exchange {
            start,
            seen,
            seen_total: self.seen_total,
        });
        ledger.requests.capture(1);
    }

    /// More bytes of the client.
    pub(crate) fn push(&mut self, now: Instant, chunk: Bytes, ledger: &mut Ledger) {
        ledger.bytes.capture(chunk.len() as u64);
        self.last_activity_at = now;
        self.mirror.push(chunk);
        self.pass(now, ledger);
    }

    /// The client has closed or aborted; `seen` counts as in [`Exchange::seen`].
    pub(crate) fn end_stream(&mut self, now: Instant, abort: bool, seen: u64, ledger: &mut Ledger) {
        if self.gate.has_ended() {
            return;
        }
        self.seen_total += seen;
        self.gate.end(StreamEnd {
            abort,
            seen,
            seen_total: self.seen_total,
        });
        self.last_activity_at = now;
        if !abort {
            self.mirror.finish();
        }
        self.pass(now, ledger);
    }

    /// Takes a segment of the target.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        ledger: &mut Ledger,
    ) -> Option<Fate> {
        self.last_activity_at = now;
        self.expecting_since = now;
        let progress = self.mirror.segment(now, segment);
        let upstream = &mut ledger.upstream;
        upstream.replies += 1;
        upstream.reply_bytes += progress.received;
        upstream.keep_alive_answers += u64::from(progress.keep_alive);
        upstream.fast_retransmits += u64::from(progress.loss_found);
        upstream.challenge_acks += u64::from(progress.challenged);
        upstream.resets_received += u64::from(progress.ended == Some(Ending::Reset));
        if progress.disordered {
            if progress.received == 0 {
                upstream.duplicate_replies += 1;
            } else {
                upstream.out_of_order_replies += 1;
            }
        }
        if !self.is_settled {
            ledger.bytes.deliver(progress.delivered);
            if progress.established && std::mem::take(&mut self.owes_connection) {
                ledger.connections.deliver(1);
            }
            if progress.received > 0 || progress.target_finished {
                self.gate.reply(now, progress.pushed);
            }
            self.pass(now, ledger);
        }
        progress.ended.map(Fate::from)
    }

    /// Acts on whatever time has made due.
    pub(crate) fn timeout(
        &mut self,
        now: Instant,
        config: &EngineConfig,
        ledger: &mut Ledger,
    ) -> Option<Fate> {
        let expired = match self.may_speak || self.is_lingering() {
            true => self.mirror.timeout(now),
            false => Expired::Nothing,
        };
        match expired {
            Expired::Ended(ending) => return Some(ending.into()),
            Expired::Retransmission => ledger.upstream.retransmission_timeouts += 1,
            Expired::WindowProbe => ledger.upstream.zero_window_probes += 1,
            Expired::TailProbe => ledger.upstream.tail_loss_probes += 1,
            Expired::Nothing => {}
        }
        if self.is_settled {
            return None;
        }
        self.pass(now, ledger);
        let (due, reason) = self.patience(config);
        (due <= now).then_some(match reason {
            DropReason::IdleTimeout if self.buffered() == 0 => Fate::Done,
            reason => Fate::Failed(reason),
        })
    }

    /// How long the session lives on if nothing happens, and what that is called.
    fn patience(&self, config: &EngineConfig) -> (Instant, DropReason) {
        let since = self.expecting_since;
        if self.mirror.is_registering() {
            (since + REGISTRATION_TIMEOUT, DropReason::TunnelDown)
        } else if !self.may_speak {
            (since + config.session_timeout, DropReason::TunnelDown)
        } else if self.mirror.is_waiting_for_target() {
            (since + config.session_timeout, DropReason::TargetSilent)
        } else if !self.mirror.client_is_established() {
            let since = self.last_activity_at;
            (
                since + HANDSHAKE_TIMEOUT.min(config.idle_timeout),
                DropReason::IdleTimeout,
            )
        } else if let Some(since) = self.gate.waiting_since() {
            // Keep-alive probes are no answer.
            (since + config.session_timeout, DropReason::GateTimeout)
        } else {
            (
                self.last_activity_at + config.idle_timeout,
                DropReason::IdleTimeout,
            )
        }
    }

    /// When [`Self::timeout`] or [`Self::poll_transmit`] should be called again.
    pub(crate) fn deadline(&self, config: &EngineConfig) -> Option<Instant> {
        let mirror = match self.may_speak {
            true => self.mirror.deadline(),
            false => self.mirror.lingers_until(),
        };
        if self.is_settled {
            return mirror;
        }
        let patience = self.patience(config).0;
        let own = self.gate.deadline().map_or(patience, |at| at.min(patience));
        Some(mirror.map_or(own, |at| at.min(own)))
    }

    /// Writes the next packet, if one may leave.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        packet: &mut Vec<u8>,
        ledger: &mut Ledger,
    ) -> bool {
        if !self.may_speak {
            return false;
        }
        let limit = self.gate.limit(self.mirror.end());
        let sent = self.mirror.sent();
        let was_waiting = self.mirror.is_waiting_for_target();
        let Some(transmitted) = self.mirror.poll_transmit(now, limit, packet) else {
            return false;
        };
        ledger.upstream.packets_sent += 1;
        ledger.upstream.bytes_sent += packet.len() as u64;
        ledger.upstream.retransmitted_segments += u64::from(transmitted.retransmission);
        ledger.upstream.resets_sent += u64::from(transmitted.reset);
        if !was_waiting {
            self.expecting_since = now;
        }
        if self.mirror.sent() > sent {
            self.last_activity_at = now;
            if !self.is_settled {
                self.pass(now, ledger);
            }
        }
        true
    }

    /// Lets the gate look, and does what it decides.
    fn pass(&mut self, now: Instant, ledger: &mut Ledger) {
        let passage = self.gate.pass(now, &self.view());
        ledger.requests.deliver(passage.delivered);
        ledger.answered_requests += passage.answered;
        if self.gate.abort_is_due() {
            self.mirror.abort(now);
        }
    }

    fn view(&self) -> View {
        View {
            sent: self.mirror.sent(),
            delivered: self.mirror.delivered(),
            end: self.mirror.end(),
            received: self.mirror.received(),
            finished: self.mirror.target_finished(),
        }
    }

    /// Sends a RST and nothing else any more.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.mirror.abort(now);
    }

    /// Closes the session's account: what is not delivered is dropped for `reason`.
    pub(crate) fn settle(&mut self, reason: DropReason, ledger: &mut Ledger) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let (delivered, dropped) = self.gate.close(&self.view());
        ledger.requests.deliver(delivered);
        ledger.requests.drop(reason, dropped);
        ledger.bytes.drop(reason, self.buffered());
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
