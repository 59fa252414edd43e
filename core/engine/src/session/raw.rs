//! What only a session with a mirror does: packets, and leave from intercept to send them.

use tcpcopy_packet::Segment;

use super::{Context, Fate, Session};
use crate::channel::{Channel, Heard, Request};
use crate::ledger::{DropReason, Ledger};
use crate::mirror::{Ending, Progress};
use crate::output::{Registration, SessionId};
use crate::time::Instant;

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

impl From<&Progress> for Heard {
    fn from(progress: &Progress) -> Self {
        Self {
            established: progress.established,
            delivered: progress.delivered,
            received: progress.received,
            // A push alone is an acknowledgement and no word.
            pushed: progress.pushed && (progress.received > 0 || progress.target_finished),
            target_finished: progress.target_finished,
        }
    }
}

impl Session {
    /// What intercept has to know of it before it may speak; a socket's session needs no leave.
    pub(crate) fn registration(&self, key: SessionId) -> Option<Registration> {
        match &self.channel {
            Channel::Raw(mirror) => Some(Registration {
                session: key,
                tuple: mirror.tuple(),
                iss: mirror.iss().value(),
                payload: mirror.wants_payload(),
            }),
            Channel::Socket(_) => None,
        }
    }

    /// intercept knows the session, for the first time or again.
    pub(crate) fn registered(&mut self, now: Instant) {
        let Some(mirror) = self.channel.mirror_mut() else {
            return;
        };
        self.may_speak = true;
        self.expecting_since = now;
        if mirror.is_registering() {
            self.last_activity_at = now;
            mirror.registered(now);
        } else {
            mirror.kick(now);
        }
    }

    /// intercept is away: what the target answered now would reach a real client.
    pub(crate) fn silence(&mut self) {
        if self.channel.mirror_mut().is_some() {
            self.may_speak = false;
        }
    }

    pub(crate) fn follow_window(&mut self, window: u16) {
        if let Some(mirror) = self.channel.mirror_mut() {
            mirror.follow_window(window);
        }
    }

    /// Takes a segment of the target.
    pub(crate) fn reply(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Fate> {
        let mirror = self.channel.mirror_mut()?;
        let progress = mirror.segment(now, segment);
        let payload = mirror.take_payload();
        self.last_activity_at = now;
        self.expecting_since = now;
        let upstream = &mut cx.ledger.upstream;
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
        self.hear(now, &Heard::from(&progress), &payload, cx);
        progress.ended.map(Fate::from)
    }

    /// Writes the next packet, if one may leave.
    pub(super) fn poll_packet(
        &mut self,
        now: Instant,
        packet: &mut Vec<u8>,
        ledger: &mut Ledger,
    ) -> Option<Request> {
        if !self.may_speak {
            return None;
        }
        let limit = self.gate.limit(self.channel.end());
        let mirror = self.channel.mirror_mut()?;
        let sent = mirror.sent();
        let was_waiting = mirror.is_waiting_for_target();
        let transmitted = mirror.poll_transmit(now, limit, packet)?;
        let has_sent_more = mirror.sent() > sent;
        ledger.upstream.packets_sent += 1;
        ledger.upstream.bytes_sent += packet.len() as u64;
        ledger.upstream.retransmitted_segments += u64::from(transmitted.retransmission);
        ledger.upstream.resets_sent += u64::from(transmitted.reset);
        if !was_waiting {
            self.expecting_since = now;
        }
        if has_sent_more {
            self.last_activity_at = now;
            if !self.is_settled {
                self.pass(now, ledger);
            }
        }
        Some(Request::Packet)
    }
}
