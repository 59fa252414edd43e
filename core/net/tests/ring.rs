//! The capture ring on devices of a real kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};

use common::{Copied, Namespace, collect, config, require_root, tcp_packet, v4, v6, wait_readable};
use rustix::event::PollFlags;
use tcpcopy_net::NetError;
use tcpcopy_net::filter::{CaptureFilter, Directions, OriginFilter};
use tcpcopy_net::interfaces::interface_index;
use tcpcopy_net::raw::{RawConfig, RawSender};
use tcpcopy_net::ring::{CaptureRing, DeviceChange, PacketKind, RingConfig};

const PORT: u16 = 7777;

/// Sends datagrams there, each numbered in its first byte.
fn send_numbered(namespace: &Namespace, to: IpAddr, count: u8) {
    namespace.run(move || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        for number in 0..count {
            socket.send_to(&[number; 20], (to, PORT)).unwrap();
        }
    });
}

/// The numbers of the datagrams.
fn numbers(packets: &[Copied]) -> Vec<u8> {
    packets
        .iter()
        .map(|packet| packet.bytes[packet.bytes.len() - 1])
        .collect()
}

fn has_last(count: u8) -> impl Fn(&[Copied]) -> bool {
    move |packets| numbers(packets).contains(&(count - 1))
}

/// A ring that holds all that a test sends, so that a busy machine does not make it drop.
fn large_ring(device: &str) -> RingConfig {
    let mut config = config("tcp dst port 7777");
    config.device = Some(device.to_owned());
    config.ring_bytes = 64 << 20;
    config
}

fn unix_now_ns() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    u64::try_from(now).unwrap()
}

#[test]
fn a_device_shows_what_it_receives_from_the_ip_header_on() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut ring = right.ring(Some("right"), "udp dst port 7777");
    let before = unix_now_ns();
    send_numbered(&left, v4(2), 10);
    send_numbered(&left, v6(2), 11);
    send_numbered(&right, v4(1), 12);
    let packets = collect(&mut ring, has_last(11));
    assert_eq!(
        numbers(&packets),
        (0..10).chain(0..11).collect::<Vec<_>>(),
        "and none it sent"
    );
    let index = right.run(|| interface_index("right")).unwrap();
    for (at, packet) in packets.iter().enumerate() {
        let (version, protocol, length) = if at < 10 {
            (4, 0x0800, 48)
        } else {
            (6, 0x86dd, 68)
        };
        assert_eq!(packet.bytes[0] >> 4, version);
        assert_eq!((packet.protocol, packet.bytes.len()), (protocol, length));
        assert_eq!(packet.original_len as usize, length);
        assert_eq!((packet.kind, packet.vlan), (PacketKind::ToHost, None));
        assert_eq!(packet.interface_index, index);
        assert!((before..=unix_now_ns()).contains(&packet.timestamp_ns));
    }
    let statistics = ring.statistics().unwrap();
    assert_eq!(
        (statistics.received, statistics.dropped, statistics.freezes),
        (21, 0, 0)
    );
}

#[test]
fn outgoing_packets_are_captured_if_asked_for() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut both = config("udp dst port 7777");
    both.include_outgoing = true;
    let mut ring = right.open(both);
    send_numbered(&right, v4(1), 1);
    send_numbered(&left, v4(2), 2);
    let packets = collect(&mut ring, has_last(2));
    let kinds: Vec<_> = packets.iter().map(|packet| packet.kind).collect();
    assert_eq!(
        kinds,
        [PacketKind::Outgoing, PacketKind::ToHost, PacketKind::ToHost]
    );
    assert!(
        packets.iter().all(|packet| packet.bytes[0] == 0x45),
        "link headers are not shown"
    );
}

#[test]
fn loopback_shows_each_packet_once() {
    if !require_root() {
        return;
    }
    let host = Namespace::new();
    for include_outgoing in [false, true] {
        for device in [Some("lo".to_owned()), Some("any".to_owned()), None] {
            for address in ["127.0.0.1", "::1"] {
                let mut config = config("udp dst port 7777");
                config.include_outgoing = include_outgoing;
                config.device.clone_from(&device);
                let mut ring = host.open(config);
                send_numbered(&host, address.parse().unwrap(), 20);
                let packets = collect(&mut ring, has_last(20));
                assert_eq!(
                    numbers(&packets),
                    (0..20).collect::<Vec<_>>(),
                    "{device:?} {address}"
                );
            }
        }
    }
}

