//! Connections that enter the table: replayed, joined later, or left out under a name.

use tcpcopy_packet::{ClientSeq, Endpoint, FourTuple, Segment, TcpFlags};

use super::Capture;
use super::offer::{captured_offer, default_offer};
use crate::connection::{Connection, Phase, Slot};
use crate::ledger::{DropReason, Ledger};
use crate::mirror::SynOffer;
use crate::reassembly::Reassembly;
use crate::replay::Replay;
use crate::shaping::Admission;
use crate::time::Instant;

/// What is known of a connection before it is in the table.
struct Beginning {
    tuple: FourTuple,
    target: Endpoint,
    phase: Phase,
    offer: SynOffer,
    copies: u16,
    /// Why no session replays it yet.
    reason: DropReason,
}

impl Capture {
    /// A connection whose beginning is seen.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        target: Endpoint,
        replay: &mut Replay,
    ) {
        let load = &mut replay.ledger.load;
        let admission = self.shaping.admit(now, segment.tuple.source, load);
        self.begin_as(now, admission, segment, target, replay);
    }

    fn begin_as(
        &mut self,
        now: Instant,
        admission: Admission,
        segment: &Segment<'_>,
        target: Endpoint,
        replay: &mut Replay,
    ) {
        let Admission { refused, copies } = admission;
        let isn = ClientSeq::new(segment.seq);
        let phase = match refused {
            None | Some(DropReason::Paused) => Phase::Streaming(Reassembly::new(isn + 1)),
            Some(reason) => Phase::Ignored {
                reason,
                next: Some(isn + 1),
            },
        };
        let beginning = Beginning {
            tuple: segment.tuple,
            target,
            phase,
            offer: captured_offer(segment, target, &replay.config),
            copies,
            reason: refused.unwrap_or(DropReason::JoinedLate),
        };
        let place = self.insert(now, beginning, replay);
        let connection = &mut self.connections[place as usize];
        connection.isn = Some(isn);
        connection.is_at_start = true;
        if refused.is_none() {
            for slot in 0..copies {
                self.open_slot(now, place, slot, true, replay);
            }
        }
        if segment.payload_len > 0 {
            // Data beside the SYN (RFC 7413) begins one number later.
            let data = Segment {
                seq: segment.seq.wrapping_add(1),
                ..*segment
            };
            self.data(now, place, &data, replay);
        }
    }

    /// A connection whose beginning was not seen.
    pub(super) fn join(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        target: Endpoint,
        replay: &mut Replay,
    ) {
        let admission = match replay.config.only_complete {
            true => self.shaping.leave_out(DropReason::MidStreamRefused),
            false => {
                let load = &mut replay.ledger.load;
                self.shaping.admit(now, segment.tuple.source, load)
            }
        };
        self.join_as(now, admission, segment, target, replay);
    }

    fn join_as(
        &mut self,
        now: Instant,
        admission: Admission,
        segment: &Segment<'_>,
        target: Endpoint,
        replay: &mut Replay,
    ) {
        let Admission { refused, copies } = admission;
        let phase = match refused {
            None | Some(DropReason::Paused) => Phase::AwaitingBoundary { next: None },
            Some(reason) => Phase::Ignored { reason, next: None },
        };
        let beginning = Beginning {
            tuple: segment.tuple,
            target,
            phase,
            offer: default_offer(target, &replay.config),
            copies,
            reason: refused.unwrap_or(DropReason::JoinedLate),
        };
        let place = self.insert(now, beginning, replay);
        self.known_segment(now, place, segment, replay);
    }

    /// A connection of this replay itself, captured again: it is looked at no further.
    pub(super) fn leave_own(
        &mut self,
        now: Instant,
        place: Option<u32>,
        segment: &Segment<'_>,
        target: Endpoint,
        replay: &mut Replay,
    ) {
        if let Some(place) = place {
            let connection = &mut self.connections[place as usize];
            let is_own = matches!(
                connection.phase,
                Phase::Ignored {
                    reason: DropReason::OwnReplay,
                    ..
                }
            );
            if is_own && connection.isn == Some(ClientSeq::new(segment.seq)) {
                connection.last_seen_at = now;
                return;
            }
            if !is_own {
                // The client's own connection of this very tuple goes on.
                replay.ledger.capture.own_replay += 1;
                return;
            }
            self.abandon(now, place, replay);
        }
        replay.ledger.capture.own_replay += 1;
        if self.is_full(replay) {
            return self.refuse(segment, &mut replay.ledger);
        }
        let admission = self.shaping.leave_out(DropReason::OwnReplay);
        if segment.flags.contains(TcpFlags::SYN) {
            self.begin_as(now, admission, segment, target, replay);
        } else {
            self.join_as(now, admission, segment, target, replay);
        }
    }

    fn insert(&mut self, now: Instant, beginning: Beginning, replay: &mut Replay) -> u32 {
        let Beginning {
            tuple,
            target,
            phase,
            offer,
            copies,
            reason,
        } = beginning;
        replay.ledger.connections.capture(u64::from(copies));
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let mut connection = Connection::new(now, tuple, target, serial, phase, offer);
        connection.needs = replay.needs(tuple.destination.port);
        connection.slots = (0..copies)
            .map(|_| Slot::Waiting {
                reason,
                owes_connection: true,
            })
            .collect();
        let place = self.connections.insert(connection);
        let place = u32::try_from(place).expect("fewer than 2^32 connections");
        self.by_tuple.insert(tuple, place);
        self.reschedule(place, &replay.config);
        place
    }

    /// Counts a segment of a connection that there is no room for. Nothing is remembered of it, so
    /// a request counts as what one push ends (RFC 9293, section 3.9.1).
    pub(super) fn refuse(&mut self, segment: &Segment<'_>, ledger: &mut Ledger) {
        if segment.flags.contains(TcpFlags::SYN) {
            let Admission { copies, .. } = self.shaping.leave_out(DropReason::MemoryBudget);
            ledger.connections.capture(u64::from(copies));
            ledger
                .connections
                .drop(DropReason::MemoryBudget, u64::from(copies));
        }
        let bytes = self.shaping.copies_of_bytes(segment.payload_len.into());
        ledger.bytes.capture(bytes);
        ledger.bytes.drop(DropReason::MemoryBudget, bytes);
        let is_request = segment.payload_len > 0 && segment.flags.contains(TcpFlags::PSH);
        let requests = self.shaping.copies_of_requests(is_request.into());
        ledger.requests.capture(requests);
        ledger.requests.drop(DropReason::MemoryBudget, requests);
    }
}
