//! The plugins of an engine, with what calling them takes.

use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{Actions, Event, Failure, Needs, Plugins, SessionInfo};
use crate::output::SessionId;
use crate::time::Instant;

#[derive(Debug)]
pub(crate) struct Installed {
    plugins: Box<dyn Plugins>,
    needs: HashMap<u16, Needs, FixedState>,
    actions: Actions,
}

impl Installed {
    /// Asks what is needed for each of the origins' ports.
    pub(crate) fn new(
        plugins: Box<dyn Plugins>,
        ports: impl Iterator<Item = u16>,
        seed: u64,
    ) -> Self {
        let mut needs = HashMap::with_hasher(FixedState::with_seed(seed));
        needs.extend(ports.filter_map(|port| Some((port, plugins.needs(port)?))));
        Self {
            plugins,
            needs,
            actions: Actions::default(),
        }
    }

    /// What the plugin of connections to this origin port needs, if there is one.
    pub(crate) fn needs(&self, origin_port: u16) -> Option<Needs> {
        self.needs.get(&origin_port).copied()
    }

    /// Begins a session; [`actions`](Self::actions) has what is to be done.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        session: SessionId,
        info: &SessionInfo,
    ) -> Result<(), Failure> {
        self.actions.clear();
        self.plugins.open(now, session, info, &mut self.actions)
    }

    /// Tells a session's plugin what happened; [`actions`](Self::actions) has what is to be done.
    pub(crate) fn event(
        &mut self,
        now: Instant,
        session: SessionId,
        event: Event<'_>,
    ) -> Result<(), Failure> {
        self.actions.clear();
        self.plugins.event(now, session, event, &mut self.actions)
    }

    /// What the last call wants done.
    pub(crate) fn actions(&self) -> &Actions {
        &self.actions
    }

    pub(crate) fn close(&mut self, session: SessionId) {
        self.plugins.close(session);
    }

    /// What became of the ends of exchanges that the last call asked for.
    pub(crate) fn exchange_ended(&mut self, session: SessionId, took: Option<Duration>) {
        self.plugins.exchange_ended(session, took);
    }

    /// The next session that is to be woken.
    pub(crate) fn woken(&mut self) -> Option<SessionId> {
        self.plugins.woken()
    }
}
