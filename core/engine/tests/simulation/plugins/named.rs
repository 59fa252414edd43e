//! Scenarios with a plugin and a name, each about one thing, over both upstreams.

use tcpcopy_engine::{DropReason, Upstream};

use super::check::{check_ledger, check_pieces, check_whole};
use super::model::{Behaviour, PluginModel};
use crate::capture::{ClientShape, Disturbance};
use crate::conversation::{Ending, message_end};
use crate::harness::{Outcome, run};
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::rng::Rng;
use crate::scenario::{Family, Scenario};
use crate::sockets;
use crate::target::Finish;

/// Seeds each scenario is run with.
const SEEDS: u64 = 6;
/// Clients of a scenario.
const CLIENTS: u16 = 5;

/// Small messages, one at a time, each answered.
fn one_by_one() -> Mix {
    Mix {
        turns: 30,
        message_bytes: 3_000,
        answer_bytes: 4_000,
        pipelined_permille: 0,
        answered_meanwhile_permille: 0,
        ..Mix::default()
    }
    .ending(Ending::ClientFin)
}

fn arrange(
    behaviour: Behaviour,
    seed: u64,
    mix: &Mix,
    disturbance: Disturbance,
    change: fn(&mut Scenario),
) -> Scenario {
    let mut rng = Rng::new(seed);
    let mut scenario = Scenario::new("with a plugin", seed, Family::V4);
    scenario.target.speaks = true;
    scenario.plugin = Some(PluginModel {
        behaviour,
        is_greeted: false,
        trusts_beginnings: true,
    });
    change(&mut scenario);
    for index in 0..CLIENTS {
        let tuple = Family::V4.client(index);
        let conversation = mix.conversation(tuple, rng.range(0, 100_000), &mut rng);
        let shape = ClientShape {
            origin_visible: true,
            ..ClientShape::default()
        };
        scenario.capture(conversation, shape, disturbance, &mut rng);
    }
    scenario
}

/// Runs a scenario over both upstreams and several seeds.
fn simulate(
    behaviour: Behaviour,
    mix: &Mix,
    disturbance: Disturbance,
    change: fn(&mut Scenario),
    check: impl Fn(&Scenario, &Outcome),
) {
    for seed in 0..SEEDS {
        let mut scenario = arrange(behaviour, seed, mix, disturbance, change);
        println!("{behaviour:?}, raw, SIMULATION_SEED={seed}");
        check(&scenario, &run(&scenario));
        println!("{behaviour:?}, sockets, SIMULATION_SEED={seed}");
        scenario.engine.upstream = Upstream::Socket;
        let over_sockets = sockets::over_patient_kernel(scenario.clone());
        check(&scenario, &sockets::run(&over_sockets).outcome);
    }
}

#[test]
fn requests_outlive_their_connection_and_are_said_again_behind_a_login() {
    for behaviour in [Behaviour::Relays, Behaviour::LogsIn, Behaviour::Doubles] {
        let closing = |scenario: &mut Scenario| {
            scenario.target.finish = Finish::CloseAfter { messages: 8 };
        };
        let undisturbed = Disturbance::default();
        simulate(
            behaviour,
            &one_by_one(),
            undisturbed,
            closing,
            |scenario, outcome| {
                check_ledger(scenario, outcome, &DropReason::ALL);
                check_pieces(scenario, outcome, behaviour);
                let requests = &outcome.ledger.requests;
                let streams = scenario.connections.iter();
                let said: u64 = streams
                    .map(|it| it.conversation.messages().count() as u64)
                    .sum();
                assert_eq!(requests.captured, said, "none counts twice");
                let lost = requests.captured - requests.delivered;
                let closed = outcome.accepted.len() as u64;
                assert!(lost <= closed, "{lost} lost over {closed} connections");
                assert!(closed > u64::from(CLIENTS), "some went on");
            },
        );
    }
}

