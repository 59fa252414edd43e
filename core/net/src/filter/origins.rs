//! The program that recognises the packets of the origins.
//!
//! It is not left to libpcap, which compares a packet with one origin after the other and needs
//! minutes to compile a thousand of them; here all comparisons are binary searches.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::bpf::{Assembler, Instruction, Label, op, port_ranges};

/// TCP's protocol number.
const TCP: u32 = 6;
/// The offset of a fragment, in the 16 bits at byte 6 of an IPv4 header.
const IPV4_FRAGMENT_OFFSET: u32 = 0x1fff;
/// The length of an IPv6 header.
const IPV6_HEADER_LEN: u32 = 40;

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

/// One end of a packet: its name in pcap-filter words, and where its address and port are.
struct Side {
    name: &'static str,
    ipv4_address: u32,
    ipv6_address: u32,
    port: u32,
}

const SOURCE: Side = Side {
    name: "src",
    ipv4_address: 12,
    ipv6_address: 8,
    port: 0,
};
const DESTINATION: Side = Side {
    name: "dst",
    ipv4_address: 16,
    ipv6_address: 24,
    port: 2,
};

/// The origins, sorted by what is compared.
struct Origins {
    /// Ports of any address.
    any: BTreeSet<u16>,
    /// Addresses by the set of ports that they share. What `any` covers is left out.
    named: BTreeMap<BTreeSet<u16>, Vec<IpAddr>>,
}

impl Origins {
    fn new(origins: &[OriginFilter]) -> Self {
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
        let mut named: BTreeMap<BTreeSet<u16>, Vec<IpAddr>> = BTreeMap::new();
        for (address, ports) in ports_of {
            named.entry(ports).or_default().push(address);
        }
        Self { any, named }
    }
}

/// The ends of a packet at which an origin may stand, each with the origins that may stand there.
pub(super) struct Sides(Vec<(Side, Origins)>);

impl Sides {
    /// Packets to `origins`, and those from `answering`.
    pub(super) fn new(origins: &[OriginFilter], answering: &[OriginFilter]) -> Self {
        let mut sides = vec![(DESTINATION, Origins::new(origins))];
        if !answering.is_empty() {
            sides.push((SOURCE, Origins::new(answering)));
        }
        Self(sides)
    }

    /// In pcap-filter words, for people.
    pub(super) fn expression(&self) -> String {
        let mut terms = Vec::new();
        for (Side { name, .. }, Origins { any, named }) in &self.0 {
            if !any.is_empty() {
                terms.push(format!("{name} port ({})", join(any)));
            }
            terms.extend(named.iter().map(|(ports, addresses)| {
                format!(
                    "({name} host ({}) and {name} port ({}))",
                    join(addresses),
                    join(ports)
                )
            }));
        }
        format!("tcp and ({})", terms.join(" or "))
    }

    /// The program that runs `then` on these packets and refuses all others.
    pub(super) fn program(&self, then: &[Instruction]) -> Vec<Instruction> {
        let mut code = Assembler::default();
        let [accept, reject] = std::array::from_fn(|_| code.label());
        find_tcp(&mut code, reject);
        for (side, origins) in &self.0 {
            let next_side = code.label();
            any_address(&mut code, side, &origins.any, accept);
            named_addresses(&mut code, side, &origins.named, accept, next_side);
            code.bind(next_side);
        }
        code.jump(reject);
        code.bind(accept);
        code.append(then);
        code.bind(reject);
        code.push(op::RET_K, 0);
        code.finish()
    }
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// Leaves the length of the IP header in X; goes on if TCP ports follow it.
fn find_tcp(code: &mut Assembler, reject: Label) {
    let [version_6, found] = std::array::from_fn(|_| code.label());
    load_version(code);
    code.jump_if(op::JEQ_K, 6, version_6);
    code.jump_unless(op::JEQ_K, 4, reject);
    code.push(op::LD_B_ABS, 9);
    code.jump_unless(op::JEQ_K, TCP, reject);
    code.push(op::LD_H_ABS, 6);
    code.jump_if(op::JSET_K, IPV4_FRAGMENT_OFFSET, reject);
    code.push(op::LDX_MSH, 0);
    code.jump(found);
    code.bind(version_6);
    code.push(op::LD_B_ABS, 6);
    code.jump_unless(op::JEQ_K, TCP, reject);
    code.push(op::LDX_IMM, IPV6_HEADER_LEN);
    code.bind(found);
}

fn load_version(code: &mut Assembler) {
    code.push(op::LD_B_ABS, 0);
    code.push(op::RSH_K, 4);
}

/// Accepts the ports of any address; goes on otherwise.
fn any_address(code: &mut Assembler, side: &Side, ports: &BTreeSet<u16>, accept: Label) {
    let other = code.label();
    code.push(op::LD_H_IND, side.port);
    code.find_range(&port_ranges(ports.iter().copied()), accept, other);
    code.bind(other);
}

/// Accepts the addresses that have names, with their ports.
fn named_addresses(
    code: &mut Assembler,
    side: &Side,
    named: &BTreeMap<BTreeSet<u16>, Vec<IpAddr>>,
    accept: Label,
    miss: Label,
) {
    let mut ipv4 = BTreeMap::new();
    let mut ipv6 = BTreeMap::new();
    let mut port_checks = Vec::new();
    for (ports, addresses) in named {
        let check = code.label();
        port_checks.push((check, port_ranges(ports.iter().copied())));
        for address in addresses {
            match address {
                IpAddr::V4(address) => ipv4.insert(vec![address.to_bits()], check),
                IpAddr::V6(address) => ipv6.insert(words(address.octets()), check),
            };
        }
    }
    let version_4 = code.label();
    load_version(code);
    code.jump_if(op::JEQ_K, 4, version_4);
    find_address(code, side.ipv6_address, &ipv6, miss);
    code.bind(version_4);
    find_address(code, side.ipv4_address, &ipv4, miss);
    for (check, ranges) in port_checks {
        code.bind(check);
        code.push(op::LD_H_IND, side.port);
        code.find_range(&ranges, accept, miss);
    }
}

fn words(octets: [u8; 16]) -> Vec<u32> {
    octets
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_be_bytes(*word))
        .collect()
}

/// Jumps to the label of the address at the offset, word by word.
fn find_address(
    code: &mut Assembler,
    offset: u32,
    addresses: &BTreeMap<Vec<u32>, Label>,
    miss: Label,
) {
    let mut by_word: BTreeMap<u32, BTreeMap<Vec<u32>, Label>> = BTreeMap::new();
    for (words, label) in addresses {
        if let [first, rest @ ..] = words.as_slice() {
            by_word
                .entry(*first)
                .or_default()
                .insert(rest.to_vec(), *label);
        }
    }
    let mut targets = Vec::new();
    let mut deeper = Vec::new();
    for (word, rest) in by_word {
        let label = match rest.get(&[][..]) {
            Some(label) => *label,
            None => {
                let label = code.label();
                deeper.push((label, rest));
                label
            }
        };
        targets.push((word, label));
    }
    if !targets.is_empty() {
        code.push(op::LD_W_ABS, offset);
    }
    code.find_value(&targets, miss);
    for (label, rest) in deeper {
        code.bind(label);
        find_address(code, offset + 4, &rest, miss);
    }
}
