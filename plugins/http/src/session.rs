//! One connection: requests on their way to the target, and its answers.

mod holds;

use std::time::Duration;

use plugin_api::{Context, Direction, Outcome, Session, SessionInfo};

use self::holds::{Holds, Reason};
use crate::answers::{Answers, Heard};
use crate::exchanges::Exchanges;
use crate::framing::{Answer, Kind, Request};
use crate::label;
use crate::plugin::Http;
use crate::requests::{Hole, Requests, Said};
use crate::rules::path_of;

/// How long a target that has announced to close the connection is waited for.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that the client may say in another protocol before the target has agreed to that.
const SWITCH_BYTES: usize = 256 * 1024;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    info: SessionInfo,
    requests: Requests,
    /// The request that is being said.
    current: Option<Current>,
    exchanges: Exchanges,
    answers: Answers,
    /// The answer that is being given.
    answering: Option<Answering>,
    holds: Holds,
    /// The client may speak another protocol from here on, once the target has agreed.
    switch: Option<Switch>,
    /// The target has not: what follows may be that protocol, which the origin spoke.
    has_stayed: bool,
    closing: Option<Closing>,
    /// Nothing is to be done any more.
    is_over: bool,
}

/// A request whose body is still to come.
#[derive(Clone, Copy, Debug)]
struct Current {
    number: u64,
    is_sent: bool,
    may_switch: bool,
}

/// An answer whose body is still to come.
#[derive(Clone, Copy, Debug)]
struct Answering {
    /// Which request it is for, if there was any.
    number: Option<u64>,
    status: u16,
    /// The target closes after it, although the client did not ask for that.
    closes: bool,
}

#[derive(Debug)]
struct Switch {
    number: u64,
    kept: Vec<u8>,
}

/// The target is about to close the connection.
#[derive(Clone, Copy, Debug)]
struct Closing {
    /// The exchange that ends with the connection, as requests behind it must not leave before.
    ending: Option<u16>,
}

impl Connection {
    pub(crate) fn new(info: &SessionInfo) -> Self {
        Self {
            info: info.clone(),
            requests: Requests::new(info.start_seen),
            current: None,
            exchanges: Exchanges::default(),
            answers: Answers::default(),
            answering: None,
            holds: Holds::default(),
            switch: None,
            has_stayed: false,
            closing: None,
            is_over: false,
        }
    }

    fn refuse(&mut self, reason: &str, ctx: &mut Context<'_>) {
        self.is_over = true;
        ctx.refuse(reason);
    }

    /// Reads what the client says.
    fn read(&mut self, plugin: &mut Http, mut bytes: &[u8], ctx: &mut Context<'_>) {
        while !self.is_over {
            if self.switch.is_some() {
                self.keep(bytes, ctx);
                break;
            }
            let said = (self.requests).next(&mut bytes, &mut plugin.head, &plugin.limits);
            match said {
                Ok(Some(Said::Request(request))) => self.begin(plugin, &request, ctx),
                Ok(Some(Said::Body { raw, is_end })) => self.go_on(raw, is_end, ctx),
                Ok(None) => break,
                Err(_) if self.has_stayed => self.refuse("upgrade_refused", ctx),
                Err(problem) => self.refuse(&problem.to_string(), ctx),
            }
        }
        let skipped = self.requests.take_skipped();
        if skipped > 0 {
            ctx.count("skipped_bytes", skipped);
        }
    }

    /// A request begins; its head has been read.
    fn begin(&mut self, plugin: &mut Http, request: &Request, ctx: &mut Context<'_>) {
        self.has_stayed = false;
        let Some(number) = self.exchanges.add(request.kind, request.is_last) else {
            return self.refuse("too_many_unanswered", ctx);
        };
        let Http { head, label, .. } = plugin;
        label::write(label, head.method(), path_of(head.target()));
        ctx.begin_exchange(label);
        plugin.rules.apply(head, &self.info);
        head.write(|piece| ctx.send(piece));
        self.exchanges.ask(number);
        let expects = head.minor() > 0
            && !request.body.is_over()
            && head
                .values("expect")
                .any(|it| it.eq_ignore_ascii_case(b"100-continue"));
        if expects {
            ctx.count("expected_continue", 1);
            self.holds.expect(number, ctx);
            self.wait_for_continue(plugin, ctx);
        }
        self.current = Some(Current {
            number,
            is_sent: true,
            may_switch: request.may_switch,
        });
    }

