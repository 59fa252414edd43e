//! What the origin has answered, where a rule learns from it.
//!
//! Which request an answer belongs to is a matter of counting, and where the capture has missed
//! something, nobody knows how many there were. Then the origin is not listened to until a request
//! comes after an answer: a client that waits for its answers has none outstanding there.

use plugin_api::Context;

use super::{Answering, Connection, OriginStream, Server};
use crate::answers::Heard;
use crate::framing::Kind;
use crate::head::Head;
use crate::plugin::Http;
use crate::values::{Learnt, Values};

/// Bytes of answers that may come before their request.
const EARLY_BYTES: usize = 64 * 1024;

/// Whether it is known which request the next answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alignment {
    Sure,
    /// It is, if the client waits for its answers.
    Likely,
    /// It is not; whether the origin has said anything since the last request.
    Lost {
        has_spoken: bool,
    },
}

impl OriginStream {
    pub(super) fn new(start_seen: bool) -> Self {
        Self {
            server: Server::default(),
            alignment: match start_seen {
                true => Alignment::Sure,
                false => Alignment::Lost { has_spoken: true },
            },
            early: Vec::new(),
        }
    }

    fn lose(&mut self, has_spoken: bool) {
        self.server = Server::default();
        self.early = Vec::new();
        self.alignment = Alignment::Lost { has_spoken };
    }
}

impl Server {
    /// A final answer begins.
    pub(super) fn begin(
        &mut self,
        values: &Values,
        number: Option<u64>,
        mask: u32,
        closes: bool,
        head: &Head,
    ) {
        let looks = mask != 0 && values.is_any();
        self.answering = Some(Answering {
            number,
            status: head.status(),
            closes,
            mask,
            learnt: match looks {
                true => values.learn_head(mask, head),
                false => Learnt::default(),
            },
            content: looks.then(|| values.content(mask, head)).flatten(),
        });
    }

    /// Its body goes on.
    pub(super) fn content(&mut self, bytes: &[u8]) {
        let content = self.answering.as_mut().and_then(|it| it.content.as_mut());
        if let Some(content) = content {
            content.push(bytes);
        }
    }
}

impl Answering {
    /// What a complete answer has said.
    pub(super) fn learn(&mut self, values: &Values, ctx: &mut Context<'_>) -> Learnt {
        let mut learnt = std::mem::take(&mut self.learnt);
        if let Some(content) = self.content.take() {
            learnt.append(values.learn_body(self.mask, &content, ctx));
        }
        learnt
    }
}

impl Connection {
    /// Reads what the origin answered.
    pub(super) fn hear_origin(&mut self, plugin: &mut Http, bytes: &[u8], ctx: &mut Context<'_>) {
        let mut head = std::mem::take(&mut plugin.head);
        self.hear_origin_with(plugin, &mut head, bytes, ctx);
        plugin.head = head;
        self.pair(plugin, ctx);
    }

    fn hear_origin_with(
        &mut self,
        plugin: &Http,
        head: &mut Head,
        mut bytes: &[u8],
        ctx: &mut Context<'_>,
    ) {
        while let Some(origin) = &mut self.origin {
            if let Alignment::Lost { has_spoken } = &mut origin.alignment {
                *has_spoken = true;
                return;
            }
            let awaited = self.exchanges.awaited();
            let between = origin.server.answers.is_between() && !bytes.is_empty();
            if awaited.is_none() && between {
                return self.keep_early(bytes, ctx);
            }
            let (number, kind, mask) = match awaited {
                Some((number, exchange)) => (Some(number), exchange.kind, exchange.mask),
                None => (None, Kind::Plain, 0),
            };
            let answers = &mut origin.server.answers;
            match answers.next(kind, &mut bytes, head, &plugin.limits) {
                Ok(Some(Heard::Answer(answer))) => {
                    if answer.is_interim {
                        continue;
                    }
                    let server = &mut origin.server;
                    server.begin(&plugin.values, number, mask, false, head);
                    let learnt = server.answering.as_ref().map(|it| it.learnt.clone());
                    self.announce(plugin, number, &learnt.unwrap_or_default(), ctx);
                    if answer.switches {
                        return self.lose_origin(true);
                    }
                }
                Ok(Some(Heard::Content(bytes))) => origin.server.content(bytes),
                Ok(Some(Heard::End)) => self.end_origin_answer(plugin, ctx),
                Ok(None) => return,
                Err(_) => {
                    ctx.count("origin_unreadable", 1);
                    return self.lose_origin(true);
                }
            }
        }
    }

