//! What can be wrong between the captured client, the target and intercept: a closed list, each
//! with a name, a sentence, and what to do.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use tcpcopy_packet::Endpoint;

/// One thing that is wrong, with what is needed to tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The process may not do what it has to.
    CapabilityMissing {
        /// As `setcap` spells it, in capitals.
        capability: &'static str,
        /// The program's path.
        program: PathBuf,
    },
    /// No packet of a client came by.
    NothingCaptured {
        /// Where it was looked, such as `eth0` or `any device`.
        place: String,
        /// What for, in pcap-filter words.
        filter: String,
        /// How long, in seconds.
        wait_s: u64,
        /// Where clients' packets are instead.
        elsewhere: Elsewhere,
    },
    /// A name has no address.
    NameUnresolved {
        /// The option and the name, and what the resolver said.
        reason: String,
    },
    /// Nobody listens where intercept should.
    NoIntercept {
        /// Where.
        intercept: String,
    },
    /// Intercept can't be reached, or does not answer as one.
    TunnelUnreachable {
        /// Where it should be.
        intercept: String,
        /// What happened.
        reason: String,
    },
    /// The ends of the tunnel don't have the same key.
    TunnelKey {
        /// Where intercept is.
        intercept: String,
        /// What happened.
        reason: String,
    },
    /// An assistant forwards the target's answers to the real clients.
    IpForward {
        /// The assistant.
        intercept: String,
        /// Whether it is about IPv4.
        is_ipv4: bool,
    },
    /// A firewall rule of this host drops packets in other names.
    OutputRefused {
        /// The target.
        target: Endpoint,
    },
    /// The connection tracking of this host drops packets of connections it has not seen begin, or
    /// has no room for more.
    Conntrack {
        /// The target.
        target: Endpoint,
        /// Whether its table is full.
        is_full: bool,
    },
    /// This host has no route to the target, or can't send for another reason.
    NoRoute {
        /// The target.
        target: Endpoint,
    },
    /// The target's answer left the target without passing intercept's queue.
    QueueRuleMissing {
        /// The target.
        target: Endpoint,
        /// The device by which it left.
        device: String,
        /// Whether packets to the client are on intercept's passlist (`-x`).
        passlisted: Option<IpAddr>,
    },
    /// The target's TCP answered, and the answer neither left nor came to intercept.
    AnswerSwallowed {
        /// The target.
        target: Endpoint,
    },
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
    TargetSilent {
        /// The target.
        target: Endpoint,
        /// What is known beyond that.
        detail: String,
    },
    /// The target refuses connections.
    PortClosed {
        /// The target.
        target: Endpoint,
    },
    /// The target's answers go another way than to intercept.
    RepliesBypass {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
        /// Where intercept is.
        intercept: String,
        /// Its address, for the route.
        via: IpAddr,
        /// What shows it.
        evidence: String,
        /// Whether the fault is a route that does not lead through the assistant.
        by_route: bool,
    },
    /// The target's answers come to the assistant, and its intercept does not look at them.
    InterceptBlind {
        /// The target.
        target: Endpoint,
        /// Where intercept is.
        intercept: String,
        /// The device on which they come.
        device: String,
    },
    /// No answer in a client's name comes to intercept, and only the target itself could tell why.
    ClientUnanswered {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
        /// Where intercept is.
        intercept: String,
        /// Its address, for the route.
        via: IpAddr,
    },
    /// This process has no file descriptor left.
    NoDescriptor,
    /// This host has no source port or memory left to connect.
    NoPort {
        /// The target.
        target: Endpoint,
    },
}

/// Where clients' packets are, if not where they were looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nowhere on this host.
    Nowhere,
    /// On another device.
    Device(String),
    /// At another address of the origin.
    Address(Endpoint),
    /// Here, but the user's filter excludes them.
    Excluded {
        /// The filter.
        filter: String,
    },
}

