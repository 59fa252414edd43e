//! How much of the load is replayed: fractions, bounds, latency, pauses, loops and rounds.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tcpcopy_engine::{DropReason, Latency, RateLimit, Selection, Tuning};
use tcpcopy_packet::Endpoint;

use super::{CLIENTS, add_clients, add_crowd, pieces};
use crate::capture::{CapturedSegment, ClientShape, Disturbance};
use crate::check::{Expected, Streams};
use crate::conversation::{Conversation, Ending};
use crate::events::{MILLISECOND_US, Micros, SECOND_US};
use crate::harness::Outcome;
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::rng::Rng;
use crate::scenario::{Control, Family, Scenario, Stop};
use crate::sockets::simulate_plain;

/// Runs a scenario through packets and through sockets: shaping is the same for both.
fn simulate<'e>(
    name: &str,
    expected: Expected<'e>,
    arrange: impl Fn(&mut Scenario, &mut Rng),
) -> Vec<Outcome> {
    let mut outcomes = super::simulate(name, expected, &arrange);
    outcomes.extend(simulate_plain(name, expected, &arrange));
    outcomes
}

/// Only these drops, and whole messages at the target.
fn messages(drops: &[DropReason]) -> Expected<'_> {
    Expected {
        streams: Streams::Messages,
        drops,
    }
}

/// Clients whose connections last, with small requests one after the other for some seconds.
fn add_talkers(scenario: &mut Scenario, rng: &mut Rng, count: u16, think_us: Micros) {
    let mix = Mix {
        turns: 1,
        message_bytes: 300,
        answer_bytes: 400,
        pipelined_permille: 0,
        answered_meanwhile_permille: 0,
        ..Mix::default()
    };
    for index in 0..count {
        let start_us = rng.range(0, SECOND_US);
        let mut conversation = mix.conversation(Family::V4.client(index), start_us, rng);
        conversation.turns.clear();
        for _ in 0..5 * SECOND_US / think_us {
            let mut turns = mix.conversation(conversation.tuple, 0, rng).turns;
            turns[0].think_us = think_us + rng.range(0, think_us / 4);
            conversation.turns.append(&mut turns);
        }
        let shape = ClientShape::default();
        scenario.capture(conversation, shape, Disturbance::default(), rng);
    }
}

/// Whether `achieved` is within 2 % of `asked`, or one off where they are few.
fn assert_near(asked: f64, achieved: f64, what: &str) {
    let off = (achieved - asked).abs();
    assert!(
        off <= asked * 0.02 || off <= 1.0,
        "{what}: {achieved} for {asked}"
    );
}

#[test]
fn every_second_connection_twice() {
    let outcomes = simulate(
        "-n 1.5",
        Expected {
            streams: Streams::Messages,
            drops: &[],
        },
        |scenario, rng| {
            scenario.engine.copies = 1.5;
            scenario.links(LinkConfig {
                loss_permille: 20,
                ..LinkConfig::default()
            });
            add_crowd(scenario, rng, 200);
        },
    );
    for outcome in outcomes {
        assert_eq!(outcome.accepted.len(), 300);
        let mut times: BTreeMap<Endpoint, u32> = BTreeMap::new();
        for record in &outcome.records {
            *times.entry(record.client).or_default() += 1;
        }
        let twice = times.values().filter(|times| **times == 2).count();
        assert_eq!((times.len(), twice), (200, 100));
        assert_eq!(outcome.ledger.connections.captured, 300);
        assert_eq!(outcome.ledger.load.copies(), Some((1.5, 1.5)));
    }
}

#[test]
fn another_number_of_copies_while_it_runs() {
    let outcomes = simulate("tuned copies", messages(&[]), |scenario, rng| {
        let at_us = 5 * SECOND_US / 2;
        let tuning = Control::Tune(Tuning::Copies(3.0));
        scenario.controls.push((at_us, tuning));
        add_crowd(scenario, rng, 100);
    });
    for outcome in outcomes {
        let (asked, achieved) = outcome.ledger.load.copies().expect("connections");
        assert!((asked - achieved).abs() < 1e-9);
        assert!((1.5..2.5).contains(&asked), "{asked}");
        assert_eq!(
            outcome.accepted.len() as f64,
            outcome.ledger.load.connections_replayed as f64 * achieved
        );
    }
}

