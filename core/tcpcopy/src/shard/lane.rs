//! One lane of a shard: an engine and its way to the target.
//!
//! Targets that get the same traffic have a lane each: every lane hears everything that was
//! captured, and has its own ledger, memory budget and connections, so that a slow or dead target
//! never holds up another.

mod raw;
mod socket;

use std::time::{Duration, Instant};

use rustix::event::PollFd;
use tcpcopy_engine::{Engine, ShutDown, UpstreamEvent};
use tcpcopy_net::raw::RawSender;
use tcpcopy_net::sockets::Sockets;

use self::raw::RawUpstream;
use self::socket::SocketUpstream;
use super::Clock;
use crate::proxy_protocol::ProxyProtocol;
use crate::resolver::Targets;
use crate::statistics::Figures;
use crate::tunnel::Tunnel;

/// How long an intercept may be away before its lane ends, without `-L`. Longer than intercept
/// takes to be restarted, shorter than a test run is worth without its answers.
pub const INTERCEPT_GRACE: Duration = Duration::from_secs(30);
/// Outputs between two looks at the capture: less than a millisecond of work, since traffic at
/// memory speed fills a ring in a few of them.
const OUTPUTS_PER_TURN: usize = 128;

/// What a lane is made of.
#[derive(Debug)]
pub struct LaneParts {
    /// Its engine, new.
    pub engine: Engine,
    /// How its bytes travel.
    pub upstream: UpstreamParts,
}

/// How a lane's bytes travel to the target.
#[derive(Debug)]
pub enum UpstreamParts {
    /// As packets in the clients' names.
    Raw {
        /// The way to intercept.
        tunnel: Tunnel,
        /// The way out.
        sender: RawSender,
        /// Whether to go on without intercept.
        survive_loss: bool,
    },
    /// Through ordinary connections of this host.
    Socket {
        /// The connections.
        sockets: Sockets,
        /// The addresses that the targets' names have at the moment.
        targets: Targets,
        /// The header that tells the target the real client.
        proxy_protocol: Option<ProxyProtocol>,
    },
}

/// An intercept that was away for longer than [`INTERCEPT_GRACE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The intercept.
    pub name: String,
    /// Why it is away.
    pub reason: String,
}

/// What is left to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Something that waits already.
    More,
    /// Nothing, until then or until the next input.
    Until(Option<tcpcopy_engine::Instant>),
}

impl Next {
    /// How long to sleep at most.
    pub(super) fn sleep(self, now: tcpcopy_engine::Instant) -> Duration {
        match self {
            Self::More => Duration::ZERO,
            Self::Until(None) => Duration::MAX,
            Self::Until(Some(at)) => at.since(now),
        }
    }

    /// What is left of two.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Until(a), Self::Until(b)) => Self::Until([a, b].into_iter().flatten().min()),
            _ => Self::More,
        }
    }
}

#[derive(Debug)]
enum Upstream {
    Raw(RawUpstream),
    Socket(SocketUpstream),
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) engine: Engine,
    upstream: Upstream,
    lost: Option<Loss>,
    sessions_high_water: u64,
    has_ended: bool,
}

impl Lane {
    pub(super) fn new(parts: LaneParts) -> Self {
        let upstream = match parts.upstream {
            UpstreamParts::Raw {
                tunnel,
                sender,
                survive_loss,
            } => Upstream::Raw(RawUpstream::new(tunnel, sender, survive_loss)),
            UpstreamParts::Socket {
                sockets,
                targets,
                proxy_protocol,
            } => Upstream::Socket(SocketUpstream::new(sockets, targets, proxy_protocol)),
        };
        Self {
            engine: parts.engine,
            upstream,
            lost: None,
            sessions_high_water: 0,
            has_ended: false,
        }
    }

    /// Tells the engine how things stand before the first turn.
    pub(super) fn begin(&mut self, clock: Clock) {
        match &self.upstream {
            Upstream::Raw(raw) if raw.is_usable() => {
                self.engine
                    .upstream_event(clock.time, UpstreamEvent::TunnelUp);
            }
            Upstream::Raw(_) | Upstream::Socket(_) => {}
        }
    }

