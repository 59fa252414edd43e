//! Draws links and targets.

use crate::events::{MILLISECOND_US, Micros, SECOND_US};
use crate::link::LinkConfig;
use crate::rng::Rng;
use crate::scenario::TunnelChange;
use crate::target::{Finish, Listening, Reader, TargetConfig};

/// A link that may do anything but lose everything.
pub(crate) fn draw_link(rng: &mut Rng) -> LinkConfig {
    let delay_us = rng.pick(&[50, 500, 10 * MILLISECOND_US]);
    LinkConfig {
        delay_us,
        jitter_us: rng.pick(&[0, delay_us / 2]),
        reorder_permille: rng.pick(&[0, 0, 20, 200]),
        loss_permille: rng.pick(&[0, 0, 10, 50]),
        duplicate_permille: rng.pick(&[0, 0, 10, 100]),
    }
}

/// A target that is patient, whatever else it is.
pub(crate) fn draw_patient_target(plain: TargetConfig, rng: &mut Rng) -> TargetConfig {
    let slow = Reader::Slow {
        bytes: rng.range(500, 20_000),
        interval_us: 10 * MILLISECOND_US,
    };
    let pauses = Reader::Pauses {
        after_bytes: rng.range(0, 100_000),
        pause_us: 20 * SECOND_US,
    };
    let late = Finish::LateData {
        delay_us: 300 * MILLISECOND_US,
        bytes: rng.range(1, 30_000),
    };
    TargetConfig {
        listening: Listening::Accepts {
            delay_us: rng.pick(&[0, 0, 0, 1_500 * MILLISECOND_US]),
        },
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
        finish: rng.pick(&[
            Finish::AfterClient,
            Finish::AfterClient,
            Finish::AfterClient,
            late,
        ]),
        ..plain
    }
}

/// A target that may do anything.
pub(crate) fn draw_impatient_target(plain: TargetConfig, rng: &mut Rng) -> TargetConfig {
    let patient = draw_patient_target(plain, rng);
    let messages = rng.range(0, 8);
    TargetConfig {
        listening: match rng.range(0, 12) {
            0 => Listening::Refuses,
            1 => Listening::Silent,
            _ => patient.listening,
        },
        finish: match rng.range(0, 6) {
            0 => Finish::CloseAfter { messages },
            1 => Finish::ShutdownAfter { messages },
            2 => Finish::ResetAfter {
                bytes: rng.range(0, 50_000),
            },
            3 => Finish::CloseIdle {
                idle_us: rng.pick(&[30 * MILLISECOND_US, 10 * SECOND_US]),
            },
            _ => patient.finish,
        },
        ..patient
    }
}

/// A tunnel that goes and comes, or not again.
pub(crate) fn draw_tunnel(rng: &mut Rng) -> Vec<(Micros, TunnelChange)> {
    let mut at_us = rng.pick(&[0, 0, 0, 700 * MILLISECOND_US]);
    let mut changes = vec![(at_us, TunnelChange::Up)];
    for _ in 0..rng.pick(&[0, 0, 1, 3]) {
        at_us += rng.range(1, SECOND_US);
        let down = rng.pick(&[TunnelChange::Down, TunnelChange::DownAndForgotten]);
        changes.push((at_us, down));
        at_us += rng.pick(&[1, MILLISECOND_US, SECOND_US, 70 * SECOND_US]);
        changes.push((at_us, TunnelChange::Up));
    }
    if rng.permille(100) {
        changes.push((at_us + rng.range(1, SECOND_US), TunnelChange::Lost));
    }
    changes
}