#[test]
fn a_ramp_over_five_seconds() {
    let outcomes = simulate(
        "-g 5",
        pieces(&[DropReason::NotSelected]),
        |scenario, rng| {
            let duration = Duration::from_secs(5);
            scenario.engine.selection = Selection::Ramp { duration };
            add_crowd(scenario, rng, 3000);
        },
    );
    for outcome in outcomes {
        let load = outcome.ledger.load;
        assert_eq!(load.connections_seen, 3000);
        assert_eq!(load.connections_selected, outcome.accepted.len() as u64);
        let (asked, selected) = load.selected_percent().expect("connections");
        assert!((48.0..54.0).contains(&asked), "{asked}");
        assert_near(asked, selected, "per cent");
        let early = outcome.accepted.iter().filter(|it| it.began_us < SECOND_US);
        let late = (outcome.accepted.iter()).filter(|it| it.began_us > 4 * SECOND_US);
        assert!(early.count() * 4 < late.count());
    }
}

#[test]
fn so_many_connections_a_second() {
    for copies in [1.0, 1.5, 3.0] {
        let rate = 50.0;
        let drops = [DropReason::RateLimit];
        let outcomes = simulate("--rate 50", messages(&drops), |scenario, rng| {
            scenario.engine.rate = Some(RateLimit::Connections(rate));
            scenario.engine.copies = copies;
            add_crowd(scenario, rng, 1000);
        });
        for outcome in outcomes {
            let (load, connections) = (outcome.ledger.load, outcome.ledger.connections);
            assert_near(5.0 * rate, outcome.accepted.len() as f64, "connections");
            assert_near(
                load.rate_allowed as f64,
                load.rate_admitted as f64,
                "allowed",
            );
            assert_eq!(load.rate_offered, connections.captured);
            assert_eq!(load.rate_admitted, connections.delivered);
        }
    }
}

#[test]
fn so_many_requests_a_second() {
    for (copies, rate) in [(1.0, 100.0), (1.0, 20.0), (3.0, 100.0)] {
        let drops = [DropReason::RateLimit];
        let outcomes = simulate("--rate rps", messages(&drops), |scenario, rng| {
            scenario.engine.rate = Some(RateLimit::Requests(rate));
            scenario.engine.copies = copies;
            // While all of them talk.
            let tuning = Control::Tune(Tuning::Rate(None));
            scenario.controls.push((5 * SECOND_US, tuning));
            scenario.links(LinkConfig {
                loss_permille: 10,
                ..LinkConfig::default()
            });
            add_talkers(scenario, rng, 40, 100 * MILLISECOND_US);
        });
        for outcome in outcomes {
            let (load, ledger) = (outcome.ledger.load, &outcome.ledger);
            assert_near(
                load.rate_allowed as f64,
                load.rate_admitted as f64,
                "requests",
            );
            let seconds = load.rate_allowed as f64 / rate;
            assert!(
                (4.5..=5.0).contains(&seconds),
                "from the first on: {seconds}"
            );
            let left_out = ledger.requests.dropped[DropReason::RateLimit];
            assert_eq!(load.rate_offered - load.rate_admitted, left_out);
            assert_eq!(load.requests_offered, ledger.requests.captured);
            assert_eq!(load.requests_replayed, ledger.requests.delivered);
            assert_eq!(ledger.answered_requests, ledger.requests.delivered);
            // Every connection is there, and what waits for an answer never waits for one to a
            // request that was left out.
            assert_eq!(outcome.accepted.len(), 40 * copies as usize);
            assert!(
                outcome.finished_us < 12 * SECOND_US,
                "{}",
                outcome.finished_us
            );
        }
    }
}

#[test]
fn a_pause_leaves_out_and_then_joins() {
    let drops = [DropReason::Paused];
    let outcomes = simulate("pause", messages(&drops), |scenario, rng| {
        scenario.controls = vec![
            (500 * MILLISECOND_US, Control::Tune(Tuning::Pause(true))),
            (3 * SECOND_US, Control::Tune(Tuning::Pause(false))),
        ];
        add_talkers(scenario, rng, 40, 100 * MILLISECOND_US);
    });
    for outcome in outcomes {
        let requests = outcome.ledger.requests;
        assert_eq!(outcome.accepted.len(), 40, "those of the pause are joined");
        assert_eq!(outcome.ledger.connections.delivered, 40);
        let [share, paused] = [requests.delivered, requests.dropped[DropReason::Paused]]
            .map(|count| count * 100 / requests.captured);
        assert!((50..65).contains(&share) && paused > 35, "{share} {paused}");
        let began_later = |it: &&crate::target::Accepted| it.began_us >= 3 * SECOND_US;
        assert!(outcome.accepted.iter().filter(began_later).count() > 10);
        assert!(
            outcome.finished_us < 12 * SECOND_US,
            "{}",
            outcome.finished_us
        );
    }
}

