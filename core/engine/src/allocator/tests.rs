use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tcpcopy_packet::{Endpoint, FourTuple};

use super::table::{FIRST_PORT, PORT_COUNT};
use super::{AllocateError, TupleAllocator};
use crate::Ownership;

const SEED: u64 = 7;

fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
}

fn client(last: u8, port: u16) -> Endpoint {
    Endpoint::new(v4(last), port)
}

fn target() -> Endpoint {
    Endpoint::new(v4(250), 80)
}

fn plain() -> TupleAllocator {
    TupleAllocator::new(Vec::new(), None, 0, Ownership::sole(), SEED)
}

fn with_pool(pool: &[IpAddr]) -> TupleAllocator {
    TupleAllocator::new(pool.to_vec(), None, 0, Ownership::sole(), SEED)
}

fn with_shift(shift: u16) -> TupleAllocator {
    TupleAllocator::new(Vec::new(), None, shift, Ownership::sole(), SEED)
}

/// Allocates for `client` until nothing is left.
fn exhaust(allocator: &mut TupleAllocator, client: Endpoint) -> BTreeSet<FourTuple> {
    let mut tuples = BTreeSet::new();
    loop {
        match allocator.allocate(client, target(), 0) {
            Ok(tuple) => assert!(tuples.insert(tuple), "{tuple} twice"),
            Err(error) => {
                assert_eq!(error, AllocateError::NoTupleLeft);
                return tuples;
            }
        }
    }
}

#[test]
fn a_free_client_keeps_its_endpoint() {
    let mut allocator = plain();
    for port in [22, 1023, 1024, 40_000, 65_535] {
        let tuple = allocator.allocate(client(1, port), target(), 0).unwrap();
        assert_eq!(tuple, FourTuple::new(client(1, port), target()));
    }
}

#[test]
fn a_second_session_of_an_endpoint_gets_another_port_of_its_address() {
    let mut allocator = plain();
    for port in [80, 50_000] {
        let first = allocator.allocate(client(1, port), target(), 0).unwrap();
        let second = allocator.allocate(client(1, port), target(), 0).unwrap();
        assert_ne!(first, second);
        assert_eq!(second.source.address, v4(1));
        assert!(second.source.port >= FIRST_PORT);
        assert!(allocator.release(first));
        assert_eq!(allocator.allocate(client(1, port), target(), 0), Ok(first));
    }
}

#[test]
fn targets_do_not_share_ports() {
    let mut allocator = plain();
    let other_target = Endpoint::new(v4(250), 81);
    let first = allocator.allocate(client(1, 5000), target(), 0).unwrap();
    let second = allocator
        .allocate(client(1, 5000), other_target, 0)
        .unwrap();
    assert_eq!(first.source, second.source);
    assert!(allocator.release(first));
    assert!(!allocator.release(first), "released twice");
    assert!(!allocator.release(second.reversed()), "a target never seen");
    assert_eq!(allocator.live(), 1);
}

#[test]
fn every_port_of_every_address_is_used_before_none_is_left() {
    let pool = [v4(1), v4(2), v4(3)];
    let mut allocator = with_pool(&pool);
    let tuples = exhaust(&mut allocator, client(99, 40_000));
    assert_eq!(tuples.len(), 3 * PORT_COUNT as usize);
    assert_eq!(allocator.live(), tuples.len());
    assert!(
        tuples
            .iter()
            .all(|tuple| pool.contains(&tuple.source.address))
    );

    // Nearly full: the one free port is found, wherever it is, and no other.
    for freed in tuples.iter().take(1000) {
        assert!(allocator.release(*freed));
        assert_eq!(
            allocator.allocate(client(98, 40_001), target(), 1),
            Ok(*freed)
        );
    }
    for tuple in &tuples {
        assert!(allocator.release(*tuple));
    }
    assert_eq!(allocator.live(), 0);
    assert!(allocator.allocate(client(98, 1), target(), 0).is_ok());
}

#[test]
fn the_bitmap_of_an_address_lasts_until_half_its_ports_are_free() {
    let mut allocator = plain();
    let tuples = exhaust(&mut allocator, client(1, 40_000));
    let half = tuples.len() / 2;
    for (released, tuple) in (1..).zip(&tuples) {
        assert!(allocator.release(*tuple));
        assert_eq!(
            allocator.v4.crowded(),
            usize::from(released < half),
            "{released} released"
        );
    }
}

