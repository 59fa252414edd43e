//! Scenarios drawn from a seed. With patient targets everything must arrive; with others, and with
//! holes, lost tunnels, limits and stops, the ledger must know what did not.
//!
//! `SIMULATION_SEED=n` runs one seed, `SIMULATION_SEEDS=n` that many; `SIMULATION_PORT=p` keeps
//! only one client's segments in the trace of a failure.

use std::ops::Range;
use std::time::Duration;

use tcpcopy_engine::{DropReason, Latency, RateLimit, RttPolicy, Selection, Tuning};

use crate::capture::{Cut, Disturbance};
use crate::check::{Expected, Streams, check};
use crate::conversation::Conversation;
use crate::draw::{draw_impatient_target, draw_link, draw_patient_target, draw_tunnel};
use crate::events::{MILLISECOND_US, Micros, SECOND_US};
use crate::harness::run;
use crate::mix::{Mix, START_WITHIN_US, draw_disturbance, draw_shape};
use crate::rng::Rng;
use crate::scenario::{Control, Family, Scenario, Stop};
use crate::target::TargetConfig;
use crate::trace::variable;

/// Seeds of a plain test run.
const DEFAULT_SEEDS: u64 = 1500;
/// Every so many seeds one is run twice, for equal output.
pub(crate) const REPEAT_EVERY: u64 = 8;

#[test]
fn every_stream_arrives_whatever_the_seed() {
    run_seeds(patient);
}

#[test]
fn every_balance_is_zero_whatever_the_seed() {
    run_seeds(impatient);
}

fn run_seeds(generate: impl Fn(u64) -> (Scenario, Expected<'static>)) {
    for seed in seeds() {
        let (scenario, expected) = generate(seed);
        println!("{}, SIMULATION_SEED={seed}", scenario.name);
        let outcome = run(&scenario);
        println!("finished after {} µs", outcome.finished_us);
        check(&scenario, &outcome, expected);
        if seed.is_multiple_of(REPEAT_EVERY) {
            let again = run(&scenario);
            assert_eq!(
                outcome.trace.hash(),
                again.trace.hash(),
                "not the same again"
            );
        }
    }
}

/// The seeds to run.
pub(crate) fn seeds() -> Range<u64> {
    match variable::<u64>("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SIMULATION_SEEDS").unwrap_or(DEFAULT_SEEDS),
    }
}

/// A scenario in which everything must arrive.
pub(crate) fn patient(seed: u64) -> (Scenario, Expected<'static>) {
    let mut rng = Rng::new(seed);
    let family = if rng.permille(250) {
        Family::V6
    } else {
        Family::V4
    };
    let mut scenario = Scenario::new("patient", seed, family);
    scenario.target = draw_patient_target(TargetConfig::new(family.target()), &mut rng);
    scenario.to_target = draw_link(&mut rng);
    scenario.to_intercept = draw_link(&mut rng);
    scenario.tunnel_delay_us = rng.pick(&[20, 150, 5 * MILLISECOND_US]);
    scenario.engine.mtu = rng.pick(&[1500, 1500, 1500, 1280, 576.max(minimum_mtu(family)), 9000]);
    scenario.engine.wait_for_answers = !rng.permille(100);
    scenario.engine.rtt = if rng.permille(300) {
        RttPolicy::Fixed(Duration::ZERO)
    } else {
        RttPolicy::Captured
    };
    if let Stop::Drain { after_us, .. } = &mut scenario.stop {
        *after_us = rng.pick(&[0, SECOND_US, 30 * SECOND_US]);
    }
    scenario.engine.latency =
        (rng.fork().pick(&[None, None, None, Some(80)])).map(|mean_ms| Latency {
            mean: Duration::from_millis(mean_ms),
            jitter: Duration::from_millis(mean_ms / 4),
        });
    let mix = draw_mix(scenario.target.greeting_bytes, &mut rng);
    for index in 0..rng.range(1, 9) {
        let tuple = family.client(u16::try_from(index).expect("few"));
        let start_us = rng.range(0, START_WITHIN_US);
        let conversation = mix.conversation(tuple, start_us, &mut rng);
        capture(&mut scenario, conversation, &mut rng);
    }
    (scenario, Expected::ALL)
}

