//! Recognises this replay's own connections where the capture sees them again.
//!
//! A loop feeds on itself: each connection captured opens another one that is captured. Where the
//! target leads back to the origin unchanged, the kernel filter keeps our packets out; behind an
//! address translation or a balancer only the source tells.
//!
//! - A mirror's SYN carries our initial sequence number, which no client guesses.
//! - A kernel connection's is not known, and its source may at the same time be the port of a client
//!   on this host towards the origin. But our connections have a hop limit of their own
//!   ([`SOCKET_HOP_LIMIT`]), which is less than what a client on this host begins with, and routers
//!   only make it less.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags};

use crate::time::Instant;

/// A session that is over is remembered for so long: a capture ring may be slower than a target that
/// refuses.
const MEMORY: Duration = Duration::from_secs(2);

/// The hop limit that kernel connections to the target are given: enough for any path, and less than
/// the 64 and more of which systems make use by themselves.
pub const SOCKET_HOP_LIMIT: u8 = 61;

/// What identifies an own connection, hashed.
type Mark = u64;

/// The marks of own connections that live, or have ended just now.
#[derive(Debug)]
pub(crate) struct OwnConnections {
    hasher: FixedState,
    /// With how many connections each has.
    marks: HashMap<Mark, u32, FixedState>,
    /// Those that have ended, with the time until which they are remembered.
    ended: VecDeque<(Instant, Mark)>,
    now: Instant,
}

