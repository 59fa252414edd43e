//! How far the capture files were played, and how well their schedule was kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DelayReport;
use crate::player::Cause;
use crate::statistics::PlayFigures;

/// The play of capture files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleReport {
    /// Packets handed out, all rounds together.
    pub packets: u64,
    /// Captured time played in the last round, in seconds.
    pub captured_s: f64,
    /// How much later than due packets were handed out; at full speed nothing is due.
    pub late: DelayReport,
    /// Packets later than 1 ms, by what they waited for: `target`, `input`, `pause`, `tool`.
    pub late_packets: BTreeMap<String, u64>,
    /// How long the files stood still, in seconds, by what they waited for.
    pub waited_s: BTreeMap<String, f64>,
    /// What most packets were late for, as a sentence; `None` when the schedule was kept.
    pub limit: Option<String>,
    /// Packets of which the capture kept a part only: holes in their streams.
    pub cut_short: u64,
    /// Packets that `-x` and `-F` do not ask for.
    pub filtered_out: u64,
    /// Frames before `--from`.
    pub before_window: u64,
    /// Frames that hold no IP packet.
    pub not_ip: u64,
    /// Frames of a link type that can't be read.
    pub unknown_link: u64,
    /// libpcap's number of the first such link type.
    pub first_unknown_link: Option<u16>,
    /// Frames whose time lay before that of an earlier one.
    pub times_gone_back: u64,
}

impl ScheduleReport {
    /// Of all shards together.
    #[must_use]
    pub fn new(play: &PlayFigures) -> Self {
        let lateness = &play.lateness;
        let by_cause = |value: &dyn Fn(Cause) -> f64| -> BTreeMap<String, f64> {
            let causes = Cause::ALL.into_iter();
            causes
                .map(|cause| (cause.name().to_owned(), value(cause)))
                .collect()
        };
        Self {
            packets: play.progress.packets,
            captured_s: play.progress.captured.as_secs_f64(),
            late: DelayReport::new(&lateness.histogram),
            late_packets: Cause::ALL
                .into_iter()
                .map(|cause| (cause.name().to_owned(), lateness.late(cause)))
                .collect(),
            waited_s: by_cause(&|cause| lateness.waited(cause).as_secs_f64()),
            limit: lateness
                .main_cause()
                .map(|cause| cause.describe().to_owned()),
            cut_short: play.read.cut_short,
            filtered_out: play.read.filtered_out,
            before_window: play.read.before_window,
            not_ip: play.read.not_ip,
            unknown_link: play.read.unknown_link,
            first_unknown_link: play.read.first_unknown_link,
            times_gone_back: play.read.files.backwards,
        }
    }

    /// One line for people.
    #[must_use]
    pub(super) fn line(&self) -> String {
        let kept = match &self.limit {
            None => "on time".to_owned(),
            Some(limit) => format!(
                "late by {:.1} ms for 99 of 100, {:.1} ms at most: {limit}",
                self.late.p99_ms, self.late.max_ms
            ),
        };
        let waited = self
            .waited_s
            .get(Cause::Target.name())
            .copied()
            .unwrap_or(0.0);
        let held = match waited >= 0.1 {
            true => format!("; held back {waited:.1} s for the target"),
            false => String::new(),
        };
        format!(
            "files        {} packets of {:.1} s, {kept}{held}{}\n",
            self.packets,
            self.captured_s,
            self.left_out(),
        )
    }

    /// What was in the files and is worth a word: what can't be read, and why nothing was played.
    fn left_out(&self) -> String {
        let mut text = String::new();
        if let Some(link) = self.first_unknown_link {
            let count = self.unknown_link;
            text.push_str(&format!(
                "; {count} frames of link type {link} can't be read"
            ));
        }
        if self.cut_short > 0 {
            text.push_str(&format!(
                "; {} were cut short by the capture",
                self.cut_short
            ));
        }
        if self.packets == 0 {
            text.push_str(&format!(
                "; {} other packets are not what -x asks for, {} lie before --from",
                self.filtered_out, self.before_window
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_by_how_much_it_was_late_and_why() {
        let mut report = ScheduleReport {
            packets: 10,
            captured_s: 2.0,
            ..ScheduleReport::default()
        };
        assert_eq!(report.line(), "files        10 packets of 2.0 s, on time\n");
        report.limit = Some(Cause::Target.describe().to_owned());
        report.late.p99_ms = 12.0;
        report.late.max_ms = 34.5;
        report.waited_s.insert("target".to_owned(), 1.25);
        assert_eq!(
            report.line(),
            "files        10 packets of 2.0 s, late by 12.0 ms for 99 of 100, 34.5 ms at most: the \
             target did not take it as fast; held back 1.2 s for the target\n"
        );
        let empty = ScheduleReport {
            filtered_out: 7,
            unknown_link: 3,
            first_unknown_link: Some(105),
            ..ScheduleReport::default()
        };
        assert_eq!(
            empty.line(),
            "files        0 packets of 0.0 s, on time; 3 frames of link type 105 can't be read; \
             7 other packets are not what -x asks for, 0 lie before --from\n"
        );
    }
}
