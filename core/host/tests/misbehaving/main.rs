//! What the host does when a plugin, or its file, is not as it should be: other sessions go on, each
//! failure has its name, limits hold, and a plugin that keeps failing is switched off.
//!
//! The plugins are those of `plugins/misbehaving`, in Rust and in C. What a native plugin can do that
//! no host survives (an endless loop, a stack that overflows, writing where it likes) is not tried:
//! native plugins are trusted.

#![forbid(unsafe_code)]

mod bed;
#[path = "../common/mod.rs"]
mod common;
mod engine;
mod faults;
mod lies;
mod limits;
mod loading;
mod written_in_c;
