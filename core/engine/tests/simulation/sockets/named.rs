//! Scenarios with a name, each about one thing that only kernel connections do.

use std::time::Duration;

use tcpcopy_engine::{DropReason, SocketFailure, Upstream};

use super::harness::{SocketOutcome, SocketScenario, run};
use super::kernel::{Fortune, KernelConfig};
use crate::check::{Expected, Streams, check};
use crate::conversation::Ending;
use crate::events::{MILLISECOND_US, MINUTE_US, SECOND_US};
use crate::harness::Outcome;
use crate::mix::Mix;
use crate::named::add_clients;
use crate::rng::Rng;
use crate::scenario::{Family, Scenario, Stop};
use crate::target::{Finish, Reader};

/// Seeds each scenario is run with.
const SEEDS: u64 = 4;

/// The same scenarios as those of the raw upstream, over a plain kernel.
pub(crate) fn simulate_plain(
    name: &str,
    expected: Expected<'_>,
    arrange: impl Fn(&mut Scenario, &mut Rng),
) -> Vec<Outcome> {
    let outcomes = simulate(name, expected, |sockets, rng| {
        arrange(&mut sockets.scenario, rng);
    });
    outcomes.into_iter().map(|it| it.outcome).collect()
}

/// Builds a scenario with `arrange`, runs and checks it for several seeds; returns the outcomes.
fn simulate(
    name: &str,
    expected: Expected<'_>,
    arrange: impl Fn(&mut SocketScenario, &mut Rng),
) -> Vec<SocketOutcome> {
    (0..SEEDS)
        .map(|seed| {
            let mut rng = Rng::new(seed);
            let mut sockets = SocketScenario {
                scenario: Scenario::new(name, seed, Family::V4),
                kernel: KernelConfig::default(),
                in_batches: true,
            };
            sockets.scenario.engine.upstream = Upstream::Socket;
            arrange(&mut sockets, &mut rng);
            println!("{name}, SIMULATION_SEED={seed}");
            let outcome = run(&sockets);
            check(&sockets.scenario, &outcome.outcome, expected);
            outcome
        })
        .collect()
}

/// Nothing but pieces arrives, and `drops` tell why.
fn pieces(drops: &[DropReason]) -> Expected<'_> {
    let streams = Streams::Pieces;
    Expected { streams, drops }
}

/// Clients that send one request at a time and wait for its answer.
fn one_by_one() -> Mix {
    Mix {
        pipelined_permille: 0,
        answered_meanwhile_permille: 0,
        message_bytes: 4_000,
        ..Mix::default()
    }
}

fn dropped_requests(outcome: &SocketOutcome) -> u64 {
    outcome.outcome.ledger.requests.dropped_total()
}

#[test]
fn each_failure_has_its_name() {
    let names = [
        (SocketFailure::Refused, DropReason::TargetRefused),
        (SocketFailure::Reset, DropReason::TargetReset),
        (SocketFailure::TimedOut, DropReason::TargetSilent),
        (SocketFailure::Unreachable, DropReason::TargetUnreachable),
        (SocketFailure::Other, DropReason::SocketFailed),
    ];
    for (failure, reason) in names {
        let outcomes = simulate("failure", pieces(&[reason]), |sockets, rng| {
            sockets.kernel.fortune = Fortune::Fails(failure);
            add_clients(&mut sockets.scenario, &Mix::default(), rng);
        });
        for outcome in outcomes {
            let ledger = outcome.outcome.ledger;
            assert_eq!(ledger.bytes.delivered, 0);
            assert!(ledger.connections.dropped[reason] > 0, "{failure:?}");
            assert_eq!(outcome.kernel.resets, 0, "nothing is left to reset");
        }
    }
}

#[test]
fn a_connect_without_an_answer_ends_at_the_session_timeout() {
    let drops = [DropReason::TargetSilent];
    let outcomes = simulate("silence", pieces(&drops), |sockets, rng| {
        sockets.kernel.fortune = Fortune::Silence;
        sockets.scenario.engine.session_timeout = Duration::from_secs(7);
        add_clients(&mut sockets.scenario, &one_by_one(), rng);
    });
    for outcome in outcomes {
        assert!(dropped_requests(&outcome) > 0);
        assert!(
            outcome.kernel.resets > 0,
            "the kernel must not go on trying"
        );
        assert!(outcome.outcome.finished_us < MINUTE_US);
    }
}

