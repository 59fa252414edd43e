//! The session table: which packets belong to a session, and what becomes of them.
//!
//! A registered session is *live*. When it ends, or when its link has been dead for the grace
//! time, it becomes a *tombstone*: no record goes anywhere, but its packets are still dropped, so
//! that no late one reaches the real client. Everything else is *foreign* and accepted: other
//! users of the target are not touched.
//!
//! A tombstone lives for a while after the last packet of its tuple. It is given up at once when
//! the target answers a handshake that was not the session's: then a real client has taken the
//! tuple for itself.
//!
//! A session whose link died is *reset* at the target, by a RST in the client's name. The target
//! accepts a RST only with the exact sequence number it expects (RFC 5961 section 3.2), which is
//! what it acknowledged last. If more has reached it since, it answers with an ACK that says so,
//! and the next RST is exact.

mod half;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tcpcopy_packet::{FourTuple, TcpFlags};

use crate::TargetSegment;
use crate::journal::JournalRecord;
use crate::tunnel::{Registration, Unregistration};
use half::{Half, KeyV4, KeyV6, Tick};

/// Time after a session's end during which its packets are still dropped. Longer than the longest
/// pause between two retransmissions of Linux (120 s).
pub const DEFAULT_TOMBSTONE: Duration = Duration::from_secs(130);
/// Longest life of a tombstone that can be asked for.
pub const MAX_TOMBSTONE: Duration = Duration::from_secs(24 * 3600);
/// Time that a broken link has to come back before its sessions are reset.
pub const DEFAULT_RESET_GRACE: Duration = Duration::from_secs(3);
/// Time after the start that tcpcopy has to register again what the journal says, before sessions
/// nobody registered are reset: its longest pause between two attempts to connect, and the grace.
pub const RELOAD_GRACE: Duration = Duration::from_secs(10);
/// Live sessions at most, some 300 MiB; registrations beyond are answered as conflicts.
pub const MAX_SESSIONS: usize = 4 << 20;
/// Live sessions and tombstones at most, some 600 MiB; new registrations beyond are answered as
/// conflicts, so that no tombstone has to go before its time.
pub const MAX_TUPLES: usize = 8 << 20;

/// A tunnel connection; numbers are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// What is done with a packet of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes its way.
    Accept,
    /// It goes nowhere.
    Drop,
}

/// What a packet of the target turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No session's packet.
    Foreign,
    /// A live session's: to be reported.
    Session {
        /// The link to report it on. It may be dead; then the packet is lost, and the target
        /// sends it again.
        link: LinkId,
        /// The session's number on that link.
        session: u64,
    },
    /// A packet of a session that is over.
    Late {
        /// The target should be told, if it doesn't know.
        reset: Option<Reset>,
    },
}

impl Judgement {
    /// What to do with the packet.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        match self {
            Self::Foreign => Verdict::Accept,
            Self::Session { .. } | Self::Late { .. } => Verdict::Drop,
        }
    }
}

/// A RST to be sent to the target in the client's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reset {
    /// Source is the mirrored client, destination the target.
    pub tuple: FourTuple,
    /// The sequence number the target expects.
    pub seq: u32,
}

/// The tuple belongs to a session of another instance, or the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tuple belongs to another instance, or the table is full")]
pub struct Conflict;

/// The table's limits.
#[derive(Clone, Copy, Debug)]
pub struct TableConfig {
    /// How long a tombstone outlives the last packet of its tuple; [`MAX_TOMBSTONE`] at most.
    pub tombstone: Duration,
    /// How long a broken link may take to come back.
    pub reset_grace: Duration,
    /// Whether journal records are wanted.
    pub journal: bool,
    /// Live sessions and tombstones at most.
    pub max_tuples: usize,
}

impl Default for TableConfig {
    fn default() -> Self {
        Self {
            tombstone: DEFAULT_TOMBSTONE,
            reset_grace: DEFAULT_RESET_GRACE,
            journal: true,
            max_tuples: MAX_TUPLES,
        }
    }
}

/// What the table holds and has seen since its making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Live sessions now.
    pub sessions: u64,
    /// Tombstones now.
    pub tombstones: u64,
    /// Registrations accepted, repeated ones included.
    pub registered: u64,
    /// Registrations refused.
    pub conflicts: u64,
    /// Packets of live sessions.
    pub session_packets: u64,
    /// Packets of tombstones.
    pub late_packets: u64,
    /// Packets of neither.
    pub foreign_packets: u64,
    /// Resets asked for.
    pub resets: u64,
}

