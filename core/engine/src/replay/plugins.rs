//! Sessions with a plugin: when it is called, and what follows from its verdict.

use super::{HomeNews, Opening, Replay, SessionKey};
use crate::ledger::DropReason;
use crate::plugin::{Direction, Event, Needs, SessionInfo};
use crate::session::{Context, Session, open_plugin};
use crate::time::Instant;

/// So many sessions are woken before everything else has its turn.
const WOKEN_AT_ONCE: u32 = 256;

impl Replay {
    /// What the plugin of connections to this origin port needs, if there is one.
    pub(crate) fn needs(&self, origin_port: u16) -> Option<Needs> {
        self.plugins.as_ref()?.needs(origin_port)
    }

    /// Lets the plugin of a session to be have its say first.
    pub(super) fn open_plugin(
        &mut self,
        now: Instant,
        key: SessionKey,
        opening: &Opening,
    ) -> Result<Option<Needs>, DropReason> {
        let Some(needs) = self.needs(opening.origin.port) else {
            return Ok(None);
        };
        let info = SessionInfo {
            client: opening.client,
            origin: opening.origin,
            target: opening.target,
            copy: opening.copy,
            start_seen: opening.start_seen,
        };
        if let Some(installed) = &mut self.plugins {
            open_plugin(now, key, &info, installed, &mut self.ledger)?;
        }
        Ok(Some(needs))
    }

    /// The session did not come to be.
    pub(super) fn abandon_plugin(&mut self, key: SessionKey, needs: Option<Needs>) {
        if needs.is_some()
            && let Some(installed) = &mut self.plugins
        {
            installed.close(key);
        }
    }

    /// Does to a session what may call its plugin. False when the session is gone.
    pub(super) fn act(
        &mut self,
        now: Instant,
        key: SessionKey,
        action: impl FnOnce(&mut Session, &mut Context<'_>),
    ) -> bool {
        let known = self.touch(key, action);
        if known && self.plugins.is_some() {
            self.judge(now, key);
        }
        known
    }

    /// Ends a session whose plugin has failed or refused it, or has sent more than there is room for.
    fn judge(&mut self, now: Instant, key: SessionKey) {
        let is_full = self.memory_bytes() > self.config.memory_budget_bytes;
        let Some(session) = self.session_mut(key).filter(|it| !it.is_settled) else {
            return;
        };
        let full = (is_full && session.has_plugin()).then_some(DropReason::MemoryBudget);
        if let Some(reason) = session.verdict().or(full) {
            self.fail(now, key, reason);
        }
    }

    /// Why a session is over of which the connection has not heard yet.
    pub(crate) fn news_of_end(&self, key: SessionKey) -> DropReason {
        let of_session = |news: &HomeNews| match news {
            HomeNews::Ended {
                session, reason, ..
            } if *session == key => Some(*reason),
            _ => None,
        };
        let found = self.news.iter().find_map(of_session);
        found.unwrap_or(DropReason::MemoryBudget)
    }

    /// Whether a plugin stands between a session's client and its target.
    pub(crate) fn has_plugin(&mut self, key: SessionKey) -> bool {
        self.session_mut(key).is_some_and(|it| it.has_plugin())
    }

    /// The client had seen so much before it spoke again, after a hole in what it said.
    pub(crate) fn note_seen(&mut self, now: Instant, key: SessionKey, seen: u64) {
        if let Some(session) = self.session_mut(key) {
            session.note_seen(now, seen);
        }
    }

    /// Bytes of the origin, for the plugin.
    pub(crate) fn origin_said(&mut self, now: Instant, key: SessionKey, bytes: &[u8]) {
        self.act(now, key, |session, cx| {
            session.call_and_pass(now, Event::Origin(bytes), cx);
        });
    }

    /// The origin has closed its side.
    pub(crate) fn origin_ended(&mut self, now: Instant, key: SessionKey) {
        self.act(now, key, |session, cx| {
            session.call_and_pass(now, Event::OriginEnd, cx);
        });
    }

    /// A stream of the capture has a permanent hole here; the plugin may know how to go on.
    pub(crate) fn tell_gap(
        &mut self,
        now: Instant,
        key: SessionKey,
        direction: Direction,
        missing: Option<u64>,
    ) {
        self.act(now, key, |session, cx| {
            session.call_and_pass(now, Event::Gap { direction, missing }, cx);
        });
    }

    /// Calls the sessions that something outside their streams concerns, so many at most: two that
    /// wake each other must not keep everything else waiting. The rest is due at once.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.woken_since = None;
        for _ in 0..WOKEN_AT_ONCE {
            let Some(key) = self.plugins.as_mut().and_then(|it| it.woken()) else {
                return;
            };
            self.act(now, key, |session, cx| {
                session.call_and_pass(now, Event::Woken, cx);
            });
        }
        self.woken_since = Some(now);
    }
}
