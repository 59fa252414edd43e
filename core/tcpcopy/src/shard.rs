//! One thread and all it owns: what it captures, and a lane for each target.
//!
//! ```text
//! capture ─▶ lane: engine ─▶ way out      a turn of the loop:
//!        │            ▲ │                 1. capture, all that is there, at most a lap
//!        │   target ──┘ └──▶ target       2. what comes from the targets, and time
//!        └─▶ lane: …                      3. outputs, a bounded number of each lane
//! ```
//! Capture goes first and whole, outputs go in bounded portions between, so a ring never overflows
//! because the shard is busy sending; what can't be sent yet waits in the engine, within its memory
//! budget. All of a turn happens at one time, read from the clock at its begin. A shard sleeps only
//! when nothing is left to do.

mod capture;
mod files;
mod lane;
mod source;
mod throttle;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_engine::{SessionRecord, ShutDown, Tuning};

use crate::statistics::Snapshot;
use crate::wake::clear;
pub use lane::{INTERCEPT_GRACE, LaneParts, Loss, UpstreamParts};
use lane::{Lane, Next};
use source::Source;
pub use source::SourceParts;
use throttle::Throttle;

/// While no captured bytes wait for a target, a turn begins at most so often: what comes within a
/// pause is handled in one turn, for one wake-up. As long as the kernel's own batches of captured
/// packets, so nothing is later by more than one of those.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest sleep, so that a missed wake-up could never stop a shard for good.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long what was read of files may take to be delivered: as long as the target goes on answering.
/// One that does not is given up session by session (`-t`).
const FILE_PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the main thread asks of a shard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// Tell the figures.
    Report,
    /// Capture nothing more, deliver what is there, for at most this long.
    Drain(Duration),
    /// Drop what is left.
    Stop,
    /// Replay more or less from now on.
    Tune(Tuning),
}

/// Why a shard's loop has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// An intercept was away for longer than [`INTERCEPT_GRACE`].
    InterceptLost(Loss),
    /// A capture file is broken: what comes before the fault was replayed.
    FileBroken,
    /// Something that should not fail has failed.
    Failed(String),
}

/// The present moment, as the system and as the engine count it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    now: Instant,
    time: tcpcopy_engine::Instant,
}

/// A shard, ready to run on its thread.
#[derive(Debug)]
pub struct Shard {
    source: Source,
    lanes: Vec<Lane>,
    throttle: Option<Throttle>,
    commands: Receiver<Command>,
    /// Readable when there are commands.
    wake: OwnedFd,
    /// Where the engines' time begins.
    epoch: Instant,
    is_ending: bool,
}

/// What a shard is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where its packets come from.
    pub source: SourceParts,
    /// Its lanes, one for each target that gets the same traffic as another.
    pub lanes: Vec<LaneParts>,
    /// Processor seconds it may use in a second; `None` for all it can get.
    pub cpu_share: Option<f64>,
    /// Where commands come from.
    pub commands: Receiver<Command>,
    /// Readable when there are commands.
    pub wake: OwnedFd,
    /// From when on its time counts; the same for all shards, as what plugins share expires.
    pub epoch: Instant,
}

