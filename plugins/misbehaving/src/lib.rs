//! A plugin that misbehaves as its configuration tells it: the test subject of the host.
//!
//! A session that is not told to misbehave relays lines, each an exchange. [`Fault`] lists what the
//! others do, [`Callback`] when they do it. Everything here is what a safe plugin can do by mistake;
//! what only a broken contract can do (lists of actions that are none, a table with holes) is in
//! `liar.c` beside this crate.

#![forbid(unsafe_code)]

mod connection;
mod fault;

use std::time::Duration;

use plugin_api::{Config, Context, Key, Manifest, Needs, Plugin, SessionInfo, export_plugin};

pub use connection::Connection;
pub use fault::{Callback, Fault};

/// What [`Callback::Timer`] waits for.
const TIMER: Duration = Duration::from_millis(1);

/// What [`Callback::Shared`] waits for.
const SHARED_KEY: &[u8] = b"never set";

/// The plugin: what it was told, and what it never frees.
#[derive(Debug)]
pub struct Misbehaving {
    fault: Fault,
    callback: Callback,
    /// How much of it, in MiB.
    mib: usize,
    /// Which sessions: those of client ports that this divides.
    every: u16,
    once: bool,
    leaked: Vec<Vec<u8>>,
}

impl Plugin for Misbehaving {
    type Session = Connection;

    fn manifest() -> Manifest {
        let version = env!("CARGO_PKG_VERSION");
        Manifest::new(
            "misbehaving",
            version,
            "misbehaves as it is told, for tests",
        )
        .needs(Needs::BOTH)
        .key(Key::text("fault", Fault::DOC).default("none"))
        .key(Key::text("callback", Callback::DOC).default("on_client"))
        .key(Key::integer("mib", "how much of it, in MiB, 1 to 65536").default("65536"))
        .key(
            Key::integer(
                "every",
                "only sessions of client ports that this divides, from 1",
            )
            .default("1"),
        )
        .key(Key::boolean("once", "in one session only, of all threads").default("false"))
    }

    fn configure(config: &Config) -> Result<Self, String> {
        let fault = config.text_or("fault", "none")?.parse();
        let callback = config.text_or("callback", "on_client")?.parse();
        let bounded = |key, default, range: std::ops::RangeInclusive<i64>| {
            let value = config.integer_or(key, default)?;
            match range.contains(&value) {
                true => Ok(value),
                false => Err(config.error(key, "is out of its range")),
            }
        };
        let mut plugin = Self {
            fault: fault.map_err(|problem: String| config.error("fault", problem))?,
            callback: callback.map_err(|problem: String| config.error("callback", problem))?,
            mib: bounded("mib", 65536, 1..=65536)? as usize,
            every: bounded("every", 1, 1..=i64::from(u16::MAX))? as u16,
            once: config.boolean_or("once", false)?,
            leaked: Vec::new(),
        };
        if plugin.callback == Callback::Configure {
            plugin.misbehave(None);
        }
        Ok(plugin)
    }

    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Connection {
        let mut connection = Connection::new(info.client.port().is_multiple_of(self.every));
        match self.callback {
            Callback::Timer => ctx.set_timer(TIMER),
            Callback::Shared => ctx.share().wait(SHARED_KEY, TIMER),
            _ => {}
        }
        connection.called(Callback::Open, self, ctx);
        connection
    }
}

export_plugin!(Misbehaving);
