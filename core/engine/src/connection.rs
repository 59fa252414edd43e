//! One captured connection: where it stands, and which sessions replay it.

use std::time::Duration;

use smallvec::SmallVec;
use tcpcopy_packet::{ClientSeq, Endpoint, FourTuple, OriginSeq};

use crate::ledger::DropReason;
use crate::mirror::SynOffer;
use crate::plugin::Needs;
use crate::reassembly::{MAX_DISTANCE, Reassembly};
use crate::replay::SessionKey;
use crate::time::Instant;

/// What is known of the client's stream.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The connection is not replayed. `next` tells new bytes from repeated ones.
    Ignored {
        reason: DropReason,
        next: Option<ClientSeq>,
    },
    /// The beginning was not seen; the next request boundary is waited for.
    AwaitingBoundary { next: Option<ClientSeq> },
    /// The stream is being put in order.
    Streaming(Reassembly<ClientSeq>),
    /// The client has closed or reset.
    Ended,
}

/// One copy of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// Replayed by this session.
    Live(SessionKey),
    /// No session; the next request boundary opens one. What comes before is lost for `reason`.
    Waiting {
        reason: DropReason,
        /// Whether the connection's account still waits for this copy to be established once.
        owes_connection: bool,
    },
}

/// The present request of a connection is not replayed, in none of its sessions; they stay where the
/// request before has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftOut {
    pub(crate) reason: DropReason,
    /// Origin bytes that the client had seen since the last request that was replayed: its answer,
    /// and not those to requests left out.
    pub(crate) seen: u64,
    /// Bytes left out since the last request that was replayed.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// From the client to the origin.
    pub(crate) key: FourTuple,
    pub(crate) target: Endpoint,
    /// Tells this connection from another that had the same place in the table.
    pub(crate) serial: u32,
    pub(crate) phase: Phase,
    pub(crate) slots: SmallVec<[Slot; 1]>,
    /// The client's initial sequence number, when its SYN was seen.
    pub(crate) isn: Option<ClientSeq>,
    pub(crate) offer: SynOffer,
    /// The round-trip time to imitate.
    pub(crate) rtt: Duration,
    pub(crate) began_at: Instant,
    pub(crate) last_seen_at: Instant,
    /// The client has answered the origin's SYN-ACK.
    pub(crate) is_established: bool,
    /// Client bytes have been seen.
    pub(crate) has_spoken: bool,
    /// The next byte of the client is its first, or the piece at hand begins with that.
    pub(crate) is_at_start: bool,
    /// Bytes before the next ones are missing, so that a request may have begun among those.
    pub(crate) is_after_gap: bool,
    pub(crate) left_out: Option<LeftOut>,
    /// What its plugin needs, where it has one.
    pub(crate) needs: Option<Needs>,
    /// What the origin says, where the plugin wants it.
    pub(crate) origin: Option<Box<Reassembly<OriginSeq>>>,
    /// A plugin has been given bytes of the origin, or could have been.
    pub(crate) origin_has_spoken: bool,
    /// How much of the origin's stream the client had seen when it last spoke.
    baseline: Option<OriginSeq>,
    pub(crate) scheduled_at: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(
        now: Instant,
        key: FourTuple,
        target: Endpoint,
        serial: u32,
        phase: Phase,
        offer: SynOffer,
    ) -> Self {
        Self {
            key,
            target,
            serial,
            phase,
            slots: SmallVec::new(),
            isn: None,
            offer,
            rtt: Duration::ZERO,
            began_at: now,
            last_seen_at: now,
            is_established: false,
            has_spoken: false,
            is_at_start: false,
            is_after_gap: false,
            left_out: None,
            needs: None,
            origin: None,
            origin_has_spoken: false,
            baseline: None,
            scheduled_at: None,
        }
    }

    /// Sets where the origin's stream begins for the client. Data beside the SYN came with no
    /// acknowledgement yet.
    pub(crate) fn set_baseline(&mut self, ack: u32) {
        self.baseline = Some(OriginSeq::new(ack));
    }

    /// Where the origin's stream begins for a plugin, as the first segment of it that is captured
    /// begins at `seq`.
    pub(crate) fn origin_start(&self, seq: OriginSeq, is_syn: bool) -> OriginSeq {
        let known = self.baseline.filter(|_| !is_syn);
        let is_near = |start: &OriginSeq| seq.since(*start).unsigned_abs() <= MAX_DISTANCE;
        known.filter(is_near).unwrap_or(seq)
    }

    /// How many new bytes of the origin the client had seen when it sent a segment with this
    /// acknowledgement number, since it last spoke. It has spoken now.
    pub(crate) fn note_seen(&mut self, ack: u32) -> u64 {
        let ack = OriginSeq::new(ack);
        let baseline = self.baseline.get_or_insert(ack);
        let seen = u64::try_from(ack.since(*baseline)).unwrap_or(0);
        *baseline = baseline.max(ack);
        seen
    }

    /// How much of the origin's answers, of the new bytes in `seen`, a session can wait for.
    pub(crate) fn seen_since_replayed(&self, seen: u64) -> u64 {
        self.left_out.map_or(seen, |left_out| left_out.seen)
    }

    pub(crate) fn has_live_session(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Live(_)))
    }

    /// When the present hole in the origin's stream was first seen.
    pub(crate) fn origin_gap_since(&self) -> Option<Instant> {
        self.origin.as_ref().and_then(|origin| origin.gap_since())
    }

    /// Bytes of the origin held until a hole is filled.
    pub(crate) fn origin_held_bytes(&self) -> u64 {
        (self.origin.as_ref()).map_or(0, |origin| origin.held_bytes() as u64)
    }

    /// When the present hole in the stream was first seen.
    pub(crate) fn gap_since(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Streaming(reassembly) => reassembly.gap_since(),
            _ => None,
        }
    }

    /// Bytes held until a hole is filled.
    pub(crate) fn held_bytes(&self) -> u64 {
        match &self.phase {
            Phase::Streaming(reassembly) => reassembly.held_bytes() as u64,
            _ => 0,
        }
    }
}
