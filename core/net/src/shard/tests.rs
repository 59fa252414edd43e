use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn origins(ports: &[u16]) -> Vec<OriginFilter> {
    ports
        .iter()
        .map(|port| OriginFilter {
            address: None,
            port: *port,
        })
        .collect()
}

/// A TCP packet; in IPv4 the header is `words` 32-bit words long.
fn packet(source: (IpAddr, u16), destination: (IpAddr, u16), words: u8) -> Vec<u8> {
    let mut packet = match (source.0, destination.0) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = [0x40 | words, 0, 0, 0, 0, 0, 0x40, 0, 64, TCP, 0, 0];
            let options = vec![1; (usize::from(words) * 4).saturating_sub(20)];
            [&header[..], &from.octets(), &to.octets(), &options].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => [
            &[0x60, 0, 0, 0, 0, 20, TCP, 64],
            &from.octets()[..],
            &to.octets(),
        ]
        .concat(),
        _ => panic!("one family"),
    };
    packet.extend(source.1.to_be_bytes());
    packet.extend(destination.1.to_be_bytes());
    packet.extend([0; 16]);
    packet
}

fn run_program(map: &ShardMap, packet: &[u8]) -> u32 {
    bpf::run(&map.program(0).unwrap(), packet)
}

fn endpoints() -> impl Strategy<Value = ((IpAddr, u16), (IpAddr, u16))> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    (prop_oneof![v4, v6], any::<(u16, u16)>()).prop_map(|((a, b), (p, q))| ((a, p), (b, q)))
}

proptest! {
    #[test]
    fn the_kernels_program_agrees_with_shard_of(
        (client, origin) in endpoints(),
        others in prop::collection::vec(any::<u16>(), 0..40),
        words in 5_u8..=15,
        shard_count in 1_u16..=9,
    ) {
        prop_assume!(client.1 != origin.1 && !others.contains(&client.1));
        let expected = shard_of(client.0, client.1, shard_count);
        prop_assert!(expected < shard_count);
        let mut ports = others;
        ports.push(origin.1);
        let both = ShardMap::new(shard_count, &origins(&ports), Directions::Both);
        let requests = ShardMap::new(shard_count, &origins(&ports), Directions::ToOrigin);
        let (there, back) = (packet(client, origin, words), packet(origin, client, words));
        for (map, bytes) in [(&both, &there), (&both, &back), (&requests, &there)] {
            prop_assert_eq!(map.shard_of_packet(bytes), expected);
            prop_assert_eq!(run_program(map, bytes), u32::from(expected));
        }
    }

    #[test]
    fn the_program_agrees_on_any_bytes(
        (client, origin) in endpoints(),
        words in 0_u8..=15,
        changes in prop::collection::vec((0_usize..64, any::<u8>()), 0..4),
        length in 0_usize..90,
        shard_count in 2_u16..=9,
    ) {
        let mut bytes = packet(client, origin, words);
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(length);
        for directions in [Directions::ToOrigin, Directions::Both] {
            let map = ShardMap::new(shard_count, &origins(&[origin.1, 80]), directions);
            prop_assert_eq!(run_program(&map, &bytes), u32::from(map.shard_of_packet(&bytes)));
        }
    }
}

#[test]
fn odd_packets_belong_to_shard_0() {
    let client = Ipv4Addr::new(10, 0, 0, 1).into();
    let port = (1..).find(|port| shard_of(client, *port, 4) != 0).unwrap();
    let map = ShardMap::new(4, &[], Directions::ToOrigin);
    let whole = packet((client, port), (client, 80), 5);
    assert_ne!(map.shard_of_packet(&whole), 0);
    let changed = |at: usize, value| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        map.shard_of_packet(&bytes)
    };
    assert_eq!(changed(9, 17), 0, "not TCP");
    assert_eq!(changed(6, 0x20), 0, "more fragments");
    assert_eq!(changed(7, 1), 0, "a later fragment");
    assert_eq!(changed(0, 0x44), 0, "a header that is too short");
    assert_eq!(changed(0, 0x55), 0, "not IP");
    assert_eq!(map.shard_of_packet(&whole[..22]), 0, "cut");
}

#[test]
fn neighbouring_clients_spread_evenly() {
    const CLIENTS: u32 = 40_000;
    for shard_count in [2_u16, 3, 4, 7, 8, 16] {
        let mut by_port = vec![0_u32; usize::from(shard_count)];
        let mut by_address = by_port.clone();
        let mut by_ipv6 = by_port.clone();
        for n in 0..CLIENTS {
            let port = u16::try_from(20_000 + n).unwrap();
            let near = |n: u32| Ipv4Addr::from_bits(0x0a00_0000 + n);
            let ipv6 = Ipv6Addr::from_bits((0xfd00_u128 << 112) + (u128::from(n) << 64));
            by_port[usize::from(shard_of(near(1).into(), port, shard_count))] += 1;
            by_address[usize::from(shard_of(near(n).into(), 443, shard_count))] += 1;
            by_ipv6[usize::from(shard_of(ipv6.into(), 443, shard_count))] += 1;
        }
        let fair = CLIENTS / u32::from(shard_count);
        for loads in [by_port, by_address, by_ipv6] {
            let worst = loads.iter().map(|load| load.abs_diff(fair)).max().unwrap();
            assert!(worst * 10 < fair, "{shard_count} shards: {loads:?}");
        }
    }
}

#[test]
fn hundreds_of_ports_fit_and_more_are_refused() {
    let ports: Vec<u16> = (0..2500).map(|n| 2 * n + 1).collect();
    let map = ShardMap::new(2, &origins(&ports), Directions::Both);
    let program = map.program(NETWORK_HEADER).unwrap();
    assert!(program.len() <= bpf::MAX_INSTRUCTIONS, "{}", program.len());
    let all: Vec<u16> = (0..4000).map(|n| 2 * n + 1).collect();
    let error = ShardMap::new(2, &origins(&all), Directions::Both)
        .program(0)
        .unwrap_err();
    assert!(matches!(error, FilterError::TooLong { .. }));
}
