//! Scenarios drawn from a seed: any client, any link, any patient target. Everything must arrive.
//!
//! `SIMULATION_SEED=n` runs one seed, `SIMULATION_SEEDS=n` that many; `SIMULATION_PORT=p` keeps
//! only one client's segments in the trace of a failure.

use tcpcopy_engine::RttPolicy;

use crate::capture::{Cut, Disturbance};
use crate::check::{Expected, check};
use crate::conversation::Conversation;
use crate::events::{MILLISECOND_US, SECOND_US};
use crate::harness::run;
use crate::link::LinkConfig;
use crate::mix::{Mix, START_WITHIN_US, draw_disturbance, draw_shape};
use crate::rng::Rng;
use crate::scenario::{Family, Scenario, Stop};
use crate::target::{Finish, Listening, Reader, TargetConfig};

/// Seeds of a plain test run.
const DEFAULT_SEEDS: u64 = 300;
/// Every so many seeds one is run twice, for equal output.
const REPEAT_EVERY: u64 = 8;

#[test]
fn every_stream_arrives_whatever_the_seed() {
    let variable = |name: &str| {
        std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"))
    };
    let seeds = match variable("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..variable("SIMULATION_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    for seed in seeds {
        let (scenario, expected) = generate(seed);
        let outcome = run(&scenario);
        println!("seed {seed}: finished after {} µs", outcome.finished_us);
        check_seed(seed, || check(&scenario, &outcome, expected));
        if seed.is_multiple_of(REPEAT_EVERY) {
            let again = run(&scenario);
            assert_eq!(outcome.hash, again.hash, "seed {seed}: not the same again");
        }
    }
}

/// Names the seed where a check fails.
fn check_seed(seed: u64, check: impl FnOnce()) {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed: SIMULATION_SEED={}", self.0);
            }
        }
    }
    let _name = Name(seed);
    check();
}

fn generate(seed: u64) -> (Scenario, Expected<'static>) {
    let mut rng = Rng::new(seed);
    let family = if rng.permille(250) { Family::V6 } else { Family::V4 };
    let mut scenario = Scenario::new("generated", seed, family);
    scenario.target = draw_target(TargetConfig::new(family.target()), &mut rng);
    scenario.to_target = draw_link(&mut rng);
    scenario.to_intercept = draw_link(&mut rng);
    scenario.tunnel_delay_us = rng.pick(&[20, 150, 5 * MILLISECOND_US]);
    scenario.engine.mtu = rng.pick(&[1500, 1500, 1500, 1280, 576.max(minimum_mtu(family)), 9000]);
    scenario.engine.wait_for_answers = !rng.permille(100);
    scenario.engine.rtt =
        if rng.permille(300) { RttPolicy::Fixed(std::time::Duration::ZERO) } else { RttPolicy::Captured };
    if let Stop::Drain { after_us, .. } = &mut scenario.stop {
        *after_us = rng.pick(&[0, SECOND_US, 30 * SECOND_US]);
    }
    let mix = draw_mix(scenario.target.greeting_bytes, &mut rng);
    for index in 0..rng.range(1, 9) {
        let tuple = family.client(u16::try_from(index).expect("few"));
        let start_us = rng.range(0, START_WITHIN_US);
        let conversation = mix.conversation(tuple, start_us, &mut rng);
        capture(&mut scenario, conversation, &mut rng);
    }
    (scenario, Expected::ALL)
}

fn capture(scenario: &mut Scenario, conversation: Conversation, rng: &mut Rng) {
    let mut shape = draw_shape(rng);
    let disturbance = draw_disturbance(rng);
    // One byte a segment is for small streams.
    if conversation.stream_len() > 50_000 && shape.cut == Cut::Anywhere {
        shape.cut = Cut::Mss;
    }
    scenario.capture(conversation, shape, Disturbance { ..disturbance }, rng);
}

fn minimum_mtu(family: Family) -> u16 {
    if family == Family::V6 { 1280 } else { 576 }
}

fn draw_mix(greeting_bytes: u64, rng: &mut Rng) -> Mix {
    let small = Mix { greeting_bytes, ..Mix::default() };
    match rng.range(0, 10) {
        0 => Mix { message_bytes: 1 << 20, turns: 2, ..small },
        1 => Mix { answer_bytes: 1 << 20, turns: 2, ..small },
        2 => Mix { turns: 40, message_bytes: 2_000, answer_bytes: 4_000, ..small },
        3 => Mix { pipelined_permille: 900, ..small },
        4 => Mix { think_us: 8 * SECOND_US, ..small },
        _ => small,
    }
}

fn draw_link(rng: &mut Rng) -> LinkConfig {
    let delay_us = rng.pick(&[50, 500, 10 * MILLISECOND_US]);
    LinkConfig {
        delay_us,
        jitter_us: rng.pick(&[0, delay_us / 2]),
        reorder_permille: rng.pick(&[0, 0, 20, 200]),
        loss_permille: rng.pick(&[0, 0, 10, 50]),
        duplicate_permille: rng.pick(&[0, 0, 10, 100]),
    }
}

fn draw_target(plain: TargetConfig, rng: &mut Rng) -> TargetConfig {
    let slow = Reader::Slow { bytes: rng.range(500, 20_000), interval_us: 10 * MILLISECOND_US };
    let pauses = Reader::Pauses { after_bytes: rng.range(0, 100_000), pause_us: 20 * SECOND_US };
    let late = Finish::LateData { delay_us: 300 * MILLISECOND_US, bytes: rng.range(1, 30_000) };
    TargetConfig {
        listening: Listening::Accepts { delay_us: rng.pick(&[0, 0, 0, 1_500 * MILLISECOND_US]) },
        mss: rng.pick(&[plain.mss, plain.mss, 536, 8940]),
        window_scale: rng.pick(&[Some(7), Some(2), Some(0), None]),
        sack: !rng.permille(300),
        timestamps: !rng.permille(300),
        receive_buffer_bytes: rng.pick(&[256 << 10, 256 << 10, 64 << 10, 20_000, 3_000]),
        delayed_ack_us: rng.pick(&[0, 40 * MILLISECOND_US, 200 * MILLISECOND_US]),
        segmentation_offload: rng.permille(400),
        keepalive_us: rng.pick(&[None, Some(SECOND_US)]),
        greeting_bytes: rng.pick(&[0, 0, 0, 90]),
        service_us: rng.pick(&[0, 200, 20 * MILLISECOND_US]),
        answer_percent: rng.pick(&[100, 100, 60, 150]),
        reader: rng.pick(&[Reader::Fast, Reader::Fast, Reader::Fast, slow, pauses]),
        finish: rng.pick(&[Finish::AfterClient, Finish::AfterClient, Finish::AfterClient, late]),
        ..plain
    }
}
