//! The sender's one timer: retransmission, tail loss probe or window probe.

use super::{RangeSet, Sender, TimerKind};
use crate::time::Instant;

impl Sender {
    /// Acts on the timer if it has run out, and says which it was.
    pub(in crate::mirror) fn timeout(&mut self, now: Instant) -> Option<TimerKind> {
        let (kind, at) = self.timer?;
        if at > now {
            return None;
        }
        match kind {
            TimerKind::Probe => {
                self.probe = Some(kind);
                self.timer = Some((TimerKind::Retransmit, now + self.rtt.rto()));
            }
            TimerKind::Persist => {
                self.probe = Some(kind);
                self.rtt.back_off();
                self.timer = Some((TimerKind::Persist, now + self.rtt.rto()));
            }
            TimerKind::Retransmit => {
                if !self.rtt.backed_off() {
                    self.slow_start_threshold = self.half_flight();
                }
                self.congestion_window = self.mss;
                self.next = self.una;
                self.recovery = None;
                // A receiver may have thrown away what it reported (RFC 2018 section 8).
                self.sacked = RangeSet::default();
                self.duplicate_acks = 0;
                self.timed = None;
                self.rtt.back_off();
                self.timer = Some((TimerKind::Retransmit, now + self.rtt.rto()));
            }
        }
        Some(kind)
    }

    /// Sends everything unacknowledged again at once: the path is known to be back.
    pub(in crate::mirror) fn kick(&mut self, now: Instant) {
        if self.timer.is_some() {
            self.rtt.progress();
            self.timer = self.timer.map(|(kind, _)| (kind, now));
        }
    }

    pub(super) fn start_timer(&mut self, now: Instant) {
        let is_single = self.max - self.una <= u64::from(self.mss);
        self.timer = Some(match self.rtt.probe_timeout(is_single) {
            Some(timeout) if self.recovery.is_none() => (TimerKind::Probe, now + timeout),
            _ => (TimerKind::Retransmit, now + self.rtt.rto()),
        });
    }
}
