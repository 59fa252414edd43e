//! What the client says, on its way to the target.

use plugin_api::Context;

use super::jobs::Job;
use super::{Connection, Current, Fate, Reason, Switch};
use crate::framing::Request;
use crate::head::Head;
use crate::label;
use crate::plugin::Http;
use crate::requests::{Hole, Said};
use crate::rules::path_of;
use crate::values::edit;
use crate::values::{Attempt, Resolution};

/// Bytes that the client may say in another protocol before the target has agreed to that.
const SWITCH_BYTES: usize = 256 * 1024;

impl Connection {
    /// Reads what the client says.
    pub(super) fn read(&mut self, plugin: &mut Http, mut bytes: &[u8], ctx: &mut Context<'_>) {
        let mut head = std::mem::take(&mut plugin.head);
        while !self.is_over {
            if self.switch.is_some() {
                self.keep(bytes, ctx);
                break;
            }
            let said = (self.requests).next(&mut bytes, &mut head, &plugin.limits);
            let skipped = self.requests.take_skipped();
            if skipped > 0 {
                ctx.count("skipped_bytes", skipped);
            }
            match said {
                Ok(Some(Said::Request(request))) => self.begin(plugin, &mut head, request, ctx),
                Ok(Some(Said::Body { raw, is_end })) => self.go_on(plugin, raw, is_end, ctx),
                Ok(None) => break,
                Err(_) if self.has_stayed => self.refuse("upgrade_refused", ctx),
                Err(problem) => self.refuse(&problem.to_string(), ctx),
            }
        }
        plugin.head = head;
    }

    /// A request begins; its head has been read.
    fn begin(
        &mut self,
        plugin: &mut Http,
        head: &mut Head,
        request: Request,
        ctx: &mut Context<'_>,
    ) {
        self.has_stayed = false;
        let mask = match self.origin {
            Some(_) => plugin.values.mask(path_of(head.target())),
            None => 0,
        };
        self.align_origin(ctx);
        let added = self.exchanges.add(request.kind, request.is_last, mask);
        let Some(number) = added else {
            return self.refuse("too_many_unanswered", ctx);
        };
        let mut current = Current {
            number,
            fate: Fate::Sent,
            may_switch: request.may_switch,
        };
        let dropped = plugin.filter.judge(head, &self.info);
        let looks_into = plugin.values.is_any() && plugin.values.looks_into(head);
        let is_kept = !self.jobs.is_empty() || (looks_into && dropped.is_none());
        if is_kept {
            let job = self.job(head, request, number, dropped.map(str::to_owned));
            self.jobs.push(job);
            current.fate = Fate::Kept;
        } else if let Some(counter) = dropped {
            leave_out(head, &mut plugin.label, ctx);
            ctx.count(counter, 1);
            self.exchanges.leave_out(number);
            current.fate = Fate::Dropped;
        } else {
            current.fate = self.send_or_keep(plugin, head, request, number, ctx);
        }
        self.current = Some(current);
        self.hear_early(plugin, ctx);
    }

    /// A request of which only the head matters: sends that, unless one of its values is unknown.
    fn send_or_keep(
        &mut self,
        plugin: &mut Http,
        head: &mut Head,
        request: Request,
        number: u64,
        ctx: &mut Context<'_>,
    ) -> Fate {
        let mut attempt = Attempt::default();
        let (copy, values) = (self.info.copy, &plugin.values);
        let resolution = match values.is_any() {
            true => values.resolve(head, None, copy, &mut attempt, ctx),
            false => Resolution::Ready(Vec::new()),
        };
        match resolution {
            Resolution::Ready(edits) => {
                edit::apply_to_head(head, &edits);
                let has_body = !request.body.is_over();
                self.send_head(plugin, head, number, has_body, ctx);
                Fate::Sent
            }
            Resolution::Drop => {
                leave_out(head, &mut plugin.label, ctx);
                self.exchanges.leave_out(number);
                Fate::Dropped
            }
            Resolution::Wait { key, timeout } => {
                let mut job = self.job(head, request, number, None);
                job.attempt = attempt;
                self.jobs.push(job);
                ctx.share().wait(&key, timeout);
                self.jobs.waiting = Some(key);
                self.holds.set(Reason::Kept, true, ctx);
                Fate::Kept
            }
        }
    }

