//! Runs a scenario over model kernel connections: capture, engine, kernel and target on one clock.

use std::collections::BTreeMap;

use tcpcopy_engine::{
    Closing, Engine, Instant, Output, SOCKET_HOP_LIMIT, SessionId, SessionRecord, ShutDown,
    UpstreamEvent,
};
use tcpcopy_packet::{Endpoint, FourTuple, Segment, TcpFlags, TcpOptions};

use super::kernel::{Kernel, KernelConfig, KernelCounts, Told};
use crate::content::target_said;
use crate::events::{EventQueue, MILLISECOND_US, Micros, SECOND_US};
use crate::harness::{Outcome, check_in_flight, new_engine};
use crate::plugins::Observed;
use crate::rng::Rng;
use crate::scenario::{Control, Scenario, Stop};
use crate::target::TargetCounts;
use crate::trace::{Place, Trace};
use crate::wire::Header;

/// Steps within one virtual microsecond after which nothing moves any more.
const MAX_STEPS_AT_ONCE: u32 = 100_000;
/// Outputs of one drain after which the engine never comes to rest.
const MAX_OUTPUTS: u32 = 200_000;
/// Times in a row that the engine's timer may ask for a moment that is not in the future.
const MAX_OVERDUE: u32 = 20;
/// What is still under way when the engine has finished arrives within this.
const AFTERMATH_US: Micros = 2 * SECOND_US;
/// What the target's bytes are, as nobody looks at them.
static TARGET_BYTES: [u8; 1 << 16] = [0; 1 << 16];

/// A scenario, and the kernel that it runs on.
#[derive(Clone, Debug)]
pub(crate) struct SocketScenario {
    pub(crate) scenario: Scenario,
    pub(crate) kernel: KernelConfig,
    /// All that the kernel has to tell comes before the engine's next output.
    pub(crate) in_batches: bool,
}

/// What a run led to.
#[derive(Debug)]
pub(crate) struct SocketOutcome {
    pub(crate) outcome: Outcome,
    pub(crate) kernel: KernelCounts,
    pub(crate) most_buffered_bytes: u64,
}

/// Runs a scenario to its end.
pub(crate) fn run(scenario: &SocketScenario) -> SocketOutcome {
    let mut simulation = Simulation::new(scenario);
    simulation.run();
    simulation.finish()
}

