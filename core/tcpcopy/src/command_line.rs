//! What the program is asked to do: to replay, or one of its other jobs.

use clap::{Parser, Subcommand};

use crate::capture::CaptureOptions;
use crate::control::CtlOptions;
use crate::doctor::DoctorOptions;
use crate::options::Options;
use crate::plugin::PluginCommand;

/// Reproduces the live TCP traffic of an origin server against a target server: connection by
/// connection, byte by byte, in time.
///
/// Without -s it speaks through ordinary connections of this host, and nothing else is needed
/// anywhere. With -s it speaks in each client's own name, and an intercept must run where the
/// target's answers can be caught.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tcpcopy",
    version,
    disable_version_flag = true,
    disable_help_flag = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND",
    after_help = "Exit status: 0 done, 1 intercept was lost or a part failed, 2 could not run."
)]
pub struct CommandLine {
    /// Another job than to replay.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to replay.
    #[command(flatten)]
    pub options: Options,
}

/// The other jobs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Records what a replay would capture, as files that a replay and Wireshark can read
    Capture(CaptureOptions),
    /// Asks or changes a running tcpcopy that was started with --control
    Ctl(CtlOptions),
    /// Tries the path of a replay for real and says which hop fails
    ///
    /// Exit status: 0 all is well, 1 something is wrong, 2 could not run.
    Doctor(DoctorOptions),
    /// Describes a protocol plugin, or tries one without a network
    Plugin(PluginCommand),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(std::iter::once("tcpcopy").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_job_needs_none_of_the_options_of_a_replay() {
        let line = parse("ctl --control /run/t status").expect("ctl");
        assert!(matches!(line.command, Some(Command::Ctl(_))));
        let line = parse("-x 80-a:80").expect("a replay");
        assert!(line.command.is_none());
        assert_eq!(line.options.transfer, ["80-a:80"]);
        for help in [
            "ctl --help",
            "ctl rate -h",
            "capture -h",
            "doctor --help",
            "-h",
        ] {
            let kind = parse(help).expect_err(help).kind();
            assert_eq!(kind, clap::error::ErrorKind::DisplayHelp, "{help}");
        }
        for wrong in ["", "nonsense", "-x 80-a:80 ctl --control /run/t status"] {
            assert_eq!(parse(wrong).expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}
