//! Networks between engine, target and intercept.

use super::{add_clients, simulate};
use crate::check::Expected;
use crate::events::MILLISECOND_US;
use crate::link::LinkConfig;
use crate::mix::Mix;

/// Runs plain clients over links that treat both directions alike.
fn over(name: &str, link: LinkConfig) {
    let outcomes = simulate(name, Expected::ALL, |scenario, rng| {
        scenario.links(LinkConfig {
            delay_us: MILLISECOND_US,
            ..link
        });
        add_clients(scenario, &Mix::default(), rng);
    });
    let lost: u64 = outcomes.iter().map(|outcome| outcome.lost_to_target).sum();
    assert_eq!(lost > 0, link.loss_permille > 0, "{lost} packets lost");
}

#[test]
fn a_clean_network() {
    let outcomes = simulate("clean", Expected::ALL, |scenario, rng| {
        add_clients(scenario, &Mix::default(), rng);
    });
    for outcome in outcomes {
        assert_eq!(
            outcome.ledger.upstream.retransmitted_segments, 0,
            "nothing sent in vain"
        );
        assert_eq!(outcome.target.useless_segments, 0);
        assert_eq!(
            outcome.target.retransmitted, 0,
            "every answer is acknowledged in time"
        );
        assert_eq!(outcome.target.bad_resets, 0);
    }
}

#[test]
fn loss_of_one_percent() {
    over(
        "loss 1 %",
        LinkConfig {
            loss_permille: 10,
            ..LinkConfig::default()
        },
    );
}

#[test]
fn loss_of_five_percent() {
    over(
        "loss 5 %",
        LinkConfig {
            loss_permille: 50,
            ..LinkConfig::default()
        },
    );
}

#[test]
fn loss_of_twenty_percent() {
    over(
        "loss 20 %",
        LinkConfig {
            loss_permille: 200,
            ..LinkConfig::default()
        },
    );
}

#[test]
fn only_replies_are_lost() {
    simulate("replies lost", Expected::ALL, |scenario, rng| {
        scenario.to_intercept = LinkConfig {
            loss_permille: 200,
            ..LinkConfig::default()
        };
        add_clients(scenario, &Mix::default(), rng);
    });
}

#[test]
fn packets_overtake_each_other() {
    over(
        "reorder",
        LinkConfig {
            reorder_permille: 300,
            ..LinkConfig::default()
        },
    );
}

#[test]
fn packets_arrive_twice() {
    over(
        "duplicates",
        LinkConfig {
            duplicate_permille: 300,
            ..LinkConfig::default()
        },
    );
}

#[test]
fn everything_at_once() {
    over(
        "everything",
        LinkConfig {
            jitter_us: 3 * MILLISECOND_US,
            reorder_permille: 200,
            loss_permille: 100,
            duplicate_permille: 200,
            ..LinkConfig::default()
        },
    );
}

#[test]
fn a_long_way_to_the_target() {
    simulate("long way", Expected::ALL, |scenario, rng| {
        scenario.links(LinkConfig {
            delay_us: 150 * MILLISECOND_US,
            ..LinkConfig::default()
        });
        scenario.tunnel_delay_us = 100 * MILLISECOND_US;
        add_clients(scenario, &Mix::default(), rng);
    });
}
