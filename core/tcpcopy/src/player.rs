//! Capture files played: decides when each packet is due and hands it out then.
//!
//! A [`Playlist`] is made while files may still be opened, and played once the privileges are gone.
//! A thread of its own reads ahead, so that neither a slow disk nor an idle pipe stops the shard; the
//! shard asks the [`Player`] for the next [`Step`] and waits as it is told.
//!
//! ```text
//! files ─▶ reader thread ─▶ queue, bounded ─▶ Player::next(now) ─▶ Packet
//!          merged by time,                     due = begin of the round + captured time / speed
//!          IP only, filtered
//! ```

mod lateness;
mod progress;
mod queue;
mod reader;
mod schedule;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tcpcopy_net::file::{FileError, Input, MergedFiles, OpenInput};
use tcpcopy_net::filter::CaptureFilter;
use tcpcopy_net::shard::ShardMap;
use tcpcopy_packet::LinkType;

use crate::error::StartError;

pub use lateness::{Cause, Lateness};
pub use progress::{Progress, progress_line};
pub use queue::ReadCounters;
pub use schedule::{Schedule, ScheduleError, Speed, TimePoint, parse_speed, parse_time_point};

use progress::Tracker;
use queue::{Batch, Entry, Queue};
use reader::Reader;

/// Why capture files can't be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayerError {
    /// One of them can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The schedule makes no sense.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// All frames of a file are framed in a way that isn't known here.
    #[error("the frames of {name} are of link type {link_type}, which can't be read")]
    LinkType {
        /// The file.
        name: String,
        /// libpcap's number.
        link_type: u16,
    },
    /// A stream in several rounds.
    #[error("{0} can be read only once, and -T asks for several rounds")]
    StreamTwice(String),
    /// A stream for several threads.
    #[error("{0} can be read only once, and --shards asks for several threads")]
    StreamShared(String),
}

impl PlayerError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File(error) => error.hint(),
            Self::Schedule(error) => error.hint(),
            Self::LinkType { .. } => {
                "record on an Ethernet, loopback, tunnel or any device; Ethernet, raw IP, Linux \
                 cooked and BSD loopback can be read"
            }
            Self::StreamTwice(_) => "save it to a file first, or leave out -T",
            Self::StreamShared(_) => "save it to a file first, or leave out --shards",
        }
    }
}

/// Which of the packets in the files a player hands out.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Those that pass, as the kernel's filter would let them; all without one.
    pub filter: Option<CaptureFilter>,
    /// Those of one shard. The others still count as traffic where idle gaps are looked for, so all
    /// shards keep the same time.
    pub share: Option<(ShardMap, u16)>,
}

/// Files opened to be played.
#[derive(Debug)]
pub struct Playlist {
    inputs: Vec<OpenInput>,
    /// The first round, of which the headers have been read.
    first: MergedFiles,
    schedule: Schedule,
    choice: Choice,
}

impl Playlist {
    /// Opens all files and reads their headers; on a stream this waits for its first bytes.
    ///
    /// # Errors
    /// [`PlayerError`].
    pub fn open(inputs: &[Input], schedule: Schedule, choice: Choice) -> Result<Self, PlayerError> {
        schedule.check()?;
        let inputs: Vec<OpenInput> = inputs.iter().map(Input::open).collect::<Result<_, _>>()?;
        if let Some(stream) = inputs.iter().find(|input| input.is_stream()) {
            let name = stream.name().to_owned();
            if schedule.rounds > 1 {
                return Err(PlayerError::StreamTwice(name));
            }
            if matches!(&choice.share, Some((map, _)) if map.shard_count() > 1) {
                return Err(PlayerError::StreamShared(name));
            }
        }
        let first = MergedFiles::read(&inputs)?;
        for file in first.files() {
            if let Some(link_type) = file.link_type().filter(|number| link_of(*number).is_none()) {
                let name = file.name().to_owned();
                return Err(PlayerError::LinkType { name, link_type });
            }
        }
        Ok(Self {
            inputs,
            first,
            schedule,
            choice,
        })
    }

    /// Starts the thread that reads ahead. The first packet is due when it has been read.
    ///
    /// # Errors
    /// [`StartError::System`] when there can be no thread.
    pub fn play(self) -> Result<Player, StartError> {
        let lengths: Option<Vec<u64>> = self.inputs.iter().map(OpenInput::len_bytes).collect();
        let bytes_total = lengths.map(|lengths| lengths.iter().sum());
        let (queue, wake) = Queue::new()?;
        let queue = Arc::new(queue);
        let schedule = self.schedule.clone();
        let reader = Reader::new(self.inputs, self.first, self.schedule, self.choice);
        let (rounds, until) = (schedule.rounds, schedule.until);
        let tracker = Tracker::new(rounds, bytes_total, until, reader.begin_ns());
        let to = Arc::clone(&queue);
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || reader.run(&to))
            .map_err(|source| StartError::System {
                action: "start a thread",
                source,
            })?;
        Ok(Player {
            queue,
            wake,
            speed: schedule.speed,
            batch: Batch::default(),
            begin: None,
            paused: None,
            has_ended: false,
            lateness: Lateness::default(),
            tracker,
        })
    }
}

