//! How several plugins work on one session.
//!
//! ```text
//!  client ──▶ a ──▶ b ──▶ target          --plugin a --plugin b
//!             ▲     ▲
//!  origin, target ──┘                     as they are, to each that asks for them: b first, then a
//! ```
//!
//! - **Client's stream.** What `a` sends is what `b` is told as [`Event::Data`] of the client, at
//!   once, in the same call of the engine; what the last one sends goes to the target. Sessions
//!   open from the last to the first, so that each finds the next one ready.
//! - **Origin and target.** Every plugin that needs them is told the streams as they are, the last
//!   one first: nobody is sent anything by one that knows more than itself.
//! - **Order.** What a plugin sends about the servers' words, a timer or a shared value, before any
//!   exchange begins in that call, goes ahead of what itself and the engine hold; it still passes
//!   through the plugins behind, and waits where one of those holds.
//! - **Hold.** What the last plugin holds, the engine holds. What another one holds stays here until
//!   it releases it, up to [`Limits::held_bytes`], and the plugins behind do not see it before. The
//!   session's end waits for all of them.
//! - **Exchanges.** Those of one plugin count: the last that marks any, of those that are told the
//!   target's answers if any is. A mark of one before it stands where the next byte leaves the
//!   chain. Each plugin's own figures count its own marks; only those that count have a latency.
//! - **Refusal.** One plugin's refusal ends the session, counted under that plugin.
//! - **Pass through.** The plugin steps aside, and what was said to it is said to the next. When all
//!   have, the engine lets the session pass.
//! - **Hole.** A hole in the client's stream is told to all, of unknown length behind the first. A
//!   plugin that holds something back can't tell the next one where the hole is: then the session is
//!   refused as `capture_gap`.
//! - **Timers and waits.** Each plugin has its own; the engine's one timer is set for the earliest.
//! - **Failure.** One plugin's failure ends the session.

mod holds;
mod marks;
mod run;
mod waits;

use std::collections::VecDeque;

use plugin_api::abi::ActionBuffer;
use smallvec::SmallVec;
use tcpcopy_engine::SessionId;

pub(crate) use run::{Ended, Run, Stop};

use crate::worker::{Generation, Worker};

/// One session's way through its chain.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    links: SmallVec<[Link; 1]>,
    waits: Vec<Wait>,
    /// For when the engine's timer is set, in microseconds.
    timer_told: Option<u64>,
    /// The link whose marks count: the last that has marked.
    marker: Option<usize>,
    /// This link has begun an exchange that the engine is told of before the next byte.
    pending: Option<usize>,
    /// The engine holds.
    engine_holds: bool,
}

/// One plugin of the chain.
#[derive(Debug)]
pub(crate) struct Link {
    /// Which of the set's workers.
    pub(crate) worker: usize,
    /// Of which of its instances.
    generation: Generation,
    /// The plugin session is there, and is to be closed.
    is_open: bool,
    /// It is told what happens: it has not let the session pass.
    is_active: bool,
    /// Its marks are those of one that is told the answers, or nobody is.
    may_mark: bool,
    is_holding: bool,
    /// What it has sent since, unless it is the last.
    held: ActionBuffer,
    /// The stream to the next one ends after what is held.
    end_is_held: bool,
    timer_at: Option<u64>,
    /// Exchanges that it has begun and not ended, the oldest first.
    open: VecDeque<Open>,
    /// Something was sent of the newest of them.
    has_sent: bool,
}

/// An exchange without an answer.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The place of its label among the plugin's.
    label: u32,
    /// The engine knows of it.
    is_told: bool,
}

/// A shared value that a plugin waits for.
#[derive(Debug)]
struct Wait {
    link: usize,
    key: Box<[u8]>,
    until: u64,
    /// The map knows of it: there were not too many.
    is_known: bool,
}

impl Session {
    /// A session over these workers; the flag tells whether the marks of each may count.
    pub(crate) fn new(id: SessionId, workers: impl Iterator<Item = (usize, bool)>) -> Self {
        let link = |(worker, may_mark)| Link {
            worker,
            generation: Generation::default(),
            is_open: false,
            is_active: true,
            may_mark,
            is_holding: false,
            held: ActionBuffer::new(),
            end_is_held: false,
            timer_at: None,
            open: VecDeque::new(),
            has_sent: false,
        };
        Self {
            id,
            links: workers.map(link).collect(),
            waits: Vec::new(),
            timer_told: None,
            marker: None,
            pending: None,
            engine_holds: false,
        }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// The plugin sessions that are there: worker and generation.
    pub(crate) fn open_links(&self) -> impl Iterator<Item = (usize, Generation)> {
        let open = self.links.iter().filter(|link| link.is_open);
        open.map(|link| (link.worker, link.generation))
    }

    /// The session is over: exchanges of which nothing was sent were left out.
    pub(crate) fn count_left_out(&mut self, workers: &[Worker]) {
        for link in &mut self.links {
            if !link.has_sent
                && let Some(empty) = link.open.pop_back()
            {
                let tally = workers[link.worker].tally();
                tally.counts().labels.leave_out(empty.label);
            }
        }
    }

    /// The same, of those that are told what happens.
    pub(crate) fn active_links(&self) -> impl Iterator<Item = (usize, Generation)> {
        let active = self.links.iter().filter(|link| link.is_active);
        active.map(|link| (link.worker, link.generation))
    }

    fn last(&self) -> usize {
        self.links.len() - 1
    }
}