#[test]
fn a_passing_shortage_costs_nothing_but_time() {
    for failure in [SocketFailure::NoPort, SocketFailure::NoDescriptor] {
        let outcomes = simulate("shortage", Expected::ALL, |sockets, rng| {
            let until_us = 20 * SECOND_US;
            sockets.kernel.shortages = vec![(0, until_us, failure)];
            add_clients(&mut sockets.scenario, &Mix::default(), rng);
        });
        for outcome in outcomes {
            let short = outcome.outcome.ledger.upstream.connect_shortages;
            assert!(short > 0);
            assert!(short <= 20 * 20 + 1, "{short} attempts in 20 s");
        }
    }
}

#[test]
fn too_few_ports_are_shared() {
    let mix = one_by_one().ending(Ending::OriginFin);
    let outcomes = simulate("two ports", Expected::ALL, |sockets, rng| {
        sockets.kernel.ports = 2;
        sockets.scenario.engine.idle_timeout = Duration::from_secs(5);
        // The target closes first, or each port would be gone for a minute.
        sockets.scenario.target.finish = Finish::CloseAfter { messages: 1 };
        let mix = Mix {
            turns: 1,
            ..mix.clone()
        };
        add_clients(&mut sockets.scenario, &mix, rng);
    });
    for outcome in outcomes {
        assert_eq!(outcome.kernel.time_waits, 0);
    }
}

#[test]
fn a_lasting_shortage_ends_by_its_name() {
    for (failure, reason) in [
        (SocketFailure::NoPort, DropReason::NoTupleLeft),
        (SocketFailure::NoDescriptor, DropReason::NoDescriptor),
    ] {
        let outcomes = simulate("lasting shortage", pieces(&[reason]), |sockets, rng| {
            sockets.kernel.shortages = vec![(0, u64::MAX, failure)];
            add_clients(&mut sockets.scenario, &Mix::default(), rng);
        });
        for outcome in outcomes {
            assert!(dropped_requests(&outcome) > 0);
            assert_eq!(outcome.outcome.ledger.connections.delivered, 0);
            assert!(outcome.outcome.finished_us < 3 * MINUTE_US);
        }
    }
}

#[test]
fn a_target_that_closes_after_each_answer_gets_every_request() {
    let outcomes = simulate("close after answer", pieces(&[]), |sockets, rng| {
        sockets.scenario.target.finish = Finish::CloseAfter { messages: 1 };
        add_clients(&mut sockets.scenario, &one_by_one(), rng);
    });
    for outcome in outcomes {
        let ledger = outcome.outcome.ledger;
        assert_eq!(ledger.requests.delivered, ledger.requests.captured);
        assert_eq!(
            outcome.outcome.accepted.len() as u64,
            ledger.requests.captured
        );
        assert_eq!(outcome.kernel.time_waits, 0, "the target closed first");
    }
}

#[test]
fn requests_that_wait_when_the_target_closes_go_on_in_another_session() {
    let outcomes = simulate("close while others wait", pieces(&[]), |sockets, rng| {
        sockets.scenario.target.finish = Finish::CloseAfter { messages: 1 };
        // The clients were answered at once, so that their requests queue up here.
        sockets.scenario.target.service_us = SECOND_US;
        add_clients(&mut sockets.scenario, &one_by_one(), rng);
    });
    for outcome in outcomes {
        let ledger = outcome.outcome.ledger;
        assert_eq!(ledger.requests.delivered, ledger.requests.captured);
        assert_eq!(outcome.kernel.attempts, ledger.requests.captured);
    }
}

#[test]
fn the_target_may_close_first_and_keep_the_time_wait() {
    // At the origin the server closed after the answer as well; the capture has the client's FIN
    // right behind it, and the target's may come a little later.
    let mix = Mix {
        turns: 1,
        ..one_by_one().ending(Ending::OriginFin)
    };
    let with_target = |finish| {
        let outcomes = simulate("who closes first", Expected::ALL, |sockets, rng| {
            sockets.kernel.delay_us = 3 * MILLISECOND_US;
            sockets.scenario.target.finish = finish;
            add_clients(&mut sockets.scenario, &mix, rng);
        });
        let time_waits = outcomes.iter().map(|outcome| outcome.kernel.time_waits);
        time_waits.sum::<u64>()
    };
    assert_eq!(with_target(Finish::CloseAfter { messages: 1 }), 0);
    assert!(with_target(Finish::AfterClient) > 0, "somebody must close");
}

