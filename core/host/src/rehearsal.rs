//! A loaded plugin without an engine, for transcripts.

use std::sync::Arc;
use std::time::Duration;

use plugin_api::abi::Event;
use plugin_api::testkit::Subject;
use plugin_api::{Config, Level, SessionInfo};

use crate::configure::ConfigureError;
use crate::instance::{Broken, Instance, Unconfigured};
use crate::library::Library;
use crate::limits::Limits;
use crate::services::Services;
use crate::share::Share;
use crate::wasm::Ticker;

/// One instance of a loaded plugin, to which transcripts are played with
/// [`plugin_api::testkit::play`]. The limits hold; randomness is the same each time.
#[derive(Debug)]
pub struct Rehearsal {
    instance: Instance,
    share: Arc<Share>,
    _ticker: Option<Arc<Ticker>>,
}

impl Rehearsal {
    /// Makes an instance.
    ///
    /// # Errors
    /// When the plugin does not take the configuration.
    pub fn new(
        library: &Library,
        config: &Config,
        limits: &Limits,
    ) -> Result<Self, ConfigureError> {
        let (path, name) = (library.path(), &library.manifest().name);
        let refused = |reason| ConfigureError::refused(path, name, reason);
        let checked = library.manifest().check(config);
        checked.map_err(|error| refused(error.to_string()))?;
        let share = Share::new(limits);
        let services = Services::for_rehearsal(library.name(), Arc::clone(&share));
        let instance = library.configure(config, services, limits);
        let instance = instance.map_err(|error| match error {
            Unconfigured::Refused(reason) => refused(reason),
            Unconfigured::Broken(broken) => ConfigureError::failed(path, name, &broken.words),
        })?;
        Ok(Self {
            instance,
            share,
            _ticker: Ticker::of(library),
        })
    }

    /// Takes what the plugin has written to the log so far.
    pub fn take_log(&mut self) -> Vec<(Level, String)> {
        self.instance.services().take_log()
    }
}

impl Subject for Rehearsal {
    fn open(&mut self, now: Duration, info: &SessionInfo) -> Result<Vec<u8>, String> {
        let mut answer = Vec::new();
        let opened = self.instance.open(micros(now), info, &mut answer);
        opened.map(|()| answer).map_err(in_words)
    }

    fn event(&mut self, now: Duration, session: u64, event: Event<'_>) -> Result<Vec<u8>, String> {
        let mut answer = Vec::new();
        let told = self
            .instance
            .event(micros(now), session, event, &mut answer);
        told.map(|()| answer).map_err(in_words)
    }

    fn close(&mut self, session: u64) -> Result<(), String> {
        self.instance.close(session).map_err(in_words)
    }

    fn shared(&mut self, now: Duration, key: &[u8]) -> Option<Vec<u8>> {
        self.share.look(micros(now), key, <[u8]>::to_vec)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn in_words(broken: Broken) -> String {
    format!("{} ({:?})", broken.words, broken.failure)
}
