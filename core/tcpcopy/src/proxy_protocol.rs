//! The PROXY protocol: a header before a connection's first byte that tells the target who the
//! real client is, as load balancers send it (the public specification of HAProxy, versions 1 and
//! 2).

use std::net::{IpAddr, Ipv6Addr};

use clap::ValueEnum;
use tcpcopy_packet::Endpoint;

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY: the connection is made for somebody else.
const VERSION_2_PROXY: u8 = 0x21;
/// TCP over IPv4.
const TCP_OVER_IPV4: u8 = 0x11;
/// TCP over IPv6.
const TCP_OVER_IPV6: u8 = 0x21;

/// The form of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyProtocol {
    /// The header for a connection that `client` made to `origin`. Where the two are of different
    /// families, the IPv4 address is told as its IPv4-mapped IPv6 address.
    #[must_use]
    pub fn header(self, client: Endpoint, origin: Endpoint) -> Vec<u8> {
        match (self, client.address, origin.address) {
            (Self::V1, IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from_port, to_port) = (client.port, origin.port);
                format!("PROXY TCP4 {from} {to} {from_port} {to_port}\r\n").into_bytes()
            }
            (Self::V1, from, to) => {
                let (from, to) = (groups(as_ipv6(from)), groups(as_ipv6(to)));
                let (from_port, to_port) = (client.port, origin.port);
                format!("PROXY TCP6 {from} {to} {from_port} {to_port}\r\n").into_bytes()
            }
            (Self::V2, IpAddr::V4(from), IpAddr::V4(to)) => {
                let addresses = [from.octets(), to.octets()].concat();
                binary(TCP_OVER_IPV4, &addresses, [client.port, origin.port])
            }
            (Self::V2, from, to) => {
                let addresses = [as_ipv6(from).octets(), as_ipv6(to).octets()].concat();
                binary(TCP_OVER_IPV6, &addresses, [client.port, origin.port])
            }
        }
    }
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// The address in groups of hexadecimal digits only: the protocol knows no dotted ending.
fn groups(address: Ipv6Addr) -> String {
    let segments = address.segments();
    match address.to_ipv4_mapped() {
        Some(_) => format!("::ffff:{:x}:{:x}", segments[6], segments[7]),
        None => address.to_string(),
    }
}

fn binary(family: u8, addresses: &[u8], ports: [u16; 2]) -> Vec<u8> {
    let length = u16::try_from(addresses.len() + size_of_val(&ports)).expect("two addresses");
    let mut header = SIGNATURE.to_vec();
    header.extend([VERSION_2_PROXY, family]);
    header.extend(length.to_be_bytes());
    header.extend(addresses);
    header.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, port: u16) -> Endpoint {
        Endpoint::new(address.parse().unwrap(), port)
    }

    fn text(client: Endpoint, origin: Endpoint) -> String {
        String::from_utf8(ProxyProtocol::V1.header(client, origin)).unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        let line = text(endpoint("192.0.2.1", 56324), endpoint("192.0.2.11", 443));
        assert_eq!(line, "PROXY TCP4 192.0.2.1 192.0.2.11 56324 443\r\n");
        let most = endpoint("255.255.255.255", 65535);
        assert_eq!(text(most, most).len(), 56, "the longest for IPv4");
        let line = text(endpoint("2001:db8::1", 1), endpoint("::1", 80));
        assert_eq!(line, "PROXY TCP6 2001:db8::1 ::1 1 80\r\n");
        let most = endpoint("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
        assert_eq!(text(most, most).len(), 104, "the longest for IPv6");
    }

    #[test]
    fn version_2_is_binary() {
        let (client, origin) = (endpoint("192.0.2.1", 56324), endpoint("192.0.2.11", 443));
        let expected = [
            0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54,
            0x0a, // signature
            0x21, 0x11, 0x00, 0x0c, // version and command, family, length
            192, 0, 2, 1, 192, 0, 2, 11, // source, destination
            0xdc, 0x04, 0x01, 0xbb, // their ports
        ];
        assert_eq!(ProxyProtocol::V2.header(client, origin), expected);
        let (client, origin) = (endpoint("2001:db8::1", 1), endpoint("2001:db8::2", 80));
        let header = ProxyProtocol::V2.header(client, origin);
        assert_eq!(header[12..16], [0x21, 0x21, 0x00, 0x24]);
        let addresses = [
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, //
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        ];
        assert_eq!(header[16..48], addresses);
        assert_eq!(header[48..], [0, 1, 0, 80]);
    }

    #[test]
    fn two_families_become_ipv6() {
        let (client, origin) = (endpoint("192.0.2.1", 1), endpoint("2001:db8::2", 80));
        assert_eq!(
            text(client, origin),
            "PROXY TCP6 ::ffff:c000:201 2001:db8::2 1 80\r\n"
        );
        let header = ProxyProtocol::V2.header(client, origin);
        assert_eq!(header[13], 0x21);
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        assert_eq!(header[16..32], mapped);
    }
}
