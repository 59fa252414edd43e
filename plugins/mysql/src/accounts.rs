//! Who logs in at the target, and with what secret.

use plugin_api::{Config, Key};

/// The accounts of the configuration.
#[derive(Debug)]
pub(crate) struct Accounts {}

impl Accounts {
    /// The keys of configuration that are about accounts.
    pub(crate) fn keys() -> Vec<Key> {
        Vec::new()
    }

    /// Reads those keys.
    pub(crate) fn configure(config: &Config) -> Result<Self, String> {
        let _ = config;
        Ok(Self {})
    }

    /// The name that a database of the origin has at the target.
    pub(crate) fn database<'a>(&'a self, of_origin: &'a [u8]) -> &'a [u8] {
        of_origin
    }
}
