//! A shard's tunnels to all intercepts: one answer for the engine, whoever it comes from.
//!
//! Every session is registered with every intercept, since any of them may see the target's
//! answers. So all of them must be there: what a missing one does not hold back, the target sends
//! to real clients. With several tunnels to one intercept, the session's number says which of them
//! it uses. An intercept counts as up when all its tunnels are.

mod link;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use intercept_lib::LogGate;
use intercept_lib::tunnel::{
    DownReason, Features, Hello, Registration, ReplyRecord, Security, Unregistration,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::Intercept;
use crate::error::StartError;
use link::{Link, LinkEvent};

/// Time the last words to the intercepts may take.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// What the engine hears of its tunnels.
#[derive(Debug)]
pub enum TunnelEvent<'a> {
    /// All intercepts are up, for the first time or again: register every live session.
    Up,
    /// They no longer are: what was registered or asked for counts no more.
    Down,
    /// The session is registered with every intercept.
    Confirmed(u64),
    /// An intercept can't take the session: its tuple belongs to another tcpcopy.
    Conflict(u64),
    /// The target sent a segment.
    Reply(ReplyRecord<'a>),
}

/// What became of the tunnels so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// Intercepts in all; none where connections need none.
    pub intercepts: u64,
    /// Those that are up.
    pub intercepts_up: u64,
    /// How often an intercept was lost.
    pub losses: u64,
    /// Replies that an intercept dropped because they were not read fast enough.
    pub overflowed_replies: u64,
    /// Sessions an intercept would not take.
    pub conflicts: u64,
}

/// Who the links belong to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The run's random number.
    pub instance: u64,
    /// The shard.
    pub shard: u16,
    /// How the links are protected.
    pub security: Security,
    /// What every intercept has to be able to do.
    pub features: Features,
}

/// All tunnels of a shard.
#[derive(Debug)]
pub struct Tunnel {
    /// Those of the first intercept, then those of the second, …
    links: Vec<Link>,
    router: Router,
}

impl Tunnel {
    /// Makes the tunnels of a shard, `per_intercept` to each intercept; they connect once they are
    /// serviced.
    #[must_use]
    pub fn new(
        intercepts: &[Intercept],
        per_intercept: usize,
        identity: &Identity,
        now: Instant,
    ) -> Self {
        let mut links = Vec::new();
        for intercept in intercepts {
            for _ in 0..per_intercept {
                let number = usize::from(identity.shard) * per_intercept * intercepts.len();
                let number = u16::try_from(number + links.len()).unwrap_or(u16::MAX);
                let hello = Hello {
                    features: identity.features,
                    instance: identity.instance,
                    shard: number,
                    name: format!("tcpcopy {}", std::process::id()),
                };
                let addresses = intercept.addresses.clone();
                links.push(Link::new(addresses, hello, identity.security.clone(), now));
            }
        }
        let peers = intercepts
            .iter()
            .map(|intercept| Peer::new(&intercept.name, now))
            .collect();
        Self {
            links,
            router: Router::new(peers, per_intercept),
        }
    }

    /// Waits until every intercept is up, at most for `patience`.
    ///
    /// # Errors
    /// [`StartError::InterceptUnreachable`] for one that is not, at once where waiting is of no
    /// use; [`StartError::InterceptOutdated`] for one that can't do what is asked of it;
    /// [`StartError::System`] when waiting itself fails.
    pub fn connect(&mut self, patience: Duration) -> Result<(), StartError> {
        let deadline = Instant::now() + patience;
        loop {
            let now = Instant::now();
            self.service(now, |_| {});
            let Some(peer) = self
                .router
                .peers
                .iter()
                .find(|peer| !self.router.is_up(peer))
            else {
                return Ok(());
            };
            if peer.is_outdated {
                return Err(StartError::InterceptOutdated(peer.name.clone()));
            }
            if peer.is_hopeless || deadline <= now {
                let reason = match peer.last_reason.as_str() {
                    "" => "no answer",
                    reason => reason,
                };
                return Err(StartError::InterceptUnreachable {
                    name: peer.name.clone(),
                    reason: reason.to_owned(),
                });
            }
            self.wait(
                deadline
                    .min(self.next_timeout())
                    .saturating_duration_since(now),
            )
            .map_err(|source| StartError::System {
                action: "wait for intercept",
                source,
            })?;
        }
    }

