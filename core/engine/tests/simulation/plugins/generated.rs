//! Scenarios drawn from a seed, with a plugin that is drawn as well.

use std::time::Duration;

use tcpcopy_engine::{DropReason, Latency};

use super::check::{check_ledger, check_pieces, check_whole};
use super::model::{Behaviour, PluginModel};
use crate::capture::{Cut, Disturbance};
use crate::conversation::{ANSWER_BYTES, Ending};
use crate::generated::{self, REPEAT_EVERY};
use crate::harness::{Outcome, run};
use crate::mix::{Mix, START_WITHIN_US, draw_disturbance, draw_shape};
use crate::rng::Rng;
use crate::scenario::{Family, Scenario};
use crate::sockets;
use crate::trace::variable;

/// Seeds of a plain test run.
const DEFAULT_SEEDS: u64 = 600;
/// Length of a greeting.
const GREETING_BYTES: u64 = 90;

#[test]
fn every_stream_arrives_as_the_plugin_makes_it() {
    run_seeds(patient, run, check_patient);
}

#[test]
fn every_stream_arrives_through_sockets_as_the_plugin_makes_it() {
    let over_sockets =
        |it: &Scenario| sockets::run(&sockets::over_patient_kernel(it.clone())).outcome;
    run_seeds(patient, over_sockets, check_patient);
}

#[test]
fn every_balance_is_zero_whatever_plugin_and_network_do() {
    run_seeds(impatient, run, check_impatient);
}

#[test]
fn every_balance_is_zero_with_sockets_whatever_the_plugin_does() {
    let over_sockets =
        |it: &Scenario| sockets::run(&sockets::over_impatient_kernel(it.clone())).outcome;
    run_seeds(impatient, over_sockets, check_impatient);
}

fn run_seeds(
    generate: fn(u64) -> Scenario,
    run: impl Fn(&Scenario) -> Outcome,
    check: fn(&Scenario, &Outcome),
) {
    let seeds = match variable::<u64>("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SIMULATION_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    for seed in seeds {
        let scenario = generate(seed);
        let plugin = scenario.plugin.expect("a plugin is drawn").behaviour;
        println!("{}, {plugin:?}, SIMULATION_SEED={seed}", scenario.name);
        let outcome = run(&scenario);
        println!("finished after {} µs", outcome.finished_us);
        check(&scenario, &outcome);
        if seed.is_multiple_of(REPEAT_EVERY) {
            let hashes = [outcome.trace.hash(), run(&scenario).trace.hash()];
            assert_eq!(hashes[0], hashes[1], "not the same again");
        }
    }
}

fn check_patient(scenario: &Scenario, outcome: &Outcome) {
    let behaviour = scenario.plugin.expect("a plugin is drawn").behaviour;
    check_ledger(scenario, outcome, &[DropReason::PluginDropped]);
    check_whole(scenario, outcome, behaviour);
    let ledger = &outcome.ledger;
    let dropped = ledger.bytes.dropped_total() + ledger.requests.dropped_total();
    let drops = behaviour == Behaviour::DropsThird;
    assert!(dropped == 0 || drops, "{behaviour:?} drops nothing");
}

fn check_impatient(scenario: &Scenario, outcome: &Outcome) {
    let behaviour = scenario.plugin.expect("a plugin is drawn").behaviour;
    let drops = &DropReason::ALL[..DropReason::COUNT - 1];
    check_ledger(scenario, outcome, drops);
    check_pieces(scenario, outcome, behaviour);
}

/// A scenario in which everything must arrive.
fn patient(seed: u64) -> Scenario {
    let (mut scenario, _) = generated::patient(seed);
    let mut rng = Rng::new(seed ^ 0x0091_6171);
    let messages = rng.range(1, 6);
    let behaviour = rng.pick(&[
        Behaviour::Relays,
        Behaviour::RelaysUnmarked,
        Behaviour::Doubles,
        Behaviour::DropsThird,
        Behaviour::LogsIn,
        Behaviour::Answers,
        Behaviour::AwaitsGreeting,
        Behaviour::Delays,
        Behaviour::Compares,
        Behaviour::PassesThrough(messages),
    ]);
    scenario.name = "patient plugin".to_owned();
    plug(&mut scenario, behaviour, &mut rng);
    let family = family_of(&scenario);
    scenario.connections.clear();
    scenario.engine.copies = rng.pick(&[1.0, 1.0, 1.0, 3.0]);
    let mix = draw_mix(&scenario, behaviour, &mut rng);
    for index in 0..rng.range(1, 7) {
        let tuple = family.client(u16::try_from(index).expect("few"));
        let conversation = mix.conversation(tuple, rng.range(0, START_WITHIN_US), &mut rng);
        let mut shape = draw_shape(&mut rng);
        shape.origin_visible |= behaviour == Behaviour::Compares;
        if conversation.stream_len() > 50_000 && shape.cut == Cut::Anywhere {
            shape.cut = Cut::Mss;
        }
        let disturbance = draw_disturbance(&mut rng);
        scenario.capture(conversation, shape, disturbance, &mut rng);
    }
    scenario
}

