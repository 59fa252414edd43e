//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};
use intercept_lib::table::{DEFAULT_TOMBSTONE, MAX_TOMBSTONE};
use intercept_lib::tunnel::DEFAULT_PORT;

use crate::doctor::DoctorOptions;
use crate::error::Error;

/// Where the journal is kept unless told otherwise.
const STATE_DIR: &str = "/run/intercept";
/// Where the log goes in the background unless told otherwise.
const DAEMON_LOG: &str = "/var/log/intercept.log";
/// Longest time between two lines of statistics: a week.
const MAX_INTERVAL_S: u64 = 7 * 24 * 3600;

/// Catches what the target answers to replayed sessions and reports it to tcpcopy. All other
/// packets of the target go their way.
///
/// On the target itself packets come through NFQUEUE: name the service's ports with --port, or
/// write the iptables rule yourself. On an assistant, a host that the target's replies are routed
/// to and that does not forward them, name the device with -i.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "intercept",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true,
    subcommand_value_name = "COMMAND"
)]
pub(crate) struct Options {
    /// Another job than to catch answers.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Install rules that queue what these ports send, and remove them at the end
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        help_heading = "On the target"
    )]
    pub(crate) port: Vec<u16>,

    /// Queue only what is sent from these addresses of the target
    #[arg(
        long,
        value_name = "IP",
        value_delimiter = ',',
        requires = "port",
        help_heading = "On the target"
    )]
    pub(crate) address: Vec<IpAddr>,

    /// Number of the (first) queue
    #[arg(
        short = 'q',
        long,
        value_name = "N",
        default_value_t = 0,
        help_heading = "On the target"
    )]
    pub(crate) queue: u16,

    /// Queues in use, from --queue on, each with a thread of its own
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "On the target")]
    pub(crate) queues: u16,

    /// Packets that may wait in each queue
    #[arg(long, value_name = "PACKETS", default_value_t = 65_535,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = "On the target")]
    pub(crate) queue_length: u32,

    /// Let packets pass when intercept is not there or too slow (queue bypass): for a target with
    /// users of its own, at the price that replies of replayed sessions may reach real clients
    #[arg(long, help_heading = "On the target")]
    pub(crate) fail_open: bool,

    /// Always let packets to these addresses pass
    #[arg(
        short = 'x',
        long,
        value_name = "IP",
        value_delimiter = ',',
        help_heading = "On the target"
    )]
    pub(crate) passlist: Vec<IpAddr>,

    /// Remove the rules of every intercept on this host, as one that was killed leaves them, and end
    #[arg(long, help_heading = "On the target")]
    pub(crate) cleanup: bool,

    /// Where to keep the journal that survives a crash
    #[arg(long, value_name = "DIR", default_value = STATE_DIR, help_heading = "On the target")]
    pub(crate) state_dir: PathBuf,

    /// Capture on this device instead, on a host that does not forward (an assistant)
    #[arg(
        short = 'i',
        long,
        value_name = "DEVICE",
        help_heading = "On an assistant"
    )]
    pub(crate) interface: Option<String>,

    /// Which packets to capture, as pcap-filter text; default: TCP from the ports of --port
    #[arg(
        short = 'F',
        long,
        value_name = "TEXT",
        requires = "interface",
        help_heading = "On an assistant"
    )]
    pub(crate) filter: Option<String>,

    /// Port of the tunnel
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_PORT,
          help_heading = "Tunnel")]
    pub(crate) listen_port: u16,

    /// Addresses of the tunnel; default: all with a key or --insecure, the loopback without
    #[arg(
        short = 'b',
        long,
        value_name = "IP",
        value_delimiter = ',',
        help_heading = "Tunnel"
    )]
    pub(crate) bind: Vec<IpAddr>,

    /// File with the key that tcpcopy uses too; without one only the loopback is served
    #[arg(long, value_name = "FILE", help_heading = "Tunnel")]
    pub(crate) key_file: Option<PathBuf>,

    /// Print a new key, and end
    #[arg(long, help_heading = "Tunnel")]
    pub(crate) generate_key: bool,

    /// Serve other hosts without a key: anybody who reaches the port can then read and stop
    /// replies of the target
    #[arg(long, conflicts_with = "key_file", help_heading = "Tunnel")]
    pub(crate) insecure: bool,

    /// Seconds for which packets of an ended session are still dropped, counted from the last
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_TOMBSTONE.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=MAX_TOMBSTONE.as_secs()))]
    pub(crate) tombstone_s: u64,

    /// Seconds between two lines of statistics, 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..=MAX_INTERVAL_S))]
    pub(crate) interval: u64,

    /// Write the log to this file instead of standard error; default with -d:
    /// /var/log/intercept.log
    #[arg(short = 'l', long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// Write the process number to this file and lock it
    #[arg(short = 'P', long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,

    /// Go on in the background once everything is set up
    #[arg(short = 'd', long)]
    pub(crate) daemon: bool,

    /// Print the version, and end
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// The other jobs.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Tries whether answers come to the intercept that runs here
    ///
    /// Exit status: 0 all is well, 1 something is wrong, 2 could not run.
    Doctor(DoctorOptions),
}

