//! Recognises this replay's own connections where the capture sees them again.
//!
//! A loop feeds on itself: each connection captured opens another one that is captured. Where the
//! target leads back to the origin unchanged, the kernel filter keeps our packets out; behind an
//! address translation or a balancer only the source tells.
//!
//! - A mirror's SYN carries our initial sequence number, which no client guesses.
//! - A kernel connection's is not known. Its source and target together are ours alone; but the
//!   source alone may also be the port of a client on this host, at the same time, towards the
//!   origin. So the source counts only shortly after it was taken, and only once so many have come
//!   back that it can't be chance. Should it be chance after all, it ends by itself: with nothing
//!   replayed, no source is new.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags};

use crate::time::Instant;

/// A session that is over is remembered until so long after its beginning: a capture ring may be
/// slower than a target that refuses.
const MEMORY: Duration = Duration::from_secs(2);
/// A source comes back within this, or it is not taken for ours.
const RETURN_TIME: Duration = Duration::from_millis(100);
/// So many that come back are no chance,
const SURE_RETURNS: u32 = 16;
/// among so many of ours, for each shard: a shard sees its share of those that come back.
const WINDOW: u32 = 32;

/// What identifies an own connection, hashed.
type Mark = u64;

/// The marks of own connections that live, or have ended just now.
#[derive(Debug)]
pub(crate) struct OwnConnections {
    hasher: FixedState,
    marks: HashMap<Mark, Own, FixedState>,
    /// Those that have ended, with the time until which they are remembered.
    ended: VecDeque<(Instant, Mark)>,
    now: Instant,
    window: u32,
    /// Kernel connections opened and come back, of late.
    opened: u32,
    returned: u32,
}

#[derive(Clone, Copy, Debug)]
struct Own {
    count: u32,
    opened_at: Instant,
}

impl OwnConnections {
    pub(crate) fn new(seed: u64, shard_count: u16) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            marks: HashMap::with_hasher(hasher.clone()),
            hasher,
            ended: VecDeque::new(),
            now: Instant::ZERO,
            window: WINDOW * u32::from(shard_count.max(1)),
            opened: 0,
            returned: 0,
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
        self.opened += 1;
        if self.opened >= self.window {
            self.opened /= 2;
            self.returned /= 2;
        }
        for mark in self.socket_marks(tuple) {
            self.note(now, mark);
        }
    }

    pub(crate) fn socket_ended(&mut self, tuple: FourTuple) {
        for mark in self.socket_marks(tuple) {
            self.forget(mark);
        }
    }

    /// Whether a captured segment of an unknown connection, or a SYN, is our own.
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
        let own = self.marks.get(&source_mark);
        if own.is_none_or(|own| now.since(own.opened_at) > RETURN_TIME) {
            return false;
        }
        self.returned += 1;
        self.returned >= SURE_RETURNS
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
        let new = Own {
            count: 0,
            opened_at: now,
        };
        let own = self.marks.entry(mark).or_insert(new);
        own.count += 1;
        own.opened_at = now;
    }

    fn forget(&mut self, mark: Mark) {
        if let Some(own) = self.marks.get(&mark) {
            self.ended.push_back((own.opened_at + MEMORY, mark));
        }
        self.expire(self.now);
    }

    fn expire(&mut self, now: Instant) {
        self.now = now;
        while let Some(&(until, mark)) = self.ended.front()
            && until <= now
        {
            self.ended.pop_front();
            if let Some(own) = self.marks.get_mut(&mark) {
                own.count -= 1;
                if own.count == 0 {
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
            payload: &[],
            payload_len: 0,
        }
    }

    #[test]
    fn a_mirror_is_known_by_its_sequence_number_wherever_it_arrives() {
        let mut own = OwnConnections::new(1, 1);
        let client = endpoint("192.0.2.1:4000");
        own.mirror_opened(T(0), client, 77);
        let here = tuple("192.0.2.1:4000", "10.0.0.1:80");
        assert!(own.includes(T(60_000), &syn(here, 77)));
        assert!(!own.includes(T(60_000), &syn(here, 78)), "the client's own");
        assert!(!own.includes(T(60_000), &syn(tuple("192.0.2.1:4001", "10.0.0.1:80"), 77)));
    }

    #[test]
    fn what_has_ended_is_remembered_for_a_moment() {
        let mut own = OwnConnections::new(1, 1);
        let here = tuple("192.0.2.1:4000", "10.0.0.1:80");
        own.mirror_opened(T(0), here.source, 77);
        own.mirror_ended(here.source, 77);
        assert!(own.includes(T(1999), &syn(here, 77)));
        assert!(!own.includes(T(2000), &syn(here, 77)));
        assert!(own.marks.is_empty() && own.ended.is_empty());
    }

    #[test]
    fn a_socket_is_known_at_once_by_both_its_ends() {
        let mut own = OwnConnections::new(1, 1);
        let ours = tuple("10.0.0.1:40000", "10.0.0.9:80");
        own.socket_opened(T(0), ours);
        assert!(own.includes(T(5000), &syn(ours, 1)));
        own.socket_opened(T(5000), ours);
        own.socket_ended(ours);
        assert!(own.includes(T(9000), &syn(ours, 1)), "the second lives");
        own.socket_ended(ours);
        assert!(!own.includes(T(9000), &syn(ours, 1)));
    }

    #[test]
    fn a_source_alone_counts_when_many_come_back() {
        let mut own = OwnConnections::new(1, 1);
        let mut first = None;
        for number in 0..100u64 {
            let source = format!("10.0.0.1:{}", 40_000 + number);
            own.socket_opened(T(number * 10), tuple(&source, "10.0.0.9:80"));
            let again = syn(tuple(&source, "10.0.0.1:8080"), 1);
            if own.includes(T(number * 10 + 3), &again) {
                first.get_or_insert(number);
            } else {
                assert_eq!(first, None, "{number} got through again");
            }
        }
        assert_eq!(first, Some(15));
    }

    #[test]
    fn a_client_that_meets_our_port_now_and_then_is_a_client() {
        let mut own = OwnConnections::new(1, 1);
        for number in 0..10_000u64 {
            let source = format!("127.0.0.1:{}", 30_000 + number);
            own.socket_opened(T(number), tuple(&source, "127.0.0.1:9090"));
            if number % 10 == 0 {
                let client = syn(tuple(&source, "127.0.0.1:8080"), 1);
                assert!(!own.includes(T(number), &client), "{number}");
            }
            let old = format!("127.0.0.1:{}", 30_000 + number.saturating_sub(200));
            let late = syn(tuple(&old, "127.0.0.1:8080"), 1);
            assert!(number < 200 || !own.includes(T(number), &late), "{number}");
        }
    }

    #[test]
    fn ports_in_step_with_ours_are_mistaken_only_for_a_moment() {
        let mut own = OwnConnections::new(1, 1);
        // A client on this host takes each port five connections after we did.
        let mut ours: VecDeque<u16> = (0..5).collect();
        let mut mistaken = 0;
        for number in 5..20_000u16 {
            let port = |number| format!("127.0.0.1:{}", 30_000 + number);
            let client = tuple(&port(number - 5), "127.0.0.1:8080");
            if own.includes(T(number.into()), &syn(client, 1)) {
                mistaken += 1;
            } else {
                let next = ours.back().map_or(0, |last| last + 1);
                ours.push_back(next);
                own.socket_opened(T(number.into()), tuple(&port(next), "127.0.0.1:9090"));
            }
        }
        assert!(mistaken < 300, "{mistaken} of 20000");
    }
}
