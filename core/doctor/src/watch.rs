//! A probe and its answers, seen on this host's devices.

use std::net::IpAddr;

use intercept_lib::TargetSegment;
use intercept_lib::tunnel::{MAX_SIGHTINGS, Probe, Seen, Sighting};
use tcpcopy_net::NetError;
use tcpcopy_net::filter::CaptureFilter;
use tcpcopy_net::interfaces::interfaces;
use tcpcopy_net::ring::{CaptureRing, PacketKind, RingConfig};
use tcpcopy_packet::TcpFlags;

/// Bytes of the ring: the filter lets a handful of packets in.
const RING_BYTES: usize = 1 << 20;
/// Bytes kept of each packet: the longest IP and TCP headers.
const SNAPLEN: u32 = 128;
/// Where the TCP header begins in an IPv6 packet without extension headers, which no SYN has.
const IPV6_HEADER_LEN: u32 = 40;

/// Looks for one probe, and for what the target answers to it, on all devices.
#[derive(Debug)]
pub struct Watch {
    probe: Probe,
    ring: CaptureRing,
    sightings: Vec<Sighting>,
}

impl Watch {
    /// Begins to look.
    ///
    /// # Errors
    /// [`NetError`], as without `CAP_NET_RAW`.
    pub fn open(probe: Probe) -> Result<Self, NetError> {
        let filter = CaptureFilter::compile(&expression(&probe))?;
        let ring = CaptureRing::open(&RingConfig {
            ring_bytes: RING_BYTES,
            snaplen: SNAPLEN,
            include_outgoing: true,
            ..RingConfig::new(filter)
        })?;
        Ok(Self {
            probe,
            ring,
            sightings: Vec::new(),
        })
    }

    /// What it looks for.
    #[must_use]
    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The ring, to be waited for.
    #[must_use]
    pub const fn ring(&self) -> &CaptureRing {
        &self.ring
    }

    /// What has been seen so far: each kind once for each device and source.
    pub fn sightings(&mut self) -> &[Sighting] {
        let mut found = Vec::new();
        for _ in 0..self.ring.block_count() {
            let Some(block) = self.ring.next_block() else {
                break;
            };
            for captured in &block {
                let left = match captured.kind {
                    PacketKind::Outgoing => true,
                    PacketKind::ToHost => false,
                    PacketKind::ToOtherHost | PacketKind::ToMany => continue,
                };
                let len = captured.original_len as usize;
                if let Ok(segment) = TargetSegment::parse(captured.packet, len)
                    && let Some(what) = classify(&self.probe, &segment, left)
                {
                    let source = segment.tuple.source.address;
                    found.push((what, source, captured.interface_index));
                }
            }
        }
        for (what, source, index) in found {
            self.note(what, source, index);
        }
        &self.sightings
    }

    fn note(&mut self, what: Seen, source: IpAddr, index: u32) {
        let device = device_name(index);
        let sighting = Sighting {
            what,
            source,
            device,
        };
        if self.sightings.len() < MAX_SIGHTINGS && !self.sightings.contains(&sighting) {
            self.sightings.push(sighting);
        }
    }
}

/// The name of a device by the kernel's number for it.
#[must_use]
pub fn device_name(index: u32) -> String {
    let named = interfaces().unwrap_or_default();
    let named = named.into_iter().find(|device| device.index == index);
    named.map_or_else(|| format!("device {index}"), |device| device.name)
}

fn classify(probe: &Probe, segment: &TargetSegment<'_>, left: bool) -> Option<Seen> {
    let flags = segment.flags();
    let has = |flag| flags.contains(flag);
    if segment.tuple.destination == probe.tuple.destination {
        let is_probe = has(TcpFlags::SYN) && !has(TcpFlags::ACK) && !left;
        return is_probe.then_some(Seen::ProbeArrived);
    }
    match (has(TcpFlags::RST), has(TcpFlags::SYN), left) {
        (true, _, true) => Some(Seen::ResetLeft),
        (true, _, false) => Some(Seen::ResetArrived),
        (false, true, true) => Some(Seen::AnswerLeft),
        (false, true, false) => Some(Seen::AnswerArrived),
        (false, false, _) => None,
    }
}

/// Packets to the target with the probe's sequence number, and packets of the target that
/// acknowledge it. The client's address is left out: a NAT may have changed it.
fn expression(probe: &Probe) -> String {
    let target = probe.tuple.destination;
    let (host, port) = (target.address, target.port);
    let number = |offset: u32| match host {
        IpAddr::V4(_) => format!("tcp[{offset}:4]"),
        IpAddr::V6(_) => format!("ip6[{}:4]", IPV6_HEADER_LEN + offset),
    };
    let (seq, ack) = (number(4), number(8));
    let (iss, next) = (probe.iss, probe.iss.wrapping_add(1));
    format!(
        "tcp and ((dst host {host} and dst port {port} and {seq} = {iss}) or \
         (src host {host} and src port {port} and {ack} = {next}))"
    )
}

#[cfg(test)]
mod tests {
    use tcpcopy_packet::{Endpoint, FourTuple, SegmentBuilder};

    use super::*;

    fn probe(client: &str, target: &str) -> Probe {
        let end = |address: &str, port| Endpoint::new(address.parse().unwrap(), port);
        Probe {
            tuple: FourTuple::new(end(client, 50_000), end(target, 80)),
            iss: u32::MAX,
        }
    }

    fn packet(tuple: FourTuple, seq: u32, ack: u32, flags: TcpFlags) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = SegmentBuilder {
            seq,
            ack,
            flags,
            ..SegmentBuilder::new(tuple)
        };
        builder.write(std::iter::empty(), &mut packet).unwrap();
        packet
    }

    #[test]
    fn a_probe_and_its_answers_are_told_from_all_else() {
        let syn_ack = TcpFlags::SYN | TcpFlags::ACK;
        for probe in [
            probe("192.0.2.1", "198.51.100.1"),
            probe("2001:db8::1", "2001:db8::2"),
        ] {
            let filter = CaptureFilter::compile(&expression(&probe)).unwrap();
            let seen = |packet: Vec<u8>, left| {
                let segment = TargetSegment::parse(&packet, packet.len()).unwrap();
                filter
                    .matches(&packet)
                    .then(|| classify(&probe, &segment, left))
                    .flatten()
            };
            let (there, back) = (probe.tuple, probe.tuple.reversed());
            let mut rewritten = there;
            rewritten.source.port = 1;
            let syn = |tuple| packet(tuple, u32::MAX, 0, TcpFlags::SYN);
            assert_eq!(seen(syn(there), false), Some(Seen::ProbeArrived));
            assert_eq!(seen(syn(rewritten), false), Some(Seen::ProbeArrived));
            assert_eq!(seen(syn(there), true), None);
            let answer = |ack, flags| packet(back, 5, ack, flags);
            assert_eq!(seen(answer(0, syn_ack), true), Some(Seen::AnswerLeft));
            assert_eq!(seen(answer(0, syn_ack), false), Some(Seen::AnswerArrived));
            assert_eq!(
                seen(answer(0, TcpFlags::RST | TcpFlags::ACK), true),
                Some(Seen::ResetLeft)
            );
            assert_eq!(seen(answer(1, syn_ack), true), None);
            assert_eq!(seen(packet(there, 7, 0, TcpFlags::SYN), false), None);
        }
    }
}
