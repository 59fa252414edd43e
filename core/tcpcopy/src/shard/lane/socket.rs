//! The socket upstream of a lane: ordinary connections of this host.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use tcpcopy_engine::{Closing, Engine, Output, SessionId, SocketFailure, UpstreamEvent};
use tcpcopy_net::sockets::{self, SocketEvent, Sockets};
use tcpcopy_packet::Endpoint;

use super::Next;
use crate::proxy_protocol::ProxyProtocol;
use crate::resolver::Targets;
use crate::shard::{Clock, log_record};

/// Sockets looked at between two looks at the capture: as many as take less than a millisecond.
const SOCKETS_PER_TURN: usize = 128;

#[derive(Debug)]
pub(super) struct SocketUpstream {
    sockets: Sockets,
    targets: Targets,
    proxy_protocol: Option<ProxyProtocol>,
    /// Where the connections lead that are not there yet.
    connecting: HashMap<u64, (Endpoint, SocketAddr)>,
    /// Whether the sockets have more than the last turn took.
    has_more: bool,
}

impl SocketUpstream {
    pub(super) fn new(
        sockets: Sockets,
        targets: Targets,
        proxy_protocol: Option<ProxyProtocol>,
    ) -> Self {
        Self {
            sockets,
            targets,
            proxy_protocol,
            connecting: HashMap::new(),
            has_more: false,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.sockets.next_timeout()
    }

    /// Whether the connections want attention, whatever their descriptor says.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.has_more || self.sockets.next_timeout().is_some_and(|at| at <= now)
    }

    pub(super) fn interests<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::new(&self.sockets, PollFlags::IN));
    }

    /// Tells the engine what the kernel says of the connections.
    pub(super) fn read(&mut self, clock: Clock, engine: &mut Engine) -> std::io::Result<()> {
        let Clock { now, time } = clock;
        let (targets, connecting) = (&self.targets, &mut self.connecting);
        let on_event = |token, event: SocketEvent<'_>| {
            let session = SessionId::from_u64(token);
            let event = match event {
                SocketEvent::Received { bytes, is_last } => {
                    return engine.received(time, session, bytes, is_last);
                }
                SocketEvent::Connected => {
                    connecting.remove(&token);
                    UpstreamEvent::Connected(session)
                }
                SocketEvent::Writable => UpstreamEvent::Writable(session),
                SocketEvent::Acknowledged { unacknowledged } => UpstreamEvent::Acknowledged {
                    session,
                    unacknowledged,
                },
                SocketEvent::Finished => UpstreamEvent::Finished(session),
                SocketEvent::Failed(failure) => {
                    if let Some((target, address)) = connecting.remove(&token) {
                        targets.connect_failed(now, target, address);
                    }
                    UpstreamEvent::Failed {
                        session,
                        failure: in_engine_terms(failure),
                    }
                }
            };
            engine.upstream_event(time, event);
        };
        self.has_more = self
            .sockets
            .service(clock.now, SOCKETS_PER_TURN, on_event)?;
        Ok(())
    }

    /// Does at most `limit` things.
    pub(super) fn emit(&mut self, clock: Clock, engine: &mut Engine, limit: usize) -> Next {
        self.sockets.set_time(clock.now);
        for _ in 0..limit {
            let answer = match engine.poll_output(clock.time) {
                Output::Connect {
                    session,
                    client,
                    origin,
                    target,
                } => {
                    let header = self.proxy_protocol;
                    let header = header.map(|version| version.header(client, origin));
                    Some(self.connect(clock.now, session, target, header.unwrap_or_default()))
                }
                Output::Send { session, bytes } => Some(UpstreamEvent::Taken {
                    session,
                    bytes: self.sockets.send(session.as_u64(), bytes),
                }),
                Output::Close { session, how } => {
                    self.close(clock.now, session, how);
                    None
                }
                Output::Record(record) => {
                    log_record(&record);
                    None
                }
                Output::Timeout(_) if self.has_more => return Next::More,
                Output::Timeout(at) => return Next::Until(at),
                // An engine for sockets makes no packets.
                Output::Packet(_) | Output::Register(_) | Output::Unregister { .. } => None,
            };
            if let Some(event) = answer {
                engine.upstream_event(clock.time, event);
            }
        }
        Next::More
    }

    fn connect(
        &mut self,
        now: Instant,
        session: SessionId,
        target: Endpoint,
        header: Vec<u8>,
    ) -> UpstreamEvent {
        let token = session.as_u64();
        let address = self.targets.address_of(target);
        match self.sockets.connect(token, address, header) {
            Ok(source) => {
                self.connecting.insert(token, (target, address));
                let source = Endpoint::new(source.ip(), source.port());
                UpstreamEvent::Connecting { session, source }
            }
            Err(failure) => {
                let failure = in_engine_terms(failure);
                if !matches!(failure, SocketFailure::NoPort | SocketFailure::NoDescriptor) {
                    self.targets.connect_failed(now, target, address);
                }
                UpstreamEvent::Failed { session, failure }
            }
        }
    }

    fn close(&mut self, now: Instant, session: SessionId, how: Closing) {
        let token = session.as_u64();
        if how != Closing::Finish
            && let Some((target, address)) = self.connecting.remove(&token)
        {
            // The engine has lost its patience before the kernel has.
            self.targets.connect_failed(now, target, address);
        }
        match how {
            Closing::Finish => self.sockets.finish(token),
            Closing::Reset => self.sockets.reset(token),
            Closing::Release => self.sockets.release(token),
        }
    }
}

/// The failure as the engine counts it.
fn in_engine_terms(failure: sockets::SocketFailure) -> SocketFailure {
    match failure {
        sockets::SocketFailure::Refused => SocketFailure::Refused,
        sockets::SocketFailure::Reset => SocketFailure::Reset,
        sockets::SocketFailure::TimedOut => SocketFailure::TimedOut,
        sockets::SocketFailure::Unreachable => SocketFailure::Unreachable,
        sockets::SocketFailure::NoPort => SocketFailure::NoPort,
        sockets::SocketFailure::NoDescriptor => SocketFailure::NoDescriptor,
        sockets::SocketFailure::Other { .. } => SocketFailure::Other,
    }
}