#[test]
fn any_sees_all_devices_and_a_device_needs_no_address() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    right.command("ip address flush dev right");
    let (mut all, mut named) = (
        right.ring(None, "udp dst port 7777"),
        right.ring(Some("right"), "udp dst port 7777"),
    );
    send_numbered(&left, v4(2), 3);
    send_numbered(&right, "127.0.0.1".parse().unwrap(), 4);
    assert_eq!(
        numbers(&collect(&mut all, has_last(4))),
        [0, 1, 2, 0, 1, 2, 3]
    );
    assert_eq!(numbers(&collect(&mut named, has_last(3))), [0, 1, 2]);
}

#[test]
fn packets_for_other_hosts_are_captured_on_a_mirror_port() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    left.command("ip neigh replace 10.0.0.9 lladdr 02:00:00:00:00:09 dev left");
    let mut promiscuous = config("udp dst port 7777");
    promiscuous.device = Some("right".to_owned());
    promiscuous.promiscuous = true;
    let mut ring = right.open(promiscuous.clone());
    assert!(
        right
            .command("ip -d link show dev right")
            .contains("promiscuity 1")
    );
    send_numbered(&left, v4(9), 1);
    let packets = collect(&mut ring, has_last(1));
    assert_eq!(packets[0].kind, PacketKind::ToOtherHost);
    promiscuous.device = None;
    let error = right
        .run(move || CaptureRing::open(&promiscuous))
        .unwrap_err();
    assert!(matches!(error, NetError::InvalidConfig(_)), "{error}");
}

#[test]
fn a_vlan_tag_is_taken_off_and_shown() {
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
    use std::os::fd::AsRawFd;
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut ring = right.ring(Some("right"), "udp dst port 7777");
    left.run(|| {
        let ip = [
            0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        let udp = [0, 9, 0x1e, 0x61, 0, 9, 0, 0, 0];
        let ethernet = [0xff; 12];
        let tag = [0x81, 0x00, 0x60, 0x05, 0x08, 0x00];
        let frame = [&ethernet[..], &tag, &ip, &udp].concat();
        let device = nix::ifaddrs::getifaddrs()
            .unwrap()
            .filter(|device| device.interface_name == "left")
            .find_map(|device| device.address?.as_link_addr().copied())
            .unwrap();
        let kind = SockType::Raw;
        let socket = socket(AddressFamily::Packet, kind, SockFlag::empty(), None).unwrap();
        sendto(socket.as_raw_fd(), &frame, &device, MsgFlags::empty()).unwrap();
    });
    let packets = collect(&mut ring, has_last(1));
    assert_eq!(packets[0].bytes.len(), 29);
    assert_eq!(
        (packets[0].protocol, packets[0].vlan),
        (0x0800, Some(0x6005))
    );
}

#[test]
fn super_segments_come_whole() {
    const BYTES: usize = 8 << 20;
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    for (address, header_len) in [(v4(2), 20), (v6(2), 40)] {
        let mut ring = right.open(large_ring("right"));
        let listener = right
            .run(move || TcpListener::bind((address, PORT)))
            .unwrap();
        let sink = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
        });
        let mut stream = left
            .run(move || TcpStream::connect((address, PORT)))
            .unwrap();
        let source = std::thread::spawn(move || stream.write_all(&vec![7; BYTES]).unwrap());
        let payload = |packet: &Copied| {
            let tcp = usize::from(packet.bytes[header_len + 12] >> 4) * 4;
            packet.bytes.len() - header_len - tcp
        };
        let packets = collect(&mut ring, |packets| {
            packets.iter().map(payload).sum::<usize>() >= BYTES
        });
        source.join().unwrap();
        assert_eq!(sink.join().unwrap(), BYTES as u64);
        let longest = packets
            .iter()
            .map(|packet| packet.bytes.len())
            .max()
            .unwrap();
        assert!(longest > 30_000, "longest {longest}");
        assert!(
            packets
                .iter()
                .all(|packet| packet.original_len as usize == packet.bytes.len())
        );
        assert_eq!(ring.statistics().unwrap().dropped, 0);
    }
}

