//! The command line: one field an option, with its meaning, unit, range and default.
//!
//! The letters are those of tcpcopy 1.3 and mean the same, or what its help said where the program
//! did something else. Here only the shape of a value is checked; what the values mean together is
//! [`crate::config`]'s business.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use tcpcopy_engine::{Latency, RateLimit};

use crate::player::{Schedule, Speed, TimePoint, parse_speed, parse_time_point};
use crate::plugin::PluginOptions;
use crate::proxy_protocol::ProxyProtocol;
use crate::shaping::{DEFAULT_RAMP_S, parse_copies, parse_latency, parse_percent, parse_rate};

/// Port at which intercept listens, unless told otherwise.
pub const DEFAULT_INTERCEPT_PORT: u16 = 36524;
/// Largest source port shift.
const MOST_PORT_SHIFT: i64 = 1023;
/// Most shards, thus threads: more than any capture device has queues.
const MOST_SHARDS: i64 = 64;
/// Most tunnel connections to one intercept; each costs both ends a socket and its buffers.
const MOST_TUNNELS: i64 = 16;
/// Most MiB of capture ring per shard; the kernel locks them in memory, and counts their bytes in 32
/// bits.
const MOST_RING_MB: i64 = 4095;
/// Fewest MiB for captured data.
const LEAST_MEMORY_MB: i64 = 16;
/// Smallest IP packet size every IPv4 host must accept (RFC 791), in bytes.
const LEAST_MTU: i64 = 576;
/// Smallest segment that leaves room for TCP options in the minimal IP packet, in bytes.
const LEAST_MSS: i64 = 88;
/// Shortest capture that holds Ethernet, VLAN, IP and TCP headers with options, in bytes.
const LEAST_SNAPLEN: i64 = 134;
/// A week: longer waits are typing errors.
const MOST_SECONDS: i64 = 7 * 24 * 3600;

/// Heading in the help.
const CAPTURE: &str = "What is captured";
/// Heading in the help.
const FILES: &str = "How capture files are played";
/// Heading in the help.
const REPLAY: &str = "What is replayed";
/// Heading in the help.
const MANNER: &str = "How it is replayed";
/// Heading in the help.
const INTERCEPT: &str = "Intercept";
/// Heading in the help.
const RUNNING: &str = "Running";

