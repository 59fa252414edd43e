//! What can be wrong on the host that looks.

use std::path::PathBuf;

use tcpcopy_packet::Endpoint;

use super::iptables;

/// A fault of this host, or of what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
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
    /// This host has no route to the target.
    NoRoute {
        /// The target.
        target: Endpoint,
    },
    /// This process has no file descriptor left.
    NoDescriptor,
    /// This host has no source port left to connect with.
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

impl Here {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::CapabilityMissing { .. } => "capability_missing",
            Self::NothingCaptured { .. } => "nothing_captured",
            Self::NameUnresolved { .. } => "name_unresolved",
            Self::OutputRefused { .. } => "output_refused",
            Self::Conntrack { .. } => "conntrack",
            Self::NoRoute { .. } => "no_route",
            Self::NoDescriptor => "no_descriptor",
            Self::NoPort { .. } => "no_port",
        }
    }

    pub(super) fn what(&self) -> String {
        match self {
            Self::CapabilityMissing { capability, .. } => format!(
                "this process lacks the capability {capability}, without which it can neither \
                 take packets nor send them in other names"
            ),
            Self::NothingCaptured {
                place,
                filter,
                wait_s,
                elsewhere,
            } => {
                let instead = match elsewhere {
                    Elsewhere::Nowhere => ", nor on any other device".to_owned(),
                    Elsewhere::Device(device) => format!("; such packets come on {device}"),
                    Elsewhere::Address(address) => format!("; clients talk to {address}"),
                    Elsewhere::Excluded { filter } => {
                        format!("; such packets come there, and -F '{filter}' excludes them")
                    }
                };
                format!("no packet for '{filter}' came on {place} within {wait_s} s{instead}")
            }
            Self::NameUnresolved { reason } => reason.clone(),
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
            Self::NoDescriptor => "no file descriptor is left (EMFILE or ENFILE)".to_owned(),
            Self::NoPort { target } => format!("no source port is left towards {target}"),
        }
    }

    pub(super) fn remedy(&self) -> String {
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
                    format!("see whether clients talk to this host: tcpdump -ni any '{filter}'")
                }
                Elsewhere::Device(device) => format!("capture there: -i {device}"),
                Elsewhere::Address(address) => format!(
                    "name that address in -x: {address}-TARGET:PORT, or none: {}-TARGET:PORT",
                    address.port
                ),
                Elsewhere::Excluded { .. } => "change -F, or leave it out".to_owned(),
            },
            Self::NameUnresolved { .. } => "check the name, or write the address".to_owned(),
            Self::OutputRefused { target } => format!(
                "find the rule: {} -vnL OUTPUT; nft list ruleset",
                iptables(target.address)
            ),
            Self::Conntrack { target, .. } => format!(
                "leave the replay out of it: {} -t raw -I OUTPUT -p tcp -d {} --dport {} -j \
                 NOTRACK",
                iptables(target.address),
                target.address,
                target.port
            ),
            Self::NoRoute { target } => {
                format!(
                    "give it one; what there is: ip route get {}",
                    target.address
                )
            }
            Self::NoDescriptor => "raise the limit: ulimit -n 65536".to_owned(),
            Self::NoPort { .. } => {
                "widen net.ipv4.ip_local_port_range, or let connections in TIME_WAIT end".to_owned()
            }
        }
    }
}
