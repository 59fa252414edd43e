//! What comes back on the way to the target: intercept's replies and confirmations, and what
//! happened to kernel connections.

use tcpcopy_packet::{Endpoint, FourTuple, Segment};

use super::{Notice, Replay, SessionKey};
use crate::channel::Request;
use crate::config::Upstream;
use crate::ledger::DropReason;
use crate::output::{Output, SocketFailure, UpstreamEvent};
use crate::socket::SocketEvent;
use crate::time::Instant;

impl Replay {
    /// A segment of the target.
    pub(crate) fn reply(&mut self, now: Instant, key: SessionKey, segment: &Segment<'_>) {
        let mut fate = None;
        let known = self.act(now, key, |session, cx| {
            fate = session.reply(now, segment, cx);
        });
        if !known {
            self.ledger.upstream.stale_replies += 1;
            return;
        }
        if self.may_carry_over(key, fate.is_some()) {
            self.carry_over(now, key);
        }
        self.apply(now, key, fate);
    }

    pub(crate) fn upstream_event(&mut self, now: Instant, event: UpstreamEvent) {
        match self.config.upstream {
            Upstream::Raw => self.tunnel_event(now, event),
            Upstream::Socket => self.kernel_event(now, event),
        }
    }

    fn tunnel_event(&mut self, now: Instant, event: UpstreamEvent) {
        match event {
            UpstreamEvent::Registered(key) => {
                self.touch(key, |session, _| session.registered(now));
            }
            UpstreamEvent::RegistrationRefused(key) => {
                self.fail(now, key, DropReason::InterceptRefused);
            }
            UpstreamEvent::TunnelUp => self.register_all(),
            UpstreamEvent::TunnelDown => self.silence_all(),
            UpstreamEvent::TunnelLost => {
                self.silence_all();
                self.end_all(now, DropReason::TunnelDown);
            }
            _ => self.ledger.upstream.stale_replies += 1,
        }
    }

    pub(super) fn register(&mut self, key: SessionKey) {
        let registration = self
            .session_mut(key)
            .and_then(|session| session.registration(key));
        self.notices.extend(registration.map(Notice::Register));
    }

    fn register_all(&mut self) {
        self.tunnel_is_up = true;
        for (place, (serial, session)) in &self.sessions {
            let key = SessionKey::new(*serial, place as u32);
            self.notices
                .extend(session.registration(key).map(Notice::Register));
        }
    }

    fn silence_all(&mut self) {
        self.tunnel_is_up = false;
        for (_, (_, session)) in &mut self.sessions {
            session.silence();
        }
    }

    fn kernel_event(&mut self, now: Instant, event: UpstreamEvent) {
        let (key, event) = match event {
            UpstreamEvent::Connecting { session, source } => {
                if let Some(connecting) = self.session_mut(session) {
                    let target = connecting.tuple().destination;
                    self.own.socket_opened(now, FourTuple::new(source, target));
                }
                (session, SocketEvent::Connecting(source))
            }
            UpstreamEvent::Connected(session) => (session, SocketEvent::Connected),
            UpstreamEvent::Taken { session, bytes } => (session, SocketEvent::Taken(bytes)),
            UpstreamEvent::Writable(session) => (session, SocketEvent::Writable),
            UpstreamEvent::Acknowledged {
                session,
                unacknowledged,
            } => (session, SocketEvent::Acknowledged(unacknowledged)),
            UpstreamEvent::Finished(session) => (session, SocketEvent::Finished),
            UpstreamEvent::Failed { session, failure } => {
                return self.socket_failed(now, session, failure);
            }
            _ => {
                self.ledger.upstream.stale_replies += 1;
                return;
            }
        };
        self.socket_event(now, key, event, &[]);
    }

    /// Something happened to a session's kernel connection; `payload` is what it has received.
    pub(crate) fn socket_event(
        &mut self,
        now: Instant,
        key: SessionKey,
        event: SocketEvent,
        payload: &[u8],
    ) {
        let is_ours = self.config.upstream == Upstream::Socket;
        let known = is_ours
            && self.act(now, key, |session, cx| {
                session.socket_event(now, event, payload, cx);
                session.note_departed(now, cx.send_delay);
            });
        if !known {
            self.ledger.upstream.stale_replies += 1;
        } else if self.may_carry_over(key, false) {
            self.carry_over(now, key);
        }
    }

    fn socket_failed(&mut self, now: Instant, key: SessionKey, failure: SocketFailure) {
        let mut target = None;
        let known = self.touch(key, |session, cx| {
            if session.socket_failed(now, failure, cx.ledger) {
                target = Some(session.tuple().destination);
            }
        });
        if !known {
            self.ledger.upstream.stale_replies += 1;
            self.forget_close(key);
        } else if let Some(target) = target {
            self.lines.stand_still(now, target, key, failure.reason());
        } else {
            self.carry_over(now, key);
            self.fail(now, key, failure.reason());
        }
    }

    /// The kernel has no such connection any more: nothing of it is left to close.
    fn forget_close(&mut self, key: SessionKey) {
        let before = self.notices.len();
        let is_close = |notice: &Notice| matches!(notice, Notice::Close(of, _) if *of == key);
        self.notices.retain(|notice| !is_close(notice));
        self.ledger.upstream.resets_sent -= (before - self.notices.len()) as u64;
    }

    /// Lets a new session connect, unless it has to wait behind others.
    pub(super) fn connect(&mut self, now: Instant, key: SessionKey, target: Endpoint) {
        let shortage = self.lines.join(target, key);
        self.touch(key, |session, _| {
            if let Some(reason) = shortage {
                session.wait_in_line(now, reason);
            }
        });
    }

    /// Gives the next session in line its turn. False when there is none.
    pub(super) fn call_from_line(&mut self, now: Instant) -> bool {
        while let Some(key) = self.lines.next(now) {
            let mut is_waiting = false;
            self.touch(key, |session, _| is_waiting = session.leave_line());
            if is_waiting {
                return true;
            }
        }
        false
    }

    /// What the session at the front wants of its kernel connection.
    pub(super) fn socket_output(&mut self) -> Output<'_> {
        let key = self.ready[0];
        let (_, session) = &mut self.sessions[key.place() as usize];
        match self.request {
            Request::Packet => Output::Packet(&self.packet),
            Request::Connect => Output::Connect {
                session: key,
                client: session.client,
                origin: session.origin,
                target: session.tuple().destination,
            },
            Request::Send => Output::Send {
                session: key,
                bytes: session.offered(),
            },
            Request::Close(how) => Output::Close { session: key, how },
        }
    }

    /// Whether requests that a session holds need another, as its target has closed it or it has
    /// come to its end.
    fn may_carry_over(&mut self, key: SessionKey, is_over: bool) -> bool {
        self.session_mut(key)
            .is_some_and(|session| (is_over || session.target_finished()) && !session.is_settled)
    }
}