/// Reproduces the live TCP traffic of an origin server against a target server: connection by
/// connection, byte by byte, in time.
///
/// Without -s it speaks through ordinary connections of this host, and nothing else is needed
/// anywhere. With -s it speaks in each client's own name, and an intercept must run where the
/// target's answers can be caught.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What is replayed where: [ORIGIN:]PORT-TARGET:PORT, several with commas. Without ORIGIN every
    /// address that receives on PORT is an origin. Hosts are names or addresses, IPv6 in brackets.
    /// Example: 80-10.0.0.9:8080
    #[arg(help_heading = CAPTURE,
        short = 'x',
        long,
        value_name = "TRANSFER,...",
        value_delimiter = ',',
        required = true
    )]
    pub transfer: Vec<String>,

    /// Devices to capture on, with commas, or any for all; or capture files to replay (pcap or
    /// pcapng, gzip or zstd of either, - for standard input), merged by time. Default: any
    #[arg(help_heading = CAPTURE, short = 'i', long = "input", value_name = "DEVICE|FILE,...",
          value_delimiter = ',')]
    pub input: Vec<String>,

    /// How capture files are played.
    #[command(flatten)]
    pub play: PlayOptions,

    /// Narrows what is captured further, in pcap-filter syntax. Default: all that -x names
    #[arg(help_heading = CAPTURE, short = 'F', long, value_name = "EXPRESSION")]
    pub filter: Option<String>,

    /// Capture ring of each shard, in MiB
    #[arg(help_heading = CAPTURE, short = 'B', long, value_name = "MIB", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=MOST_RING_MB))]
    pub ring_mb: u32,

    /// Bytes captured of each packet; a shorter one leaves holes that end the session
    #[arg(help_heading = CAPTURE, short = 'S', long, value_name = "BYTES", default_value_t = 65535,
          value_parser = clap::value_parser!(u32).range(LEAST_SNAPLEN..=262_144))]
    pub snaplen: u32,

    /// Takes also frames that are not addressed to this host, as on a switch's mirror port
    #[arg(help_heading = CAPTURE, long)]
    pub promiscuous: bool,

    /// Sessions for each captured connection, the first included, 1 to 1023, with decimals: 1.5
    /// replays every second connection twice
    #[arg(help_heading = REPLAY, short = 'n', long, value_name = "COUNT", default_value = "1",
          value_parser = parse_copies)]
    pub copies: f64,

    /// Part of the connections to replay, in per cent, above 0 up to 100. Default: all
    #[arg(help_heading = REPLAY, short = 'r', long, value_name = "PERCENT",
          value_parser = parse_percent)]
    pub percent: Option<f64>,

    /// Starts with one per cent of the connections and rises to all of them in so many seconds, 100
    /// where no number is given; overrides -r. Default: all from the start
    #[arg(help_heading = REPLAY, short = 'g', long = "gradual", value_name = "SECONDS",
          num_args = 0..=1, default_missing_value = DEFAULT_RAMP_S,
          value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
    pub gradual_s: Option<u32>,

    /// Replays at most so many connections, or with rps behind the number requests, a second, all
    /// copies together; each of several shards takes an even part of it, and each of several targets
    /// the whole. What is above is left out. Default: no bound
    #[arg(help_heading = REPLAY, long, value_name = "N|Nrps", value_parser = parse_rate)]
    pub rate: Option<RateLimit>,

    /// Replays only connections whose SYN was captured
    #[arg(help_heading = REPLAY, short = 'O', long)]
    pub only_complete: bool,

    /// Does not wait for the target's answer before the next request of a connection
    #[arg(help_heading = REPLAY, short = 'W', long)]
    pub no_wait: bool,

    /// Address that replaces a loopback client's, since packets from 127.0.0.1 can't leave the
    /// host. Default: loopback clients keep theirs
    #[arg(help_heading = REPLAY, short = 'H', long, value_name = "ADDRESS")]
    pub localhost_address: Option<String>,

    /// Addresses that replace the clients' own, or for --upstream socket those of this host that
    /// connections are made from, as a list of addresses, a.b.c.x (.1 to .254) or
    /// networks such as 10.1.2.0/24 (without its network and broadcast address); at most 65536.
    /// Default: clients keep theirs
    #[arg(help_heading = REPLAY, short = 'c', long, value_name = "ADDRESS,...",
          value_delimiter = ',')]
    pub client_pool: Vec<String>,

    /// Shifts the source ports, 0 to 1023, so that several tcpcopy of the same clients don't meet
    #[arg(help_heading = REPLAY, short = 'f', long, value_name = "SHIFT", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=MOST_PORT_SHIFT))]
    pub port_shift: u16,

    /// Largest IP packet towards the target, in bytes, 576 to 65535
    #[arg(help_heading = MANNER, short = 'M', long, value_name = "BYTES", default_value_t = 1500,
          value_parser = clap::value_parser!(u16).range(LEAST_MTU..))]
    pub mtu: u16,

    /// MSS offered for connections whose SYN was not seen, in bytes
    #[arg(help_heading = MANNER, short = 'D', long, value_name = "BYTES", default_value_t = 1460,
          value_parser = clap::value_parser!(u16).range(LEAST_MSS..))]
    pub mss: u16,

    /// Round-trip time that the acknowledgements follow, in ms; 0 is as fast as possible. Default:
    /// as measured for each captured client
    #[arg(help_heading = MANNER, short = 'R', long, value_name = "MS")]
    pub rtt_ms: Option<u32>,

    /// How much further away the clients seem to the target, both ways together, in ms, and by how
    /// much that varies: 80 or 80±20 (or 80+-20). Default: not at all
    #[arg(help_heading = MANNER, long, value_name = "MS[±JITTER]", value_parser = parse_latency)]
    pub latency: Option<Latency>,

    /// Ends a session whose target has not answered for so long, in seconds
    #[arg(help_heading = MANNER, short = 't', long, value_name = "SECONDS", default_value_t = 600,
          value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
    pub session_timeout_s: u32,

    /// Ends a session on which nothing happened for so long, in seconds. Default: -t and 120 more
    #[arg(help_heading = MANNER, short = 'k', long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
    pub idle_timeout_s: Option<u32>,

    /// Captured data held at once, all shards together, in MiB; what exceeds it is dropped and
    /// counted. The capture rings (-B) and the memory of plugins come on top
    #[arg(help_heading = MANNER, short = 'm', long, value_name = "MIB", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(LEAST_MEMORY_MB..))]
    pub memory_mb: u32,

    /// Threads that share the connections, 1 to 64
    #[arg(help_heading = MANNER, long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=MOST_SHARDS))]
    pub shards: u16,

    /// Seed of all that is random, to repeat a run. Default: another each time
    #[arg(help_heading = MANNER, long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// How bytes travel: socket uses ordinary connections of this host and needs nothing else on any
    /// host; raw sends packets in each client's own name and needs intercept. Default: raw with -s,
    /// else socket
    #[arg(help_heading = MANNER, long, value_name = "KIND", value_enum)]
    pub upstream: Option<UpstreamKind>,

    /// Tells the target the real client, with a PROXY protocol header before each connection's
    /// bytes; for --upstream socket. Default: none
    #[arg(help_heading = MANNER, long, value_name = "VERSION", value_enum)]
    pub proxy_protocol: Option<ProxyProtocol>,

    /// Processor time this program may use, in per cent of one processor, 1 to 100 for each shard;
    /// what it can't do in that is left out by name. A thread that reads files comes on top. Default: no
    /// bound
    #[arg(help_heading = MANNER, long, value_name = "PERCENT",
          value_parser = clap::value_parser!(u32).range(1..=100 * MOST_SHARDS))]
    pub cpu_percent: Option<u32>,

    /// The plugins between clients and target.
    #[command(flatten)]
    pub plugins: PluginOptions,

    /// Where intercept runs: HOST[:PORT], several with commas; every session is registered with all
    /// of them, and all of them must be there. Default with --upstream raw: at each target's address
    #[arg(help_heading = INTERCEPT,
        short = 's',
        long,
        value_name = "HOST[:PORT],...",
        value_delimiter = ','
    )]
    pub intercept: Vec<String>,

    /// Port of intercept where -s names none
    #[arg(help_heading = INTERCEPT, short = 'p', long, value_name = "PORT",
          default_value_t = DEFAULT_INTERCEPT_PORT,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub intercept_port: u16,

    /// Tunnel connections of each shard to each intercept, 1 to 16
    #[arg(help_heading = INTERCEPT, short = 'C', long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=MOST_TUNNELS))]
    pub tunnels: u8,

    /// Goes on without intercept and tries until it is there, also at the start
    #[arg(help_heading = INTERCEPT, short = 'L', long)]
    pub lonely: bool,

    /// File with the key shared with intercept, as written by intercept --generate-key. Default: no
    /// key, which is refused for all but loopback
    #[arg(help_heading = INTERCEPT, long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Allows a tunnel without a key, open to everyone on the network
    #[arg(help_heading = INTERCEPT, long, conflicts_with = "key_file")]
    pub insecure: bool,

    /// Runs in the background, once everything is open
    #[arg(help_heading = RUNNING, short = 'd', long)]
    pub daemon: bool,

    /// Writes the process id to this file and locks it. Default: none
    #[arg(help_heading = RUNNING, short = 'P', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// User to become once everything is open; root keeps the privileges. Default: nobody when
    /// started by root, else no change
    #[arg(help_heading = RUNNING, long, value_name = "NAME")]
    pub user: Option<String>,

    /// Time that SIGTERM leaves to deliver what has been captured, in seconds
    #[arg(help_heading = RUNNING, long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(0..=MOST_SECONDS))]
    pub drain_s: u32,

    /// Writes the log to this file; SIGHUP opens it anew, if --user may create it. Default:
    /// standard error, with -d /var/log/tcpcopy.log
    #[arg(help_heading = RUNNING, short = 'l', long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Form of the log
    #[arg(help_heading = RUNNING, long, value_name = "FORMAT", value_enum,
          default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace
    #[arg(help_heading = RUNNING, long, value_name = "LEVEL", value_enum,
          default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,

    /// Time between two lines of statistics in the log, in seconds
    #[arg(help_heading = RUNNING, long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=MOST_SECONDS))]
    pub interval: u32,

    /// Answers 'tcpcopy ctl' on this Unix socket, which only the present user may use. Default: none
    #[arg(help_heading = RUNNING, long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,

    /// Writes the final balance to this file, as JSON. Default: none
    #[arg(help_heading = RUNNING, long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Prints the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    /// Prints this help
    #[arg(short = 'h', long, action = ArgAction::HelpShort)]
    help: Option<bool>,
}

