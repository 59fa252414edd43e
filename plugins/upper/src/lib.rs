//! A protocol of lines: every request is one line, every answer is one. The target gets the
//! requests in capitals, behind a prefix if one is configured.
//!
//! It is the example to begin with, and what the tests of the host run.

#![forbid(unsafe_code)]

use plugin_api::{
    Config, Context, Key, Manifest, Needs, Outcome, Plugin, Session, SessionInfo, export_plugin,
};

/// The longest line, in bytes; a session with a longer one is refused.
const LINE_BYTES: usize = 64 * 1024;

/// The plugin: what all its sessions know.
#[derive(Debug)]
pub struct Upper {
    prefix: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Before the first boundary of a connection whose beginning was not captured.
    is_lost: bool,
}

impl Plugin for Upper {
    type Session = Lines;

    fn manifest() -> Manifest {
        Manifest::new("upper", env!("CARGO_PKG_VERSION"), "lines in capitals")
            .needs(Needs::TARGET)
            .key(Key::text("prefix", "what each line begins with").default("nothing"))
    }

    fn configure(config: &Config) -> Result<Self, String> {
        let prefix = config.text_or("prefix", "")?;
        if prefix.contains('\n') {
            return Err(config.error("prefix", "must be within one line").into());
        }
        Ok(Self {
            prefix: prefix.as_bytes().to_vec(),
        })
    }

    fn open(&mut self, info: &SessionInfo, _ctx: &mut Context<'_>) -> Lines {
        Lines {
            begun: Vec::new(),
            is_lost: !info.start_seen,
        }
    }
}

impl Session<Upper> for Lines {
    fn on_client(&mut self, plugin: &mut Upper, bytes: &[u8], ctx: &mut Context<'_>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if self.begun.len() > LINE_BYTES {
                return ctx.refuse("line_too_long");
            }
            if piece.ends_with(b"\n") {
                self.request(plugin, ctx);
            }
        }
    }

    fn on_target(&mut self, _plugin: &mut Upper, bytes: &[u8], ctx: &mut Context<'_>) {
        for _ in bytes.iter().filter(|byte| **byte == b'\n') {
            ctx.end_exchange(Outcome::ok());
        }
    }

    fn on_client_end(&mut self, plugin: &mut Upper, ctx: &mut Context<'_>) {
        if !self.begun.is_empty() {
            self.request(plugin, ctx);
        }
    }
}

impl Lines {
    /// Sends the line that has been gathered.
    fn request(&mut self, plugin: &Upper, ctx: &mut Context<'_>) {
        if std::mem::take(&mut self.is_lost) {
            ctx.count("lines_without_beginning", 1);
        } else {
            self.begun.make_ascii_uppercase();
            ctx.begin_exchange("line");
            ctx.send(&plugin.prefix);
            ctx.send(&self.begun);
            ctx.count("lines", 1);
        }
        self.begun.clear();
    }
}

export_plugin!(Upper);
