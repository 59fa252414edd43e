//! A model of a kernel with TCP connections to a target, seen through the calls that the engine asks
//! for. The network loses nothing, as a kernel repairs what it loses; everything else may take its
//! time, come in parts, or fail.
//!
//! It panics at a call that no program should make.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tcpcopy_engine::{Closing, SessionId, SocketFailure};
use tcpcopy_packet::Endpoint;

use super::far::{Far, FarAction};
use crate::events::{EventQueue, MILLISECOND_US, Micros, SECOND_US};
use crate::rng::Rng;
use crate::target::{Accepted, TargetConfig};

/// How long a port is out of use where our side closed first.
const TIME_WAIT_US: Micros = 60 * SECOND_US;
/// First port handed out.
const FIRST_PORT: u16 = 1_024;
/// A middlebox that resets a connection does so within this.
const RESET_WITHIN_US: Micros = 2 * SECOND_US;

/// What becomes of attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fortune {
    /// The target accepts.
    Accepted,
    /// The attempt fails after a while.
    Fails(SocketFailure),
    /// Nothing is ever heard of it.
    Silence,
}

/// How kernel and network behave; the target's application is as the scenario's [`TargetConfig`].
#[derive(Clone, Debug)]
pub(crate) struct KernelConfig {
    pub(crate) fortune: Fortune,
    /// Time to the target or back.
    pub(crate) delay_us: Micros,
    /// Acknowledgements are learnt of up to this much later.
    pub(crate) late_ack_us: Micros,
    /// No acknowledgement is learnt of once the target has closed.
    pub(crate) deaf_after_fin: bool,
    pub(crate) send_buffer_bytes: usize,
    /// Sends of a thousand that take only a part although there is room.
    pub(crate) partial_permille: u32,
    /// Answers come in pieces of at most this size.
    pub(crate) piece_bytes: u64,
    /// Pieces of a thousand after which the socket is empty although the answer goes on.
    pub(crate) pause_permille: u32,
    /// Connections of a thousand that a middlebox resets.
    pub(crate) reset_permille: u32,
    /// Source ports there are.
    pub(crate) ports: usize,
    /// Within these times every attempt fails.
    pub(crate) shortages: Vec<(Micros, Micros, SocketFailure)>,
    /// Connections of a thousand of which something is told after they were closed.
    pub(crate) stale_permille: u32,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            fortune: Fortune::Accepted,
            delay_us: 100,
            late_ack_us: 0,
            deaf_after_fin: false,
            send_buffer_bytes: 1 << 20,
            partial_permille: 0,
            piece_bytes: 1 << 16,
            pause_permille: 0,
            reset_permille: 0,
            ports: 28_000,
            shortages: Vec::new(),
            stale_permille: 0,
        }
    }
}

/// What the kernel tells of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Connected,
    Writable,
    Acknowledged(u64),
    /// So many bytes, whether that is all for now, and whether an answer ends with them.
    Received(u64, bool, bool),
    Finished,
    Failed(SocketFailure),
}

/// Counts over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KernelCounts {
    pub(crate) attempts: u64,
    /// Ports that were put into TIME_WAIT.
    pub(crate) time_waits: u64,
    pub(crate) resets: u64,
    pub(crate) stale: u64,
}

/// What travels between the two ends, or comes of time.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Syn,
    /// All bytes up to this offset reach the target.
    Bytes(usize),
    Fin,
    SynAck,
    Ack(usize),
    Answer(u64, bool, bool),
    TargetFin,
    Failure(SocketFailure),
    /// The application looks around.
    App,
    /// There is room to send.
    Room,
    Stale(Told),
    PortFree,
}

#[derive(Debug)]
struct Connection {
    source: Endpoint,
    began_us: Micros,
    connected: bool,
    /// The engine is done with it, or was told that it is gone.
    forgotten: bool,
    /// Bytes that the kernel took.
    taken: Vec<u8>,
    /// How many of them are known to have arrived.
    acked: usize,
    is_full: bool,
    finished: bool,
    /// We finished when the target had not.
    finished_first: bool,
    target_finished: bool,
    /// Nothing overtakes on the way there and back.
    up_us: Micros,
    down_us: Micros,
    /// The target's end, once the SYN has come there.
    far: Option<Far>,
}

