//! How late packets are handed out, and whose fault that is.

use std::time::{Duration, Instant};

use tcpcopy_engine::DelayHistogram;

/// What is later than this is called late: a turn of a shard's loop.
const LATE: Duration = Duration::from_millis(1);

/// Why packets are late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The engine held too much for the target, so the player was not asked.
    Target,
    /// The files were read too slowly.
    Input,
    /// The user paused.
    Pause,
    /// The player was asked late: this process did not keep up.
    Tool,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Target, Self::Input, Self::Pause, Self::Tool];

    /// Its stable name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Input => "input",
            Self::Pause => "pause",
            Self::Tool => "tool",
        }
    }

    /// What was the limit, for the user.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Target => "the target did not take it as fast",
            Self::Input => "the files could not be read as fast",
            Self::Pause => "it was paused",
            Self::Tool => "this host did not keep up",
        }
    }
}

/// How late packets were handed out, and what the player waited for.
#[derive(Clone, Debug, Default)]
pub struct Lateness {
    /// How late each packet was; of those that had a time, so none at full speed.
    pub histogram: DelayHistogram,
    late: [u64; Cause::ALL.len()],
    waited: [Duration; Cause::ALL.len()],
    /// What is being waited for, and since when.
    waiting: Option<(Cause, Instant)>,
    /// What was last waited for, and until when.
    waited_last: Option<(Cause, Instant)>,
    /// Why packets are late at present.
    present: Option<Cause>,
}

impl Lateness {
    /// How many packets were late for this reason, by more than 1 ms.
    #[must_use]
    pub fn late(&self, cause: Cause) -> u64 {
        self.late[cause as usize]
    }

    /// How long it waited for this: for the target's sake, for the files, for the end of a pause.
    #[must_use]
    pub fn waited(&self, cause: Cause) -> Duration {
        self.waited[cause as usize]
    }

    /// The reason for most of what was late.
    #[must_use]
    pub fn main_cause(&self) -> Option<Cause> {
        let most = Cause::ALL
            .into_iter()
            .max_by_key(|cause| self.late(*cause))?;
        (self.late(most) > 0).then_some(most)
    }

    /// Adds what another player has.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.merge(&other.histogram);
        for cause in Cause::ALL {
            self.late[cause as usize] += other.late[cause as usize];
            self.waited[cause as usize] += other.waited[cause as usize];
        }
    }

    /// Nothing is handed out from now on, for this reason.
    pub(super) fn wait(&mut self, cause: Cause, now: Instant) {
        match self.waiting {
            Some((known, _)) if known == cause => {}
            _ => {
                self.ask(now);
                self.waiting = Some((cause, now));
            }
        }
    }

    /// The player is asked and has something.
    pub(super) fn ask(&mut self, now: Instant) {
        if let Some((cause, since)) = self.waiting.take() {
            self.waited[cause as usize] += now.saturating_duration_since(since);
            self.waited_last = Some((cause, now));
        }
    }

    /// A packet due at a moment is handed out.
    pub(super) fn record(&mut self, due: Instant, now: Instant) {
        let delay = now.saturating_duration_since(due);
        self.histogram.record(delay);
        if delay <= LATE {
            self.present = None;
            return;
        }
        // What is late because others before it were is late for their reason.
        let waited = self.waited_last.filter(|(_, until)| *until >= due);
        let cause = waited.map(|(cause, _)| cause).or(self.present);
        let cause = cause.unwrap_or(Cause::Tool);
        self.present = Some(cause);
        self.late[cause as usize] += 1;
    }

    /// Nothing is due any more, or the schedule has moved: what is late next has a reason of its own.
    pub(super) fn caught_up(&mut self) {
        self.present = None;
        self.waited_last = None;
    }
}
