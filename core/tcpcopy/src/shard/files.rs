//! Capture files as a shard's source, in the player's time.
//!
//! A file can wait, so nothing of it has to be lost: while a lane holds as much as it should, the
//! player is not asked. With several targets, one that does nothing at all for a second is not waited
//! for, and at a given speed no target is waited for that is merely slower than another; what such a
//! one can't take is dropped by name in its own lane.

use std::time::{Duration, Instant};

use super::Clock;
use super::capture::hear_packet;
use super::lane::{Lane, Next};
use crate::player::{Player, Resume, Speed, Step};

/// Packets between two looks at the targets: less than a millisecond of work.
const PACKETS_PER_TURN: usize = 256;
/// At full speed, so much captured data may wait for a target, in bytes: enough to keep it busy.
const MOST_READ_AHEAD_BYTES: u64 = 16 << 20;
/// At full speed, so many sessions may wait for a target at once.
const MOST_HURRIED_SESSIONS: u64 = 256;
/// How long the sessions of one round may take to end before the next begins.
const ROUND_PATIENCE: Duration = Duration::from_secs(10);

/// A target that has taken nothing for so long is not waited for, where there are others.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Where the files stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Playing,
    /// A round is over; the sessions that are left have until then.
    RoundEnds {
        by: Instant,
    },
    Over,
}

#[derive(Debug)]
pub(super) struct FileSource {
    player: Player,
    state: State,
    /// Captured data that may wait in a lane, in bytes.
    most_held_bytes: u64,
    /// Sessions that may wait for a target at once.
    most_hurried_sessions: u64,
    /// For each lane, how much it had delivered, and when it last delivered.
    delivered: Vec<(u64, Instant)>,
    /// A file could not be read to its end.
    is_broken: bool,
}

impl FileSource {
    /// `memory_budget_bytes` is that of one lane.
    pub(super) fn new(player: Player, memory_budget_bytes: u64) -> Self {
        // What sessions need beside the captured data takes its part of the budget too.
        let half = memory_budget_bytes / 2;
        let (most_held_bytes, most_hurried_sessions) = match player.speed() {
            Speed::Max => (half.min(MOST_READ_AHEAD_BYTES), MOST_HURRIED_SESSIONS),
            Speed::Times(_) => (half, u64::MAX),
        };
        Self {
            player,
            state: State::Playing,
            most_held_bytes,
            most_hurried_sessions,
            delivered: Vec::new(),
            is_broken: false,
        }
    }

    pub(super) fn player(&self) -> &Player {
        &self.player
    }

    /// Whether everything has been handed out.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Hands out nothing more.
    pub(super) fn close(&mut self) {
        self.state = State::Over;
    }

    /// Whether a file could not be read to its end.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn pause(&mut self, now: Instant, is_paused: bool) {
        match is_paused {
            true => self.player.pause(now),
            false => self.player.resume(now, Resume::GoOn),
        }
    }

    /// Gives every lane what is due, at most a portion.
    pub(super) fn read(&mut self, lanes: &mut [Lane], clock: Clock) -> Next {
        let Clock { now, time } = clock;
        match self.state {
            State::Over => return Next::Until(None),
            State::RoundEnds { by } => {
                if now < by && lanes.iter().any(Lane::has_sessions) {
                    return Next::Until(Some(time + by.saturating_duration_since(now)));
                }
                self.state = State::Playing;
            }
            State::Playing => {}
        }
        for _ in 0..PACKETS_PER_TURN {
            if self.must_wait(lanes, now) {
                // What the targets acknowledge wakes the loop.
                self.player.hold(now);
                return Next::Until(None);
            }
            match self.player.next(now) {
                Step::Packet(packet) => hear_packet(lanes, time, packet),
                Step::NotBefore(at) => {
                    return Next::Until(Some(time + at.saturating_duration_since(now)));
                }
                Step::Reading | Step::Paused => return Next::Until(None),
                Step::EndOfRound => {
                    end_round(lanes, time);
                    self.state = State::RoundEnds {
                        by: now + ROUND_PATIENCE,
                    };
                    return Next::More;
                }
                Step::End => {
                    end_round(lanes, time);
                    self.state = State::Over;
                    return Next::More;
                }
                Step::Failed(error) => {
                    let hint = error.hint();
                    tracing::error!(%error, hint, "a capture file can't be read to its end");
                    self.is_broken = true;
                }
            }
        }
        Next::More
    }

    /// Whether the lanes hold so much that nothing more should be read.
    fn must_wait(&mut self, lanes: &[Lane], now: Instant) -> bool {
        self.delivered.resize(lanes.len(), (0, now));
        let (mut running, mut full, mut live, mut live_and_full) = (0, 0, 0, 0);
        for (lane, (delivered, at)) in lanes.iter().zip(&mut self.delivered) {
            let bytes = lane.engine.ledger().bytes.delivered;
            if std::mem::replace(delivered, bytes) != bytes {
                *at = now;
            }
            let gauges = lane.engine.gauges();
            // What waits for a hole to be filled waits for the next packets.
            let is_full = gauges.buffered_bytes - gauges.held_bytes >= self.most_held_bytes
                || gauges.hurried_sessions >= self.most_hurried_sessions;
            // One that has ended takes nothing and holds nothing up.
            if lane.has_ended() {
                continue;
            }
            let is_live = now.saturating_duration_since(*at) < SIGN_OF_LIFE;
            running += 1;
            full += usize::from(is_full);
            live += usize::from(is_live);
            live_and_full += usize::from(is_live && is_full);
        }
        match self.player.speed() {
            _ if live == 0 => running > 0 && full == running,
            Speed::Max => live_and_full > 0,
            Speed::Times(_) => live_and_full == live,
        }
    }
}

fn end_round(lanes: &mut [Lane], time: tcpcopy_engine::Instant) {
    for lane in lanes {
        lane.engine.end_round(time);
    }
}
