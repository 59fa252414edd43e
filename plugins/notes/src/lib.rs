//! The example of the author's guide, `plugin-api/GUIDE.md`: a protocol of lines, with a password
//! that is another at the target, and notes that get other numbers there.

#![forbid(unsafe_code)]

mod connection;
mod lines;

use plugin_api::{Config, Context, Key, Manifest, Needs, Plugin, SessionInfo, export_plugin};

pub use connection::Connection;

/// The plugin: what all its sessions know.
#[derive(Debug)]
pub struct Notes {
    pub(crate) password: String,
}

impl Plugin for Notes {
    type Session = Connection;

    fn manifest() -> Manifest {
        let version = env!("CARGO_PKG_VERSION");
        Manifest::new("notes", version, "logs in and finds notes at the target")
            .needs(Needs::BOTH)
            .key(Key::secret("password", "of every user at the target").required())
    }

    fn configure(config: &Config) -> Result<Self, String> {
        let password = config.text("password")?.to_owned();
        if password.contains(['\r', '\n']) {
            return Err(config.error("password", "must be one line").into());
        }
        Ok(Self { password })
    }

    fn open(&mut self, info: &SessionInfo, _ctx: &mut Context<'_>) -> Connection {
        Connection::new(info)
    }
}

export_plugin!(Notes);
