//! HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112): requests are changed on their way to the target, and
//! their answers followed, so that each exchange is known with its method, path and status.
//!
//! ```text
//!  client ─▶ Requests ─▶ Rules ─▶ target
//!                │ Exchanges
//!  target ─▶ Answers ─▶ which request it answers, its end, whether the connection goes on
//! ```
//!
//! Bodies are never gathered, they pass. Nothing is guessed: what two programs might read
//! differently is refused under a name ([`malformed`]). The `README.md` beside this crate tells how
//! it is configured.

#![forbid(unsafe_code)]

mod answers;
mod body;
mod config;
mod exchanges;
mod framing;
mod head;
mod label;
mod limits;
mod malformed;
mod pattern;
mod place;
mod plugin;
mod requests;
mod rules;
mod session;
mod template;
mod values;

pub use plugin::Http;
pub use session::Connection;

plugin_api::export_plugin!(Http);
