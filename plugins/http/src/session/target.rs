//! What the target answers.

use std::time::Duration;

use plugin_api::{Context, Outcome};

use super::{Answering, Closing, Connection, Reason};
use crate::answers::Heard;
use crate::framing::{Answer, Kind};
use crate::head::Head;
use crate::plugin::Http;
use crate::requests::Opening;
use crate::values::Learnt;

/// How long a target that has announced to close the connection is waited for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

impl Connection {
    /// Reads what the target answers.
    pub(super) fn hear(&mut self, plugin: &mut Http, mut bytes: &[u8], ctx: &mut Context<'_>) {
        let mut head = std::mem::take(&mut plugin.head);
        // Behind an upgrade it speaks the other protocol, perhaps before the client does.
        while !self.is_over && !self.is_upgraded() {
            let to = (self.exchanges.asked()).map_or(Kind::Plain, |(_, exchange)| exchange.kind);
            let answers = &mut self.target.answers;
            match answers.next(to, &mut bytes, &mut head, &plugin.limits) {
                Ok(Some(Heard::Answer(answer))) => self.answer(plugin, &head, &answer, ctx),
                Ok(Some(Heard::Content(bytes))) => self.target.content(bytes),
                Ok(Some(Heard::End)) => self.end_answer(plugin, ctx),
                Ok(None) => break,
                Err(problem) => self.refuse(&format!("target_{problem}"), ctx),
            }
        }
        plugin.head = head;
    }

    /// An answer begins.
    fn answer(&mut self, plugin: &mut Http, head: &Head, answer: &Answer, ctx: &mut Context<'_>) {
        // It has not closed the connection, whatever it said.
        self.end_closing(plugin, ctx);
        let asked = self.exchanges.asked();
        let (number, is_last, mask) = match asked {
            Some((number, exchange)) => (Some(number), exchange.is_last, exchange.mask),
            None => (None, false, 0),
        };
        if number.is_some() && number == self.holds.expected() {
            // A final answer ends the wait as well: the target will read the body, or close.
            self.holds.set(Reason::Expect, false, ctx);
        }
        if answer.is_interim {
            return;
        }
        let closes = answer.is_last && !is_last;
        self.target
            .begin(&plugin.values, number, mask, closes, head);
        if answer.switches {
            self.change_protocol(plugin, ctx);
        }
    }

    /// The target's answer is complete.
    fn end_answer(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let Some(mut answering) = self.target.answering.take() else {
            return;
        };
        let Some(number) = answering.number else {
            return ctx.count("unasked_answers", 1);
        };
        let learnt = answering.learn(&plugin.values, ctx);
        let origin_status = self.exchanges.answered(number, learnt);
        let is_good = judge(answering.status, origin_status, ctx);
        self.pair(plugin, ctx);
        if answering.closes {
            // What leaves now would be lost with the connection; another will be opened for it.
            let has_others = self.exchanges.asked().is_some();
            self.closing = Some(Closing {
                ending: has_others.then_some((is_good, answering.status)),
            });
            if !has_others {
                end_exchange(is_good, answering.status, ctx);
            }
            self.holds.set(Reason::Closing, true, ctx);
            self.holds
                .set_deadline(Reason::Closing, CLOSE_PATIENCE, ctx);
        } else {
            end_exchange(is_good, answering.status, ctx);
        }
        self.wait_for_continue(plugin, ctx);
        if self.switch.as_ref().is_some_and(|it| it.number == number) {
            self.stay(plugin, ctx);
        } else if !self.jobs.is_empty() {
            self.advance(plugin, ctx);
        }
    }

