//! Which packets the kernel hands over: pcap-filter text made from the origins and from the
//! user's own filter, compiled to classic BPF.
//!
//! The ring hands over packets from the IP header on, whatever the device is, so expressions are
//! compiled for raw IP: `tcp`, `host`, `net`, `port` and the like work, link-layer words do not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::bpf::{self, Instruction, op};

/// libpcap's number for packets that begin with the IP header, on Linux (`DLT_RAW`).
const DLT_RAW: i32 = 12;

/// The most separate address-and-port terms in an origin expression. Each costs the kernel a few
/// instructions a packet, so beyond it the expression asks for all addresses and all ports apart.
const EXACT_TERMS_MAX: usize = 64;

/// The longest text, in bytes, that libpcap optimises: its time and memory grow faster than the
/// text does, to minutes and gigabytes for thousands of ports.
const OPTIMISED_BYTES_MAX: usize = 32 << 10;

/// Where the kernel answers with facts about the packet instead of bytes (`SKF_AD_OFF`).
#[expect(
    clippy::cast_sign_loss,
    reason = "BPF offsets are unsigned, ancillary ones wrap"
)]
const ANCILLARY_PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;

/// The link-layer protocols that reach the expression: IPv4, IPv6, and the VLAN tags behind which
/// a packet leaves through a device that does not tag by itself.
const PASSED_PROTOCOLS: [i32; 4] = [
    libc::ETH_P_IP,
    libc::ETH_P_IPV6,
    libc::ETH_P_8021Q,
    libc::ETH_P_8021AD,
];

/// An origin as the filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginFilter {
    /// The address clients connect to; `None` is any address of either family.
    pub address: Option<IpAddr>,
    /// The port clients connect to.
    pub port: u16,
}

/// Which packets of a captured connection are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directions {
    /// What clients send to the origin.
    ToOrigin,
    /// What clients send and what the origin answers.
    Both,
}

/// Why an expression is no capture filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// libpcap refuses the expression.
    #[error(
        "the capture filter does not compile: {message}\nfilter: {expression}\n\nhint: see pcap-filter(7). Packets are seen from the IP header on, so words for the link layer such as `ether`, `vlan` or `inbound` do not apply"
    )]
    Syntax {
        /// The expression, shortened if it is very long.
        expression: String,
        /// libpcap's own words.
        message: String,
    },
    /// The compiled program has more instructions than the kernel takes.
    #[error(
        "the capture filter is too long: {instructions} instructions, the kernel takes {max}\n\nhint: name fewer origins, or leave out their addresses so that only ports are compared",
        max = bpf::MAX_INSTRUCTIONS
    )]
    TooLong {
        /// The program's length.
        instructions: usize,
    },
}

/// A compiled capture filter.
#[derive(Clone, Debug)]
pub struct CaptureFilter {
    expression: String,
    program: Vec<Instruction>,
}

