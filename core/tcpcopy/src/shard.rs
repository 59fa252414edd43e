//! One thread and all it owns: capture rings, engine, tunnels, raw sender.
//!
//! ```text
//! rings ─▶ engine ─▶ sender          a turn of the loop:
//!           ▲ │                      1. capture, all that is there, at most a lap
//! tunnels ──┘ └────▶ tunnels         2. what intercept reports, and time
//!                                    3. outputs, a bounded number of them
//! ```
//! Capture goes first and whole, outputs go in bounded portions between, so a ring never overflows
//! because the shard is busy sending; what can't be sent yet waits in the engine, within its memory
//! budget. All of a turn happens at one time, read from the clock at its begin. A shard sleeps only
//! when nothing is left to do.

mod capture;
mod outputs;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_engine::{Engine, SessionId, ShutDown, UpstreamEvent};
use tcpcopy_net::raw::RawSender;
use tcpcopy_packet::{Endpoint, FourTuple, Segment};

use crate::statistics::Snapshot;
use crate::tunnel::{Tunnel, TunnelEvent};
use crate::wake::clear;
use capture::CaptureSource;
use outputs::{Next, Outputs};

/// How long an intercept may be away before the program ends, without `-L`. Longer than intercept
/// takes to be restarted, shorter than a test run is worth without its answers.
pub const INTERCEPT_GRACE: Duration = Duration::from_secs(30);
/// Outputs between two looks at the capture rings: less than a millisecond of work, since traffic at
/// memory speed fills a ring in a few of them.
const OUTPUTS_PER_TURN: usize = 128;
/// While no captured bytes wait for the target, a turn begins at most so often: what comes within a
/// pause is handled in one turn, for one wake-up. As long as the kernel's own batches of captured
/// packets, so nothing is later by more than one of those.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest sleep, so that a missed wake-up could never stop a shard for good.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a reply's tuple is set to: reports don't repeat it, and the engine knows the session's.
const UNNAMED: FourTuple = {
    let nowhere = Endpoint::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
    FourTuple::new(nowhere, nowhere)
};

/// What the main thread asks of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tell the figures.
    Report,
    /// Capture nothing more, deliver what is there, for at most this long.
    Drain(Duration),
    /// Drop what is left.
    Stop,
}

/// Why a shard's loop has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// An intercept was away for longer than [`INTERCEPT_GRACE`].
    InterceptLost {
        /// The intercept.
        name: String,
        /// Why it is away.
        reason: String,
    },
    /// Something that should not fail has failed.
    Failed(String),
}

/// A shard, ready to run on its thread.
#[derive(Debug)]
pub struct Shard {
    capture: CaptureSource,
    engine: Engine,
    tunnel: Tunnel,
    outputs: Outputs,
    commands: Receiver<Command>,
    /// Readable when there are commands.
    wake: OwnedFd,
    /// Where the engine's time begins.
    epoch: Instant,
    survive_loss: bool,
    lost: Option<End>,
    sessions_high_water: u64,
}

/// What a shard is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its rings, one for each device.
    pub rings: Vec<tcpcopy_net::ring::CaptureRing>,
    /// Its engine, new.
    pub engine: Engine,
    /// Its tunnels.
    pub tunnel: Tunnel,
    /// Its sender.
    pub sender: RawSender,
    /// Where commands come from.
    pub commands: Receiver<Command>,
    /// Readable when there are commands.
    pub wake: OwnedFd,
    /// Whether to go on without intercept.
    pub survive_loss: bool,
}

