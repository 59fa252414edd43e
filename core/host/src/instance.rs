//! A configured plugin at work, of either form.

use plugin_api::SessionInfo;
use plugin_api::abi::Event;
use tcpcopy_engine::plugin::Failure;

use crate::services::Services;
use crate::{native, wasm};

/// A plugin that has done something that it can't go on after. Its instance can only be dropped.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) failure: Failure,
    /// What happened, for the log.
    pub(crate) words: String,
}

impl Broken {
    pub(crate) fn new(failure: Failure, words: impl Into<String>) -> Self {
        let words = words.into();
        Self { failure, words }
    }

    pub(crate) fn over_output(limit: usize) -> Self {
        let words = format!("it answered one call with more than {limit} bytes");
        Self::new(Failure::OutputLimit, words)
    }
}

/// Why there is no instance.
#[derive(Debug)]
pub(crate) enum Unconfigured {
    /// The plugin does not take the configuration, and says why.
    Refused(String),
    /// It broke over it.
    Broken(Broken),
}

/// A configured plugin at work. One thread uses it at a time.
#[derive(Debug)]
pub(crate) enum Instance {
    Native(native::Instance),
    Wasm(Box<wasm::Instance>),
}

impl Instance {
    /// Opens a session. The plugin's answer replaces what is in `answer`.
    pub(crate) fn open(
        &mut self,
        now: u64,
        info: &SessionInfo,
        answer: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        match self {
            Self::Native(native) => native.open(now, info, answer),
            Self::Wasm(wasm) => wasm.open(now, info, answer),
        }
    }

    /// Tells an open session what happens. The plugin's answer replaces what is in `answer`.
    pub(crate) fn event(
        &mut self,
        now: u64,
        session: u64,
        event: Event<'_>,
        answer: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        match self {
            Self::Native(native) => native.event(now, session, event, answer),
            Self::Wasm(wasm) => wasm.event(now, session, event, answer),
        }
    }

    /// Closes an open session.
    pub(crate) fn close(&mut self, session: u64) -> Result<(), Broken> {
        match self {
            Self::Native(native) => native.close(session),
            Self::Wasm(wasm) => wasm.close(session),
        }
    }

    /// What the plugin may ask for.
    pub(crate) fn services(&mut self) -> &mut Services {
        match self {
            Self::Native(native) => native.services(),
            Self::Wasm(wasm) => wasm.services(),
        }
    }
}