impl CaptureFilter {
    /// Compiles pcap-filter text; empty text lets every IP packet pass.
    ///
    /// # Errors
    /// [`FilterError::Syntax`] with libpcap's text, [`FilterError::TooLong`] if the kernel would
    /// refuse the program.
    pub fn compile(expression: &str) -> Result<Self, FilterError> {
        let program = pcap::Capture::dead(pcap::Linktype(DLT_RAW))
            .and_then(|handle| handle.compile(expression, expression.len() <= OPTIMISED_BYTES_MAX))
            .map_err(|error| syntax_error(expression, &error))?;
        let program: Vec<Instruction> =
            program.get_instructions().iter().map(instruction).collect();
        let filter = Self {
            expression: expression.to_owned(),
            program,
        };
        match filter.kernel_program(u32::MAX).len() {
            instructions if instructions > bpf::MAX_INSTRUCTIONS => {
                Err(FilterError::TooLong { instructions })
            }
            _ => Ok(filter),
        }
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether a packet, from its IP header on, passes.
    #[must_use]
    pub fn matches(&self, packet: &[u8]) -> bool {
        bpf::run(&self.program, packet) != 0
    }

    /// The program for a socket: the link-layer protocol is looked at first, because the bytes of
    /// an ARP or MPLS header could pass for an IP header. `snaplen` is the most bytes kept of a
    /// packet.
    pub(crate) fn kernel_program(&self, snaplen: u32) -> Vec<Instruction> {
        let mut program = vec![Instruction::new(op::LD_W_ABS, ANCILLARY_PROTOCOL)];
        for (protocol, to_expression) in PASSED_PROTOCOLS.iter().zip((1..=4).rev()) {
            program.push(Instruction {
                code: op::JEQ_K,
                jump_true: to_expression,
                jump_false: 0,
                k: protocol.cast_unsigned(),
            });
        }
        program.extend(reject_all());
        program.extend(self.program.iter().map(|instruction| match *instruction {
            Instruction {
                code: op::RET_K,
                k: 1..,
                ..
            } => Instruction::new(op::RET_K, snaplen),
            other => other,
        }));
        program
    }
}

/// The program that lets nothing pass.
pub(crate) const fn reject_all() -> [Instruction; 1] {
    [Instruction::new(op::RET_K, 0)]
}

/// pcap-filter text for the TCP packets of the origins, with the user's own filter, if any, as a
/// further condition. Nothing else is left out; pure acknowledgements are wanted.
///
/// Up to 64 different sets of ports the text names each address with its ports. Beyond that it
/// asks for any of the addresses and any of the ports, which lets more pass than was named but
/// stays small enough for the kernel: the caller looks up each packet's origin anyway.
#[must_use]
pub fn origin_expression(
    origins: &[OriginFilter],
    directions: Directions,
    user_filter: Option<&str>,
) -> String {
    let terms = exact_terms(origins);
    let terms = if terms.len() > EXACT_TERMS_MAX {
        crossed_terms(&terms)
    } else {
        terms
    };
    let side = |side: &str| {
        terms
            .iter()
            .map(|term| term.expression(side))
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let mut expression = match directions {
        Directions::ToOrigin => format!("tcp and ({})", side("dst")),
        Directions::Both => format!("tcp and ({} or {})", side("dst"), side("src")),
    };
    if let Some(user_filter) = user_filter.filter(|text| !text.trim().is_empty()) {
        expression.push_str(&format!(" and ({user_filter})"));
    }
    expression
}

/// Addresses of one family that share a set of ports; no address means any.
struct Term {
    addresses: Vec<IpAddr>,
    ports: BTreeSet<u16>,
}

impl Term {
    fn expression(&self, side: &str) -> String {
        let ports = ports_expression(side, &self.ports);
        match self.addresses.first() {
            None => ports,
            Some(IpAddr::V4(_)) => {
                format!("(ip {side} host ({}) and ({ports}))", join(&self.addresses))
            }
            Some(IpAddr::V6(_)) => {
                format!(
                    "(ip6 {side} host ({}) and ({ports}))",
                    join(&self.addresses)
                )
            }
        }
    }
}

/// The ports as alternatives; each run of them costs the program no more than two ports do.
fn ports_expression(side: &str, ports: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *port => *last = *port,
            _ => runs.push((*port, *port)),
        }
    }
    let (single, ranges): (Vec<_>, Vec<_>) = runs.into_iter().partition(|(a, b)| a == b);
    // `tcp` is said again in each term: libpcap then compiles many times faster.
    let single = (!single.is_empty()).then(|| {
        format!(
            "tcp {side} port ({})",
            join(single.iter().map(|(port, _)| port))
        )
    });
    let ranges = ranges
        .iter()
        .map(|(first, last)| format!("tcp {side} portrange {first}-{last}"));
    single
        .into_iter()
        .chain(ranges)
        .collect::<Vec<_>>()
        .join(" or ")
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// The origins as terms that name no other pair of address and port.
fn exact_terms(origins: &[OriginFilter]) -> Vec<Term> {
    let any: BTreeSet<u16> = origins
        .iter()
        .filter(|origin| origin.address.is_none())
        .map(|o| o.port)
        .collect();
    let mut ports_of: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    for origin in origins {
        if let Some(address) = origin.address.filter(|_| !any.contains(&origin.port)) {
            ports_of.entry(address).or_default().insert(origin.port);
        }
    }
    let mut addresses_of: BTreeMap<(bool, BTreeSet<u16>), Vec<IpAddr>> = BTreeMap::new();
    for (address, ports) in ports_of {
        addresses_of
            .entry((address.is_ipv6(), ports))
            .or_default()
            .push(address);
    }
    let named = addresses_of
        .into_iter()
        .map(|((_, ports), addresses)| Term { addresses, ports });
    let any = (!any.is_empty()).then_some(Term {
        addresses: Vec::new(),
        ports: any,
    });
    any.into_iter().chain(named).collect()
}

/// At most one term a family, and one for any address: all its addresses with all its ports.
fn crossed_terms(terms: &[Term]) -> Vec<Term> {
    let mut crossed: BTreeMap<Option<bool>, Term> = BTreeMap::new();
    for term in terms {
        let family = term.addresses.first().map(IpAddr::is_ipv6);
        let into = crossed.entry(family).or_insert_with(|| Term {
            addresses: Vec::new(),
            ports: BTreeSet::new(),
        });
        into.addresses.extend(&term.addresses);
        into.ports.extend(&term.ports);
    }
    crossed.into_values().collect()
}

/// The `pcap` crate shows an instruction only as text, `code jt jf k`, as `tcpdump -ddd` does.
fn instruction(instruction: &pcap::BpfInstruction) -> Instruction {
    let text = instruction.to_string();
    let mut numbers = text.split(' ').map(|number| number.parse::<u32>());
    let mut number = || numbers.next().and_then(Result::ok).expect("four numbers");
    let byte = |value: u32| u8::try_from(value).expect("jump distances are bytes");
    let code = u16::try_from(number()).expect("operation codes have 16 bits");
    let (jump_true, jump_false) = (byte(number()), byte(number()));
    Instruction {
        code,
        jump_true,
        jump_false,
        k: number(),
    }
}

fn syntax_error(expression: &str, error: &pcap::Error) -> FilterError {
    /// Longer expressions would hide the message.
    const SHOWN_CHARS_MAX: usize = 200;
    let message = match error {
        pcap::Error::PcapError(message) => message.clone(),
        other => other.to_string(),
    };
    let mut shown: String = expression.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < expression.len() {
        shown.push('…');
    }
    FilterError::Syntax {
        expression: shown,
        message,
    }
}

#[cfg(test)]
mod tests;
