//! What a session with a plugin does: the client's bytes go to the plugin, and what that sends goes
//! to the target.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::intake::Intake;
use super::past::{Beginning, Past};
use super::{Context, Session};
use crate::gate::{EndOfOldest, Exchange};
use crate::ledger::{DropReason, Ledger, PluginCounters};
use crate::output::SessionId;
use crate::plugin::{Action, Actions, Direction, Event, Failure, Installed, Needs};
use crate::time::Instant;

/// Shortest time that a plugin's timer takes: a plugin that asks for none must not take all of ours.
const MIN_TIMER: Duration = Duration::from_millis(1);

/// How long the exchanges took that one call has ended; see [`Installed::exchange_ended`].
type Ended = SmallVec<[Option<Duration>; 4]>;

/// A session's plugin session, and what has come of it.
#[derive(Debug)]
pub(super) struct Plugged {
    key: SessionId,
    needs: Needs,
    /// What the client says goes to the plugin; not any more once that has let it pass.
    is_active: bool,
    /// Requests are the exchanges that the plugin marks.
    marks: bool,
    pub(super) intake: Intake,
    /// A request has begun, as far as TCP can tell, and nothing was sent since.
    boundary: Option<Boundary>,
    pub(super) past: Past,
    /// Requests that another session has counted and that this one is to begin again.
    pub(super) credit: u64,
    timer_at: Option<Instant>,
    /// The session is to end for this reason.
    verdict: Option<DropReason>,
}

#[derive(Clone, Copy, Debug)]
struct Boundary {
    at: Instant,
    /// Origin bytes that the client had seen at the first boundary since something was sent.
    seen: u64,
    /// Whether it had seen any at this or a later one.
    has_seen: bool,
}

impl Plugged {
    pub(super) fn new(key: SessionId, needs: Needs) -> Self {
        Self {
            key,
            needs,
            is_active: true,
            marks: false,
            intake: Intake::default(),
            boundary: None,
            past: Past::default(),
            credit: 0,
            timer_at: None,
            verdict: None,
        }
    }

    /// When the plugin wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timer_at.filter(|_| self.is_active)
    }

    /// Whether what has not left may be said again in another session.
    pub(super) fn may_repeat(&self) -> bool {
        self.is_active && self.verdict.is_none() && self.past.has_progressed()
    }

    /// A request begins as far as TCP can tell, where the output ends at `output`. Where all before
    /// is answered and nothing is held, what has not left by now never will.
    fn note_boundary(&mut self, now: Instant, output: u64, seen: u64, is_at_rest: bool) {
        if is_at_rest && self.timer_at.is_none() {
            self.past.decide();
        }
        self.past.begin(now, output, Beginning::Request(seen));
        self.note_seen(now, seen);
    }

    fn note_seen(&mut self, now: Instant, seen: u64) {
        let boundary = self.boundary.get_or_insert(Boundary {
            at: now,
            seen,
            has_seen: false,
        });
        boundary.has_seen |= seen > 0;
    }

    /// How much of the origin's answers the end of the stream is to wait for.
    fn seen_at_end(&self, seen: u64) -> u64 {
        match self.boundary {
            Some(boundary) if self.marks => seen.max(u64::from(boundary.has_seen)),
            Some(boundary) => boundary.seen,
            None => seen,
        }
    }

    /// The plugin is called no more.
    fn deactivate(&mut self) {
        self.is_active = false;
        self.marks = false;
        self.timer_at = None;
        self.past = Past::default();
    }
}

fn count_failure(failure: Failure, counters: &mut PluginCounters) {
    let counter = match failure {
        Failure::Trapped => &mut counters.trapped,
        Failure::TimedOut => &mut counters.timed_out,
        Failure::OutOfMemory => &mut counters.out_of_memory,
        Failure::OutputLimit => &mut counters.over_output_limit,
        Failure::SessionLimit => &mut counters.over_session_limit,
        Failure::SwitchedOff => &mut counters.switched_off,
    };
    *counter += 1;
}

