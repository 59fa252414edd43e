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

/// Random numbers, the same each time.
fn dice(mut state: u64) -> impl FnMut() -> u32 {
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 32) as u32
    }
}

#[test]
fn the_number_selected_is_near_the_share_whoever_comes() {
    type Clients = Box<dyn FnMut() -> Endpoint>;
    let (mut random, mut some, mut next) = (dice(1), dice(2), 0u16);
    let crowds: [(&str, Clients); 4] = [
        (
            "as dice fall",
            Box::new(move || Endpoint::new(v4(random() >> 10), random() as u16)),
        ),
        (
            "fifty hosts",
            Box::new(move || Endpoint::new(v4(some() % 50), some() as u16)),
        ),
        (
            "every other port",
            Box::new(move || {
                next = next.wrapping_add(2);
                Endpoint::new(v4(1), next)
            }),
        ),
        ("one alone", Box::new(|| Endpoint::new(v4(3), 40_000))),
    ];
    for (name, mut client) in crowds {
        for percent in [2.5, 10.0, 33.3, 90.0] {
            let mut selector = Selector::new(Selection::Percent(percent), 11);
            let (mut asked, mut selected) = (0.0, 0.0);
            for _ in 0..20_000 {
                asked += percent / 100.0;
                selected += f64::from(u8::from(selector.selects(client(), Instant::ZERO)));
                let off: f64 = selected - asked;
                assert!(off.abs() < 12.0, "{name}, {percent} %: {off} after {asked}");
            }
        }
    }
}

#[test]
fn a_client_that_comes_back_is_treated_as_before() {
    let mut selector = Selector::new(Selection::Percent(10.0), 3);
    let clients: Vec<_> = (0..1000)
        .map(|n| Endpoint::new(v4(n * 7), 40_000))
        .collect();
    let mut counts = vec![0; clients.len()];
    for _ in 0..50 {
        for (client, count) in clients.iter().zip(&mut counts) {
            *count += u32::from(selector.selects(*client, Instant::ZERO));
        }
    }
    let steady = counts.iter().filter(|count| [0, 50].contains(*count));
    assert!(steady.clone().count() > 700, "{}", steady.count());
    let often = counts.iter().filter(|count| **count >= 45).count();
    assert!(often > 40, "{often}");
}

#[test]
fn a_ramp_rises_evenly() {
    let duration = Duration::from_secs(100);
    let start = Instant::from_micros(123_456_789);
    let mut selector = Selector::new(Selection::Ramp { duration }, 3);
    for tenths in 0..1200u32 {
        let now = start + duration * tenths / 1000;
        let selected = (0..10_000)
            .filter(|port| selector.selects(Endpoint::new(v4(1), 20_000 + port), now))
            .count();
        let share = selected as f64 / 100.0;
        let asked = (1.0 + 99.0 * f64::from(tenths) / 1000.0).min(100.0);
        assert!((share - asked).abs() < 0.1, "{share} for {asked}");
    }
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
        let [one, same, other] =
            [&mut one, &mut same, &mut other].map(|it| it.selects(client, Instant::ZERO));
        assert_eq!(one, same);
        differing += u32::from(one != other);
    }
    assert!((400..600).contains(&differing), "{differing}");
}
