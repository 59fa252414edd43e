//! A network between two nodes: delay, jitter, reordering, loss, duplication.

use crate::events::Micros;
use crate::rng::Rng;

/// How a link treats packets; the default is a perfect link of 100 µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) delay_us: Micros,
    /// Up to this much more delay, packets staying in order.
    pub(crate) jitter_us: Micros,
    /// Packets of a thousand that are overtaken.
    pub(crate) reorder_permille: u32,
    pub(crate) loss_permille: u32,
    pub(crate) duplicate_permille: u32,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay_us: 100,
            jitter_us: 0,
            reorder_permille: 0,
            loss_permille: 0,
            duplicate_permille: 0,
        }
    }
}

/// One direction of a network.
#[derive(Debug)]
pub(crate) struct Link {
    config: LinkConfig,
    rng: Rng,
    last_arrival_us: Micros,
    pub(crate) lost: u64,
}

impl Link {
    /// Most packets that may overtake a reordered one, in link delays.
    const REORDER_DELAYS: u64 = 4;

    pub(crate) fn new(config: LinkConfig, rng: Rng) -> Self {
        Self {
            config,
            rng,
            last_arrival_us: 0,
            lost: 0,
        }
    }

    /// When the packet that enters now arrives: not at all, once or twice.
    pub(crate) fn carry(&mut self, now_us: Micros) -> impl Iterator<Item = Micros> {
        let lost = self.rng.permille(self.config.loss_permille);
        self.lost += u64::from(lost);
        let first = (!lost).then(|| self.arrival(now_us));
        let twin = (!lost && self.rng.permille(self.config.duplicate_permille))
            .then(|| self.arrival(now_us));
        first.into_iter().chain(twin)
    }

    fn arrival(&mut self, now_us: Micros) -> Micros {
        let config = self.config;
        let arrival = now_us + config.delay_us + self.rng.range(0, config.jitter_us + 1);
        if self.rng.permille(config.reorder_permille) {
            return arrival
                + self
                    .rng
                    .range(1, config.delay_us * Self::REORDER_DELAYS + 2);
        }
        self.last_arrival_us = self.last_arrival_us.max(arrival);
        self.last_arrival_us
    }
}
