//! Clients and captures of them.

use tcpcopy_engine::DropReason;

use super::{add_clients, add_shaped_clients, delivered_percent, simulate};
use crate::capture::{ClientShape, Cut, Disturbance};
use crate::check::{Expected, Streams};
use crate::conversation::{Ending, Message, Turn, UNANSWERED};
use crate::events::{MILLISECOND_US, SECOND_US};
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::scenario::{Family, Stop};

/// Clients of one shape, with one kind of trouble: all arrives.
fn captured(name: &str, mix: &Mix, shape: ClientShape, disturbance: Disturbance) {
    for origin_visible in [false, true] {
        let shape = ClientShape {
            origin_visible,
            ..shape
        };
        simulate(name, Expected::ALL, |scenario, rng| {
            add_shaped_clients(scenario, mix, shape, disturbance, rng);
        });
    }
}

#[test]
fn super_segments_of_64_kib() {
    let mix = Mix {
        message_bytes: 1 << 20,
        ..Mix::default()
    };
    let shape = ClientShape {
        cut: Cut::Glued,
        ..ClientShape::default()
    };
    captured("GRO", &mix, shape, Disturbance::default());
}

#[test]
fn segments_of_any_size() {
    let mix = Mix {
        message_bytes: 5_000,
        ..Mix::default()
    };
    let shape = ClientShape {
        cut: Cut::Anywhere,
        ..ClientShape::default()
    };
    captured("any size", &mix, shape, Disturbance::default());
}

#[test]
fn retransmitted_overlapping_reordered_duplicated() {
    let disturbance = Disturbance {
        late_permille: 100,
        swapped_permille: 200,
        duplicate_permille: 200,
        overlap_permille: 200,
        ..Disturbance::default()
    };
    captured(
        "disturbed",
        &Mix::default(),
        ClientShape::default(),
        disturbance,
    );
    let shape = ClientShape {
        cut: Cut::Glued,
        ..ClientShape::default()
    };
    captured("disturbed GRO", &Mix::default(), shape, disturbance);
}

#[test]
fn sequence_numbers_wrap() {
    for before in [0, 1, 2, 700, 20_000] {
        let shape = ClientShape {
            client_seq: u32::MAX - before,
            origin_seq: u32::MAX - before / 2,
            ..ClientShape::default()
        };
        captured("wrap", &Mix::default(), shape, Disturbance::default());
    }
}

#[test]
fn acknowledgements_come_with_the_next_request() {
    let shape = ClientShape {
        piggybacked_acks: true,
        ..ClientShape::default()
    };
    captured(
        "piggybacked",
        &Mix::default(),
        shape,
        Disturbance::default(),
    );
}

#[test]
fn simultaneous_close() {
    let mix = Mix::default().ending(Ending::Simultaneous);
    captured(
        "simultaneous close",
        &mix,
        ClientShape::default(),
        Disturbance::default(),
    );
}

#[test]
fn half_close() {
    for ending in [Ending::HalfClose, Ending::FinWithData] {
        let mix = Mix::default().ending(ending);
        captured(
            "half-close",
            &mix,
            ClientShape::default(),
            Disturbance::default(),
        );
    }
}

#[test]
fn pipelined_requests() {
    let mix = Mix {
        pipelined_permille: 1000,
        ..Mix::default()
    };
    captured(
        "pipelined",
        &mix,
        ClientShape::default(),
        Disturbance::default(),
    );
}

#[test]
fn uploads_while_the_origin_answers() {
    let mix = Mix {
        answered_meanwhile_permille: 1000,
        ..Mix::default()
    };
    captured(
        "answered meanwhile",
        &mix,
        ClientShape::default(),
        Disturbance::default(),
    );
}

#[test]
fn an_answer_seen_between_parts_of_an_upload() {
    // A question, then an upload whose first part leaves before the answer, the rest after it.
    let message = |bytes, answer| Message { bytes, answer };
    let turn = Turn {
        messages: vec![
            message(100, 3),
            message(5_000, UNANSWERED),
            message(5_000, UNANSWERED),
            message(5_000, 3),
        ],
        think_us: 0,
        answered_meanwhile: true,
    };
    simulate("upload in parts", Expected::ALL, |scenario, rng| {
        let mut conversation = Mix::default().conversation(Family::V4.client(0), 0, rng);
        conversation.turns = vec![turn.clone(), turn.clone()];
        conversation.ending = Ending::ClientFin;
        scenario.capture(
            conversation,
            ClientShape::default(),
            Disturbance::default(),
            rng,
        );
    });
}

#[test]
fn clients_that_reset_in_the_end() {
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &[DropReason::ClientReset],
    };
    for ending in [Ending::Reset, Ending::Abort] {
        let outcomes = simulate("client reset", expected, |scenario, rng| {
            add_clients(scenario, &Mix::default().ending(ending), rng);
        });
        assert_eq!(
            delivered_percent(&outcomes),
            100,
            "{ending:?} on a clean network"
        );
    }
}