#[test]
fn a_hole_in_what_is_left_out_ends_no_session() {
    let drops = [DropReason::Paused, DropReason::CaptureGap];
    let outcomes = simulate("a hole in a pause", messages(&drops), |scenario, rng| {
        scenario.engine.gap_timeout = Duration::from_millis(500);
        scenario.controls = vec![
            (2 * SECOND_US, Control::Tune(Tuning::Pause(true))),
            (4 * SECOND_US, Control::Tune(Tuning::Pause(false))),
        ];
        add_talkers(scenario, rng, 20, 100 * MILLISECOND_US);
        let missed = 2_500 * MILLISECOND_US..3_000 * MILLISECOND_US;
        for connection in &mut scenario.connections {
            let is_seen = |segment: &CapturedSegment| {
                segment.header.payload_len == 0 || !missed.contains(&segment.at_us)
            };
            connection.segments.retain(is_seen);
        }
    });
    for outcome in outcomes {
        assert_eq!(outcome.accepted.len(), 20, "one session each");
        assert!(outcome.ledger.bytes.dropped[DropReason::CaptureGap] > 0);
        let requests = outcome.ledger.requests;
        assert_eq!(requests.delivered, outcome.ledger.load.requests_replayed);
        assert!(requests.delivered * 2 > requests.captured);
    }
}

#[test]
fn a_pause_that_outlasts_the_connections() {
    let drops = [DropReason::Paused];
    let outcomes = simulate("pause to the end", pieces(&drops), |scenario, rng| {
        scenario.controls = vec![(0, Control::Tune(Tuning::Pause(true)))];
        add_crowd(scenario, rng, 50);
    });
    for outcome in outcomes {
        assert!(outcome.accepted.is_empty());
        assert_eq!(outcome.ledger.connections.dropped[DropReason::Paused], 50);
        assert_eq!(outcome.ledger.balance().requests_meant, 0, "no loss");
    }
}

#[test]
fn no_new_connections_while_there_is_no_time_for_them() {
    let drops = [DropReason::CpuLimit];
    let outcomes = simulate("no admission", pieces(&drops), |scenario, rng| {
        scenario.controls = vec![
            (SECOND_US, Control::Tune(Tuning::Admission(false))),
            (2 * SECOND_US, Control::Tune(Tuning::Admission(true))),
        ];
        add_crowd(scenario, rng, 200);
    });
    for outcome in outcomes {
        let refused = outcome.ledger.connections.dropped[DropReason::CpuLimit];
        assert!((25..55).contains(&refused), "{refused}");
        assert_eq!(outcome.accepted.len() as u64, 200 - refused);
        let meant = outcome.ledger.balance().requests_meant;
        assert_eq!(meant, outcome.ledger.requests.captured, "a loss");
    }
}

/// One client of `turns` requests, `think_us` apart, far from the target by `latency`.
fn far_away(turns: u64, think_us: Micros, latency: Option<Latency>) -> Vec<Outcome> {
    simulate("latency", Expected::ALL, |scenario, rng| {
        scenario.engine.latency = latency;
        add_talkers(scenario, rng, 1, think_us);
        let connection = scenario.connections.pop().expect("one client");
        let mut conversation = connection.conversation;
        let count = usize::try_from(turns).expect("few");
        conversation.turns.truncate(count);
        conversation.ending = Ending::ClientFin;
        let shape = ClientShape::default();
        scenario.capture(conversation, shape, Disturbance::default(), rng);
    })
}

fn latency_ms(mean: u64, jitter: u64) -> Option<Latency> {
    Some(Latency {
        mean: Duration::from_millis(mean),
        jitter: Duration::from_millis(jitter),
    })
}

#[test]
fn a_distant_client_is_later_by_its_latency() {
    // A client that thinks for longer than the latency is just as much later, however much it says.
    let near = far_away(20, 200 * MILLISECOND_US, None);
    let far = far_away(20, 200 * MILLISECOND_US, latency_ms(80, 20));
    for (near, far) in near.iter().zip(&far) {
        let later_us = far.last_delivery_us - near.last_delivery_us;
        assert!((59_000..=102_000).contains(&later_us), "{later_us}");
        let added = far.send_delay.mean() - near.send_delay.mean();
        assert!(
            (Duration::from_millis(70)..Duration::from_millis(90)).contains(&added),
            "{added:?}"
        );
        assert!(far.send_delay.max() > Duration::from_millis(80));
        assert_eq!(far.send_delay.count(), far.ledger.requests.delivered);
    }
}

