//! Large bodies.

use super::simulate;
use crate::capture::{ClientShape, Cut, Disturbance};
use crate::check::Expected;
use crate::conversation::{AnswerClass, Ending, Message, Turn};
use crate::link::LinkConfig;
use crate::mix::Mix;
use crate::rng::Rng;
use crate::scenario::{Family, Scenario, Stop};

/// Answer classes of 1 byte, 8 MiB and 64 MiB.
const ONE_BYTE: AnswerClass = 1;
const MIB_8: AnswerClass = 10;
const MIB_64: AnswerClass = 11;

fn exchange(scenario: &mut Scenario, rng: &mut Rng, messages: &[(u64, AnswerClass)]) {
    let index = u16::try_from(scenario.connections.len()).expect("few");
    let mut conversation = Mix::default().conversation(Family::V4.client(index), 0, rng);
    conversation.turns = messages
        .iter()
        .map(|&(bytes, answer)| Turn {
            messages: vec![Message { bytes, answer }],
            think_us: 1_000,
            answered_meanwhile: false,
        })
        .collect();
    conversation.ending = Ending::ClientFin;
    let shape = ClientShape {
        cut: Cut::Glued,
        ..ClientShape::default()
    };
    scenario.capture(conversation, shape, Disturbance::default(), rng);
}

#[test]
fn bodies_from_one_byte_to_8_mib_both_ways() {
    simulate("bodies", Expected::ALL, |scenario, rng| {
        scenario.links(LinkConfig {
            loss_permille: 5,
            ..LinkConfig::default()
        });
        scenario.target.segmentation_offload = true;
        exchange(
            scenario,
            rng,
            &[
                (1, ONE_BYTE),
                (8 << 20, ONE_BYTE),
                (1, MIB_8),
                (2, ONE_BYTE),
            ],
        );
        exchange(
            scenario,
            rng,
            &[(1, MIB_8), (1 << 20, ONE_BYTE), (1, ONE_BYTE)],
        );
    });
}

#[test]
fn a_body_of_64_mib_up_and_down() {
    let mut rng = Rng::new(64);
    let mut scenario = Scenario::new("64 MiB", 64, Family::V4);
    scenario.target.segmentation_offload = true;
    scenario.target.receive_buffer_bytes = 4 << 20;
    exchange(
        &mut scenario,
        &mut rng,
        &[(64 << 20, MIB_64), (1, ONE_BYTE)],
    );
    if let Stop::Drain { after_us, .. } = &mut scenario.stop {
        *after_us = 0;
    }
    let outcome = crate::harness::run(&scenario);
    crate::check::check(&scenario, &outcome, Expected::ALL);
    assert_eq!(outcome.ledger.bytes.delivered, (64 << 20) + 1);
}
