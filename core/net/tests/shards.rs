//! Several rings that share a device.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;

use common::{Copied, Namespace, collect, config, require_root, tcp_packet, v4, v6};
use tcpcopy_net::NetError;
use tcpcopy_net::filter::{Directions, OriginFilter};
use tcpcopy_net::raw::{RawConfig, RawSender};
use tcpcopy_net::ring::{CaptureRing, PacketKind};
use tcpcopy_net::shard::{ShardMap, shard_of};

const PORT: u16 = 8080;
const CLIENTS: u16 = 200;
const SHARDS: u16 = 3;

fn open(namespace: &Namespace, device: &str, directions: Directions) -> Vec<CaptureRing> {
    let map = ShardMap::new(
        SHARDS,
        &[OriginFilter {
            address: None,
            port: PORT,
        }],
        directions,
    );
    let mut config = config("tcp port 8080");
    config.device = Some(device.to_owned());
    config.include_outgoing = directions == Directions::Both;
    namespace
        .run(move || CaptureRing::open_sharded(&config, &map))
        .unwrap()
}

/// Sends a packet from each client, and with `answer` one to each.
fn send_clients(namespace: &Namespace, answer: bool) {
    namespace.run(move || {
        let mut sender = RawSender::open(&RawConfig::default()).unwrap();
        for n in 0..CLIENTS {
            let port = 20_000 + n;
            for (near, far) in [(v4(1), v4(2)), (v6(1), v6(2))] {
                if answer {
                    sender.push(&tcp_packet((near, PORT), (far, port), &[]));
                } else {
                    sender.push(&tcp_packet((near, port), (far, PORT), &[]));
                }
            }
        }
        sender.flush();
        assert_eq!(sender.counters().packets, u64::from(2 * CLIENTS));
    });
}

/// The client's port, from packets in which it is the source or the destination.
fn client_port(packet: &Copied, offset: usize) -> (bool, u16) {
    let ipv6 = packet.bytes[0] >> 4 == 6;
    let at = offset + if ipv6 { 40 } else { 20 };
    (
        ipv6,
        u16::from_be_bytes([packet.bytes[at], packet.bytes[at + 1]]),
    )
}

fn expected(client: u8) -> BTreeMap<(bool, u16), u16> {
    (0..CLIENTS)
        .flat_map(|n| {
            let port = 20_000 + n;
            let v6_shard = shard_of(v6(u16::from(client)), port, SHARDS);
            [
                ((false, port), shard_of(v4(client), port, SHARDS)),
                ((true, port), v6_shard),
            ]
        })
        .collect()
}

/// Which shard each client's packet of the kind came to; each must come once.
fn found(
    rings: &mut [CaptureRing],
    expected: &BTreeMap<(bool, u16), u16>,
    kind: PacketKind,
    offset: usize,
) -> BTreeMap<(bool, u16), u16> {
    let mut found = BTreeMap::new();
    for (ring, shard) in rings.iter_mut().zip(0..) {
        let share = expected.values().filter(|owner| **owner == shard).count();
        let of_kind = |packet: &&Copied| packet.kind == kind;
        let packets = collect(ring, |all| all.iter().filter(of_kind).count() >= share);
        for packet in packets.iter().filter(of_kind) {
            let twice = found.insert(client_port(packet, offset), shard);
            assert_eq!(twice, None, "each packet comes to one shard");
        }
    }
    found
}

#[test]
fn shards_get_the_clients_that_they_own() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut rings = open(&right, "right", Directions::ToOrigin);
    send_clients(&left, false);
    let expected = expected(1);
    assert_eq!(
        found(&mut rings, &expected, PacketKind::ToHost, 0),
        expected
    );
    // The kernel numbers the rings anew when the device comes up: the order must be the same.
    right.command("ip link set dev right down");
    right.command("ip link set dev right up");
    right.command("ip address replace fd00::2/64 dev right nodad");
    send_clients(&left, false);
    assert_eq!(
        found(&mut rings, &expected, PacketKind::ToHost, 0),
        expected
    );
}

#[test]
fn answers_come_to_the_shard_of_their_client() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut rings = open(&left, "any", Directions::Both);
    // To the clients, who are on the right.
    send_clients(&left, true);
    let expected = expected(2);
    assert_eq!(
        found(&mut rings, &expected, PacketKind::Outgoing, 2),
        expected
    );
    drop(right);
}

#[test]
fn one_shard_needs_no_group_and_groups_do_not_meet() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    let mut first = open(&right, "right", Directions::ToOrigin);
    let mut second = open(&right, "right", Directions::ToOrigin);
    let map = ShardMap::new(1, &[], Directions::ToOrigin);
    let mut single = right
        .run(move || CaptureRing::open_sharded(&config("tcp dst port 8080"), &map))
        .unwrap();
    send_clients(&left, false);
    let expected = expected(1);
    assert_eq!(
        found(&mut first, &expected, PacketKind::ToHost, 0),
        expected
    );
    assert_eq!(
        found(&mut second, &expected, PacketKind::ToHost, 0),
        expected
    );
    let all = collect(&mut single[0], |packets| {
        packets.len() >= usize::from(2 * CLIENTS)
    });
    assert_eq!(all.len(), usize::from(2 * CLIENTS));
}

#[test]
fn a_device_that_is_down_is_shared_or_refused_by_name() {
    if !require_root() {
        return;
    }
    let (left, right) = Namespace::pair();
    right.command("ip link set dev right down");
    let map = ShardMap::new(SHARDS, &[], Directions::ToOrigin);
    let mut down = config("tcp dst port 8080");
    down.device = Some("right".to_owned());
    match right.run(move || CaptureRing::open_sharded(&down, &map)) {
        Err(error) => assert!(matches!(error, NetError::DeviceDown { .. }), "{error}"),
        Ok(mut rings) => {
            right.command("ip link set dev right up");
            right.command("ip address replace fd00::2/64 dev right nodad");
            send_clients(&left, false);
            let expected = expected(1);
            assert_eq!(
                found(&mut rings, &expected, PacketKind::ToHost, 0),
                expected
            );
        }
    }
}
