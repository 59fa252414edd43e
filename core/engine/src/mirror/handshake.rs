//! The three-way handshake: the SYN, what it offers, and what the target makes of it.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use tcpcopy_packet::{
    FourTuple, MirrorSeq, Segment, SegmentBuilder, TargetSeq, TcpFlags, TcpOptions, TcpTimestamp,
    Timestamps,
};

use super::{Ending, Expired, HOP_LIMIT, Mirror, Progress, State, Transmitted};
use crate::time::Instant;

/// First SYN timeout (RFC 6298 section 2.1); it doubles each time.
const SYN_RTO: Duration = Duration::from_secs(1);
/// SYNs sent at most: the last waits 32 s for its answer, 63 s in all.
const MAX_SYNS: u8 = 6;
/// How long the end of the handshake waits for the captured client's own.
pub(crate) const MAX_HANDSHAKE_HOLD: Duration = Duration::from_secs(1);
/// Segment size of a target that names none (RFC 9293 section 3.7.1).
const DEFAULT_MSS_IPV4: u16 = 536;
const DEFAULT_MSS_IPV6: u16 = 1220;
/// Bytes of the timestamps option, padded.
const TIMESTAMPS_LEN: u16 = 12;
/// Least payload of a segment, whatever a hostile target's MSS says.
const MIN_PAYLOAD: u16 = 64;

/// What our SYN offers: what the captured client's SYN did, where one was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SynOffer {
    pub(crate) mss: u16,
    pub(crate) window: u16,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    /// How much later than otherwise the handshake's last step leaves.
    pub(crate) latency: Duration,
    /// Whether acknowledgements leave at the end of each batch (`-R 0`).
    pub(crate) immediate_acks: bool,
    /// Whether the handshake's last step waits for the captured client's.
    pub(crate) follows_client: bool,
}

/// When the next SYN leaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SynTimer {
    sent: u8,
    last_sent_at: Instant,
    next_at: Option<Instant>,
}

impl SynTimer {
    pub(super) fn start(&mut self, now: Instant) {
        self.next_at = Some(now);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_at
    }

    pub(super) fn kick(&mut self, now: Instant) {
        if self.sent > 0 && self.next_at.is_some() {
            self.sent = 1;
            self.next_at = Some(now);
        }
    }

    fn note_sent(&mut self, now: Instant) {
        self.next_at = Some(now + SYN_RTO * (1 << self.sent));
        self.sent += 1;
        self.last_sent_at = now;
    }
}

/// The initial sequence number (RFC 6528: a keyed hash of the tuple plus a clock of 4 µs, so that
/// a reused tuple always begins above its predecessor) and the offset of the timestamp clock
/// (RFC 7323 section 5.4, likewise per tuple).
pub(super) fn initial_numbers(now: Instant, tuple: FourTuple, seed: u64) -> (MirrorSeq, u32) {
    let hash = foldhash::quality::FixedState::with_seed(seed).hash_one(tuple);
    let clock = (now.as_micros() / 4) as u32;
    (
        MirrorSeq::new((hash as u32).wrapping_add(clock)),
        (hash >> 32) as u32,
    )
}

impl Mirror {
    pub(super) fn syn_timeout(&mut self, now: Instant) -> Expired {
        let out_of_time = self.syn.sent >= MAX_SYNS && self.syn.next_at.is_some_and(|at| at <= now);
        if out_of_time {
            self.state = State::Closed;
            return Expired::Ended(Ending::Unanswered);
        }
        if self.syn.sent > 0 && self.syn.next_at.is_some_and(|at| at <= now) {
            return Expired::Retransmission;
        }
        Expired::Nothing
    }

