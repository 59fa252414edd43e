//! Loaded plugins with sessions, as an engine would have them.

use std::sync::Arc;

use plugin_api::Config;
use tcpcopy_engine::plugin::{Action, Actions, Event, Failure, Plugins, SessionInfo};
use tcpcopy_engine::{Instant, SessionId};
use tcpcopy_host::{Host, Limits, PluginFigures, PluginSet, Step};
use tcpcopy_packet::Endpoint;

use crate::common::load;

/// Both forms of a plugin, as the endings of their files.
pub(crate) const FORMS: [&str; 2] = ["so", "wasm"];

/// `misbehaving`, told to do this when that happens, in every second session.
pub(crate) fn told(fault: &str, callback: &str) -> Config {
    let config = Config::new().with("fault", fault);
    config.with("callback", callback).with("every", 2)
}

/// One plugin in one shard.
pub(crate) struct Bed {
    host: Host,
    set: PluginSet,
    now: u64,
}

impl Bed {
    pub(crate) fn new(file: &str, config: Config, limits: Limits) -> Self {
        let step = Step {
            library: load(file),
            port: None,
            config,
        };
        let host = Host::new(vec![step], limits).unwrap_or_else(|error| panic!("{error}"));
        let set = host.plugins(Arc::new(|| {}));
        Self { host, set, now: 0 }
    }

    pub(crate) fn figures(&self) -> PluginFigures {
        self.host.figures().remove(0)
    }

    pub(crate) fn after_ms(&mut self, ms: u64) {
        self.now += ms * 1000;
    }

    /// Opens a session; the client's port is its number.
    pub(crate) fn open(&mut self, session: u64) -> Result<String, Failure> {
        let endpoint = |last, port| Endpoint::new([192, 0, 2, last].into(), port);
        let info = SessionInfo {
            client: endpoint(1, session as u16),
            origin: endpoint(2, 80),
            target: endpoint(3, 8080),
            copy: 0,
            start_seen: true,
        };
        let mut actions = Actions::default();
        let (now, id) = (Instant::from_micros(self.now), SessionId::from_u64(session));
        self.set.open(now, id, &info, &mut actions)?;
        Ok(sent(&actions))
    }

    /// Tells a session something; the answer is what it sends.
    pub(crate) fn tell(&mut self, session: u64, event: Event<'_>) -> Result<String, Failure> {
        let mut actions = Actions::default();
        let (now, id) = (Instant::from_micros(self.now), SessionId::from_u64(session));
        self.set.event(now, id, event, &mut actions)?;
        Ok(sent(&actions))
    }

    pub(crate) fn say(&mut self, session: u64, text: &str) -> Result<String, Failure> {
        self.tell(session, Event::Client(text.as_bytes()))
    }

    pub(crate) fn close(&mut self, session: u64) {
        self.set.close(SessionId::from_u64(session));
    }

    /// All sessions that are to be woken, with what becomes of them then.
    pub(crate) fn wake(&mut self) -> Vec<(u64, Result<String, Failure>)> {
        let mut woken = Vec::new();
        while let Some(session) = self.set.woken() {
            let session = session.as_u64();
            woken.push((session, self.tell(session, Event::Woken)));
        }
        woken
    }
}

fn sent(actions: &Actions) -> String {
    let mut bytes = Vec::new();
    for action in actions.iter() {
        if let Action::Send(piece) = action {
            bytes.extend_from_slice(piece);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