    /// Once the target has nothing else to answer first, its word is waited for no longer than
    /// configured.
    fn wait_for_continue(&mut self, plugin: &Http, ctx: &mut Context<'_>) {
        let next = self.exchanges.asked().map(|(number, _)| number);
        if next.is_some() && next == self.holds.expected() {
            self.holds
                .set_deadline(Reason::Expect, plugin.expect_wait, ctx);
        }
    }

    /// The body of a request goes on.
    fn go_on(&mut self, raw: &[u8], is_end: bool, ctx: &mut Context<'_>) {
        let Some(current) = self.current else {
            return;
        };
        if current.is_sent && !raw.is_empty() {
            ctx.send(raw);
        }
        if is_end {
            self.current = None;
            if current.may_switch && current.is_sent {
                self.switch = Some(Switch {
                    number: current.number,
                    kept: Vec::new(),
                });
            }
        }
    }

    /// Keeps what the client says behind a request to speak another protocol.
    fn keep(&mut self, bytes: &[u8], ctx: &mut Context<'_>) {
        let Some(switch) = &mut self.switch else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        switch.kept.extend_from_slice(bytes);
        match switch.kept.len() > SWITCH_BYTES {
            true => self.refuse("switch_too_long", ctx),
            false => self.holds.set(Reason::Kept, true, ctx),
        }
    }

    /// Reads what the target answers.
    fn hear(&mut self, plugin: &mut Http, mut bytes: &[u8], ctx: &mut Context<'_>) {
        while !self.is_over {
            let to = (self.exchanges.asked()).map_or(Kind::Plain, |(_, exchange)| exchange.kind);
            let heard = (self.answers).next(to, &mut bytes, &mut plugin.head, &plugin.limits);
            match heard {
                Ok(Some(Heard::Answer(answer))) => self.answer(plugin, &answer, ctx),
                Ok(Some(Heard::Content(_))) => {}
                Ok(Some(Heard::End)) => self.end_answer(plugin, ctx),
                Ok(None) => break,
                Err(problem) => self.refuse(&format!("target_{problem}"), ctx),
            }
        }
    }

    /// An answer begins; its head has been read.
    fn answer(&mut self, plugin: &mut Http, answer: &Answer, ctx: &mut Context<'_>) {
        // It has not closed the connection, whatever it said.
        self.end_closing(plugin, ctx);
        let asked = self.exchanges.asked();
        let (number, is_last) = match asked {
            Some((number, exchange)) => (Some(number), exchange.is_last),
            None => (None, false),
        };
        if number.is_some() && number == self.holds.expected() {
            // A final answer ends the wait as well: the target will read the body, or close.
            self.holds.set(Reason::Expect, false, ctx);
        }
        if answer.is_interim {
            return;
        }
        self.answering = Some(Answering {
            number,
            status: answer.status,
            closes: answer.is_last && !is_last,
        });
        if answer.switches {
            self.change_protocol(ctx);
        }
    }

    /// The target's answer is complete.
    fn end_answer(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let Some(answering) = self.answering.take() else {
            return;
        };
        let Some(number) = answering.number else {
            return ctx.count("unasked_answers", 1);
        };
        self.exchanges.finish(number);
        if answering.closes {
            // What leaves now would be lost with the connection; another will be opened for it.
            let others = self.exchanges.asked().is_some();
            self.closing = Some(Closing {
                ending: others.then_some(answering.status),
            });
            if !others {
                end_exchange(answering.status, ctx);
            }
            self.holds.set(Reason::Closing, true, ctx);
            self.holds
                .set_deadline(Reason::Closing, CLOSE_PATIENCE, ctx);
        } else {
            end_exchange(answering.status, ctx);
        }
        self.wait_for_continue(plugin, ctx);
        if self.switch.as_ref().is_some_and(|it| it.number == number) {
            self.stay(plugin, ctx);
        }
    }

