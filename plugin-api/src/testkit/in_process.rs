//! A plugin in the test's own process.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::Subject;
use crate::abi::Event;
use crate::context::Host;
use crate::instance::Instance;
use crate::{Config, Level, Plugin, Session, SessionInfo};

/// A plugin, its sessions and what a host does for them.
pub(super) struct InProcess<P: Plugin> {
    instance: Instance<P>,
    sessions: HashMap<u64, P::Session>,
    host: TestHost,
}

impl<P: Plugin> InProcess<P> {
    pub(super) fn configure(config: &Config) -> Result<Self, String> {
        Ok(Self {
            instance: Instance::configure(config)?,
            sessions: HashMap::new(),
            host: TestHost::default(),
        })
    }

    pub(super) fn into_log(self) -> Vec<(Level, String)> {
        self.host.log
    }
}

impl<P: Plugin> Subject for InProcess<P> {
    fn open(&mut self, now: Duration, info: &SessionInfo) -> Result<Vec<u8>, String> {
        self.host.now = now;
        let open = |plugin: &mut P, ctx: &mut crate::Context<'_>| plugin.open(info, ctx);
        let session = self.instance.call(now, &mut self.host, open);
        self.sessions.insert(info.id, session);
        Ok(self.instance.actions().take())
    }

    fn event(&mut self, now: Duration, id: u64, event: Event<'_>) -> Result<Vec<u8>, String> {
        self.host.now = now;
        let session = self.sessions.get_mut(&id).ok_or("no such session")?;
        self.instance.event(now, &mut self.host, session, event);
        Ok(self.instance.actions().take())
    }

    fn close(&mut self, id: u64) -> Result<(), String> {
        let mut session = self.sessions.remove(&id).ok_or("no such session")?;
        session.on_close(self.instance.plugin());
        Ok(())
    }

    fn shared(&mut self, now: Duration, key: &[u8]) -> Option<Vec<u8>> {
        self.host.now = now;
        self.host.share_get(key)
    }
}

/// A host with a clock of its own, the same randomness in each run, and a map.
#[derive(Default)]
struct TestHost {
    now: Duration,
    drawn: u64,
    shared: BTreeMap<Vec<u8>, (Vec<u8>, Duration)>,
    log: Vec<(Level, String)>,
}

impl Host for TestHost {
    /// SplitMix64 from 0.
    fn random(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.drawn ^ (self.drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn log(&mut self, level: Level, message: &str) {
        self.log.push((level, message.to_owned()));
    }

    fn share_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let (value, until) = self.shared.get(key)?;
        (self.now < *until).then(|| value.clone())
    }

    fn share_take(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.share_get(key);
        self.shared.remove(key);
        value
    }

    fn share_set(&mut self, key: &[u8], value: &[u8], expiry: Duration) -> bool {
        let until = self.now.saturating_add(expiry);
        self.shared.insert(key.to_vec(), (value.to_vec(), until));
        true
    }
}
