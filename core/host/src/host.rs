//! The plugins of one target: what all its shards have in common.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use plugin_api::Config;
use tcpcopy_engine::plugin::Needs;

use crate::configure::ConfigureError;
use crate::figures::{CallTimeFigures, Counts, PluginFigures, State, Tally};
use crate::instance::{Broken, Instance, Unconfigured};
use crate::library::Library;
use crate::limits::Limits;
use crate::services::Services;
use crate::set::PluginSet;
use crate::share::{Mailbox, Share};

/// One plugin of a chain.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is loaded.
    pub library: Library,
    /// The origin port whose connections it is for; `None`: all.
    pub port: Option<u16>,
    /// Its configuration, with secrets resolved.
    pub config: Config,
}

/// The plugins of one target, in the order in which what the client says goes through them. The
/// values that sessions share and the counters are in here: all shards of the target have them in
/// common, no two targets have. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Host {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    members: Vec<Arc<Member>>,
    limits: Arc<Limits>,
}

impl Host {
    /// Puts plugins to work. One instance of each is made at once, so that a configuration that
    /// will not do shows before the first packet. Plugins of one name, given for several ports, say,
    /// share one map of values.
    ///
    /// # Errors
    /// Names the first plugin that does not take its configuration, and what is wrong with it.
    pub fn new(steps: Vec<Step>, limits: Limits) -> Result<Self, ConfigureError> {
        let mut members: Vec<Arc<Member>> = Vec::new();
        for step in steps {
            let name = &step.library.manifest().name;
            let same = members.iter().find(|member| member.name() == name);
            let share = match same {
                Some(member) => Arc::clone(&member.share),
                None => Share::new(&limits),
            };
            members.push(Arc::new(Member::new(step, share, &limits)?));
        }
        let limits = Arc::new(limits);
        Ok(Self {
            inner: Arc::new(Inner { members, limits }),
        })
    }

    /// What the plugins for this origin port need together; `None` where there is none.
    #[must_use]
    pub fn needs(&self, origin_port: u16) -> Option<Needs> {
        let members = self.inner.members.iter();
        let members = members.filter(|member| member.is_for(origin_port));
        members.map(|member| member.needs()).reduce(union)
    }

    /// The plugins as one engine is given them. `wake` is called, from any thread, when another
    /// engine's session has set a value that a session of this one waits for: then
    /// [`Engine::timeout`](tcpcopy_engine::Engine::timeout) is due.
    #[must_use]
    pub fn plugins(&self, wake: Arc<dyn Fn() + Send + Sync>) -> PluginSet {
        let members = &self.inner.members;
        PluginSet::new(members, &self.inner.limits, Mailbox::new(wake))
    }

    /// What the plugins have done, in the chain's order.
    #[must_use]
    pub fn figures(&self) -> Vec<PluginFigures> {
        let members = self.inner.members.iter();
        members.map(|member| member.figures()).collect()
    }
}

pub(crate) fn union(one: Needs, other: Needs) -> Needs {
    Needs {
        origin: one.origin || other.origin,
        target: one.target || other.target,
    }
}

/// One plugin of the chain, as all shards know it.
#[derive(Debug)]
pub(crate) struct Member {
    step: Step,
    needs: Needs,
    limits: Limits,
    pub(crate) share: Arc<Share>,
    health: Mutex<Health>,
    is_off: AtomicBool,
    tallies: Mutex<Vec<Arc<Tally>>>,
    /// The instance with which the configuration was tried.
    spare: Mutex<Option<Instance>>,
}

/// How a plugin has been doing.
#[derive(Debug, Default)]
struct Health {
    /// Failures in a row.
    row: u32,
    failed_at: u64,
    /// Why it was switched off.
    reason: Option<String>,
}

