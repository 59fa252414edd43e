//! The retransmission timeout (RFC 6298).

use std::time::Duration;

/// Timeout before the first measurement (RFC 6298 section 2.1).
const INITIAL_RTO: Duration = Duration::from_secs(1);
/// Shortest timeout. RFC 6298 section 2.4 asks for a second; the kernels in use take 200 ms, and
/// the mirror stands for their users.
const MIN_RTO: Duration = Duration::from_millis(200);
/// Longest timeout (RFC 6298 section 2.5).
const MAX_RTO: Duration = Duration::from_secs(60);
/// Shortest tail loss probe timeout: a busy target is slower than its network.
const MIN_PROBE: Duration = Duration::from_millis(20);
/// How long current systems delay an acknowledgement at first; slower ones are learnt.
const DELAYED_ACK: Duration = Duration::from_millis(40);
/// Back-off stops growing here; the timeout itself is capped at [`MAX_RTO`] anyway.
const MAX_BACKOFF: u8 = 12;

/// Smoothed round-trip time and the timeouts that follow from it.
#[derive(Clone, Debug, Default)]
pub(super) struct RttEstimator {
    /// Smoothed round-trip time, in microseconds; `None` before the first sample.
    srtt_us: Option<u32>,
    /// Its variation, in microseconds.
    rttvar_us: u32,
    /// Doublings of the timeout since the last progress.
    backoff: u8,
}

impl RttEstimator {
    /// Takes a measurement (RFC 6298 sections 2.2 and 2.3).
    pub(super) fn sample(&mut self, rtt: Duration) {
        let rtt_us = u32::try_from(rtt.as_micros())
            .unwrap_or(u32::MAX >> 4)
            .min(u32::MAX >> 4);
        match self.srtt_us {
            None => {
                self.srtt_us = Some(rtt_us);
                self.rttvar_us = rtt_us / 2;
            }
            Some(srtt_us) => {
                self.rttvar_us = (3 * self.rttvar_us + srtt_us.abs_diff(rtt_us)) / 4;
                self.srtt_us = Some((7 * srtt_us + rtt_us) / 8);
            }
        }
    }

    /// Doubles the timeout (RFC 6298 section 5.5).
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
    }

    /// Takes the doublings back: the target answers again.
    pub(super) fn progress(&mut self) {
        self.backoff = 0;
    }

    /// Whether the timeout has been doubled since the last progress.
    pub(super) fn backed_off(&self) -> bool {
        self.backoff > 0
    }

    /// The present timeout.
    pub(super) fn rto(&self) -> Duration {
        let base = match self.srtt_us {
            None => INITIAL_RTO,
            Some(srtt_us) => {
                Duration::from_micros(u64::from(srtt_us) + 4 * u64::from(self.rttvar_us))
                    .max(MIN_RTO)
            }
        };
        (base * (1 << self.backoff)).min(MAX_RTO)
    }

    /// How long after the last transmission a tail loss probe goes out (RFC 8985 section 7.2): later
    /// for a single segment, whose acknowledgement the target may delay. `None` where the timeout
    /// itself comes first or nothing was measured.
    pub(super) fn probe_timeout(&self, is_single: bool) -> Option<Duration> {
        let srtt_us = self.srtt_us?;
        let timeout = Duration::from_micros(2 * u64::from(srtt_us) + 4 * u64::from(self.rttvar_us));
        let delay = if is_single {
            DELAYED_ACK
        } else {
            Duration::ZERO
        };
        let timeout = timeout.max(MIN_PROBE) + delay;
        (self.backoff == 0 && timeout < self.rto()).then_some(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_sample_sets_three_times_the_round_trip() {
        let mut estimator = RttEstimator::default();
        assert_eq!(estimator.rto(), INITIAL_RTO);
        estimator.sample(Duration::from_millis(100));
        assert_eq!(estimator.rto(), Duration::from_millis(300));
    }

    #[test]
    fn back_off_doubles_up_to_the_cap_and_progress_ends_it() {
        let mut estimator = RttEstimator::default();
        estimator.sample(Duration::from_millis(1));
        assert_eq!(estimator.rto(), MIN_RTO);
        estimator.back_off();
        assert_eq!(estimator.rto(), 2 * MIN_RTO);
        (0..40).for_each(|_| estimator.back_off());
        assert_eq!(estimator.rto(), MAX_RTO);
        estimator.progress();
        assert_eq!(estimator.rto(), MIN_RTO);
    }

    #[test]
    fn a_probe_only_comes_before_the_timeout() {
        let mut estimator = RttEstimator::default();
        assert_eq!(estimator.probe_timeout(false), None);
        estimator.sample(Duration::from_micros(200));
        assert_eq!(estimator.probe_timeout(false), Some(MIN_PROBE));
        assert_eq!(estimator.probe_timeout(true), Some(MIN_PROBE + DELAYED_ACK));
        estimator.back_off();
        assert_eq!(estimator.probe_timeout(false), None);
    }
}