    fn job(&self, head: &mut Head, request: Request, number: u64, dropped: Option<String>) -> Job {
        Job {
            head: std::mem::take(head),
            request,
            number,
            dropped,
            raw: Vec::new(),
            is_whole: false,
            is_broken: false,
            is_cut: false,
            is_behind: !self.jobs.is_empty(),
            attempt: Attempt::default(),
            bytes: 0,
        }
    }

    /// Sends the head of a request.
    fn send_head(
        &mut self,
        plugin: &mut Http,
        head: &mut Head,
        number: u64,
        has_body: bool,
        ctx: &mut Context<'_>,
    ) {
        label::write(&mut plugin.label, head.method(), path_of(head.target()));
        ctx.begin_exchange(&plugin.label);
        plugin.rules.apply(head, &self.info);
        head.write(|piece| ctx.send(piece));
        self.exchanges.ask(number);
        if has_body && head.expects_continue() {
            ctx.count("expected_continue", 1);
            self.holds.expect(number, ctx);
            self.wait_for_continue(plugin, ctx);
        }
    }

    /// Once the target has nothing else to answer first, its word is waited for no longer than
    /// configured.
    pub(super) fn wait_for_continue(&mut self, plugin: &Http, ctx: &mut Context<'_>) {
        let expected = self.holds.expected();
        if expected.is_none() {
            return;
        }
        let next = self.exchanges.asked().map(|(number, _)| number);
        if next == expected {
            self.holds
                .set_deadline(Reason::Expect, plugin.expect_wait, ctx);
        }
    }

    /// The body of a request goes on.
    fn go_on(&mut self, plugin: &mut Http, raw: &[u8], is_end: bool, ctx: &mut Context<'_>) {
        let Some(current) = self.current else {
            return;
        };
        match current.fate {
            Fate::Sent if raw.is_empty() => {}
            Fate::Sent => ctx.send(raw),
            Fate::Dropped => {}
            Fate::Kept => {
                self.jobs.extend(raw, is_end);
                self.advance(plugin, ctx);
            }
        }
        if is_end && let Some(current) = self.current.take() {
            self.pair(plugin, ctx);
            if current.may_switch && self.exchanges.is_open(current.number) {
                self.switch = Some(Switch {
                    number: current.number,
                    kept: Vec::new(),
                    is_agreed: false,
                });
            } else if current.may_switch {
                // The target has answered already, or will not be asked.
                self.has_stayed = true;
            }
        }
    }

    /// Does what can be done with the requests that are kept.
    pub(super) fn advance(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if self.jobs.waiting.is_some() && !self.jobs.is_full(plugin.values.body_bytes) {
            return;
        }
        self.holds.let_go(ctx);
        let is_full = self.jobs.is_full(plugin.values.body_bytes);
        while let Some(job) = self.jobs.list.front_mut() {
            // What the client said after an answer to the one before is to be said after that.
            if job.is_behind && !is_full && self.exchanges.asked().is_some() {
                break;
            }
            job.attempt.is_urgent |= is_full;
            if !self.do_first(plugin, ctx) {
                break;
            }
        }
        let front = self.jobs.list.front();
        if self.jobs.waiting.is_some() || front.is_some_and(|job| job.is_behind) {
            self.holds.set(Reason::Kept, true, ctx);
        }
        self.holds.settle(ctx);
        // The target will not be asked for another protocol. That request was the last one kept.
        let switch = self.switch.as_ref().filter(|it| !it.is_agreed);
        if switch.is_some_and(|it| !self.exchanges.is_open(it.number)) {
            self.stay(plugin, ctx);
        }
    }

