//! What the engine needs of protocol plugins: a trait that a host of plugins implements.
//!
//! With a plugin for its mapping, a session sends to the target only what the plugin sends. The
//! plugin is given the streams, reassembled and in order, as [`Event`]s, and answers each with
//! [`Actions`]. The engine knows neither libraries nor WASM modules, nor what a protocol is.
//!
//! # Order
//! What is sent forms one stream, in the order of sending, with one exception: what is sent on an
//! event that is not about the client's stream ([`Event::Client`], its gap, its end), before any
//! [`Actions::begin_exchange`] for that event, belongs to what is under way with the target (the
//! answer to its challenge, say) and goes ahead of all that is held or waits for an answer.
//!
//! # Exchanges
//! As long as a session's plugin has not marked an exchange, requests are told apart as without a
//! plugin. From its first [`Actions::begin_exchange`] on, they are those that it marks: each is one
//! request in the ledger, and is answered by one [`Actions::end_exchange`]. One that begins after
//! the client had seen an answer waits until the answers to all before it have ended; one that the
//! client sent without having seen anything since the one before leaves at once. An exchange of
//! which nothing has been sent when the next begins, or in the end, is one that the plugin has left
//! out ([`DropReason::PluginDropped`](crate::DropReason::PluginDropped)). One that the target does not
//! answer is ended once those before it are, whether it has left or not. A plugin that does not ask
//! for the target's stream marks no ends: its requests wait as those without a plugin do.
//!
//! # Bytes
//! A client byte counts as delivered when the target has acknowledged what the plugin sent next in
//! the client's stream. What a plugin keeps to the end counts as left out.
//!
//! # Holes
//! Bytes that the capture missed, or that a bound on the load has left out, are an [`Event::Gap`].
//! A plugin that does not refuse goes on behind them; without a plugin, the session would end.
//!
//! # Several sessions of one connection
//! Each of `-n` copies is a session with a plugin session of its own. Where the target closes while
//! requests wait, another session goes on with them: its plugin session begins anew, is told
//! `start_seen = false`, and is given the client's bytes from the first request on of which nothing
//! has left.

mod installed;

use std::fmt::Debug;
use std::time::Duration;

use tcpcopy_packet::Endpoint;

use crate::output::SessionId;
use crate::time::Instant;

pub(crate) use installed::Installed;

/// The plugins of one engine. What is asked of it concerns one session at a time.
pub trait Plugins: Send + Debug {
    /// What the plugin of the connections to this origin port needs; `None` where there is none.
    /// Asked once for each port.
    fn needs(&self, origin_port: u16) -> Option<Needs>;

    /// A session begins; `info.origin` tells whose plugin it is for.
    ///
    /// # Errors
    /// The session does not come to be.
    fn open(
        &mut self,
        now: Instant,
        session: SessionId,
        info: &SessionInfo,
        actions: &mut Actions,
    ) -> Result<(), Failure>;

    /// Something happened in a session that is open.
    ///
    /// # Errors
    /// The session ends; [`close`](Self::close) follows.
    fn event(
        &mut self,
        now: Instant,
        session: SessionId,
        event: Event<'_>,
        actions: &mut Actions,
    ) -> Result<(), Failure>;

    /// A session is over, or passes the plugin by from here on. Called once for each session whose
    /// [`open`](Self::open) succeeded; nothing of it follows.
    fn close(&mut self, session: SessionId);

    /// A session that is to be called with [`Event::Woken`], because something outside its own
    /// streams concerns it: a value that another session has learnt. Asked after each of the
    /// engine's inputs until there is none; one that is closed is passed over. Where the news comes
    /// from outside the engine, [`Engine::timeout`](crate::Engine::timeout) is such an input.
    fn woken(&mut self) -> Option<SessionId> {
        None
    }

    /// What became of an [`Actions::end_exchange`]: called after the event that asked for it, once
    /// for each, in their order. `took` is the time from the moment at which the exchange's first
    /// byte left until now, without what it had waited in the gate; `None` where no exchange was
    /// open, or it had not left yet.
    fn exchange_ended(&mut self, session: SessionId, took: Option<Duration>) {
        let _ = (session, took);
    }
}

/// Which streams a plugin wants besides the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What the origin answered. Its segments have to be captured with their payload.
    pub origin: bool,
    /// What the target answers. Its replies have to carry their payload.
    pub target: bool,
}

/// Which connection a session replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The captured client.
    pub client: Endpoint,
    /// The server that it spoke to.
    pub origin: Endpoint,
    /// The server that the session speaks to.
    pub target: Endpoint,
    /// Which of the sessions of this connection, from 0.
    pub copy: u16,
    /// Whether the streams that follow are there from their first byte on. If not, the first byte of
    /// each may be anywhere in the protocol.
    pub start_seen: bool,
}

/// A stream that the capture may have missed bytes of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the captured client.
    Client,
    /// From the origin.
    Origin,
}

