//! What can be wrong on the way of the target's answers.

use std::net::{IpAddr, Ipv6Addr};

use tcpcopy_packet::Endpoint;

use super::iptables;

/// A fault between the target and intercept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// The target's answer left the target without passing intercept's queue.
    QueueRuleMissing {
        /// The target.
        target: Endpoint,
        /// The device by which it left.
        device: String,
        /// The client, if intercept's passlist (`-x`) has it.
        passlisted: Option<IpAddr>,
    },
    /// Nobody takes packets from the queue that the target's rule names.
    QueueUnserved {
        /// The queue.
        queue: u16,
        /// The queues that are served.
        served: Vec<u16>,
    },
    /// The target's TCP answered, and the answer neither left nor came to intercept.
    AnswerSwallowed {
        /// The target.
        target: Endpoint,
        /// The client, if the answer may also wait for the next hop towards it.
        waits_for: Option<IpAddr>,
    },
    /// The target's answers go another way than to intercept.
    BypassIntercept {
        /// The target.
        target: Endpoint,
        /// The client.
        source: IpAddr,
        /// Where intercept is.
        intercept: String,
        /// What shows it.
        evidence: String,
        /// The assistant that the target's route should lead through, if there is one.
        via: Option<IpAddr>,
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
    /// An assistant forwards the target's answers to the real clients.
    IpForward {
        /// The assistant.
        intercept: String,
        /// Whether it is about IPv4.
        is_ipv4: bool,
    },
}

impl Back {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::QueueRuleMissing { .. } => "queue_rule_missing",
            Self::QueueUnserved { .. } => "queue_unserved",
            Self::AnswerSwallowed { .. } => "answer_swallowed",
            Self::BypassIntercept { .. } => "replies_bypass_intercept",
            Self::InterceptBlind { .. } => "intercept_blind",
            Self::ClientUnanswered { .. } => "client_unanswered",
            Self::IpForward { .. } => "ip_forward",
        }
    }

    pub(super) fn what(&self) -> String {
        match self {
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
            Self::QueueUnserved { queue, served } => {
                format!("nobody takes packets from queue {queue}; queues in use: {served:?}")
            }
            Self::AnswerSwallowed { target, waits_for } => {
                let or_waits = match waits_for {
                    None => String::new(),
                    Some(client) => format!(", or the next hop towards {client} is not there"),
                };
                format!(
                    "{target} took the connection, and its answer neither left the target nor came \
                     to intercept: a rule in the target's OUTPUT drops it, or queues it for \
                     nobody{or_waits}"
                )
            }
            Self::BypassIntercept {
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
                 {intercept}: either the target's route to {source} does not lead through it (the \
                 usual cause), or the target drops that source address"
            ),
            Self::IpForward { intercept, is_ipv4 } => {
                let version = if *is_ipv4 { 4 } else { 6 };
                format!(
                    "the assistant {intercept} forwards IPv{version}: what the target answers \
                     reaches the real clients"
                )
            }
        }
    }

    pub(super) fn remedy(&self) -> String {
        match self {
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
            Self::QueueUnserved { queue, .. } => {
                format!("start intercept with --queue {queue}, or correct the rule's --queue-num")
            }
            Self::AnswerSwallowed { target, waits_for } => {
                let next_hop = match waits_for {
                    None => String::new(),
                    Some(client) => format!("; ip route get {client}"),
                };
                format!(
                    "on the target: {} -vnL OUTPUT, and compare the rule's queue number with those \
                     in /proc/net/netfilter/nfnetlink_queue and with intercept's --queue{next_hop}",
                    iptables(target.address)
                )
            }
            Self::BypassIntercept {
                via: Some(via),
                source,
                ..
            } => {
                let (network, command) = network_of(*source);
                format!(
                    "on the target, for the clients' network: {command} add {network} via {via}"
                )
            }
            Self::BypassIntercept { target, .. } => format!(
                "run intercept on {0} (intercept --port {1}) and name it with -s {0}, or route the \
                 target's answers to the host that runs it, with -i there",
                target.address, target.port
            ),
            Self::InterceptBlind { target, device, .. } => format!(
                "start it with: intercept -i {device} -F 'tcp and src port {}'",
                target.port
            ),
            Self::ClientUnanswered { source, via, .. } => {
                let (network, command) = network_of(*source);
                format!(
                    "on the target, '{command} get {source}' must say 'via {via}', else: {command} \
                     add {network} via {via}; to be told which it is, start a second intercept on \
                     the target with the same key (without --port it only looks), and try again"
                )
            }
            Self::IpForward { is_ipv4: true, .. } => {
                "on the assistant: sysctl -w net.ipv4.ip_forward=0".to_owned()
            }
            Self::IpForward { is_ipv4: false, .. } => {
                "on the assistant: sysctl -w net.ipv6.conf.all.forwarding=0".to_owned()
            }
        }
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
