//! The raw upstream of a lane: packets out through a raw socket, replies in through the tunnels.

use std::time::Instant;

use intercept_lib::tunnel::{Registration, Unregistration};
use rustix::event::PollFd;
use tcpcopy_engine::{Engine, Output, SessionId, UpstreamEvent};
use tcpcopy_net::raw::{RawSender, SendErrors};
use tcpcopy_packet::{Endpoint, FourTuple, Segment};

use super::{INTERCEPT_GRACE, Loss, Next};
use crate::shard::{Clock, log_record};
use crate::statistics::Figures;
use crate::tunnel::{Tunnel, TunnelEvent};

/// What a reply's tuple is set to: reports don't repeat it, and the engine knows the session's.
const UNNAMED: FourTuple = {
    let nowhere = Endpoint::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
    FourTuple::new(nowhere, nowhere)
};

#[derive(Debug)]
pub(super) struct RawUpstream {
    tunnel: Tunnel,
    sender: RawSender,
    survive_loss: bool,
}

impl RawUpstream {
    pub(super) fn new(tunnel: Tunnel, sender: RawSender, survive_loss: bool) -> Self {
        Self {
            tunnel,
            sender,
            survive_loss,
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.tunnel.is_usable()
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.tunnel.next_timeout()
    }

    pub(super) fn interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let interests = self.tunnel.interests();
        fds.extend(interests.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)));
    }

    /// Tells the engine what intercept reports.
    pub(super) fn read(&mut self, clock: Clock, engine: &mut Engine) {
        let time = clock.time;
        self.tunnel.service(clock.now, |event| match event {
            TunnelEvent::Up => engine.upstream_event(time, UpstreamEvent::TunnelUp),
            TunnelEvent::Down => engine.upstream_event(time, UpstreamEvent::TunnelDown),
            TunnelEvent::Confirmed(session) => {
                let session = SessionId::from_u64(session);
                engine.upstream_event(time, UpstreamEvent::Registered(session));
            }
            TunnelEvent::Conflict(session) => {
                let session = SessionId::from_u64(session);
                engine.upstream_event(time, UpstreamEvent::RegistrationRefused(session));
            }
            TunnelEvent::Reply(record) => {
                let length = record.payload_len.saturating_add(record.tcp.len() as u32);
                if let Ok(mut segment) = Segment::parse_tcp(UNNAMED, record.tcp, length) {
                    segment.payload = record.payload;
                    engine.reply(time, SessionId::from_u64(record.session), &segment);
                }
            }
        });
    }

    /// The intercept that has been away for too long, unless that is allowed.
    pub(super) fn lost_intercept(&self, now: Instant) -> Option<Loss> {
        if self.survive_loss {
            return None;
        }
        let (since, name, reason) = self.tunnel.longest_loss()?;
        (now.saturating_duration_since(since) >= INTERCEPT_GRACE).then(|| Loss {
            name: name.to_owned(),
            reason: reason.to_owned(),
        })
    }

    /// Does at most `limit` things, and sends what they brought about.
    pub(super) fn emit(&mut self, clock: Clock, engine: &mut Engine, limit: usize) -> Next {
        let mut next = Next::More;
        for _ in 0..limit {
            match engine.poll_output(clock.time) {
                Output::Packet(packet) => self.sender.push(packet),
                Output::Register(asked) => self.tunnel.register(&Registration {
                    session: asked.session.as_u64(),
                    tuple: asked.tuple,
                    iss: asked.iss,
                }),
                Output::Unregister { session, tuple } => self.tunnel.unregister(&Unregistration {
                    session: session.as_u64(),
                    tuple,
                }),
                Output::Record(record) => log_record(&record),
                Output::Connect { .. } | Output::Send { .. } | Output::Close { .. } => {
                    unreachable!("an engine with a raw upstream asks for no sockets")
                }
                Output::Timeout(at) => {
                    next = Next::Until(at);
                    break;
                }
            }
        }
        self.sender.flush();
        self.tunnel.flush(clock.now);
        next
    }

    /// Says goodbye to intercept.
    pub(super) fn farewell(&mut self) {
        self.tunnel.farewell();
    }

    pub(super) fn add_figures(&self, figures: &mut Figures) {
        let sent = self.sender.counters();
        figures.ledger.send_errors = send_errors(&sent.errors);
        figures.sent = sent;
        figures.tunnel = self.tunnel.counters();
    }
}

/// The sender's refusals in the ledger's terms.
fn send_errors(errors: &SendErrors) -> tcpcopy_engine::SendErrors {
    tcpcopy_engine::SendErrors {
        not_permitted: errors.eperm,
        no_buffers: errors.enobufs + errors.eagain,
        too_large: errors.emsgsize,
        unreachable: errors.enetunreach + errors.ehostunreach,
        other: errors.other + errors.unsendable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_send_error_is_forgotten() {
        let errors = SendErrors {
            eperm: 1,
            enobufs: 2,
            emsgsize: 4,
            enetunreach: 8,
            ehostunreach: 16,
            eagain: 32,
            other: 64,
            unsendable: 128,
        };
        assert_eq!(send_errors(&errors).total(), errors.total());
    }
}
