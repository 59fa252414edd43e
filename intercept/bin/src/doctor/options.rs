//! The command line of `intercept doctor`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use intercept_lib::tunnel::DEFAULT_PORT;

/// What is examined: the options mean what they mean to the intercept that runs here.
#[derive(Clone, Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Ports of the service on this host, the target
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        required_unless_present = "interface",
        conflicts_with = "interface",
        help_heading = "On the target"
    )]
    pub(super) port: Vec<u16>,

    /// Address of the service. Default: the first of this host
    #[arg(
        long,
        value_name = "IP",
        conflicts_with = "interface",
        help_heading = "On the target"
    )]
    pub(super) address: Option<IpAddr>,

    /// Number of the queue that the rule names; without it no queue is looked for
    #[arg(
        short = 'q',
        long,
        value_name = "N",
        conflicts_with = "interface",
        help_heading = "On the target"
    )]
    pub(super) queue: Option<u16>,

    /// The device that is captured on, on an assistant
    #[arg(
        short = 'i',
        long,
        value_name = "DEVICE",
        help_heading = "On an assistant"
    )]
    pub(super) interface: Option<String>,

    /// Which packets are captured, as pcap-filter text
    #[arg(
        short = 'F',
        long,
        value_name = "TEXT",
        requires = "interface",
        help_heading = "On an assistant"
    )]
    pub(super) filter: Option<String>,

    /// The target, to which a probe is sent; without it only this host is looked at
    #[arg(
        long,
        value_name = "IP:PORT",
        requires = "interface",
        help_heading = "On an assistant"
    )]
    pub(super) target: Option<SocketAddr>,

    /// Sends the probe in the name of this client. Default: this host itself
    #[arg(long, value_name = "IP")]
    pub(super) probe_source: Option<IpAddr>,

    /// Port of the tunnel
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    pub(super) listen_port: u16,

    /// Addresses of the tunnel that intercept was started with; default: the loopback
    #[arg(short = 'b', long, value_name = "IP", value_delimiter = ',')]
    pub(super) bind: Vec<IpAddr>,

    /// File with the key that intercept was started with
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl DoctorOptions {
    /// Where intercept listens for tunnels, as seen from this host.
    pub(super) fn tunnel_addresses(&self) -> Vec<SocketAddr> {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let named: &[IpAddr] = match self.bind.as_slice() {
            [] => &loopback,
            named => named,
        };
        let reachable = |address: &IpAddr| match address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            named => *named,
        };
        let addresses = named.iter().map(reachable);
        addresses
            .map(|address| SocketAddr::new(address, self.listen_port))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::options::{Command, Options};

    #[test]
    fn the_tunnel_is_where_intercept_was_told_to_listen() {
        for (line, expected) in [
            ("", "127.0.0.1:36524 [::1]:36524"),
            ("-p 7", "127.0.0.1:7 [::1]:7"),
            ("-b ::1", "[::1]:36524"),
            ("-b 0.0.0.0,::", "127.0.0.1:36524 [::1]:36524"),
            ("--bind 10.0.0.9,fd00::9 -p 7", "10.0.0.9:7 [fd00::9]:7"),
        ] {
            let words = format!("intercept doctor --port 80 {line}");
            let options = Options::try_parse_from(words.split_whitespace()).unwrap();
            let Some(Command::Doctor(options)) = options.command else {
                panic!("{line}: another job")
            };
            let addresses = options.tunnel_addresses();
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses.join(" "), expected, "{line}");
        }
    }
}
