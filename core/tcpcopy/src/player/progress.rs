//! How far a replay of files is, for people.

use std::time::Duration;

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
    /// Bytes of the files, compressed as they are, played in this round.
    pub bytes_read: u64,
    /// Bytes of all files; none where a stream is among them.
    pub bytes_total: Option<u64>,
    /// Captured time played in this round.
    pub captured: Duration,
    /// Packets handed out in all rounds.
    pub packets: u64,
    /// How far it is behind the schedule.
    pub behind: Duration,
    /// Time since the begin.
    pub elapsed: Duration,
}

impl Progress {
    /// What part of all rounds is done, from 0 to 1; none where a stream is among the files.
    #[must_use]
    pub fn part(&self) -> Option<f64> {
        let total = self.bytes_total.filter(|total| *total > 0)? as f64;
        let this_round = (self.bytes_read as f64 / total).min(1.0);
        Some((f64::from(self.round.saturating_sub(1)) + this_round) / f64::from(self.rounds.max(1)))
    }

    /// How long the rest will take if it goes on as so far; none as long as nobody can know.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let part = self.part().filter(|part| *part > 0.0)?;
        Duration::try_from_secs_f64(self.elapsed.as_secs_f64() * (1.0 - part) / part).ok()
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
