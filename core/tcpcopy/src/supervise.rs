//! The main thread: signals, figures, the end.

use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_engine::Tuning;

use crate::config::Lane;
use crate::control::{self, Answer, ControlSocket, Question};
use crate::error::StartError;
use crate::player::progress_line;
use crate::report::{Outcome, Report, Run};
use crate::shard::{Command, End};
use crate::signals::Request;
use crate::sources::Sources;
use crate::start::Running;
use crate::statistics::{Figures, Snapshot, log, status_line};
use crate::wake::{self, Waker};

/// Time between two status lines on a terminal.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// After so many segments of clients, origins have answered something.
const SEGMENTS_WITHOUT_ANSWERS: u64 = 1000;

/// What a shard tells, with its number.
#[derive(Debug)]
pub enum Event {
    /// The figures asked for.
    Figures(u16, Box<Snapshot>),
    /// Its loop has ended; without figures when it panicked.
    Ended(u16, End, Option<Box<Snapshot>>),
}

/// The main thread's end of what shards tell.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    wake: OwnedFd,
}

/// The shards' end.
#[derive(Clone, Debug)]
pub struct News {
    sender: Sender<Event>,
    waker: Waker,
}

impl Events {
    /// Makes both ends.
    ///
    /// # Errors
    /// [`StartError::System`].
    pub fn new() -> Result<(Self, News), StartError> {
        let (sender, receiver) = mpsc::channel();
        let (waker, wake) = wake::pair()?;
        Ok((Self { receiver, wake }, News { sender, waker }))
    }
}

impl News {
    /// Tells the main thread; it ends last, so it is there.
    pub fn send(&self, event: Event) {
        let _ = self.sender.send(event);
        self.waker.wake();
    }

    /// Promises an [`Event::Ended`], whatever happens to the thread.
    #[must_use]
    pub fn guard(&self, shard: u16) -> EndGuard {
        EndGuard {
            news: self.clone(),
            shard,
            told: false,
        }
    }
}

/// Tells the main thread that a shard has ended, even by a panic.
#[derive(Debug)]
pub struct EndGuard {
    news: News,
    shard: u16,
    told: bool,
}

impl EndGuard {
    /// Tells of an end in good order.
    pub fn ended(mut self, end: End, figures: Snapshot) {
        self.told = true;
        self.news
            .send(Event::Ended(self.shard, end, Some(Box::new(figures))));
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if !self.told {
            let end = End::Failed("a thread panicked".to_owned());
            self.news.send(Event::Ended(self.shard, end, None));
        }
    }
}

/// Watches over the shards until all have ended, and tells the result.
pub fn supervise(running: Running) -> ExitCode {
    let mut supervisor = Supervisor::new(running);
    let outcome = match supervisor.watch() {
        Ok(()) => supervisor.outcome,
        Err(error) => {
            tracing::error!(%error, "can't wait for events");
            Outcome::Failed
        }
    };
    supervisor.finish(outcome)
}

/// What is known of one shard.
#[derive(Debug, Default)]
struct Known {
    figures: Snapshot,
    /// Whether figures have been asked for and have not come.
    is_asked: bool,
    has_ended: bool,
}

#[derive(Debug)]
struct Supervisor {
    running: Running,
    shards: Vec<Known>,
    outcome: Outcome,
    /// Requests to stop so far.
    stops: u32,
    /// Whether the figures that were asked for are to be shown.
    is_showing: bool,
    /// Those who wait for figures.
    waiting_for_status: Vec<Question>,
    /// Whether figures are shown on a terminal.
    on_terminal: bool,
    /// Whether they are logged.
    in_log: bool,
    next_round: Instant,
    next_log: Instant,
    shown: (Instant, Figures),
    logged: Figures,
    /// Whether it was told that plugins lack the origins' answers.
    is_lack_told: bool,
}

impl Supervisor {
    fn new(running: Running) -> Self {
        let config = &running.config;
        let on_terminal = !config.daemon && io::stderr().is_terminal();
        let in_log = !on_terminal || config.log.file.is_some();
        let now = Instant::now();
        let shards = running.shards.iter().map(|_| Known::default()).collect();
        let mut supervisor = Self {
            shards,
            outcome: Outcome::Stopped,
            stops: 0,
            is_showing: false,
            waiting_for_status: Vec::new(),
            on_terminal,
            in_log,
            next_round: now,
            next_log: now + config.interval,
            shown: (now, Figures::default()),
            logged: Figures::default(),
            is_lack_told: false,
            running,
        };
        supervisor.next_round = now + supervisor.round();
        supervisor
    }

