//! Fuzz targets: functions that take any bytes and must not panic, however odd these are.
//!
//! Each target has a module with its function and its hand-made seeds, a line in [`TARGETS`], a
//! directory of inputs in `corpora/` and a file in `libfuzzer/fuzz_targets/`. `cargo test` replays
//! the corpora; cargo-fuzz looks for new inputs. README.md tells how to run both and how to add a
//! target.
//!
//! - [`packet`]: IP packets to segments and back
//! - [`frame`]: link-layer frames of every kind down to the segment
//! - [`tunnel`]: both ends of the tunnel
//! - [`journal`]: intercept's journal
//! - [`capture_file`]: capture files of every format
//! - [`plugin_contract`]: what plugins answer, places of settings, transcripts
//! - [`plugin_http`]: clients, origins and targets of the HTTP plugin
//! - [`plugin_mysql`]: the MySQL plugin, between a client and two servers
//! - [`plugin_redis`]: clients and targets of the plugin for Redis

#![forbid(unsafe_code)]

pub mod capture_file;
pub mod frame;
pub mod journal;
pub mod packet;
pub mod plugin_contract;
pub mod plugin_http;
pub mod plugin_mysql;
pub mod plugin_redis;
mod samples;
pub mod tunnel;

use std::path::{Path, PathBuf};

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "packet",
        run: packet::run,
        seeds: packet::seeds,
    },
    Target {
        name: "frame",
        run: frame::run,
        seeds: frame::seeds,
    },
    Target {
        name: "tunnel",
        run: tunnel::run,
        seeds: tunnel::seeds,
    },
    Target {
        name: "journal",
        run: journal::run,
        seeds: journal::seeds,
    },
    Target {
        name: "capture_file",
        run: capture_file::run,
        seeds: capture_file::seeds,
    },
    Target {
        name: "plugin_mysql",
        run: plugin_mysql::run,
        seeds: plugin_mysql::seeds,
    },
    Target {
        name: "plugin_contract",
        run: plugin_contract::run,
        seeds: plugin_contract::seeds,
    },
    Target {
        name: "plugin_http",
        run: plugin_http::run,
        seeds: plugin_http::seeds,
    },
    Target {
        name: "plugin_redis",
        run: plugin_redis::run,
        seeds: plugin_redis::seeds,
    },
];

/// A function under fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its module, its corpus directory and its libFuzzer binary.
    pub name: &'static str,
    /// Takes any input; a panic is a finding.
    pub run: fn(&[u8]),
    /// Makes the inputs that the search starts from, the same at every call.
    pub seeds: fn() -> Vec<Seed>,
}

impl Target {
    /// Where the target's corpus is kept.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpora")
            .join(self.name)
    }
}

/// An input made by hand: its file name, which says what is special about it, and its bytes.
pub type Seed = (&'static str, Vec<u8>);