#[test]
fn resets_over_a_lossy_network() {
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &[DropReason::ClientReset],
    };
    for ending in [Ending::Reset, Ending::Abort] {
        let outcomes = simulate("client reset, loss", expected, |scenario, rng| {
            scenario.links(LinkConfig {
                loss_permille: 50,
                ..LinkConfig::default()
            });
            add_clients(scenario, &Mix::default().ending(ending), rng);
        });
        assert_eq!(delivered_percent(&outcomes), 100, "{ending:?}");
        for outcome in outcomes {
            assert_eq!(outcome.target.bad_resets, 0, "resets outside the window");
        }
    }
}

#[test]
fn connections_that_stay_open() {
    simulate("open", Expected::ALL, |scenario, rng| {
        scenario.links(LinkConfig {
            loss_permille: 30,
            ..LinkConfig::default()
        });
        add_clients(scenario, &Mix::default().ending(Ending::Open), rng);
    });
}

#[test]
fn holes_in_the_capture() {
    let disturbance = Disturbance {
        hole_permille: 30,
        ..Disturbance::default()
    };
    for origin_visible in [false, true] {
        let shape = ClientShape {
            origin_visible,
            ..ClientShape::default()
        };
        let expected = Expected {
            streams: Streams::Pieces,
            drops: &[DropReason::CaptureGap, DropReason::JoinedLate],
        };
        let outcomes = simulate("holes", expected, |scenario, rng| {
            let mix = Mix {
                turns: 20,
                think_us: 4 * SECOND_US,
                ..Mix::default()
            };
            add_shaped_clients(scenario, &mix, shape, disturbance, rng);
            // Longer than a hole may be open, so that none is still waited for.
            let deadline_us = scenario.limit_us;
            scenario.stop = Stop::Drain {
                after_us: 20 * SECOND_US,
                deadline_us,
            };
        });
        let gaps: u64 = outcomes
            .iter()
            .map(|outcome| outcome.ledger.bytes.dropped[DropReason::CaptureGap])
            .sum();
        assert!(gaps > 0, "some bytes behind a hole are lost");
        assert!(
            delivered_percent(&outcomes) > 30,
            "{} %",
            delivered_percent(&outcomes)
        );
    }
}

#[test]
fn connections_joined_late() {
    for joined_permille in [100, 500, 900] {
        let disturbance = Disturbance {
            joined_permille,
            ..Disturbance::default()
        };
        let drops = [DropReason::JoinedLate];
        let expected = Expected {
            streams: Streams::Pieces,
            drops: &drops,
        };
        let outcomes = simulate("joined late", expected, |scenario, rng| {
            let mix = Mix {
                turns: 30,
                message_bytes: 20_000,
                ..Mix::default()
            };
            add_shaped_clients(scenario, &mix, ClientShape::default(), disturbance, rng);
        });
        println!(
            "joined at {joined_permille}: {} % delivered",
            delivered_percent(&outcomes)
        );
        assert!(delivered_percent(&outcomes) > 0);
    }
}

#[test]
fn a_joined_connection_loses_at_most_two_turns() {
    let disturbance = Disturbance {
        joined_permille: 500,
        ..Disturbance::default()
    };
    let drops = [DropReason::JoinedLate];
    let expected = Expected {
        streams: Streams::Pieces,
        drops: &drops,
    };
    let outcomes = simulate("joined late, even turns", expected, |scenario, rng| {
        let mut conversation = Mix::default().conversation(Family::V4.client(0), 0, rng);
        let messages = vec![Message {
            bytes: 1_000,
            answer: 3,
        }];
        let turn = Turn {
            messages,
            think_us: 10 * MILLISECOND_US,
            answered_meanwhile: false,
        };
        conversation.turns = vec![turn; 100];
        conversation.ending = Ending::ClientFin;
        scenario.capture(conversation, ClientShape::default(), disturbance, rng);
    });
    for outcome in outcomes {
        let received: usize = outcome
            .accepted
            .iter()
            .map(|accepted| accepted.stream.len())
            .sum();
        assert!(
            received >= 47_000,
            "{received} bytes of about 50 turns of 1000"
        );
    }
}

/// Two connections of one tuple; the second begins so long after the last segment of the first.
fn reuse(name: &str, first: Ending, after_us: u64, expected: Expected<'_>) {
    simulate(name, expected, |scenario, rng| {
        let tuple = Family::V4.client(0);
        let conversation = Mix::default().ending(first).conversation(tuple, 0, rng);
        scenario.capture(
            conversation,
            ClientShape::default(),
            Disturbance::default(),
            rng,
        );
        let start_us = scenario.captured_until_us() + after_us;
        let again = Mix::default()
            .ending(Ending::ClientFin)
            .conversation(tuple, start_us, rng);
        let shape = ClientShape {
            client_seq: 77_000_000,
            ..ClientShape::default()
        };
        scenario.capture(again, shape, Disturbance::default(), rng);
    });
}

#[test]
fn a_port_is_used_again_after_the_close() {
    for ending in [Ending::ClientFin, Ending::OriginFin, Ending::Simultaneous] {
        for after_us in [100, SECOND_US, 70 * SECOND_US] {
            reuse("port reuse", ending, after_us, Expected::ALL);
        }
    }
}

#[test]
fn a_port_is_used_again_without_a_close() {
    let drops = [DropReason::PortReused];
    for after_us in [100, 10 * SECOND_US] {
        let expected = Expected {
            streams: Streams::Pieces,
            drops: &drops,
        };
        reuse("port reuse, still open", Ending::Open, after_us, expected);
    }
}
