//! The plugin: what all connections have in common.

use std::time::Duration;

use plugin_api::{Config, Context, Manifest, Plugin, SessionInfo};

use crate::config;
use crate::head::Head;
use crate::limits::Limits;
use crate::rules::{Filter, Rules};
use crate::session::Connection;
use crate::values::Values;

/// The plugin with its configuration.
#[derive(Debug)]
pub struct Http {
    pub(crate) limits: Limits,
    /// How long a body waits for the target's `100 Continue`.
    pub(crate) expect_wait: Duration,
    pub(crate) filter: Filter,
    pub(crate) values: Values,
    pub(crate) rules: Rules,
    /// The head that is being read, and a label: kept for their memory.
    pub(crate) head: Head,
    pub(crate) label: String,
}

impl Plugin for Http {
    type Session = Connection;

    fn manifest() -> Manifest {
        config::manifest()
    }

    fn configure(config: &Config) -> Result<Self, String> {
        Ok(config::read(config)?)
    }

    fn open(&mut self, info: &SessionInfo, _ctx: &mut Context<'_>) -> Connection {
        Connection::new(info, self.values.is_any())
    }
}
