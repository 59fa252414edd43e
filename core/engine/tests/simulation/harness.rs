//! Runs a scenario: capture, engine, links, target, intercept and tunnel on one virtual clock.

mod outputs;
mod tunnel;

use tcpcopy_engine::{
    DelayHistogram, Engine, Instant, Ledger, SessionRecord, ShutDown, UpstreamEvent,
};
use tcpcopy_packet::Segment;

use crate::events::{EventQueue, Micros, SECOND_US};
use crate::intercept::ModelIntercept;
use crate::link::Link;
use crate::plugins::{ModelPlugins, Observed, Sighting};
use crate::rng::Rng;
use crate::scenario::{Control, Scenario, Stop, TunnelChange};
use crate::target::{Accepted, ModelTarget, TargetCounts};
use crate::trace::{Place, Trace};
use crate::wire::{Header, parse_verified};
use outputs::Registrations;
pub(crate) use outputs::check_in_flight;
use tunnel::{Tunnel, TunnelMessage};

/// Steps within one virtual microsecond after which nothing moves any more.
const MAX_STEPS_AT_ONCE: u32 = 100_000;
/// Steps of a whole run.
const MAX_STEPS: u64 = 30_000_000;
/// Times in a row that the engine's timer may ask for a moment that is not in the future.
const MAX_OVERDUE: u32 = 20;
/// What is still under way when the engine has finished arrives within this.
const AFTERMATH_US: Micros = 2 * SECOND_US;

/// What a run led to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) accepted: Vec<Accepted>,
    pub(crate) target: TargetCounts,
    pub(crate) ledger: Ledger,
    pub(crate) records: Vec<SessionRecord>,
    /// What happened; printed if a check of this outcome fails.
    pub(crate) trace: Trace,
    /// When the target received its last new byte.
    pub(crate) last_delivery_us: Micros,
    pub(crate) finished_us: Micros,
    pub(crate) lost_to_target: u64,
    /// What the plugin has seen.
    pub(crate) observed: Vec<Sighting>,
    pub(crate) send_delay: DelayHistogram,
}

enum Event {
    /// The next segment of this connection is captured.
    Captured(usize),
    ReachesTarget(Vec<u8>),
    ReachesIntercept(Header, Vec<u8>),
    Tunnel(u64, TunnelMessage),
    TunnelChange(TunnelChange),
    Control(Control),
    /// A packet for the target is captured.
    Looped(Vec<u8>),
    Stop,
}

/// The engine of a scenario, with its plugin if it has one.
pub(crate) fn new_engine(scenario: &Scenario, seed: u64, observed: &Observed) -> Engine {
    let config = scenario.engine.clone();
    match scenario.plugin {
        None => Engine::new(config, seed),
        Some(plugin) => {
            let plugins = ModelPlugins::new(plugin, seed, observed.clone());
            Engine::with_plugins(config, seed, Box::new(plugins))
        }
    }
}

