//! A server-side TCP of its own, written from RFC 9293 and sharing no code with the engine, so
//! that a misreading on one side does not cancel out with the same on the other.
//!
//! It checks each packet for what any receiver may demand, and panics at the first that fails.

mod app;
mod config;
mod connection;
mod receive;
mod send;

use std::collections::BTreeMap;

use tcpcopy_packet::{Endpoint, Segment, TcpFlags, TcpOptions};

pub(crate) use app::{App, AppAction};
pub(crate) use config::{Finish, Listening, Reader, TargetConfig};
pub(crate) use connection::End;

use crate::events::Micros;
use crate::rng::Rng;
use crate::wire::Header;
use connection::Connection;

/// One connection the target established, as it was in the end.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    /// The mirror's endpoint.
    pub(crate) source: Endpoint,
    pub(crate) began_us: Micros,
    pub(crate) stream: Vec<u8>,
    pub(crate) client_closed: bool,
    /// `None`: still open when the simulation ended.
    pub(crate) end: Option<End>,
}

/// A segment of the target, with its payload where somebody looks at it.
pub(crate) type Spoken = (Header, Vec<u8>);

/// Counts over all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TargetCounts {
    pub(crate) packets: u64,
    pub(crate) syns: u64,
    /// Data segments of the mirror without new data.
    pub(crate) useless_segments: u64,
    /// Segments the target sent again.
    pub(crate) retransmitted: u64,
    /// RSTs of the mirror that lay outside the window.
    pub(crate) bad_resets: u64,
}

/// The server.
#[derive(Debug)]
pub(crate) struct ModelTarget {
    pub(crate) config: TargetConfig,
    connections: BTreeMap<Endpoint, Connection>,
    past: Vec<Accepted>,
    counts: TargetCounts,
    rng: Rng,
    out: Vec<Spoken>,
}

impl ModelTarget {
    pub(crate) fn new(config: TargetConfig, rng: Rng) -> Self {
        Self {
            config,
            connections: BTreeMap::new(),
            past: Vec::new(),
            counts: TargetCounts::default(),
            rng,
            out: Vec::new(),
        }
    }

    /// Takes in a segment of the mirror; `packet_len` is that of the IP packet.
    pub(crate) fn segment(&mut self, now_us: Micros, segment: &Segment<'_>, packet_len: usize) {
        assert_eq!(
            segment.tuple.destination, self.config.endpoint,
            "a packet for someone else"
        );
        self.counts.packets += 1;
        let source = segment.tuple.source;
        let is_bare_syn = segment.flags.contains(TcpFlags::SYN);
        self.counts.syns += u64::from(is_bare_syn);
        if is_bare_syn
            && self
                .connections
                .get(&source)
                .is_some_and(|old| old.yields_to(segment))
        {
            self.retire(source);
        }
        match self.connections.get_mut(&source) {
            Some(connection) => connection.segment(now_us, segment, packet_len),
            None => self.unknown(now_us, segment),
        }
        self.collect(source);
    }

    fn unknown(&mut self, now_us: Micros, segment: &Segment<'_>) {
        let flags = segment.flags;
        if flags.contains(TcpFlags::RST) {
            return;
        }
        if !flags.contains(TcpFlags::SYN) {
            return self.refuse(segment);
        }
        assert!(!flags.contains(TcpFlags::ACK), "a SYN-ACK towards a server");
        match self.config.listening {
            Listening::Refuses => self.refuse(segment),
            Listening::Silent => {}
            Listening::Accepts { delay_us } => {
                let initial_seq = self.rng.next_u32();
                let mut connection =
                    Connection::new(now_us, segment, &self.config, delay_us, initial_seq);
                connection.timeout(now_us);
                self.connections.insert(segment.tuple.source, connection);
            }
        }
    }

    /// RST for a segment of no connection (RFC 9293 section 3.10.7.1).
    fn refuse(&mut self, segment: &Segment<'_>) {
        let has_ack = segment.flags.contains(TcpFlags::ACK);
        let header = Header {
            tuple: segment.tuple.reversed(),
            seq: if has_ack { segment.ack } else { 0 },
            ack: if has_ack {
                0
            } else {
                segment.seq.wrapping_add(segment.sequence_len())
            },
            flags: if has_ack {
                TcpFlags::RST
            } else {
                TcpFlags::RST | TcpFlags::ACK
            },
            window: 0,
            options: TcpOptions::default(),
            payload_len: 0,
        };
        self.out.push((header, Vec::new()));
    }

    /// Lets time pass.
    pub(crate) fn timeout(&mut self, now_us: Micros) {
        let due: Vec<Endpoint> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.next_at().is_some_and(|at| now_us >= at))
            .map(|(source, _)| *source)
            .collect();
        for source in due {
            if let Some(connection) = self.connections.get_mut(&source) {
                connection.timeout(now_us);
            }
            self.collect(source);
        }
    }

    /// When [`ModelTarget::timeout`] has something to do.
    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.connections
            .values()
            .filter_map(Connection::next_at)
            .min()
    }

    /// Resets one connection from outside, without a word to the mirror.
    pub(crate) fn abort(&mut self, source: Endpoint) {
        if let Some(connection) = self.connections.get_mut(&source) {
            connection.abort();
        }
        self.collect(source);
    }

    fn collect(&mut self, source: Endpoint) {
        let Some(connection) = self.connections.get_mut(&source) else {
            return;
        };
        self.out.append(&mut connection.take_out());
        if connection.is_closed() {
            self.retire(source);
        }
    }

    fn retire(&mut self, source: Endpoint) {
        let Some(connection) = self.connections.remove(&source) else {
            return;
        };
        self.counts.useless_segments += connection.useless_segments;
        self.counts.retransmitted += connection.retransmitted();
        self.counts.bad_resets += connection.bad_resets;
        if connection.established {
            self.past.push(Accepted {
                source,
                began_us: connection.began_us,
                stream: connection.stream().to_vec(),
                client_closed: connection.client_closed(),
                end: connection.end,
            });
        }
    }

    pub(crate) fn take_out(&mut self) -> Vec<Spoken> {
        std::mem::take(&mut self.out)
    }

    /// Bytes received in order so far, over all connections.
    pub(crate) fn received_bytes(&self) -> u64 {
        let past = self
            .past
            .iter()
            .map(|accepted| accepted.stream.len() as u64);
        let live = self
            .connections
            .values()
            .map(|connection| connection.stream().len() as u64);
        past.chain(live).sum()
    }

    /// All connections in the order they began.
    pub(crate) fn finish(mut self) -> (Vec<Accepted>, TargetCounts) {
        for source in self.connections.keys().copied().collect::<Vec<_>>() {
            self.retire(source);
        }
        self.past.sort_by_key(|accepted| accepted.began_us);
        (self.past, self.counts)
    }
}
