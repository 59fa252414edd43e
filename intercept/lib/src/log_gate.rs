//! A limit on what strangers can write into the log.

use std::time::{Duration, Instant};

/// Shortest time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets one log line of its kind through a minute and counts those held back.
#[derive(Debug, Default)]
pub struct LogGate {
    opened_at: Option<Instant>,
    held_back: u64,
}

impl LogGate {
    /// Asks to log at `now`: the answer is the number of lines held back since the last one that
    /// passed, or `None` when this one is held back too.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self
            .opened_at
            .is_some_and(|opened| now.duration_since(opened) < INTERVAL)
        {
            self.held_back += 1;
            return None;
        }
        self.opened_at = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_one_line_a_minute_and_counts_the_rest() {
        let start = Instant::now();
        let mut gate = LogGate::default();
        assert_eq!(gate.pass(start), Some(0));
        assert_eq!(gate.pass(start + Duration::from_secs(1)), None);
        assert_eq!(gate.pass(start + Duration::from_secs(59)), None);
        assert_eq!(gate.pass(start + INTERVAL), Some(2));
        assert_eq!(gate.pass(start + 2 * INTERVAL), Some(0));
    }
}
