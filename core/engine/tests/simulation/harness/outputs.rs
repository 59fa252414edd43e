//! What the engine puts out, and the promises about registrations that it must keep.

use std::collections::{BTreeMap, BTreeSet};

use tcpcopy_engine::{Engine, Output, Registration, SessionId, SessionRecord};
use tcpcopy_packet::{FourTuple, TcpFlags};

use super::tunnel::TunnelMessage;
use super::{Event, Simulation};
use crate::events::{MILLISECOND_US, Micros};
use crate::trace::Place;
use crate::wire::{Header, parse_verified};

/// Outputs of one drain after which the engine never comes to rest.
const MAX_OUTPUTS: u32 = 200_000;
/// Bytes of a packet that enter the trace's hash: all headers.
const HASHED_BYTES: usize = 100;

/// Which sessions the engine has registered.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    tuples: BTreeMap<u64, FourTuple>,
    live: BTreeSet<FourTuple>,
    /// Confirmed at least once: intercept knows them, if only as tombstones.
    confirmed: BTreeSet<FourTuple>,
    /// Asked for since the tunnel last changed.
    asked: BTreeSet<u64>,
}

impl Registrations {
    fn register(&mut self, registration: &Registration) {
        let id = registration.session.as_u64();
        assert!(self.asked.insert(id), "registered twice: {registration:?}");
        match self.tuples.insert(id, registration.tuple) {
            Some(before) => assert_eq!(before, registration.tuple, "a session changed its tuple"),
            None => assert!(
                self.live.insert(registration.tuple),
                "two live sessions of one tuple: {registration:?}"
            ),
        }
    }

    fn unregister(&mut self, session: SessionId, tunnel_is_up: bool) {
        let Some(tuple) = self.tuples.remove(&session.as_u64()) else {
            // Opened and ended while there was no tunnel to register it through.
            assert!(!tunnel_is_up, "{session:?} was never registered");
            return;
        };
        self.asked.remove(&session.as_u64());
        self.live.remove(&tuple);
        self.confirmed.remove(&tuple);
    }

    pub(super) fn confirm(&mut self, session: SessionId) {
        if let Some(tuple) = self.tuples.get(&session.as_u64()) {
            self.confirmed.insert(*tuple);
        }
    }

    pub(super) fn tunnel_changed(&mut self) {
        self.asked.clear();
    }

    fn check_packet(&self, header: &Header) {
        assert!(
            self.live.contains(&header.tuple),
            "a packet of no session: {header}"
        );
        assert!(
            !header.flags.contains(TcpFlags::SYN) || self.confirmed.contains(&header.tuple),
            "a SYN left before its registration was confirmed: {header}"
        );
    }
}

/// An output without its borrow of the engine.
enum Owned {
    Packet(Vec<u8>),
    Register(Registration),
    Unregister(SessionId),
    Record(SessionRecord),
    Timeout(Option<Micros>),
}

impl Simulation<'_> {
    /// Takes all outputs until the engine rests.
    pub(super) fn drain_engine(&mut self) {
        for _ in 0..MAX_OUTPUTS {
            let output = match self.engine.poll_output(self.now()) {
                Output::Packet(packet) => Owned::Packet(packet.to_vec()),
                Output::Register(registration) => Owned::Register(registration),
                Output::Unregister { session, .. } => Owned::Unregister(session),
                Output::Record(record) => Owned::Record(record),
                output @ (Output::Connect { .. } | Output::Send { .. } | Output::Close { .. }) => {
                    panic!("this engine has no sockets: {output:?}")
                }
                Output::Timeout(at) => Owned::Timeout(at.map(|at| at.as_micros())),
            };
            match output {
                Owned::Packet(packet) => self.packet(packet),
                Owned::Register(registration) => {
                    self.trace.note(self.now_us, format!("{registration:?}"));
                    self.registrations.register(&registration);
                    self.tunnel_send(TunnelMessage::Register(registration));
                }
                Owned::Unregister(session) => {
                    self.trace
                        .note(self.now_us, format!("unregister {session:?}"));
                    self.registrations.unregister(session, self.tunnel.is_up());
                    self.tunnel_send(TunnelMessage::Unregister(session));
                }
                Owned::Record(record) => {
                    self.trace.note(self.now_us, format!("{record:?}"));
                    self.records.push(record);
                }
                Owned::Timeout(at) => {
                    self.engine_at = at;
                    return check_in_flight(&self.engine);
                }
            }
        }
        panic!("the engine never rests at {} µs", self.now_us);
    }

    fn packet(&mut self, packet: Vec<u8>) {
        self.trace
            .hash_bytes(self.now_us, &packet[..packet.len().min(HASHED_BYTES)]);
        let header = Header::of(&parse_verified(&packet));
        self.trace.segment(self.now_us, Place::Sent, &header);
        let mtu = usize::from(self.scenario.engine.mtu);
        assert!(
            packet.len() <= mtu,
            "{} bytes are over the MTU of {mtu}: {header}",
            packet.len()
        );
        // What the target answered now, nobody would catch.
        assert!(self.tunnel.is_up(), "the tunnel is down: {header}");
        self.registrations.check_packet(&header);
        if self.scenario.loops_to.is_some() {
            let captured_us = self.now_us + MILLISECOND_US;
            self.queue.push(captured_us, Event::Looped(packet.clone()));
        }
        for arrival_us in self.to_target.carry(self.now_us) {
            self.queue
                .push(arrival_us, Event::ReachesTarget(packet.clone()));
        }
    }
}

/// What the ledger calls in flight is what the sessions hold, at every moment.
pub(crate) fn check_in_flight(engine: &Engine) {
    let (ledger, held) = (engine.ledger(), engine.in_flight());
    let accounts = [
        ("connections", ledger.connections, held.connections),
        ("requests", ledger.requests, held.requests),
        ("bytes", ledger.bytes, held.bytes),
    ];
    for (name, account, held) in accounts {
        let (in_flight, overdrawn) = (account.in_flight(), account.overdrawn());
        assert!(
            in_flight == held && overdrawn == 0,
            "the ledger has {in_flight} {name} in flight ({overdrawn} overdrawn), the \
             sessions {held}"
        );
    }
}