    /// The sockets to wait for.
    pub fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.links.iter().filter_map(Link::interest)
    }

    /// When [`Self::service`] is due, whatever the sockets do.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let timeouts = self.links.iter().map(Link::next_timeout);
        timeouts.min().expect("there is at least one intercept")
    }

    /// Does what the sockets and the time allow, and tells `sink` what it means.
    pub fn service(&mut self, now: Instant, mut sink: impl FnMut(TunnelEvent<'_>)) {
        for (index, link) in self.links.iter_mut().enumerate() {
            link.service(now, |event| self.router.route(now, index, event, &mut sink));
        }
    }

    /// Whether all intercepts are up.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.router.all_up()
    }

    /// Registers a session with every intercept; [`TunnelEvent::Confirmed`] follows. While not all
    /// are up this does nothing: [`TunnelEvent::Up`] will ask for it again.
    pub fn register(&mut self, registration: &Registration) {
        if !self.is_usable() {
            return;
        }
        for index in 0..self.router.peers.len() {
            let link = self.router.link_of(index, registration.session);
            // A link that refuses has just broken; its next event makes the tunnel go down.
            self.links[link].register(registration);
        }
        self.router.await_answers(registration.session);
    }

    /// Reports the end of a session to every intercept.
    pub fn unregister(&mut self, unregistration: &Unregistration) {
        for index in 0..self.router.peers.len() {
            let link = self.router.link_of(index, unregistration.session);
            self.links[link].unregister(unregistration);
        }
        self.router.forget(unregistration.session);
    }

    /// Writes what waits, as far as the sockets take it.
    pub fn flush(&mut self, now: Instant) {
        for link in &mut self.links {
            link.flush(now);
        }
    }

    /// The intercept that has been away longest, since when, and why.
    #[must_use]
    pub fn longest_loss(&self) -> Option<(Instant, &str, &str)> {
        let lost = self
            .router
            .peers
            .iter()
            .filter(|peer| !self.router.is_up(peer));
        lost.map(|peer| {
            (
                peer.down_since,
                peer.name.as_str(),
                peer.last_reason.as_str(),
            )
        })
        .min()
    }

    /// What became of the tunnels so far.
    #[must_use]
    pub fn counters(&self) -> TunnelCounters {
        let up = self
            .router
            .peers
            .iter()
            .filter(|peer| self.router.is_up(peer))
            .count();
        TunnelCounters {
            intercepts: self.router.peers.len() as u64,
            intercepts_up: up as u64,
            ..self.router.counters
        }
    }

    /// Says goodbye, so that intercept ends at once what it still holds; waits a moment for the
    /// words to leave.
    pub fn farewell(&mut self) {
        let deadline = Instant::now() + FAREWELL_TIME;
        for link in &mut self.links {
            link.bye();
        }
        loop {
            let now = Instant::now();
            self.flush(now);
            let waiting = self.links.iter_mut().any(Link::has_unsent);
            let left = deadline.saturating_duration_since(now);
            if !waiting || left.is_zero() || self.wait(left).is_err() {
                return;
            }
        }
    }

    fn wait(&self, limit: Duration) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = self
            .interests()
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        let timeout = Timespec::try_from(limit).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// One intercept.
#[derive(Debug)]
struct Peer {
    name: String,
    /// How many of its links are up.
    links_up: usize,
    /// When it was last seen to be down; meaningless while it is up.
    down_since: Instant,
    last_reason: String,
    /// Whether trying again is of no use.
    is_hopeless: bool,
    /// Whether it can't do what is asked of it.
    is_outdated: bool,
    /// One gate for losses, one for attempts in vain: neither hides the other.
    log_gates: [LogGate; 2],
}

impl Peer {
    fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            links_up: 0,
            down_since: now,
            last_reason: String::new(),
            is_hopeless: false,
            is_outdated: false,
            log_gates: Default::default(),
        }
    }
}

/// Joins what the links say into what the engine hears.
#[derive(Debug)]
struct Router {
    peers: Vec<Peer>,
    per_intercept: usize,
    /// For each session, a bit for each intercept that has not answered its registration. Unused
    /// with a single intercept, whose answer is the answer.
    awaiting: BTreeMap<u64, u32>,
    counters: TunnelCounters,
}

