//! The command line of `tcpcopy capture`.

use std::path::{Path, PathBuf};

use clap::{ArgAction, ArgGroup, Args};

/// Most MiB of capture ring; the kernel locks them in memory, and counts their bytes in 32 bits.
const MOST_RING_MB: i64 = 4095;
/// Shortest capture that holds Ethernet, VLAN, IP and TCP headers with options, in bytes.
const LEAST_SNAPLEN: i64 = 134;
/// A year: longer is a typing error.
const MOST_SECONDS: i64 = 366 * 24 * 3600;
/// A PiB: more is a typing error.
const MOST_MB: i64 = 1 << 30;
/// The name of standard output.
const STANDARD_OUTPUT: &str = "-";

/// The command line of `tcpcopy capture`.
#[derive(Clone, Debug, Args)]
#[command(
    group = ArgGroup::new("rotation").multiple(true).args(["rotate_mb", "rotate_s", "keep_mb"]),
    after_help = "Ends on SIGINT or SIGTERM. Exit status: 0 done, 1 the recording broke off, \
                  2 could not begin."
)]
pub struct CaptureOptions {
    /// Whose traffic is recorded: [ORIGIN:]PORT, several with commas. Without ORIGIN every address
    /// that receives on PORT is an origin. A transfer as a replay takes it, such as
    /// 80-10.0.0.9:8080, does too
    #[arg(
        short = 'x',
        long,
        value_name = "ORIGIN,...",
        value_delimiter = ',',
        required = true
    )]
    pub transfer: Vec<String>,

    /// File to write, in pcapng; - is standard output. With rotation each file gets a number before
    /// the extension, going on after those that exist
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: PathBuf,

    /// Devices to capture on, with commas, or any for all. Default: any
    #[arg(short = 'i', long, value_name = "DEVICE,...", value_delimiter = ',')]
    pub device: Vec<String>,

    /// Narrows what is recorded further, in pcap-filter syntax. Default: all that -x names
    #[arg(short = 'F', long, value_name = "EXPRESSION")]
    pub filter: Option<String>,

    /// Records also what the origin answers
    #[arg(long)]
    pub both: bool,

    /// Capture ring, in MiB
    #[arg(short = 'B', long, value_name = "MIB", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=MOST_RING_MB))]
    pub ring_mb: u32,

    /// Bytes kept of each packet; what is cut off can't be replayed
    #[arg(short = 'S', long, value_name = "BYTES", default_value_t = 65535,
          value_parser = clap::value_parser!(u32).range(LEAST_SNAPLEN..=262_144))]
    pub snaplen: u32,

    /// Takes also frames that are not addressed to this host, as on a switch's mirror port
    #[arg(long)]
    pub promiscuous: bool,

    /// Begins another file when one would exceed so many MiB. Default: one file, or with --keep-mb
    /// an eighth of it
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=MOST_MB as u64))]
    pub rotate_mb: Option<u64>,

    /// Begins another file when the first packet of one is so many seconds old. Default: never
    #[arg(long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS as u64))]
    pub rotate_s: Option<u64>,

    /// Removes the oldest files so that all together never exceed so many MiB. Default: keep all
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(8..=MOST_MB as u64))]
    pub keep_mb: Option<u64>,

    /// Removes the oldest files so that there are never more; needs --rotate-mb, --rotate-s or
    /// --keep-mb. Default: keep all
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..),
          requires = "rotation")]
    pub keep_files: Option<u64>,

    /// User to become once everything is open, who then creates the files; root keeps the
    /// privileges. Default: nobody when started by root, else no change
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Prints this help
    #[arg(short = 'h', long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

impl CaptureOptions {
    /// Whether it is written to standard output.
    #[must_use]
    pub fn output_is_standard(&self) -> bool {
        self.output == Path::new(STANDARD_OUTPUT)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;
    use crate::command_line::{Command, CommandLine};

    fn parse(line: &str) -> Result<CaptureOptions, clap::Error> {
        let words = ["tcpcopy", "capture"]
            .into_iter()
            .chain(line.split_whitespace());
        CommandLine::try_parse_from(words).map(|line| match line.command {
            Some(Command::Capture(options)) => options,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn command_lines() {
        let options = parse("-x 80,10.0.0.1:81 -o web.pcapng -i eth0,eth1 --both").unwrap();
        assert_eq!(options.transfer, ["80", "10.0.0.1:81"]);
        assert_eq!(options.device, ["eth0", "eth1"]);
        assert!(options.both && !options.output_is_standard());
        assert_eq!((options.ring_mb, options.snaplen), (32, 65535));
        assert!(parse("-x 80 -o -").unwrap().output_is_standard());
        for line in ["-h", "--help"] {
            assert_eq!(
                parse(line).unwrap_err().kind(),
                ErrorKind::DisplayHelp,
                "{line}"
            );
        }
        for line in [
            "",
            "-x 80",
            "-o web.pcapng",
            "-x 80 -o a --rotate-mb 0",
            "-x 80 -o a --keep-mb 7",
            "-x 80 -o a --keep-files 3",
            "-x 80 -o a -n 2",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }
}