/// How capture files are played.
#[derive(Args, Clone, Debug)]
pub struct PlayOptions {
    /// How many times as fast as captured, 0.1 to 100, or max for as fast as the target takes it
    #[arg(help_heading = FILES, short = 'a', long = "speed", value_name = "TIMES|max",
          default_value = "1", value_parser = parse_speed)]
    pub speed: Speed,

    /// Shortens gaps in the captured traffic that are longer than so many ms to that. Default: gaps
    /// stay
    #[arg(help_heading = FILES, short = 'I', long, value_name = "MS")]
    pub idle_cut_ms: Option<u32>,

    /// Plays the files so often
    #[arg(help_heading = FILES, short = 'T', long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,

    /// First moment to play: RFC 3339, or seconds since the begin of the files. Default: their begin
    #[arg(help_heading = FILES, long, value_name = "TIME",
          value_parser = |text: &str| parse_time_point("--from", text))]
    pub from: Option<TimePoint>,

    /// Last moment to play, as --from. Default: their end
    #[arg(help_heading = FILES, long, value_name = "TIME",
          value_parser = |text: &str| parse_time_point("--until", text))]
    pub until: Option<TimePoint>,
}

impl PlayOptions {
    /// When packets are due.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        Schedule {
            speed: self.speed,
            idle_cut: self.idle_cut_ms.map(|ms| Duration::from_millis(ms.into())),
            rounds: self.rounds,
            from: self.from,
            until: self.until,
        }
    }
}

