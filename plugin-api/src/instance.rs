//! A plugin at work: what the native export, the WASM export and the testkit have in common.

use std::time::Duration;

use crate::abi::{ActionBuffer, Event};
use crate::context::Host;
use crate::{Config, Context, Direction, Plugin, Session};

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

    /// Tells a session what happens.
    pub(crate) fn event(
        &mut self,
        now: Duration,
        host: &mut dyn Host,
        session: &mut P::Session,
        event: Event<'_>,
    ) {
        self.call(now, host, |plugin, ctx| match event {
            Event::Data { direction, bytes } => match direction {
                Direction::Client => session.on_client(plugin, bytes, ctx),
                Direction::Origin => session.on_origin(plugin, bytes, ctx),
                Direction::Target => session.on_target(plugin, bytes, ctx),
            },
            Event::Gap { direction, missing } => session.on_gap(plugin, direction, missing, ctx),
            Event::End { direction } => match direction {
                Direction::Client => session.on_client_end(plugin, ctx),
                Direction::Origin => session.on_origin_end(plugin, ctx),
                Direction::Target => session.on_target_end(plugin, ctx),
            },
            Event::Timer => session.on_timer(plugin, ctx),
            Event::Shared { key, value } => session.on_shared(plugin, key, value, ctx),
        });
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