impl Finding {
    /// The name, for programs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CapabilityMissing { .. } => "capability_missing",
            Self::NothingCaptured { .. } => "nothing_captured",
            Self::NameUnresolved { .. } => "name_unresolved",
            Self::NoIntercept { .. } => "no_intercept",
            Self::TunnelUnreachable { .. } => "tunnel_unreachable",
            Self::TunnelKey { .. } => "tunnel_key",
            Self::IpForward { .. } => "ip_forward",
            Self::OutputRefused { .. } => "output_refused",
            Self::Conntrack { .. } => "conntrack",
            Self::NoRoute { .. } => "no_route",
            Self::QueueRuleMissing { .. } => "queue_rule_missing",
            Self::AnswerSwallowed { .. } => "answer_swallowed",
            Self::RpFilter { .. } => "rp_filter",
            Self::SourceDropped { .. } => "source_dropped",
            Self::SourceRewritten { .. } => "source_rewritten",
            Self::TargetSilent { .. } => "target_silent",
            Self::PortClosed { .. } => "port_closed",
            Self::RepliesBypass { .. } => "replies_bypass_intercept",
            Self::InterceptBlind { .. } => "intercept_blind",
            Self::ClientUnanswered { .. } => "client_unanswered",
            Self::NoDescriptor => "no_descriptor",
            Self::NoPort { .. } => "no_port",
        }
    }

    /// What is wrong, and how that shows.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::CapabilityMissing { capability, .. } => {
                format!(
                    "this process lacks the capability {capability}: it may neither capture nor send"
                )
            }
            Self::NothingCaptured {
                place,
                filter,
                wait_s,
                elsewhere,
            } => {
                let nothing = format!("no packet for '{filter}' came on {place} within {wait_s} s");
                match elsewhere {
                    Elsewhere::Nowhere => format!("{nothing}, nor on any other device"),
                    Elsewhere::Device(device) => {
                        format!("{nothing}; such packets come on {device}")
                    }
                    Elsewhere::Address(address) => format!("{nothing}; clients talk to {address}"),
                    Elsewhere::Excluded { filter } => {
                        format!(
                            "{nothing}; such packets come there, but -F '{filter}' excludes them"
                        )
                    }
                }
            }
            Self::NameUnresolved { reason } => reason.clone(),
            Self::NoIntercept { intercept } => {
                format!("nobody listens at {intercept}: intercept does not run there")
            }
            Self::TunnelUnreachable { intercept, reason } => {
                format!("no tunnel to intercept at {intercept}: {reason}")
            }
            Self::TunnelKey { intercept, reason } => {
                format!("intercept at {intercept} has another key than this end: {reason}")
            }
            Self::IpForward { intercept, is_ipv4 } => {
                let version = if *is_ipv4 { 4 } else { 6 };
                format!(
                    "the assistant {intercept} forwards IPv{version}: what the target answers \
                     reaches the real clients"
                )
            }
            Self::OutputRefused { target } => format!(
                "a firewall rule of this host drops packets to {target} as they leave (EPERM)"
            ),
            Self::Conntrack {
                target,
                is_full: true,
            } => format!(
                "this host's table of tracked connections is full, so packets to {target} are \
                 dropped as they leave (EPERM)"
            ),
            Self::Conntrack {
                target,
                is_full: false,
            } => format!(
                "this host lets a SYN to {target} out and drops what follows (EPERM): its \
                 connection tracking never sees the answers, which go to intercept, and a rule \
                 drops such packets as INVALID"
            ),
            Self::NoRoute { target } => format!("this host has no route to {target}"),
            Self::QueueRuleMissing {
                target,
                device,
                passlisted: None,
            } => format!(
                "the answer of {target} left by {device} without passing intercept's queue: no \
                 NFQUEUE rule covers it"
            ),
            Self::QueueRuleMissing {
                target,
                device,
                passlisted: Some(client),
            } => format!(
                "the answer of {target} left by {device}: {client} is on intercept's passlist (-x)"
            ),
            Self::AnswerSwallowed { target } => format!(
                "{target} took the connection, but its answer neither left the target nor came to \
                 intercept: a rule in the target's OUTPUT drops it, or queues it for nobody"
            ),
            Self::RpFilter {
                target,
                source,
                device,
                value,
            } => format!(
                "packets from {source} arrive at {target} on {device}, and rp_filter = {value} \
                 drops them there: the target's route back to {source} does not lead out of \
                 {device}"
            ),
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
                "packets to {target} in the name of {source} arrive at the target's {device} and \
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
            Self::TargetSilent { target, detail } => {
                format!("{target} answers nobody, this host's own address neither{detail}")
            }
            Self::PortClosed { target } => {
                format!("{target} refuses connections: nobody listens on that port")
            }
            Self::RepliesBypass {
                target,
                source,
                intercept,
                evidence,
                ..
            } => format!(
                "the answers of {target} to {source} bypass intercept at {intercept}: {evidence}"
            ),
            Self::InterceptBlind {
                target,
                intercept,
                device,
            } => format!(
                "the answers of {target} come to {intercept} on {device}, and intercept does not \
                 see them: its -i or -F leaves them out"
            ),
            Self::ClientUnanswered {
                target,
                source,
                intercept,
                ..
            } => format!(
                "{target} answers others, but no answer to {source} comes to intercept at \
                 {intercept}: either the target's route to {source} does not lead through \
                 {intercept} (the usual cause), or the target drops that source address"
            ),
            Self::NoDescriptor => {
                "no file descriptor is left to connect with (EMFILE or ENFILE)".to_owned()
            }
            Self::NoPort { target } => format!("no source port is left towards {target}"),
        }
    }

    /// What to do, with the command where there is one.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::CapabilityMissing {
                capability,
                program,
            } => format!(
                "run as root, or allow it once: setcap {}+ep {}",
                capability.to_lowercase(),
                program.display()
            ),
            Self::NothingCaptured {
                filter, elsewhere, ..
            } => match elsewhere {
                Elsewhere::Nowhere => {
                    format!(
                        "see whether clients talk to this host at all: tcpdump -ni any '{filter}'"
                    )
                }
                Elsewhere::Device(device) => format!("capture there: -i {device}"),
                Elsewhere::Address(address) => format!(
                    "name that address in -x: {address}-TARGET:PORT, or no address: {}-TARGET:PORT",
                    address.port
                ),
                Elsewhere::Excluded { .. } => "change -F, or leave it out".to_owned(),
            },
            Self::NameUnresolved { .. } => "check the name, or write the address".to_owned(),
            Self::NoIntercept { .. } => {
                "start intercept there, or name its place with -s HOST:PORT".to_owned()
            }
            Self::TunnelUnreachable { intercept, .. } => {
                let (host, port) = intercept.rsplit_once(':').unwrap_or((intercept, "36524"));
                format!("on {host}, see that TCP port {port} is let in; check -s and -p")
            }
            Self::TunnelKey { .. } => {
                "give both ends the same key: intercept --generate-key > key; chmod 600 key; then \
                 --key-file key on both"
                    .to_owned()
            }
            Self::IpForward { is_ipv4: true, .. } => {
                "on the assistant: sysctl -w net.ipv4.ip_forward=0".to_owned()
            }
            Self::IpForward { is_ipv4: false, .. } => {
                "on the assistant: sysctl -w net.ipv6.conf.all.forwarding=0".to_owned()
            }
            Self::OutputRefused { target } => {
                format!(
                    "find the rule: {} -vnL OUTPUT; nft list ruleset",
                    iptables(target.address)
                )
            }
            Self::Conntrack { target, .. } => format!(
                "leave the replay out of it: {} -t raw -I OUTPUT -p tcp -d {} --dport {} -j \
                 NOTRACK",
                iptables(target.address),
                target.address,
                target.port
            ),
            Self::NoRoute { target } => format!("ip route get {}", target.address),
            Self::QueueRuleMissing {
                passlisted: Some(_),
                ..
            } => "start intercept without that address in its -x".to_owned(),
            Self::QueueRuleMissing { target, .. } => format!(
                "start intercept with --port {port}, or on the target, with the number of its \
                 queue: {} -I OUTPUT -p tcp --sport {port} -j NFQUEUE --queue-num 0; for a service \
                 in a container, run intercept in the container's network namespace",
                iptables(target.address),
                port = target.port
            ),
            Self::AnswerSwallowed { target } => format!(
                "on the target: {} -vnL OUTPUT, and compare the rule's queue number with those in \
                 /proc/net/netfilter/nfnetlink_queue and with intercept's --queue",
                iptables(target.address)
            ),
            Self::RpFilter { source, device, .. } => format!(
                "on the target: sysctl -w net.ipv4.conf.all.rp_filter=0 \
                 net.ipv4.conf.{device}.rp_filter=0, or give it a route to {source} by {device}"
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
            Self::SourceRewritten { .. } => {
                "exempt the replay from the NAT, on this host for example: iptables -t nat -I \
                 POSTROUTING -p tcp --dport PORT -j ACCEPT, or use addresses that it leaves alone \
                 (-c)"
                    .to_owned()
            }
            Self::TargetSilent { target, .. } => format!(
                "from this host: ping {0}; on the target: tcpdump -ni any tcp port {1}, and its \
                 firewall's INPUT",
                target.address, target.port
            ),
            Self::PortClosed { target } => format!(
                "start the service, or correct the target in -x; on the target: ss -ltn 'sport = \
                 {}'",
                target.port
            ),
            Self::RepliesBypass {
                by_route: true,
                source,
                via,
                ..
            } => {
                let (prefix, command) = network_of(*source);
                format!("on the target, for the clients' network: {command} add {prefix} via {via}")
            }
            Self::RepliesBypass { target, .. } => format!(
                "run intercept on {0} (intercept --port {1}) and name it with -s {0}, or route the \
                 target's answers to the host that runs it, with -i there",
                target.address, target.port
            ),
            Self::InterceptBlind { target, device, .. } => format!(
                "start it with: intercept -i {device} -F 'tcp and src port {}'",
                target.port
            ),
            Self::ClientUnanswered { source, via, .. } => {
                let (prefix, command) = network_of(*source);
                format!(
                    "on the target: {command} get {source} must say 'via {via}', else: {command} \
                     add {prefix} via {via}; to be told which it is, start a second intercept on \
                     the target (without --port it only looks), with the same key, and try again"
                )
            }
            Self::NoDescriptor => "raise the limit: ulimit -n 65536".to_owned(),
            Self::NoPort { .. } => {
                "widen net.ipv4.ip_local_port_range, or let connections in TIME_WAIT end".to_owned()
            }
        }
    }
}

const fn iptables(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "iptables",
        IpAddr::V6(_) => "ip6tables",
    }
}

/// The network a client is likely to be in, and the command for its route.
fn network_of(client: IpAddr) -> (String, &'static str) {
    match client {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            (format!("{a}.{b}.{c}.0/24"), "ip route")
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            let network = Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
            (format!("{network}/64"), "ip -6 route")
        }
    }
}