impl Options {
    /// Makes them fit for the background, where there is no standard error and another working
    /// directory.
    ///
    /// # Errors
    /// [`Error::Io`] when a path is relative and the working directory is not to be had.
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        if !self.daemon {
            return Ok(());
        }
        let log_file = self.log_file.get_or_insert_with(|| DAEMON_LOG.into());
        for path in [log_file, &mut self.state_dir]
            .into_iter()
            .chain(&mut self.pid_file)
        {
            *path = std::path::absolute(&*path).map_err(|source| {
                Error::io(format!("find {} from elsewhere", path.display()), source)
            })?;
        }
        Ok(())
    }

    /// Checks what one option alone does not show.
    ///
    /// # Errors
    /// [`Error::Options`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        let complain = |text: &str| Err(Error::Options(text.to_owned()));
        if u32::from(self.queue) + u32::from(self.queues) > 1 << 16 {
            return complain("--queue and --queues go beyond the last queue, 65535");
        }
        if self.interface.is_none() {
            return Ok(());
        }
        if self.filter.is_none() && self.port.is_empty() {
            return complain(
                "-i needs to know what to capture\n\nhint: name the target's ports with --port, \
                 or give a filter with -F, such as -F 'tcp and src port 8080'",
            );
        }
        if self.fail_open || !self.passlist.is_empty() || self.queues > 1 {
            return complain(
                "--fail-open, --passlist and --queues are for the target: with -i, packets are \
                 only looked at, and what is not forwarded goes nowhere anyway",
            );
        }
        Ok(())
    }

    /// The capture filter of an assistant.
    pub(crate) fn capture_filter(&self) -> String {
        if let Some(filter) = &self.filter {
            return filter.clone();
        }
        let join = |terms: Vec<String>| format!("({})", terms.join(" or "));
        let ports = join(
            self.port
                .iter()
                .map(|port| format!("src port {port}"))
                .collect(),
        );
        if self.address.is_empty() {
            return format!("tcp and {ports}");
        }
        let hosts = join(
            self.address
                .iter()
                .map(|host| format!("src host {host}"))
                .collect(),
        );
        format!("tcp and {ports} and {hosts}")
    }

    /// The addresses of the tunnel.
    pub(crate) fn bind_addresses(&self) -> Vec<IpAddr> {
        let text = match (
            self.bind.as_slice(),
            self.key_file.is_some() || self.insecure,
        ) {
            ([], true) => ["0.0.0.0", "::"],
            ([], false) => ["127.0.0.1", "::1"],
            (named, _) => return named.to_vec(),
        };
        text.iter()
            .filter_map(|address| address.parse().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("intercept").chain(line.split_whitespace());
        let options = Options::try_parse_from(words).map_err(|error| error.to_string())?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn lines_that_mean_something() {
        let options = parse("--port 80,8080 -q 7 --queues 3 -b 10.0.0.1,::1").unwrap();
        assert_eq!(
            (options.port.as_slice(), options.queue, options.queues),
            (&[80, 8080][..], 7, 3)
        );
        assert_eq!(options.bind_addresses().len(), 2);
        let loopback: Vec<IpAddr> = ["127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(parse("").unwrap().bind_addresses(), loopback);
        assert!(parse("--insecure").unwrap().bind_addresses()[0].is_unspecified());
        let filter = parse("-i eth0 --port 80,81 --address 10.1.1.1")
            .unwrap()
            .capture_filter();
        assert_eq!(
            filter,
            "tcp and (src port 80 or src port 81) and (src host 10.1.1.1)"
        );
        assert_eq!(parse("-i eth0 -F tcp").unwrap().capture_filter(), "tcp");
    }

    #[test]
    fn in_the_background_paths_are_absolute_and_the_log_is_a_file() {
        let mut options = parse("-d -P run/pid --state-dir state").unwrap();
        options.prepare().unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(options.pid_file, Some(here.join("run/pid")));
        assert_eq!(options.state_dir, here.join("state"));
        assert_eq!(options.log_file, Some(DAEMON_LOG.into()));
        let mut options = parse("-l log").unwrap();
        options.prepare().unwrap();
        assert_eq!(options.log_file, Some("log".into()));
    }

    #[test]
    fn lines_that_contradict_themselves() {
        for (line, complaint) in [
            ("-i eth0", "-i needs to know what to capture"),
            ("-i eth0 -F tcp --queues 2", "are for the target"),
            ("-q 65535 --queues 2", "beyond the last queue"),
            ("-F tcp", "--interface"),
            ("--queues 0", "--queues"),
            ("--insecure --key-file k", "cannot be used with"),
            ("--tombstone-s 0", "--tombstone-s"),
            ("--interval 604801", "--interval"),
            ("--interval 18446744073709551615", "--interval"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(complaint), "{line}: {error}");
        }
    }
}