/// A scenario in which anything may be lost, but nothing silently.
pub(crate) fn impatient(seed: u64) -> (Scenario, Expected<'static>) {
    let (mut scenario, _) = patient(seed);
    let mut rng = Rng::new(!seed);
    let family = if scenario.target.endpoint.address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    scenario.name = "impatient".to_owned();
    scenario.connections.clear();
    scenario.target = draw_impatient_target(TargetConfig::new(family.target()), &mut rng);
    scenario.tunnel = draw_tunnel(&mut rng);
    let engine = &mut scenario.engine;
    engine.copies = rng.pick(&[1.0, 1.0, 1.0, 3.0]);
    engine.only_complete = rng.permille(100);
    engine.memory_budget_bytes = rng.pick(&[1 << 30, 1 << 30, 100_000]);
    engine.session_timeout = Duration::from_secs(rng.pick(&[600, 30, 3]));
    engine.idle_timeout = Duration::from_secs(rng.pick(&[720, 20]));
    engine.gap_timeout = Duration::from_secs(rng.pick(&[10, 1]));
    if rng.permille(100) {
        engine.selection = Selection::Percent(50.0);
    }
    add_any_clients(&mut scenario, family, &mut rng);
    let last_us = scenario.captured_until_us();
    let is_shaped = rng.fork().permille(300);
    if is_shaped {
        shape_load(&mut scenario, last_us, &mut rng.fork());
    }
    scenario.stop = match rng.range(0, 4) {
        0 => Stop::NowAt {
            at_us: rng.range(0, last_us + SECOND_US),
        },
        1 => Stop::Now {
            after_us: 5 * SECOND_US,
        },
        2 => Stop::Drain {
            after_us: 0,
            deadline_us: last_us + 5 * SECOND_US,
        },
        _ => scenario.stop,
    };
    let streams = match scenario.most_copies() {
        _ if is_shaped => Streams::Messages,
        1 => Streams::Pieces,
        _ => Streams::Any,
    };
    (
        scenario,
        Expected {
            streams,
            drops: &DropReason::ALL[..DropReason::COUNT - 1],
        },
    )
}

/// Everything that shapes the load, and changes of it at any moment.
fn shape_load(scenario: &mut Scenario, last_us: Micros, rng: &mut Rng) {
    let rates = [
        None,
        Some(RateLimit::Connections(3.0)),
        Some(RateLimit::Requests(10.0)),
    ];
    scenario.engine.rate = rng.pick(&rates);
    scenario.engine.copies = rng.pick(&[1.0, 1.5, 2.75]);
    scenario.engine.latency = rng
        .pick(&[None, Some(40), Some(700)])
        .map(|mean_ms| Latency {
            mean: Duration::from_millis(mean_ms),
            jitter: Duration::from_millis(rng.range(0, mean_ms)),
        });
    for _ in 0..rng.range(0, 6) {
        let control = match rng.range(0, 6) {
            0 => Control::Tune(Tuning::Copies(rng.pick(&[1.0, 1.3, 2.0]))),
            1 => Control::Tune(Tuning::Selection(Selection::Ramp {
                duration: Duration::from_secs(3),
            })),
            2 => Control::Tune(Tuning::Rate(rng.pick(&rates))),
            3 => Control::Tune(Tuning::Admission(rng.permille(500))),
            4 => Control::EndRound,
            _ => Control::Tune(Tuning::Pause(rng.permille(500))),
        };
        let at_us = rng.range(0, last_us);
        scenario.controls.push((at_us, control));
    }
}

/// Clients that may do anything, captured by a capture that may miss anything.
fn add_any_clients(scenario: &mut Scenario, family: Family, rng: &mut Rng) {
    let mut mix = draw_mix(scenario.target.greeting_bytes, rng);
    mix.endings = Mix::ALL_ENDINGS.to_vec();
    for index in 0..rng.range(1, 9) {
        // Some share a tuple: their ports are used again.
        let tuple = family.client(u16::try_from(index - index % rng.range(1, 3)).expect("few"));
        let used_until_us = scenario
            .connections
            .iter()
            .filter(|connection| connection.conversation.tuple == tuple)
            .filter_map(|connection| connection.segments.last())
            .map(|last| last.at_us)
            .max();
        let start_us = match used_until_us {
            Some(until_us) => until_us + rng.pick(&[100, SECOND_US, 40 * SECOND_US]),
            None => rng.range(0, START_WITHIN_US),
        };
        let conversation = mix.conversation(tuple, start_us, rng);
        let shape = draw_shape(rng);
        // Without its SYN, a second connection can't be told from a hole in the first.
        let joined = if used_until_us.is_none() {
            rng.pick(&[0, 0, 0, 300])
        } else {
            0
        };
        let disturbance = Disturbance {
            hole_permille: rng.pick(&[0, 0, 20]),
            joined_permille: joined,
            ..draw_disturbance(rng)
        };
        scenario.capture(conversation, shape, disturbance, rng);
    }
}

fn capture(scenario: &mut Scenario, conversation: Conversation, rng: &mut Rng) {
    let mut shape = draw_shape(rng);
    let disturbance = draw_disturbance(rng);
    // One byte a segment is for small streams.
    if conversation.stream_len() > 50_000 && shape.cut == Cut::Anywhere {
        shape.cut = Cut::Mss;
    }
    scenario.capture(conversation, shape, disturbance, rng);
}

fn minimum_mtu(family: Family) -> u16 {
    if family == Family::V6 { 1280 } else { 576 }
}

fn draw_mix(greeting_bytes: u64, rng: &mut Rng) -> Mix {
    let small = Mix {
        greeting_bytes,
        ..Mix::default()
    };
    match rng.range(0, 10) {
        0 => Mix {
            message_bytes: 1 << 20,
            turns: 2,
            ..small
        },
        1 => Mix {
            answer_bytes: 1 << 20,
            turns: 2,
            ..small
        },
        2 => Mix {
            turns: 40,
            message_bytes: 2_000,
            answer_bytes: 4_000,
            ..small
        },
        3 => Mix {
            pipelined_permille: 900,
            ..small
        },
        4 => Mix {
            think_us: 8 * SECOND_US,
            ..small
        },
        _ => small,
    }
}
