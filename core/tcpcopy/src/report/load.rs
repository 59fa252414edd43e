//! What the options that shape the load asked for, what came of it, and what stood in the way.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcpcopy_engine::{DelayHistogram, DropReason, Ledger};

use crate::statistics::Figures;

/// The load asked for and the load achieved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Connections replayed of those captured, in per cent (`-r`, `-g`); `None` before the first.
    pub percent: Option<AskedAndAchieved>,
    /// Sessions for each replayed connection (`-n`); `None` before the first.
    pub multiplier: Option<AskedAndAchieved>,
    /// Connections or requests let through by `--rate`, since the first: asked is what it allowed.
    pub rate: Option<RateReport>,
    /// What kept the load below what was captured: the drop reason that left out most, or
    /// `nothing`.
    pub limited_by: String,
    /// From a request's first captured byte to its first byte leaving for the target: what the gate,
    /// `--latency` and a target that is slow to answer or to take bytes add.
    pub send_delay: DelayReport,
}

/// What was asked for and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskedAndAchieved {
    /// By the option.
    pub asked: f64,
    /// In fact.
    pub achieved: f64,
}

/// What `--rate` did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateReport {
    /// Connections or requests captured, copies counted.
    pub offered: u64,
    /// How many it allowed in the time since the first.
    pub allowed: u64,
    /// How many it let through.
    pub achieved: u64,
}

/// How long something took, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DelayReport {
    /// How many times.
    pub count: u64,
    /// On average.
    pub mean_ms: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl LoadReport {
    /// Of all lanes together.
    #[must_use]
    pub fn new(total: &Figures) -> Self {
        let load = &total.ledger.load;
        let pair = |(asked, achieved)| AskedAndAchieved { asked, achieved };
        Self {
            percent: load.selected_percent().map(pair),
            multiplier: load.copies().map(pair),
            rate: (load.rate_allowed > 0).then_some(RateReport {
                offered: load.rate_offered,
                allowed: load.rate_allowed,
                achieved: load.rate_admitted,
            }),
            limited_by: limited_by(&total.ledger).to_owned(),
            send_delay: DelayReport::new(&total.send_delay),
        }
    }

    /// A line for each figure that an option asked for.
    #[must_use]
    pub(super) fn lines(&self) -> String {
        let mut parts = Vec::new();
        if let Some(percent) = self.percent.filter(|percent| percent.asked < 100.0) {
            let AskedAndAchieved { asked, achieved } = percent;
            parts.push(format!(
                "{achieved:.2} % of the connections (asked {asked:.2} %)"
            ));
        }
        if let Some(copies) = self.multiplier.filter(|copies| copies.asked > 1.0) {
            let AskedAndAchieved { asked, achieved } = copies;
            parts.push(format!("{achieved:.3} sessions each (asked {asked:.3})"));
        }
        if let Some(rate) = self.rate {
            let RateReport {
                offered,
                allowed,
                achieved,
            } = rate;
            parts.push(format!(
                "--rate let {achieved} of {offered} through, {allowed} were allowed"
            ));
        }
        parts.push(format!("limited by {}", self.limited_by));
        let delay = self.send_delay;
        format!(
            "load         {}\nsend delay   {:.1} ms in the middle, {:.1} ms for 99 of 100, {:.1} ms at most\n",
            parts.join("; "),
            delay.p50_ms,
            delay.p99_ms,
            delay.max_ms,
        )
    }
}

impl DelayReport {
    /// The quantiles of a histogram.
    #[must_use]
    pub fn new(histogram: &DelayHistogram) -> Self {
        let ms = |time: Duration| time.as_micros() as f64 / 1000.0;
        Self {
            count: histogram.count(),
            mean_ms: ms(histogram.mean()),
            p50_ms: ms(histogram.percentile(50.0)),
            p99_ms: ms(histogram.percentile(99.0)),
            max_ms: ms(histogram.max()),
        }
    }
}

/// The reason that left out most requests, and connections where there were none.
fn limited_by(ledger: &Ledger) -> &'static str {
    let left_out = |reason: &DropReason| {
        let requests = ledger.requests.dropped[*reason];
        (requests, ledger.connections.dropped[*reason])
    };
    DropReason::ALL
        .into_iter()
        .filter(|reason| reason.limits_load() && left_out(reason) > (0, 0))
        .max_by_key(left_out)
        .map_or("nothing", DropReason::name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_left_out_most_is_named() {
        let mut ledger = Ledger::default();
        assert_eq!(limited_by(&ledger), "nothing");
        ledger.requests.capture(100);
        ledger.requests.drop(DropReason::TargetReset, 50);
        assert_eq!(limited_by(&ledger), "nothing", "a failure is no limit");
        ledger.connections.drop(DropReason::NoTupleLeft, 1);
        assert_eq!(limited_by(&ledger), "no_tuple_left");
        ledger.requests.drop(DropReason::MemoryBudget, 2);
        ledger.requests.drop(DropReason::RateLimit, 3);
        assert_eq!(limited_by(&ledger), "rate_limit");
    }

    #[test]
    fn only_what_was_asked_for_is_printed() {
        let mut report = LoadReport {
            percent: Some(AskedAndAchieved {
                asked: 100.0,
                achieved: 100.0,
            }),
            limited_by: "nothing".to_owned(),
            ..LoadReport::default()
        };
        assert!(
            report
                .lines()
                .starts_with("load         limited by nothing\nsend delay   0.0 ms")
        );
        report.multiplier = Some(AskedAndAchieved {
            asked: 1.5,
            achieved: 1.499,
        });
        let lines = report.lines();
        assert!(
            lines.starts_with("load         1.499 sessions each (asked 1.500); "),
            "{lines}"
        );
    }
}
