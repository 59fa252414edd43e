//! The command line of `tcpcopy doctor`.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};

use crate::command_line::CommandLine;
use crate::error::StartError;
use crate::options::{DEFAULT_INTERCEPT_PORT, Options, UpstreamKind};

/// Longest wait for a client's packet, in seconds.
const MOST_WAIT_S: i64 = 3600;

/// What is examined: the options mean what they mean to a replay.
#[derive(Clone, Debug, Args)]
pub struct DoctorOptions {
    /// What would be replayed where, as for a replay
    #[arg(
        short = 'x',
        long,
        value_name = "TRANSFER,...",
        value_delimiter = ',',
        required = true
    )]
    transfer: Vec<String>,

    /// Where intercept runs: HOST[:PORT], several with commas. Default with --upstream raw: at each
    /// target's address
    #[arg(
        short = 's',
        long,
        value_name = "HOST[:PORT],...",
        value_delimiter = ','
    )]
    intercept: Vec<String>,

    /// Port of intercept where -s names none
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_INTERCEPT_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) intercept_port: u16,

    /// How the replay would reach the target. Default: raw with -s, else socket
    #[arg(long, value_name = "KIND", value_enum)]
    upstream: Option<UpstreamKind>,

    /// Devices to capture on, with commas, or any for all, or files. Default: any
    #[arg(
        short = 'i',
        long = "input",
        value_name = "DEVICE,...",
        value_delimiter = ','
    )]
    device: Vec<String>,

    /// The replay's own filter, in pcap-filter syntax. Default: none
    #[arg(short = 'F', long, value_name = "EXPRESSION")]
    filter: Option<String>,

    /// Takes also frames that are not addressed to this host
    #[arg(long)]
    promiscuous: bool,

    /// Addresses that replace the clients', or for --upstream socket those of this host that
    /// connections are made from; the first that fits is tried. Default: none
    #[arg(short = 'c', long, value_name = "ADDRESS,...", value_delimiter = ',')]
    client_pool: Vec<String>,

    /// File with the key shared with intercept
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Allows a tunnel without a key
    #[arg(long, conflicts_with = "key_file")]
    insecure: bool,

    /// Sends the probe in the name of this client. Default: one of -c, else one that is seen talking
    /// to the origin, else this host itself
    #[arg(long, value_name = "ADDRESS")]
    pub(super) probe_source: Option<IpAddr>,

    /// Longest wait for a packet of a client, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=MOST_WAIT_S))]
    wait_s: u32,

    /// Prints JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Prints this help
    #[arg(short = 'h', long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

impl DoctorOptions {
    /// How long to wait for a packet of a client.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_s.into())
    }

    /// The options of the replay that is examined.
    pub(super) fn replay(&self) -> Result<Options, StartError> {
        let mut words = vec![OsString::from("tcpcopy")];
        let mut give = |option: &str, value: &OsStr| {
            let mut word = OsString::from(option);
            word.push("=");
            word.push(value);
            words.push(word);
        };
        let port = self.intercept_port.to_string();
        give("--transfer", self.transfer.join(",").as_ref());
        give("--intercept-port", port.as_ref());
        for (option, values) in [
            ("--intercept", &self.intercept),
            ("--input", &self.device),
            ("--client-pool", &self.client_pool),
        ] {
            if !values.is_empty() {
                give(option, values.join(",").as_ref());
            }
        }
        if let Some(filter) = &self.filter {
            give("--filter", filter.as_ref());
        }
        if let Some(path) = &self.key_file {
            give("--key-file", path.as_ref());
        }
        if let Some(kind) = self.upstream.and_then(|kind| kind.to_possible_value()) {
            give("--upstream", kind.get_name().as_ref());
        }
        for (option, is_given) in [
            ("--insecure", self.insecure),
            ("--promiscuous", self.promiscuous),
        ] {
            words.extend(is_given.then(|| option.into()));
        }
        let line = CommandLine::try_parse_from(words);
        line.map(|line| line.options)
            .map_err(|error| StartError::System {
                action: "read the options as those of a replay",
                source: std::io::Error::other(error),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::Command;

    fn parse(line: &str) -> DoctorOptions {
        let words = ["tcpcopy", "doctor"].into_iter().chain(line.split(' '));
        match CommandLine::try_parse_from(words).expect(line).command {
            Some(Command::Doctor(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_examined_is_what_would_be_replayed() {
        let options =
            parse("-x 80-a:81,82-b:83 -s c:1,d -p 7 -i eth0,eth1 --key-file k --wait-s 3");
        let replay = options.replay().expect("options of a replay");
        assert_eq!(replay.transfer, ["80-a:81", "82-b:83"]);
        assert_eq!(replay.intercept, ["c:1", "d"]);
        assert_eq!(replay.intercept_port, 7);
        assert_eq!(replay.input, ["eth0", "eth1"]);
        assert_eq!(replay.key_file, Some("k".into()));
        assert!(!replay.insecure && !replay.promiscuous);
        assert!(replay.client_pool.is_empty());
        assert_eq!(options.wait(), Duration::from_secs(3));
    }

    #[test]
    fn what_is_captured_and_in_whose_name() {
        let line = "-x 80-a:81 -F tcp --promiscuous -c 192.0.2.7,192.0.3.x --insecure";
        let replay = parse(line).replay().expect(line);
        assert!(replay.promiscuous && replay.insecure);
        assert_eq!(replay.filter.as_deref(), Some("tcp"));
        assert_eq!(replay.client_pool, ["192.0.2.7", "192.0.3.x"]);
    }

    #[test]
    fn how_the_target_is_reached_is_as_told() {
        let replay = |line| parse(line).replay().expect(line).upstream;
        assert_eq!(replay("-x 80-a:81"), None);
        let line = "-x 80-a:81 --upstream raw";
        assert_eq!(replay(line), Some(UpstreamKind::Raw));
        let line = "-x 80-a:81 --upstream socket";
        assert_eq!(replay(line), Some(UpstreamKind::Socket));
    }
}
