//! A connection's stream on its way to its sessions: reassembly, holes, request boundaries.

use bytes::Bytes;
use tcpcopy_packet::{ClientSeq, Segment, TcpFlags};

use super::{Capture, live_sessions};
use crate::connection::{Connection, LeftOut, Phase, Slot};
use crate::ledger::{DropReason, Ledger};
use crate::plugin::Direction;
use crate::reassembly::{Inserted, Piece, StreamSegment};
use crate::replay::{Opening, Replay, SessionKey};
use crate::session::Home;
use crate::time::Instant;

/// Longest hole whose bytes are counted as lost, in bytes. A longer one is no hole in a stream but
/// another connection of the same tuple, whose SYN the capture has missed.
pub(super) const MAX_COUNTED_GAP: u32 = 16 << 20;

impl Capture {
    pub(super) fn stream_data(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        replay: &mut Replay,
    ) {
        let connection = &mut self.connections[place as usize];
        let Phase::Streaming(mut reassembly) =
            std::mem::replace(&mut connection.phase, Phase::Ended)
        else {
            return;
        };
        let held_before = reassembly.held_bytes() as u64;
        let is_whole = segment.payload.len() == segment.payload_len as usize;
        let stream_segment = StreamSegment {
            seq: ClientSeq::new(segment.seq),
            ack: segment.ack,
            payload: segment.payload,
            fin: segment.flags.contains(TcpFlags::FIN) && is_whole,
        };
        let mut pieces = Pieces {
            capture: &mut *self,
            place,
            replay: &mut *replay,
            now,
        };
        let inserted = reassembly.insert(now, stream_segment, &mut |piece| pieces.take(piece));
        self.held_bytes = self.held_bytes + reassembly.held_bytes() as u64 - held_before;
        let is_finished = reassembly.is_finished();
        if !is_finished {
            self.connections[place as usize].phase = Phase::Streaming(reassembly);
        }
        self.note_inserted(now, place, &inserted, replay);
        if is_finished {
            self.conclude_if_over(place, replay);
        } else if held_before > 0 || inserted.held_bytes > 0 {
            self.reschedule(place, &replay.config);
        }
    }

    fn note_inserted(
        &mut self,
        now: Instant,
        place: u32,
        inserted: &Inserted,
        replay: &mut Replay,
    ) {
        let counters = &mut replay.ledger.capture;
        counters.duplicate_bytes += u64::from(inserted.duplicate_bytes);
        counters.after_fin_bytes += u64::from(inserted.after_fin_bytes);
        counters.outlandish += u64::from(inserted.outlandish_bytes > 0);
        let out_of_memory =
            replay.memory_bytes() + self.memory_bytes() > replay.config.memory_budget_bytes;
        if inserted.over_limit_bytes > 0 || (inserted.held_bytes > 0 && out_of_memory) {
            // The bytes thrown away leave a hole further on, which will be found in its turn.
            self.give_up_gap(now, place, replay);
        }
    }

    /// The present hole in a stream is permanent: what was complete before it is delivered, and
    /// the next request boundary after it begins anew.
    pub(super) fn give_up_gap(&mut self, now: Instant, place: u32, replay: &mut Replay) {
        let connection = &mut self.connections[place as usize];
        let Phase::Streaming(mut reassembly) =
            std::mem::replace(&mut connection.phase, Phase::Ended)
        else {
            return;
        };
        let missing = reassembly.gap_len().filter(|len| *len <= MAX_COUNTED_GAP);
        let missing = missing.map(u64::from);
        if let Some(left_out) = &mut connection.left_out {
            // The hole is in a request that is left out anyway: the sessions have only whole ones.
            left_out.reason = DropReason::CaptureGap;
            left_out.bytes += missing.unwrap_or(0);
        } else {
            tell_sessions(now, connection, missing, replay);
        }
        connection.is_after_gap = true;
        let copies = connection.slots.len() as u64;
        let held_before = reassembly.held_bytes() as u64;
        let mut pieces = Pieces {
            capture: &mut *self,
            place,
            replay: &mut *replay,
            now,
        };
        reassembly.skip_gap(&mut |piece| pieces.take(piece));
        let missing = missing.unwrap_or(0) * copies;
        replay.ledger.bytes.capture(missing);
        replay.ledger.bytes.drop(DropReason::CaptureGap, missing);
        self.held_bytes = self.held_bytes + reassembly.held_bytes() as u64 - held_before;
        if !reassembly.is_finished() {
            self.connections[place as usize].phase = Phase::Streaming(reassembly);
        }
        self.reschedule(place, &replay.config);
        self.conclude_if_over(place, replay);
    }