    /// Time between two rounds of figures.
    fn round(&self) -> Duration {
        if self.on_terminal {
            STATUS_INTERVAL
        } else {
            self.running.config.interval
        }
    }

    fn watch(&mut self) -> io::Result<()> {
        while !self.shards.iter().all(|shard| shard.has_ended) {
            self.wait()?;
            while let Some(request) = self.running.signals.next_request()? {
                self.obey(request);
            }
            let control = self.running.control.as_mut();
            for question in control.map_or_else(Vec::new, ControlSocket::questions) {
                self.take_up(question);
            }
            wake::clear(&self.running.events.wake);
            while let Ok(event) = self.running.events.receiver.try_recv() {
                self.hear(event);
            }
            if self.next_round <= Instant::now() {
                self.next_round += self.round();
                self.is_showing = true;
                self.ask_for_figures();
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(&self.running.signals, PollFlags::IN),
            PollFd::new(&self.running.events.wake, PollFlags::IN),
        ];
        if let Some(control) = &self.running.control {
            let callers = control.interests();
            fds.extend(callers.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        }
        let limit = self.next_round.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::ReopenLog => match self.running.log.reopen() {
                Ok(()) => tracing::info!("log opened"),
                Err(error) => tracing::warn!(%error, "can't open the log file anew"),
            },
            Request::Stop => self.stop(self.stops > 0),
        }
    }

    fn stop(&mut self, now: bool) {
        self.stops += 1;
        if now {
            tracing::info!("stopping now");
            self.command(Command::Stop);
        } else {
            let drain = self.running.config.drain;
            let drain_s = drain.as_secs();
            tracing::info!(drain_s, "stopping once all is delivered; again stops now");
            self.command(Command::Drain(drain));
        }
    }

    /// Does what `tcpcopy ctl` asks for.
    fn take_up(&mut self, question: Question) {
        match question.request {
            control::Request::Status => {
                self.waiting_for_status.push(question);
                self.ask_for_figures();
            }
            control::Request::Stop { now } => {
                self.stop(now || self.stops > 0);
                question.answer(&Answer::Done);
            }
            _ => {
                let answer = match question.request.tuning() {
                    Some(Ok(tuning)) => {
                        self.tune(tuning);
                        Answer::Done
                    }
                    Some(Err(reason)) => Answer::Refused(reason),
                    None => Answer::Refused("this version can't do that".to_owned()),
                };
                question.answer(&answer);
            }
        }
    }

    fn tune(&self, tuning: Tuning) {
        tracing::info!(?tuning, "changed by tcpcopy ctl");
        let tuning = match tuning {
            Tuning::Rate(Some(rate)) => {
                Tuning::Rate(Some(rate.divided(self.running.config.shards)))
            }
            tuning => tuning,
        };
        self.command(Command::Tune(tuning));
    }

    /// Answers those who asked for the figures.
    fn answer_status(&mut self) {
        if self.waiting_for_status.is_empty() {
            return;
        }
        let report = self.report(Outcome::Running);
        let answer = match serde_json::to_value(&report) {
            Ok(figures) => Answer::Status(Box::new(figures)),
            Err(error) => Answer::Refused(error.to_string()),
        };
        for question in self.waiting_for_status.drain(..) {
            question.answer(&answer);
        }
    }

    fn report(&self, outcome: Outcome) -> Report {
        let config = &self.running.config;
        let run = Run {
            outcome,
            targets: config.lanes.iter().map(Lane::name).collect(),
            plugins: self.running.plugins.figures(),
            shards: config.shards,
            wall_s: self.running.started.elapsed().as_secs_f64(),
        };
        Report::new(&self.sum(), run)
    }

    fn command(&self, command: Command) {
        for shard in &self.running.shards {
            shard.command(command);
        }
    }

    fn ask_for_figures(&mut self) {
        for (known, shard) in self.shards.iter_mut().zip(&self.running.shards) {
            if !known.has_ended {
                known.is_asked = true;
                shard.command(Command::Report);
            }
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Figures(shard, figures) => {
                let known = &mut self.shards[usize::from(shard)];
                known.figures = *figures;
                known.is_asked = false;
            }
            Event::Ended(shard, end, figures) => {
                let known = &mut self.shards[usize::from(shard)];
                known.has_ended = true;
                known.is_asked = false;
                if let Some(figures) = figures {
                    known.figures = *figures;
                }
                return self.hear_end(shard, end);
            }
        }
        if !self.shards.iter().any(|shard| shard.is_asked) {
            self.answer_status();
            if self.is_showing {
                self.is_showing = false;
                self.show();
            }
        }
    }

    /// One shard that ends by itself takes the others with it: a part of the traffic is of no use.
    fn hear_end(&mut self, shard: u16, end: End) {
        match end {
            End::Stopped => return,
            // The other shards come to the same fault by themselves.
            End::FileBroken => {
                self.outcome = Outcome::Failed;
                return;
            }
            End::InterceptLost(_) => self.outcome = Outcome::InterceptLost,
            End::Failed(reason) => {
                tracing::error!(shard, reason, "a shard failed");
                self.outcome = Outcome::Failed;
            }
        }
        self.command(Command::Stop);
    }

    fn sum(&self) -> Snapshot {
        Snapshot::sum(self.shards.iter().map(|shard| &shard.figures))
    }

    /// Shows the figures of a complete round where they belong.
    fn show(&mut self) {
        let snapshot = self.sum();
        let figures = snapshot.total();
        self.look_for_answers(&figures, SEGMENTS_WITHOUT_ANSWERS);
        let now = Instant::now();
        if self.in_log && self.next_log <= now {
            self.next_log += self.running.config.interval;
            log(&figures, &self.logged);
            self.logged = figures.clone();
        }
        if self.on_terminal {
            let (since, before) = &self.shown;
            let mut line = status_line(&figures, before, now - *since);
            if let Some(play) = &snapshot.play {
                line = format!("{}  {line}", progress_line(&play.progress));
            }
            self.running.log.show_status(&line);
            self.shown = (now, figures);
        }
    }

    /// Says once that plugins need what origins answer, and that after so many segments of clients
    /// nothing of it has come.
    fn look_for_answers(&mut self, figures: &Figures, segments: u64) {
        let capture = &figures.ledger.capture;
        let plugins = self.running.plugins.wanting_origin();
        let is_lacking = capture.client_segments >= segments && capture.origin_segments == 0;
        if plugins.is_empty() || self.is_lack_told || !is_lacking {
            return;
        }
        self.is_lack_told = true;
        let remedy = match self.running.config.sources {
            Sources::Files(_) => "the files have none: record with tcpcopy capture --both",
            Sources::Devices(_) => {
                "none pass the devices of -i and the filter of -F: both have to take them, too"
            }
        };
        let plugins = plugins.join(", ");
        tracing::warn!(
            plugins,
            "no answers of the origin, which plugins need: {remedy}"
        );
    }

    /// Prints and writes the balance; the exit status says how the run ended.
    fn finish(mut self, mut outcome: Outcome) -> ExitCode {
        for shard in std::mem::take(&mut self.running.shards) {
            if shard.thread.join().is_err() {
                outcome = Outcome::Failed;
            }
        }
        let report = self.report(outcome);
        self.answer_status();
        let figures = self.sum().total();
        self.look_for_answers(&figures, 1);
        let Self {
            running, logged, ..
        } = self;
        running.log.clear_status();
        log(&figures, &logged);
        let mut failed = outcome != Outcome::Stopped;
        if !report.balanced {
            tracing::error!("the balance is not zero: a defect in tcpcopy, please report it");
            failed = true;
        }
        let table = report.table();
        if running.config.daemon {
            table.lines().for_each(|line| tracing::info!("{line}"));
        } else {
            // Whoever read the output may be gone; the report is still to be written.
            let _ = io::stdout().write_all(table.as_bytes());
        }
        if let Some(file) = running.report
            && let Err(error) = file.write(&report)
        {
            tracing::error!(%error, "can't write the report");
            failed = true;
        }
        tracing::info!(
            outcome = ?outcome,
            balanced = report.balanced,
            loss_rate = report.loss_rate,
            "ended"
        );
        drop(running.pid_file);
        ExitCode::from(u8::from(failed))
    }
}
