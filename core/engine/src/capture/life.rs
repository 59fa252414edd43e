//! The end of connections in the table: holes that stay, silence, a client that begins anew.

use std::time::Duration;

use smallvec::SmallVec;

use super::{Capture, ConnectionKey, live_sessions};
use crate::config::EngineConfig;
use crate::connection::{Connection, Phase, Slot};
use crate::ledger::{DropReason, Ledger};
use crate::replay::Replay;
use crate::session::HANDSHAKE_TIMEOUT;
use crate::time::Instant;

/// How long a connection that is over is remembered after its last segment, so that what the client
/// sends again is known for a repetition: longer than a first retransmission takes.
const ENDED_MEMORY: Duration = Duration::from_secs(2);

impl Capture {
    /// Acts on holes that have become permanent and connections that have fallen silent.
    pub(crate) fn timeout(&mut self, now: Instant, replay: &mut Replay) {
        while let Some(key) = self.timers.pop_due(now) {
            let place = key.place;
            let Some(connection) = self.connections.get_mut(place as usize) else {
                continue;
            };
            if connection.serial != key.serial {
                continue;
            }
            connection.scheduled_at = None;
            let gap_timeout = replay.config.gap_timeout;
            let is_permanent = |since: Instant| since + gap_timeout <= now;
            if connection.gap_since().is_some_and(is_permanent) {
                self.give_up_gap(now, place, replay);
                continue;
            }
            if connection.origin_gap_since().is_some_and(is_permanent) {
                self.give_up_origin_gap(now, place, replay);
                continue;
            }
            let is_due = forgotten_at(connection, &replay.config) <= now;
            if !connection.has_live_session() && is_due {
                self.forget(place, &mut replay.ledger);
            } else {
                self.reschedule(place, &replay.config);
            }
        }
    }

    pub(super) fn reschedule(&mut self, place: u32, config: &EngineConfig) {
        let Some(connection) = self.connections.get_mut(place as usize) else {
            return;
        };
        let gaps = [connection.gap_since(), connection.origin_gap_since()];
        let at = match gaps.into_iter().flatten().min() {
            Some(since) => since + config.gap_timeout,
            None if connection.has_live_session() => return,
            None => forgotten_at(connection, config),
        };
        if connection
            .scheduled_at
            .is_none_or(|scheduled| at < scheduled)
        {
            connection.scheduled_at = Some(at);
            self.timers.schedule(
                ConnectionKey {
                    place,
                    serial: connection.serial,
                },
                at,
            );
        }
    }

    /// The client has begun a new connection on this tuple.
    pub(super) fn abandon(&mut self, now: Instant, place: u32, replay: &mut Replay) {
        self.flush_held(place, DropReason::PortReused, &mut replay.ledger);
        let connection = &self.connections[place as usize];
        let live: SmallVec<[_; 1]> = live_sessions(connection).collect();
        for key in live {
            replay.detach(now, key);
        }
        self.forget(place, &mut replay.ledger);
    }

    /// Closes a connection's account if the client has ended it and no session goes on. It stays
    /// in the table for a moment: the client may send its last segments again.
    pub(super) fn conclude_if_over(&mut self, place: u32, replay: &mut Replay) {
        let Some(connection) = self.connections.get_mut(place as usize) else {
            return;
        };
        if matches!(connection.phase, Phase::Ended) && !connection.has_live_session() {
            settle_slots(connection, &mut replay.ledger);
            self.reschedule(place, &replay.config);
        }
    }

    /// Takes a connection out of the table and closes its account.
    fn forget(&mut self, place: u32, ledger: &mut Ledger) {
        self.flush_held(place, DropReason::CaptureGap, ledger);
        let mut connection = self.connections.remove(place as usize);
        self.held_bytes -= connection.origin_held_bytes();
        self.by_tuple.remove(&connection.key);
        settle_slots(&mut connection, ledger);
    }

    /// The capture has come to its end and begins again: holes are permanent, and each connection
    /// is over once its last request is answered.
    pub(crate) fn end_round(&mut self, now: Instant, replay: &mut Replay) {
        for place in self.places() {
            while self.connections[place as usize].gap_since().is_some() {
                self.give_up_gap(now, place, replay);
            }
            let connection = &self.connections[place as usize];
            let live: SmallVec<[_; 1]> = live_sessions(connection).collect();
            for key in live {
                replay.finish_answered(now, key);
            }
            self.forget(place, &mut replay.ledger);
        }
    }

    fn places(&self) -> Vec<u32> {
        (self.connections.iter().map(|(place, _)| place as u32)).collect()
    }

    /// Takes no more segments: what waits for a hole to be filled is dropped. Sessions go on.
    pub(crate) fn close(&mut self, replay: &mut Replay) {
        for place in self.places() {
            self.flush_held(place, DropReason::ShutDown, &mut replay.ledger);
            self.forget(place, &mut replay.ledger);
        }
    }
}

/// When a connection without sessions leaves the table, if nothing more is seen of it.
fn forgotten_at(connection: &Connection, config: &EngineConfig) -> Instant {
    connection.last_seen_at
        + match connection.phase {
            Phase::Ended => ENDED_MEMORY,
            _ if !connection.is_established => HANDSHAKE_TIMEOUT.min(config.idle_timeout),
            _ => config.idle_timeout,
        }
}

/// Drops the copies that were never established.
fn settle_slots(connection: &mut Connection, ledger: &mut Ledger) {
    for slot in &mut connection.slots {
        if let Slot::Waiting {
            reason,
            owes_connection,
        } = slot
            && std::mem::take(owes_connection)
        {
            ledger.connections.drop(*reason, 1);
        }
    }
}
