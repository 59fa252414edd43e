use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    CaptureFilter::for_origins(origins, directions, user).unwrap()
}

#[test]
fn a_port_matches_both_families_and_tcp_only() {
    let filter = compiled(&[origin(None, 80)], Directions::ToOrigin, None);
    assert_eq!(filter.expression(), "tcp and (dst port (80))");
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
fn only_those_answers_are_added_that_are_asked_for() {
    let origins = [origin(None, 80), origin(None, 81)];
    let filter = CaptureFilter::with_answers(&origins, &origins[1..], None).unwrap();
    for (port, answers) in [(80, false), (81, true)] {
        assert!(filter.matches(&packet(TCP, (V4(1), 999), (V4(2), port))));
        let answer = packet(TCP, (V4(2), port), (V4(1), 999));
        assert_eq!(filter.matches(&answer), answers, "{port}");
    }
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
    let alone =
        CaptureFilter::for_origins(&[origin(None, 80)], Directions::ToOrigin, Some(") or ("));
    assert!(
        matches!(alone, Err(FilterError::Syntax { .. })),
        "it compiles by itself or not at all"
    );
    let blank = compiled(&[origin(None, 80)], Directions::ToOrigin, Some(" "));
    assert_eq!(blank.expression(), "tcp and (dst port (80))");
}

#[test]
fn later_fragments_and_extension_headers_do_not_pass() {
    let filter = compiled(&[origin(None, 80)], Directions::Both, None);
    let mut fragment = packet(TCP, (V4(1), 999), (V4(2), 80));
    fragment[6] = 0x20;
    assert!(
        filter.matches(&fragment),
        "the first fragment shows its ports and is counted"
    );
    fragment[7] = 1;
    assert!(!filter.matches(&fragment));
    let mut extended = packet(TCP, (V6(1), 999), (V6(2), 80));
    extended[6] = 0;
    assert!(!filter.matches(&extended));
    let mut with_options = packet(TCP, (V4(1), 999), (V4(2), 80));
    with_options[0] = 0x46;
    with_options.splice(20..20, [1; 4]);
    assert!(filter.matches(&with_options));
}

fn address() -> impl Strategy<Value = IpAddr> {
    // Few different words, so that addresses share some.
    let v4 = (0..3_u8, 0..3_u8).prop_map(|(a, b)| Ipv4Addr::new(10, 0, a, b).into());
    let v6 = prop::array::uniform4(0..3_u32).prop_map(|words| {
        let bits = words
            .iter()
            .fold(0, |bits, word| bits << 32 | u128::from(*word));
        Ipv6Addr::from_bits(bits).into()
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn the_origins_program_means_what_its_words_say(
        origins in prop::collection::vec((prop::option::of(address()), 0..40_u16), 1..60),
        (one, other) in (address(), address()).prop_filter("family", |(a, b)| a.is_ipv4() == b.is_ipv4()),
        ports in (0..45_u16, 0..45_u16),
        both: bool,
    ) {
        let origins: Vec<_> = origins.into_iter().map(|(a, p)| origin(a, p)).collect();
        let directions = if both { Directions::Both } else { Directions::ToOrigin };
        let filter = compiled(&origins, directions, None);
        let bytes = packet(TCP, (one, ports.0), (other, ports.1));
        let is_origin = |address, port| {
            origins.iter().any(|o| o.port == port && o.address.is_none_or(|a| a == address))
        };
        let wanted = is_origin(other, ports.1) || (both && is_origin(one, ports.0));
        prop_assert_eq!(filter.matches(&bytes), wanted);
        let by_libpcap = CaptureFilter::compile(filter.expression()).unwrap();
        prop_assert_eq!(by_libpcap.matches(&bytes), wanted);
    }
}

#[test]
fn hundreds_of_different_pairs_fit_the_kernel() {
    let pairs = |count: u16| -> Vec<OriginFilter> {
        let address = |n: u16| {
            if n.is_multiple_of(2) {
                V6(n)
            } else {
                Ipv4Addr::from_bits(n.into()).into()
            }
        };
        (0..count)
            .map(|n| origin(Some(address(n)), 1000 + 3 * n))
            .collect()
    };
    for (count, directions) in [(500, Directions::ToOrigin), (250, Directions::Both)] {
        let filter = compiled(&pairs(count), directions, Some("not net 192.168.0.0/16"));
        for origin in pairs(count) {
            let address = origin.address.unwrap();
            let client = if address.is_ipv4() { V4(9) } else { V6(9999) };
            assert!(filter.matches(&packet(TCP, (client, 9), (address, origin.port))));
            assert!(!filter.matches(&packet(TCP, (client, 9), (client, origin.port))));
            assert!(!filter.matches(&packet(TCP, (client, 9), (address, 2))));
        }
    }
    let ports: Vec<_> = (0..2500).map(|n| origin(None, 2 * n)).collect();
    compiled(&ports, Directions::ToOrigin, None);
    let error = CaptureFilter::for_origins(&pairs(2000), Directions::ToOrigin, None).unwrap_err();
    assert!(matches!(error, FilterError::TooLong { .. }), "{error}");
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
    let none = compiled(&[], Directions::Both, None);
    let any = packet(TCP, (V4(1), 999), (V4(2), 80));
    assert!(!none.matches(&any), "no origin never means every packet");
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