impl Router {
    fn new(peers: Vec<Peer>, per_intercept: usize) -> Self {
        let awaiting = BTreeMap::new();
        Self {
            peers,
            per_intercept,
            awaiting,
            counters: TunnelCounters::default(),
        }
    }

    fn is_up(&self, peer: &Peer) -> bool {
        peer.links_up == self.per_intercept
    }

    fn all_up(&self) -> bool {
        self.peers.iter().all(|peer| self.is_up(peer))
    }

    fn link_of(&self, peer: usize, session: u64) -> usize {
        peer * self.per_intercept + (session % self.per_intercept as u64) as usize
    }

    fn await_answers(&mut self, session: u64) {
        if self.peers.len() > 1 {
            let everyone = (0..self.peers.len()).fold(0, |bits, index| bits | 1 << index);
            self.awaiting.insert(session, everyone);
        }
    }

    fn forget(&mut self, session: u64) {
        if self.peers.len() > 1 {
            self.awaiting.remove(&session);
        }
    }

    fn route(
        &mut self,
        now: Instant,
        link: usize,
        event: LinkEvent<'_>,
        sink: &mut impl FnMut(TunnelEvent<'_>),
    ) {
        let index = link / self.per_intercept;
        match event {
            LinkEvent::Reply(record) => sink(TunnelEvent::Reply(record)),
            LinkEvent::Confirmed(session) => {
                if self.all_answered(index, session) {
                    sink(TunnelEvent::Confirmed(session));
                }
            }
            LinkEvent::Conflict(session) => {
                self.counters.conflicts += 1;
                self.forget(session);
                sink(TunnelEvent::Conflict(session));
            }
            LinkEvent::Overflow(count) => self.counters.overflowed_replies += count,
            LinkEvent::Up => self.link_up(now, index, sink),
            LinkEvent::Down { reason, was_up } => {
                self.link_down(now, index, &reason, was_up, sink);
            }
        }
    }

    /// Notes the answer of an intercept; whether it was the last that was missing.
    fn all_answered(&mut self, index: usize, session: u64) -> bool {
        if !self.all_up() {
            return false;
        }
        if self.peers.len() == 1 {
            return true;
        }
        let Some(missing) = self.awaiting.get_mut(&session) else {
            return false;
        };
        *missing &= !(1 << index);
        let all = *missing == 0;
        if all {
            self.awaiting.remove(&session);
        }
        all
    }

    fn link_up(&mut self, now: Instant, index: usize, sink: &mut impl FnMut(TunnelEvent<'_>)) {
        let peer = &mut self.peers[index];
        peer.links_up += 1;
        if peer.links_up == self.per_intercept {
            let away_ms = now.saturating_duration_since(peer.down_since).as_millis() as u64;
            tracing::info!(
                intercept = peer.name,
                away_ms,
                "the tunnel to intercept is up"
            );
            if self.all_up() {
                sink(TunnelEvent::Up);
            }
        }
    }

    fn link_down(
        &mut self,
        now: Instant,
        index: usize,
        reason: &DownReason,
        was_up: bool,
        sink: &mut impl FnMut(TunnelEvent<'_>),
    ) {
        let were_all_up = self.all_up();
        let peer = &mut self.peers[index];
        let peer_was_up = peer.links_up == self.per_intercept;
        peer.links_up -= usize::from(was_up);
        peer.last_reason = reason.to_string();
        peer.is_hopeless = is_hopeless(reason);
        peer.is_outdated = *reason == DownReason::Outdated;
        if peer_was_up {
            peer.down_since = now;
            self.counters.losses += 1;
        }
        if let Some(held_back) = peer.log_gates[usize::from(peer_was_up)].pass(now) {
            let away_s = now.saturating_duration_since(peer.down_since).as_secs();
            let intercept = peer.name.as_str();
            tracing::warn!(intercept, %reason, away_s, held_back, "no tunnel to intercept");
        }
        if were_all_up {
            self.awaiting.clear();
            sink(TunnelEvent::Down);
        }
    }
}

/// Whether the intercept will say the same the next time.
fn is_hopeless(reason: &DownReason) -> bool {
    matches!(
        reason,
        DownReason::KeyRejected
            | DownReason::Refused { .. }
            | DownReason::Outdated
            | DownReason::Channel(_)
    )
}

#[cfg(test)]
mod tests;