/// Calls a plugin for a session to be. Its actions wait in `installed` if there is nothing against
/// the session.
pub(crate) fn open_plugin(
    now: Instant,
    key: SessionId,
    info: &crate::plugin::SessionInfo,
    installed: &mut Installed,
    ledger: &mut Ledger,
) -> Result<(), DropReason> {
    ledger.plugin.sessions += 1;
    if let Err(failure) = installed.open(now, key, info) {
        count_failure(failure, &mut ledger.plugin);
        return Err(DropReason::PluginFailed);
    }
    if installed.actions().iter().any(|it| it == Action::Refuse) {
        ledger.plugin.refused += 1;
        installed.close(key);
        return Err(DropReason::PluginRefused);
    }
    Ok(())
}

impl Session {
    /// Puts the plugin that has just been called between client and target.
    pub(crate) fn plug(
        &mut self,
        now: Instant,
        key: SessionId,
        needs: Needs,
        cx: &mut Context<'_>,
    ) {
        self.plugin = Some(Box::new(Plugged::new(key, needs)));
        if needs.target
            && let Some(mirror) = self.channel.mirror_mut()
        {
            mirror.want_payload();
        }
        self.act(now, true, cx);
    }

    /// Whether a plugin stands between client and target.
    pub(crate) fn has_plugin(&self) -> bool {
        self.plugin
            .as_ref()
            .is_some_and(|plugged| plugged.is_active)
    }

    /// Why the plugin wants the session to end, if it does.
    pub(crate) fn verdict(&self) -> Option<DropReason> {
        self.plugin.as_ref().and_then(|plugged| plugged.verdict)
    }

    /// The plugin's part is over.
    pub(crate) fn close_plugin(&mut self, installed: Option<&mut Installed>) {
        if let Some(plugged) = &mut self.plugin
            && plugged.is_active
            && let Some(installed) = installed
        {
            plugged.deactivate();
            installed.close(plugged.key);
        }
    }

    /// From here on nothing goes through the plugin.
    pub(crate) fn unplug(&mut self, installed: Option<&mut Installed>) {
        self.close_plugin(installed);
        self.gate.forget_marks();
        if let Some(mirror) = self.channel.mirror_mut() {
            mirror.forget_payload();
        }
    }

    /// A request begins with the client's next byte, as far as TCP can tell.
    pub(super) fn note_boundary(&mut self, now: Instant, seen: u64) {
        let end = self.channel.end();
        let is_at_rest = self.gate.is_at_rest(end);
        if let Some(plugged) = &mut self.plugin {
            plugged.note_boundary(now, end, seen, is_at_rest);
        }
    }

    /// The client had seen so much before it spoke again, after a hole in what it said.
    pub(crate) fn note_seen(&mut self, now: Instant, seen: u64) {
        if let Some(plugged) = self.plugin.as_mut().filter(|plugged| plugged.is_active) {
            plugged.note_seen(now, seen);
        }
    }

    /// Bytes of the client, in the account already.
    pub(super) fn push_plugged(&mut self, now: Instant, chunk: Bytes, cx: &mut Context<'_>) {
        let Some(plugged) = &mut self.plugin else {
            return;
        };
        plugged.intake.take(chunk.len() as u64);
        if plugged.is_active {
            plugged.past.push(chunk.clone());
            self.call(now, Event::Client(&chunk), cx);
        } else {
            self.send_in_order(chunk, cx.ledger);
        }
    }

    /// Tells the plugin what happened, where there is one, and does what it wants.
    pub(crate) fn call(&mut self, now: Instant, event: Event<'_>, cx: &mut Context<'_>) {
        let (Some(plugged), Some(installed)) = (&mut self.plugin, cx.plugins.as_deref_mut()) else {
            return;
        };
        let is_wanted = match event {
            Event::Origin(_) | Event::OriginEnd => plugged.needs.origin,
            Event::Gap { direction, .. } => direction == Direction::Client || plugged.needs.origin,
            Event::Target(_) => plugged.needs.target,
            Event::Client(_) | Event::ClientEnd | Event::TargetEnd => true,
            Event::Timer | Event::Woken => true,
        };
        let may_call = plugged.is_active && plugged.verdict.is_none() && !self.is_settled;
        if !is_wanted || !may_call {
            return;
        }
        let counters = &mut cx.ledger.plugin;
        match event {
            Event::Origin(bytes) => counters.origin_bytes += bytes.len() as u64,
            Event::Target(bytes) => counters.target_bytes += bytes.len() as u64,
            Event::Gap { direction, missing } => {
                counters.gaps += 1;
                if direction == Direction::Client {
                    let end = self.channel.end();
                    plugged.past.begin(now, end, Beginning::Gap(missing));
                }
            }
            _ => {}
        }
        match installed.event(now, plugged.key, event) {
            Err(failure) => {
                count_failure(failure, &mut cx.ledger.plugin);
                plugged.verdict = Some(DropReason::PluginFailed);
            }
            Ok(()) => {
                let is_of_client = matches!(
                    event,
                    Event::Client(_)
                        | Event::ClientEnd
                        | Event::Gap {
                            direction: Direction::Client,
                            ..
                        }
                );
                self.act(now, is_of_client, cx);
            }
        }
    }

