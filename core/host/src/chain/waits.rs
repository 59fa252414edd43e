//! Who waits for a shared value is told when it is there, or when its time is over.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::abi::Event;

use super::run::{Run, Stop};
use super::{Session, Wait};
use crate::share::Mailbox;
use crate::worker::Worker;

impl Run<'_> {
    /// A link's plugin asks for a value.
    pub(super) fn wait(&mut self, at: usize, key: &[u8], timeout: Duration) {
        let timeout = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
        // A key that is too long for any value to be set is not there, and is not kept.
        let fits = key.len() <= self.limits.share_value_bytes;
        let is_known = fits && self.session.waits.len() < self.limits.waits;
        let until = match is_known {
            true => self.now.saturating_add(timeout),
            false => self.now,
        };
        if is_known {
            // Before it is looked for: whoever sets it meanwhile writes to us.
            let worker = &self.workers[self.session.links[at].worker];
            let share = &worker.member.share;
            share.wait(key, self.session.id, self.mailbox);
        }
        self.session.waits.push(Wait {
            link: at,
            key: key.into(),
            until,
            is_known,
        });
        self.has_new_waits = true;
    }

    /// Tells of values that are there, and of waits whose time is over. Values are looked for only
    /// when there may be new ones.
    pub(super) fn settle_waits(&mut self, is_woken: bool) -> Result<(), Stop> {
        let mut may_be_there = is_woken;
        while !self.session.waits.is_empty() {
            may_be_there |= std::mem::take(&mut self.has_new_waits);
            let found = if may_be_there {
                self.find_value()
            } else {
                None
            };
            let (at, value) = match found {
                Some((at, value)) => (at, Some(value)),
                None => {
                    may_be_there = false;
                    let mut waits = self.session.waits.iter();
                    match waits.position(|wait| wait.until <= self.now) {
                        Some(at) => (at, None),
                        None => return Ok(()),
                    }
                }
            };
            let wait = self.session.waits.remove(at);
            forget(&wait, self.session, self.workers, self.mailbox);
            let (key, value) = (&*wait.key, value.as_deref());
            self.call(wait.link, Event::Shared { key, value }, true)?;
        }
        Ok(())
    }

    /// The first wait whose value is there.
    fn find_value(&self) -> Option<(usize, Vec<u8>)> {
        let waits = self.session.waits.iter().enumerate();
        waits.into_iter().find_map(|(at, wait)| {
            let worker = &self.workers[self.session.links[wait.link].worker];
            let share = &worker.member.share;
            let value = share.look(self.now, &wait.key, <[u8]>::to_vec)?;
            Some((at, value))
        })
    }

    /// A link waits for nothing any more.
    pub(super) fn forget_waits(&mut self, at: usize) {
        let waits = std::mem::take(&mut self.session.waits);
        let (gone, kept) = waits.into_iter().partition(|wait| wait.link == at);
        self.session.waits = kept;
        let gone: Vec<Wait> = gone;
        for wait in &gone {
            forget(wait, self.session, self.workers, self.mailbox);
        }
    }
}

impl Session {
    /// The session is over: nobody waits any more.
    pub(crate) fn forget_all_waits(&mut self, workers: &[Worker], mailbox: &Arc<Mailbox>) {
        for wait in std::mem::take(&mut self.waits) {
            forget(&wait, self, workers, mailbox);
        }
    }
}

fn forget(wait: &Wait, session: &Session, workers: &[Worker], mailbox: &Arc<Mailbox>) {
    if wait.is_known {
        let worker = &workers[session.links[wait.link].worker];
        worker.member.share.forget(&wait.key, session.id, mailbox);
    }
}
