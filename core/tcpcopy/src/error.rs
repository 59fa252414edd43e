//! Why the program could not run: what is wrong, why, and what to do about it.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use tcpcopy_packet::Endpoint;

use crate::config::{MOST_INTERCEPTS, MOST_LANES};
use crate::host::HostError;
use crate::player::PlayerError;
use crate::plugin::PluginError;
use crate::pool::PoolError;
use crate::sources::SourcesError;
use crate::transfer::TransferError;

/// What stands between the message and the hint.
const HINT: &str = "\n\nhint: ";

/// What keeps the program from running; it ends with exit status 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `-x` can't be understood.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// `-c` can't be understood.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// `-i` can't be understood.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// Capture files can't be played.
    #[error(transparent)]
    Player(#[from] PlayerError),
    /// An item of `-s` can't be understood.
    #[error("'{item}' in -s is wrong: {source}")]
    Intercept {
        /// The item.
        item: String,
        /// What is wrong with it.
        #[source]
        source: HostError,
    },
    /// More intercepts than the tunnel code keeps apart.
    #[error("-s names {0} intercepts; at most {MOST_INTERCEPTS} are supported")]
    TooManyIntercepts(usize),
    /// `-H` is not an address.
    #[error("'{0}' in -H is not an address")]
    LocalhostAddress(String),
    /// A name that can't be resolved.
    #[error("can't resolve '{host}' in {option}: {source}")]
    Resolve {
        /// The option it stands in.
        option: &'static str,
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// Nothing in an origin and a target of the same address family.
    #[error("'{item}' in -x: {reason}")]
    NoCommonFamily {
        /// The item.
        item: String,
        /// Which side has which family only.
        reason: String,
    },
    /// `-H` of a family that no target has.
    #[error("-H {0} is of another family than the targets")]
    LocalhostFamily(IpAddr),
    /// More targets of the same traffic than make sense.
    #[error("-x sends the same traffic to {0} targets; at most {MOST_LANES} are supported")]
    TooManyTargets(usize),
    /// `-s` with ordinary connections, whose answers come back by themselves.
    #[error("-s names an intercept, and --upstream socket needs none")]
    InterceptForSockets,
    /// A header that only a connection of our own could begin with.
    #[error(
        "--proxy-protocol tells the target the real client, and --upstream raw speaks in its name"
    )]
    ProxyProtocolRaw,
    /// An address to connect from that this host has not.
    #[error("connections can't be made from {0}: it is no address of this host")]
    NotOurAddress(IpAddr),
    /// The kernel's connections can't be waited for.
    #[error("can't open the connections to the target: {0}")]
    Sockets(String),
    /// The copy would go to production.
    #[error(
        "the target {0} is an origin itself: its traffic would be copied to it again, and \
         production would get every request twice"
    )]
    TargetIsOrigin(Endpoint),
    /// A loopback target that would be sent packets from elsewhere.
    #[error(
        "the target {0} is a loopback address, and the kernel takes packets for it only from \
         loopback addresses"
    )]
    LoopbackTarget(Endpoint),
    /// Loopback clients whose packets can't leave.
    #[error(
        "the origin {0} has loopback clients only, and packets from loopback addresses can't leave \
         the host"
    )]
    LoopbackClients(Endpoint),
    /// No key for a tunnel that others can reach.
    #[error(
        "intercept at {0} is reached over the network, and there is no key: anyone could pose as it"
    )]
    NoKey(std::net::SocketAddr),
    /// The key file is of no use.
    #[error("can't use the key file {path}: {reason}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key file is no secret.
    #[error("the key file {0} can be read or written by others")]
    KeyFileExposed(PathBuf),
    /// The user to become does not exist.
    #[error("there is no user '{0}' to become")]
    NoUser(String),
    /// The privileges can't be dropped.
    #[error("can't become user '{user}': {source}")]
    BecomeUser {
        /// The user.
        user: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A capability is missing.
    #[error(
        "capturing and sending packets needs the capability {name}, which this process has not"
    )]
    Capability {
        /// The capability's name.
        name: &'static str,
        /// The program's own path, for the hint.
        program: PathBuf,
    },
    /// A file can't be opened, locked or written.
    #[error("can't {action} {path}: {source}")]
    File {
        /// Such as `open the log file`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another instance holds the pid file.
    #[error("{0} is locked: another tcpcopy runs with it")]
    AlreadyRunning(PathBuf),
    /// The capture can't be opened.
    #[error("can't capture on {device}: {reason}")]
    Capture {
        /// The device, or `any`.
        device: String,
        /// What went wrong.
        reason: String,
    },
    /// Mirrored traffic on no device in particular.
    #[error("--promiscuous takes what a device's mirror port sends, and -i names no device")]
    PromiscuousOnAny,
    /// The `-F` expression is of no use.
    #[error("can't use the filter: {0}")]
    Filter(String),
    /// The raw socket can't be opened.
    #[error("can't open a raw socket to send: {0}")]
    Sender(String),
    /// Intercept can't be reached at the start.
    #[error("can't reach intercept at {name}: {reason}")]
    InterceptUnreachable {
        /// As the user named it.
        name: String,
        /// What went wrong last.
        reason: String,
    },
    /// A plugin can't be used.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Something for plugins, and none of them.
    #[error("--plugin-config and --set tell plugins something, and there is no --plugin")]
    NoPlugin,
    /// A plugin for traffic that there is none of.
    #[error("--plugin {path}@{port}: no origin of -x has the port {port}")]
    PluginPort {
        /// The plugin's file.
        path: PathBuf,
        /// The port.
        port: u16,
    },
    /// An intercept that can't report what a plugin needs.
    #[error(
        "intercept at {0} is too old: it can't report the bytes that the target answers, and a \
         plugin needs them"
    )]
    InterceptOutdated(String),
    /// Something the system should never refuse.
    #[error("can't {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Transfer(error) => error.hint(),
            Self::Pool(error) => error.hint(),
            Self::Sources(error) => error.hint(),
            Self::Player(error) => error.hint(),
            Self::Intercept { .. } => "write HOST[:PORT], for example 10.0.0.9 or 10.0.0.9:36524",
            Self::TooManyIntercepts(_) => "start several tcpcopy, each with its own -x and -s",
            Self::LocalhostAddress(_) => "write for example -H 10.0.0.1",
            Self::Resolve { .. } => "check the name, or write the address",
            Self::NoCommonFamily { .. } => {
                "let -x, -c and -H be all IPv4 or all IPv6, or give IPv6 its own -x item"
            }
            Self::LocalhostFamily(_) => "give -H an address of the targets' family",
            Self::TooManyTargets(_) => "start several tcpcopy, each with a part of the targets",
            Self::InterceptForSockets => "leave out -s, or --upstream socket",
            Self::ProxyProtocolRaw => "leave out --proxy-protocol, or -s and --upstream raw",
            Self::NotOurAddress(_) => {
                "give -c addresses that 'ip address' shows, or use --upstream raw"
            }
            Self::Sockets(_) => return None,
            Self::TargetIsOrigin(_) => {
                "name a server under test as the target, or, where the origin is another host, \
                 name it: -x ORIGIN:PORT-TARGET:PORT"
            }
            Self::LoopbackTarget(_) => {
                "write the target's own address instead of a loopback one, or take loopback \
                 clients only: -x 127.0.0.1:80-127.0.0.1:8080"
            }
            Self::LoopbackClients(_) => "give them an address that can leave: -H ADDRESS",
            Self::NoKey(_) => {
                "make a key with 'intercept --generate-key' and give it to both with --key-file, \
                 or allow a tunnel open to everyone with --insecure on both"
            }
            Self::Key { .. } => "make one with 'intercept --generate-key'",
            Self::KeyFileExposed(path) => return Some(format!("chmod 600 {}", path.display())),
            Self::NoUser(_) => "name an existing user with --user, or keep root with --user root",
            Self::BecomeUser { .. } => "start as root, or leave --user out",
            Self::Capability { program, .. } => {
                return Some(format!(
                    "start it as root, or allow it once: sudo setcap cap_net_raw+ep {}",
                    program.display()
                ));
            }
            Self::File { .. } => return None,
            Self::AlreadyRunning(_) => "stop that one, or give this one another -P",
            Self::Capture { .. } => "check the device with 'ip link', and a smaller ring with -B",
            Self::PromiscuousOnAny => {
                "name the device that the mirrored traffic arrives on: -i eth1"
            }
            Self::Filter(_) => "-F takes what tcpdump takes, for example 'src net 10.0.0.0/8'",
            Self::Sender(_) => return None,
            Self::InterceptUnreachable { .. } => {
                "start intercept first and check -s, -p and --key-file, or let tcpcopy wait for it \
                 with -L"
            }
            Self::Plugin(_) => return None,
            Self::NoPlugin => "name the plugin's file with --plugin, or leave these out",
            Self::PluginPort { .. } => {
                "name the port that clients connect to at the origin, the one before the - in -x, \
                 or leave @PORT out for all of them"
            }
            Self::InterceptOutdated(_) => {
                "install the intercept of this tcpcopy's version there, or leave the plugin out"
            }
            Self::System { .. } => return None,
        };
        Some(hint.to_owned())
    }

    /// The whole text for the user: what and why, an empty line, what to do. A cause that brings
    /// its own hint knows better.
    #[must_use]
    pub fn user_text(&self) -> String {
        let text = self.to_string();
        match self.hint().filter(|_| !text.contains(HINT)) {
            Some(hint) => format!("tcpcopy: {text}{HINT}{hint}\n"),
            None => format!("tcpcopy: {text}\n"),
        }
    }
}