/// One tunnel connection as the table sees it.
#[derive(Clone, Copy, Debug)]
struct Link {
    instance: u64,
    shard: u16,
    /// When the sessions it still has are reset; `None` while it lives.
    sweep_at: Option<Instant>,
}

/// Sessions and tombstones of all links.
#[derive(Debug)]
pub struct SessionTable {
    config: TableConfig,
    epoch: Instant,
    v4: Half<KeyV4>,
    v6: Half<KeyV6>,
    links: BTreeMap<LinkId, Link>,
    next_link: u32,
    counts: TableCounts,
    /// Records not yet taken by [`Self::take_journal`].
    journal: Vec<u8>,
}

impl SessionTable {
    /// Makes an empty table.
    #[must_use]
    pub fn new(config: TableConfig, now: Instant) -> Self {
        let tombstone = config.tombstone.min(MAX_TOMBSTONE);
        Self {
            config: TableConfig {
                tombstone,
                ..config
            },
            epoch: now,
            v4: Half::new(tombstone),
            v6: Half::new(tombstone),
            links: BTreeMap::new(),
            next_link: 0,
            counts: TableCounts::default(),
            journal: Vec::new(),
        }
    }

    /// Takes in a record of the journal of an earlier run: live sessions become tombstones.
    pub fn load(&mut self, now: Instant, record: JournalRecord) {
        let now = self.tick(now);
        match record {
            JournalRecord::Live { tuple, iss } => match tuple.source.address {
                IpAddr::V4(_) => self.v4.load(tuple, iss, now),
                IpAddr::V6(_) => self.v6.load(tuple, iss, now),
            },
            JournalRecord::Gone { tuple } => match tuple.source.address {
                IpAddr::V4(_) => self.v4.forget(tuple),
                IpAddr::V6(_) => self.v6.forget(tuple),
            },
        }
    }

    /// Takes in a link whose hello was accepted. Also returns the link of the same shard that it
    /// replaces, if that one is not known to be dead: the caller closes it.
    pub fn link_up(&mut self, now: Instant, instance: u64, shard: u16) -> (LinkId, Option<LinkId>) {
        let mut replaced = None;
        for (id, link) in &mut self.links {
            if (link.instance, link.shard) == (instance, shard) {
                if link.sweep_at.is_none() {
                    replaced = Some(*id);
                }
                // Time to register again counts from now.
                link.sweep_at = Some(now + self.config.reset_grace);
            }
        }
        let id = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(
            id,
            Link {
                instance,
                shard,
                sweep_at: None,
            },
        );
        (id, replaced)
    }

    /// Notes that a link broke: its sessions stay live for the grace time, then are reset unless
    /// they were registered again on another link.
    pub fn link_down(&mut self, now: Instant, link: LinkId) {
        let grace = self.config.reset_grace;
        if let Some(link) = self.links.get_mut(&link) {
            link.sweep_at.get_or_insert(now + grace);
        }
    }

    /// Notes that a link's instance ended in good order: what it left is reset at once.
    pub fn link_bye(&mut self, now: Instant, link: LinkId, resets: &mut Vec<Reset>) {
        if self.links.remove(&link).is_some() {
            self.bury(now, resets, |owner| owner == link);
        }
    }

    /// Registers a session on a link, or moves it there.
    ///
    /// # Errors
    /// [`Conflict`] when the tuple is live on a living link of another instance, or when it is new
    /// and the table is full.
    pub fn register(&mut self, link: LinkId, entry: &Registration) -> Result<(), Conflict> {
        let links = &self.links;
        let instance = links.get(&link).map(|link| link.instance);
        let yields = |owner| {
            links
                .get(&owner)
                .is_none_or(|owner| owner.sweep_at.is_some() || Some(owner.instance) == instance)
        };
        let has_room = self.v4.sessions() + self.v6.sessions() < MAX_SESSIONS
            && self.v4.entries() + self.v6.entries() < self.config.max_tuples;
        let result = match entry.tuple.source.address {
            IpAddr::V4(_) => self.v4.register(link, entry, has_room, yields),
            IpAddr::V6(_) => self.v6.register(link, entry, has_room, yields),
        };
        match result {
            Ok(()) => {
                self.counts.registered += 1;
                self.record(JournalRecord::Live {
                    tuple: entry.tuple,
                    iss: entry.iss,
                });
            }
            Err(Conflict) => self.counts.conflicts += 1,
        }
        result
    }