impl Member {
    fn new(step: Step, share: Arc<Share>, limits: &Limits) -> Result<Self, ConfigureError> {
        let (library, manifest) = (&step.library, step.library.manifest());
        let refused = |reason| ConfigureError::refused(library.path(), &manifest.name, reason);
        let checked = manifest.check(&step.config);
        checked.map_err(|error| refused(error.to_string()))?;
        let services = Services::new(library.name(), Arc::clone(&share), None);
        let instance = library.configure(&step.config, services, limits);
        let instance = instance.map_err(|error| match error {
            Unconfigured::Refused(reason) => refused(reason),
            Unconfigured::Broken(broken) => {
                ConfigureError::failed(library.path(), &manifest.name, &broken.words)
            }
        })?;
        let needs = manifest.needs_for(&step.config);
        Ok(Self {
            needs: Needs {
                origin: needs.origin,
                target: needs.target,
            },
            step,
            limits: limits.clone(),
            share,
            health: Mutex::default(),
            is_off: AtomicBool::new(false),
            tallies: Mutex::default(),
            spare: Mutex::new(Some(instance)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.step.library.manifest().name
    }

    pub(crate) fn library(&self) -> &Library {
        &self.step.library
    }

    pub(crate) fn is_for(&self, origin_port: u16) -> bool {
        self.step.port.is_none_or(|port| port == origin_port)
    }

    /// Which streams it wants with its configuration.
    pub(crate) fn needs(&self) -> Needs {
        self.needs
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A tally for another shard.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.push(Arc::clone(&tally));
        tally
    }

    /// An instance for a shard.
    pub(crate) fn instance(&self, mailbox: &Arc<Mailbox>) -> Result<Instance, Broken> {
        let spare = self.spare.lock();
        let spare = spare.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut instance) = spare {
            instance.services().set_mailbox(Arc::clone(mailbox));
            return Ok(instance);
        }
        let Step {
            library, config, ..
        } = &self.step;
        let mailbox = Some(Arc::clone(mailbox));
        let services = Services::new(library.name(), Arc::clone(&self.share), mailbox);
        let instance = library.configure(config, services, &self.limits);
        instance.map_err(|error| match error {
            Unconfigured::Broken(broken) => broken,
            Unconfigured::Refused(reason) => Broken::new(
                tcpcopy_engine::plugin::Failure::Trapped,
                format!("it took its configuration once and now does not: {reason}"),
            ),
        })
    }

    /// Whether the plugin is not called any more.
    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// An instance has failed: says so in the log, and switches the plugin off when it is time.
    pub(crate) fn note_failure(&self, now: u64, broken: &Broken, sessions: usize) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let is_row = now.saturating_sub(health.failed_at) <= Limits::RECOVERY.as_micros() as u64;
        health.row = if is_row { health.row + 1 } else { 1 };
        health.failed_at = now;
        let (plugin, words) = (self.name(), &broken.words);
        if health.reason.is_some() {
            return;
        }
        tracing::warn!(
            plugin,
            sessions,
            "the plugin failed, and {sessions} sessions of its instance end: {words}"
        );
        if health.row >= self.limits.failures {
            health.reason = Some(words.clone());
            self.is_off.store(true, Ordering::Relaxed);
            tracing::error!(
                plugin,
                "the plugin is switched off after {} failures in a row, the last one: {words}; \
                 connections that it is for are not replayed from here on",
                health.row
            );
        }
    }

    fn figures(&self) -> PluginFigures {
        let (mut all, mut calls) = (Counts::default(), 0);
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        for tally in tallies.iter() {
            calls += tally.calls();
            all.merge(&tally.counts());
        }
        drop(tallies);
        let (library, shared) = (&self.step.library, self.share.state());
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        PluginFigures {
            name: self.name().to_owned(),
            version: library.manifest().version.clone(),
            form: library.form(),
            file: library.path().to_owned(),
            port: self.step.port,
            state: match &health.reason {
                None => State::Running,
                Some(reason) => State::SwitchedOff {
                    reason: reason.clone(),
                },
            },
            sessions: all.sessions,
            passed_through: all.passed_through,
            calls,
            call_time: CallTimeFigures::new(&all.call_time),
            slow_calls: all.slow_calls,
            failures: all.failures,
            refusals: all.refusals.to_map(),
            counters: all.counters.to_map(),
            labels: all.labels.to_figures(),
            shared_values: shared.entries,
            shared_bytes: shared.bytes,
            shared_evicted: shared.evicted,
            log_lines_dropped: all.log_lines_dropped,
        }
    }
}