    /// The target has agreed to another protocol.
    fn change_protocol(&mut self, plugin: &Http, ctx: &mut Context<'_>) {
        let answering = self.target.answering.take();
        let number = answering.as_ref().and_then(|it| it.number);
        let switch = self.switch.as_mut();
        let Some(switch) = switch.filter(|it| !it.is_agreed && Some(it.number) == number) else {
            return self.refuse("target_unasked_switch", ctx);
        };
        switch.is_agreed = true;
        let (number, status) = (switch.number, answering.as_ref().map_or(0, |it| it.status));
        let learnt = answering.map(|mut it| it.learn(&plugin.values, ctx));
        let origin_status = self.exchanges.answered(number, learnt.unwrap_or_default());
        end_exchange(judge(status, origin_status, ctx), status, ctx);
        self.pair(plugin, ctx);
        ctx.count(if status == 101 { "upgrades" } else { "tunnels" }, 1);
        self.holds.release_all(ctx);
        match status {
            101 => self.speak_other(ctx),
            // Within a tunnel, requests are nothing else than what it is for.
            _ => self.pass_through(ctx),
        }
    }

    /// The target has agreed to another protocol; whether the origin has is not known yet.
    pub(super) fn is_upgraded(&self) -> bool {
        self.switch.as_ref().is_some_and(|it| it.is_agreed)
    }

    /// Passes on what follows an upgrade. A request there says that the origin has not agreed: its
    /// client goes on as before, with what the rules would have changed.
    pub(super) fn speak_other(&mut self, ctx: &mut Context<'_>) {
        let kept = self.switch.as_ref().map(|it| it.kept.as_slice());
        let kept = kept.unwrap_or_default();
        match Opening::of(kept) {
            Opening::Request => self.refuse("upgrade_only_at_target", ctx),
            Opening::Other => self.pass_through(ctx),
            Opening::Open => self.holds.set(Reason::Switch, !kept.is_empty(), ctx),
        }
    }

    /// Leaves the rest of the session alone.
    pub(super) fn pass_through(&mut self, ctx: &mut Context<'_>) {
        self.holds.release_all(ctx);
        if let Some(switch) = self.switch.take()
            && !switch.kept.is_empty()
        {
            ctx.send(&switch.kept);
        }
        self.is_over = true;
        ctx.pass_through();
    }

    /// What the target announced, that it closes the connection, has happened or will not.
    pub(super) fn end_closing(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let Some(closing) = self.closing.take() else {
            return;
        };
        if let Some((is_good, status)) = closing.ending {
            end_exchange(is_good, status, ctx);
        }
        self.holds.set(Reason::Closing, false, ctx);
        self.wait_for_continue(plugin, ctx);
    }

    /// The target has closed its side.
    pub(super) fn target_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        self.end_closing(plugin, ctx);
        if self.target.answers.close() {
            if let Some(answering) = &mut self.target.answering {
                answering.closes = false;
            }
            self.end_answer(plugin, ctx);
        } else if let Some(Answering {
            number: Some(number),
            status,
            ..
        }) = self.target.answering.take()
        {
            self.exchanges.answered(number, Learnt::default());
            let outcome = Outcome::failed().status(status.into());
            ctx.end_exchange(outcome.label("cut"));
        }
        // What is held now is for another connection.
        self.holds.forget_deadlines();
    }

    /// Learns from the requests that both servers have answered.
    pub(super) fn pair(&mut self, plugin: &Http, ctx: &mut Context<'_>) {
        while let Some(settled) = self.exchanges.settle() {
            if let Some((origin, target)) = settled {
                plugin.values.pair(self.info.copy, &origin, &target, ctx);
            }
        }
    }
}

/// Whether the target's answer is a good one: of the same class as the origin's where that is known,
/// else not an error of the server.
fn judge(status: u16, origin: Option<u16>, ctx: &mut Context<'_>) -> bool {
    let Some(origin) = origin else {
        return status < 500;
    };
    let is_same = status / 100 == origin / 100;
    if !is_same {
        ctx.count("status_class_differs", 1);
    }
    is_same
}

/// Ends an exchange with what the target has answered.
fn end_exchange(is_good: bool, status: u16, ctx: &mut Context<'_>) {
    let outcome = match is_good {
        true => Outcome::ok(),
        false => Outcome::failed(),
    };
    ctx.end_exchange(outcome.status(status.into()));
}
