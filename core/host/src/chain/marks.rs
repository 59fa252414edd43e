//! Which exchanges the engine is told of: those of the last plugin that marks any.

use std::mem;

use plugin_api::Outcome;
use plugin_api::abi::Action;

use super::Open;
use super::run::{Ended, Run};

/// Exchanges that a plugin may leave open in one session; of more, the oldest are forgotten. One
/// that is not told the answers ends none: only the newest is remembered.
const OPEN_EXCHANGES: usize = 65_536;

impl Run<'_> {
    /// A link begins an exchange.
    pub(super) fn begin(&mut self, at: usize, label: &str) {
        let most = self.limits.labels;
        let is_last = at == self.session.last();
        let worker = &self.workers[self.session.links[at].worker];
        let mut counts = worker.tally().counts();
        let link = &mut self.session.links[at];
        // As in the engine: one of which nothing was sent is no more.
        if !mem::take(&mut link.has_sent)
            && let Some(empty) = link.open.pop_back()
        {
            counts.labels.leave_out(empty.label);
        }
        let label = counts.labels.begin(label, most);
        drop(counts);
        let room = if worker.needs().target {
            OPEN_EXCHANGES
        } else {
            0
        };
        if link.open.len() > room {
            link.open.pop_front();
        }
        link.open.push_back(Open {
            label,
            is_told: false,
        });
        if !link.may_mark {
            return;
        }
        if is_last {
            self.session.pending = None;
            self.tell_begin(at);
        } else if link.is_holding {
            link.held.push(Action::BeginExchange { label: "" });
        } else {
            self.pass_begin(at);
        }
    }

    /// A link that is not the last has begun an exchange, which the engine is told of before the
    /// next byte, unless one behind it marks its own.
    pub(super) fn pass_begin(&mut self, at: usize) {
        if self.session.marker.is_some_and(|marker| marker > at) {
            return;
        }
        match self.session.pending {
            Some(pending) if pending > at => return,
            // The one before has been left out: so will the engine say.
            Some(pending) if pending == at => self.tell_begin(at),
            _ => {}
        }
        self.session.pending = Some(at);
    }

    /// Tells the engine.
    pub(super) fn tell_begin(&mut self, at: usize) {
        self.session.marker = Some(at);
        let mut open = self.session.links[at].open.iter_mut();
        if let Some(oldest) = open.find(|open| !open.is_told) {
            oldest.is_told = true;
        }
        self.actions.begin_exchange();
        self.in_order = true;
    }

    /// A link ends its oldest exchange.
    pub(super) fn end(&mut self, at: usize, outcome: &Outcome<'_>) {
        let limits = self.limits;
        let worker = self.session.links[at].worker;
        let is_marker = self.session.marker == Some(at);
        let link = &mut self.session.links[at];
        let open = link.open.pop_front();
        if let Some(Open { label, .. }) = open {
            let Outcome {
                ok,
                status,
                label: word,
            } = *outcome;
            let mut counts = self.workers[worker].tally().counts();
            counts.labels.end(label, ok, status, word, limits);
        }
        let is_told = open.is_some_and(|open| open.is_told);
        // An end without a beginning is the engine's to count.
        if is_told || (open.is_none() && (is_marker || self.session.marker.is_none())) {
            self.actions.end_exchange(outcome.ok);
            let label = open.map(|open| open.label);
            self.ended.push_back(Ended { worker, label });
        } else if link.open.iter().all(|open| open.is_told) {
            // It has ended before anything of it was sent.
            self.session.pending = self.session.pending.filter(|pending| *pending != at);
        }
    }
}
