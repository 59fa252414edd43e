//! The capturing half of the engine: the connection table, and what each segment means for it.

mod begin;
mod life;
mod offer;
mod origin;
mod stream;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;
use tcpcopy_packet::{ClientSeq, Endpoint, FourTuple, Segment, TcpFlags};

use self::offer::imitated_rtt;
use crate::config::{EngineConfig, Mapping, Tuning};
use crate::connection::{Connection, Phase, Slot};
use crate::ledger::DropReason;
use crate::reassembly::Reassembly;
use crate::replay::{HomeNews, Replay, SessionKey};
use crate::session::Home;
use crate::shaping::Shaping;
use crate::time::Instant;
use crate::timer::TimerQueue;

/// What a connection costs of the memory budget beside the bytes it holds.
const CONNECTION_COST_BYTES: u64 = 512;

/// A connection's place in the table and its serial number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ConnectionKey {
    place: u32,
    serial: u32,
}

#[derive(Debug)]
pub(crate) struct Capture {
    mappings: HashMap<u16, Vec<Mapping>, FixedState>,
    by_tuple: HashMap<FourTuple, u32, FixedState>,
    connections: Slab<Connection>,
    next_serial: u32,
    shaping: Shaping,
    timers: TimerQueue<ConnectionKey>,
    held_bytes: u64,
}

impl Capture {
    pub(crate) fn new(config: &EngineConfig, seed: u64) -> Self {
        let state = FixedState::with_seed(seed);
        let mut mappings = HashMap::with_hasher(state.clone());
        // What names an address goes before what takes every address.
        let (named, any): (Vec<&Mapping>, Vec<&Mapping>) = config
            .mappings
            .iter()
            .partition(|mapping| mapping.origin_address.is_some());
        for mapping in named.into_iter().chain(any) {
            mappings
                .entry(mapping.origin_port)
                .or_insert_with(Vec::new)
                .push(*mapping);
        }
        Self {
            mappings,
            by_tuple: HashMap::with_hasher(state),
            connections: Slab::new(),
            next_serial: 0,
            shaping: Shaping::new(config, seed),
            timers: TimerQueue::new(),
            held_bytes: 0,
        }
    }

    /// Shapes the load otherwise from now on.
    pub(crate) fn tune(&mut self, now: Instant, tuning: Tuning) {
        self.shaping.tune(now, tuning);
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Bytes held until a hole in a captured stream is filled.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// What connections take of the memory budget.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.held_bytes + self.connections.len() as u64 * CONNECTION_COST_BYTES
    }

