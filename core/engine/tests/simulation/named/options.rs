//! The user's options, limits and the end of a run.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tcpcopy_engine::{DropReason, Selection};

use super::{
    CLIENTS, add_clients, add_crowd, add_shaped_clients, delivered_percent, pieces, simulate,
};
use crate::capture::{ClientShape, Disturbance};
use crate::check::Expected;
use crate::conversation::Ending;
use crate::events::{MILLISECOND_US, SECOND_US};
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::scenario::{Family, Stop};
use crate::target::{Listening, Reader};

#[test]
fn three_copies() {
    let outcomes = simulate("-n 3", Expected::ALL, |scenario, rng| {
        scenario.engine.copies = 3.0;
        scenario.links(LinkConfig {
            loss_permille: 20,
            ..LinkConfig::default()
        });
        add_clients(scenario, &Mix::default(), rng);
    });
    for outcome in outcomes {
        assert_eq!(outcome.accepted.len(), 3 * usize::from(CLIENTS));
        assert_eq!(outcome.ledger.connections.captured, 3 * u64::from(CLIENTS));
    }
}

#[test]
fn a_shifted_port() {
    let outcomes = simulate("-f 3", Expected::ALL, |scenario, rng| {
        scenario.engine.port_shift = 3;
        add_crowd(scenario, rng, 50);
    });
    for outcome in outcomes {
        let own = (0..50).map(|index| Family::V4.client(index).source);
        let kept = own.filter(|own| outcome.accepted.iter().any(|other| other.source == *own));
        assert_eq!(kept.count(), 0, "clients that kept their port");
    }
}

#[test]
fn a_tenth_of_the_connections() {
    let outcomes = simulate(
        "-r 10",
        pieces(&[DropReason::NotSelected]),
        |scenario, rng| {
            scenario.engine.selection = Selection::Percent(10.0);
            add_crowd(scenario, rng, 400);
        },
    );
    for outcome in outcomes {
        let connections = outcome.ledger.connections;
        assert_eq!(connections.captured, 400);
        let taken = connections.delivered;
        assert!((36..=44).contains(&taken), "{taken} of 400");
        assert_eq!(outcome.accepted.len() as u64, taken);
    }
}

#[test]
fn a_pool_of_few_addresses() {
    let outcomes = simulate("-c with two addresses", Expected::ALL, |scenario, rng| {
        scenario.engine.client_pool = [1, 2]
            .map(|host| IpAddr::from(Ipv4Addr::new(10, 77, 0, host)))
            .to_vec();
        add_crowd(scenario, rng, 200);
    });
    for outcome in outcomes {
        assert_eq!(outcome.accepted.len(), 200);
        for accepted in &outcome.accepted {
            assert!(accepted.source.address.to_string().starts_with("10.77.0."));
        }
    }
}

#[test]
fn without_waiting_for_answers() {
    simulate("-W", Expected::ALL, |scenario, rng| {
        scenario.engine.wait_for_answers = false;
        scenario.target.service_us = 200 * MILLISECOND_US;
        scenario.links(LinkConfig {
            loss_permille: 20,
            ..LinkConfig::default()
        });
        add_clients(scenario, &Mix::default(), rng);
    });
}

#[test]
fn only_complete_connections() {
    let outcomes = simulate(
        "-O",
        pieces(&[DropReason::MidStreamRefused]),
        |scenario, rng| {
            scenario.engine.only_complete = true;
            let late = Disturbance {
                joined_permille: 300,
                ..Disturbance::default()
            };
            add_shaped_clients(scenario, &Mix::default(), ClientShape::default(), late, rng);
        },
    );
    assert!(outcomes.iter().all(|outcome| outcome.accepted.is_empty()));
}

#[test]
fn a_drain_delivers_what_was_captured() {
    simulate("drain", Expected::ALL, |scenario, rng| {
        scenario.stop = Stop::Drain {
            after_us: 0,
            deadline_us: scenario.limit_us,
        };
        scenario.target.service_us = SECOND_US;
        scenario.links(LinkConfig {
            loss_permille: 100,
            ..LinkConfig::default()
        });
        add_clients(
            scenario,
            &Mix {
                endings: Mix::ALL_ENDINGS[..5].to_vec(),
                ..Mix::default()
            },
            rng,
        );
    });
}