    /// Takes in what has come from the target's side; `is_ready` as its sockets said.
    pub(super) fn read(&mut self, clock: Clock, is_ready: bool) {
        if self.has_ended {
            return;
        }
        match &mut self.upstream {
            Upstream::Raw(raw) => {
                if is_ready || raw.next_timeout() <= clock.now {
                    raw.read(clock, &mut self.engine);
                    if self.lost.is_none()
                        && let Some(loss) = raw.lost_intercept(clock.now)
                    {
                        self.give_up(clock, loss);
                    }
                }
            }
            Upstream::Socket(socket) => {
                if (is_ready || socket.is_due(clock.now))
                    && let Err(error) = socket.read(clock, &mut self.engine)
                {
                    tracing::error!(%error, "can't wait for the target's connections");
                    self.engine.shut_down(clock.time, ShutDown::Now);
                }
            }
        }
    }

    /// The way to the target is gone for good: everything in this lane ends.
    fn give_up(&mut self, clock: Clock, loss: Loss) {
        let Loss { name, reason } = &loss;
        tracing::error!(intercept = name, reason, "intercept was away for too long");
        self.lost = Some(loss);
        self.engine
            .upstream_event(clock.time, UpstreamEvent::TunnelLost);
        self.engine.shut_down(clock.time, ShutDown::Now);
    }

    /// Lets time pass, and does a bounded portion of what the engine wants done.
    pub(super) fn write(&mut self, clock: Clock) -> Next {
        if self.has_ended {
            return Next::Until(None);
        }
        self.engine.timeout(clock.time);
        let sessions = self.engine.gauges().sessions;
        self.sessions_high_water = self.sessions_high_water.max(sessions);
        let next = match &mut self.upstream {
            Upstream::Raw(raw) => raw.emit(clock, &mut self.engine, OUTPUTS_PER_TURN),
            Upstream::Socket(socket) => socket.emit(clock, &mut self.engine, OUTPUTS_PER_TURN),
        };
        if matches!(next, Next::Until(_)) && self.engine.is_finished() {
            self.has_ended = true;
            match &mut self.upstream {
                Upstream::Raw(raw) => raw.farewell(),
                Upstream::Socket(_) => {}
            }
        }
        next
    }

    /// Whether everything is over, after a [`Engine::shut_down`].
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether captured bytes wait for the target.
    pub(super) fn is_hurried(&self) -> bool {
        self.engine.gauges().hurried_sessions > 0
    }

    /// Whether any session is left.
    pub(super) fn has_sessions(&self) -> bool {
        self.engine.gauges().sessions > 0
    }

    /// What made the lane end before its time.
    pub(super) fn take_loss(&mut self) -> Option<Loss> {
        self.lost.take()
    }

    /// The descriptors to wait for.
    pub(super) fn interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        if self.has_ended {
            return;
        }
        match &self.upstream {
            Upstream::Raw(raw) => raw.interests(fds),
            Upstream::Socket(socket) => socket.interests(fds),
        }
    }

    /// When [`Self::read`] is due, whatever the descriptors do.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if self.has_ended {
            return None;
        }
        match &self.upstream {
            Upstream::Raw(raw) => Some(raw.next_timeout()),
            Upstream::Socket(socket) => socket.next_timeout(),
        }
    }

    /// The figures at this moment.
    pub(super) fn figures(&self) -> Figures {
        let mut figures = Figures {
            ledger: *self.engine.ledger(),
            gauges: self.engine.gauges(),
            sessions_high_water: self.sessions_high_water,
            send_delay: self.engine.send_delay().clone(),
            ..Figures::default()
        };
        match &self.upstream {
            Upstream::Raw(raw) => raw.add_figures(&mut figures),
            Upstream::Socket(_) => {}
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use tcpcopy_engine::Instant;

    use super::*;

    #[test]
    fn sleeps_until_the_engine_is_due() {
        let now = Instant::from_micros(1_000);
        assert_eq!(Next::More.sleep(now), Duration::ZERO);
        assert_eq!(Next::Until(None).sleep(now), Duration::MAX);
        let later = Next::Until(Some(Instant::from_micros(1_250)));
        assert_eq!(later.sleep(now), Duration::from_micros(250));
        let past = Next::Until(Some(Instant::from_micros(10)));
        assert_eq!(past.sleep(now), Duration::ZERO);
    }

    #[test]
    fn of_two_the_earlier_counts() {
        let at = |micros| Next::Until(Some(Instant::from_micros(micros)));
        assert_eq!(at(3).and(at(2)), at(2));
        assert_eq!(at(3).and(Next::Until(None)), at(3));
        assert_eq!(Next::Until(None).and(Next::More), Next::More);
    }
}
