use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use super::*;

const V4: fn(u8) -> IpAddr = |last| Ipv4Addr::new(10, 0, 0, last).into();
const V6: fn(u16) -> IpAddr = |last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into();
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An IP packet of the protocol with 20 bytes of payload that begin with the ports.
fn packet(protocol: u8, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Vec<u8> {
    let mut packet = match (source.0, destination.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            [&header[..], &from.octets(), &to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = [0x60, 0, 0, 0, 0, 20, protocol, 64];
            [&header[..], &from.octets(), &to.octets()].concat()
        }
        _ => panic!("one family"),
    };
    packet.extend(source.1.to_be_bytes());
    packet.extend(destination.1.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    packet
}

fn origin(address: Option<IpAddr>, port: u16) -> OriginFilter {
    OriginFilter { address, port }
}

fn compiled(origins: &[OriginFilter], directions: Directions, user: Option<&str>) -> CaptureFilter {
    let expression = origin_expression(origins, directions, user);
    CaptureFilter::compile(&expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

#[test]
fn a_port_matches_both_families_and_tcp_only() {
    let filter = compiled(&[origin(None, 80)], Directions::ToOrigin, None);
    assert_eq!(filter.expression(), "tcp and (tcp dst port (80))");
    assert!(filter.matches(&packet(TCP, (V4(1), 999), (V4(2), 80))));
    assert!(filter.matches(&packet(TCP, (V6(1), 999), (V6(2), 80))));
    assert!(!filter.matches(&packet(UDP, (V4(1), 999), (V4(2), 80))));
    assert!(!filter.matches(&packet(TCP, (V4(1), 999), (V4(2), 81))));
    assert!(
        !filter.matches(&packet(TCP, (V4(1), 80), (V4(2), 999))),
        "the origin's answer"
    );
}

#[test]
fn an_address_and_port_match_only_together() {
    let origins = [
        origin(Some(V4(2)), 80),
        origin(Some(V4(3)), 81),
        origin(Some(V6(2)), 82),
    ];
    let filter = compiled(&origins, Directions::ToOrigin, None);
    let matches = |address: IpAddr, port| {
        let client = if address.is_ipv4() { V4(9) } else { V6(9) };
        filter.matches(&packet(TCP, (client, 999), (address, port)))
    };
    assert!(matches(V4(2), 80) && matches(V4(3), 81) && matches(V6(2), 82));
    assert!(!matches(V4(2), 81) && !matches(V4(3), 80) && !matches(V6(2), 80));
    assert!(!matches(V6(3), 82) && !matches(V4(2), 82));
}

#[test]
fn both_directions_add_the_answers() {
    let filter = compiled(&[origin(Some(V4(2)), 80)], Directions::Both, None);
    assert!(filter.matches(&packet(TCP, (V4(1), 999), (V4(2), 80))));
    assert!(filter.matches(&packet(TCP, (V4(2), 80), (V4(1), 999))));
    assert!(
        !filter.matches(&packet(TCP, (V4(1), 80), (V4(2), 999))),
        "a client on port 80"
    );
}

#[test]
fn the_users_filter_is_one_more_condition() {
    let filter = compiled(
        &[origin(None, 80), origin(None, 81)],
        Directions::ToOrigin,
        Some("src host 10.0.0.1 or src host 10.0.0.2"),
    );
    assert!(filter.matches(&packet(TCP, (V4(1), 999), (V4(7), 81))));
    assert!(!filter.matches(&packet(TCP, (V4(3), 999), (V4(7), 81))));
    assert!(
        !filter.matches(&packet(TCP, (V4(1), 999), (V4(7), 82))),
        "the or stays inside"
    );
    let blank = origin_expression(&[origin(None, 80)], Directions::ToOrigin, Some(" "));
    assert_eq!(blank, "tcp and (tcp dst port (80))");
}

#[test]
fn a_port_of_any_address_covers_that_of_one() {
    let origins = [
        origin(None, 80),
        origin(Some(V4(2)), 80),
        origin(Some(V4(2)), 81),
    ];
    assert_eq!(
        origin_expression(&origins, Directions::ToOrigin, None),
        "tcp and (tcp dst port (80) or (ip dst host (10.0.0.2) and (tcp dst port (81))))"
    );
}

#[test]
fn neighbouring_ports_are_a_range() {
    let origins: Vec<_> = [80, 90, 91, 92, 94].map(|port| origin(None, port)).into();
    let expression = origin_expression(&origins, Directions::ToOrigin, None);
    assert_eq!(
        expression,
        "tcp and (tcp dst port (80 or 94) or tcp dst portrange 90-92)"
    );
    let filter = CaptureFilter::compile(&expression).unwrap();
    for port in 78..97 {
        let wanted = origins.iter().any(|origin| origin.port == port);
        assert_eq!(
            filter.matches(&packet(TCP, (V4(1), 999), (V4(2), port))),
            wanted,
            "{port}"
        );
    }
}

#[test]
fn addresses_with_the_same_ports_share_a_term() {
    let origins: Vec<_> = (1..=200).map(|last| origin(Some(V4(last)), 80)).collect();
    let expression = origin_expression(&origins, Directions::ToOrigin, None);
    assert_eq!(expression.matches("dst port").count(), 1);
    let filter = CaptureFilter::compile(&expression).unwrap();
    assert!(filter.matches(&packet(TCP, (V4(250), 999), (V4(200), 80))));
    assert!(!filter.matches(&packet(TCP, (V4(250), 999), (V4(201), 80))));
}

#[test]
fn hundreds_of_different_pairs_fit_the_kernel() {
    let started = Instant::now();
    let origins: Vec<_> = (0..500_u16)
        .map(|n| {
            let address = if n % 2 == 0 {
                Ipv4Addr::from_bits(0x0a01_0000 + u32::from(n)).into()
            } else {
                V6(n)
            };
            origin(Some(address), 1000 + 3 * n)
        })
        .collect();
    for directions in [Directions::ToOrigin, Directions::Both] {
        let filter = compiled(&origins, directions, Some("not net 192.168.0.0/16"));
        let length = filter.kernel_program(65535).len();
        assert!(length <= bpf::MAX_INSTRUCTIONS, "{length} instructions");
        for origin in &origins {
            let address = origin.address.unwrap();
            let client = if address.is_ipv4() { V4(9) } else { V6(9999) };
            assert!(filter.matches(&packet(TCP, (client, 9), (address, origin.port))));
            assert!(!filter.matches(&packet(TCP, (client, 9), (client, origin.port))));
            assert!(!filter.matches(&packet(TCP, (client, 9), (address, 2))));
        }
    }
    assert!(
        started.elapsed().as_secs() < 20,
        "took {:?}",
        started.elapsed()
    );
}

#[test]
fn our_interpreter_agrees_with_libpcap() {
    let text = "tcp[tcpflags] & tcp-syn != 0 or (ip[2:2] > 30 and src portrange 5-1000) or ip6";
    let filter = CaptureFilter::compile(text).unwrap();
    let handle = pcap::Capture::dead(pcap::Linktype(DLT_RAW)).unwrap();
    let reference = handle.compile(text, true).unwrap();
    for port in [4, 5, 1000, 1001] {
        for source in [V4(1), V6(1)] {
            let bytes = packet(TCP, (source, port), (source, 80));
            for length in 0..=bytes.len() {
                let cut = &bytes[..length];
                assert_eq!(
                    filter.matches(cut),
                    reference.filter(cut),
                    "{port} {length}"
                );
            }
        }
    }
}

#[test]
fn a_refused_expression_is_explained() {
    for (text, said) in [("tcp and porrt 80", "syntax error"), ("vlan 5", "vlan")] {
        let message = CaptureFilter::compile(text).unwrap_err().to_string();
        let lower = message.to_lowercase();
        assert!(lower.contains(said) && message.contains(text), "{message}");
        assert!(message.contains("hint: see pcap-filter(7)"), "{message}");
    }
    assert!(CaptureFilter::compile("tcp\0").is_err());
    let none = origin_expression(&[], Directions::ToOrigin, None);
    assert!(
        CaptureFilter::compile(&none).is_err(),
        "no origin never means every packet"
    );
}

#[test]
fn too_long_a_program_is_refused_before_the_kernel_does() {
    let ports: Vec<_> = (0..4200).map(|n| format!("{}", 2 * n + 1)).collect();
    let text = format!("ip and tcp dst port ({})", ports.join(" or "));
    let error = CaptureFilter::compile(&text).unwrap_err();
    assert!(
        matches!(
            error,
            FilterError::TooLong {
                instructions: 4097..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_snapshot_length_replaces_what_accepts() {
    let filter = CaptureFilter::compile("").unwrap();
    assert!(filter.matches(&[]));
    let program = filter.kernel_program(96);
    assert_eq!(program.last(), Some(&Instruction::new(op::RET_K, 96)));
    assert!(
        program.contains(&Instruction::new(op::RET_K, 0)),
        "other protocols stay refused"
    );
}