    /// The same, and lets the gate look.
    pub(crate) fn call_and_pass(&mut self, now: Instant, event: Event<'_>, cx: &mut Context<'_>) {
        if !self.is_settled {
            self.call(now, event, cx);
            self.pass(now, cx.ledger);
        }
    }

    /// Lets the plugin's timer fire if it is due.
    pub(super) fn plugin_timeout(&mut self, now: Instant, cx: &mut Context<'_>) {
        if let Some(plugged) = &mut self.plugin
            && plugged.deadline().is_some_and(|at| at <= now)
        {
            plugged.timer_at = None;
            self.call(now, Event::Timer, cx);
        }
    }

    /// Does what the plugin wants after its last call; `is_of_client` where that was about the
    /// client's stream.
    fn act(&mut self, now: Instant, is_of_client: bool, cx: &mut Context<'_>) {
        let Some(installed) = cx.plugins.as_deref_mut() else {
            return;
        };
        let Some(key) = self.plugin.as_ref().map(|plugged| plugged.key) else {
            return;
        };
        let mut ended = Ended::new();
        let passes = self.do_actions(
            now,
            is_of_client,
            installed.actions(),
            &mut ended,
            cx.ledger,
        );
        for took in ended {
            installed.exchange_ended(key, took);
        }
        if passes {
            cx.ledger.plugin.passed_through += 1;
            self.unplug(Some(installed));
        }
    }

    /// Returns whether the client's stream is to pass the plugin by from here on.
    fn do_actions(
        &mut self,
        now: Instant,
        is_of_client: bool,
        actions: &Actions,
        ended: &mut Ended,
        ledger: &mut Ledger,
    ) -> bool {
        let mut in_order = is_of_client;
        let mut passes = false;
        for action in actions.iter() {
            let Some(plugged) = &mut self.plugin else {
                break;
            };
            match action {
                Action::Send(bytes) => {
                    ledger.plugin.sent_bytes += bytes.len() as u64;
                    self.send(Bytes::copy_from_slice(bytes), in_order, ledger);
                }
                Action::InOrder => in_order = true,
                Action::BeginExchange => {
                    in_order = true;
                    self.begin_marked(now, ledger);
                }
                Action::EndExchange { ok } => ended.push(self.end_marked(now, ok, ledger)),
                Action::Hold => self.gate.hold(self.channel.end()),
                Action::Release => self.gate.release_hold(),
                Action::SetTimer(after) => plugged.timer_at = Some(now + after.max(MIN_TIMER)),
                Action::Refuse => {
                    ledger.plugin.refused += 1;
                    plugged.verdict = Some(DropReason::PluginRefused);
                    return false;
                }
                Action::PassThrough => passes = true,
            }
        }
        passes
    }

    /// Sends what the plugin wants to be sent. Out of order, it goes before all that waits.
    fn send(&mut self, bytes: Bytes, in_order: bool, ledger: &mut Ledger) {
        let end = self.channel.end();
        let first_waiting = self.gate.limit(end).min(end);
        if in_order || (first_waiting == end && !self.gate.is_held()) {
            return self.send_in_order(bytes, ledger);
        }
        let length = bytes.len() as u64;
        if self.channel.has_finished() {
            ledger.plugin.late_bytes += length;
            return;
        }
        self.channel.insert(first_waiting, bytes);
        self.gate.shift(first_waiting, length);
        if let Some(plugged) = &mut self.plugin {
            plugged.intake.shift(first_waiting, length);
            plugged.past.shift(first_waiting, length);
        }
    }