/// A scenario in which anything may be lost, but nothing silently.
fn impatient(seed: u64) -> Scenario {
    let (mut scenario, _) = generated::impatient(seed);
    let mut rng = Rng::new(!seed ^ 0x0091_6171);
    let messages = rng.range(1, 6);
    let behaviour = rng.pick(&[
        Behaviour::Relays,
        Behaviour::RelaysUnmarked,
        Behaviour::Doubles,
        Behaviour::DropsThird,
        Behaviour::LogsIn,
        Behaviour::Answers,
        Behaviour::AwaitsGreeting,
        Behaviour::Delays,
        Behaviour::Compares,
        Behaviour::PassesThrough(messages),
        Behaviour::Fails(5),
        Behaviour::Fails(100),
        Behaviour::Refuses(5),
        Behaviour::Refuses(100),
    ]);
    scenario.name = "impatient plugin".to_owned();
    plug(&mut scenario, behaviour, &mut rng);
    let family = family_of(&scenario);
    let mut mix = draw_mix(&scenario, behaviour, &mut rng);
    mix.endings = Mix::ALL_ENDINGS.to_vec();
    scenario.connections.clear();
    for index in 0..rng.range(1, 7) {
        let tuple = family.client(u16::try_from(index).expect("few"));
        let conversation = mix.conversation(tuple, rng.range(0, START_WITHIN_US), &mut rng);
        let mut shape = draw_shape(&mut rng);
        shape.origin_visible |= behaviour == Behaviour::Compares;
        let disturbance = Disturbance {
            hole_permille: rng.pick(&[0, 0, 20]),
            joined_permille: rng.pick(&[0, 0, 0, 300]),
            origin_hole_permille: rng.pick(&[0, 0, 50]),
            ..draw_disturbance(&mut rng)
        };
        scenario.capture(conversation, shape, disturbance, &mut rng);
    }
    scenario
}

fn plug(scenario: &mut Scenario, behaviour: Behaviour, rng: &mut Rng) {
    let target = &mut scenario.target;
    target.speaks = true;
    if behaviour == Behaviour::AwaitsGreeting {
        target.greeting_bytes = GREETING_BYTES;
    }
    scenario.plugin = Some(PluginModel {
        behaviour,
        is_greeted: target.greeting_bytes > 0,
        trusts_beginnings: false,
    });
    scenario.cut_payload_permille = rng.pick(&[0, 0, 20]);
    let mean = Duration::from_millis(rng.pick(&[0, 0, 20]));
    scenario.engine.latency = (!mean.is_zero()).then_some(Latency { mean, jitter: mean });
    // A challenge is answered before the next request is sent.
    scenario.engine.wait_for_answers |= behaviour == Behaviour::Answers;
}

fn draw_mix(scenario: &Scenario, behaviour: Behaviour, rng: &mut Rng) -> Mix {
    let mut mix = Mix {
        turns: rng.pick(&[4, 8, 30]),
        message_bytes: rng.pick(&[200, 5_000, 40_000]),
        answer_bytes: rng.pick(&[ANSWER_BYTES[3], 4_000, 70_000]),
        pipelined_permille: rng.pick(&[0, 200, 800]),
        answered_meanwhile_permille: rng.pick(&[0, 0, 100]),
        greeting_bytes: scenario.target.greeting_bytes,
        ..Mix::default()
    };
    if behaviour == Behaviour::Answers {
        mix.pipelined_permille = 0;
        mix.answered_meanwhile_permille = 0;
        // Who has closed can't answer a challenge.
        mix.endings = vec![Ending::ClientFin, Ending::OriginFin, Ending::Simultaneous];
    }
    mix
}

fn family_of(scenario: &Scenario) -> Family {
    match scenario.target.endpoint.address.is_ipv4() {
        true => Family::V4,
        false => Family::V6,
    }
}
