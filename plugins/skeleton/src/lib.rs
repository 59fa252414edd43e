//! The skeleton plugin: it relays what the client says.
//!
//! `plugin-api/GUIDE.md` walks through a whole plugin. In short: `manifest` names it, its keys of
//! configuration and the answers it wants to see; `open` begins a connection; `on_client` is given
//! the client's bytes, cut anywhere, and sends. `on_target` and `on_origin` see answers once
//! `.needs(..)` asks for them; `ctx.begin_exchange` and `ctx.end_exchange` mark requests.

#![forbid(unsafe_code)]

use plugin_api::{Config, Context, Manifest, Plugin, Session, SessionInfo, export_plugin};

/// The plugin: its configuration, and what its sessions have in common.
#[derive(Debug)]
pub struct Skeleton;

/// One replayed connection.
#[derive(Debug)]
pub struct Connection;

impl Plugin for Skeleton {
    type Session = Connection;

    fn manifest() -> Manifest {
        let version = env!("CARGO_PKG_VERSION");
        Manifest::new("skeleton", version, "relays what the client says")
    }

    fn configure(_config: &Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn open(&mut self, _info: &SessionInfo, _ctx: &mut Context<'_>) -> Connection {
        Connection
    }
}

impl Session<Skeleton> for Connection {
    /// Nothing reaches the target but what is sent here.
    fn on_client(&mut self, _plugin: &mut Skeleton, bytes: &[u8], ctx: &mut Context<'_>) {
        ctx.send(bytes);
    }
}

export_plugin!(Skeleton);

#[cfg(test)]
mod tests {
    use plugin_api::testkit::{self, Transcript};

    use super::*;

    #[test]
    fn what_the_client_says_is_sent() -> Result<(), Box<dyn std::error::Error>> {
        let transcript: Transcript = include_str!("../hello.transcript").parse()?;
        let played = testkit::run::<Skeleton>(&Config::new(), &transcript)?;
        assert_eq!(played.sent(), b"hello\r\n");
        Ok(())
    }
}