#[test]
fn a_plugin_waits_for_the_first_whole_message_of_a_connection_that_was_there_before() {
    let joined = Disturbance {
        joined_permille: 300,
        ..Disturbance::default()
    };
    let doubtful = |scenario: &mut Scenario| {
        let plugin = scenario.plugin.as_mut().expect("a plugin is drawn");
        plugin.trusts_beginnings = false;
    };
    simulate(
        Behaviour::Relays,
        &one_by_one(),
        joined,
        doubtful,
        |scenario, outcome| {
            check_ledger(scenario, outcome, &[DropReason::PluginDropped]);
            check_pieces(scenario, outcome, Behaviour::Relays);
            let seen: u64 = (outcome.observed.iter()).map(|it| it.client_bytes).sum();
            assert_eq!(
                seen, outcome.ledger.bytes.captured,
                "it is given everything"
            );
            let starts = outcome.observed.iter().map(|it| it.info.start_seen);
            assert!(starts.filter(|it| *it).count() < usize::from(CLIENTS));
        },
    );
}

#[test]
fn holes_cost_the_messages_that_they_are_in() {
    let holes = Disturbance {
        hole_permille: 50,
        ..Disturbance::default()
    };
    simulate(
        Behaviour::LogsIn,
        &one_by_one(),
        holes,
        |_| {},
        |scenario, outcome| {
            let drops = [DropReason::CaptureGap, DropReason::PluginDropped];
            check_ledger(scenario, outcome, &drops);
            check_pieces(scenario, outcome, Behaviour::LogsIn);
            assert_eq!(outcome.accepted.len(), usize::from(CLIENTS), "one each");
            let count = |stream: &[u8]| {
                let ends = stream.iter().filter(|byte| message_end(**byte).is_some());
                ends.count()
            };
            let said: usize = (scenario.connections.iter())
                .map(|it| count(&it.stream))
                .sum();
            let arrived: usize = (outcome.accepted.iter()).map(|it| count(&it.stream)).sum();
            let arrived = arrived - 2 * usize::from(CLIENTS);
            let holes: usize = scenario.connections.iter().map(|it| it.holes.len()).sum();
            // A hole spoils the message it is in and, where it ends with that, the next.
            assert!(
                said <= arrived + 2 * holes,
                "{arrived} of {said}, {holes} holes"
            );
            assert!(holes > 0 && arrived < said);
        },
    );
}

#[test]
fn lost_and_cut_replies_never_show() {
    let lossy = |scenario: &mut Scenario| {
        scenario.links(LinkConfig {
            loss_permille: 100,
            reorder_permille: 100,
            duplicate_permille: 50,
            ..LinkConfig::default()
        });
        scenario.cut_payload_permille = 50;
        scenario.target.segmentation_offload = true;
    };
    let mix = Mix {
        answer_bytes: 300_000,
        turns: 4,
        ..one_by_one()
    };
    let undisturbed = Disturbance::default();
    simulate(
        Behaviour::Answers,
        &mix,
        undisturbed,
        lossy,
        |scenario, outcome| {
            check_ledger(scenario, outcome, &[]);
            check_whole(scenario, outcome, Behaviour::Answers);
        },
    );
}

#[test]
fn the_origin_is_heard_to_its_end() {
    let slow = |scenario: &mut Scenario| scenario.target.service_us = 50_000;
    let undisturbed = Disturbance::default();
    simulate(
        Behaviour::Compares,
        &one_by_one(),
        undisturbed,
        slow,
        |scenario, outcome| {
            check_ledger(scenario, outcome, &[]);
            check_whole(scenario, outcome, Behaviour::Compares);
            let messages = (scenario.connections.iter()).flat_map(|it| it.conversation.messages());
            let said: u64 = messages
                .map(|it| crate::conversation::answer_bytes(it.answer))
                .sum();
            let heard: u64 = outcome.observed.iter().map(|it| it.origin_bytes).sum();
            assert_eq!(heard, said);
        },
    );
}
