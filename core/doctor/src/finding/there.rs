//! What can be wrong on the way to the target, or at it.

use std::net::IpAddr;

use tcpcopy_packet::Endpoint;

use super::iptables;

/// A fault between this host and the target's service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum There {
    /// The target's reverse-path filter drops packets in the client's name.
    RpFilter {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
        /// The device on which they arrive.
        device: String,
        /// `rp_filter` as it works there.
        value: u8,
    },
    /// The target has no route to the client.
    NoRouteBack {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
    },
    /// Packets in the client's name don't reach the target's TCP, those in this host's own do.
    SourceDropped {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
        /// The device of the target on which they still arrive, if they do.
        arrives_on: Option<String>,
    },
    /// The target sees other addresses than the clients'.
    SourceRewritten {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
        /// What the target saw.
        seen: IpAddr,
    },
    /// Nothing comes back from the target, in no name.
    Silent {
        /// The target.
        target: Endpoint,
        /// How far it is known.
        detail: String,
    },
    /// The target refuses connections.
    PortClosed {
        /// The target.
        target: Endpoint,
    },
}

impl There {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::RpFilter { .. } => "rp_filter",
            Self::NoRouteBack { .. } => "no_route_back",
            Self::SourceDropped { .. } => "source_dropped",
            Self::SourceRewritten { .. } => "source_rewritten",
            Self::Silent { .. } => "target_silent",
            Self::PortClosed { .. } => "port_closed",
        }
    }

    pub(super) fn what(&self) -> String {
        match self {
            Self::RpFilter {
                target,
                source,
                device,
                value,
            } => format!(
                "packets from {source} arrive at {target} on {device}, and rp_filter = {value} \
                 drops them: the target's route back to {source} does not lead out of {device}"
            ),
            Self::NoRouteBack { target, source } => {
                format!("{target} has no route to {source}, so its TCP does not answer at all")
            }
            Self::SourceDropped {
                target,
                source,
                arrives_on: None,
            } => format!(
                "packets to {target} in the name of {source} never arrive, those in this host's \
                 own name do: somebody on the way refuses foreign source addresses"
            ),
            Self::SourceDropped {
                target,
                source,
                arrives_on: Some(device),
            } => format!(
                "packets to {target} in the name of {source} arrive on the target's {device} and \
                 go no further, those in this host's own name do: the target's firewall drops \
                 that source address"
            ),
            Self::SourceRewritten {
                target,
                source,
                seen,
            } => format!(
                "packets to {target} in the name of {source} arrive in the name of {seen}: a NAT \
                 on the way rewrites them"
            ),
            Self::Silent { target, detail } => format!("{target} does not answer: {detail}"),
            Self::PortClosed { target } => {
                format!("{target} refuses connections: nobody listens on that port")
            }
        }
    }

    pub(super) fn remedy(&self) -> String {
        match self {
            Self::RpFilter { source, device, .. } => format!(
                "on the target: sysctl -w net.ipv4.conf.all.rp_filter=0 \
                 net.ipv4.conf.{device}.rp_filter=0, or give it a route to {source} by {device}"
            ),
            Self::NoRouteBack { source, .. } => format!(
                "on the target, give it one; where it leads does not matter where intercept runs \
                 on the target itself: ip route add default via ROUTER, then ip route get {source}"
            ),
            Self::SourceDropped {
                arrives_on: Some(_),
                target,
                source,
            } => format!(
                "on the target, find the rule that drops {source}: {0} -t raw -vnL PREROUTING; {0} \
                 -vnL INPUT; nft list ruleset",
                iptables(target.address)
            ),
            Self::SourceDropped { .. } => {
                "let the network carry foreign sources (port security, source checks and uRPF of \
                 switches, routers and clouds); where that can't be, replay through ordinary \
                 sockets, without intercept: --upstream socket"
                    .to_owned()
            }
            Self::SourceRewritten { target, .. } => format!(
                "exempt the replay from the NAT; where it is on this host: {} -t nat -I \
                 POSTROUTING -p tcp -d {} --dport {} -j ACCEPT",
                iptables(target.address),
                target.address,
                target.port
            ),
            Self::Silent { target, .. } => format!(
                "from this host: ping {0}; on the target: tcpdump -ni any tcp port {1}, and what \
                 its firewall lets in",
                target.address, target.port
            ),
            Self::PortClosed { target } => format!(
                "start the service, or correct the target in -x; on the target: ss -ltn 'sport = \
                 {}'",
                target.port
            ),
        }
    }
}
