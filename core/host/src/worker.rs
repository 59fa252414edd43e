//! One plugin at work in one shard: its instance, and what happens when that breaks.

use std::mem;
use std::sync::Arc;
use std::time::Instant as Clock;

use plugin_api::SessionInfo;
use plugin_api::abi::Event;
use tcpcopy_engine::plugin::{Failure, Needs};

use crate::figures::Tally;
use crate::host::Member;
use crate::instance::{Broken, Instance};
use crate::share::Mailbox;

/// One call of so many is timed.
const TIMED: u64 = 16;

/// Which of a worker's instances, one after the other, a session belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u32);

/// One plugin at work in one shard.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) member: Arc<Member>,
    mailbox: Arc<Mailbox>,
    /// None until the next session opens, after a failure.
    instance: Option<Instance>,
    generation: Generation,
    sessions: usize,
    /// How the instance before this one ended.
    last_failure: Failure,
    /// Sessions of an instance that has failed do not know yet.
    has_news: bool,
    tally: Arc<Tally>,
    /// What the last call answered; whoever makes a call takes the buffer and puts it back.
    pub(crate) answer: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(member: &Arc<Member>, mailbox: &Arc<Mailbox>) -> Self {
        let mut worker = Self {
            member: Arc::clone(member),
            mailbox: Arc::clone(mailbox),
            instance: None,
            generation: Generation::default(),
            sessions: 0,
            last_failure: Failure::SwitchedOff,
            has_news: false,
            tally: member.tally(),
            answer: Vec::new(),
        };
        // Should it fail, the first session tries again.
        match member.instance(mailbox) {
            Ok(instance) => worker.instance = Some(instance),
            Err(broken) => {
                worker.fail(0, &broken);
            }
        }
        worker
    }

    pub(crate) fn needs(&self) -> Needs {
        self.member.needs()
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Opens a session. The plugin's answer replaces what is in `answer`.
    pub(crate) fn open(
        &mut self,
        now: u64,
        info: &SessionInfo,
        answer: &mut Vec<u8>,
    ) -> Result<Generation, Failure> {
        if self.member.is_off() {
            return Err(self.refuse(Failure::SwitchedOff));
        }
        if self.sessions >= self.member.limits().sessions {
            return Err(self.refuse(Failure::SessionLimit));
        }
        if self.instance.is_none() {
            match self.member.instance(&self.mailbox) {
                Ok(instance) => self.instance = Some(instance),
                Err(broken) => return Err(self.fail(now, &broken)),
            }
        }
        self.tally.counts().sessions += 1;
        self.sessions += 1;
        self.call(now, |instance| instance.open(now, info, answer))?;
        Ok(self.generation)
    }

    /// Tells a session what happens. The plugin's answer replaces what is in `answer`.
    pub(crate) fn event(
        &mut self,
        now: u64,
        session: u64,
        event: Event<'_>,
        answer: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.call(now, |instance| instance.event(now, session, event, answer))
    }

    /// Closes a session of this generation.
    pub(crate) fn close(&mut self, now: u64, session: u64, generation: Generation) {
        if generation != self.generation {
            return;
        }
        self.sessions -= 1;
        // What became of it is noted, and the session is over anyway.
        let _ = self.call(now, |instance| instance.close(session));
    }

    /// Why a session of this generation can't go on, if it can't.
    pub(crate) fn verdict(&self, generation: Generation) -> Option<Failure> {
        if self.member.is_off() {
            return Some(Failure::SwitchedOff);
        }
        (generation != self.generation).then_some(self.last_failure)
    }

    /// The instance has failed: its sessions are over, and the next one gets a new instance.
    pub(crate) fn fail(&mut self, now: u64, broken: &Broken) -> Failure {
        let sessions = mem::take(&mut self.sessions);
        self.note_log();
        self.instance = None;
        self.generation.0 = self.generation.0.wrapping_add(1);
        self.last_failure = broken.failure;
        self.has_news = true;
        self.tally.counts().fail(broken.failure);
        self.member.note_failure(now, broken, sessions);
        broken.failure
    }

    /// Whether sessions of an instance that has failed are still to be told; asked once.
    pub(crate) fn take_news(&mut self) -> bool {
        mem::take(&mut self.has_news)
    }

    fn refuse(&self, failure: Failure) -> Failure {
        self.tally.counts().fail(failure);
        failure
    }

    fn call(
        &mut self,
        now: u64,
        call: impl FnOnce(&mut Instance) -> Result<(), Broken>,
    ) -> Result<(), Failure> {
        let Some(instance) = &mut self.instance else {
            return Err(self.last_failure);
        };
        let is_timed = self.tally.call().is_multiple_of(TIMED);
        let began = is_timed.then(Clock::now);
        let called = call(instance);
        if let Some(began) = began {
            self.note_time(began);
        }
        called.map_err(|broken| self.fail(now, &broken))
    }

    fn note_time(&mut self, began: Clock) {
        let took = began.elapsed();
        let is_slow = took > self.member.limits().call_time;
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut counts = self.tally.counts();
        let scaled = std::time::Duration::from_micros(nanos);
        counts.call_time.record(scaled);
        counts.slow_calls += u64::from(is_slow);
        drop(counts);
        self.note_log();
    }

    fn note_log(&mut self) {
        if let Some(instance) = &mut self.instance {
            let dropped = instance.services().take_dropped_lines();
            self.tally.counts().log_lines_dropped += dropped;
        }
    }
}
