//! The sessions and tombstones of one address family.
//!
//! Tuples are kept in the family's own size, and tombstones apart from sessions: after a busy
//! time there are many more of them, so they should be small (some 60 bytes each over IPv4 with
//! all that belongs to them).

use std::collections::VecDeque;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tcpcopy_packet::{Endpoint, FourTuple, TcpFlags};

use super::{Conflict, Judgement, LinkId, RELOAD_GRACE, Reset, answers_another_syn};
use crate::TargetSegment;
use crate::journal::JournalRecord;
use crate::tunnel::{Registration, Unregistration};

/// Times a target is told that a session is over before it is left to its own timers.
const MAX_RESETS: u8 = 4;

/// Milliseconds since the table was made, wrapping: ordered within 24 days, which is more than
/// anything here lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u32);

impl Tick {
    pub(super) fn since(epoch: Instant, now: Instant) -> Self {
        Self(now.saturating_duration_since(epoch).as_millis() as u32)
    }

    fn after(self, duration: Duration) -> Self {
        Self(self.0.wrapping_add(duration.as_millis() as u32))
    }

    fn is_past(self, now: Self) -> bool {
        now.0.wrapping_sub(self.0).cast_signed() >= 0
    }
}

/// A tuple in its family's size; source is the client.
pub(super) trait Key: Copy + Eq + Hash {
    /// The key of a tuple from client to target; an address of the other family becomes
    /// unspecified.
    fn of(tuple: &FourTuple) -> Self;
    fn tuple(&self) -> FourTuple;
}

/// Client and target over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyV4 {
    addresses: [u32; 2],
    ports: [u16; 2],
}

/// Client and target over IPv6; in halves, for alignment and quick hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyV6 {
    addresses: [[u32; 4]; 2],
    ports: [u16; 2],
}

impl Key for KeyV4 {
    fn of(tuple: &FourTuple) -> Self {
        let ends = [tuple.source, tuple.destination];
        let bits = |end: Endpoint| match end.address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(_) => 0,
        };
        Self {
            addresses: ends.map(bits),
            ports: ends.map(|end| end.port),
        }
    }

    fn tuple(&self) -> FourTuple {
        let end =
            |i: usize| Endpoint::new(Ipv4Addr::from_bits(self.addresses[i]).into(), self.ports[i]);
        FourTuple::new(end(0), end(1))
    }
}

impl Key for KeyV6 {
    fn of(tuple: &FourTuple) -> Self {
        let ends = [tuple.source, tuple.destination];
        let words = |end: Endpoint| match end.address {
            IpAddr::V4(_) => [0; 4],
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
            }
        };
        Self {
            addresses: ends.map(words),
            ports: ends.map(|end| end.port),
        }
    }

    fn tuple(&self) -> FourTuple {
        let end = |i: usize| {
            let bits = self.addresses[i]
                .iter()
                .fold(0, |bits, &w| bits << 32 | u128::from(w));
            Endpoint::new(Ipv6Addr::from_bits(bits).into(), self.ports[i])
        };
        FourTuple::new(end(0), end(1))
    }
}

/// A registered session.
#[derive(Clone, Copy, Debug)]
struct Live {
    session: u64,
    link: LinkId,
    iss: u32,
    /// What the target acknowledged last, once it has.
    target_ack: Option<u32>,
}

/// A tuple whose session is over.
#[derive(Clone, Copy, Debug)]
struct Tombstone {
    iss: u32,
    expires_at: Tick,
    /// Under which time its entry in the ring is filed; entries under others are stale.
    filed_at: Tick,
    /// Times the target may still be told.
    resets_left: u8,
    /// Whether it comes from a journal, so that its session may yet be registered again.
    loaded: bool,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The table of one address family.
#[derive(Debug)]
pub(super) struct Half<K> {
    sessions: Map<K, Live>,
    tombstones: Map<K, Tombstone>,
    /// Tombstones by the time at which to look at them.
    ring: VecDeque<(K, Tick)>,
    tombstone_life: Duration,
}

impl<K: Key> Half<K> {
    pub(super) fn new(tombstone_life: Duration) -> Self {
        Self {
            sessions: Map::default(),
            tombstones: Map::default(),
            ring: VecDeque::new(),
            tombstone_life,
        }
    }

    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn tombstones(&self) -> usize {
        self.tombstones.len()
    }

    /// What counts against the table's limit: sessions, and entries of the ring, of which every
    /// tombstone has one.
    pub(super) fn entries(&self) -> usize {
        self.sessions.len() + self.ring.len()
    }

    pub(super) fn load(&mut self, tuple: FourTuple, iss: u32, now: Tick) {
        self.entomb(K::of(&tuple), iss, now, MAX_RESETS, true);
    }

    pub(super) fn forget(&mut self, tuple: FourTuple) {
        self.tombstones.remove(&K::of(&tuple));
    }

    pub(super) fn register(
        &mut self,
        link: LinkId,
        entry: &Registration,
        has_room: bool,
        yields: impl Fn(LinkId) -> bool,
    ) -> Result<(), Conflict> {
        let Registration {
            session,
            tuple,
            iss,
        } = *entry;
        let key = K::of(&tuple);
        match self.sessions.entry(key) {
            Entry::Occupied(mut slot) => {
                let live = slot.get_mut();
                if live.link != link && !yields(live.link) {
                    return Err(Conflict);
                }
                let target_ack = live.target_ack.filter(|_| live.iss == iss);
                *live = Live {
                    session,
                    link,
                    iss,
                    target_ack,
                };
            }
            Entry::Vacant(_) if !has_room => return Err(Conflict),
            Entry::Vacant(slot) => {
                slot.insert(Live {
                    session,
                    link,
                    iss,
                    target_ack: None,
                });
                self.tombstones.remove(&key);
            }
        }
        Ok(())
    }