    /// Sends the first of the requests that are kept, or leaves it out. False when it must wait.
    fn do_first(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) -> bool {
        let Some(job) = self.jobs.list.front_mut() else {
            return false;
        };
        let (copy, body_bytes) = (self.info.copy, plugin.values.body_bytes);
        let mut is_dropped = job.dropped.is_some() || job.is_broken;
        if !is_dropped {
            let looks_into = plugin.values.looks_into(&job.head);
            if looks_into && !job.is_ready(body_bytes) {
                return false;
            }
            let content = looks_into.then(|| job.content(body_bytes)).flatten();
            if looks_into && content.is_none() && !job.is_cut {
                ctx.count("body_too_long", 1);
            }
            let body = content.as_deref();
            match (plugin.values).resolve(&job.head, body, copy, &mut job.attempt, ctx) {
                Resolution::Wait { key, timeout } => {
                    ctx.share().wait(&key, timeout);
                    self.jobs.waiting = Some(key);
                    return false;
                }
                Resolution::Drop => is_dropped = true,
                Resolution::Ready(edits) => {
                    // Before the length changes: that may remove fields, and the edits count them.
                    edit::apply_to_head(&mut job.head, &edits);
                    let new = body.and_then(|old| edit::apply_to_body(old, &edits));
                    if let (Some(old), Some(new)) = (body, new) {
                        job.set_content(old.len(), &new);
                    }
                }
            }
        }
        self.jobs.waiting = None;
        let Some(mut job) = self.jobs.pop() else {
            return false;
        };
        if job.is_broken && job.dropped.is_none() {
            ctx.count("gaps_in_requests", 1);
        }
        if is_dropped {
            leave_out(&job.head, &mut plugin.label, ctx);
            if let Some(counter) = &job.dropped {
                ctx.count(counter, 1);
            }
            self.exchanges.leave_out(job.number);
        } else {
            let has_body = !job.request.body.is_over();
            self.send_head(plugin, &mut job.head, job.number, has_body, ctx);
            if !job.raw.is_empty() {
                ctx.send(&job.raw);
            }
        }
        if let Some(current) = self.current.as_mut().filter(|it| it.number == job.number) {
            current.fate = if is_dropped {
                Fate::Dropped
            } else {
                Fate::Sent
            };
        }
        true
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
        if switch.is_agreed {
            return self.speak_other(ctx);
        }
        match switch.kept.len() > SWITCH_BYTES {
            true => self.refuse("switch_too_long", ctx),
            false => self.holds.set(Reason::Switch, true, ctx),
        }
    }

    /// The target has not agreed to another protocol: if the origin has not either, requests go
    /// on.
    pub(super) fn stay(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let Some(switch) = self.switch.take() else {
            return;
        };
        self.has_stayed = true;
        self.holds.set(Reason::Switch, false, ctx);
        if !switch.kept.is_empty() {
            self.read(plugin, &switch.kept, ctx);
        }
    }

    /// Bytes of the client are missing here.
    pub(super) fn client_hole(
        &mut self,
        plugin: &mut Http,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        if self.switch.is_some() {
            return self.refuse("gap_in_switch", ctx);
        }
        let hole = self.requests.hole(missing);
        if hole == Hole::Between {
            ctx.count("gaps_between_requests", 1);
            return self.lose_origin(false);
        }
        match self.current.map(|it| it.fate) {
            // The target has been promised what nobody has.
            Some(Fate::Sent) => return self.refuse("gap_in_request", ctx),
            Some(Fate::Kept) => {
                if let Some(job) = self.jobs.list.back_mut() {
                    job.is_broken = true;
                }
            }
            Some(Fate::Dropped) | None => {}
        }
        if hole == Hole::AcrossBody {
            self.current = None;
            self.jobs.extend(b"", true);
            self.lose_origin(false);
        }
        self.advance(plugin, ctx);
    }

    /// The client has finished.
    pub(super) fn client_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if self.is_upgraded() {
            // What it has said has no end that a request would have.
            return self.pass_through(ctx);
        }
        if !self.requests.is_within() {
            return;
        }
        ctx.count("cut_requests", 1);
        if self.current.is_some_and(|it| it.fate == Fate::Kept) {
            // As it came: nobody can tell what a length would have to be.
            if let Some(job) = self.jobs.list.back_mut() {
                job.is_cut = true;
            }
            self.advance(plugin, ctx);
        }
    }
}

/// Tells of a request that is left out: it begins, and nothing is sent.
fn leave_out(head: &Head, label: &mut String, ctx: &mut Context<'_>) {
    label::write(label, head.method(), path_of(head.target()));
    ctx.begin_exchange(label);
}
