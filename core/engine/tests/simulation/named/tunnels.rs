//! The tunnel to intercept comes, goes and comes again.

use tcpcopy_engine::DropReason;

use super::{add_clients, delivered_percent, simulate};
use crate::check::{Expected, Streams};
use crate::conversation::Ending;
use crate::events::{MILLISECOND_US, SECOND_US};
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::scenario::TunnelChange;

#[test]
fn a_tunnel_that_comes_up_late() {
    simulate("late tunnel", Expected::ALL, |scenario, rng| {
        scenario.tunnel = vec![(3 * SECOND_US, TunnelChange::Up)];
        add_clients(scenario, &Mix::default(), rng);
    });
}

#[test]
fn a_tunnel_down_and_up_again() {
    for down_ms in [100, 400, 800] {
        for up_after_ms in [1, 300, 20_000] {
            simulate("tunnel down", Expected::ALL, |scenario, rng| {
                let down_us = down_ms * MILLISECOND_US;
                scenario.links(LinkConfig {
                    loss_permille: 10,
                    ..LinkConfig::default()
                });
                scenario.tunnel = vec![
                    (0, TunnelChange::Up),
                    (down_us, TunnelChange::Down),
                    (down_us + up_after_ms * MILLISECOND_US, TunnelChange::Up),
                ];
                add_clients(scenario, &Mix::default(), rng);
            });
        }
    }
}

#[test]
fn a_tunnel_that_flaps() {
    simulate("flapping tunnel", Expected::ALL, |scenario, rng| {
        scenario.tunnel = (0..40)
            .map(|index| {
                let change = if index % 2 == 0 {
                    TunnelChange::Up
                } else {
                    TunnelChange::Down
                };
                (index * 70 * MILLISECOND_US, change)
            })
            .chain([(40 * 70 * MILLISECOND_US, TunnelChange::Up)])
            .collect();
        add_clients(scenario, &Mix::default(), rng);
    });
}

#[test]
fn a_target_that_forgot_while_the_tunnel_was_down() {
    let drops = [DropReason::TargetReset, DropReason::TargetClosed];
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &drops,
    };
    let outcomes = simulate("forgotten", expected, |scenario, rng| {
        scenario.tunnel = vec![
            (0, TunnelChange::Up),
            (600 * MILLISECOND_US, TunnelChange::DownAndForgotten),
            (9 * SECOND_US, TunnelChange::Up),
        ];
        add_clients(
            scenario,
            &Mix {
                turns: 20,
                ..Mix::default()
            },
            rng,
        );
    });
    println!("{} % delivered", delivered_percent(&outcomes));
}

#[test]
fn a_tunnel_that_is_lost_for_good() {
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &[DropReason::TunnelDown],
    };
    let outcomes = simulate("tunnel lost", expected, |scenario, rng| {
        scenario.tunnel = vec![
            (0, TunnelChange::Up),
            (500 * MILLISECOND_US, TunnelChange::Lost),
        ];
        let mix = Mix {
            turns: 10,
            ..Mix::default()
        }
        .ending(Ending::ClientFin);
        add_clients(scenario, &mix, rng);
    });
    assert!(
        outcomes
            .iter()
            .any(|outcome| outcome.ledger.bytes.dropped_total() > 0)
    );
}