/// How bytes travel to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UpstreamKind {
    /// Packets in each client's own name; intercept catches the answers.
    Raw,
    /// Ordinary connections of this host.
    Socket,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// We stop.
    Error,
    /// Worth waking someone.
    Warn,
    /// A change that a user cares about.
    Info,
    /// A decision off the common path.
    Debug,
    /// Each packet.
    Trace,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::command_line::CommandLine;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        let words = std::iter::once("tcpcopy").chain(line.split_whitespace());
        CommandLine::try_parse_from(words).map(|line| line.options)
    }

    #[test]
    fn help_and_version_succeed_in_both_forms() {
        for (line, kind) in [
            ("-h", ErrorKind::DisplayHelp),
            ("--help", ErrorKind::DisplayHelp),
            ("-v", ErrorKind::DisplayVersion),
            ("--version", ErrorKind::DisplayVersion),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!((error.kind(), error.exit_code()), (kind, 0), "{line}");
        }
    }

    #[test]
    fn every_option_has_a_long_name_and_a_help_text() {
        let command = CommandLine::command();
        let mut letters: Vec<char> = Vec::new();
        for argument in command.get_arguments() {
            assert!(argument.get_long().is_some(), "{argument:?}");
            assert!(argument.get_help().is_some(), "{argument:?}");
            letters.extend(argument.get_short());
        }
        for letter in "xHcspiaITFBSnfrgmMDRtkClPdOWLvh".chars() {
            assert!(letters.contains(&letter), "-{letter} is missing");
        }
    }

    #[test]
    fn wrong_command_lines_exit_2() {
        for line in [
            "",
            "-x",
            "-x 80-a:80 -n 0",
            "-x 80-a:80 -n 1024",
            "-x 80-a:80 -r 0",
            "-x 80-a:80 -g 0",
            "-x 80-a:80 --rate 0rps",
            "-x 80-a:80 --latency 5±6",
            "-x 80-a:80 -f 1024",
            "-x 80-a:80 -M 575",
            "-x 80-a:80 -p 0",
            "-x 80-a:80 -p 65536",
            "-x 80-a:80 -B 0",
            "-x 80-a:80 -B 4096",
            "-x 80-a:80 -m 15",
            "-x 80-a:80 -C 17",
            "-x 80-a:80 -t 0",
            "-x 80-a:80 --shards 0",
            "-x 80-a:80 --log-format xml",
            "-x 80-a:80 --unknown",
            "-x 80-a:80 -x 81-a:81 stray",
            "-x 80-a:80 --insecure --key-file k",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
    }

    #[test]
    fn a_ramp_may_go_without_its_seconds() {
        for (line, seconds) in [
            ("-x 80-a:80 -g", 100),
            ("-g -x 80-a:80", 100),
            ("-x 80-a:80 -g 30", 30),
            ("-x 80-a:80 --gradual=5", 5),
        ] {
            assert_eq!(parse(line).unwrap().gradual_s, Some(seconds), "{line}");
        }
    }

    #[test]
    fn lists_split_at_commas_and_repeat() {
        let options = parse("-x 80-a:80,81-a:81 -x 82-b:82 -s a,b:1 -i eth0,eth1").unwrap();
        assert_eq!(options.transfer, ["80-a:80", "81-a:81", "82-b:82"]);
        assert_eq!(options.intercept, ["a", "b:1"]);
        assert_eq!(options.input, ["eth0", "eth1"]);
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let options = parse("-x 80-a:80").unwrap();
        assert_eq!(options.intercept_port, 36524);
        assert_eq!((options.ring_mb, options.snaplen), (32, 65535));
        assert_eq!(
            (options.copies, options.port_shift, options.percent),
            (1.0, 0, None)
        );
        assert_eq!(
            (options.memory_mb, options.mtu, options.mss),
            (1024, 1500, 1460)
        );
        assert_eq!(
            (options.session_timeout_s, options.idle_timeout_s),
            (600, None)
        );
        assert_eq!(
            (options.interval, options.drain_s, options.shards),
            (30, 30, 1)
        );
        assert_eq!(
            (options.gradual_s, options.rate, options.latency),
            (None, None, None)
        );
        assert!(!options.daemon && !options.lonely && !options.no_wait);
    }
}
