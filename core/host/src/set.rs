//! The plugins as one engine is given them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tcpcopy_engine::plugin::{Actions, Direction, Event, Failure, Needs, Plugins, SessionInfo};
use tcpcopy_engine::{Instant, SessionId};
use tcpcopy_packet::Endpoint;

use crate::chain::{Ended, Run, Session, Stop};
use crate::host::{Member, union};
use crate::limits::Limits;
use crate::share::Mailbox;
use crate::wasm::Ticker;
use crate::worker::Worker;

/// The plugins of one engine: an instance of each, and the sessions.
#[derive(Debug)]
pub struct PluginSet {
    stage: Stage,
    sessions: HashMap<SessionId, Session, RandomState>,
    /// Sessions of an instance that has failed, which are to hear of it.
    doomed: VecDeque<SessionId>,
}

/// What the sessions have in common.
#[derive(Debug)]
struct Stage {
    workers: Vec<Worker>,
    limits: Arc<Limits>,
    mailbox: Arc<Mailbox>,
    /// Ends of exchanges that the engine has been asked for with the last event.
    ended: VecDeque<Ended>,
    /// The time of the last call.
    now: u64,
    _ticker: Option<Arc<Ticker>>,
}

impl PluginSet {
    pub(crate) fn new(
        members: &[Arc<Member>],
        limits: &Arc<Limits>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        let workers = members.iter().map(|it| Worker::new(it, &mailbox));
        Self {
            stage: Stage {
                workers: workers.collect(),
                limits: Arc::clone(limits),
                mailbox,
                ended: VecDeque::new(),
                now: 0,
                _ticker: members.iter().find_map(|it| Ticker::of(it.library())),
            },
            sessions: HashMap::default(),
            doomed: VecDeque::new(),
        }
    }

    /// Sees to it that all sessions of an instance that has failed hear of it.
    fn spread_news(&mut self) {
        let mut has_failed = false;
        for worker in &mut self.stage.workers {
            has_failed |= worker.take_news();
        }
        if has_failed {
            let sessions = self.sessions.iter();
            let doomed = sessions.filter(|(_, it)| self.stage.verdict(it).is_some());
            let mut doomed: Vec<_> = doomed.map(|(id, _)| *id).collect();
            doomed.sort_unstable_by_key(|id| id.as_u64());
            self.doomed.extend(doomed);
        }
    }
}

impl Stage {
    /// Which workers are for the connections of an origin's port, in the chain's order, and whether
    /// the marks of each may count.
    fn route(&self, origin_port: u16) -> impl Iterator<Item = (usize, bool)> {
        let all = self.workers.iter().enumerate();
        let route = all.filter(move |(_, worker)| worker.member.is_for(origin_port));
        let is_told = route.clone().any(|(_, worker)| worker.needs().target);
        route.map(move |(at, worker)| (at, worker.needs().target || !is_told))
    }

    /// Lets a session's chain do something.
    fn run(
        &mut self,
        session: &mut Session,
        in_order: bool,
        actions: &mut Actions,
        act: impl FnOnce(&mut Run<'_>) -> Result<(), Stop>,
    ) -> Result<(), Failure> {
        self.ended.clear();
        let stopped = act(&mut Run {
            now: self.now,
            session,
            workers: &mut self.workers,
            limits: &self.limits,
            mailbox: &self.mailbox,
            actions,
            ended: &mut self.ended,
            in_order,
            calls: 0,
            has_new_waits: false,
        });
        match stopped {
            Ok(()) | Err(Stop::Refused) => Ok(()),
            Err(Stop::Failed(failure)) => Err(failure),
        }
    }

    /// Ends a session on the plugins' side.
    fn end(&mut self, mut session: Session) {
        session.forget_all_waits(&self.workers, &self.mailbox);
        session.count_left_out(&self.workers);
        for (worker, generation) in session.open_links() {
            let id = session.id().as_u64();
            self.workers[worker].close(self.now, id, generation);
        }
    }

    /// Why a session can't go on, if it can't.
    fn verdict(&self, session: &Session) -> Option<Failure> {
        let mut links = session.active_links();
        links.find_map(|(worker, generation)| self.workers[worker].verdict(generation))
    }
}

impl Plugins for PluginSet {
    fn needs(&self, origin_port: u16) -> Option<Needs> {
        let route = self.stage.route(origin_port);
        let needs = route.map(|(at, _)| self.stage.workers[at].needs());
        needs.reduce(union)
    }

    fn open(
        &mut self,
        now: Instant,
        session: SessionId,
        info: &SessionInfo,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        self.stage.now = now.as_micros();
        let mut opened = Session::new(session, self.stage.route(info.origin.port));
        let info = plugin_api::SessionInfo {
            id: session.as_u64(),
            client: address(info.client),
            origin: address(info.origin),
            target: address(info.target),
            copy: info.copy,
            start_seen: info.start_seen,
        };
        let stage = &mut self.stage;
        let result = stage.run(&mut opened, true, actions, |run| run.open(&info));
        match result {
            Ok(()) => {
                self.sessions.insert(session, opened);
            }
            Err(_) => stage.end(opened),
        }
        self.spread_news();
        result
    }

    fn event(
        &mut self,
        now: Instant,
        session: SessionId,
        event: Event<'_>,
        actions: &mut Actions,
    ) -> Result<(), Failure> {
        self.stage.now = now.as_micros();
        let Some(session) = self.sessions.get_mut(&session) else {
            return Ok(());
        };
        let is_of_client = matches!(
            event,
            Event::Client(_)
                | Event::ClientEnd
                | Event::Gap {
                    direction: Direction::Client,
                    ..
                }
        );
        let stage = &mut self.stage;
        let result = match stage.verdict(session) {
            Some(failure) => Err(failure),
            None => stage.run(session, is_of_client, actions, |run| run.event(event)),
        };
        self.spread_news();
        result
    }

    fn close(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.remove(&session) {
            self.stage.end(session);
            self.spread_news();
        }
    }

    fn woken(&mut self) -> Option<SessionId> {
        let doomed = self.doomed.pop_front();
        doomed.or_else(|| self.stage.mailbox.next())
    }

    fn exchange_ended(&mut self, _session: SessionId, took: Option<Duration>) {
        if let Some(ended) = self.stage.ended.pop_front()
            && let (Some(label), Some(took)) = (ended.label, took)
        {
            let mut counts = self.stage.workers[ended.worker].tally().counts();
            counts.labels.took(label, took);
        }
    }
}

fn address(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address, endpoint.port)
}

#[cfg(test)]
mod puppet;
#[cfg(test)]
mod tests;
