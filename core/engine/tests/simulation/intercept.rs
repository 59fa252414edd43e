//! A model of intercept behind its tunnel, as strict as the product's promise: a reply of the
//! target that belongs to no session would have gone to a real client, so it is a failure.

use std::collections::BTreeMap;

use tcpcopy_engine::SessionId;
use tcpcopy_packet::{Endpoint, FourTuple};

use crate::wire::Header;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// And whether the replies' payload is wanted.
    Registered(SessionId, bool),
    /// A session of the past: replies are swallowed.
    Tombstone,
}

/// The session table, by the mirror's tuple.
#[derive(Debug, Default)]
pub(crate) struct ModelIntercept {
    table: BTreeMap<FourTuple, Entry>,
    /// Replies to tombstones.
    pub(crate) swallowed: u64,
}

impl ModelIntercept {
    pub(crate) fn register(&mut self, session: SessionId, tuple: FourTuple, payload: bool) {
        self.table
            .insert(tuple, Entry::Registered(session, payload));
    }

    pub(crate) fn unregister(&mut self, session: SessionId) {
        let entry = self
            .table
            .values_mut()
            .find(|entry| matches!(entry, Entry::Registered(known, _) if *known == session));
        if let Some(entry) = entry {
            *entry = Entry::Tombstone;
        }
    }

    /// The instance's tunnel died: all its sessions become tombstones. Returns the mirrors.
    pub(crate) fn bury_all(&mut self) -> Vec<Endpoint> {
        let live = self
            .table
            .iter_mut()
            .filter(|(_, entry)| **entry != Entry::Tombstone);
        live.map(|(tuple, entry)| {
            *entry = Entry::Tombstone;
            tuple.source
        })
        .collect()
    }

    /// Whose reply this is, and whether its payload is wanted; `None` when it ends here.
    ///
    /// # Panics
    ///
    /// Panics if the tuple was never registered.
    pub(crate) fn reply(&mut self, header: &Header) -> Option<(SessionId, bool)> {
        match self.table.get(&header.tuple.reversed()) {
            Some(Entry::Registered(session, payload)) => Some((*session, *payload)),
            Some(Entry::Tombstone) => {
                self.swallowed += 1;
                None
            }
            None => panic!("a reply of no session, it would reach a real client: {header}"),
        }
    }
}
