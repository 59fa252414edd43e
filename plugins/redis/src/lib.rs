//! Redis and its relatives: logs in at the target with the target's accounts, maps databases, and
//! tells by parsing which answer belongs to which command.
//!
//! - `command`: the client's bytes as commands, whole or piece by piece
//! - `kind`: what a command means for the connection
//! - `rewrite`: commands that are written anew
//! - `reply`: the target's bytes as replies, of which hardly anything is kept
//! - `expected`: which reply ends which exchange
//! - `accounts`, `settings`: the configuration
//! - `session`: one connection
//! - `resync`: where a command begins in a stream that was joined late
//! - `memory`: what another connection to the target has to restore
//!
//! The protocol is RESP2 and RESP3 as of Redis 7; README.md tells what users need to know.

#![forbid(unsafe_code)]

mod accounts;
mod command;
mod expected;
mod kind;
mod memory;
mod names;
mod reply;
mod resync;
mod rewrite;
mod session;
mod settings;

use std::collections::BTreeSet;

use plugin_api::{Config, Context, Key, Manifest, Needs, Plugin, SessionInfo, export_plugin};

use crate::names::Names;
pub use crate::session::Connection;
use crate::settings::Settings;

/// How many labels of commands and of errors a report may have.
const LABELS: usize = 256;

/// The plugin: its configuration, and what all its sessions have in common.
#[derive(Debug)]
pub struct Redis {
    settings: Settings,
    labels: Names,
    codes: Names,
    /// Where the arguments of the command at hand are: kept so that a command allocates nothing.
    spans: Vec<command::Span>,
    /// Which advice has been given.
    advised: BTreeSet<&'static str>,
}

impl Plugin for Redis {
    type Session = Connection;

    fn manifest() -> Manifest {
        Manifest::new(
            "redis",
            env!("CARGO_PKG_VERSION"),
            "Redis: logs in with the target's accounts, maps databases, marks exchanges",
        )
        .needs(Needs::TARGET)
        .key(
            Key::text(
                "auth",
                "what becomes of the clients' logins: `map` them to the target's accounts, `drop` \
                 them because the target has none, or `pass` them as they are",
            )
            .default("map if there is an account, else pass"),
        )
        .key(Key::text(
            "user",
            "who logs in at the target, for clients that `accounts` does not name; without it AUTH \
             has a password only",
        ))
        .key(Key::secret(
            "password",
            "with which password; clients that never log in do it too",
        ))
        .key(Key::secret(
            "accounts",
            "lines `ORIGIN_USER TARGET_USER PASSWORD`; clients that give only a password are `default`",
        ))
        .key(
            Key::integer(
                "db",
                "the origin's database that clients have selected before the capture began",
            )
            .default("0"),
        )
        .key(
            Key::table(
                "databases",
                "the target's number of each of the origin's databases, such as { \"0\" = 3 }",
            )
            .default("the same"),
        )
        .key(
            Key::list(
                "drop",
                "commands that are not replayed, such as [\"FLUSHALL\", \"CONFIG SET\"]",
            )
            .default("none"),
        )
        .key(
            Key::integer(
                "block_limit_ms",
                "commands that wait for something, such as BLPOP, wait so many milliseconds at \
                 most, from 1",
            )
            .default("as long as the client wanted"),
        )
    }

    fn configure(config: &Config) -> Result<Self, String> {
        Ok(Self {
            settings: Settings::from_config(config)?,
            labels: Names::up_to(LABELS),
            codes: Names::up_to(LABELS),
            spans: Vec::new(),
            advised: BTreeSet::new(),
        })
    }

    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Connection {
        Connection::open(self, info, ctx)
    }
}

export_plugin!(Redis);
