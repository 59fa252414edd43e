//! The raw sender against a real kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Namespace, collect, require_root, tcp_packet, v4, v6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tcpcopy_net::NetError;
use tcpcopy_net::interfaces::{interface_index, interfaces, local_addresses, route_mtu};
use tcpcopy_net::raw::{BATCH_PACKETS, RawConfig, RawSender, SendErrors};
use tcpcopy_net::ring::CaptureRing;

const STRANGER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const STRANGER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));

fn open(namespace: &Namespace, config: RawConfig) -> RawSender {
    namespace.run(move || RawSender::open(&config)).unwrap()
}

#[test]
fn packets_with_foreign_sources_arrive_as_they_were_written() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut ring = right.ring(Some("right"), "tcp dst port 80");
    let mut sender = open(&left, RawConfig::default());
    let payload: Vec<u8> = (0..=255).collect();
    let mut sent = Vec::new();
    for n in 0..100 {
        sent.push(tcp_packet((STRANGER_V4, 1000 + n), (v4(2), 80), &payload));
        sent.push(tcp_packet((STRANGER_V6, 1000 + n), (v6(2), 80), &payload));
    }
    sent.iter().for_each(|packet| sender.push(packet));
    sender.flush();
    let counters = sender.counters();
    assert_eq!(
        (counters.packets, counters.errors),
        (200, SendErrors::default())
    );
    assert_eq!(
        counters.bytes,
        sent.iter().map(|packet| packet.len() as u64).sum::<u64>()
    );
    let mut arrived: Vec<_> = collect(&mut ring, |packets| packets.len() >= 200)
        .into_iter()
        .map(|p| p.bytes)
        .collect();
    for packet in arrived.iter_mut().filter(|packet| packet[0] == 0x45) {
        assert_ne!(
            packet[10..12],
            [0, 0],
            "the kernel has set the header checksum"
        );
        packet[10..12].fill(0);
    }
    arrived.sort();
    sent.sort();
    assert_eq!(arrived, sent);
}

#[test]
fn refused_packets_are_counted_and_the_others_are_sent() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut ring = right.ring(Some("right"), "tcp dst port 80");
    left.command("iptables -w -A OUTPUT -p tcp --dport 81 -j DROP");
    left.command("ip6tables -w -A OUTPUT -p tcp --dport 81 -j DROP");
    left.command("ip route add unreachable 10.9.0.0/16");
    let mut sender = open(&left, RawConfig::default());
    for (local, remote, unrouted) in [
        (v4(1), v4(2), "192.0.2.1".parse().unwrap()),
        (v6(1), v6(2), "2001:db8:1::1".parse().unwrap()),
    ] {
        for n in 0..10 {
            sender.push(&tcp_packet((local, n), (remote, 81), b"firewalled"));
            sender.push(&tcp_packet((local, n), (remote, 80), b"good"));
            sender.push(&tcp_packet((local, n), (remote, 80), &[0; 1600]));
            sender.push(&tcp_packet((local, n), (unrouted, 80), b"no route"));
        }
    }
    sender.push(&tcp_packet(
        (v4(1), 1),
        ("10.9.9.9".parse().unwrap(), 80),
        b"unreachable",
    ));
    sender.push(b"");
    sender.push(&[0x45; 19]);
    sender.push(&[0x60; 39]);
    sender.push(&[0; 100]);
    let expected = SendErrors {
        eperm: 20,
        emsgsize: 20,
        enetunreach: 20,
        ehostunreach: 1,
        unsendable: 4,
        ..SendErrors::default()
    };
    let report = sender.flush();
    assert_eq!(sender.counters().errors, expected);
    assert_eq!(sender.counters().packets, 20);
    assert!(report.sent + report.dropped <= 2 * BATCH_PACKETS);
    assert_eq!(expected.total(), 65);
    assert_eq!(collect(&mut ring, |packets| packets.len() >= 20).len(), 20);
    left.command("ip link set dev left down");
    sender.push(&tcp_packet((v4(1), 1), (v4(2), 80), b"after"));
    assert_eq!((sender.flush().sent, sender.counters().packets), (0, 20));
    left.command("ip link set dev left up");
    sender.push(&tcp_packet((v4(1), 1), (v4(2), 80), b"again"));
    assert_eq!(sender.flush().sent, 1, "{:?}", sender.counters());
}

