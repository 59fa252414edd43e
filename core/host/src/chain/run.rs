//! One event on its way through a chain.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use plugin_api::abi::{self, Action};
use plugin_api::{Direction, SessionInfo};
use tcpcopy_engine::plugin::{self, Actions, Event, Failure};

use super::{Link, Open, Session};
use crate::instance::Broken;
use crate::limits::Limits;
use crate::share::Mailbox;
use crate::worker::Worker;

/// The shortest time of a timer.
const MIN_TIMER: Duration = Duration::from_millis(1);

/// Why an event goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A plugin has refused the session; the actions say so.
    Refused,
    /// A plugin has failed.
    Failed(Failure),
}

/// The end of an exchange that the engine is asked for: it will say how long that took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) worker: usize,
    /// The place of its label among the plugin's; none where no exchange was open.
    pub(crate) label: Option<u32>,
}

/// One event on its way through a session's chain.
pub(crate) struct Run<'a> {
    pub(crate) now: u64,
    pub(crate) session: &'a mut Session,
    pub(crate) workers: &'a mut [Worker],
    pub(crate) limits: &'a Limits,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    /// What the engine is to do.
    pub(crate) actions: &'a mut Actions,
    pub(crate) ended: &'a mut VecDeque<Ended>,
    /// What the engine is told to send from here on goes in order.
    pub(crate) in_order: bool,
    pub(crate) calls: u32,
    /// Somebody has begun to wait for a shared value.
    pub(crate) has_new_waits: bool,
}