impl Shard {
    /// Puts a shard together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            source: Source::new(parts.source),
            lanes: parts.lanes.into_iter().map(Lane::new).collect(),
            throttle: parts.cpu_share.map(Throttle::new),
            commands: parts.commands,
            wake: parts.wake,
            epoch: parts.epoch,
            is_ending: false,
        }
    }

    /// Runs until told to stop, or until no lane is left; `report` gets the figures when they are
    /// asked for.
    pub fn run(&mut self, mut report: impl FnMut(Snapshot)) -> End {
        if let Err(error) = tcpcopy_net::scheduling::ask_for_short_slices() {
            tracing::debug!(%error, "the scheduler's default turns it is");
        }
        let clock = self.clock();
        for lane in &mut self.lanes {
            lane.begin(clock);
        }
        let mut upstream_ready = true;
        loop {
            let clock = self.clock();
            self.obey(clock, &mut report);
            let mut next = self.source.read(&mut self.lanes, clock);
            if self.source.is_over() && !self.is_ending {
                let deadline = clock.time + FILE_PATIENCE;
                self.shut_down(clock, ShutDown::Drain { deadline });
            }
            for lane in &mut self.lanes {
                lane.read(clock, upstream_ready);
                next = next.and(lane.write(clock));
            }
            if self.lanes.iter().all(Lane::has_ended) {
                return self.end();
            }
            self.keep_to_its_share(clock.time, next == Next::More);
            let may_wait = self.source.can_wait() && !self.lanes.iter().any(Lane::is_hurried);
            if next != Next::More && may_wait {
                self.pause(PAUSE);
            }
            // The turn and the pause have taken their time.
            let clock = self.clock();
            match self.sleep(clock.now, next.sleep(clock.time)) {
                Ok(ready) => upstream_ready = ready,
                Err(error) => return End::Failed(format!("can't wait for events: {error}")),
            }
        }
    }

    /// The figures at this moment.
    pub fn snapshot(&mut self) -> Snapshot {
        self.source.count_drops(&mut self.lanes);
        Snapshot {
            lanes: self.lanes.iter().map(Lane::figures).collect(),
            play: self.source.play_figures(Instant::now()),
        }
    }

    fn clock(&self) -> Clock {
        let now = Instant::now();
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        let time = tcpcopy_engine::Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        Clock { now, time }
    }

    fn end(&mut self) -> End {
        if self.source.is_broken() {
            return End::FileBroken;
        }
        let loss = self.lanes.iter_mut().find_map(Lane::take_loss);
        loss.map_or(End::Stopped, End::InterceptLost)
    }

    fn obey(&mut self, clock: Clock, report: &mut impl FnMut(Snapshot)) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Report => {
                    let snapshot = self.snapshot();
                    report(snapshot);
                }
                Command::Drain(limit) => {
                    let deadline = clock.time + limit;
                    self.shut_down(clock, ShutDown::Drain { deadline });
                }
                Command::Stop => self.shut_down(clock, ShutDown::Now),
                Command::Tune(Tuning::Pause(is_paused))
                    if self.source.pause(clock.now, is_paused) => {}
                Command::Tune(tuning) => self.tune(clock.time, tuning),
            }
        }
    }

    fn tune(&mut self, time: tcpcopy_engine::Instant, tuning: Tuning) {
        for lane in &mut self.lanes {
            lane.engine.tune(time, tuning);
        }
    }

    /// Sleeps off processor time beyond the share, and takes connections as long as it keeps up.
    fn keep_to_its_share(&mut self, time: tcpcopy_engine::Instant, has_more: bool) {
        let Some(throttle) = &mut self.throttle else {
            return;
        };
        let demand = throttle.check(has_more);
        // A file can wait instead.
        if let Some(admission) = demand.admission.filter(|_| self.source.can_wait()) {
            self.tune(time, Tuning::Admission(admission));
        }
        if !demand.sleep.is_zero() {
            self.pause(demand.sleep);
        }
    }

    /// Takes what has been captured, and no more, and ends the lanes.
    fn shut_down(&mut self, clock: Clock, how: ShutDown) {
        self.is_ending = true;
        self.source.close(&mut self.lanes, clock);
        for lane in &mut self.lanes {
            lane.engine.shut_down(clock.time, how);
        }
    }

    /// Lets a moment pass that only a command can cut short.
    fn pause(&self, length: Duration) {
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
        let timeout = Timespec::try_from(length).ok();
        // Whatever ends the pause early, the loop looks at everything next.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// Waits for packets, the targets, commands or time, at most for `limit`; the answer is whether
    /// a target's side has something.
    fn sleep(&mut self, now: Instant, limit: Duration) -> io::Result<bool> {
        let timeouts = self.lanes.iter().filter_map(Lane::next_timeout);
        let limit = timeouts
            .map(|at| at.saturating_duration_since(now))
            .fold(limit.min(LONGEST_SLEEP), Duration::min);
        let mut fds = Vec::with_capacity(8);
        fds.push(PollFd::new(&self.wake, PollFlags::IN));
        self.source.interests(&mut fds);
        let first_upstream = fds.len();
        for lane in &self.lanes {
            lane.interests(&mut fds);
        }
        let timeout = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let upstream_ready = fds[first_upstream..].iter().any(is_ready);
        let ring_failed = fds[1..first_upstream]
            .iter()
            .any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        if is_ready(&fds[0]) {
            clear(&self.wake);
        }
        if ring_failed {
            self.source.look_at_devices();
        }
        Ok(upstream_ready)
    }
}

fn log_record(record: &SessionRecord) {
    tracing::debug!(
        session = ?record.session,
        client = %record.client,
        tuple = %record.tuple,
        captured_bytes = record.captured_bytes,
        delivered_bytes = record.delivered_bytes,
        received_bytes = record.received_bytes,
        reason = record.reason.map(|reason| reason.name()),
        "session ended"
    );
}
