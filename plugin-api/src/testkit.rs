//! Plays transcripts of connections to a plugin, without a network.
//!
//! ```
//! use plugin_api::testkit::{self, Transcript};
//! use plugin_api::{Config, Context, Manifest, Plugin, Session, SessionInfo};
//! # struct Upper;
//! # impl Plugin for Upper {
//! #     type Session = Connection;
//! #     fn manifest() -> Manifest { Manifest::new("upper", "0.1.0", "") }
//! #     fn configure(_: &Config) -> Result<Self, String> { Ok(Upper) }
//! #     fn open(&mut self, _: &SessionInfo, _: &mut Context<'_>) -> Connection { Connection }
//! # }
//! # struct Connection;
//! # impl Session<Upper> for Connection {
//! #     fn on_client(&mut self, _: &mut Upper, bytes: &[u8], ctx: &mut Context<'_>) {
//! #         ctx.begin_exchange("line");
//! #         ctx.send(&bytes.to_ascii_uppercase());
//! #     }
//! # }
//!
//! let transcript: Transcript = r"
//!     ## what the client says, and what both servers answer
//!     C: get x\n
//!     O: 1\n
//!     T: 2\n
//! ".parse()?;
//! let played = testkit::run::<Upper>(&Config::new(), &transcript)?;
//!
//! assert_eq!(played.sent(), b"GET X\n");
//! assert_eq!(played.exchanges()[0].label, "line");
//! assert_eq!(played.refusal(), None);
//! // The whole story, for a comparison with a file or between two builds:
//! assert_eq!(played.to_string(), r"session 1
//! C: get x\n
//!     begin: line
//!     send: GET X\n
//! O: 1\n
//! T: 2\n
//! close
//! ");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Transcript`] tells how transcripts are written. A transcript sees the plugin as tcpcopy would
//! show it: streams that its manifest does not ask for are left out, held bytes are not sent before
//! they are released, timers and waits end when the transcript's clock gets there. Randomness is
//! the same in each run.

mod escape;
mod in_process;
mod played;
mod player;
#[cfg(test)]
mod tests;
mod transcript;

use crate::{Config, Plugin};

pub use played::{Exchange, Played, PlayedSession};
pub use player::{PlayError, Subject, play};
pub use transcript::{Opening, Step, Transcript, TranscriptError};

/// Plays a transcript to a plugin in this process. The first page of this module has an example.
///
/// # Errors
/// When the plugin does not take the configuration, or the transcript can't be played.
///
/// # Panics
/// When the plugin does: a test wants to see where.
pub fn run<P: Plugin>(config: &Config, transcript: &Transcript) -> Result<Played, PlayError> {
    let mut subject = in_process::InProcess::<P>::configure(config).map_err(PlayError::Config)?;
    let needs = P::manifest().needs_for(config);
    let mut played = play(&mut subject, needs, transcript)?;
    played.log = subject.into_log();
    Ok(played)
}