    /// Keeps answers whose request has not come yet.
    fn keep_early(&mut self, bytes: &[u8], ctx: &mut Context<'_>) {
        let Some(origin) = &mut self.origin else {
            return;
        };
        origin.early.extend_from_slice(bytes);
        if origin.early.len() > EARLY_BYTES {
            ctx.count("origin_unreadable", 1);
            self.lose_origin(true);
        }
    }

    /// A request has come: its answer may be here already.
    pub(super) fn hear_early(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let Some(origin) = &mut self.origin else {
            return;
        };
        if !origin.early.is_empty() {
            let early = std::mem::take(&mut origin.early);
            self.hear_origin(plugin, &early, ctx);
        }
    }

    /// Values of the origin are announced to those who use them before the target has answered.
    fn announce(
        &mut self,
        plugin: &Http,
        number: Option<u64>,
        learnt: &Learnt,
        ctx: &mut Context<'_>,
    ) {
        if number.is_some_and(|number| self.exchanges.is_for_target(number)) {
            plugin.values.announce(self.info.copy, learnt, ctx);
        }
    }

    /// The origin's answer is complete.
    fn end_origin_answer(&mut self, plugin: &Http, ctx: &mut Context<'_>) {
        let Some(origin) = &mut self.origin else {
            return;
        };
        let Some(mut answering) = origin.server.answering.take() else {
            return;
        };
        let of_head = answering.learnt.len();
        let learnt = answering.learn(&plugin.values, ctx);
        let of_body = learnt.since(of_head);
        self.announce(plugin, answering.number, &of_body, ctx);
        if let Some(number) = answering.number {
            (self.exchanges).origin_answered(number, answering.status, learnt);
        }
    }

    /// A request is about to come: whether its answer will be known.
    pub(super) fn align_origin(&mut self, ctx: &mut Context<'_>) {
        let Some(origin) = &mut self.origin else {
            return;
        };
        if self.exchanges.origin_is_missed() {
            ctx.count("origin_unreadable", 1);
            return self.lose_origin(false);
        }
        let is_outstanding = self.exchanges.awaited().is_some();
        match origin.alignment {
            Alignment::Sure => {}
            // It does not wait for its answers, or they are not its.
            Alignment::Likely if is_outstanding => self.lose_origin(false),
            Alignment::Likely => origin.alignment = Alignment::Sure,
            Alignment::Lost { has_spoken: true } => {
                self.exchanges.lose_origin();
                origin.alignment = Alignment::Likely;
            }
            Alignment::Lost { has_spoken: false } => self.exchanges.lose_origin(),
        }
    }

    /// Nobody knows which request the next answer is for; whether the origin has said anything since
    /// the last request.
    pub(super) fn lose_origin(&mut self, has_spoken: bool) {
        if let Some(origin) = &mut self.origin {
            origin.lose(has_spoken);
            self.exchanges.lose_origin();
        }
    }

    /// Bytes of the origin are missing here.
    pub(super) fn origin_hole(&mut self, missing: Option<u64>, ctx: &mut Context<'_>) {
        let Some(origin) = &mut self.origin else {
            return;
        };
        ctx.count("gaps_in_answers", 1);
        let server = &mut origin.server;
        match server.answers.hole(missing) {
            true => {
                if let Some(answering) = &mut server.answering {
                    answering.content = None;
                }
            }
            false => self.lose_origin(true),
        }
    }

    /// The origin has closed its side.
    pub(super) fn origin_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        let is_end = (self.origin.as_mut()).is_some_and(|it| it.server.answers.close());
        if is_end {
            self.end_origin_answer(plugin, ctx);
            self.pair(plugin, ctx);
        }
    }
}