#[test]
fn a_distant_client_without_a_pause_is_slower_with_each_answer() {
    let near = far_away(10, 10, None);
    let far = far_away(10, 10, latency_ms(50, 0));
    for (near, far) in near.iter().zip(&far) {
        // The first request's too; the captured round trip of 2 ms runs in parallel.
        let later_us = far.last_delivery_us - near.last_delivery_us;
        assert!((450_000..=520_000).contains(&later_us), "{later_us}");
    }
}

#[test]
fn latency_loses_nothing() {
    simulate("latency on bad links", Expected::ALL, |scenario, rng| {
        scenario.engine.latency = latency_ms(300, 300);
        scenario.engine.wait_for_answers = rng.permille(500);
        scenario.links(LinkConfig {
            loss_permille: 50,
            ..LinkConfig::default()
        });
        add_clients(scenario, &Mix::default(), rng);
    });
}

#[test]
fn own_packets_that_come_back_are_left_alone() {
    let drops = [DropReason::OwnReplay];
    let outcomes = super::simulate("a loop", messages(&drops), |scenario, rng| {
        let elsewhere = IpAddr::from(Ipv4Addr::new(192, 0, 2, 77));
        scenario.engine.mappings[0].origin_address = None;
        scenario.loops_to = Some(Endpoint::new(elsewhere, 80));
        add_crowd(scenario, rng, 50);
    });
    for outcome in outcomes {
        assert_eq!(outcome.ledger.capture.own_replay, 50);
        assert_eq!(outcome.accepted.len(), 50);
        let connections = outcome.ledger.connections;
        assert_eq!((connections.captured, connections.delivered), (100, 50));
        assert_eq!(
            outcome.ledger.bytes.dropped[DropReason::OwnReplay],
            outcome.ledger.bytes.delivered
        );
    }
}

#[test]
fn own_sockets_that_come_back_are_left_alone() {
    let drops = [DropReason::OwnReplay];
    let outcomes = simulate_plain("a loop", messages(&drops), |scenario, rng| {
        let elsewhere = IpAddr::from(Ipv4Addr::new(192, 0, 2, 77));
        scenario.engine.mappings[0].origin_address = None;
        scenario.loops_to = Some(Endpoint::new(elsewhere, 80));
        add_crowd(scenario, rng, 50);
    });
    for outcome in outcomes {
        assert_eq!(outcome.ledger.capture.own_replay, 50);
        assert_eq!(outcome.accepted.len(), 50);
    }
}

#[test]
fn a_file_that_begins_again() {
    let outcomes = simulate("two rounds", Expected::ALL, |scenario, rng| {
        scenario.target.service_us = 20 * MILLISECOND_US;
        let mix = Mix::default().ending(Ending::Open);
        add_clients(scenario, &mix, rng);
        let first: Vec<Conversation> = scenario
            .connections
            .iter()
            .map(|it| it.conversation.clone())
            .collect();
        let ended_us = scenario.captured_until_us();
        scenario.controls.push((ended_us + 1, Control::EndRound));
        // The same tuples with the same initial sequence numbers, but other words.
        for Conversation {
            tuple, start_us, ..
        } in first
        {
            let conversation = mix.conversation(tuple, ended_us + 2 + start_us, rng);
            scenario.capture(
                conversation,
                ClientShape::default(),
                Disturbance::default(),
                rng,
            );
        }
        scenario
            .controls
            .push((scenario.captured_until_us() + 1, Control::EndRound));
        scenario.stop = Stop::Drain {
            after_us: SECOND_US,
            deadline_us: scenario.limit_us,
        };
    });
    for outcome in outcomes {
        assert_eq!(outcome.accepted.len(), 2 * usize::from(CLIENTS));
        assert!(
            outcome
                .accepted
                .iter()
                .all(|accepted| accepted.client_closed)
        );
    }
}

#[test]
fn a_file_that_ends_with_a_hole() {
    let drops = [DropReason::CaptureGap];
    let outcomes = simulate("a round with holes", pieces(&drops), |scenario, rng| {
        let mix = Mix {
            message_bytes: 60_000,
            ..Mix::default()
        };
        let disturbance = Disturbance {
            hole_permille: 30,
            ..Disturbance::default()
        };
        for index in 0..20 {
            let conversation = mix.conversation(Family::V4.client(index), 0, rng);
            scenario.capture(conversation, ClientShape::default(), disturbance, rng);
        }
        // Long before the holes would be given up.
        scenario
            .controls
            .push((scenario.captured_until_us() + 1, Control::EndRound));
    });
    let holes: u64 = outcomes
        .iter()
        .map(|outcome| outcome.ledger.bytes.dropped[DropReason::CaptureGap])
        .sum();
    assert!(holes > 0, "there were none");
}
