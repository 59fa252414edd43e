//! What is held: by the engine for the last plugin, and here for those before it.

use std::mem;

use plugin_api::abi::{self, Action, ActionBuffer};

use super::run::{Run, Stop};

impl Run<'_> {
    /// A link holds what it sends from here on.
    pub(super) fn hold(&mut self, at: usize) {
        let is_last = at == self.session.last();
        let link = &mut self.session.links[at];
        if mem::replace(&mut link.is_holding, true) {
            return;
        }
        let engine_holds = mem::replace(&mut self.session.engine_holds, true);
        if is_last && engine_holds {
            // So far it has held nothing but the end.
            self.actions.release();
        }
        if is_last || !engine_holds {
            self.actions.hold();
        }
    }

    /// A link lets go what it has held.
    pub(super) fn release(&mut self, at: usize) -> Result<(), Stop> {
        let is_last = at == self.session.last();
        let link = &mut self.session.links[at];
        if !mem::take(&mut link.is_holding) {
            return Ok(());
        }
        let (held, end) = (mem::take(&mut link.held), mem::take(&mut link.end_is_held));
        let is_over = !self.session.links.iter().any(|link| link.is_holding);
        if is_over {
            self.session.engine_holds = false;
            self.actions.release();
        } else if is_last {
            self.actions.release();
            self.actions.hold();
        }
        self.flush(at, &held)?;
        match end {
            true => self.give_end(at + 1),
            false => Ok(()),
        }
    }

    /// Passes on what a link has held.
    fn flush(&mut self, at: usize, held: &ActionBuffer) -> Result<(), Stop> {
        for action in abi::Actions::new(held.bytes()) {
            match action {
                Ok(Action::Send(bytes)) => self.give(at + 1, bytes, false)?,
                Ok(Action::BeginExchange { .. }) => self.pass_begin(at),
                _ => {}
            }
        }
        Ok(())
    }

    /// The engine holds the end for a link that is not the last: what the last one has sent since
    /// must not wait for that.
    pub(super) fn hold_the_end_only(&mut self) {
        let last = self.session.last();
        let has_sent = self.actions.sent_bytes() > 0;
        if self.session.engine_holds && !self.session.links[last].is_holding && has_sent {
            self.actions.release();
            self.actions.hold();
        }
    }
}
