//! What plugins have done, counted.

mod tally;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tcpcopy_engine::DelayHistogram;

use crate::library::Form;

pub(crate) use tally::{Counts, Tally};

/// What a bounded list calls the rest.
pub(crate) const OTHER: &str = "(other)";

/// What one plugin of a chain has done, in all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PluginFigures {
    /// The manifest's name.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// Native or WASM.
    pub form: Form,
    /// Its file.
    pub file: PathBuf,
    /// The origin port that it is for; `None`: all.
    pub port: Option<u16>,
    /// Whether it is called.
    pub state: State,
    /// Sessions opened.
    pub sessions: u64,
    /// Those of them that it let pass from some point on.
    pub passed_through: u64,
    /// Calls made.
    pub calls: u64,
    /// How long calls took.
    pub call_time: CallTimeFigures,
    /// Timed calls that took longer than a call may: only native plugins can have any.
    pub slow_calls: u64,
    /// Failures by their kind.
    pub failures: FailureFigures,
    /// Sessions that it refused, by its own names.
    pub refusals: BTreeMap<String, u64>,
    /// Its own counters.
    pub counters: BTreeMap<String, u64>,
    /// Its exchanges by label, in the labels' order.
    pub labels: Vec<LabelFigures>,
    /// Values in the map that its sessions share, at the moment.
    pub shared_values: u64,
    /// What they take, in bytes.
    pub shared_bytes: u64,
    /// Values that had to go before their time because the map was full.
    pub shared_evicted: u64,
    /// Lines that were not written to the log because there were too many.
    pub log_lines_dropped: u64,
}

/// Whether a plugin is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum State {
    /// It is.
    Running,
    /// It has failed too often.
    SwitchedOff {
        /// How it failed last.
        reason: String,
    },
}

/// How often a plugin failed. All but the last two ended the sessions of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureFigures {
    /// A trap, a panic, or an answer that nobody understands.
    pub trapped: u64,
    /// A call took too long.
    pub timed_out: u64,
    /// It asked for more memory than it is given.
    pub out_of_memory: u64,
    /// It answered more than is allowed.
    pub output_limit: u64,
    /// Sessions not begun because it had as many as it may have.
    pub session_limit: u64,
    /// Sessions not begun because it is switched off.
    pub switched_off: u64,
}

/// The exchanges of one label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelFigures {
    /// The plugin's word for them.
    pub label: String,
    /// How many began.
    pub begun: u64,
    /// How many of them had nothing to say and were left out.
    pub left_out: u64,
    /// How many ended well.
    pub ok: u64,
    /// How many ended otherwise.
    pub failed: u64,
    /// How they ended, the most frequent first.
    pub outcomes: Vec<OutcomeFigures>,
    /// From the first byte's departure to the answer's end, as the engine saw it.
    pub latency: LatencyFigures,
}

/// One way in which exchanges end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeFigures {
    /// The protocol's number; 0 where it has none.
    pub status: u32,
    /// The protocol's word; often empty.
    pub word: String,
    /// How many.
    pub count: u64,
}

/// How long things took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyFigures {
    /// How many were timed; the rest is 0 where there is none.
    pub count: u64,
    /// The mean.
    pub mean_us: u64,
    /// Half took no longer.
    pub p50_us: u64,
    /// 9 of 10 took no longer.
    pub p90_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// How long calls took, in nanoseconds. One of 16 is timed, since looking at the clock takes about
/// as long as a short call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallTimeFigures {
    /// How many were timed; the rest is 0 where there is none.
    pub count: u64,
    /// The mean.
    pub mean_ns: u64,
    /// Half took no longer.
    pub p50_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl CallTimeFigures {
    /// Of a histogram whose microseconds are nanoseconds.
    pub(crate) fn new(histogram: &DelayHistogram) -> Self {
        let scaled = LatencyFigures::from(histogram);
        Self {
            count: scaled.count,
            mean_ns: scaled.mean_us,
            p50_ns: scaled.p50_us,
            p99_ns: scaled.p99_us,
            max_ns: scaled.max_us,
        }
    }
}

impl From<&DelayHistogram> for LatencyFigures {
    fn from(histogram: &DelayHistogram) -> Self {
        let micros =
            |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            count: histogram.count(),
            mean_us: micros(histogram.mean()),
            p50_us: micros(histogram.percentile(50.0)),
            p90_us: micros(histogram.percentile(90.0)),
            p99_us: micros(histogram.percentile(99.0)),
            max_us: micros(histogram.max()),
        }
    }
}
