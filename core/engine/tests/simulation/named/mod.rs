//! Scenarios with a name, each about one thing.

mod captures;
mod large;
mod links;
mod options;
mod shaping;
mod targets;
mod tunnels;

use tcpcopy_engine::DropReason;

use crate::capture::{ClientShape, Disturbance};
use crate::check::{Expected, Streams, check};
use crate::events::SECOND_US;
use crate::harness::{Outcome, run};
use crate::mix::Mix;
use crate::rng::Rng;
use crate::scenario::{Family, Scenario};
use crate::trace::variable;

/// Seeds each scenario is run with.
const SEEDS: u64 = 4;
/// Clients of a scenario.
const CLIENTS: u16 = 6;

/// Builds a scenario with `arrange`, runs and checks it for several seeds; returns the outcomes.
fn simulate<'e>(
    name: &str,
    expected: Expected<'e>,
    arrange: impl Fn(&mut Scenario, &mut Rng),
) -> Vec<Outcome> {
    let seeds = match variable::<u64>("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    seeds
        .map(|seed| {
            let mut rng = Rng::new(seed);
            let mut scenario = Scenario::new(name, seed, Family::V4);
            arrange(&mut scenario, &mut rng);
            let outcome = run(&scenario);
            println!("{name}, SIMULATION_SEED={seed}: {} µs", outcome.finished_us);
            check(&scenario, &outcome, expected);
            outcome
        })
        .collect()
}

/// Adds plain clients with conversations of `mix`.
pub(crate) fn add_clients(scenario: &mut Scenario, mix: &Mix, rng: &mut Rng) {
    add_shaped_clients(
        scenario,
        mix,
        ClientShape::default(),
        Disturbance::default(),
        rng,
    );
}

fn add_shaped_clients(
    scenario: &mut Scenario,
    mix: &Mix,
    shape: ClientShape,
    disturbance: Disturbance,
    rng: &mut Rng,
) {
    for index in 0..CLIENTS {
        let tuple = Family::V4.client(index);
        let start_us = rng.range(0, SECOND_US);
        let conversation = mix.conversation(tuple, start_us, rng);
        scenario.capture(conversation, shape, disturbance, rng);
    }
}

/// How much of what was captured reached the target, over all outcomes, in percent.
fn delivered_percent(outcomes: &[Outcome]) -> u64 {
    let captured: u64 = outcomes
        .iter()
        .map(|outcome| outcome.ledger.bytes.captured)
        .sum();
    let delivered: u64 = outcomes
        .iter()
        .map(|outcome| outcome.ledger.bytes.delivered)
        .sum();
    delivered * 100 / captured.max(1)
}

/// Many small connections, so that shares can be counted.
fn add_crowd(scenario: &mut Scenario, rng: &mut Rng, count: u16) {
    let mix = Mix {
        turns: 1,
        message_bytes: 100,
        answer_bytes: 400,
        ..Mix::default()
    };
    for index in 0..count {
        let tuple = Family::V4.client(index);
        let conversation = mix.conversation(tuple, rng.range(0, 5 * SECOND_US), rng);
        scenario.capture(
            conversation,
            ClientShape::default(),
            Disturbance::default(),
            rng,
        );
    }
}

/// Only these drops, and pieces of streams at the target.
fn pieces(drops: &[DropReason]) -> Expected<'_> {
    Expected {
        streams: Streams::Pieces,
        drops,
    }
}