    /// Ends a session: it becomes a tombstone. Of a session that the link does not have this
    /// takes no notice.
    pub fn unregister(&mut self, now: Instant, link: LinkId, entry: &Unregistration) {
        let now = self.tick(now);
        match entry.tuple.source.address {
            IpAddr::V4(_) => self.v4.unregister(link, entry, now),
            IpAddr::V6(_) => self.v6.unregister(link, entry, now),
        }
    }

    /// Says what a packet of the target is.
    pub fn judge(&mut self, now: Instant, segment: &TargetSegment<'_>) -> Judgement {
        let now = self.tick(now);
        let (judgement, forgotten) = match segment.tuple.source.address {
            IpAddr::V4(_) => self.v4.judge(segment, now),
            IpAddr::V6(_) => self.v6.judge(segment, now),
        };
        if forgotten {
            self.record(JournalRecord::Gone {
                tuple: segment.tuple.reversed(),
            });
        }
        match judgement {
            Judgement::Foreign => self.counts.foreign_packets += 1,
            Judgement::Session { .. } => self.counts.session_packets += 1,
            Judgement::Late { reset } => {
                self.counts.late_packets += 1;
                self.counts.resets += u64::from(reset.is_some());
            }
        }
        judgement
    }

    /// Does what is due: sessions of links that did not come back are reset, old tombstones go.
    pub fn timeout(&mut self, now: Instant, resets: &mut Vec<Reset>) {
        let due = |link: &Link| link.sweep_at.is_some_and(|at| at <= now);
        let dead: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| due(link))
            .map(|(id, _)| *id)
            .collect();
        if !dead.is_empty() {
            self.links.retain(|id, _| !dead.contains(id));
            self.bury(now, resets, |owner| dead.contains(&owner));
        }
        let now = self.tick(now);
        let Self {
            v4,
            v6,
            journal,
            config,
            ..
        } = self;
        let mut gone = |tuple| {
            if config.journal {
                JournalRecord::Gone { tuple }.encode(journal);
            }
        };
        v4.expire(now, &mut gone);
        v6.expire(now, &mut gone);
    }

    /// Resets all sessions, for the end of the program.
    pub fn reset_all(&mut self, now: Instant, resets: &mut Vec<Reset>) {
        self.links.clear();
        self.bury(now, resets, |_| true);
    }

    /// Moves the journal records made since the last call to the end of `out`.
    pub fn take_journal(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.journal);
    }

    /// Writes a journal that says all there is now, and forgets the records not taken yet.
    pub fn snapshot(&mut self, out: &mut Vec<u8>) {
        self.journal.clear();
        self.v4.snapshot(out);
        self.v6.snapshot(out);
    }

    /// What the table holds and has seen.
    #[must_use]
    pub fn counts(&self) -> TableCounts {
        TableCounts {
            sessions: (self.v4.sessions() + self.v6.sessions()) as u64,
            tombstones: (self.v4.tombstones() + self.v6.tombstones()) as u64,
            ..self.counts
        }
    }

    /// Turns the sessions of some links into tombstones and resets them.
    fn bury(&mut self, now: Instant, resets: &mut Vec<Reset>, whose: impl Fn(LinkId) -> bool) {
        let now = self.tick(now);
        let before = resets.len();
        self.v4.bury(now, resets, &whose);
        self.v6.bury(now, resets, &whose);
        // Sessions come out in the order of their hashes; this one is the same in every run.
        resets[before..].sort_unstable();
        self.counts.resets += (resets.len() - before) as u64;
    }

    fn record(&mut self, record: JournalRecord) {
        if self.config.journal {
            record.encode(&mut self.journal);
        }
    }

    fn tick(&self, now: Instant) -> Tick {
        Tick::since(self.epoch, now)
    }
}

/// Whether a segment of a tombstone opens a connection of somebody else: it answers a SYN that
/// was not the session's.
fn answers_another_syn(segment: &TargetSegment<'_>, iss: u32) -> bool {
    segment.flags().contains(TcpFlags::SYN | TcpFlags::ACK) && segment.ack() != iss.wrapping_add(1)
}