#[test]
fn a_low_port_is_only_for_the_client_that_has_it() {
    let mut allocator = plain();
    let own = allocator.allocate(client(1, 80), target(), 0).unwrap();
    assert_eq!(own.source.port, 80);
    let others = exhaust(&mut allocator, client(1, 81));
    let low: Vec<u16> = others
        .iter()
        .map(|tuple| tuple.source.port)
        .filter(|port| *port < FIRST_PORT)
        .collect();
    assert_eq!(low, [81]);
    assert!(allocator.release(own));
    assert_eq!(allocator.allocate(client(1, 80), target(), 0), Ok(own));
    assert_eq!(
        allocator.allocate(client(1, 80), target(), 0),
        Err(AllocateError::NoTupleLeft)
    );
}

#[test]
fn copies_differ_and_collide_with_no_first_choice_of_another_client() {
    let mut allocator = plain();
    let mut sources = HashSet::new();
    for port in 32_768..33_768 {
        for copy in 0..3 {
            let tuple = allocator.allocate(client(1, port), target(), copy).unwrap();
            assert_eq!(tuple.source.address, v4(1));
            assert_eq!(tuple.source.port == port, copy == 0);
            assert!(sources.insert(tuple.source));
        }
    }
    assert_eq!(sources.len(), 3000);
}

#[test]
fn one_shift_is_one_mapping_and_two_shifts_rarely_meet() {
    let clients = || (20_000..21_000).map(|port| client(1, port));
    let map = |shift| {
        let mut allocator = with_shift(shift);
        clients()
            .map(|client| allocator.allocate(client, target(), 0).unwrap().source.port)
            .collect::<Vec<_>>()
    };
    assert_eq!(map(5), map(5));
    for (one, other) in [(0, 1), (1, 2), (2, 3), (1, 1023), (500, 700)] {
        let used: HashSet<u16> = map(one).into_iter().collect();
        let shared = map(other).iter().filter(|port| used.contains(port)).count();
        assert!(
            shared < 50,
            "shifts {one} and {other} share {shared} of 1000 ports"
        );
    }
}

#[test]
fn a_pool_address_sticks_to_the_client_and_clients_spread() {
    let pool: Vec<IpAddr> = (1..=50).map(v4).collect();
    let mut allocator = with_pool(&pool);
    let mut used = HashSet::new();
    for last in 100..200 {
        let first = allocator
            .allocate(client(last, 30_000), target(), 0)
            .unwrap()
            .source;
        used.insert(first.address);
        for port in 30_001..30_010 {
            let next = allocator
                .allocate(client(last, port), target(), 0)
                .unwrap()
                .source;
            assert_eq!(next.address, first.address);
        }
    }
    assert!(
        used.len() > 35,
        "100 clients use only {} of 50 addresses",
        used.len()
    );
}

#[test]
fn a_port_is_kept_under_a_pool_address_if_it_is_free() {
    let mut allocator = with_pool(&[v4(1)]);
    let first = allocator
        .allocate(client(100, 30_000), target(), 0)
        .unwrap()
        .source;
    assert_eq!(first, client(1, 30_000));
    let second = allocator
        .allocate(client(101, 30_000), target(), 0)
        .unwrap()
        .source;
    assert_eq!(second.address, v4(1));
    assert_ne!(second.port, 30_000);
}

#[test]
fn loopback_clients_get_the_replacement() {
    let mut allocator = TupleAllocator::new(Vec::new(), Some(v4(77)), 0, Ownership::sole(), SEED);
    let loopback = Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000);
    assert_eq!(
        allocator.allocate(loopback, target(), 0).unwrap().source,
        client(77, 40_000)
    );
    assert_eq!(
        allocator
            .allocate(client(1, 9999), target(), 0)
            .unwrap()
            .source,
        client(1, 9999)
    );
}

#[test]
fn versions_never_mix() {
    let target_v6 = Endpoint::new(v6(250), 80);
    let own_v6 = Endpoint::new(v6(1), 40_000);
    let mut allocator = plain();
    assert_eq!(
        allocator.allocate(own_v6, target_v6, 0).unwrap().source,
        own_v6
    );
    let mixed = [
        allocator.allocate(own_v6, target(), 0),
        allocator.allocate(own_v6, target(), 1),
    ];
    assert_eq!(mixed, [Err(AllocateError::AddressFamily); 2]);
    assert_eq!(
        allocator.allocate(client(1, 40_000), target_v6, 0),
        Err(AllocateError::AddressFamily)
    );

    let mut allocator = with_pool(&[v6(5), v4(6)]);
    assert_eq!(
        allocator.allocate(own_v6, target(), 0).unwrap().source,
        client(6, 40_000)
    );
    let source = allocator
        .allocate(client(1, 40_000), target_v6, 0)
        .unwrap()
        .source;
    assert_eq!(source, Endpoint::new(v6(5), 40_000));

    let mut allocator = with_pool(&[v6(5)]);
    assert_eq!(
        allocator.allocate(client(1, 40_000), target(), 0),
        Err(AllocateError::AddressFamily)
    );
}