/// Runs `scenario` to its end.
pub(crate) fn run(scenario: &Scenario) -> Outcome {
    let mut simulation = Simulation::new(scenario);
    simulation.run();
    simulation.finish()
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    now_us: Micros,
    queue: EventQueue<Event>,
    engine: Engine,
    engine_at: Option<Micros>,
    overdue: u32,
    target: ModelTarget,
    target_at: Option<Micros>,
    intercept: ModelIntercept,
    tunnel: Tunnel,
    registrations: Registrations,
    to_target: Link,
    to_intercept: Link,
    /// The next segment of each connection.
    cursors: Vec<usize>,
    records: Vec<SessionRecord>,
    received_bytes: u64,
    last_delivery_us: Micros,
    stopped: bool,
    finished_us: Option<Micros>,
    trace: Trace,
    observed: Observed,
    rng: Rng,
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let observed = Observed::default();
        let title = format!("{}, SIMULATION_SEED={}", scenario.name, scenario.seed);
        let mut queue = EventQueue::new();
        for &(at_us, change) in &scenario.tunnel {
            queue.push(at_us, Event::TunnelChange(change));
        }
        for &(at_us, control) in &scenario.controls {
            queue.push(at_us, Event::Control(control));
        }
        for (index, connection) in scenario.connections.iter().enumerate() {
            if let Some(first) = connection.segments.first() {
                queue.push(first.at_us, Event::Captured(index));
            }
        }
        let last_us = scenario.captured_until_us();
        let stop_us = match scenario.stop {
            Stop::Drain { after_us, .. } | Stop::Now { after_us } => last_us + after_us,
            Stop::NowAt { at_us } => at_us,
        };
        queue.push(stop_us, Event::Stop);
        Self {
            scenario,
            now_us: 0,
            queue,
            engine: new_engine(scenario, rng.next(), &observed),
            engine_at: None,
            overdue: 0,
            target: ModelTarget::new(scenario.target.clone(), rng.fork()),
            target_at: None,
            intercept: ModelIntercept::default(),
            tunnel: Tunnel::new(scenario.tunnel_delay_us),
            registrations: Registrations::default(),
            to_target: Link::new(scenario.to_target, rng.fork()),
            to_intercept: Link::new(scenario.to_intercept, rng.fork()),
            cursors: vec![0; scenario.connections.len()],
            records: Vec::new(),
            received_bytes: 0,
            last_delivery_us: 0,
            stopped: false,
            finished_us: None,
            trace: Trace::new(title),
            observed,
            rng: rng.fork(),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.now_us)
    }

    fn run(&mut self) {
        let mut steps_at_once = 0;
        for _ in 0..MAX_STEPS {
            let timers = [self.queue.next_at(), self.engine_at, self.target_at];
            let Some(next_us) = timers.into_iter().flatten().min() else {
                return;
            };
            if self
                .finished_us
                .is_some_and(|at| next_us > at + AFTERMATH_US)
            {
                return;
            }
            if next_us > self.now_us {
                self.now_us = next_us;
                steps_at_once = 0;
            }
            steps_at_once += 1;
            assert!(
                steps_at_once < MAX_STEPS_AT_ONCE,
                "livelock at {} µs",
                self.now_us
            );
            assert!(
                self.now_us < self.scenario.limit_us,
                "not finished: {}",
                self.in_flight()
            );
            self.step();
        }
        panic!("no end in {MAX_STEPS} steps: {}", self.in_flight());
    }

    fn step(&mut self) {
        if self.queue.next_at().is_some_and(|at| at <= self.now_us) {
            let (_, event) = self.queue.pop().expect("peeked");
            self.event(event);
        } else if self.engine_at.is_some_and(|at| at <= self.now_us) {
            self.engine.timeout(self.now());
            self.drain_engine();
            self.check_timer();
        } else {
            self.target.timeout(self.now_us);
            self.drain_target();
        }
        if self.stopped && self.finished_us.is_none() && self.engine.is_finished() {
            self.finished_us = Some(self.now_us);
            self.trace
                .note(self.now_us, "the engine has finished".to_owned());
        }
    }

    /// A timer that fires asks for a later moment afterwards, or work is left undone for ever.
    fn check_timer(&mut self) {
        let overdue = self.engine_at.is_some_and(|at| at <= self.now_us);
        self.overdue = if overdue { self.overdue + 1 } else { 0 };
        assert!(
            self.overdue < MAX_OVERDUE,
            "the engine's timer never moves on"
        );
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Captured(connection) => self.captured(connection),
            Event::ReachesTarget(packet) => {
                let segment = parse_verified(&packet);
                self.trace
                    .segment(self.now_us, Place::ReachedTarget, &Header::of(&segment));
                self.target.segment(self.now_us, &segment, packet.len());
                self.drain_target();
            }
            Event::ReachesIntercept(header, payload) => self.intercepted(header, payload),
            Event::Tunnel(generation, message) => {
                if self.tunnel.is_current(generation) {
                    self.tunnel_message(message);
                }
            }
            Event::TunnelChange(change) => self.tunnel_change(change),
            Event::Control(control) => self.control(control),
            Event::Looped(packet) => self.looped(&packet),
            Event::Stop => self.stop(),
        }
    }

    fn intercepted(&mut self, header: Header, mut payload: Vec<u8>) {
        let Some((session, wants_payload)) = self.intercept.reply(&header) else {
            return;
        };
        if !wants_payload {
            payload.clear();
        } else if self.rng.permille(self.scenario.cut_payload_permille) {
            let whole = self.rng.range(0, payload.len() as u64 + 1);
            payload.truncate(usize::try_from(whole).expect("in memory"));
        }
        self.tunnel_send(TunnelMessage::Reply(session, header, payload));
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
        control.apply(&mut self.engine, Instant::from_micros(self.now_us));
        self.drain_engine();
    }

    fn looped(&mut self, packet: &[u8]) {
        let mut segment = parse_verified(packet);
        segment.tuple.destination = self.scenario.loops_to.expect("only where it loops");
        self.trace
            .segment(self.now_us, Place::Captured, &Header::of(&segment));
        self.engine.segment(self.now(), &segment);
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

    fn drain_target(&mut self) {
        for (header, payload) in self.target.take_out() {
            self.trace.segment(self.now_us, Place::Answered, &header);
            for arrival_us in self.to_intercept.carry(self.now_us) {
                let event = Event::ReachesIntercept(header, payload.clone());
                self.queue.push(arrival_us, event);
            }
        }
        self.target_at = self.target.next_at();
        let received = self.target.received_bytes();
        if received > self.received_bytes {
            self.received_bytes = received;
            self.last_delivery_us = self.now_us;
        }
    }

    fn upstream_event(&mut self, event: UpstreamEvent) {
        self.trace.note(self.now_us, format!("{event:?}"));
        self.engine.upstream_event(self.now(), event);
        self.drain_engine();
    }

    fn in_flight(&self) -> String {
        let balance = self.engine.ledger().balance();
        format!(
            "{} connections, {} requests, {} bytes in flight; {:?}",
            balance.connections.in_flight(),
            balance.requests.in_flight(),
            balance.bytes.in_flight(),
            self.engine.gauges()
        )
    }

    fn finish(self) -> Outcome {
        assert!(self.stopped, "the run ended before the stop");
        assert!(
            self.engine.is_finished(),
            "nothing left to do, yet {}",
            self.in_flight()
        );
        let (accepted, target) = self.target.finish();
        Outcome {
            accepted,
            target,
            ledger: *self.engine.ledger(),
            records: self.records,
            trace: self.trace,
            last_delivery_us: self.last_delivery_us,
            finished_us: self.finished_us.unwrap_or(self.now_us),
            lost_to_target: self.to_target.lost,
            observed: self.observed.take(),
            send_delay: self.engine.send_delay().clone(),
        }
    }
}
