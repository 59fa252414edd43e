//! Scenarios drawn from a seed, as those of the raw upstream are.

use tcpcopy_engine::{SocketFailure, Upstream};

use super::harness::{SocketScenario, run};
use super::kernel::{Fortune, KernelConfig};
use crate::check::{Expected, check};
use crate::events::{MILLISECOND_US, SECOND_US};
use crate::generated::{self, REPEAT_EVERY, seeds};
use crate::rng::Rng;
use crate::scenario::Scenario;

#[test]
fn every_stream_arrives_through_sockets_whatever_the_seed() {
    run_seeds(patient);
}

#[test]
fn every_balance_is_zero_with_sockets_whatever_the_seed() {
    run_seeds(impatient);
}

fn run_seeds(generate: impl Fn(u64) -> (SocketScenario, Expected<'static>)) {
    for seed in seeds() {
        let (scenario, expected) = generate(seed);
        println!("{}, SIMULATION_SEED={seed}", scenario.scenario.name);
        let outcome = run(&scenario).outcome;
        println!("finished after {} µs", outcome.finished_us);
        check(&scenario.scenario, &outcome, expected);
        if seed.is_multiple_of(REPEAT_EVERY) {
            let again = run(&scenario).outcome;
            assert_eq!(
                outcome.trace.hash(),
                again.trace.hash(),
                "not the same again"
            );
        }
    }
}

/// A scenario in which everything must arrive.
fn patient(seed: u64) -> (SocketScenario, Expected<'static>) {
    let (scenario, expected) = generated::patient(seed);
    (over_patient_kernel(scenario), expected)
}

/// The same scenario over a kernel that does all it is asked.
pub(crate) fn over_patient_kernel(scenario: Scenario) -> SocketScenario {
    let mut rng = Rng::new(scenario.seed ^ 0x50c_4e75);
    let kernel = draw_patient_kernel(&mut rng);
    with_sockets(scenario, kernel, &mut rng)
}

/// A scenario in which anything may be lost, but nothing silently.
fn impatient(seed: u64) -> (SocketScenario, Expected<'static>) {
    let (scenario, expected) = generated::impatient(seed);
    (over_impatient_kernel(scenario), expected)
}

/// The same scenario over a kernel that may do anything.
pub(crate) fn over_impatient_kernel(scenario: Scenario) -> SocketScenario {
    let mut rng = Rng::new(!scenario.seed ^ 0x50c_4e75);
    let patient = draw_patient_kernel(&mut rng);
    let failures = [
        SocketFailure::Refused,
        SocketFailure::TimedOut,
        SocketFailure::Unreachable,
        SocketFailure::Other,
    ];
    let lasting = (0, u64::MAX, SocketFailure::NoPort);
    let kernel = KernelConfig {
        fortune: match rng.range(0, 10) {
            0 => Fortune::Fails(rng.pick(&failures)),
            1 => Fortune::Silence,
            _ => Fortune::Accepted,
        },
        reset_permille: rng.pick(&[0, 0, 300]),
        deaf_after_fin: rng.permille(200),
        ports: rng.pick(&[28_000, 28_000, 2]),
        stale_permille: rng.pick(&[0, 500]),
        shortages: match rng.range(0, 12) {
            0 => vec![lasting],
            _ => patient.shortages,
        },
        ..patient
    };
    with_sockets(scenario, kernel, &mut rng)
}

fn with_sockets(mut scenario: Scenario, kernel: KernelConfig, rng: &mut Rng) -> SocketScenario {
    scenario.name.push_str(", sockets");
    scenario.engine.upstream = Upstream::Socket;
    scenario.tunnel.clear();
    SocketScenario {
        scenario,
        kernel,
        in_batches: rng.permille(500),
    }
}

/// A kernel that does all it is asked, sooner or later.
fn draw_patient_kernel(rng: &mut Rng) -> KernelConfig {
    let delay_us = rng.pick(&[10, 100, 10 * MILLISECOND_US]);
    let mut shortages = Vec::new();
    let mut at_us = 0;
    for _ in 0..rng.pick(&[0, 0, 1, 3]) {
        at_us += rng.range(0, SECOND_US);
        let until_us = at_us + rng.range(1, 10 * SECOND_US);
        let failure = rng.pick(&[SocketFailure::NoPort, SocketFailure::NoDescriptor]);
        shortages.push((at_us, until_us, failure));
        at_us = until_us;
    }
    KernelConfig {
        delay_us,
        late_ack_us: rng.pick(&[0, 0, 50 * MILLISECOND_US, SECOND_US]),
        send_buffer_bytes: rng.pick(&[1 << 20, 1 << 20, 16_384, 4_000]),
        partial_permille: rng.pick(&[0, 100, 900]),
        piece_bytes: rng.pick(&[1 << 16, 16_384, 1_448, 100]),
        pause_permille: rng.pick(&[0, 0, 50, 500]),
        shortages,
        ..KernelConfig::default()
    }
}
