//! How far a replay of files is, for people.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::queue::PacketHead;
use super::schedule::TimePoint;

/// Width of the bar, in characters.
const BAR_WIDTH: usize = 24;
/// What is behind by less is not worth telling.
const WORTH_TELLING: Duration = Duration::from_millis(100);

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The present round, from 1.
    pub round: u32,
    /// Rounds in all.
    pub rounds: u32,
    /// Bytes of the files, compressed as they are, played in this round from its first packet on.
    pub bytes_read: u64,
    /// Bytes of all files from the round's first packet on; none where a stream is among them.
    pub bytes_total: Option<u64>,
    /// Captured time played in this round, from its first packet on.
    pub captured: Duration,
    /// Captured time from the round's first packet to `--until`, which may lie behind the end of the
    /// files; none without.
    pub captured_total: Option<Duration>,
    /// Packets handed out in all rounds.
    pub packets: u64,
    /// How far it is behind the schedule.
    pub behind: Duration,
    /// Time since the first packet.
    pub elapsed: Duration,
}

impl Progress {
    /// What part of all rounds is done, from 0 to 1; none where a stream is among the files and
    /// nothing else ends them.
    #[must_use]
    pub fn part(&self) -> Option<f64> {
        let of_files = self.bytes_total.filter(|total| *total > 0);
        let of_files = of_files.map(|total| self.bytes_read as f64 / total as f64);
        let of_window = self.captured_total.filter(|total| !total.is_zero());
        let of_window = of_window.map(|total| self.captured.div_duration_f64(total));
        // A round is over with its files or at `--until`, whichever comes first.
        let this_round = match (of_files, of_window) {
            (Some(files), Some(window)) => files.max(window),
            (files, window) => files.or(window)?,
        };
        let before = f64::from(self.round.saturating_sub(1));
        Some((before + this_round.min(1.0)) / f64::from(self.rounds.max(1)))
    }

    /// How long the rest will take if it goes on as so far; none as long as nobody can know.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let part = self.part().filter(|part| *part > 0.0)?;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * (1.0 - part) / part).ok()
    }
}

/// Follows a player through its rounds.
#[derive(Debug)]
pub(super) struct Tracker {
    /// Bytes of all files; none where a stream is among them.
    bytes_total: Option<u64>,
    /// The last moment that is played.
    until: Option<TimePoint>,
    /// When the first frame of the files was captured, in nanoseconds since the Unix epoch.
    files_begin_ns: Arc<OnceLock<u64>>,
    /// When the first packet of all was handed out.
    started: Option<Instant>,
    /// The first packet of the round.
    first: Option<PacketHead>,
    /// Bytes of the files, compressed as they are, up to where the round is.
    position: u64,
    progress: Progress,
}

impl Tracker {
    /// At the begin; whoever reads the files tells when the first frame was captured.
    pub(super) fn new(
        rounds: u32,
        bytes_total: Option<u64>,
        until: Option<TimePoint>,
        files_begin_ns: Arc<OnceLock<u64>>,
    ) -> Self {
        Self {
            bytes_total,
            until,
            files_begin_ns,
            started: None,
            first: None,
            position: 0,
            progress: Progress {
                round: 1,
                rounds,
                bytes_total,
                ..Progress::default()
            },
        }
    }

    /// A packet was handed out.
    pub(super) fn packet(&mut self, head: &PacketHead, now: Instant) {
        self.started.get_or_insert(now);
        self.position = head.position;
        let first = match self.first {
            Some(first) => first,
            None => self.begin_round(*head),
        };
        self.progress.bytes_read = head.position.saturating_sub(first.position);
        let played_ns = head.captured_ns.saturating_sub(first.captured_ns);
        self.progress.captured = Duration::from_nanos(played_ns);
        self.progress.packets += 1;
    }

    fn begin_round(&mut self, first: PacketHead) -> PacketHead {
        self.progress.bytes_total = self
            .bytes_total
            .map(|total| total.saturating_sub(first.position));
        let ends = self.until.zip(self.files_begin_ns.get());
        self.progress.captured_total = ends.map(|(until, begin_ns)| {
            let first_ns = begin_ns.saturating_add(first.captured_ns);
            Duration::from_nanos(until.at_ns(*begin_ns).saturating_sub(first_ns))
        });
        *self.first.insert(first)
    }