    /// Drops what is held behind a hole that won't be filled any more.
    pub(super) fn flush_held(&mut self, place: u32, reason: DropReason, ledger: &mut Ledger) {
        let connection = &mut self.connections[place as usize];
        let held = connection.held_bytes();
        if held == 0 {
            return;
        }
        let copies = connection.slots.len() as u64;
        ledger.bytes.capture(held * copies);
        ledger.bytes.drop(reason, held * copies);
        self.held_bytes -= held;
        connection.phase = Phase::Ended;
    }

    /// Opens a session for a slot that has none. `None` where that can't be done; the slot says why.
    pub(super) fn open_slot(
        &mut self,
        now: Instant,
        place: u32,
        slot: u16,
        owes_connection: bool,
        replay: &mut Replay,
    ) -> Option<SessionKey> {
        let connection = &mut self.connections[place as usize];
        let opening = Opening {
            client: connection.key.source,
            origin: connection.key.destination,
            target: connection.target,
            copy: slot,
            offer: connection.offer,
            home: Some(Home {
                connection: place,
                serial: connection.serial,
                slot,
            }),
            owes_connection,
            start_seen: connection.is_at_start && !connection.origin_has_spoken,
        };
        let rtt = connection.rtt;
        match replay.open(now, opening) {
            Ok(key) => {
                connection.slots[usize::from(slot)] = Slot::Live(key);
                if connection.is_established {
                    replay.client_established(key, rtt);
                }
                Some(key)
            }
            Err(reason) => {
                connection.slots[usize::from(slot)] = Slot::Waiting {
                    reason,
                    owes_connection,
                };
                None
            }
        }
    }
}

/// The present hole is permanent: a session whose plugin may know how to go on is told so, any other
/// delivers what was complete before and is over.
fn tell_sessions(
    now: Instant,
    connection: &mut Connection,
    missing: Option<u64>,
    replay: &mut Replay,
) {
    for slot in &mut connection.slots {
        let Slot::Live(key) = *slot else {
            continue;
        };
        if replay.has_plugin(key) {
            replay.tell_gap(now, key, Direction::Client, missing);
        } else {
            *slot = Slot::Waiting {
                reason: DropReason::CaptureGap,
                owes_connection: false,
            };
            replay.cut(now, key, DropReason::CaptureGap);
        }
    }
}

/// Hands a connection's bytes, in order, to its sessions.
struct Pieces<'a> {
    capture: &'a mut Capture,
    replay: &'a mut Replay,
    place: u32,
    now: Instant,
}