/// What happened in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The client sent these bytes: the next of its stream, at least one.
    Client(&'a [u8]),
    /// The origin answered these bytes. Only where [`Needs::origin`] asks for them.
    Origin(&'a [u8]),
    /// The target answered these bytes. Only where [`Needs::target`] asks for them.
    Target(&'a [u8]),
    /// Bytes of a stream are missing here, for good. Unless the plugin refuses the session, the
    /// stream goes on after them.
    Gap {
        /// Of which stream.
        direction: Direction,
        /// How many; `None` where that can't be told.
        missing: Option<u64>,
    },
    /// The client has finished its stream, or aborted it. Our end of the connection to the target
    /// is closed after what has been sent, at the earliest when nothing is held any more.
    ClientEnd,
    /// The origin has closed its side. Only where [`Needs::origin`] asks for its stream.
    OriginEnd,
    /// The target has closed its side: exchanges still open are over.
    TargetEnd,
    /// The time of [`Actions::set_timer`] has come.
    Timer,
    /// What [`Plugins::woken`] asked for.
    Woken,
}

/// Why a plugin could not do its part. The session ends with
/// [`DropReason::PluginFailed`](crate::DropReason::PluginFailed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It trapped or panicked, or answered what nobody understands.
    Trapped,
    /// The call took too long.
    TimedOut,
    /// It asked for more memory than it is given.
    OutOfMemory,
    /// It sent more for one event than is allowed.
    OutputLimit,
    /// It has as many sessions as it may have.
    SessionLimit,
    /// It has failed too often and is not called any more.
    SwitchedOff,
}

/// What a plugin wants done, in its order. Reused from call to call, so that a call allocates
/// nothing.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Entry>,
    bytes: Vec<u8>,
}

/// One thing that a plugin wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// See [`Actions::send`].
    Send(&'a [u8]),
    /// See [`Actions::in_order`].
    InOrder,
    /// See [`Actions::begin_exchange`].
    BeginExchange,
    /// See [`Actions::end_exchange`].
    EndExchange {
        /// Whether the answer is a good one.
        ok: bool,
    },
    /// See [`Actions::hold`].
    Hold,
    /// See [`Actions::release`].
    Release,
    /// See [`Actions::set_timer`].
    SetTimer(Duration),
    /// See [`Actions::refuse`].
    Refuse,
    /// See [`Actions::pass_through`].
    PassThrough,
}

/// An [`Action`] whose bytes are in the common buffer.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// Up to this offset, from where the one before ended.
    Send(usize),
    Other(Action<'static>),
}

impl Actions {
    /// Bytes for the target.
    pub fn send(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.list.last_mut() {
            Some(Entry::Send(until)) => *until = end,
            _ => self.list.push(Entry::Send(end)),
        }
    }

    /// What is sent from here on goes in order, whatever the event is about, though no exchange
    /// begins.
    pub fn in_order(&mut self) {
        self.push(Action::InOrder);
    }

    /// What is sent from here on is a new request.
    pub fn begin_exchange(&mut self) {
        self.push(Action::BeginExchange);
    }

    /// The target's answer to the oldest exchange that is open is complete.
    pub fn end_exchange(&mut self, ok: bool) {
        self.push(Action::EndExchange { ok });
    }

    /// What is sent after this stays in the engine until [`release`](Self::release), and so does
    /// the end of the stream. Nothing new where a hold is in force.
    pub fn hold(&mut self) {
        self.push(Action::Hold);
    }

    /// Ends the [`hold`](Self::hold).
    pub fn release(&mut self) {
        self.push(Action::Release);
    }

    /// Asks for [`Event::Timer`] once, after this time, in place of a timer set before.
    pub fn set_timer(&mut self, after: Duration) {
        self.push(Action::SetTimer(after));
    }

    /// The session can't be replayed: it ends, and no other is opened for its connection. The
    /// plugin's own name for the reason is its host's to count.
    pub fn refuse(&mut self) {
        self.push(Action::Refuse);
    }

    /// From here on both directions bypass the plugin: what the client says goes to the target as
    /// it is.
    pub fn pass_through(&mut self) {
        self.push(Action::PassThrough);
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many bytes are to be sent.
    #[must_use]
    pub fn sent_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// What is to be done, in order.
    pub fn iter(&self) -> impl Iterator<Item = Action<'_>> {
        let mut start = 0;
        self.list.iter().map(move |entry| match *entry {
            Entry::Send(end) => {
                let bytes = &self.bytes[start..end];
                start = end;
                Action::Send(bytes)
            }
            Entry::Other(action) => action,
        })
    }

    fn push(&mut self, action: Action<'static>) {
        self.list.push(Entry::Other(action));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_come_in_their_order_and_sends_are_joined() {
        let mut actions = Actions::default();
        actions.send(b"");
        actions.begin_exchange();
        actions.send(b"GET ");
        actions.send(b"/");
        actions.hold();
        actions.send(b"x");
        let all: Vec<Action<'_>> = actions.iter().collect();
        let expected = [
            Action::BeginExchange,
            Action::Send(b"GET /"),
            Action::Hold,
            Action::Send(b"x"),
        ];
        assert_eq!(all, expected);
        assert_eq!(actions.sent_bytes(), 6);
        actions.clear();
        assert!(actions.is_empty() && actions.iter().next().is_none());
    }
}