    /// The target has agreed to another protocol.
    fn change_protocol(&mut self, ctx: &mut Context<'_>) {
        let answering = self.answering.take();
        let number = answering.and_then(|it| it.number);
        let Some(switch) = self.switch.take_if(|it| Some(it.number) == number) else {
            return self.refuse("target_unasked_switch", ctx);
        };
        let status = answering.map_or(0, |it| it.status);
        end_exchange(status, ctx);
        ctx.count(if status == 101 { "upgrades" } else { "tunnels" }, 1);
        self.holds.release_all(ctx);
        if !switch.kept.is_empty() {
            ctx.send(&switch.kept);
        }
        self.is_over = true;
        ctx.pass_through();
    }

    /// The target has not agreed to another protocol: if the origin has not either, requests go
    /// on.
    fn stay(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let Some(switch) = self.switch.take() else {
            return;
        };
        self.has_stayed = true;
        self.holds.set(Reason::Kept, false, ctx);
        if !switch.kept.is_empty() {
            self.read(plugin, &switch.kept, ctx);
        }
    }

    /// What the target announced, that it closes the connection, has happened or will not.
    fn end_closing(&mut self, plugin: &Http, ctx: &mut Context<'_>) {
        let Some(closing) = self.closing.take() else {
            return;
        };
        if let Some(status) = closing.ending {
            end_exchange(status, ctx);
        }
        self.holds.set(Reason::Closing, false, ctx);
        self.wait_for_continue(plugin, ctx);
    }
}

/// Ends an exchange with what the target has answered.
fn end_exchange(status: u16, ctx: &mut Context<'_>) {
    let outcome = match status < 500 {
        true => Outcome::ok(),
        false => Outcome::failed(),
    };
    ctx.end_exchange(outcome.status(status.into()));
}

impl Session<Http> for Connection {
    fn on_client(&mut self, plugin: &mut Http, bytes: &[u8], ctx: &mut Context<'_>) {
        self.read(plugin, bytes, ctx);
    }

    fn on_target(&mut self, plugin: &mut Http, bytes: &[u8], ctx: &mut Context<'_>) {
        self.hear(plugin, bytes, ctx);
    }

    fn on_gap(
        &mut self,
        _plugin: &mut Http,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        if direction != Direction::Client || self.is_over {
            return;
        }
        if self.switch.is_some() {
            return self.refuse("gap_in_switch", ctx);
        }
        let hole = self.requests.hole(missing);
        match (hole, self.current.take()) {
            (Hole::Between, _) | (_, None) => ctx.count("gaps_between_requests", 1),
            // The target has been promised what nobody has.
            (_, Some(current)) if current.is_sent => self.refuse("gap_in_request", ctx),
            (Hole::InBody, current) => self.current = current,
            (Hole::AcrossBody, Some(_)) => {}
        }
    }

    fn on_client_end(&mut self, _plugin: &mut Http, ctx: &mut Context<'_>) {
        if self.requests.is_within() {
            ctx.count("cut_requests", 1);
        }
    }

    fn on_target_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if self.is_over {
            return;
        }
        self.end_closing(plugin, ctx);
        if self.answers.close() {
            if let Some(answering) = &mut self.answering {
                answering.closes = false;
            }
            self.end_answer(plugin, ctx);
        } else if let Some(Answering {
            number: Some(number),
            status,
            ..
        }) = self.answering.take()
        {
            self.exchanges.finish(number);
            let outcome = Outcome::failed().status(status.into());
            ctx.end_exchange(outcome.label("cut"));
        }
        // What is held now is for another connection.
        self.holds.forget_deadlines();
    }

    fn on_timer(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if self.is_over {
            return;
        }
        for reason in self.holds.due(ctx) {
            match reason {
                Reason::Expect => {
                    ctx.count("continue_not_awaited", 1);
                    self.holds.set(Reason::Expect, false, ctx);
                }
                Reason::Closing => self.end_closing(plugin, ctx),
                Reason::Kept => {}
            }
        }
    }
}
