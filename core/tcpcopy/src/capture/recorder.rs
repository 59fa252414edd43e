//! The main thread's loop: empties the rings and hands what they held to the writer.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use intercept_lib::LogGate;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_net::file::{PcapngEncoder, Recording, RecordingError};
use tcpcopy_net::ring::CaptureRing;

use super::plan::Plan;
use super::summary::{Counters, Summary};
use super::writer::{BATCH_BYTES, Batch, Handed, Writer};
use crate::devices::look_at_devices;
use crate::error::StartError;
use crate::logging::LogSink;
use crate::signals::{Request, Signals};
use crate::traffic::Sides;

/// The longest that a packet waits for others before it is written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// How long the rings are still read after the signal: the kernel hands a block over when it is full
/// or after its timeout, which old kernels count in ticks of 10 ms.
const SETTLE: Duration = Duration::from_millis(25);
/// How often a full queue is looked at, once nothing else is to be done.
const ROOM_INTERVAL: Duration = Duration::from_millis(10);
/// Time between two readings of the kernel's counters, and two status lines on a terminal.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Records from rings to files.
#[derive(Debug)]
pub(super) struct Recorder {
    rings: Vec<CaptureRing>,
    encoder: PcapngEncoder,
    sides: Option<Sides>,
    writer: Writer,
    batch: Batch,
    /// When the first packet of the batch was put there.
    batch_begun: Option<Instant>,
    counters: Counters,
    log_gate: LogGate,
}

/// How a recording has ended.
#[derive(Debug)]
pub(super) enum End {
    /// All that was captured is in the files.
    Done(Summary),
    /// The files can't be written any more.
    Failed(RecordingError),
    /// The user did not wait until all was written.
    Abandoned,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    On,
    /// The user wants it to end.
    Stopped,
    /// The writer has failed.
    Failed,
}

impl Recorder {
    pub(super) fn new(
        plan: Plan,
        rings: Vec<CaptureRing>,
        recording: Recording,
    ) -> Result<Self, StartError> {
        Ok(Self {
            rings,
            encoder: plan.encoder(),
            sides: plan.sides,
            writer: Writer::start(recording)?,
            batch: Batch::default(),
            batch_begun: None,
            counters: Counters::default(),
            log_gate: LogGate::default(),
        })
    }

    /// Records until a signal comes or the writer fails.
    pub(super) fn run(mut self, signals: &Signals, log: &LogSink) -> End {
        let on_terminal = io::IsTerminal::is_terminal(&io::stderr());
        let mut next_status = Instant::now() + STATUS_INTERVAL;
        let mut going = Going::On;
        while going == Going::On {
            let more = self.read(Instant::now(), &mut going);
            let now = Instant::now();
            if now >= next_status {
                next_status = now + STATUS_INTERVAL;
                // Not for the terminal alone: the kernel's counters have 32 bits.
                self.count_drops();
                if on_terminal {
                    log.show_status(&self.counters.line());
                }
            }
            let limit = if more {
                Duration::ZERO
            } else {
                self.longest_sleep(now)
            };
            self.wait(signals, limit, &mut going);
        }
        if going == Going::Stopped && !self.finish(signals) {
            return End::Abandoned;
        }
        let counters = self.counters;
        match self.writer.join() {
            Ok(kept) => End::Done(Summary { counters, kept }),
            Err(error) => End::Failed(error),
        }
    }

    /// Takes at most one block of each ring, so that packets of several devices stay nearly in
    /// order, and hands on what is full or old; the answer is whether there may be more.
    fn read(&mut self, now: Instant, going: &mut Going) -> bool {
        let mut more = false;
        for (interface, ring) in (0..).zip(&mut self.rings) {
            let Some(block) = ring.next_block() else {
                continue;
            };
            more = true;
            for packet in &block {
                let sides = self.sides.as_ref();
                if sides.is_some_and(|sides| !sides.is_wanted(packet.packet, packet.kind)) {
                    self.counters.of_this_host += 1;
                    continue;
                }
                let (time_ns, length) = (packet.timestamp_ns, packet.original_len);
                let blocks = &mut self.batch.blocks;
                self.encoder
                    .packet(interface, time_ns, packet.packet, length, blocks);
                self.batch.packets += 1;
                self.batch.newest_ns = self.batch.newest_ns.max(time_ns);
                self.counters.packets += 1;
                self.counters.bytes += packet.packet.len() as u64;
                if self.batch.blocks.len() >= BATCH_BYTES {
                    hand(&self.writer, &mut self.batch, &mut self.counters, going);
                    self.batch_begun = None;
                }
            }
        }
        if self.batch.packets > 0 {
            let begun = *self.batch_begun.get_or_insert(now);
            if now.saturating_duration_since(begun) >= FLUSH_INTERVAL {
                hand(&self.writer, &mut self.batch, &mut self.counters, going);
                self.batch_begun = None;
            }
        }
        more
    }

