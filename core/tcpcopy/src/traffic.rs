//! Which traffic is captured: the origins, and the filter that lets nothing else pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tcpcopy_engine::Mapping;
use tcpcopy_net::filter::{CaptureFilter, Directions, FilterError, OriginFilter};
use tcpcopy_net::interfaces::local_addresses;
use tcpcopy_net::ring::PacketKind;
use tcpcopy_packet::{Endpoint, Segment};

use crate::error::StartError;

/// The origins of the mappings, each once.
pub fn origins<'a>(mappings: impl Iterator<Item = &'a Mapping>) -> Vec<OriginFilter> {
    let mut origins: Vec<OriginFilter> = Vec::new();
    for mapping in mappings {
        let origin = OriginFilter {
            address: mapping.origin_address,
            port: mapping.origin_port,
        };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

/// The filter for the traffic to the origins and the answers of those that are `answering`, narrowed
/// by the user's own (`-F`), without what a replay to the targets of the mappings sends itself.
///
/// # Errors
/// [`StartError::Filter`].
pub fn filter(
    origins: &[OriginFilter],
    mappings: &[Mapping],
    user_filter: Option<&str>,
    answering: &[OriginFilter],
) -> Result<CaptureFilter, StartError> {
    let wrong = |error: FilterError| StartError::Filter(error.to_string());
    // Alone first, so that stray brackets in it can't reach what is joined to it.
    user_filter
        .map(CaptureFilter::compile)
        .transpose()
        .map_err(wrong)?;
    let conditions: Vec<String> = user_filter
        .map(|text| format!("({text})"))
        .into_iter()
        .chain(not_our_own(mappings, !answering.is_empty()))
        .collect();
    let conditions = conditions.join(" and ");
    CaptureFilter::with_answers(origins, answering, Some(&conditions)).map_err(wrong)
}

/// Keeps replayed packets from being captured and replayed in turn, where they pass the capturing
/// device, as on a mirror port, and any address that receives on the target's port is an origin;
/// and the target's answers, where answers are captured.
fn not_our_own(mappings: &[Mapping], with_answers: bool) -> Vec<String> {
    let ends: &[&str] = if with_answers {
        &["dst", "src"]
    } else {
        &["dst"]
    };
    let any_address_on = |port| {
        mappings
            .iter()
            .any(|origin| origin.origin_address.is_none() && origin.origin_port == port)
    };
    let mut conditions: Vec<String> = mappings
        .iter()
        .map(|mapping| mapping.target)
        .filter(|target| any_address_on(target.port))
        .flat_map(|target| {
            let Endpoint { address, port } = target;
            let end = move |end| format!("not ({end} host {address} and {end} port {port})");
            ends.iter().map(end)
        })
        .collect();
    conditions.sort();
    conditions.dedup();
    conditions
}

/// Tells the two directions apart, and leaves out the connections of which this host is the client:
/// when what is sent is captured as well, they look like those of an origin.
#[derive(Clone, Debug)]
pub struct Sides {
    to_origin: CaptureFilter,
    local: BTreeSet<IpAddr>,
}

impl Sides {
    /// With the addresses that this host has at present.
    ///
    /// # Errors
    /// [`StartError::System`].
    pub fn new(origins: &[OriginFilter]) -> Result<Self, StartError> {
        let local = local_addresses().map_err(|error| StartError::System {
            action: "look at this host's devices",
            source: std::io::Error::other(error),
        })?;
        Self::of_host(origins, local)
    }

    fn of_host(origins: &[OriginFilter], local: BTreeSet<IpAddr>) -> Result<Self, StartError> {
        let to_origin = CaptureFilter::for_origins(origins, Directions::ToOrigin, None)
            .map_err(|error| StartError::Filter(error.to_string()))?;
        Ok(Self { to_origin, local })
    }

    /// Whether a packet belongs to a client of the origin.
    #[must_use]
    pub fn is_wanted(&self, packet: &[u8], kind: PacketKind) -> bool {
        let Ok((tuple, ..)) = Segment::locate(packet) else {
            return true;
        };
        let is_local = |endpoint: Endpoint| {
            endpoint.address.is_loopback() || self.local.contains(&endpoint.address)
        };
        let (client, origin, seen_as_client) = if self.to_origin.matches(packet) {
            let is_sent = kind == PacketKind::Outgoing;
            (tuple.source, tuple.destination, is_sent)
        } else {
            let is_received = kind != PacketKind::Outgoing;
            (tuple.destination, tuple.source, is_received)
        };
        !(seen_as_client && is_local(client) && !is_local(origin))
    }
}

#[cfg(test)]
mod tests {
    use tcpcopy_packet::{FourTuple, SegmentBuilder};

    use super::*;

    fn mapping(origin: Option<&str>, origin_port: u16, target: &str, port: u16) -> Mapping {
        let address = |text: &str| text.parse().expect("an address");
        let target = Endpoint::new(address(target), port);
        Mapping {
            origin_address: origin.map(address),
            origin_port,
            target,
        }
    }

    #[test]
    fn replayed_packets_are_not_captured_again() {
        let mappings = [
            mapping(None, 80, "10.0.0.9", 80),
            mapping(None, 80, "fd00::9", 80),
            mapping(None, 81, "10.0.0.9", 8081),
            mapping(Some("10.0.0.1"), 82, "10.0.0.9", 82),
        ];
        assert_eq!(
            not_our_own(&mappings, false),
            [
                "not (dst host 10.0.0.9 and dst port 80)",
                "not (dst host fd00::9 and dst port 80)",
            ]
        );
        assert_eq!(
            not_our_own(&mappings[..1], true),
            [
                "not (dst host 10.0.0.9 and dst port 80)",
                "not (src host 10.0.0.9 and src port 80)",
            ]
        );
    }

    #[test]
    fn an_origin_with_two_targets_is_one() {
        let mappings = [
            mapping(None, 80, "10.0.0.9", 80),
            mapping(None, 80, "10.0.0.8", 80),
            mapping(Some("10.0.0.1"), 80, "10.0.0.8", 80),
        ];
        let addresses: Vec<_> = origins(mappings.iter()).iter().map(|o| o.address).collect();
        assert_eq!(
            addresses,
            [None, Some("10.0.0.1".parse().expect("an address"))]
        );
    }

    #[test]
    fn connections_of_which_this_host_is_the_client_are_left_out() {
        let origins = [OriginFilter {
            address: None,
            port: 80,
        }];
        let local = BTreeSet::from(["10.0.0.1".parse().expect("an address")]);
        let sides = Sides::of_host(&origins, local).expect("a filter");
        let is_wanted = |source: &str, destination: &str, kind| {
            let endpoint = |text: &str| text.parse::<std::net::SocketAddr>().expect("valid").into();
            let tuple = FourTuple::new(endpoint(source), endpoint(destination));
            let mut packet = Vec::new();
            SegmentBuilder::new(tuple)
                .write(std::iter::empty(), &mut packet)
                .expect("valid");
            sides.is_wanted(&packet, kind)
        };
        let (here, here_as_client) = ("10.0.0.1:80", "10.0.0.1:5000");
        let (client, elsewhere) = ("192.0.2.1:5000", "192.0.2.9:80");
        let (to, from) = (PacketKind::ToHost, PacketKind::Outgoing);
        assert!(is_wanted(client, here, to));
        assert!(is_wanted(here, client, from));
        assert!(!is_wanted(here_as_client, elsewhere, from));
        assert!(!is_wanted(elsewhere, here_as_client, to));
        // Within the host, and others' on a mirror port.
        assert!(is_wanted(here_as_client, here, to) && is_wanted(here, here_as_client, to));
        assert!(is_wanted(client, elsewhere, PacketKind::ToOtherHost));
        assert!(is_wanted(elsewhere, client, PacketKind::ToOtherHost));
    }
}
