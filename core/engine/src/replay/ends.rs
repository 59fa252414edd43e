//! How sessions end: their account is closed, their connection hears of it, their tuple is free.

use super::{HomeNews, Notice, Opening, Replay, SessionKey};
use crate::config::Upstream;
use crate::ledger::DropReason;
use crate::output::{Closing, SessionRecord};
use crate::session::{Fate, Load};
use crate::time::Instant;

impl Replay {
    pub(super) fn apply(&mut self, now: Instant, key: SessionKey, fate: Option<Fate>) {
        match fate {
            None => {}
            Some(Fate::Done) => {
                if self
                    .session_mut(key)
                    .is_some_and(|session| !session.is_lingering())
                {
                    self.fail(now, key, DropReason::IdleTimeout);
                } else {
                    self.remove(key, DropReason::TargetClosed);
                }
            }
            Some(Fate::Failed(reason)) => self.fail(now, key, reason),
        }
    }

    /// Ends a session for `reason`: a RST, where the target still holds a connection, and out.
    pub(super) fn fail(&mut self, now: Instant, key: SessionKey, reason: DropReason) {
        self.settle(key, reason);
        let Some(session) = self.session_mut(key) else {
            return;
        };
        session.abort(now);
        if session.is_lingering() && !session.has_reset_to_send() {
            self.remove(key, reason);
        } else {
            self.enqueue(key);
        }
    }

    /// Closes a session's account and tells its connection.
    pub(super) fn settle(&mut self, key: SessionKey, reason: DropReason) {
        let Some((serial, session)) = self.sessions.get_mut(key.place() as usize) else {
            return;
        };
        if *serial != key.serial() || session.is_settled {
            return;
        }
        self.load.replace(session.load(), Load::default());
        let lost_bytes = session.settle(reason, &mut self.ledger);
        session.close_plugin(self.plugins.as_mut());
        let owes_connection = std::mem::take(&mut session.owes_connection);
        match session.home.take() {
            Some(home) => self.news.push_back(HomeNews::Ended {
                home,
                session: key,
                reason,
                owes_connection,
            }),
            None if owes_connection => self.ledger.connections.drop(reason, 1),
            None => {}
        }
        let (captured_bytes, delivered_bytes, received_bytes) = session.byte_counts();
        let failed = lost_bytes > 0 || owes_connection;
        self.notices.push_back(Notice::Record(SessionRecord {
            session: key,
            client: session.client,
            tuple: session.tuple(),
            captured_bytes,
            delivered_bytes,
            received_bytes,
            reason: failed.then_some(reason),
        }));
    }

    pub(super) fn remove(&mut self, key: SessionKey, reason: DropReason) {
        self.settle(key, reason);
        if self.session_mut(key).is_none() {
            return;
        }
        let (_, mut session) = self.sessions.remove(key.place() as usize);
        match session.registration(key) {
            Some(mirror) => (self.own).mirror_ended(mirror.tuple.source, mirror.iss),
            None => self.own.socket_ended(session.tuple()),
        }
        if self.config.upstream == Upstream::Raw {
            self.allocator.release(session.tuple());
            self.notices
                .push_back(Notice::Unregister(key, session.tuple()));
        } else if session.has_connection() {
            self.ledger.upstream.resets_sent += 1;
            self.notices.push_back(Notice::Close(key, Closing::Reset));
        }
    }

    /// The target has closed while requests wait: those that have not left go on in a new session.
    pub(super) fn carry_over(&mut self, now: Instant, key: SessionKey) {
        let Some((_, session)) = (self.sessions.get_mut(key.place() as usize))
            .filter(|(serial, _)| *serial == key.serial())
        else {
            return;
        };
        let before = session.load();
        let Some(carried) = session.take_unsent(&mut self.ledger) else {
            return;
        };
        // Its plugin may keep what another is about to hear again.
        session.unplug(self.plugins.as_mut());
        let after = session.load();
        let home = session.home.take();
        let rtt = session.rtt();
        let opening = Opening {
            client: session.client,
            origin: session.origin,
            target: session.tuple().destination,
            copy: session.copy,
            offer: session.offer(),
            home,
            owes_connection: false,
            start_seen: false,
        };
        self.load.replace(before, after);
        match self.open(now, opening) {
            Ok(successor) => {
                // Before it begins: what it hears may be its end, and that news comes after this.
                if let Some(home) = home {
                    self.news.push_back(HomeNews::Moved {
                        home,
                        session: successor,
                    });
                }
                self.act(now, successor, |session, cx| {
                    session.client_established(rtt);
                    session.adopt(now, carried, cx);
                });
            }
            Err(reason) => {
                self.ledger.bytes.drop(reason, carried.byte_count());
                self.ledger.requests.drop(reason, carried.request_count());
                if let Some(home) = home {
                    let owes_connection = false;
                    self.news.push_back(HomeNews::Ended {
                        home,
                        session: key,
                        reason,
                        owes_connection,
                    });
                }
            }
        }
        self.finish(now, key);
    }
}
