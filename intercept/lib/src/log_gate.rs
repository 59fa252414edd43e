//! A limit on what strangers can write into the log.

use std::time::{Duration, Instant};

/// Time in which so many lines of one kind pass.
const INTERVAL: Duration = Duration::from_secs(60);

/// Lets one log line of its kind through a minute, or as many as asked for, and counts those held
/// back.
#[derive(Debug, Default)]
pub struct LogGate {
    /// Lines that may follow the first one.
    more: u32,
    more_left: u32,
    opened_at: Option<Instant>,
    held_back: u64,
}

impl LogGate {
    /// A gate for `lines` lines a minute; 0 is 1.
    #[must_use]
    pub const fn allowing(lines: u32) -> Self {
        Self {
            more: lines.saturating_sub(1),
            more_left: 0,
            opened_at: None,
            held_back: 0,
        }
    }

    /// Asks to log at `now`: the answer is the number of lines held back since the last one that
    /// passed, or `None` when this one is held back too.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self
            .opened_at
            .is_some_and(|opened| now.duration_since(opened) < INTERVAL)
        {
            if self.more_left == 0 {
                self.held_back += 1;
                return None;
            }
            self.more_left -= 1;
        } else {
            self.opened_at = Some(now);
            self.more_left = self.more;
        }
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

    #[test]
    fn passes_as_many_lines_as_asked_for() {
        let start = Instant::now();
        let mut gate = LogGate::allowing(2);
        for _ in 0..2 {
            assert_eq!(gate.pass(start), Some(0));
            assert_eq!(gate.pass(start), Some(0));
            assert_eq!(gate.pass(start), None);
            gate = LogGate::allowing(2);
        }
        gate.pass(start);
        gate.pass(start);
        gate.pass(start);
        assert_eq!(gate.pass(start + INTERVAL), Some(1));
        assert_eq!(gate.pass(start + INTERVAL), Some(0));
    }
}
