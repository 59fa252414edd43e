//! The command line of `intercept doctor`.

use std::net::{IpAddr, SocketAddr};
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

    /// File with the key that intercept was started with
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