impl Shard {
    /// Puts a shard together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            capture: CaptureSource::new(parts.rings),
            engine: parts.engine,
            tunnel: parts.tunnel,
            outputs: Outputs::new(parts.sender),
            commands: parts.commands,
            wake: parts.wake,
            epoch: Instant::now(),
            survive_loss: parts.survive_loss,
            lost: None,
            sessions_high_water: 0,
        }
    }

    /// Runs until told to stop, or until intercept is lost; `report` gets the figures when they are
    /// asked for.
    pub fn run(&mut self, mut report: impl FnMut(Snapshot)) -> End {
        if let Err(error) = tcpcopy_net::scheduling::ask_for_short_slices() {
            tracing::debug!(%error, "the scheduler's default turns it is");
        }
        if self.tunnel.is_usable() {
            let now = self.engine_time(Instant::now());
            self.engine.upstream_event(now, UpstreamEvent::TunnelUp);
        }
        let mut tunnel_ready = true;
        loop {
            let now = Instant::now();
            self.obey(now, &mut report);
            let time = self.engine_time(now);
            let more_captured = self.capture.read(&mut self.engine, time);
            if tunnel_ready || self.tunnel.next_timeout() <= now {
                self.read_tunnel(now);
                self.check_loss(now);
            }
            self.engine.timeout(time);
            let sessions = self.engine.gauges().sessions;
            self.sessions_high_water = self.sessions_high_water.max(sessions);
            let next =
                self.outputs
                    .emit(&mut self.engine, &mut self.tunnel, time, OUTPUTS_PER_TURN);
            self.tunnel.flush(now);
            if next.is_drained() && self.engine.is_finished() {
                self.tunnel.farewell();
                return self.lost.take().unwrap_or(End::Stopped);
            }
            let next = if more_captured { Next::More } else { next };
            if next.is_drained() && self.engine.gauges().hurried_sessions == 0 {
                self.pause();
            }
            // The turn and the pause have taken their time.
            let now = Instant::now();
            match self.sleep(now, next.sleep(self.engine_time(now))) {
                Ok(ready) => tunnel_ready = ready,
                Err(error) => return End::Failed(format!("can't wait for events: {error}")),
            }
        }
    }

    /// The figures at this moment.
    pub fn snapshot(&mut self) -> Snapshot {
        self.capture.count_ring_drops(&mut self.engine);
        let sent = self.outputs.counters();
        let mut ledger = *self.engine.ledger();
        ledger.send_errors = outputs::send_errors(&sent.errors);
        Snapshot {
            ledger,
            gauges: self.engine.gauges(),
            sessions_high_water: self.sessions_high_water,
            sent,
            tunnel: self.tunnel.counters(),
        }
    }

    fn engine_time(&self, now: Instant) -> tcpcopy_engine::Instant {
        let micros = now.saturating_duration_since(self.epoch).as_micros();
        tcpcopy_engine::Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn obey(&mut self, now: Instant, report: &mut impl FnMut(Snapshot)) {
        while let Ok(command) = self.commands.try_recv() {
            let time = self.engine_time(now);
            match command {
                Command::Report => {
                    let snapshot = self.snapshot();
                    report(snapshot);
                }
                Command::Drain(limit) => {
                    self.stop_capture(time);
                    let deadline = time + limit;
                    self.engine.shut_down(time, ShutDown::Drain { deadline });
                }
                Command::Stop => {
                    self.stop_capture(time);
                    self.engine.shut_down(time, ShutDown::Now);
                }
            }
        }
    }

    /// Takes what the rings hold, then closes them.
    fn stop_capture(&mut self, time: tcpcopy_engine::Instant) {
        self.capture.read(&mut self.engine, time);
        self.capture.close(&mut self.engine);
    }

    fn read_tunnel(&mut self, now: Instant) {
        let time = self.engine_time(now);
        let engine = &mut self.engine;
        self.tunnel.service(now, |event| match event {
            TunnelEvent::Up => engine.upstream_event(time, UpstreamEvent::TunnelUp),
            TunnelEvent::Down => engine.upstream_event(time, UpstreamEvent::TunnelDown),
            TunnelEvent::Confirmed(session) => {
                let session = SessionId::from_u64(session);
                engine.upstream_event(time, UpstreamEvent::Registered(session));
            }
            TunnelEvent::Conflict(session) => {
                let session = SessionId::from_u64(session);
                engine.upstream_event(time, UpstreamEvent::RegistrationRefused(session));
            }
            TunnelEvent::Reply(record) => {
                let length = record.payload_len.saturating_add(record.tcp.len() as u32);
                if let Ok(segment) = Segment::parse_tcp(UNNAMED, record.tcp, length) {
                    engine.reply(time, SessionId::from_u64(record.session), &segment);
                }
            }
        });
    }

    /// Ends everything when an intercept has been away for too long.
    fn check_loss(&mut self, now: Instant) {
        if self.survive_loss || self.lost.is_some() {
            return;
        }
        let Some((since, name, reason)) = self.tunnel.longest_loss() else {
            return;
        };
        if now.saturating_duration_since(since) < INTERCEPT_GRACE {
            return;
        }
        self.lost = Some(End::InterceptLost {
            name: name.to_owned(),
            reason: reason.to_owned(),
        });
        let time = self.engine_time(now);
        self.stop_capture(time);
        self.engine.upstream_event(time, UpstreamEvent::TunnelLost);
        self.engine.shut_down(time, ShutDown::Now);
    }

    /// Lets a moment pass that only a command can cut short.
    fn pause(&self) {
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
        let timeout = Timespec::try_from(PAUSE).ok();
        // Whatever ends the pause early, the loop looks at everything next.
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// Waits for packets, reports, commands or time, at most for `limit`; the answer is whether a
    /// tunnel has something.
    fn sleep(&mut self, now: Instant, limit: Duration) -> io::Result<bool> {
        let limit = limit
            .min(self.tunnel.next_timeout().saturating_duration_since(now))
            .min(LONGEST_SLEEP);
        let mut fds = Vec::with_capacity(8);
        fds.push(PollFd::new(&self.wake, PollFlags::IN));
        for ring in self.capture.rings() {
            fds.push(PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN));
        }
        let first_tunnel = fds.len();
        for (fd, flags) in self.tunnel.interests() {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let timeout = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let tunnel_ready = fds[first_tunnel..].iter().any(is_ready);
        let ring_failed = fds[1..first_tunnel]
            .iter()
            .any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::HUP));
        if is_ready(&fds[0]) {
            clear(&self.wake);
        }
        if ring_failed {
            self.capture.look_at_devices();
        }
        Ok(tunnel_ready)
    }
}