    /// Copies whose account waits for a session that is not there at the moment.
    pub(crate) fn owed_connections(&self) -> u64 {
        let owed = |slot: &&Slot| {
            matches!(
                slot,
                Slot::Waiting {
                    owes_connection: true,
                    ..
                }
            )
        };
        self.connections
            .iter()
            .map(|(_, c)| c.slots.iter().filter(owed).count() as u64)
            .sum()
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the memory budget leaves no room for another connection.
    fn is_full(&self, replay: &Replay) -> bool {
        let used = self.memory_bytes() + replay.memory_bytes();
        used + CONNECTION_COST_BYTES > replay.config.memory_budget_bytes
    }

    /// The target of traffic to `origin`, if any is asked for.
    fn target_of(&self, origin: Endpoint) -> Option<Endpoint> {
        let matches = |mapping: &&Mapping| {
            mapping
                .origin_address
                .is_none_or(|address| address == origin.address)
        };
        let candidates = self.mappings.get(&origin.port)?;
        // A name may stand for addresses of both families: the one like the client's goes first.
        let same_family = |mapping: &&Mapping| {
            matches(mapping) && mapping.target.address.is_ipv4() == origin.address.is_ipv4()
        };
        candidates
            .iter()
            .find(same_family)
            .or_else(|| candidates.iter().find(matches))
            .map(|mapping| mapping.target)
    }

    /// A SYN that this replay has sent, whoever of it that was.
    pub(crate) fn leave_alone(&mut self, now: Instant, segment: &Segment<'_>, replay: &mut Replay) {
        replay.ledger.capture.packets += 1;
        let Some(target) = self.target_of(segment.tuple.destination) else {
            replay.ledger.capture.not_ours += 1;
            return;
        };
        replay.ledger.capture.client_segments += 1;
        let place = self.by_tuple.get(&segment.tuple).copied();
        self.leave_own(now, place, segment, target, replay);
    }

    pub(crate) fn segment(&mut self, now: Instant, segment: &Segment<'_>, replay: &mut Replay) {
        let counters = &mut replay.ledger.capture;
        counters.packets += 1;
        let Some(target) = self.target_of(segment.tuple.destination) else {
            if self.target_of(segment.tuple.source).is_some() {
                counters.origin_segments += 1;
                self.origin_segment(now, segment, replay);
            } else {
                counters.not_ours += 1;
            }
            return;
        };
        counters.client_segments += 1;
        counters.truncated_by_snaplen +=
            u64::from(segment.payload.len() < segment.payload_len as usize);
        let is_full = self.is_full(replay);
        let place = self.by_tuple.get(&segment.tuple).copied();
        let is_syn = segment.flags.contains(TcpFlags::SYN);
        let may_begin = is_syn || (place.is_none() && segment.payload_len > 0);
        if may_begin && replay.own.includes(now, segment) {
            return self.leave_own(now, place, segment, target, replay);
        }
        match place {
            Some(place) if is_syn => self.syn_again(now, place, segment, target, replay),
            Some(place) => self.known_segment(now, place, segment, replay),
            None if is_full => self.refuse(segment, &mut replay.ledger),
            None if is_syn => self.begin(now, segment, target, replay),
            None if may_begin => self.join(now, segment, target, replay),
            None => replay.ledger.capture.no_connection += 1,
        }
    }

    /// A segment of the origin tells which client bytes have arrived there; its own bytes are for a
    /// plugin.
    fn origin_segment(&mut self, now: Instant, segment: &Segment<'_>, replay: &mut Replay) {
        let Some(&place) = self.by_tuple.get(&segment.tuple.reversed()) else {
            return;
        };
        let connection = &mut self.connections[place as usize];
        if let Phase::Streaming(reassembly) = &connection.phase
            && reassembly.gap_since().is_some()
            && segment.flags.contains(TcpFlags::ACK)
            && ClientSeq::new(segment.ack).after(reassembly.next())
        {
            self.give_up_gap(now, place, replay);
        }
        self.origin_data(now, place, segment, replay);
    }

    /// A SYN on a tuple that is in the table: the same again, or a new connection.
    fn syn_again(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        target: Endpoint,
        replay: &mut Replay,
    ) {
        let connection = &mut self.connections[place as usize];
        if connection.isn == Some(ClientSeq::new(segment.seq)) {
            connection.last_seen_at = now;
            return;
        }
        self.abandon(now, place, replay);
        self.begin(now, segment, target, replay);
    }

    fn known_segment(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        replay: &mut Replay,
    ) {
        let connection = &mut self.connections[place as usize];
        if !matches!(connection.phase, Phase::Ended) {
            connection.last_seen_at = now;
        }
        if segment.flags.contains(TcpFlags::RST) {
            return self.client_reset(now, place, segment, replay);
        }
        if !connection.is_established {
            connection.is_established = true;
            connection.set_baseline(segment.ack);
            let rtt = imitated_rtt(connection, now, &replay.config);
            connection.rtt = rtt;
            for key in live_sessions(connection) {
                replay.client_established(key, rtt);
            }
        }
        if connection.isn.is_some() {
            for key in live_sessions(connection) {
                replay.follow_window(key, segment.window);
            }
        }
        self.note_origin_ack(now, place, segment, replay);
        let has_data = segment.payload_len > 0 || segment.flags.contains(TcpFlags::FIN);
        if has_data {
            self.data(now, place, segment, replay);
        }
    }

    /// The client aborts. Where the stream has ended already there is nothing left to abort.
    fn client_reset(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        replay: &mut Replay,
    ) {
        let connection = &mut self.connections[place as usize];
        if let Phase::Streaming(reassembly) = &connection.phase {
            let distance = ClientSeq::new(segment.seq).since(reassembly.next());
            if !(-(1 << 30)..1 << 30).contains(&distance) {
                replay.ledger.capture.outlandish += 1;
                return;
            }
        }
        let seen = match segment.flags.contains(TcpFlags::ACK) {
            true => connection.note_seen(segment.ack),
            false => 0,
        };
        let seen = connection.seen_since_replayed(seen);
        for key in live_sessions(connection) {
            replay.end_stream(now, key, true, seen);
        }
        self.flush_held(place, DropReason::ClientReset, &mut replay.ledger);
        self.connections[place as usize].phase = Phase::Ended;
        self.conclude_if_over(place, replay);
    }

    fn data(&mut self, now: Instant, place: u32, segment: &Segment<'_>, replay: &mut Replay) {
        let connection = &mut self.connections[place as usize];
        match &mut connection.phase {
            Phase::Ended => {
                replay.ledger.capture.after_fin_bytes += u64::from(segment.payload_len);
            }
            Phase::Ignored { .. } | Phase::AwaitingBoundary { .. } => {
                self.unreplayed_data(now, place, segment, replay);
            }
            Phase::Streaming(_) => self.stream_data(now, place, segment, replay),
        }
    }

    /// Data of a connection that is not replayed, or not yet: counted, and looked at for the
    /// boundary at which it could begin.
    fn unreplayed_data(
        &mut self,
        now: Instant,
        place: u32,
        segment: &Segment<'_>,
        replay: &mut Replay,
    ) {
        let connection = &mut self.connections[place as usize];
        let seq = ClientSeq::new(segment.seq);
        let (reason, next, may_begin) = match &mut connection.phase {
            Phase::Ignored { reason, next } => (*reason, next, false),
            Phase::AwaitingBoundary { next } => (DropReason::JoinedLate, next, true),
            Phase::Streaming(_) | Phase::Ended => return,
        };
        let expected = *next.get_or_insert(seq);
        let end = seq + segment.payload_len;
        let new_bytes = u64::try_from(end.since(expected.max(seq))).unwrap_or(0);
        *next = Some(expected.max(end));
        if new_bytes > 0 {
            let is_first = !std::mem::replace(&mut connection.has_spoken, true);
            let seen = connection.note_seen(segment.ack);
            // After a hole, the request may have begun among the bytes that are missing. A plugin
            // finds the beginning itself.
            let begins = seen > 0 && seq == expected || connection.needs.is_some();
            if may_begin && begins {
                connection.phase = Phase::Streaming(Reassembly::new(seq));
                connection.has_spoken = false;
                return self.stream_data(now, place, segment, replay);
            }
            let copies = connection.slots.len() as u64;
            let ledger = &mut replay.ledger;
            ledger.bytes.capture(new_bytes * copies);
            ledger.bytes.drop(reason, new_bytes * copies);
            if is_first || seen > 0 {
                ledger.requests.capture(copies);
                ledger.requests.drop(reason, copies);
            }
        }
        if segment.flags.contains(TcpFlags::FIN) {
            self.connections[place as usize].phase = Phase::Ended;
            self.conclude_if_over(place, replay);
        }
    }

    /// What the replaying half has to say about a slot.
    pub(crate) fn hear(&mut self, news: HomeNews, replay: &mut Replay) {
        match news {
            HomeNews::Moved { home, session } => {
                if let Some(slot) = self.slot_mut(home) {
                    *slot = Slot::Live(session);
                }
            }
            HomeNews::Ended {
                home,
                reason,
                owes_connection,
                ..
            } => match self.slot_mut(home) {
                Some(slot) => {
                    *slot = Slot::Waiting {
                        reason,
                        owes_connection,
                    };
                    self.conclude_if_over(home.connection, replay);
                    self.reschedule(home.connection, &replay.config);
                }
                None if owes_connection => replay.ledger.connections.drop(reason, 1),
                None => {}
            },
        }
    }

    fn slot_mut(&mut self, home: Home) -> Option<&mut Slot> {
        let connection = self.connections.get_mut(home.connection as usize)?;
        if connection.serial != home.serial {
            return None;
        }
        connection.slots.get_mut(usize::from(home.slot))
    }
}

/// The sessions of a connection.
fn live_sessions(connection: &Connection) -> impl Iterator<Item = SessionKey> + '_ {
    connection.slots.iter().filter_map(|slot| match slot {
        Slot::Live(key) => Some(*key),
        Slot::Waiting { .. } => None,
    })
}
