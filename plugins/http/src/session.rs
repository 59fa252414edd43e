//! One connection: requests on their way to the target, and the answers of both servers.

mod client;
mod holds;
mod jobs;
mod origin;
mod target;

use plugin_api::{Context, Direction, Session, SessionInfo};

use self::holds::{Holds, Reason};
use self::jobs::Jobs;
use self::origin::Alignment;
use crate::answers::Answers;
use crate::exchanges::Exchanges;
use crate::plugin::Http;
use crate::requests::Requests;
use crate::values::Learnt;
use crate::values::content::Content;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    info: SessionInfo,
    requests: Requests,
    /// The request that is being said.
    current: Option<Current>,
    jobs: Jobs,
    exchanges: Exchanges,
    target: Server,
    /// Only where a rule learns from the origin's answers.
    origin: Option<Box<OriginStream>>,
    holds: Holds,
    /// The client may speak another protocol from here on, once both servers have agreed.
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
    fate: Fate,
    may_switch: bool,
}

/// Where the body of a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sent,
    Dropped,
    /// It is the newest of the [`Jobs`].
    Kept,
}

/// A server's answers.
#[derive(Debug, Default)]
struct Server {
    answers: Answers,
    /// The answer that is being given.
    answering: Option<Answering>,
}

/// An answer whose body is still to come.
#[derive(Debug)]
struct Answering {
    /// Which request it is for, if there was any.
    number: Option<u64>,
    status: u16,
    /// The target closes after it, although the client did not ask for that.
    closes: bool,
    /// Which rules look at it.
    mask: u32,
    learnt: Learnt,
    content: Option<Content>,
}

/// The origin's stream.
#[derive(Debug)]
struct OriginStream {
    server: Server,
    alignment: Alignment,
    /// What came before the request that it answers: the capture had to put that in order first.
    early: Vec<u8>,
}

/// What the client says behind a request to speak another protocol.
#[derive(Debug)]
struct Switch {
    number: u64,
    kept: Vec<u8>,
    /// The target has agreed; whether the origin has shows in what the client says.
    is_agreed: bool,
}

/// The target is about to close the connection.
#[derive(Clone, Copy, Debug)]
struct Closing {
    /// The exchange that ends with the connection, as requests behind it must not leave before:
    /// whether it is a good one, and the status.
    ending: Option<(bool, u16)>,
}

impl Connection {
    pub(crate) fn new(info: &SessionInfo, learns: bool) -> Self {
        Self {
            info: info.clone(),
            requests: Requests::new(info.start_seen),
            current: None,
            jobs: Jobs::default(),
            exchanges: Exchanges::new(learns),
            target: Server::default(),
            origin: learns.then(|| Box::new(OriginStream::new(info.start_seen))),
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
}

impl Session<Http> for Connection {
    fn on_client(&mut self, plugin: &mut Http, bytes: &[u8], ctx: &mut Context<'_>) {
        self.read(plugin, bytes, ctx);
    }

    fn on_origin(&mut self, plugin: &mut Http, bytes: &[u8], ctx: &mut Context<'_>) {
        self.hear_origin(plugin, bytes, ctx);
    }

    fn on_target(&mut self, plugin: &mut Http, bytes: &[u8], ctx: &mut Context<'_>) {
        self.hear(plugin, bytes, ctx);
    }

    fn on_gap(
        &mut self,
        plugin: &mut Http,
        direction: Direction,
        missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        match direction {
            _ if self.is_over => {}
            Direction::Client => self.client_hole(plugin, missing, ctx),
            Direction::Origin => self.origin_hole(missing, ctx),
            Direction::Target => {}
        }
    }

    fn on_client_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if !self.is_over {
            self.client_end(plugin, ctx);
        }
    }

    fn on_origin_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if !self.is_over {
            self.origin_end(plugin, ctx);
        }
    }

    fn on_target_end(&mut self, plugin: &mut Http, ctx: &mut Context<'_>) {
        if !self.is_over {
            self.target_end(plugin, ctx);
        }
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
                Reason::Kept | Reason::Switch => {}
            }
        }
    }

    fn on_shared(
        &mut self,
        plugin: &mut Http,
        key: &[u8],
        value: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) {
        let is_awaited = self.jobs.waiting.as_deref() == Some(key);
        if self.is_over || !is_awaited {
            return;
        }
        self.jobs.waiting = None;
        if let (None, Some(job)) = (value, self.jobs.list.front_mut()) {
            job.attempt.give_up(key);
        }
        self.advance(plugin, ctx);
    }
}