    fn send_in_order(&mut self, bytes: Bytes, ledger: &mut Ledger) {
        if self.channel.has_finished() {
            ledger.plugin.late_bytes += bytes.len() as u64;
            return;
        }
        let Some(plugged) = &mut self.plugin else {
            return;
        };
        if let Some(boundary) = plugged.boundary.take_if(|_| !plugged.marks) {
            self.begin_exchange(boundary.at, boundary.seen, ledger);
        }
        self.channel.push(bytes);
        if let Some(plugged) = &mut self.plugin {
            plugged.intake.follow(self.channel.end());
        }
    }

    fn begin_marked(&mut self, now: Instant, ledger: &mut Ledger) {
        let Some(plugged) = &mut self.plugin else {
            return;
        };
        let is_first = !std::mem::replace(&mut plugged.marks, true);
        let boundary = plugged.boundary.take();
        if plugged.needs.target {
            self.gate.expect_marked_ends();
        }
        // Before the first there is nothing to wait for but what the client had seen before it
        // spoke at all.
        let mut seen = boundary.map_or(0, |it| match is_first {
            true => it.seen,
            false => it.seen.max(u64::from(it.has_seen)),
        });
        if let Some(waits_for) = self.gate.take_empty(self.channel.end()) {
            ledger.requests.drop(DropReason::PluginDropped, 1);
            plugged.past.note_left_out();
            // Where nobody has been asked anything, it has no more to wait for than that one.
            seen = match self.gate.has_released() {
                true => seen.max(waits_for),
                false => waits_for,
            };
        }
        let at = boundary.map_or(now, |it| it.at);
        self.begin_exchange(at, seen, ledger);
    }

    /// An exchange begins with the next byte of output.
    pub(super) fn begin_exchange(&mut self, at: Instant, seen: u64, ledger: &mut Ledger) {
        self.gate.begin(Exchange {
            start: self.channel.end(),
            seen,
            seen_total: self.seen_total,
            arrival: self.distance.arrival(at),
        });
        if let Some(plugged) = &mut self.plugin {
            plugged.boundary = None;
            if plugged.credit > 0 {
                plugged.credit -= 1;
                return;
            }
        }
        ledger.requests.capture(1);
    }

    /// Returns how long ago the exchange left, if it had.
    fn end_marked(&mut self, now: Instant, ok: bool, ledger: &mut Ledger) -> Option<Duration> {
        let left_at = match self.gate.end_oldest() {
            EndOfOldest::Stray => {
                ledger.plugin.stray_ends += 1;
                return None;
            }
            EndOfOldest::Early => None,
            EndOfOldest::Open { left_at } => {
                ledger.answered_requests += 1;
                left_at
            }
        };
        ledger.plugin.bad_answers += u64::from(!ok);
        left_at.map(|at| now.since(at))
    }

    /// The client has ended its stream: the plugin hears of it. Returns how much of the origin's
    /// answers the end waits for, as in [`Exchange::seen`].
    pub(super) fn end_plugged(&mut self, now: Instant, seen: u64, cx: &mut Context<'_>) -> u64 {
        self.call(now, Event::ClientEnd, cx);
        (self.plugin.as_ref()).map_or(seen, |plugged| plugged.seen_at_end(seen))
    }

    /// Closes the account of what the plugin has kept: of what a session that has run its course
    /// left out, and of requests that were begun and not sent.
    pub(super) fn settle_plugged(&mut self, reason: DropReason, ledger: &mut Ledger) {
        let end = self.channel.end();
        let is_all_said = self.gate.end_is_released() && self.channel.delivered() == end;
        let Some(plugged) = &mut self.plugin else {
            return;
        };
        let mut unsent = std::mem::take(&mut plugged.credit);
        unsent += u64::from(self.gate.take_empty(end).is_some());
        if is_all_said {
            let kept = plugged.intake.take_back(end);
            ledger.bytes.drop(DropReason::PluginDropped, kept);
            ledger.requests.drop(DropReason::PluginDropped, unsent);
        } else {
            ledger.requests.drop(reason, unsent);
        }
    }
}
