//! The tunnel between engine and intercept: ordered and reliable while it is up, with a delay.

use tcpcopy_engine::{Registration, SessionId, UpstreamEvent};

use super::{Event, Simulation};
use crate::events::Micros;
use crate::scenario::TunnelChange;
use crate::trace::Place;
use crate::wire::Header;

/// What travels through the tunnel.
#[derive(Clone, Debug)]
pub(super) enum TunnelMessage {
    /// To intercept.
    Register(Registration),
    /// To intercept.
    Unregister(SessionId),
    /// To the engine.
    Registered(SessionId),
    /// To the engine.
    Reply(SessionId, Header, Vec<u8>),
}

/// The tunnel's state. A message belongs to the tunnel it was put into: none outlives it.
#[derive(Debug)]
pub(super) struct Tunnel {
    delay_us: Micros,
    up: bool,
    generation: u64,
}

impl Tunnel {
    pub(super) fn new(delay_us: Micros) -> Self {
        Self {
            delay_us,
            up: false,
            generation: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.up && generation == self.generation
    }
}

impl Simulation<'_> {
    pub(super) fn tunnel_send(&mut self, message: TunnelMessage) {
        if self.tunnel.up {
            let arrival_us = self.now_us + self.tunnel.delay_us;
            self.queue
                .push(arrival_us, Event::Tunnel(self.tunnel.generation, message));
        }
    }

    pub(super) fn tunnel_message(&mut self, message: TunnelMessage) {
        match message {
            TunnelMessage::Register(Registration {
                session,
                tuple,
                payload,
                ..
            }) => {
                self.intercept.register(session, tuple, payload);
                self.tunnel_send(TunnelMessage::Registered(session));
            }
            TunnelMessage::Unregister(session) => self.intercept.unregister(session),
            TunnelMessage::Registered(session) => {
                self.registrations.confirm(session);
                self.upstream_event(UpstreamEvent::Registered(session));
            }
            TunnelMessage::Reply(session, header, payload) => {
                self.trace.segment(self.now_us, Place::Reported, &header);
                self.engine
                    .reply(self.now(), session, &header.segment(&payload));
                self.drain_engine();
            }
        }
    }

    pub(super) fn tunnel_change(&mut self, change: TunnelChange) {
        let event = match change {
            TunnelChange::Up => {
                self.tunnel.up = true;
                self.tunnel.generation += 1;
                UpstreamEvent::TunnelUp
            }
            TunnelChange::Down | TunnelChange::DownAndForgotten => UpstreamEvent::TunnelDown,
            TunnelChange::Lost => UpstreamEvent::TunnelLost,
        };
        self.registrations.tunnel_changed();
        if change != TunnelChange::Up {
            self.tunnel.up = false;
            let mirrors = self.intercept.bury_all();
            if change == TunnelChange::DownAndForgotten {
                for mirror in mirrors {
                    self.target.abort(mirror);
                }
            }
        }
        self.upstream_event(event);
    }
}