enum Event {
    /// The next segment of this connection is captured.
    Captured(usize),
    Control(Control),
    /// A connection from here is captured where the target's traffic comes by again.
    Looped(Endpoint),
    Stop,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    in_batches: bool,
    now_us: Micros,
    queue: EventQueue<Event>,
    engine: Engine,
    engine_at: Option<Micros>,
    overdue: u32,
    kernel: Kernel,
    /// The next segment of each connection.
    cursors: Vec<usize>,
    records: Vec<SessionRecord>,
    arrived_bytes: u64,
    last_delivery_us: Micros,
    most_buffered_bytes: u64,
    stopped: bool,
    finished_us: Option<Micros>,
    trace: Trace,
    /// How much each session's target has said.
    target_said: BTreeMap<u64, u64>,
    observed: Observed,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a SocketScenario) -> Self {
        let SocketScenario {
            scenario,
            kernel,
            in_batches,
        } = scenario;
        let mut rng = Rng::new(scenario.seed);
        let observed = Observed::default();
        let mut queue = EventQueue::new();
        for (index, connection) in scenario.connections.iter().enumerate() {
            if let Some(first) = connection.segments.first() {
                queue.push(first.at_us, Event::Captured(index));
            }
        }
        for &(at_us, control) in &scenario.controls {
            queue.push(at_us, Event::Control(control));
        }
        let last_us = scenario.captured_until_us();
        let stop_us = match scenario.stop {
            Stop::Drain { after_us, .. } | Stop::Now { after_us } => last_us + after_us,
            Stop::NowAt { at_us } => at_us,
        };
        queue.push(stop_us, Event::Stop);
        let title = format!("{}, SIMULATION_SEED={}", scenario.name, scenario.seed);
        Self {
            scenario,
            in_batches: *in_batches,
            now_us: 0,
            queue,
            engine: new_engine(scenario, rng.next(), &observed),
            engine_at: None,
            overdue: 0,
            kernel: Kernel::new(kernel.clone(), scenario.target.clone(), rng.fork()),
            cursors: vec![0; scenario.connections.len()],
            records: Vec::new(),
            arrived_bytes: 0,
            last_delivery_us: 0,
            most_buffered_bytes: 0,
            stopped: false,
            finished_us: None,
            trace: Trace::new(title),
            target_said: BTreeMap::new(),
            observed,
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    fn run(&mut self) {
        let mut steps_at_once = 0;
        loop {
            let timers = [self.queue.next_at(), self.engine_at, self.kernel.next_at()];
            let Some(next_us) = timers.into_iter().flatten().min() else {
                return;
            };
            let is_aftermath = |at_us| next_us > at_us + AFTERMATH_US;
            if self.finished_us.is_some_and(is_aftermath) {
                return;
            }
            if next_us > self.now_us {
                self.now_us = next_us;
                steps_at_once = 0;
            }
            steps_at_once += 1;
            assert!(steps_at_once < MAX_STEPS_AT_ONCE, "livelock");
            assert!(self.now_us < self.scenario.limit_us, "{}", self.in_flight());
            self.step();
        }
    }

    fn step(&mut self) {
        if self.queue.next_at().is_some_and(|at| at <= self.now_us) {
            match self.queue.pop().expect("peeked").1 {
                Event::Captured(connection) => self.captured(connection),
                Event::Control(control) => self.control(control),
                Event::Looped(source) => self.looped(source),
                Event::Stop => self.stop(),
            }
        } else if self.engine_at.is_some_and(|at| at <= self.now_us) {
            self.engine.timeout(self.now());
            self.drain_engine();
            let is_overdue = self.engine_at.is_some_and(|at| at <= self.now_us);
            self.overdue = if is_overdue { self.overdue + 1 } else { 0 };
            assert!(self.overdue < MAX_OVERDUE, "the timer never moves on");
        } else {
            while self.kernel.step(self.now_us) {
                self.hear_kernel();
                if !self.in_batches {
                    break;
                }
            }
            self.drain_engine();
        }
        if self.stopped && self.finished_us.is_none() && self.engine.is_finished() {
            self.finished_us = Some(self.now_us);
            self.trace
                .note(self.now_us, "the engine has finished".to_owned());
        }
    }

    fn captured(&mut self, index: usize) {
        let connection = &self.scenario.connections[index];
        let captured = &connection.segments[self.cursors[index]];
        self.cursors[index] += 1;
        if let Some(next) = connection.segments.get(self.cursors[index]) {
            self.queue.push(next.at_us, Event::Captured(index));
        }
        let payload = connection.payload(captured, self.scenario.plugin.is_some());
        self.trace
            .segment(self.now_us, Place::Captured, &captured.header);
        let segment: Segment<'_> = captured.header.segment(&payload);
        self.engine.segment(self.now(), &segment);
        self.drain_engine();
    }

    fn control(&mut self, control: Control) {
        self.trace.note(self.now_us, format!("{control:?}"));
        let now = self.now();
        control.apply(&mut self.engine, now);
        self.drain_engine();
    }

    fn looped(&mut self, source: Endpoint) {
        let destination = self.scenario.loops_to.expect("only where it loops");
        let syn = Header {
            tuple: FourTuple::new(source, destination),
            seq: u32::from(source.port),
            ack: 0,
            flags: TcpFlags::SYN,
            window: 1_000,
            options: TcpOptions::default(),
            payload_len: 0,
        };
        self.trace.segment(self.now_us, Place::Captured, &syn);
        let syn = Segment {
            hop_limit: SOCKET_HOP_LIMIT,
            ..syn.segment(&[])
        };
        self.engine.segment(self.now(), &syn);
        self.drain_engine();
    }

    fn stop(&mut self) {
        self.stopped = true;
        let how = match self.scenario.stop {
            Stop::Drain { deadline_us, .. } => ShutDown::Drain {
                deadline: Instant::from_micros(deadline_us),
            },
            Stop::Now { .. } | Stop::NowAt { .. } => ShutDown::Now,
        };
        self.trace.note(self.now_us, format!("shut down: {how:?}"));
        self.engine.shut_down(self.now(), how);
        self.drain_engine();
    }

    /// Tells the engine what the kernel has to say.
    fn hear_kernel(&mut self) {
        let arrived = self.kernel.arrived_bytes();
        if arrived > self.arrived_bytes {
            self.arrived_bytes = arrived;
            self.last_delivery_us = self.now_us;
        }
        while let Some((session, told)) = self.kernel.next_told() {
            self.trace
                .note(self.now_us, format!("{session:?} < {told:?}"));
            self.tell(session, told);
        }
    }

    fn tell(&mut self, session: SessionId, told: Told) {
        let event = match told {
            Told::Connected => UpstreamEvent::Connected(session),
            Told::Writable => UpstreamEvent::Writable(session),
            Told::Acknowledged(unacknowledged) => UpstreamEvent::Acknowledged {
                session,
                unacknowledged,
            },
            Told::Received(bytes, is_last, ends) => {
                return self.received(session, bytes, is_last, ends);
            }
            Told::Finished => UpstreamEvent::Finished(session),
            Told::Failed(failure) => UpstreamEvent::Failed { session, failure },
        };
        self.engine.upstream_event(self.now(), event);
    }

    fn received(&mut self, session: SessionId, bytes: u64, is_last: bool, ends: bool) {
        if self.scenario.plugin.is_none() {
            let bytes = &TARGET_BYTES[..usize::try_from(bytes).expect("in memory")];
            return self.engine.received(self.now(), session, bytes, is_last);
        }
        let offset = self.target_said.entry(session.as_u64()).or_default();
        let end = *offset + bytes;
        let ends = if ends { vec![end] } else { Vec::new() };
        let said = target_said(*offset, bytes, &ends);
        *offset = end;
        self.engine.received(self.now(), session, &said, is_last);
    }

    /// Takes all outputs until the engine rests.
    fn drain_engine(&mut self) {
        for _ in 0..MAX_OUTPUTS {
            match self.engine.poll_output(self.now()) {
                Output::Connect {
                    session, target, ..
                } => self.connect(session, target),
                Output::Send { session, bytes } => {
                    let offered = bytes.len();
                    let taken = self.kernel.send(self.now_us, session, bytes);
                    self.sent(session, offered, taken);
                }
                Output::Close { session, how } => self.close(session, how),
                Output::Record(record) => {
                    self.trace.note(self.now_us, format!("{record:?}"));
                    self.records.push(record);
                }
                Output::Timeout(at) => {
                    self.engine_at = at.map(Instant::as_micros);
                    return self.check_rest();
                }
                output @ (Output::Packet(_) | Output::Register(_) | Output::Unregister { .. }) => {
                    panic!("sockets need no such thing: {output:?}")
                }
            }
        }
        panic!("the engine never rests at {} µs", self.now_us);
    }

    fn connect(&mut self, session: SessionId, target: Endpoint) {
        let connected = self.kernel.connect(self.now_us, session, target);
        if let (Ok(source), Some(_)) = (connected, self.scenario.loops_to) {
            let captured_us = self.now_us + MILLISECOND_US;
            self.queue.push(captured_us, Event::Looped(source));
        }
        let event = match connected {
            Ok(source) => UpstreamEvent::Connecting { session, source },
            Err(failure) => UpstreamEvent::Failed { session, failure },
        };
        self.trace.note(self.now_us, format!("> connect {event:?}"));
        self.engine.upstream_event(self.now(), event);
    }

    fn sent(&mut self, session: SessionId, offered: usize, bytes: usize) {
        let text = format!("{session:?} > {bytes} of {offered} bytes");
        self.trace.note(self.now_us, text);
        let event = UpstreamEvent::Taken { session, bytes };
        self.engine.upstream_event(self.now(), event);
    }

    fn close(&mut self, session: SessionId, how: Closing) {
        self.trace
            .note(self.now_us, format!("{session:?} > {how:?}"));
        self.kernel.close(self.now_us, session, how);
    }

    fn check_rest(&mut self) {
        check_in_flight(&self.engine);
        let gauges = self.engine.gauges();
        self.most_buffered_bytes = self.most_buffered_bytes.max(gauges.buffered_bytes);
        assert!(gauges.hurried_sessions <= gauges.sessions, "{gauges:?}");
    }

    fn in_flight(&self) -> String {
        format!("{:?}, {:?}", self.engine.in_flight(), self.engine.gauges())
    }

    fn finish(self) -> SocketOutcome {
        assert!(self.stopped, "the run ended before the stop");
        assert!(
            self.engine.is_finished(),
            "nothing left to do, yet {}",
            self.in_flight()
        );
        let kernel = self.kernel.counts;
        let outcome = Outcome {
            accepted: self.kernel.finish(),
            target: TargetCounts::default(),
            ledger: *self.engine.ledger(),
            records: self.records,
            trace: self.trace,
            last_delivery_us: self.last_delivery_us,
            finished_us: self.finished_us.unwrap_or(self.now_us),
            lost_to_target: 0,
            observed: self.observed.take(),
            send_delay: self.engine.send_delay().clone(),
        };
        SocketOutcome {
            outcome,
            kernel,
            most_buffered_bytes: self.most_buffered_bytes,
        }
    }
}