    /// All packets of the round were handed out; the answer is whether another round follows.
    pub(super) fn end_of_round(&mut self, position: u64) -> bool {
        let progress = &mut self.progress;
        self.position = position;
        let first_position = self.first.take().map_or(0, |first| first.position);
        progress.bytes_read = position.saturating_sub(first_position);
        progress.captured_total = progress.captured_total.map(|_| progress.captured);
        if progress.round == progress.rounds {
            return false;
        }
        self.position = 0;
        progress.round += 1;
        progress.bytes_read = 0;
        progress.captured = Duration::ZERO;
        true
    }

    /// Bytes of the files, compressed as they are, up to where the round is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How far it is, being so far behind the schedule.
    pub(super) fn progress(&self, now: Instant, behind: Duration) -> Progress {
        let elapsed = self.started.map(|at| now.saturating_duration_since(at));
        Progress {
            behind,
            elapsed: elapsed.unwrap_or_default(),
            ..self.progress
        }
    }
}

/// One line for a terminal, without the line's end.
#[must_use]
pub fn progress_line(progress: &Progress) -> String {
    let mut line = String::new();
    if let Some(part) = progress.part() {
        let filled = ((part * BAR_WIDTH as f64) as usize).min(BAR_WIDTH);
        let (full, empty) = ("#".repeat(filled), ".".repeat(BAR_WIDTH - filled));
        line.push_str(&format!(
            "[{full}{empty}] {:3.0} %  ",
            (part * 100.0).floor()
        ));
    }
    if progress.rounds > 1 {
        line.push_str(&format!("round {}/{}  ", progress.round, progress.rounds));
    }
    line.push_str(&format!(
        "captured {}  packets {}",
        clock(progress.captured),
        progress.packets
    ));
    if progress.behind >= WORTH_TELLING {
        line.push_str(&format!("  behind {:.1} s", progress.behind.as_secs_f64()));
    }
    if let Some(left) = progress.time_left() {
        line.push_str(&format!("  left {}", clock(left)));
    }
    line
}

/// Hours, minutes and seconds.
fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut progress = Progress {
            round: 1,
            rounds: 1,
            bytes_read: 250,
            bytes_total: Some(1000),
            captured: Duration::from_secs(3725),
            captured_total: None,
            packets: 42,
            behind: Duration::from_millis(99),
            elapsed: Duration::from_secs(10),
        };
        assert_eq!(
            progress_line(&progress),
            "[######..................]  25 %  captured 1:02:05  packets 42  left 0:00:30"
        );
        progress.behind = Duration::from_millis(1234);
        (progress.round, progress.rounds) = (2, 4);
        assert_eq!(
            progress_line(&progress),
            "[#######.................]  31 %  round 2/4  captured 1:02:05  packets 42  \
             behind 1.2 s  left 0:00:22"
        );
        progress.bytes_total = None;
        (progress.round, progress.rounds, progress.behind) = (1, 1, Duration::ZERO);
        assert_eq!(progress_line(&progress), "captured 1:02:05  packets 42");
    }

    #[test]
    fn a_round_is_over_with_its_files_or_at_its_last_moment() {
        let part = |bytes_total, captured_total_s: u64| {
            let progress = Progress {
                round: 1,
                rounds: 1,
                bytes_read: 25,
                bytes_total,
                captured: Duration::from_secs(3),
                captured_total: Some(Duration::from_secs(captured_total_s)),
                ..Progress::default()
            };
            progress.part()
        };
        assert_eq!(part(Some(100), 4), Some(0.75));
        assert_eq!(part(Some(100), 30), Some(0.25));
        assert_eq!(part(None, 4), Some(0.75));
        assert_eq!(part(Some(100), 2), Some(1.0));
        assert_eq!(part(None, 0), None);
    }

    #[test]
    fn nothing_is_left_at_the_end_and_unknown_at_the_begin() {
        let mut progress = Progress {
            round: 3,
            rounds: 3,
            bytes_read: 10,
            bytes_total: Some(10),
            elapsed: Duration::from_secs(5),
            ..Progress::default()
        };
        assert_eq!(
            (progress.part(), progress.time_left()),
            (Some(1.0), Some(Duration::ZERO))
        );
        (progress.round, progress.bytes_read) = (1, 0);
        assert_eq!((progress.part(), progress.time_left()), (Some(0.0), None));
        progress.bytes_total = Some(0);
        assert_eq!(progress.part(), None);
    }
}
