//! What a protocol plugin of tcpcopy imports.
//!
//! A plugin sees three streams of each replayed connection, reassembled and in order, and writes a
//! fourth:
//!
//! ```text
//!  client ──▶ on_client ─┐
//!  origin ──▶ on_origin ─┼─▶ your Session ──▶ ctx.send(bytes) ──▶ target
//!  target ──▶ on_target ─┘
//! ```
//!
//! It may change lengths, insert, hold back and drop, answer the target by itself, and carry values
//! from one connection to another. A whole plugin:
//!
//! ```
//! use plugin_api::{Config, Context, Manifest, Plugin, Session, SessionInfo, export_plugin};
//!
//! struct Upper;
//!
//! impl Plugin for Upper {
//!     type Session = Connection;
//!
//!     fn manifest() -> Manifest {
//!         Manifest::new("upper", "0.1.0", "writes every request in capitals")
//!     }
//!
//!     fn configure(_config: &Config) -> Result<Self, String> {
//!         Ok(Upper)
//!     }
//!
//!     fn open(&mut self, _info: &SessionInfo, _ctx: &mut Context<'_>) -> Connection {
//!         Connection
//!     }
//! }
//!
//! struct Connection;
//!
//! impl Session<Upper> for Connection {
//!     fn on_client(&mut self, _plugin: &mut Upper, bytes: &[u8], ctx: &mut Context<'_>) {
//!         ctx.send(&bytes.to_ascii_uppercase());
//!     }
//! }
//!
//! export_plugin!(Upper);
//!
//! // A test: what is sent to the target when a client says this?
//! use plugin_api::testkit::{self, Transcript};
//!
//! let transcript: Transcript = r"C: get x\n".parse()?;
//! let played = testkit::run::<Upper>(&Config::new(), &transcript)?;
//! assert_eq!(played.sent(), b"GET X\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Plugin`], [`Session`]: what an author implements
//! - [`Context`]: what a callback may do; [`Share`], [`Outcome`], [`Level`]
//! - [`Manifest`], [`Key`], [`Needs`]: what a plugin says of itself; [`Config`], [`Value`]: what it
//!   is told
//! - [`export_plugin!`]: one line that makes a native library or a WASM module of it
//! - [`testkit`]: transcripts of connections, played to a plugin without a network
//! - `GUIDE.md` beside this crate walks through a whole plugin, from the first command to its report
//! - [`abi`]: the contract with the host, for hosts and for authors in other languages
//!
//! The crate knows nothing of tcpcopy itself, and a plugin knows nothing but this crate.

#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod abi;
mod config;
mod context;
#[doc(hidden)]
pub mod export;
mod info;
mod instance;
mod manifest;
mod plugin;
#[cfg(not(target_arch = "wasm32"))]
pub mod testkit;

pub use config::{Config, ConfigError, Value};
pub use context::{Context, Level, Outcome, Share};
pub use info::{Direction, SessionInfo};
pub use manifest::{Key, KeyKind, Manifest, Needs};
pub use plugin::{Plugin, Session};

/// What the guide shows compiles; `tests/xtask` compares the plugin in it with the real one.
#[cfg(doctest)]
#[doc = include_str!("../GUIDE.md")]
pub struct Guide;
