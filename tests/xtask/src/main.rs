//! `cargo xtask demo|test|bench|plugins`: see the replay work, prove it, measure it, extend it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a task tells its user what it does")]

mod bench;
mod demo;
mod error;
mod http;
mod in_c;
mod machine;
mod plugins;
mod run;
mod skeleton;
mod test;
mod wasm_std;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about)]
enum Task {
    /// Replays a real load from a real client between two real servers, in a private network of
    /// namespaces, and explains each step. Installs with apt what is missing when root.
    Demo,
    /// Runs all tests: form, units, properties, simulation, fuzz corpora, end to end. Installs
    /// with apt what is missing when root.
    Test {
        /// Loads of 10 s each and all bodies, as the promises are written, instead of 3 s.
        #[arg(long)]
        full: bool,
    },
    /// Measures the processor time per request of tcpcopy and intercept beside that of wrk making
    /// the same requests itself, what a call of a plugin takes, and what the HTTP plugin costs a
    /// request.
    Bench {
        /// How long each load lasts, in seconds.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
    },
    /// Builds plugins both ways, as a native library and as a WASM module, into target/plugins/.
    /// Gets the std for WASM where the toolchain lacks it.
    Plugins {
        /// Which of plugins/; all of them and those in C without a name.
        names: Vec<String>,
    },
    /// Work on one plugin.
    Plugin {
        #[command(subcommand)]
        task: PluginTask,
    },
}

/// Work on one plugin.
#[derive(Debug, Subcommand)]
enum PluginTask {
    /// Writes a new plugin that relays what the client says, with a test that passes, into
    /// plugins/NAME.
    New {
        /// Its name: lower case letters, digits and _, a letter first.
        name: String,
        /// Writes it into DIRECTORY/NAME instead, as a crate that stands alone.
        #[arg(long, value_name = "DIRECTORY")]
        into: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Demo => demo::run(),
        Task::Test { full } => test::run(full),
        Task::Bench { seconds } => bench::run(seconds),
        Task::Plugins { names } => plugins::build(&names).map(drop),
        Task::Plugin {
            task: PluginTask::New { name, into },
        } => skeleton::write(&name, into.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nfailed: {error}");
            ExitCode::FAILURE
        }
    }
}