#[derive(Debug)]
pub(crate) struct Kernel {
    config: KernelConfig,
    target: TargetConfig,
    rng: Rng,
    wire: EventQueue<(u64, Wire)>,
    connections: BTreeMap<u64, Connection>,
    ports_used: usize,
    next_port: u16,
    told: VecDeque<(SessionId, Told)>,
    pub(crate) counts: KernelCounts,
}

impl Kernel {
    pub(crate) fn new(config: KernelConfig, target: TargetConfig, rng: Rng) -> Self {
        Self {
            config,
            target,
            rng,
            wire: EventQueue::new(),
            connections: BTreeMap::new(),
            ports_used: 0,
            next_port: FIRST_PORT,
            told: VecDeque::new(),
            counts: KernelCounts::default(),
        }
    }

    /// The call that opens a connection.
    pub(crate) fn connect(
        &mut self,
        now_us: Micros,
        session: SessionId,
        target: Endpoint,
    ) -> Result<Endpoint, SocketFailure> {
        assert_eq!(target, self.target.endpoint, "a connection to someone else");
        self.counts.attempts += 1;
        let mut shortages = self.config.shortages.iter();
        if let Some((.., failure)) = shortages.find(|(from, to, _)| (*from..*to).contains(&now_us))
        {
            return Err(*failure);
        }
        if self.ports_used >= self.config.ports {
            return Err(SocketFailure::NoPort);
        }
        self.ports_used += 1;
        let address: IpAddr = match target.address {
            IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 77).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 77).into(),
        };
        // Every connection of a run has a source of its own, which the checks go by.
        let source = Endpoint::new(address, self.next_port);
        self.next_port += 1;
        let connection = Connection {
            source,
            began_us: now_us,
            connected: false,
            forgotten: false,
            taken: Vec::new(),
            acked: 0,
            is_full: false,
            finished: false,
            finished_first: false,
            target_finished: false,
            up_us: 0,
            down_us: 0,
            far: None,
        };
        let id = session.as_u64();
        let before = self.connections.insert(id, connection);
        assert!(before.is_none(), "{session:?} connects twice");
        match self.config.fortune {
            Fortune::Accepted => self.up(now_us, id, Wire::Syn),
            Fortune::Fails(failure) => self.down(now_us, id, Wire::Failure(failure)),
            Fortune::Silence => {}
        }
        if self.rng.permille(self.config.reset_permille) {
            let at_us = now_us + self.rng.range(0, RESET_WITHIN_US);
            let reset = Wire::Failure(SocketFailure::Reset);
            self.wire.push(at_us, (id, reset));
        }
        Ok(source)
    }

    /// The call that gives bytes to a connection; how many it took.
    pub(crate) fn send(&mut self, now_us: Micros, session: SessionId, bytes: &[u8]) -> usize {
        let is_partial = self.rng.permille(self.config.partial_permille);
        let drawn = self.rng.range(0, bytes.len() as u64 + 1);
        let buffer = self.config.send_buffer_bytes;
        let connection = self.live(session);
        assert!(!bytes.is_empty(), "a send of nothing");
        assert!(connection.connected, "{session:?} sends before it stands");
        assert!(!connection.finished, "{session:?} sends after its end");
        assert!(!connection.is_full, "{session:?} was to wait for room");
        let room = buffer.saturating_sub(connection.taken.len() - connection.acked);
        let mut taken = bytes.len().min(room);
        if is_partial {
            taken = taken.min(usize::try_from(drawn).expect("in memory"));
        }
        connection.taken.extend_from_slice(&bytes[..taken]);
        connection.is_full = taken < bytes.len();
        let (end, is_full) = (connection.taken.len(), connection.is_full);
        let id = session.as_u64();
        self.up(now_us, id, Wire::Bytes(end));
        if is_full && taken < room {
            let at_us = now_us + self.rng.range(1, 5 * MILLISECOND_US);
            self.wire.push(at_us, (id, Wire::Room));
        }
        taken
    }

    /// The calls that close a connection.
    pub(crate) fn close(&mut self, now_us: Micros, session: SessionId, how: Closing) {
        let connection = self.live(session);
        let id = session.as_u64();
        match how {
            Closing::Finish => {
                assert!(connection.connected, "{session:?} ends before it stands");
                assert!(!connection.finished, "{session:?} ends twice");
                connection.finished = true;
                connection.finished_first = !connection.target_finished;
                self.up(now_us, id, Wire::Fin);
            }
            Closing::Reset => {
                if let Some(far) = &mut connection.far {
                    far.reset_by_client();
                }
                self.counts.resets += 1;
                self.forget(now_us, id, false);
            }
            Closing::Release => {
                assert!(
                    connection.finished && connection.target_finished,
                    "one side is open"
                );
                let under_way = connection.taken.len() - connection.acked;
                assert_eq!(under_way, 0, "bytes under way are given up");
                let closed_first = connection.finished_first;
                self.forget(now_us, id, closed_first);
            }
        }
    }

    fn live(&mut self, session: SessionId) -> &mut Connection {
        let connection = self.connections.get_mut(&session.as_u64());
        connection
            .filter(|connection| !connection.forgotten)
            .unwrap_or_else(|| panic!("{session:?} has no connection"))
    }

    fn forget(&mut self, now_us: Micros, id: u64, time_wait: bool) {
        let connection = self.connections.get_mut(&id).expect("known");
        connection.forgotten = true;
        self.counts.time_waits += u64::from(time_wait);
        let pause_us = if time_wait { TIME_WAIT_US } else { 0 };
        self.wire.push(now_us + pause_us, (id, Wire::PortFree));
        if self.rng.permille(self.config.stale_permille) {
            let told = self.rng.pick(&[
                Told::Connected,
                Told::Writable,
                Told::Acknowledged(0),
                Told::Received(100, true, false),
                Told::Finished,
                Told::Failed(SocketFailure::Reset),
                Told::Failed(SocketFailure::NoPort),
            ]);
            let at_us = now_us + self.rng.range(0, SECOND_US);
            self.wire.push(at_us, (id, Wire::Stale(told)));
        }
    }

    fn up(&mut self, now_us: Micros, id: u64, wire: Wire) {
        let delay_us = self.config.delay_us;
        let connection = self.connections.get_mut(&id).expect("known");
        connection.up_us = connection.up_us.max(now_us + delay_us);
        self.wire.push(connection.up_us, (id, wire));
    }

    fn down(&mut self, now_us: Micros, id: u64, wire: Wire) {
        let delay_us = self.config.delay_us;
        let connection = self.connections.get_mut(&id).expect("known");
        connection.down_us = connection.down_us.max(now_us + delay_us);
        self.wire.push(connection.down_us, (id, wire));
    }

    /// When [`Kernel::step`] has something to do.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.wire.next_at()
    }

    /// Does the next thing that is due. False when nothing is.
    pub(crate) fn step(&mut self, now_us: Micros) -> bool {
        if self.wire.next_at().is_none_or(|at_us| at_us > now_us) {
            return false;
        }
        let (_, (id, wire)) = self.wire.pop().expect("peeked");
        self.wire_event(now_us, id, wire);
        true
    }

    /// The next thing to tell of.
    pub(crate) fn next_told(&mut self) -> Option<(SessionId, Told)> {
        self.told.pop_front()
    }

    fn wire_event(&mut self, now_us: Micros, id: u64, wire: Wire) {
        let buffer = self.config.send_buffer_bytes;
        let session = SessionId::from_u64(id);
        let connection = self.connections.get_mut(&id).expect("known");
        let told = match wire {
            Wire::PortFree => {
                self.ports_used -= 1;
                return;
            }
            Wire::Stale(told) => {
                self.counts.stale += 1;
                self.told.push_back((session, told));
                return;
            }
            Wire::Syn => {
                if !connection.forgotten {
                    connection.far = Some(Far::new(&self.target, now_us));
                    self.down(now_us, id, Wire::SynAck);
                    self.far_turn(now_us, id);
                }
                return;
            }
            Wire::Bytes(_) | Wire::Fin | Wire::App => {
                if let Some(far) = &mut connection.far {
                    match wire {
                        Wire::Bytes(end) => far.reached = far.reached.max(end),
                        Wire::Fin => far.fin_reached = true,
                        _ => {}
                    }
                    self.far_turn(now_us, id);
                }
                return;
            }
            _ if connection.forgotten => return,
            Wire::SynAck => {
                connection.connected = true;
                Told::Connected
            }
            Wire::Ack(_) if self.config.deaf_after_fin && connection.target_finished => return,
            Wire::Ack(offset) => {
                connection.acked = connection.acked.max(offset);
                let under_way = connection.taken.len() - connection.acked;
                let acknowledged = Told::Acknowledged(under_way as u64);
                self.told.push_back((session, acknowledged));
                if !connection.is_full || under_way >= buffer {
                    return;
                }
                connection.is_full = false;
                Told::Writable
            }
            Wire::Room if connection.is_full => {
                connection.is_full = false;
                Told::Writable
            }
            Wire::Room => return,
            Wire::Answer(bytes, is_last, ends) => Told::Received(bytes, is_last, ends),
            Wire::TargetFin => {
                connection.target_finished = true;
                Told::Finished
            }
            Wire::Failure(failure) => {
                if let Some(far) = &mut connection.far {
                    far.reset_by_network();
                }
                self.forget(now_us, id, false);
                Told::Failed(failure)
            }
        };
        self.told.push_back((session, told));
    }

    /// The target's end looks at what has come, and does what its application wants.
    fn far_turn(&mut self, now_us: Micros, id: u64) {
        let connection = self.connections.get_mut(&id).expect("known");
        let Some(far) = &mut connection.far else {
            return;
        };
        let actions = far.turn(now_us, &connection.taken);
        let app_at_us = far.next_at(now_us);
        for action in actions {
            match action {
                FarAction::Acknowledge(offset) => {
                    let late_us = self.rng.range(0, self.config.late_ack_us + 1);
                    let at_us = now_us + self.config.delay_us + late_us;
                    self.wire.push(at_us, (id, Wire::Ack(offset)));
                }
                FarAction::Write(bytes) => self.answer(now_us, id, bytes),
                FarAction::Finish => self.down(now_us, id, Wire::TargetFin),
                FarAction::Reset => {
                    self.down(now_us, id, Wire::Failure(SocketFailure::Reset));
                }
            }
        }
        if let Some(at_us) = app_at_us {
            self.wire.push(at_us, (id, Wire::App));
        }
    }

    fn answer(&mut self, now_us: Micros, id: u64, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(self.config.piece_bytes);
            left -= piece;
            let is_last = left == 0 || self.rng.permille(self.config.pause_permille);
            self.down(now_us, id, Wire::Answer(piece, is_last, left == 0));
        }
    }

    /// Bytes that have arrived at the target.
    pub(crate) fn arrived_bytes(&self) -> u64 {
        let far = self.connections.values().filter_map(|it| it.far.as_ref());
        far.map(|far| far.arrived as u64).sum()
    }

    /// All connections that the target accepted, in the order they began.
    ///
    /// # Panics
    ///
    /// Panics if the engine has left one open.
    pub(crate) fn finish(self) -> Vec<Accepted> {
        let connections = self.connections.into_iter();
        let mut accepted: Vec<Accepted> = connections
            .filter_map(|(id, connection)| {
                assert!(
                    connection.forgotten,
                    "{:?} is left open",
                    SessionId::from_u64(id)
                );
                let far = connection.far?;
                Some(Accepted {
                    source: connection.source,
                    began_us: connection.began_us,
                    stream: connection.taken[..far.arrived].to_vec(),
                    client_closed: far.client_closed,
                    end: far.end,
                })
            })
            .collect();
        accepted.sort_by_key(|accepted| accepted.began_us);
        accepted
    }
}
