use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;

const SEEDS: std::ops::Range<u64> = 0..20;

fn v4(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

/// The share of `clients` that is selected, in per cent.
fn share(selector: &mut Selector, clients: impl Iterator<Item = Endpoint>) -> f64 {
    let (mut selected, mut all) = (0u32, 0u32);
    for client in clients {
        selected += u32::from(selector.selects(client, Instant::ZERO));
        all += 1;
    }
    f64::from(selected) * 100.0 / f64::from(all)
}

fn check(name: &str, clients: impl Iterator<Item = Endpoint> + Clone) {
    for seed in SEEDS {
        for percent in [1.0, 10.0, 33.3, 50.0, 90.0] {
            let mut selector = Selector::new(Selection::Percent(percent), seed);
            let share = share(&mut selector, clients.clone());
            assert!(
                (share - percent).abs() <= 1.0,
                "{name}: {share} % for {percent} %"
            );
        }
    }
}

#[test]
fn ports_one_after_the_other_are_selected_evenly() {
    let one = Ipv6Addr::LOCALHOST.into();
    check(
        "500 of one address",
        (32_768..33_268).map(|port| Endpoint::new(one, port)),
    );
    check(
        "every second",
        (32_768..33_768)
            .step_by(2)
            .map(|port| Endpoint::new(v4(1), port)),
    );
    let few = (0..4).flat_map(|a| (40_000..40_500).map(move |port| Endpoint::new(v4(a), port)));
    check("four addresses", few);
    check(
        "all ports",
        (0..=u16::MAX).map(|port| Endpoint::new(v4(1), port)),
    );
}

#[test]
fn many_addresses_are_selected_evenly() {
    check(
        "one port each",
        (0..50_000).map(|a| Endpoint::new(v4(a), 50_000)),
    );
    let few_each = (0..20_000).flat_map(|a| {
        (0..3).map(move |n| Endpoint::new(v4(a), 20_000 + (a * 7 % 40_000) as u16 + n))
    });
    check("three ports each", few_each);
    // Ports as if drawn by dice: an odd multiple of the number, its upper bits.
    let scattered = (0..30_000u32).map(|n| {
        let port = (n.wrapping_mul(0x2c1b_3c6d) ^ (n << 7)).wrapping_mul(0x297a_2d39) >> 16;
        Endpoint::new(v4(n % 10), port as u16)
    });
    check("scattered ports", scattered);
}

#[test]
fn the_bounds_are_exact() {
    let clients = || (0..=u16::MAX).map(|port| Endpoint::new(v4(9), port));
    for (selection, expected) in [
        (Selection::All, 100.0),
        (Selection::Percent(100.0), 100.0),
        (Selection::Percent(0.0), 0.0),
    ] {
        assert_eq!(share(&mut Selector::new(selection, 1), clients()), expected);
    }
}

#[test]
fn a_ramp_rises_evenly_and_only_adds() {
    let duration = Duration::from_secs(100);
    let start = Instant::from_micros(123_456_789);
    let mut selector = Selector::new(Selection::Ramp { duration }, 3);
    let mut before = vec![false; 10_000];
    for tenths in 0..1200u32 {
        let now = start + duration * tenths / 1000;
        let selected: Vec<bool> = (0..10_000)
            .map(|port| selector.selects(Endpoint::new(v4(1), 20_000 + port), now))
            .collect();
        assert!(
            before
                .iter()
                .zip(&selected)
                .all(|(before, after)| after >= before)
        );
        let share = selected.iter().filter(|selected| **selected).count() as f64 / 100.0;
        let asked = (1.0 + 99.0 * f64::from(tenths) / 1000.0).min(100.0);
        assert!((share - asked).abs() < 0.2, "{share} for {asked}");
        before = selected;
    }
    assert!(before.iter().all(|selected| *selected));
}

#[test]
fn a_new_share_holds_from_then_on() {
    let mut selector = Selector::new(Selection::Percent(10.0), 3);
    let now = Instant::from_micros(5_000_000);
    assert_eq!(selector.percent(now), 10.0);
    let duration = Duration::from_secs(10);
    selector.set(Selection::Ramp { duration }, now);
    assert_eq!(selector.percent(now), 1.0);
    assert_eq!(selector.percent(now + duration / 2), 50.5);
    selector.set(Selection::All, now);
    assert_eq!(selector.percent(now), 100.0);
}

#[test]
fn selectors_of_one_seed_agree() {
    let mut one = Selector::new(Selection::Percent(50.0), 5);
    let mut same = one.clone();
    let mut other = Selector::new(Selection::Percent(50.0), 6);
    let clients = || (0..1000).map(|a| Endpoint::new(v4(a), 443));
    let mut differing = 0;
    for client in clients() {
        assert_eq!(
            one.selects(client, Instant::ZERO),
            same.selects(client, Instant::ZERO)
        );
        differing +=
            u32::from(one.selects(client, Instant::ZERO) != other.selects(client, Instant::ZERO));
    }
    assert!((400..600).contains(&differing), "{differing}");
}
