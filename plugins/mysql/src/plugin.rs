//! The plugin: its configuration, and what its sessions have in common.

use std::cell::Cell;

use plugin_api::{Config, Context, Manifest, Needs, Plugin, SessionInfo};

use crate::accounts::Accounts;
use crate::options::Options;
use crate::session::Connection;

/// The plugin: what all its sessions know.
#[derive(Debug)]
pub struct Mysql {
    pub(crate) accounts: Accounts,
    pub(crate) options: Options,
    /// What waits in all sessions, in bytes.
    pub(crate) queued: Cell<usize>,
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
