//! MySQL and MariaDB: every session logs in at the target as the target demands, and runs the
//! client's statements there.

#![forbid(unsafe_code)]

mod account;
mod accounts;
mod answer;
mod auth;
mod capability;
mod command;
mod compression;
mod frame;
mod login;
mod ok;
mod options;
mod parameters;
mod secret;
mod session;
mod sql;
mod statements;
#[cfg(test)]
mod testing;
mod wire;

use std::cell::Cell;

use plugin_api::{Config, Context, Manifest, Needs, Plugin, SessionInfo, export_plugin};

use crate::accounts::Accounts;
use crate::options::Options;
pub use crate::session::Connection;

/// The plugin: what all its sessions know.
#[derive(Debug)]
pub struct Mysql {
    accounts: Accounts,
    options: Options,
    /// What waits in all sessions, in bytes.
    queued: Cell<usize>,
}

impl Plugin for Mysql {
    type Session = Connection;

    fn manifest() -> Manifest {
        let version = env!("CARGO_PKG_VERSION");
        let manifest = Manifest::new(
            "mysql",
            version,
            "MySQL and MariaDB, with logins of their own",
        )
        .needs(Needs::BOTH);
        let keys = Accounts::keys().into_iter().chain(Options::keys());
        keys.fold(manifest, Manifest::key)
    }

    fn configure(config: &Config) -> Result<Self, String> {
        Ok(Self {
            accounts: Accounts::configure(config)?,
            options: Options::configure(config)?,
            queued: Cell::new(0),
        })
    }

    fn open(&mut self, info: &SessionInfo, ctx: &mut Context<'_>) -> Connection {
        Connection::open(self, info, ctx)
    }
}

export_plugin!(Mysql);
