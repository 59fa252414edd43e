//! Which connections are replayed (`-r`, `-g`).

#[cfg(test)]
mod tests;

use std::hash::BuildHasher;

use foldhash::quality::FixedState;
use tcpcopy_packet::Endpoint;

use crate::{Instant, Selection};

/// How many lots there are: as many as a float tells apart, so that 0 and 100 per cent are exact.
const LOT_COUNT: u64 = 1 << LOT_BITS;
const LOT_BITS: u32 = f64::MANTISSA_DIGITS;

/// From one port's lot to the next one's: 2^64 divided by the golden ratio.
const PORT_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// When so many connections are owed, the bound for lots is doubled; when so many were too many, it
/// is halved.
const OWED_PER_DOUBLING: f64 = 2.0;

/// Where a ramp begins.
const RAMP_START_PERCENT: f64 = 1.0;

/// Decides whether a connection is replayed, once, when it begins.
///
/// Every client endpoint has a lot that never changes, evenly spread; a connection is replayed if
/// its client's lot lies below the share asked for, so that a client that comes back on its port is
/// treated as before, and a larger share adds to a smaller one. Lots come as dice fall, though: so
/// the bound is moved a little by what the connections so far are owed, and the number selected
/// stays within a few of the share, after any number of connections.
#[derive(Clone, Debug)]
pub struct Selector {
    selection: Selection,
    hasher: FixedState,
    started: Option<Instant>,
    /// How many connections fewer were selected than asked for.
    owed: f64,
}

impl Selector {
    /// A selector of which nothing has been asked. Selectors of one `seed` decide alike.
    #[must_use]
    pub fn new(selection: Selection, seed: u64) -> Self {
        Self {
            selection,
            hasher: FixedState::with_seed(seed),
            started: None,
            owed: 0.0,
        }
    }

    /// Selects another share from `now` on, which is when a ramp begins.
    pub fn set(&mut self, selection: Selection, now: Instant) {
        self.selection = selection;
        self.started = Some(now);
        self.owed = 0.0;
    }

    /// Whether the connection of `client` that begins at `now` is replayed. A ramp begins at the
    /// first call.
    pub fn selects(&mut self, client: Endpoint, now: Instant) -> bool {
        let share = self.percent(now) / 100.0;
        if share <= 0.0 || share >= 1.0 {
            return share >= 1.0;
        }
        let bound = share * (self.owed / OWED_PER_DOUBLING).exp2();
        let is_selected = (self.lot(client) as f64) < bound * LOT_COUNT as f64;
        self.owed += share - f64::from(u8::from(is_selected));
        is_selected
    }

    /// The share of the connections that is selected at `now`, in per cent.
    pub fn percent(&mut self, now: Instant) -> f64 {
        match self.selection {
            Selection::All => 100.0,
            Selection::Percent(percent) => percent,
            Selection::Ramp { duration } => {
                let started = *self.started.get_or_insert(now);
                if duration.is_zero() {
                    return 100.0;
                }
                let progress = now.since(started).as_secs_f64() / duration.as_secs_f64();
                (RAMP_START_PERCENT + (100.0 - RAMP_START_PERCENT) * progress).min(100.0)
            }
        }
    }

    /// The endpoint's lot, less than [`LOT_COUNT`].
    ///
    /// A hash of the whole endpoint would spread a few hundred connections only as evenly as dice
    /// do: 10 % of 500 is 37 to 63 of them. Clients take their ports more or less one after the
    /// other, so the address alone is hashed, and the ports of an address are spread from there by
    /// steps of the golden ratio, which fill the circle evenly from the first few on.
    fn lot(&self, client: Endpoint) -> u64 {
        let address = self.hasher.hash_one(client.address);
        let spread = address.wrapping_add(PORT_STEP.wrapping_mul(u64::from(client.port)));
        spread >> (u64::BITS - LOT_BITS)
    }
}