fn by_port(_: IpAddr, port: u16, shard_count: u16) -> u16 {
    // Any fixed function will do, as long as it is none that a search order could be in step with.
    let scattered = u32::from(port).wrapping_mul(2_654_435_761) >> 16;
    (scattered % u32::from(shard_count)) as u16
}

fn by_address(address: IpAddr, _: u16, shard_count: u16) -> u16 {
    let IpAddr::V4(address) = address else {
        return 0;
    };
    u16::from(address.octets()[3]) % shard_count
}

#[test]
fn shards_share_the_ports_without_overlap() {
    let mut all = HashSet::new();
    for shard in 0..4 {
        let ownership = Ownership {
            shard,
            shard_count: 4,
            shard_of: by_port,
        };
        let mut allocator = TupleAllocator::new(vec![v4(1)], None, 0, ownership, SEED);
        for tuple in exhaust(&mut allocator, client(9, 40_000)) {
            assert!(ownership.owns(tuple.source));
            assert!(all.insert(tuple), "{tuple} belongs to two shards");
        }
    }
    assert_eq!(all.len(), PORT_COUNT as usize);
}

#[test]
fn addresses_of_other_shards_are_passed_over() {
    let ownership = Ownership {
        shard: 1,
        shard_count: 4,
        shard_of: by_address,
    };
    let pool: Vec<IpAddr> = (0..16).map(v4).collect();
    let mut allocator = TupleAllocator::new(pool, None, 0, ownership, SEED);
    for last in 100..200 {
        let source = allocator
            .allocate(client(last, 40_000), target(), 0)
            .unwrap()
            .source;
        assert_eq!(by_address(source.address, 0, 4), 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate {
        last: u8,
        port: u16,
        copy: u16,
        is_v6: bool,
    },
    Release {
        which: prop::sample::Index,
    },
}

/// So few ports are owned that a walk fills them up and frees them again.
fn few_ports(_: IpAddr, port: u16, _: u16) -> u16 {
    u16::from(port != 80 && !(40_000..40_040).contains(&port) && !(1024..1030).contains(&port))
}

fn step() -> impl Strategy<Value = Step> {
    let port = prop_oneof![Just(80), 40_000..40_040u16, 1020..1040u16];
    prop_oneof![
        3 => (0..2u8, port, 0..4u16, any::<bool>()).prop_map(|(last, port, copy, is_v6)| {
            Step::Allocate { last, port, copy, is_v6 }
        }),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Release { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_tuple_is_handed_out_twice(steps in prop::collection::vec(step(), 1..400)) {
        let ownership = Ownership { shard: 0, shard_count: 2, shard_of: few_ports };
        let mut allocator = TupleAllocator::new(Vec::new(), None, 0, ownership, SEED);
        let mut live: Vec<FourTuple> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate { last, port, copy, is_v6 } => {
                    let (source, target) = if is_v6 {
                        (Endpoint::new(v6(last.into()), port), Endpoint::new(v6(250), 80))
                    } else {
                        (client(last, port), target())
                    };
                    let of_address = |tuple: &&FourTuple| {
                        tuple.source.address == source.address && tuple.source.port >= FIRST_PORT
                    };
                    match allocator.allocate(source, target, copy) {
                        Ok(tuple) => {
                            prop_assert!(!live.contains(&tuple));
                            prop_assert!(ownership.owns(tuple.source));
                            prop_assert_eq!(tuple.source.address, source.address);
                            let own = FourTuple::new(source, target);
                            let keeps = copy == 0 && ownership.owns(source) && !live.contains(&own);
                            prop_assert!(!keeps || tuple == own);
                            live.push(tuple);
                        }
                        Err(error) => {
                            prop_assert_eq!(error, AllocateError::NoTupleLeft);
                            prop_assert_eq!(live.iter().filter(of_address).count(), 46);
                        }
                    }
                }
                Step::Release { which } if !live.is_empty() => {
                    let index = which.index(live.len());
                    prop_assert!(allocator.release(live.swap_remove(index)));
                }
                Step::Release { .. } => {}
            }
            prop_assert_eq!(allocator.live(), live.len());
        }
    }
}