    fn longest_sleep(&self, now: Instant) -> Duration {
        match self.batch_begun {
            Some(begun) => FLUSH_INTERVAL.saturating_sub(now.saturating_duration_since(begun)),
            None => STATUS_INTERVAL,
        }
    }

    fn wait(&mut self, signals: &Signals, limit: Duration, going: &mut Going) {
        let mut fds = vec![
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(&self.writer.ended, PollFlags::IN),
        ];
        for ring in &self.rings {
            fds.push(PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN));
        }
        let timeout = Timespec::try_from(limit).ok();
        // Whatever ends it, everything is looked at next.
        let _ = poll(&mut fds, timeout.as_ref());
        let failed = PollFlags::ERR | PollFlags::HUP;
        let writer_ended = !fds[1].revents().is_empty();
        let ring_failed = fds[2..].iter().any(|fd| fd.revents().intersects(failed));
        if ring_failed {
            self.look_at_devices();
        }
        if writer_ended {
            *going = Going::Failed;
        }
        while let Ok(Some(request)) = signals.next_request() {
            if request == Request::Stop && *going == Going::On {
                *going = Going::Stopped;
            }
        }
    }

    /// Hands on what was captured before the signal and waits until it is written, or until a second
    /// signal; the answer is whether it was.
    fn finish(&mut self, signals: &Signals) -> bool {
        let mut going = Going::On;
        let settled = Instant::now() + SETTLE;
        let mut now = Instant::now();
        while now < settled && going == Going::On {
            if !self.read(now, &mut going) {
                std::thread::sleep(settled - now);
            }
            now = Instant::now();
        }
        // What was there at the signal is somewhere in the present lap of a ring.
        let laps = self.rings.iter().map(CaptureRing::block_count);
        let mut blocks_left = laps.max().unwrap_or_default();
        while blocks_left > 0 && going == Going::On && self.read(now, &mut going) {
            blocks_left -= 1;
        }
        self.count_drops();
        self.rings.clear();
        tracing::info!("writing what was captured; again stops now");
        while self.batch.packets > 0 {
            match self.writer.hand(std::mem::take(&mut self.batch)) {
                Handed::Taken(_) => {}
                Handed::Gone => return true,
                Handed::Full(batch) => {
                    self.batch = batch;
                    if self
                        .wait_for_writer(signals, ROOM_INTERVAL)
                        .is_some_and(|ended| !ended)
                    {
                        return false;
                    }
                }
            }
        }
        let statistics = self.statistics();
        while !self.writer.end(&statistics) {
            if self
                .wait_for_writer(signals, ROOM_INTERVAL)
                .is_some_and(|ended| !ended)
            {
                return false;
            }
        }
        loop {
            if let Some(ended) = self.wait_for_writer(signals, STATUS_INTERVAL) {
                return ended;
            }
        }
    }

    /// Waits for the writer's end (true) or another signal (false), for so long at most.
    fn wait_for_writer(&self, signals: &Signals, limit: Duration) -> Option<bool> {
        let mut fds = [
            PollFd::new(&self.writer.ended, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let timeout = Timespec::try_from(limit).ok();
        let _ = poll(&mut fds, timeout.as_ref());
        if !fds[0].revents().is_empty() {
            return Some(true);
        }
        let stopped = matches!(signals.next_request(), Ok(Some(Request::Stop)));
        stopped.then_some(false)
    }

    /// What the kernel and the queue have dropped, as the last blocks of the file.
    fn statistics(&self) -> Vec<u8> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ns = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let mut blocks = Vec::new();
        for (interface, (received, dropped)) in (0..).zip(&self.counters.of_rings) {
            self.encoder
                .statistics(interface, now_ns, *received, *dropped, &mut blocks);
        }
        blocks
    }

    fn count_drops(&mut self) {
        let statistics = self.rings.iter_mut().map(CaptureRing::statistics);
        self.counters.of_rings = statistics
            .map(|statistics| statistics.unwrap_or_default())
            .map(|statistics| (statistics.received + statistics.dropped, statistics.dropped))
            .collect();
    }

    fn look_at_devices(&mut self) {
        look_at_devices(&mut self.rings, &mut self.log_gate);
    }
}

/// Hands the batch to the writer; what it has no room for is dropped and counted.
fn hand(writer: &Writer, batch: &mut Batch, counters: &mut Counters, going: &mut Going) {
    match writer.hand(std::mem::take(batch)) {
        Handed::Taken(empty) => *batch = empty,
        Handed::Full(mut full) => {
            counters.overflow_packets += full.packets;
            full.blocks.clear();
            full.packets = 0;
            *batch = full;
        }
        Handed::Gone => *going = Going::Failed,
    }
}