#[test]
fn a_full_queue_and_a_full_buffer_do_not_block() {
    if !require_root() {
        return;
    }
    let (left, _right) = Namespace::pair();
    left.command("tc qdisc add dev left root tbf rate 8kbit burst 2000 limit 3000");
    let packet = tcp_packet((v4(1), 1), (v4(2), 80), &[0; 1000]);
    let mut sender = open(&left, RawConfig::default());
    (0..20).for_each(|_| sender.push(&packet));
    let report = sender.flush();
    assert!(report.sent > 0 && report.dropped > 0, "{report:?}");
    assert_eq!(sender.counters().errors.enobufs, report.dropped as u64);

    left.command("tc qdisc replace dev left root tbf rate 8kbit burst 2000 limit 3000000");
    let mut sender = open(
        &left,
        RawConfig {
            send_buffer_bytes: 8192,
            ..RawConfig::default()
        },
    );
    (0..40).for_each(|_| sender.push(&packet));
    let report = sender.flush();
    assert!(report.sent > 0 && report.dropped > 0, "{report:?}");
    assert_eq!(sender.counters().errors.eagain, report.dropped as u64);
}

#[test]
fn only_the_families_that_were_opened_are_sent() {
    if !require_root() {
        return;
    }
    let (left, _right) = Namespace::pair();
    let mut sender = open(
        &left,
        RawConfig {
            ipv6: false,
            ..RawConfig::default()
        },
    );
    sender.push(&tcp_packet((v4(1), 1), (v4(2), 80), &[]));
    sender.push(&tcp_packet((v6(1), 1), (v6(2), 80), &[]));
    sender.flush();
    let counters = sender.counters();
    assert_eq!((counters.packets, counters.errors.unsendable), (1, 1));
}

#[test]
fn mark_and_device_are_applied() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    left.command("iptables -w -A OUTPUT -m mark --mark 7 -j ACCEPT");
    left.command("iptables -w -A OUTPUT -p tcp -j DROP");
    let config = RawConfig {
        mark: Some(7),
        device: Some("left".to_owned()),
        ipv6: false,
        ..RawConfig::default()
    };
    let mut ring = right.ring(Some("right"), "tcp dst port 80");
    let mut sender = open(&left, config);
    sender.push(&tcp_packet((v4(1), 1), (v4(2), 80), &[]));
    assert_eq!(sender.flush().sent, 1, "{:?}", sender.counters());
    assert_eq!(collect(&mut ring, |packets| !packets.is_empty()).len(), 1);
    let missing = RawConfig {
        device: Some("nowhere0".to_owned()),
        ..RawConfig::default()
    };
    let error = left.run(move || RawSender::open(&missing)).unwrap_err();
    assert!(matches!(error, NetError::NoSuchDevice { .. }), "{error}");
}

#[test]
fn a_missing_capability_is_named() {
    if !require_root() {
        return;
    }
    let without = std::thread::spawn(|| {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).unwrap();
        let ring = CaptureRing::open(&common::config("tcp")).unwrap_err();
        let sender = RawSender::open(&RawConfig::default()).unwrap_err();
        [ring, sender]
    });
    for error in without.join().unwrap() {
        let NetError::MissingCapability { capability, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(*capability, "CAP_NET_RAW");
        assert!(
            error.to_string().contains("CAP_NET_RAW is missing"),
            "{error}"
        );
    }
}

#[test]
fn the_hosts_devices_addresses_and_routes_are_known() {
    if !require_root() {
        return;
    }
    let (left, _right) = Namespace::pair();
    left.command("ip link set dev left mtu 1400");
    left.command("ip route add 192.0.2.0/24 via 10.0.0.2 mtu 1300");
    left.run(|| {
        let devices = interfaces().unwrap();
        let device = devices.iter().find(|device| device.name == "left").unwrap();
        assert_eq!(
            (device.mtu, device.index),
            (1400, interface_index("left").unwrap())
        );
        assert!(
            devices
                .iter()
                .any(|device| device.name == "lo" && device.mtu == 65536)
        );
        let addresses = local_addresses().unwrap();
        for address in [
            v4(1),
            v6(1),
            "127.0.0.1".parse().unwrap(),
            "::1".parse().unwrap(),
        ] {
            assert!(addresses.contains(&address), "{address} in {addresses:?}");
        }
        assert!(!addresses.contains(&v4(2)));
        assert_eq!(route_mtu(v4(2)).unwrap(), 1400);
        assert_eq!(route_mtu(v6(2)).unwrap(), 1400);
        assert_eq!(route_mtu("192.0.2.1".parse().unwrap()).unwrap(), 1300);
        assert!(matches!(
            route_mtu("203.0.113.1".parse().unwrap()),
            Err(NetError::Io { .. })
        ));
        assert!(matches!(
            interface_index("nowhere0"),
            Err(NetError::NoSuchDevice { .. })
        ));
    });
}
