//! A deterministic simulation of a replay: captured clients, the engine, lossy links, a model
//! target and a model intercept, on one virtual clock and from one seed.
//!
//! - [`conversation`], [`capture`], [`mix`]: what clients say, and what a capture sees of it
//! - [`target`], [`intercept`], [`link`], [`draw`]: the other nodes
//! - [`harness`], [`scenario`], [`check`]: a run and what must hold after it
//! - [`plugins`]: the same with model plugins between clients and target; [`content`] is what the
//!   servers say to them
//! - [`sockets`]: the same through kernel connections, with a model kernel and a run of its own
//! - [`generated`], [`named`], [`table`]: the tests; [`models`] tests the models by themselves

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "seeds and traces of failures"
)]

mod capture;
mod check;
mod content;
mod conversation;
mod draw;
mod events;
mod generated;
mod harness;
mod intercept;
mod link;
mod mix;
mod models;
mod named;
mod plugins;
mod rng;
mod scenario;
mod sockets;
mod table;
mod target;
mod trace;
mod wire;