impl OwnConnections {
    pub(crate) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            marks: HashMap::with_hasher(hasher.clone()),
            hasher,
            ended: VecDeque::new(),
            now: Instant::ZERO,
        }
    }

    /// A mirror from `source` begins with `iss`.
    pub(crate) fn mirror_opened(&mut self, now: Instant, source: Endpoint, iss: u32) {
        let mark = self.hasher.hash_one((source, iss));
        self.note(now, mark);
    }

    pub(crate) fn mirror_ended(&mut self, source: Endpoint, iss: u32) {
        let mark = self.hasher.hash_one((source, iss));
        self.forget(mark);
    }

    /// A kernel connection from `tuple.source` to `tuple.destination` is under way.
    pub(crate) fn socket_opened(&mut self, now: Instant, tuple: FourTuple) {
        for mark in self.socket_marks(tuple) {
            self.note(now, mark);
        }
    }

    pub(crate) fn socket_ended(&mut self, tuple: FourTuple) {
        for mark in self.socket_marks(tuple) {
            self.forget(mark);
        }
    }

    /// Whether a captured segment of an unknown connection, or a SYN, is one of ours.
    pub(crate) fn includes(&mut self, now: Instant, segment: &Segment<'_>) -> bool {
        if self.marks.is_empty() {
            return false;
        }
        self.expire(now);
        let FourTuple { source, .. } = segment.tuple;
        if segment.flags.contains(TcpFlags::SYN)
            && self.has(self.hasher.hash_one((source, segment.seq)))
        {
            return true;
        }
        let [tuple_mark, source_mark] = self.socket_marks(segment.tuple);
        if self.has(tuple_mark) {
            return true;
        }
        (1..=SOCKET_HOP_LIMIT).contains(&segment.hop_limit) && self.has(source_mark)
    }

    fn socket_marks(&self, tuple: FourTuple) -> [Mark; 2] {
        [
            self.hasher.hash_one(tuple),
            self.hasher.hash_one(tuple.source),
        ]
    }

    fn has(&self, mark: Mark) -> bool {
        self.marks.contains_key(&mark)
    }

    fn note(&mut self, now: Instant, mark: Mark) {
        self.expire(now);
        *self.marks.entry(mark).or_insert(0) += 1;
    }

    fn forget(&mut self, mark: Mark) {
        if self.has(mark) {
            self.ended.push_back((self.now + MEMORY, mark));
        }
    }

    fn expire(&mut self, now: Instant) {
        self.now = now;
        while let Some(&(until, mark)) = self.ended.front()
            && until <= now
        {
            self.ended.pop_front();
            if let Some(count) = self.marks.get_mut(&mark) {
                *count -= 1;
                if *count == 0 {
                    self.marks.remove(&mark);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpcopy_packet::TcpOptions;

    use super::*;

    const T: fn(u64) -> Instant = |ms| Instant::from_micros(ms * 1000);

    fn endpoint(text: &str) -> Endpoint {
        let address: std::net::SocketAddr = text.parse().unwrap();
        Endpoint::new(address.ip(), address.port())
    }

    fn tuple(source: &str, destination: &str) -> FourTuple {
        FourTuple::new(endpoint(source), endpoint(destination))
    }

    fn syn(tuple: FourTuple, seq: u32) -> Segment<'static> {
        Segment {
            tuple,
            seq,
            ack: 0,
            flags: TcpFlags::SYN,
            window: 1000,
            options: TcpOptions::default(),
            hop_limit: 64,
            payload: &[],
            payload_len: 0,
        }
    }

    #[test]
    fn a_mirror_is_known_by_its_sequence_number_wherever_it_arrives() {
        let mut own = OwnConnections::new(1);
        let client = endpoint("192.0.2.1:4000");
        own.mirror_opened(T(0), client, 77);
        let here = tuple("192.0.2.1:4000", "10.0.0.1:80");
        assert!(own.includes(T(60_000), &syn(here, 77)));
        assert!(!own.includes(T(60_000), &syn(here, 78)), "the client's own");
        assert!(!own.includes(T(60_000), &syn(tuple("192.0.2.1:4001", "10.0.0.1:80"), 77)));
    }

    #[test]
    fn what_has_ended_is_remembered_for_a_moment() {
        let mut own = OwnConnections::new(1);
        let here = tuple("192.0.2.1:4000", "10.0.0.1:80");
        own.mirror_opened(T(0), here.source, 77);
        own.mirror_ended(here.source, 77);
        assert!(own.includes(T(1999), &syn(here, 77)));
        assert!(!own.includes(T(2000), &syn(here, 77)));
        assert!(own.marks.is_empty() && own.ended.is_empty());
    }

    #[test]
    fn a_socket_is_known_at_once_by_both_its_ends() {
        let mut own = OwnConnections::new(1);
        let ours = tuple("10.0.0.1:40000", "10.0.0.9:80");
        own.socket_opened(T(0), ours);
        assert!(own.includes(T(5000), &syn(ours, 1)));
        own.socket_opened(T(5000), ours);
        own.socket_ended(ours);
        assert!(own.includes(T(9000), &syn(ours, 1)), "the second lives");
        own.socket_ended(ours);
        assert!(!own.includes(T(11_000), &syn(ours, 1)));
    }

    #[test]
    fn a_socket_behind_an_address_translation_is_known_by_its_hop_limit() {
        let mut own = OwnConnections::new(1);
        let source = "127.0.0.1:40000";
        own.socket_opened(T(0), tuple(source, "127.0.0.1:9090"));
        let here = tuple(source, "127.0.0.1:8080");
        for (hop_limit, is_own) in [
            (SOCKET_HOP_LIMIT, true),
            (40, true),
            (64, false),
            (0, false),
        ] {
            let again = Segment {
                hop_limit,
                ..syn(here, 1)
            };
            assert_eq!(own.includes(T(3), &again), is_own, "hop limit {hop_limit}");
        }
        let another = Segment {
            hop_limit: SOCKET_HOP_LIMIT,
            ..syn(tuple("127.0.0.1:40001", "127.0.0.1:8080"), 1)
        };
        assert!(!own.includes(T(3), &another), "no port of ours");
    }

    #[test]
    fn what_was_never_under_way_leaves_nothing() {
        let mut own = OwnConnections::new(1);
        own.socket_ended(tuple("0.0.0.0:0", "10.0.0.9:80"));
        assert!(own.marks.is_empty() && own.ended.is_empty());
    }
}
