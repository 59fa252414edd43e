//! The real program in a private network, with real servers and clients.
//!
//! Without root, or without the programs that the lab needs, each test says why it doesn't run;
//! in CI that is a failure.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod bench;
mod peer;
mod rules;
mod sessions;
mod start;
mod tunnel;