#[test]
fn a_drain_has_a_deadline() {
    let drops = [DropReason::ShutDown];
    let outcomes = simulate("drain deadline", pieces(&drops), |scenario, rng| {
        scenario.target.reader = Reader::Slow {
            bytes: 100,
            interval_us: SECOND_US,
        };
        scenario.target.receive_buffer_bytes = 2_000;
        add_clients(
            scenario,
            &Mix {
                message_bytes: 400_000,
                ..Mix::default()
            },
            rng,
        );
        let deadline_us = scenario.captured_until_us() + 5 * SECOND_US;
        scenario.stop = Stop::Drain {
            after_us: 0,
            deadline_us,
        };
    });
    for outcome in outcomes {
        assert!(outcome.ledger.bytes.dropped[DropReason::ShutDown] > 0);
        assert!(
            outcome.finished_us < 60 * SECOND_US,
            "{} µs",
            outcome.finished_us
        );
    }
}

#[test]
fn a_stop_at_any_moment_balances() {
    for at_ms in [0, 1, 10, 100, 300, 500, 700, 1_000, 2_000] {
        simulate(
            "stop now",
            pieces(&[DropReason::ShutDown, DropReason::ClientReset]),
            |scenario, rng| {
                scenario.stop = Stop::NowAt {
                    at_us: at_ms * MILLISECOND_US,
                };
                scenario.links(LinkConfig {
                    loss_permille: 50,
                    ..LinkConfig::default()
                });
                let endings = Mix::ALL_ENDINGS.to_vec();
                add_clients(
                    scenario,
                    &Mix {
                        endings,
                        ..Mix::default()
                    },
                    rng,
                );
            },
        );
    }
}

#[test]
fn more_than_the_memory_budget() {
    let drops = [DropReason::MemoryBudget];
    let outcomes = simulate("memory budget", pieces(&drops), |scenario, rng| {
        scenario.engine.memory_budget_bytes = 300_000;
        scenario.target.reader = Reader::Slow {
            bytes: 2_000,
            interval_us: 100 * MILLISECOND_US,
        };
        scenario.target.receive_buffer_bytes = 10_000;
        let mix = Mix {
            message_bytes: 1 << 20,
            turns: 3,
            ..Mix::default()
        };
        add_clients(scenario, &mix, rng);
    });
    let over: u64 = outcomes
        .iter()
        .map(|outcome| outcome.ledger.bytes.dropped[DropReason::MemoryBudget])
        .sum();
    assert!(over > 0, "the budget was never used up");
}

#[test]
fn the_idle_timeout() {
    let drops = [DropReason::IdleTimeout];
    let outcomes = simulate("idle timeout", pieces(&drops), |scenario, rng| {
        scenario.engine.idle_timeout = Duration::from_secs(30);
        scenario.stop = Stop::Now {
            after_us: 100 * SECOND_US,
        };
        add_clients(scenario, &Mix::default().ending(Ending::Open), rng);
    });
    for outcome in outcomes {
        assert_eq!(
            outcome.ledger.bytes.dropped_total(),
            0,
            "all was delivered before"
        );
        assert_eq!(outcome.accepted.len(), usize::from(CLIENTS));
    }
}

#[test]
fn the_session_timeout() {
    let drops = [DropReason::GateTimeout, DropReason::TargetSilent];
    let outcomes = simulate("session timeout", pieces(&drops), |scenario, rng| {
        scenario.engine.session_timeout = Duration::from_secs(20);
        scenario.target.service_us = 3_600 * SECOND_US;
        let mix = Mix {
            turns: 5,
            ..Mix::default()
        }
        .ending(Ending::ClientFin);
        add_clients(scenario, &mix, rng);
    });
    assert!(delivered_percent(&outcomes) < 100);
}

#[test]
fn a_syn_ack_later_than_the_session_timeout() {
    let drops = [DropReason::TargetSilent];
    let outcomes = simulate("SYN-ACK too late", pieces(&drops), |scenario, rng| {
        scenario.engine.session_timeout = Duration::from_secs(5);
        scenario.target.listening = Listening::Accepts {
            delay_us: 50 * SECOND_US,
        };
        add_clients(scenario, &Mix::default(), rng);
    });
    assert_eq!(delivered_percent(&outcomes), 0);
}
