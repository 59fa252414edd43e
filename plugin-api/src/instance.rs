//! A plugin at work: what the native export, the WASM export and the testkit have in common.

use std::time::Duration;

use crate::abi::ActionBuffer;
use crate::context::Host;
use crate::{Config, Context, Plugin};

/// A configured plugin with the buffer for what it asks for.
pub(crate) struct Instance<P> {
    plugin: P,
    actions: ActionBuffer,
}

impl<P: Plugin> Instance<P> {
    /// Makes a plugin, after comparing the configuration with its manifest.
    pub(crate) fn configure(config: &Config) -> Result<Self, String> {
        P::manifest().check(config)?;
        Ok(Self {
            plugin: P::configure(config)?,
            actions: ActionBuffer::new(),
        })
    }

    /// Makes one call. The actions are in [`actions`](Self::actions) afterwards.
    pub(crate) fn call<R>(
        &mut self,
        now: Duration,
        host: &mut dyn Host,
        call: impl FnOnce(&mut P, &mut Context<'_>) -> R,
    ) -> R {
        self.actions.clear();
        call(
            &mut self.plugin,
            &mut Context::new(now, &mut self.actions, host),
        )
    }

    /// The plugin itself, for the one call that asks for nothing.
    pub(crate) fn plugin(&mut self) -> &mut P {
        &mut self.plugin
    }

    /// What the last call asked for.
    pub(crate) fn actions(&mut self) -> &mut ActionBuffer {
        &mut self.actions
    }
}