/// What is next.
#[derive(Debug)]
pub enum Step<'a> {
    /// A packet that is due, from its IP header on, perhaps cut short by the capture.
    Packet(&'a [u8]),
    /// Nothing is due before this moment.
    NotBefore(Instant),
    /// Nothing has been read yet: wait until the player's descriptor is readable.
    Reading,
    /// It is paused.
    Paused,
    /// All packets of a round, but not the last, have been handed out. The next round begins when
    /// the next step is asked for.
    EndOfRound,
    /// All packets have been handed out.
    End,
    /// A file is broken or can't be read further; what comes before has been handed out. The steps
    /// that follow are what the other files hold.
    Failed(FileError),
}

/// What becomes of the schedule after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It stays: what was due meanwhile follows at once.
    CatchUp,
    /// It moves by the time of the pause.
    GoOn,
}

/// Hands out the packets of capture files when they are due.
#[derive(Debug)]
pub struct Player {
    queue: Arc<Queue>,
    wake: std::os::fd::OwnedFd,
    speed: Speed,
    batch: Batch,
    /// When the round began, once its first packet was at hand.
    begin: Option<Instant>,
    paused: Option<Instant>,
    has_ended: bool,
    lateness: Lateness,
    tracker: Tracker,
}

impl Player {
    /// What is next at this moment. The descriptor ([`AsFd`]) is readable when there is something
    /// after [`Step::Reading`].
    pub fn next(&mut self, now: Instant) -> Step<'_> {
        if self.paused.is_some() {
            return Step::Paused;
        }
        if self.has_ended {
            return Step::End;
        }
        if self.batch.is_empty() && !self.queue.swap(&mut self.batch, &self.wake) {
            self.lateness.wait(Cause::Input, now);
            return Step::Reading;
        }
        self.lateness.ask(now);
        let begin = *self.begin.get_or_insert(now);
        if let Some(due_ns) = self.batch.due_ns() {
            let due = self.speed.due(begin, due_ns);
            if due > now {
                self.lateness.caught_up();
                return Step::NotBefore(due);
            }
            if self.speed != Speed::Max {
                self.lateness.record(due, now);
            }
        }
        let (entry, packet) = self.batch.take();
        match entry {
            Some(Entry::Packet(head)) => {
                self.tracker.packet(&head, now);
                Step::Packet(packet)
            }
            Some(Entry::EndOfRound { position }) => {
                if !self.tracker.end_of_round(position) {
                    self.has_ended = true;
                    return Step::End;
                }
                self.begin = None;
                Step::EndOfRound
            }
            Some(Entry::Failed(error)) => Step::Failed(*error),
            // A reader that has gone without a word.
            None => {
                self.has_ended = true;
                Step::Failed(FileError::Read {
                    name: "the capture files".to_owned(),
                    offset: self.tracker.position(),
                    source: std::io::Error::other("the reading thread panicked"),
                })
            }
        }
    }

    /// Tells that the caller does not ask because the engine holds too much: the target is slower
    /// than the schedule. What is late then is not the tool's fault.
    pub fn hold(&mut self, now: Instant) {
        if !self.has_ended {
            self.lateness.wait(Cause::Target, now);
        }
    }

    /// Hands out nothing more until [`Self::resume`].
    pub fn pause(&mut self, now: Instant) {
        if self.paused.is_none() {
            self.paused = Some(now);
            self.lateness.wait(Cause::Pause, now);
        }
    }

    /// Ends a pause.
    pub fn resume(&mut self, now: Instant, how: Resume) {
        let Some(since) = self.paused.take() else {
            return;
        };
        if let (Resume::GoOn, Some(begin)) = (how, &mut self.begin) {
            *begin += now.saturating_duration_since(since);
            self.lateness.ask(now);
            self.lateness.caught_up();
        }
    }

    /// How fast it plays.
    #[must_use]
    pub fn speed(&self) -> Speed {
        self.speed
    }

    /// How far it is behind the schedule at this moment; zero at [`Speed::Max`], which has none.
    #[must_use]
    pub fn behind(&self, now: Instant) -> Duration {
        let due_ns = match self.batch.is_empty() {
            true => self.queue.due_ns(),
            false => self.batch.due_ns(),
        };
        match (self.begin, due_ns) {
            (Some(begin), Some(due_ns)) if self.speed != Speed::Max => {
                now.saturating_duration_since(self.speed.due(begin, due_ns))
            }
            _ => Duration::ZERO,
        }
    }

    /// How late packets were, and what it waited for.
    #[must_use]
    pub fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// What the files held beside the packets handed out.
    #[must_use]
    pub fn counters(&self) -> ReadCounters {
        self.queue.counters()
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self, now: Instant) -> Progress {
        self.tracker.progress(now, self.behind(now))
    }
}

impl AsFd for Player {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Player {
    /// The reader ends at the next packet it has read; a read from an idle pipe can't be ended.
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// The framing of libpcap's number.
pub(crate) fn link_of(number: u16) -> Option<LinkType> {
    LinkType::from_dlt(i32::from(number))
}

#[cfg(test)]
mod tests;