impl Pieces<'_> {
    fn take(&mut self, piece: Piece<'_>) {
        let connection = &mut self.capture.connections[self.place as usize];
        let seen = connection.note_seen(piece.ack);
        let mut seen_at_end = seen;
        if !piece.payload.is_empty() {
            let is_first = !std::mem::replace(&mut connection.has_spoken, true);
            let after_gap = std::mem::replace(&mut connection.is_after_gap, false);
            let begins = (is_first || seen > 0) && !after_gap;
            connection.is_at_start = is_first && !after_gap && connection.isn.is_some();
            seen_at_end = 0;
            let seen = if begins { self.decide(seen) } else { seen };
            let left_out = self.capture.connections[self.place as usize].left_out;
            match left_out {
                Some(LeftOut { reason, .. }) => self.leave_out(piece.payload, begins, reason),
                None => self.push_all(piece.payload, begins, seen),
            }
        }
        if piece.fin {
            let connection = &self.capture.connections[self.place as usize];
            let seen = connection.seen_since_replayed(seen_at_end);
            for key in live_sessions(connection) {
                self.replay.end_stream(self.now, key, false, seen);
            }
        }
    }

    /// Decides whether the request that begins here is replayed, after the client had seen this
    /// much. Returns how much it had seen since the last one that was.
    fn decide(&mut self, seen: u64) -> u64 {
        let connection = &mut self.capture.connections[self.place as usize];
        let copies = connection.slots.len() as u64;
        let load = &mut self.replay.ledger.load;
        load.requests_offered += copies;
        let shaping = &mut self.capture.shaping;
        let refused = shaping.leaves_out_request(self.now, copies, load);
        let seen = connection.seen_since_replayed(seen);
        let bytes = connection.left_out.map_or(0, |left_out| left_out.bytes);
        connection.left_out = refused.map(|reason| LeftOut {
            reason,
            seen,
            bytes,
        });
        if bytes > 0 && refused.is_none() {
            // What is left out is missing in what a plugin sees, like any hole.
            for key in live_sessions(connection) {
                self.replay
                    .tell_gap(self.now, key, Direction::Client, Some(bytes));
            }
        }
        seen
    }

    /// Counts bytes of a request that is left out in every session.
    fn leave_out(&mut self, payload: &[u8], begins: bool, reason: DropReason) {
        let connection = &mut self.capture.connections[self.place as usize];
        if let Some(left_out) = &mut connection.left_out {
            left_out.bytes += payload.len() as u64;
        }
        for slot in &mut connection.slots {
            if let Slot::Waiting {
                reason: waits_for @ DropReason::JoinedLate,
                ..
            } = slot
            {
                *waits_for = reason;
            }
        }
        let copies = connection.slots.len() as u64;
        self.drop(
            payload.len() as u64 * copies,
            copies * u64::from(begins),
            reason,
        );
    }

    /// Hands bytes to every session; `begins` where a request begins with them.
    fn push_all(&mut self, payload: &[u8], begins: bool, seen: u64) {
        let chunk = Bytes::copy_from_slice(payload);
        let copies = self.capture.connections[self.place as usize].slots.len();
        let mut sessions = 0;
        for slot in 0..copies {
            sessions += u64::from(self.push(slot as u16, chunk.clone(), begins, seen));
        }
        if begins {
            let load = &mut self.replay.ledger.load;
            load.requests_replayed += sessions;
            self.capture.shaping.charge_requests(sessions, load);
        }
    }

    /// Bytes for one slot. Returns whether a session has taken them.
    fn push(&mut self, slot: u16, chunk: Bytes, begins: bool, seen: u64) -> bool {
        let length = chunk.len() as u64;
        match self.session_for(slot, begins) {
            Ok((key, is_new)) => {
                if begins {
                    // A session that begins in the middle has no answer to wait for yet.
                    let seen = if is_new { 0 } else { seen };
                    self.replay.begin(self.now, key, seen);
                } else if seen > 0 {
                    self.replay.note_seen(self.now, key, seen);
                }
                // A plugin would have begun the request with these bytes.
                let is_uncounted = begins && self.replay.has_plugin(key);
                let taken = self.replay.push(self.now, key, chunk);
                if !taken {
                    self.drop(length, is_uncounted.into(), DropReason::MemoryBudget);
                }
                taken
            }
            Err(reason) => {
                self.drop(length, u64::from(begins), reason);
                false
            }
        }
    }

    /// Counts what no session takes.
    fn drop(&mut self, bytes: u64, requests: u64, reason: DropReason) {
        let ledger = &mut self.replay.ledger;
        ledger.bytes.capture(bytes);
        ledger.bytes.drop(reason, bytes);
        ledger.requests.capture(requests);
        ledger.requests.drop(reason, requests);
    }

    /// The session that takes a slot's next bytes, and whether it is new; or why there is none.
    fn session_for(&mut self, slot: u16, begins: bool) -> Result<(SessionKey, bool), DropReason> {
        let slots = &mut self.capture.connections[self.place as usize].slots;
        let slot_state = &mut slots[usize::from(slot)];
        if let Slot::Live(key) = *slot_state {
            // An earlier piece of the same segment was over the memory budget, a plugin has ended the
            // session, or the target's answer has; the news is not here yet.
            if self.replay.is_settled(key) {
                return Err(self.replay.news_of_end(key));
            }
            if !begins || !self.replay.target_finished(key) {
                return Ok((key, false));
            }
            *slot_state = Slot::Waiting {
                reason: DropReason::TargetClosed,
                owes_connection: false,
            };
            self.replay.finish(self.now, key);
        }
        let Slot::Waiting {
            reason,
            owes_connection,
        } = *slot_state
        else {
            return Err(DropReason::Bug);
        };
        if !begins || reason == DropReason::PluginRefused {
            return Err(reason);
        }
        let load = &mut self.replay.ledger.load;
        if reason == DropReason::Paused && !self.capture.shaping.admit_late(self.now, load) {
            return Err(DropReason::RateLimit);
        }
        let opened =
            self.capture
                .open_slot(self.now, self.place, slot, owes_connection, self.replay);
        match (
            opened,
            self.capture.connections[self.place as usize].slots[usize::from(slot)],
        ) {
            (Some(key), _) => Ok((key, true)),
            (None, Slot::Waiting { reason, .. }) => Err(reason),
            (None, Slot::Live(_)) => Err(DropReason::Bug),
        }
    }
}
