//! One connection: lines, and the fault at its callback.

use std::time::Duration;

use plugin_api::{Context, Direction, Outcome, Session};

use crate::{Callback, Misbehaving};

/// Under this key the shared map remembers that `once` is over, for as long as a test may take.
const DONE: (&[u8], Duration) = (b"done", Duration::from_secs(3600));

/// One connection.
#[derive(Debug)]
pub struct Connection {
    misbehaves: bool,
}

impl Session<Misbehaving> for Connection {
    fn on_client(&mut self, plugin: &mut Misbehaving, bytes: &[u8], ctx: &mut Context<'_>) {
        self.called(Callback::Client, plugin, ctx);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            ctx.begin_exchange("line");
            ctx.send(line);
        }
    }

    fn on_origin(&mut self, plugin: &mut Misbehaving, _bytes: &[u8], ctx: &mut Context<'_>) {
        self.called(Callback::Origin, plugin, ctx);
    }

    fn on_target(&mut self, plugin: &mut Misbehaving, bytes: &[u8], ctx: &mut Context<'_>) {
        self.called(Callback::Target, plugin, ctx);
        for _ in bytes.iter().filter(|byte| **byte == b'\n') {
            ctx.end_exchange(Outcome::ok());
        }
    }

    fn on_gap(
        &mut self,
        plugin: &mut Misbehaving,
        _direction: Direction,
        _missing: Option<u64>,
        ctx: &mut Context<'_>,
    ) {
        self.called(Callback::Gap, plugin, ctx);
    }

    fn on_client_end(&mut self, plugin: &mut Misbehaving, ctx: &mut Context<'_>) {
        self.called(Callback::ClientEnd, plugin, ctx);
    }

    fn on_timer(&mut self, plugin: &mut Misbehaving, ctx: &mut Context<'_>) {
        self.called(Callback::Timer, plugin, ctx);
    }

    fn on_shared(
        &mut self,
        plugin: &mut Misbehaving,
        _key: &[u8],
        _value: Option<&[u8]>,
        ctx: &mut Context<'_>,
    ) {
        self.called(Callback::Shared, plugin, ctx);
    }

    fn on_close(&mut self, plugin: &mut Misbehaving) {
        if self.misbehaves && plugin.callback == Callback::Close {
            plugin.misbehave(None);
        }
    }
}

impl Connection {
    pub(crate) fn new(misbehaves: bool) -> Self {
        Self { misbehaves }
    }

    /// A callback that is given a context begins.
    pub(crate) fn called(
        &mut self,
        callback: Callback,
        plugin: &mut Misbehaving,
        ctx: &mut Context<'_>,
    ) {
        if !self.misbehaves || plugin.callback != callback {
            return;
        }
        if plugin.once {
            self.misbehaves = false;
            if ctx.share().get(DONE.0).is_some() {
                return;
            }
            // Before it happens: nothing may come after it.
            ctx.share().set(DONE.0, b"", DONE.1);
        }
        plugin.misbehave(Some(ctx));
    }
}