    pub(super) fn poll_syn(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Transmitted> {
        if self.syn.sent >= MAX_SYNS || self.syn.next_at.is_none_or(|at| at > now) {
            return None;
        }
        let retransmission = self.syn.sent > 0;
        self.syn.note_sent(now);
        let options = TcpOptions {
            mss: Some(self.offer.mss),
            window_scale: self.offer.window_scale,
            sack_permitted: self.offer.sack,
            timestamps: self.offer.timestamps.then(|| Timestamps {
                value: self.timestamp_value(now),
                echo: 0,
            }),
            ..TcpOptions::default()
        };
        let header = SegmentBuilder {
            tuple: self.tuple,
            seq: self.iss.value(),
            ack: 0,
            flags: TcpFlags::SYN,
            window: self.offer.window,
            options,
            identification: self.next_identification(),
            hop_limit: HOP_LIMIT,
        };
        header
            .write(std::iter::empty(), packet)
            .expect("a session's tuple has one family, and a SYN fits any MTU");
        Some(Transmitted {
            retransmission,
            ..Transmitted::default()
        })
    }

    /// RFC 9293 section 3.10.7.3.
    pub(super) fn handshake_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Progress {
        let mut progress = Progress::default();
        let acceptable =
            segment.flags.contains(TcpFlags::ACK) && segment.ack == (self.iss + 1).value();
        if segment.flags.contains(TcpFlags::RST) {
            if acceptable {
                self.state = State::Closed;
                progress.ended = Some(Ending::Refused);
            }
            return progress;
        }
        if segment.flags.contains(TcpFlags::ACK) && !acceptable {
            // The target still holds an older connection of this tuple: this RST ends it, and the
            // next SYN finds the way free.
            self.rst = Some(MirrorSeq::new(segment.ack));
            self.syn.next_at = Some(now + SYN_RTO);
            progress.challenged = true;
            return progress;
        }
        if acceptable && segment.flags.contains(TcpFlags::SYN) {
            self.establish(now, segment);
            progress.established = true;
        }
        progress
    }

    fn establish(&mut self, now: Instant, segment: &Segment<'_>) {
        let options = &segment.options;
        self.timestamps = self.offer.timestamps && options.timestamps.is_some();
        self.sack = self.offer.sack && options.sack_permitted;
        let scaled = self.offer.window_scale.is_some() && options.window_scale.is_some();
        self.send_scale = if scaled {
            options.window_scale.unwrap_or(0).min(14)
        } else {
            0
        };
        if !scaled {
            self.offer.window_scale = None;
        }
        let rtt = (self.syn.sent == 1).then(|| now.since(self.syn.last_sent_at));
        // The window of a SYN is never scaled (RFC 7323 section 2.2).
        let seq = TargetSeq::new(segment.seq);
        self.send.open(
            self.payload_limit(options.mss),
            u32::from(segment.window),
            seq,
            rtt,
        );
        self.receive
            .open(seq, self.offer.mss, self.offer.immediate_acks);
        if let Some(timestamps) = options.timestamps {
            self.receive
                .set_timestamp(TcpTimestamp::new(timestamps.value));
        }
        self.receive.ack_by(now + self.offer.latency);
        self.follow_window(self.window);
        if self.offer.follows_client && !self.client_established {
            self.held_until = Some(now + MAX_HANDSHAKE_HOLD);
        }
        self.state = State::Established;
    }

    /// What one segment may carry: the target's MSS (RFC 9293 section 3.7.1) or what the MTU
    /// leaves, less our options.
    fn payload_limit(&self, target_mss: Option<u16>) -> u32 {
        let (default_mss, headers) = match self.tuple.destination.address {
            IpAddr::V4(_) => (DEFAULT_MSS_IPV4, 40),
            IpAddr::V6(_) => (DEFAULT_MSS_IPV6, 60),
        };
        let options = if self.timestamps { TIMESTAMPS_LEN } else { 0 };
        let limit = target_mss
            .unwrap_or(default_mss)
            .min(self.mtu.saturating_sub(headers));
        u32::from(limit.saturating_sub(options).max(MIN_PAYLOAD))
    }
}