    pub(super) fn unregister(&mut self, link: LinkId, entry: &Unregistration, now: Tick) {
        let key = K::of(&entry.tuple);
        if let Entry::Occupied(slot) = self.sessions.entry(key)
            && (slot.get().link, slot.get().session) == (link, entry.session)
        {
            // The mirror closed or reset the connection itself; a target that still talks has not
            // heard of it, or not believed it, and is told.
            let live = slot.remove();
            self.entomb(key, live.iss, now, MAX_RESETS, false);
        }
    }

    /// Judges a packet; also tells whether a tombstone was given up for it.
    pub(super) fn judge(&mut self, segment: &TargetSegment<'_>, now: Tick) -> (Judgement, bool) {
        let key = K::of(&segment.tuple.reversed());
        let flags = segment.flags();
        if let Some(live) = self.sessions.get_mut(&key) {
            if flags.contains(TcpFlags::ACK) {
                live.target_ack = Some(segment.ack());
            }
            return (
                Judgement::Session {
                    link: live.link,
                    session: live.session,
                },
                false,
            );
        }
        let Some(tombstone) = self.tombstones.get_mut(&key) else {
            return (Judgement::Foreign, false);
        };
        if answers_another_syn(segment, tombstone.iss) {
            self.tombstones.remove(&key);
            return (Judgement::Foreign, true);
        }
        tombstone.expires_at = now.after(self.tombstone_life);
        let may_come_back = tombstone.loaded && !Tick(0).after(RELOAD_GRACE).is_past(now);
        let told = flags.contains(TcpFlags::RST) || !flags.contains(TcpFlags::ACK);
        if told || may_come_back || tombstone.resets_left == 0 {
            return (Judgement::Late { reset: None }, false);
        }
        tombstone.resets_left -= 1;
        let reset = Reset {
            tuple: segment.tuple.reversed(),
            seq: segment.ack(),
        };
        (Judgement::Late { reset: Some(reset) }, false)
    }

    /// Drops tombstones whose time has come and tells `gone` about each.
    pub(super) fn expire(&mut self, now: Tick, gone: &mut impl FnMut(FourTuple)) {
        while let Some(&(key, filed_at)) = self.ring.front()
            && filed_at.is_past(now)
        {
            self.ring.pop_front();
            let Entry::Occupied(mut slot) = self.tombstones.entry(key) else {
                continue;
            };
            let tombstone = slot.get_mut();
            if tombstone.filed_at != filed_at {
                continue;
            }
            if tombstone.expires_at.is_past(now) {
                slot.remove();
                gone(key.tuple());
            } else {
                // The target has talked since. The ring is not in order of these times, so the
                // tombstone may be looked at late, by less than its life.
                tombstone.filed_at = tombstone.expires_at;
                self.ring.push_back((key, tombstone.expires_at));
            }
        }
        if self.tombstones.is_empty() {
            self.ring.clear();
        }
    }

    /// Turns sessions of the links that `whose` picks into tombstones, with a reset for each
    /// whose target has spoken.
    pub(super) fn bury(
        &mut self,
        now: Tick,
        resets: &mut Vec<Reset>,
        whose: impl Fn(LinkId) -> bool,
    ) {
        let dead: Vec<(K, Live)> = self
            .sessions
            .extract_if(|_, live| whose(live.link))
            .collect();
        for (key, live) in dead {
            if let Some(seq) = live.target_ack {
                resets.push(Reset {
                    tuple: key.tuple(),
                    seq,
                });
            }
            self.entomb(key, live.iss, now, MAX_RESETS, false);
        }
    }

    pub(super) fn snapshot(&self, out: &mut Vec<u8>) {
        let sessions = self.sessions.iter().map(|(key, live)| (key, live.iss));
        let tombstones = self
            .tombstones
            .iter()
            .map(|(key, tombstone)| (key, tombstone.iss));
        for (key, iss) in sessions.chain(tombstones) {
            JournalRecord::Live {
                tuple: key.tuple(),
                iss,
            }
            .encode(out);
        }
    }

    fn entomb(&mut self, key: K, iss: u32, now: Tick, resets_left: u8, loaded: bool) {
        let expires_at = now.after(self.tombstone_life);
        let tombstone = Tombstone {
            iss,
            expires_at,
            filed_at: expires_at,
            resets_left,
            loaded,
        };
        let before = self.tombstones.insert(key, tombstone);
        // A second entry under the same time would be looked at twice.
        if before.is_none_or(|before| before.filed_at != expires_at) {
            self.ring.push_back((key, expires_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_small() {
        // A hash table is at least 7/16 full after it has grown, 7/8 before.
        let entry = size_of::<(KeyV4, Tombstone)>() + 1;
        let ring = size_of::<(KeyV4, Tick)>();
        assert!(entry * 4 / 3 + ring <= 60, "{entry} {ring}");
    }

    #[test]
    fn ticks_order_across_the_wrap() {
        let late = Tick(u32::MAX - 5);
        let expires = late.after(Duration::from_millis(10));
        assert!(!expires.is_past(late) && expires.is_past(Tick(4)) && !expires.is_past(Tick(3)));
    }
}