impl Run<'_> {
    /// Opens the plugin sessions, the last one first.
    pub(crate) fn open(&mut self, info: &SessionInfo) -> Result<(), Stop> {
        for at in (0..self.session.links.len()).rev() {
            let place = self.session.links[at].worker;
            let mut answer = mem::take(&mut self.workers[place].answer);
            let opened = self.workers[place].open(self.now, info, &mut answer);
            let taken = opened.map_err(Stop::Failed).and_then(|generation| {
                let link = &mut self.session.links[at];
                (link.generation, link.is_open) = (generation, true);
                self.take(at, &answer, false)
            });
            self.workers[place].answer = answer;
            taken?;
        }
        self.finish(false)
    }

    /// Tells the session what happened.
    pub(crate) fn event(&mut self, event: Event<'_>) -> Result<(), Stop> {
        match event {
            Event::Client(bytes) => self.give(0, bytes, false)?,
            Event::Origin(bytes) => self.tell(Direction::Origin, |direction| abi::Event::Data {
                direction,
                bytes,
            })?,
            Event::Target(bytes) => self.tell(Direction::Target, |direction| abi::Event::Data {
                direction,
                bytes,
            })?,
            Event::Gap { direction, missing } => match direction {
                plugin::Direction::Client => self.give_gap(0, missing)?,
                plugin::Direction::Origin => self.tell(Direction::Origin, |direction| {
                    abi::Event::Gap { direction, missing }
                })?,
            },
            Event::ClientEnd => self.give_end(0)?,
            Event::OriginEnd => {
                self.tell(Direction::Origin, |direction| abi::Event::End { direction })?
            }
            // That the target goes away concerns everybody.
            Event::TargetEnd => self.tell_all(&abi::Event::End {
                direction: Direction::Target,
            })?,
            Event::Timer => self.fire_timers()?,
            Event::Woken => {}
        }
        self.finish(event == Event::Woken)
    }

    /// What is left to do when everybody has been told.
    fn finish(&mut self, is_woken: bool) -> Result<(), Stop> {
        self.settle_waits(is_woken)?;
        self.hold_the_end_only();
        self.set_timer();
        Ok(())
    }

    /// Tells those who need a stream of it, the last one first.
    fn tell<'e>(
        &mut self,
        direction: Direction,
        event: impl Fn(Direction) -> abi::Event<'e>,
    ) -> Result<(), Stop> {
        for at in (0..self.session.links.len()).rev() {
            let needs = self.workers[self.session.links[at].worker].needs();
            let is_needed = match direction {
                Direction::Client => true,
                Direction::Origin => needs.origin,
                Direction::Target => needs.target,
            };
            if is_needed && self.session.links[at].is_active {
                self.call(at, event(direction), true)?;
            }
        }
        Ok(())
    }

    fn tell_all(&mut self, event: &abi::Event<'_>) -> Result<(), Stop> {
        for at in (0..self.session.links.len()).rev() {
            if self.session.links[at].is_active {
                self.call(at, *event, true)?;
            }
        }
        Ok(())
    }

    /// Bytes for a link, or for the target behind the last one. `ahead` where they go ahead of what
    /// is held.
    pub(super) fn give(&mut self, at: usize, bytes: &[u8], ahead: bool) -> Result<(), Stop> {
        let Some(link) = self.session.links.get(at) else {
            self.emit(bytes, ahead);
            return Ok(());
        };
        if !link.is_active {
            return self.give(at + 1, bytes, ahead);
        }
        let ahead = ahead && !link.is_holding;
        let direction = Direction::Client;
        self.call(at, abi::Event::Data { direction, bytes }, ahead)
    }

    /// The end of the stream to a link.
    pub(super) fn give_end(&mut self, at: usize) -> Result<(), Stop> {
        let Some(link) = self.session.links.get(at) else {
            return Ok(());
        };
        if link.is_active {
            let direction = Direction::Client;
            self.call(at, abi::Event::End { direction }, false)?;
        }
        let is_last = at == self.session.last();
        let link = &mut self.session.links[at];
        if link.is_holding && !is_last {
            link.end_is_held = true;
            return Ok(());
        }
        self.give_end(at + 1)
    }

    /// A hole in the stream to a link. The next one hears of it before it is given what this one
    /// sends about it.
    fn give_gap(&mut self, at: usize, missing: Option<u64>) -> Result<(), Stop> {
        let is_last = at == self.session.last();
        let link = &self.session.links[at];
        if !is_last && link.is_holding {
            return Err(self.refuse(at, "capture_gap"));
        }
        let direction = Direction::Client;
        let event = abi::Event::Gap { direction, missing };
        match (link.is_active, is_last) {
            (true, true) => self.call(at, event, false),
            (false, true) => Ok(()),
            (false, false) => self.give_gap(at + 1, missing),
            (true, false) => self.with_answer(at, event, |run, answer| {
                if !refuses(answer) {
                    run.give_gap(at + 1, None)?;
                }
                run.take(at, answer, false)
            }),
        }
    }

    /// Makes a call and does what it asks for.
    pub(super) fn call(
        &mut self,
        at: usize,
        event: abi::Event<'_>,
        ahead: bool,
    ) -> Result<(), Stop> {
        self.with_answer(at, event, |run, answer| run.take(at, answer, ahead))
    }

    fn with_answer(
        &mut self,
        at: usize,
        event: abi::Event<'_>,
        then: impl FnOnce(&mut Self, &[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.calls += 1;
        let (place, session) = (self.session.links[at].worker, self.session.id.as_u64());
        if self.calls > Limits::CALLS_OF_AN_EVENT {
            let words = "it leads to calls without end: what it waits for is there at once";
            let broken = Broken::new(Failure::TimedOut, words);
            return Err(Stop::Failed(self.workers[place].fail(self.now, &broken)));
        }
        let mut answer = mem::take(&mut self.workers[place].answer);
        let called = self.workers[place].event(self.now, session, event, &mut answer);
        let done = called
            .map_err(Stop::Failed)
            .and_then(|()| then(self, &answer));
        self.workers[place].answer = answer;
        done
    }

    /// Does what a link's plugin asks for. `ahead` where what it sends, before an exchange begins,
    /// goes ahead of what is held.
    fn take(&mut self, at: usize, answer: &[u8], mut ahead: bool) -> Result<(), Stop> {
        let mut passes = false;
        for action in abi::Actions::new(answer) {
            match action {
                Ok(Action::Send(bytes)) => self.send(at, bytes, ahead)?,
                Ok(Action::BeginExchange { label }) => {
                    ahead = false;
                    self.begin(at, label);
                }
                Ok(Action::EndExchange(outcome)) => self.end(at, &outcome),
                Ok(Action::Hold) => self.hold(at),
                Ok(Action::Release) => self.release(at)?,
                Ok(Action::Refuse { reason }) => return Err(self.refuse(at, reason)),
                Ok(Action::Count { name, n }) => {
                    let most = self.limits.names;
                    self.tally(at).counts().counters.add(name, n, most);
                }
                Ok(Action::Timer { after }) => {
                    let after = after.max(MIN_TIMER).as_micros();
                    let after = u64::try_from(after).unwrap_or(u64::MAX);
                    self.session.links[at].timer_at = Some(self.now.saturating_add(after));
                }
                Ok(Action::PassThrough) => passes = true,
                Ok(Action::Wait { key, timeout }) => self.wait(at, key, timeout),
                Err(problem) => {
                    let broken = Broken::new(Failure::Trapped, problem.to_string());
                    let worker = &mut self.workers[self.session.links[at].worker];
                    return Err(Stop::Failed(worker.fail(self.now, &broken)));
                }
            }
        }
        match passes {
            true => self.pass_through(at),
            false => Ok(()),
        }
    }

    fn send(&mut self, at: usize, bytes: &[u8], ahead: bool) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        let is_last = at == self.session.last();
        let link = &mut self.session.links[at];
        // What goes ahead belongs to an exchange before the newest.
        link.has_sent |= !ahead;
        if is_last || ahead || !link.is_holding {
            return self.give(at + 1, bytes, ahead);
        }
        link.held.push(Action::Send(bytes));
        if link.held.bytes().len() > self.limits.held_bytes {
            self.tally(at).counts().fail(Failure::OutputLimit);
            return Err(Stop::Failed(Failure::OutputLimit));
        }
        Ok(())
    }

    /// Bytes for the target.
    fn emit(&mut self, bytes: &[u8], ahead: bool) {
        if !ahead && let Some(begun) = self.session.pending.take() {
            self.tell_begin(begun);
        }
        if !ahead && !mem::replace(&mut self.in_order, true) {
            self.actions.in_order();
        }
        self.actions.send(bytes);
    }

    fn refuse(&mut self, at: usize, reason: &str) -> Stop {
        let most = self.limits.names;
        self.tally(at).counts().refusals.add(reason, 1, most);
        self.actions.refuse();
        Stop::Refused
    }

    /// A link steps aside.
    fn pass_through(&mut self, at: usize) -> Result<(), Stop> {
        self.forget_waits(at);
        self.tally(at).counts().passed_through += 1;
        self.release(at)?;
        let active = self.session.links.iter().filter(|link| link.is_active);
        if active.count() == 1 {
            self.session.links[at].is_active = false;
            self.actions.pass_through();
            return Ok(());
        }
        let link = &mut self.session.links[at];
        (link.is_active, link.is_open, link.timer_at) = (false, false, None);
        let (worker, generation, open) = (link.worker, link.generation, mem::take(&mut link.open));
        // Nobody will tell of their ends any more, and the engine would wait for them.
        for Open { label, .. } in open.into_iter().filter(|open| open.is_told) {
            self.actions.end_exchange(true);
            let label = Some(label);
            self.ended.push_back(Ended { worker, label });
        }
        self.session.pending = self.session.pending.filter(|pending| *pending != at);
        self.workers[worker].close(self.now, self.session.id.as_u64(), generation);
        Ok(())
    }

    pub(super) fn tally(&self, at: usize) -> &crate::figures::Tally {
        self.workers[self.session.links[at].worker].tally()
    }

    fn fire_timers(&mut self) -> Result<(), Stop> {
        self.session.timer_told = None;
        for at in (0..self.session.links.len()).rev() {
            let link = &mut self.session.links[at];
            let is_due = |at: &mut u64| *at <= self.now;
            if link.is_active && link.timer_at.take_if(is_due).is_some() {
                self.call(at, abi::Event::Timer, true)?;
            }
        }
        Ok(())
    }

    /// Sets the engine's timer for what is due first.
    fn set_timer(&mut self) {
        let active = self.session.links.iter().filter(|link| link.is_active);
        let timers = active.filter_map(|link: &Link| link.timer_at);
        let waits = self.session.waits.iter().map(|wait| wait.until);
        let Some(next) = timers.chain(waits).min() else {
            return;
        };
        if self.session.timer_told != Some(next) {
            self.session.timer_told = Some(next);
            let after = next.saturating_sub(self.now);
            self.actions.set_timer(Duration::from_micros(after));
        }
    }
}

/// Whether the plugin gives the session up.
fn refuses(answer: &[u8]) -> bool {
    let mut actions = abi::Actions::new(answer);
    actions.any(|action| matches!(action, Ok(Action::Refuse { .. })))
}