#[test]
fn the_longest_packet_fits_a_block() {
    const LONGEST_PAYLOAD: usize = 65_535 - 28;
    if !require_root() {
        return;
    }
    let host = Namespace::new();
    let mut ring = host.ring(Some("lo"), "udp dst port 7777");
    host.run(|| {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket
            .send_to(&[7; LONGEST_PAYLOAD], ("127.0.0.1", PORT))
            .unwrap();
    });
    let packets = collect(&mut ring, |packets| !packets.is_empty());
    assert_eq!(packets[0].original_len, 65_535);
    assert_eq!(packets[0].bytes.len(), 65_535, "not cut");
}

#[test]
fn the_snapshot_length_cuts() {
    if !require_root() {
        return;
    }
    let host = Namespace::new();
    let mut config = config("udp dst port 7777");
    config.snaplen = 30;
    let mut ring = host.open(config);
    send_numbered(&host, "127.0.0.1".parse().unwrap(), 1);
    let packets = collect(&mut ring, |packets| !packets.is_empty());
    assert_eq!((packets[0].bytes.len(), packets[0].original_len), (30, 48));
}

#[test]
fn a_filter_for_hundreds_of_origins_works_in_the_kernel() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let origins: Vec<_> = (0..250_u16)
        .map(|n| OriginFilter {
            address: Some(if n < 125 {
                v4(2 + n.to_be_bytes()[1])
            } else {
                v6(n - 123)
            }),
            port: 1000 + 2 * n,
        })
        .collect();
    let user_filter = Some("not src port 5");
    let filter = CaptureFilter::for_origins(&origins, Directions::Both, user_filter).unwrap();
    let mut config = RingConfig::new(filter);
    config.include_outgoing = true;
    let mut ring = right.open(config);
    let pairs = [(v4(1), v4(2), 1000), (v6(1), v6(2), 1250)];
    left.run(move || {
        let mut sender = RawSender::open(&RawConfig::default()).unwrap();
        for (client, origin, port) in pairs {
            sender.push(&tcp_packet(
                (client, 5),
                (origin, port),
                b"not for the user",
            ));
            sender.push(&tcp_packet(
                (client, 6),
                (origin, port + 1),
                b"not for an origin",
            ));
            sender.push(&tcp_packet(
                (client, 6),
                (client, port),
                b"not for its address",
            ));
            sender.push(&tcp_packet((client, 7), (origin, port), b"request"));
        }
        assert_eq!(sender.flush().sent, 8);
    });
    right.run(move || {
        let mut sender = RawSender::open(&RawConfig::default()).unwrap();
        for (client, origin, port) in pairs {
            sender.push(&tcp_packet(
                (origin, port + 1),
                (client, 7),
                b"not of an origin",
            ));
            sender.push(&tcp_packet((origin, port), (client, 7), b"answer"));
        }
        assert_eq!(sender.flush().sent, 4);
    });
    let packets = collect(&mut ring, |packets| packets.len() >= 4);
    let ends = |kind, payload: &[u8]| {
        let of_kind = |packet: &&Copied| packet.kind == kind && packet.bytes.ends_with(payload);
        packets.iter().filter(of_kind).count()
    };
    let expected = (
        ends(PacketKind::ToHost, b"request"),
        ends(PacketKind::Outgoing, b"answer"),
    );
    assert_eq!((packets.len(), expected), (4, (2, 2)), "{packets:?}");
}

