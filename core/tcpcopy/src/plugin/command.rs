//! `tcpcopy plugin`: the command line, and from a job to the exit status.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Subcommand};

use super::options::{LimitOptions, TellOptions};
use super::trial::Outcome;
use super::{inspect, trial};

/// Most connections of a capture file that are played, unless told otherwise.
const CONNECTIONS_DEFAULT: usize = 1000;

/// The command line of `tcpcopy plugin`.
#[derive(Clone, Debug, Args)]
pub struct PluginCommand {
    /// What to do.
    #[command(subcommand)]
    job: Job,
    /// Prints this help
    #[arg(short = 'h', long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

#[derive(Clone, Debug, Subcommand)]
enum Job {
    /// Says what a plugin is, what it needs, and which keys of configuration it has
    #[command(after_help = "Exit status: 0 done, 2 the file is no plugin of use.")]
    Inspect(InspectOptions),
    /// Plays a transcript, or the connections of a capture file, to a plugin, without a network
    ///
    /// A capture file knows no target: it is taken to answer what the origin did, when it did. A
    /// plugin that itself says something to the target, such as a login, needs a transcript.
    #[command(
        after_help = "Exit status: 0 the plugin got through it, 1 it failed, 2 could not run."
    )]
    Test(TestOptions),
}

/// The command line of `tcpcopy plugin inspect`.
#[derive(Clone, Debug, Args)]
pub(super) struct InspectOptions {
    /// The plugin: a native library or a WASM module
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// Prints it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The command line of `tcpcopy plugin test`.
#[derive(Clone, Debug, Args)]
pub(super) struct TestOptions {
    /// The plugin: a native library or a WASM module
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    /// What happens: a transcript as plugin-api's testkit has them, or a capture file (pcap or
    /// pcapng, gzip or zstd of either)
    #[arg(value_name = "TRANSCRIPT|PCAP")]
    pub(super) story: PathBuf,

    /// The origin's port in a capture file. Default: the one that connections begin to
    #[arg(short = 'x', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,

    /// Connections of a capture file to play at most, the first ones
    #[arg(long, value_name = "COUNT", default_value_t = CONNECTIONS_DEFAULT)]
    pub(super) connections: usize,

    /// Prints step by step what happens and what the plugin does about it
    #[arg(long)]
    pub(super) steps: bool,

    /// What it is told.
    #[command(flatten)]
    pub(super) tell: TellOptions,

    /// How much it may take.
    #[command(flatten)]
    pub(super) limits: LimitOptions,
}

/// Does the job: exit status 0 when it is done and the plugin has not failed, 1 when it has, 2 when
/// the job could not be done.
pub fn run(command: &PluginCommand) -> ExitCode {
    /// Could not run.
    const COULD_NOT_RUN: u8 = 2;
    let done = match &command.job {
        Job::Inspect(options) => inspect::inspect(options).map(|text| Outcome {
            text,
            failure: None,
        }),
        Job::Test(options) => trial::play_to(options),
    };
    // Whoever read the output may be gone.
    match done {
        Ok(Outcome { text, failure }) => {
            let _ = io::stdout().write_all(text.as_bytes());
            let Some(failure) = failure else {
                return ExitCode::SUCCESS;
            };
            let _ = writeln!(io::stderr(), "tcpcopy: {failure}");
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "tcpcopy: {error}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}