#[test]
fn a_slow_target_is_held_by_its_session_and_not_without_bound() {
    const BUDGET_BYTES: u64 = 300_000;
    let drops = [DropReason::MemoryBudget];
    let expected = Expected {
        streams: Streams::Any,
        drops: &drops,
    };
    let mix = Mix {
        message_bytes: 400_000,
        ..one_by_one()
    };
    let outcomes = simulate("slow target", expected, |sockets, rng| {
        sockets.kernel.send_buffer_bytes = 20_000;
        sockets.scenario.engine.memory_budget_bytes = BUDGET_BYTES;
        sockets.scenario.target.receive_buffer_bytes = 10_000;
        sockets.scenario.target.reader = Reader::Slow {
            bytes: 1_000,
            interval_us: 10 * MILLISECOND_US,
        };
        add_clients(&mut sockets.scenario, &mix, rng);
    });
    for outcome in &outcomes {
        assert!(outcome.most_buffered_bytes <= BUDGET_BYTES);
    }
    assert!(outcomes.iter().any(|outcome| dropped_requests(outcome) > 0));
}

#[test]
fn a_target_that_hangs_ends_at_the_session_timeout() {
    let drops = [DropReason::TargetSilent, DropReason::GateTimeout];
    let mix = Mix {
        message_bytes: 100_000,
        ..Mix::default()
    };
    let outcomes = simulate("hanging target", pieces(&drops), |sockets, rng| {
        sockets.scenario.engine.session_timeout = Duration::from_secs(9);
        sockets.scenario.target.receive_buffer_bytes = 2_000;
        sockets.scenario.target.reader = Reader::Pauses {
            after_bytes: 1,
            pause_us: 60 * MINUTE_US,
        };
        add_clients(&mut sockets.scenario, &mix, rng);
    });
    assert!(outcomes.iter().any(|outcome| dropped_requests(outcome) > 0));
    for outcome in outcomes {
        assert!(outcome.outcome.finished_us < 10 * MINUTE_US);
    }
}

#[test]
fn bytes_that_a_closed_target_never_acknowledges_are_not_delivered() {
    let drops = [DropReason::TargetClosed];
    let expected = Expected {
        streams: Streams::Any,
        drops: &drops,
    };
    let mix = one_by_one().ending(Ending::ClientFin);
    let outcomes = simulate("deaf after FIN", expected, |sockets, rng| {
        sockets.kernel.deaf_after_fin = true;
        sockets.kernel.late_ack_us = SECOND_US;
        sockets.scenario.engine.session_timeout = Duration::from_secs(5);
        sockets.scenario.target.finish = Finish::ShutdownAfter { messages: 1 };
        add_clients(&mut sockets.scenario, &mix, rng);
    });
    assert!(outcomes.iter().any(|outcome| dropped_requests(outcome) > 0));
}

#[test]
fn client_and_target_may_be_of_different_families() {
    simulate("families", Expected::ALL, |sockets, rng| {
        let target = Family::V6.target();
        sockets.scenario.target.endpoint = target;
        sockets.scenario.engine.mappings[0].target = target;
        add_clients(&mut sockets.scenario, &Mix::default(), rng);
    });
}

#[test]
fn every_copy_has_a_connection_of_its_own() {
    let outcomes = simulate("copies", Expected::ALL, |sockets, rng| {
        sockets.scenario.engine.copies = 3.0;
        add_clients(&mut sockets.scenario, &Mix::default(), rng);
    });
    for outcome in outcomes {
        let connections = outcome.outcome.ledger.connections.captured;
        assert_eq!(outcome.kernel.attempts, connections);
    }
}

#[test]
fn an_idle_keep_alive_connection_ends_without_a_loss() {
    let mix = Mix {
        turns: 1,
        ..one_by_one().ending(Ending::Open)
    };
    simulate("idle", Expected::ALL, |sockets, rng| {
        sockets.scenario.engine.idle_timeout = Duration::from_secs(20);
        sockets.scenario.stop = Stop::Drain {
            after_us: MINUTE_US,
            deadline_us: MINUTE_US * 10,
        };
        add_clients(&mut sockets.scenario, &mix, rng);
    });
}

#[test]
fn stopping_now_resets_every_connection() {
    let drops = [DropReason::ShutDown];
    let mix = Mix {
        think_us: SECOND_US,
        ..Mix::default()
    };
    let outcomes = simulate("stop now", pieces(&drops), |sockets, rng| {
        sockets.kernel.stale_permille = 1000;
        sockets.scenario.stop = Stop::NowAt { at_us: SECOND_US };
        add_clients(&mut sockets.scenario, &mix, rng);
    });
    for outcome in &outcomes {
        assert!(outcome.kernel.resets > 0);
    }
    for SocketOutcome {
        outcome, kernel, ..
    } in outcomes
    {
        assert!(kernel.stale > 0);
        assert_eq!(outcome.ledger.upstream.stale_replies, kernel.stale);
        assert_eq!(outcome.ledger.upstream.resets_sent, kernel.resets);
    }
}
