//! Plugins as models: what they do to a stream is so simple that a test can say what must come of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tcpcopy_engine::plugin::{Actions, Event, Failure, Needs, Plugins, SessionInfo};
use tcpcopy_engine::{Instant, SessionId};

use super::session::ModelSession;
use crate::rng::Rng;

/// What a model plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Marks requests, and sends what comes as it comes.
    Relays,
    /// The same without marks.
    RelaysUnmarked,
    /// Sends every message twice.
    Doubles,
    /// Leaves out every third request.
    DropsThird,
    /// Talks to the target first, and lets the client's messages go when it is welcome.
    LogsIn,
    /// Sends a message of its own where the answer is a challenge, before the request counts as
    /// answered.
    Answers,
    /// Sends nothing before the target has greeted.
    AwaitsGreeting,
    /// Keeps each request for a while.
    Delays,
    /// Looks at what the origin says.
    Compares,
    /// Does nothing any more after so many messages.
    PassesThrough(u64),
    /// Fails in so many calls of a thousand.
    Fails(u32),
    /// Refuses in so many calls of a thousand.
    Refuses(u32),
}

/// A model plugin in a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PluginModel {
    pub(crate) behaviour: Behaviour,
    /// The target speaks first.
    pub(crate) is_greeted: bool,
    /// A session whose beginning was not seen begins at a message nevertheless.
    pub(crate) trusts_beginnings: bool,
}

/// What the plugin has seen of a session, in the end.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) info: SessionInfo,
    pub(crate) client_bytes: u64,
    pub(crate) origin_bytes: u64,
    pub(crate) target_bytes: u64,
    /// Answers that were still to come.
    pub(crate) missing_answers: usize,
}

/// All that a plugin has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed(Arc<Mutex<Vec<Sighting>>>);

impl Observed {
    pub(crate) fn take(&self) -> Vec<Sighting> {
        std::mem::take(&mut self.0.lock().expect("nobody panics holding it"))
    }

    fn push(&self, sighting: Sighting) {
        (self.0.lock().expect("nobody panics holding it")).push(sighting);
    }
}

/// The sessions of a model plugin. It panics at a call that the engine should not make.
#[derive(Debug)]
pub(crate) struct ModelPlugins {
    model: PluginModel,
    sessions: BTreeMap<u64, ModelSession>,
    past: Vec<SessionId>,
    wakes: Vec<SessionId>,
    observed: Observed,
    rng: Rng,
    now: Instant,
}

impl ModelPlugins {
    pub(crate) fn new(model: PluginModel, seed: u64, observed: Observed) -> Self {
        Self {
            model,
            sessions: BTreeMap::new(),
            past: Vec::new(),
            wakes: Vec::new(),
            observed,
            rng: Rng::new(seed ^ 0x9106),
            now: Instant::ZERO,
        }
    }

    fn meet_fate(&mut self, actions: &mut Actions) -> Result<(), Failure> {
        match self.model.behaviour {
            Behaviour::Fails(permille) if self.rng.permille(permille) => Err(self.rng.pick(&[
                Failure::Trapped,
                Failure::TimedOut,
                Failure::OutOfMemory,
                Failure::OutputLimit,
                Failure::SwitchedOff,
            ])),
            Behaviour::Refuses(permille) if self.rng.permille(permille) => {
                actions.refuse();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Now and then a session is woken, of late also one that is over.
    fn wake_some(&mut self, session: SessionId) {
        if self.rng.permille(10) {
            let old = self.past.last().copied().unwrap_or(session);
            let woken = self.rng.pick(&[session, old]);
            self.wakes.push(woken);
        }
    }
}

impl Plugins for ModelPlugins {
    fn needs(&self, _origin_port: u16) -> Option<Needs> {
        Some(Needs {
            origin: self.model.behaviour == Behaviour::Compares,
            target: true,
        })
    }

    fn open(
        &mut self,
        now: Instant,
        session: SessionId,
        info: &SessionInfo,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        assert!(now >= self.now, "time goes back");
        self.now = now;
        self.meet_fate(actions)?;
        let opened = ModelSession::open(self.model, *info, actions);
        let before = self.sessions.insert(session.as_u64(), opened);
        assert!(before.is_none(), "{session:?} is opened twice");
        Ok(())
    }

    fn event(
        &mut self,
        now: Instant,
        session: SessionId,
        event: Event<'_>,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        assert!(now >= self.now, "time goes back");
        self.now = now;
        let known = self.sessions.get_mut(&session.as_u64());
        let known = known.unwrap_or_else(|| panic!("{session:?} is not open: {event:?}"));
        known.event(event, &mut self.rng, actions);
        self.wake_some(session);
        self.meet_fate(actions)
    }

    fn close(&mut self, session: SessionId) {
        let closed = self.sessions.remove(&session.as_u64());
        let closed = closed.unwrap_or_else(|| panic!("{session:?} is closed and was not open"));
        self.observed.push(closed.sighting());
        self.past.push(session);
    }

    fn woken(&mut self) -> Option<SessionId> {
        self.wakes.pop()
    }
}

impl Drop for ModelPlugins {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.sessions.is_empty(), "sessions are left open");
        }
    }
}