#[test]
fn packets_that_find_the_ring_full_are_counted() {
    const PACKETS: u64 = 3000;
    if !require_root() {
        return;
    }
    let host = Namespace::new();
    let mut small = config("udp dst port 7777");
    small.ring_bytes = 2 * small.block_bytes;
    let mut ring = host.open(small);
    let ping_pong = move |count| {
        let receiver = UdpSocket::bind(("127.0.0.1", PORT)).unwrap();
        let sender = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        for _ in 0..count {
            sender.send_to(&[1; 400], ("127.0.0.1", PORT)).unwrap();
            // The socket gets it after the ring has, so the counters are complete at the end.
            assert_eq!(receiver.recv(&mut [0; 500]).unwrap(), 400);
        }
    };
    host.run(move || ping_pong(PACKETS));
    let statistics = ring.statistics().unwrap();
    assert!(
        statistics.dropped > 0 && statistics.freezes > 0,
        "{statistics:?}"
    );
    assert_eq!(statistics.received + statistics.dropped, PACKETS);
    let received = usize::try_from(statistics.received).unwrap();
    let lap = (0..ring.block_count()).map(|_| ring.next_block().map_or(0, |b| b.packets().count()));
    assert_eq!(lap.sum::<usize>(), received, "one lap shows all");
    // The ring works on, and the counters are sums.
    host.run(move || ping_pong(5));
    assert_eq!(collect(&mut ring, |packets| packets.len() >= 5).len(), 5);
    let after = ring.statistics().unwrap();
    assert_eq!(
        (after.received, after.dropped),
        (statistics.received + 5, statistics.dropped)
    );
}

#[test]
fn a_device_that_goes_down_and_up_is_reported_and_captured_again() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut ring = right.ring(Some("right"), "udp dst port 7777");
    assert_eq!(ring.device_change().unwrap(), None);
    right.command("ip link set dev right down");
    assert!(wait_readable(&ring).contains(PollFlags::ERR));
    assert_eq!(ring.device_change().unwrap(), Some(DeviceChange::Down));
    assert_eq!(ring.device_change().unwrap(), None, "told once");
    right.command("ip link set dev right up");
    send_numbered(&left, v4(2), 2);
    assert_eq!(numbers(&collect(&mut ring, has_last(2))), [0, 1]);
    right.command("ip link delete dev right");
    assert_eq!(ring.device_change().unwrap(), Some(DeviceChange::Gone));
    assert!(ring.next_block().is_none());
}

#[test]
fn a_device_that_is_down_can_be_opened() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    right.command("ip link set dev right down");
    let mut ring = right.ring(Some("right"), "udp dst port 7777");
    assert_eq!(ring.device_change().unwrap(), Some(DeviceChange::Down));
    right.command("ip link set dev right up");
    send_numbered(&left, v4(2), 1);
    assert_eq!(numbers(&collect(&mut ring, has_last(1))), [0]);
}

#[test]
fn what_cannot_be_opened_says_why() {
    if !require_root() {
        return;
    }
    let host = Namespace::new();
    let open = |change: fn(&mut RingConfig)| {
        let mut config = config("tcp");
        change(&mut config);
        host.run(move || CaptureRing::open(&config)).unwrap_err()
    };
    let error = open(|config| config.device = Some("nowhere0".to_owned()));
    assert!(
        matches!(&error, NetError::NoSuchDevice { device } if device == "nowhere0"),
        "{error}"
    );
    assert!(matches!(
        open(|config| config.block_bytes = 5000),
        NetError::InvalidConfig(_)
    ));
    assert!(matches!(
        open(|config| config.ring_bytes = 5000),
        NetError::InvalidConfig(_)
    ));
    assert!(matches!(
        open(|config| config.retire_timeout_ms = 0),
        NetError::InvalidConfig(_)
    ));
}

#[test]
fn reading_costs_less_than_the_budget() {
    const ROUNDS: u32 = 20;
    if !require_root() {
        return;
    }
    let host = Namespace::new();
    let mut ring = host.ring(Some("lo"), "udp dst port 7777");
    let (mut packets, mut busy) = (0_u32, std::time::Duration::ZERO);
    let mut bytes_by_kind = BTreeMap::new();
    for _ in 0..ROUNDS {
        send_numbered(&host, "127.0.0.1".parse().unwrap(), 250);
        let mut last = false;
        while !last {
            wait_readable(&ring);
            let started = std::time::Instant::now();
            while let Some(block) = ring.next_block() {
                for packet in &block {
                    packets += 1;
                    last |= packet.packet[28] == 249;
                    *bytes_by_kind.entry(packet.packet[9]).or_insert(0) += packet.packet.len();
                }
            }
            busy += started.elapsed();
        }
    }
    assert_eq!(packets, 250 * ROUNDS);
    let each = busy / packets;
    println!("{each:?} a packet");
    // The budget is 0.3 µs; the rest is for debug builds and busy machines.
    assert!(
        each < std::time::Duration::from_micros(3),
        "{each:?} a packet"
    );
}
