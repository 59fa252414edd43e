//! Kinds of targets.

use tcpcopy_engine::DropReason;

use super::{add_clients, add_shaped_clients, delivered_percent, simulate};
use crate::capture::{ClientShape, Disturbance};
use crate::check::{Expected, Streams};
use crate::conversation::Ending;
use crate::events::{MILLISECOND_US, MINUTE_US, SECOND_US};
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::target::{End, Finish, Listening, Reader, TargetConfig};

/// A target that behaves as `config` changes it, in a network with a little loss: all arrives.
fn patient(name: &str, mix: &Mix, config: impl Fn(&mut TargetConfig)) {
    for loss_permille in [0, 20] {
        simulate(name, Expected::ALL, |scenario, rng| {
            scenario.links(LinkConfig {
                loss_permille,
                ..LinkConfig::default()
            });
            config(&mut scenario.target);
            let mix = Mix {
                greeting_bytes: scenario.target.greeting_bytes,
                ..mix.clone()
            };
            add_clients(scenario, &mix, rng);
        });
    }
}

/// A target that cuts connections short, so that only pieces arrive and `drops` tell why.
fn impatient(name: &str, drops: &[DropReason], config: impl Fn(&mut TargetConfig)) {
    let expected = Expected {
        streams: Streams::Pieces,
        drops,
    };
    let outcomes = simulate(name, expected, |scenario, rng| {
        config(&mut scenario.target);
        add_clients(scenario, &Mix::default(), rng);
    });
    println!("{name}: {} % delivered", delivered_percent(&outcomes));
}

#[test]
fn small_windows() {
    patient("small windows", &Mix::default(), |target| {
        target.receive_buffer_bytes = 1_000;
        target.window_scale = None;
    });
}

#[test]
fn a_zero_window_for_a_while() {
    patient(
        "zero window",
        &Mix {
            message_bytes: 200_000,
            ..Mix::default()
        },
        |target| {
            target.receive_buffer_bytes = 20_000;
            target.reader = Reader::Pauses {
                after_bytes: 3_000,
                pause_us: MINUTE_US,
            };
        },
    );
}

#[test]
fn a_slow_reader() {
    patient(
        "slow reader",
        &Mix {
            message_bytes: 200_000,
            ..Mix::default()
        },
        |target| {
            target.receive_buffer_bytes = 10_000;
            target.reader = Reader::Slow {
                bytes: 1_000,
                interval_us: 5 * MILLISECOND_US,
            };
        },
    );
}

#[test]
fn a_delayed_syn_ack() {
    patient("delayed SYN-ACK", &Mix::default(), |target| {
        target.listening = Listening::Accepts {
            delay_us: 4 * SECOND_US,
        };
    });
}

#[test]
fn keep_alive_probes_are_answered() {
    let mix = Mix {
        think_us: 40 * SECOND_US,
        ..Mix::default()
    };
    patient("keep-alive probes", &mix, |target| {
        target.keepalive_us = Some(2 * SECOND_US)
    });
}

#[test]
fn late_data_after_the_clients_fin() {
    patient("late data", &Mix::default(), |target| {
        target.finish = Finish::LateData {
            delay_us: 5 * SECOND_US,
            bytes: 100_000,
        };
    });
}

#[test]
fn the_server_speaks_first() {
    patient("greeting", &Mix::default(), |target| {
        target.greeting_bytes = 120;
        target.service_us = 30 * MILLISECOND_US;
    });
}

#[test]
fn answers_of_other_lengths() {
    patient("shorter answers", &Mix::default(), |target| {
        target.answer_percent = 10
    });
    patient("longer answers", &Mix::default(), |target| {
        target.answer_percent = 300
    });
}

#[test]
fn a_slow_service() {
    patient("slow service", &Mix::default(), |target| {
        target.service_us = 2 * SECOND_US
    });
}

#[test]
fn super_segments_of_the_target() {
    patient(
        "offload",
        &Mix {
            answer_bytes: 1 << 20,
            ..Mix::default()
        },
        |target| {
            target.segmentation_offload = true;
        },
    );
}

#[test]
fn a_bare_target_without_options() {
    patient("no options", &Mix::default(), |target| {
        target.window_scale = None;
        target.sack = false;
        target.timestamps = false;
        target.mss = 536;
    });
}

#[test]
fn a_half_closing_target_still_reads() {
    let mix = Mix::default().ending(Ending::ClientFin);
    simulate(
        "half-closing target",
        Expected {
            streams: Streams::Pieces,
            drops: &[DropReason::TargetClosed],
        },
        |scenario, rng| {
            scenario.target.finish = Finish::ShutdownAfter { messages: 2 };
            add_clients(scenario, &mix, rng);
        },
    );
}

#[test]
fn an_early_fin() {
    let drops = [DropReason::TargetClosed, DropReason::TargetReset];
    impatient("early FIN", &drops, |target| {
        target.finish = Finish::CloseAfter { messages: 2 }
    });
}

#[test]
fn a_reset_in_the_middle() {
    impatient("reset", &[DropReason::TargetReset], |target| {
        target.finish = Finish::ResetAfter { bytes: 3_000 };
    });
}

#[test]
fn a_refusing_target() {
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &[DropReason::TargetRefused],
    };
    let outcomes = simulate("refused", expected, |scenario, rng| {
        scenario.target.listening = Listening::Refuses;
        add_clients(scenario, &Mix::default(), rng);
    });
    assert_eq!(delivered_percent(&outcomes), 0);
}

#[test]
fn a_silent_target() {
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &[DropReason::TargetSilent],
    };
    let outcomes = simulate("silent", expected, |scenario, rng| {
        scenario.target.listening = Listening::Silent;
        add_clients(scenario, &Mix::default(), rng);
    });
    assert_eq!(delivered_percent(&outcomes), 0);
}

#[test]
fn a_target_that_closes_idle_connections() {
    let mix = Mix {
        think_us: 30 * SECOND_US,
        turns: 10,
        ..Mix::default()
    };
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &[DropReason::TargetClosed],
    };
    let outcomes = simulate("idle close", expected, |scenario, rng| {
        scenario.target.finish = Finish::CloseIdle {
            idle_us: 10 * SECOND_US,
        };
        add_clients(scenario, &mix, rng);
    });
    println!("{} % delivered", delivered_percent(&outcomes));
}

#[test]
fn no_keep_alive_connection_is_given_up() {
    let mix = Mix {
        think_us: 100 * SECOND_US,
        turns: 4,
        ..Mix::default()
    };
    let outcomes = simulate("idle keep-alive", Expected::ALL, |scenario, rng| {
        scenario.target.keepalive_us = Some(5 * SECOND_US);
        let shape = ClientShape {
            keepalive: true,
            ..ClientShape::default()
        };
        add_shaped_clients(scenario, &mix, shape, Disturbance::default(), rng);
    });
    for accepted in outcomes.iter().flat_map(|outcome| &outcome.accepted) {
        assert_ne!(accepted.end, Some(End::KeepaliveUnanswered));
    }
}
