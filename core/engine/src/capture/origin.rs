//! What the origin says, put in order for the plugins that want it.

use smallvec::SmallVec;
use tcpcopy_packet::{OriginSeq, Segment, TcpFlags};

use super::stream::MAX_COUNTED_GAP;
use super::{Capture, live_sessions};
use crate::connection::Connection;
use crate::plugin::Direction;
use crate::reassembly::{Piece, Reassembly, StreamSegment};
use crate::replay::{Replay, SessionKey};
use crate::time::Instant;

impl Capture {
    /// Bytes of the origin.
    pub(super) fn origin_data(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        replay: &mut Replay,
    ) {
        let connection = &mut self.connections[place as usize];
        if !wants_origin(connection) {
            return;
        }
        connection.origin_has_spoken |= !segment.payload.is_empty();
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let seq = OriginSeq::new(segment.seq) + u32::from(is_syn);
        let start = connection.origin_start(seq, is_syn);
        let stream = connection.origin.take();
        let mut stream = stream.unwrap_or_else(|| Box::new(Reassembly::new(start)));
        let held_before = stream.held_bytes() as u64;
        let is_whole = segment.payload.len() == segment.payload_len as usize;
        let stream_segment = StreamSegment {
            seq,
            ack: segment.ack,
            payload: segment.payload,
            fin: segment.flags.contains(TcpFlags::FIN) && is_whole,
        };
        let sessions: SmallVec<[_; 1]> = live_sessions(connection).collect();
        let mut deliver = |piece: Piece<'_>| hand_on(now, piece, &sessions, replay);
        let inserted = stream.insert(now, stream_segment, &mut deliver);
        self.held_bytes = self.held_bytes + stream.held_bytes() as u64 - held_before;
        self.connections[place as usize].origin = Some(stream);
        let budget = replay.config.memory_budget_bytes;
        let out_of_memory = replay.memory_bytes() + self.memory_bytes() > budget;
        if inserted.over_limit_bytes > 0 || (inserted.held_bytes > 0 && out_of_memory) {
            self.give_up_origin_gap(now, place, replay);
        } else if inserted.held_bytes > 0 || held_before > 0 {
            self.reschedule(place, &replay.config);
        }
    }

    /// A client that acknowledges bytes beyond a hole has them: the origin won't send them again.
    pub(super) fn note_origin_ack(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        replay: &mut Replay,
    ) {
        let connection = &self.connections[place as usize];
        if let Some(stream) = &connection.origin
            && stream.gap_since().is_some()
            && segment.flags.contains(TcpFlags::ACK)
            && OriginSeq::new(segment.ack).after(stream.next())
        {
            self.give_up_origin_gap(now, place, replay);
        }
    }

    /// The present hole in the origin's stream is permanent.
    pub(super) fn give_up_origin_gap(&mut self, now: Instant, place: u32, replay: &mut Replay) {
        let connection = &mut self.connections[place as usize];
        let Some(mut stream) = connection.origin.take() else {
            return;
        };
        let sessions: SmallVec<[_; 1]> = live_sessions(connection).collect();
        let held_before = stream.held_bytes() as u64;
        let missing = stream.gap_len().filter(|len| *len <= MAX_COUNTED_GAP);
        for key in &sessions {
            replay.tell_gap(now, *key, Direction::Origin, missing.map(u64::from));
        }
        stream.skip_gap(&mut |piece| hand_on(now, piece, &sessions, replay));
        self.held_bytes = self.held_bytes + stream.held_bytes() as u64 - held_before;
        self.connections[place as usize].origin = Some(stream);
        self.reschedule(place, &replay.config);
    }
}

fn wants_origin(connection: &Connection) -> bool {
    connection.needs.is_some_and(|needs| needs.origin)
}

fn hand_on(now: Instant, piece: Piece<'_>, sessions: &[SessionKey], replay: &mut Replay) {
    for key in sessions {
        if !piece.payload.is_empty() {
            replay.origin_said(now, *key, piece.payload);
        }
        if piece.fin {
            replay.origin_ended(now, *key);
        }
    }
}
