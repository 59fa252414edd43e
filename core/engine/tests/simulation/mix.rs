//! Draws conversations: how many turns, how large, how they end.

use tcpcopy_packet::FourTuple;

use crate::capture::{ClientShape, Cut, Disturbance};
use crate::conversation::{
    ANSWER_BYTES, AnswerClass, Conversation, Ending, Message, Turn, UNANSWERED,
};
use crate::events::{MILLISECOND_US, Micros, SECOND_US};
use crate::rng::Rng;

/// The bounds that conversations are drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    pub(crate) turns: u64,
    /// Most bytes of a message; most messages are much smaller.
    pub(crate) message_bytes: u64,
    /// Answers up to this many bytes.
    pub(crate) answer_bytes: u64,
    /// Turns in a thousand of several messages at once.
    pub(crate) pipelined_permille: u32,
    /// Turns in a thousand that are answered while the client still sends.
    pub(crate) answered_meanwhile_permille: u32,
    pub(crate) greeting_bytes: u64,
    pub(crate) think_us: Micros,
    pub(crate) endings: Vec<Ending>,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            turns: 6,
            message_bytes: 40_000,
            answer_bytes: 70_000,
            pipelined_permille: 200,
            answered_meanwhile_permille: 50,
            greeting_bytes: 0,
            think_us: 50 * MILLISECOND_US,
            endings: vec![
                Ending::ClientFin,
                Ending::FinWithData,
                Ending::HalfClose,
                Ending::OriginFin,
                Ending::Simultaneous,
            ],
        }
    }
}

impl Mix {
    /// Every ending there is.
    pub(crate) const ALL_ENDINGS: [Ending; 8] = [
        Ending::ClientFin,
        Ending::FinWithData,
        Ending::HalfClose,
        Ending::OriginFin,
        Ending::Simultaneous,
        Ending::Reset,
        Ending::Abort,
        Ending::Open,
    ];

    /// Only this ending.
    pub(crate) fn ending(mut self, ending: Ending) -> Self {
        self.endings = vec![ending];
        self
    }

    pub(crate) fn conversation(
        &self,
        tuple: FourTuple,
        start_us: Micros,
        rng: &mut Rng,
    ) -> Conversation {
        let turns = rng.range(1, self.turns + 1);
        Conversation {
            tuple,
            start_us,
            key: rng.next(),
            greeting_bytes: self.greeting_bytes,
            turns: (0..turns).map(|_| self.turn(rng)).collect(),
            ending: rng.pick(&self.endings),
        }
    }

    fn turn(&self, rng: &mut Rng) -> Turn {
        let several = rng.permille(self.pipelined_permille);
        let answered_meanwhile = rng.permille(self.answered_meanwhile_permille);
        let count = if several || answered_meanwhile {
            rng.range(2, 8)
        } else {
            1
        };
        let mut messages: Vec<Message> = (0..count).map(|_| self.message(rng)).collect();
        // An upload in parts: only the last is answered.
        if several && !answered_meanwhile && rng.permille(300) {
            let last = messages.len() - 1;
            messages[..last]
                .iter_mut()
                .for_each(|message| message.answer = UNANSWERED);
        }
        Turn {
            messages,
            think_us: rng.range(0, self.think_us + 1),
            answered_meanwhile,
        }
    }

    fn message(&self, rng: &mut Rng) -> Message {
        // Evenly over the orders of magnitude, so that one byte is as common as the largest.
        let magnitude = rng.range(0, u64::from(self.message_bytes.ilog2()) + 1);
        let bytes = rng
            .range(1 << magnitude, 2 << magnitude)
            .min(self.message_bytes);
        Message {
            bytes,
            answer: self.answer(rng),
        }
    }

    fn answer(&self, rng: &mut Rng) -> AnswerClass {
        let fitting = ANSWER_BYTES
            .iter()
            .filter(|bytes| **bytes <= self.answer_bytes)
            .count();
        let class = rng.range(1, u64::try_from(fitting).expect("few"));
        AnswerClass::try_from(class).expect("few")
    }
}

/// Draws what the client's TCP is like.
pub(crate) fn draw_shape(rng: &mut Rng) -> ClientShape {
    ClientShape {
        client_seq: draw_initial_seq(rng),
        origin_seq: draw_initial_seq(rng),
        round_trip_us: rng.range(200, 80 * MILLISECOND_US),
        mss: rng.pick(&[1460, 1460, 1400, 536, 8960]),
        window_scale: rng.pick(&[Some(7), Some(0), Some(14), None]),
        sack: !rng.permille(250),
        timestamps: !rng.permille(300),
        cut: rng.pick(&[Cut::Mss, Cut::Glued, Cut::Glued, Cut::Anywhere]),
        piggybacked_acks: rng.permille(300),
        keepalive: rng.permille(200),
        origin_visible: rng.permille(250),
    }
}

/// An initial sequence number; every third wraps within the first bytes.
fn draw_initial_seq(rng: &mut Rng) -> u32 {
    let seq = rng.next_u32();
    if rng.permille(333) {
        u32::MAX - seq % 5_000
    } else {
        seq
    }
}

/// Draws harmless trouble: everything arrives, but neither in order nor only once.
pub(crate) fn draw_disturbance(rng: &mut Rng) -> Disturbance {
    if rng.permille(400) {
        return Disturbance::default();
    }
    Disturbance {
        late_permille: rng.pick(&[0, 10, 60]),
        swapped_permille: rng.pick(&[0, 20, 200]),
        duplicate_permille: rng.pick(&[0, 20, 200]),
        overlap_permille: rng.pick(&[0, 20, 200]),
        ..Disturbance::default()
    }
}

/// When the connections of a scenario begin: all within this.
pub(crate) const START_WITHIN_US: Micros = SECOND_US;
