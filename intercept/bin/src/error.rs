//! What keeps intercept from running, in words for the user.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use intercept_lib::tunnel::KeyError;
use tcpcopy_net::NetError;

/// A failure of the operating system or of the configuration; what peers and packets do is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Options that contradict each other.
    #[error("{0}")]
    Options(String),
    /// A capability that is not there.
    #[error(
        "cannot {operation}: the capability {capability} is missing\n\nhint: run as root, or \
         give the program its capabilities: setcap cap_net_admin,cap_net_raw+ep {program}"
    )]
    MissingCapability {
        /// What it is needed for.
        operation: &'static str,
        /// Its name.
        capability: &'static str,
        /// This program's path.
        program: String,
    },
    /// Another process has the queue.
    #[error(
        "queue {0} is in use by another process\n\nhint: if that is an intercept, use it: one \
         serves many ports and many tcpcopy instances; else choose another queue with --queue \
         (/proc/net/netfilter/nfnetlink_queue lists those taken)"
    )]
    QueueInUse(u16),
    /// Another process listens there.
    #[error(
        "cannot listen on {address}: the address is in use\n\nhint: if another intercept runs \
         already, use it: one serves many ports and many tcpcopy instances; else choose another \
         port with --listen-port"
    )]
    AddressInUse {
        /// Where.
        address: SocketAddr,
    },
    /// Another intercept has rules for one of the ports.
    #[error(
        "another intercept has a rule for port {port} (its comment is {comment}), and of two only \
         one would see the packets\n\nhint: one intercept serves many ports and many tcpcopy \
         instances: name all ports with its --port; if the other one is dead, remove its rules \
         with intercept --cleanup"
    )]
    PortTaken {
        /// The port.
        port: String,
        /// The comment of the other one's rule, with the number of its queue.
        comment: String,
    },
    /// A key file that should not be used.
    #[error(
        "the key file {path} can be read by others\n\nhint: chmod 600 {path}",
        path = .0.display()
    )]
    KeyFileExposed(PathBuf),
    /// A key file without a key.
    #[error(
        "the key file {path} holds no key: {source}\n\nhint: intercept --generate-key > {path}",
        path = .path.display()
    )]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with its text.
        source: KeyError,
    },
    /// Another intercept has the file.
    #[error(
        "{what} {path} is in use by another intercept\n\nhint: choose another with {option}",
        path = .path.display()
    )]
    Locked {
        /// What kind of file.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The option that moves it.
        option: &'static str,
    },
    /// A firewall command failed.
    #[error("{command} failed: {stderr}\n\nhint: {hint}")]
    Rule {
        /// The command with its arguments.
        command: String,
        /// What it said, or why it could not be started.
        stderr: String,
        /// What to do.
        hint: &'static str,
    },
    /// Capture or raw sending.
    #[error("{}", net_message(.0))]
    Net(#[from] NetError),
    /// A thread ended that never should.
    #[error("{0} has stopped: {1}")]
    Stopped(String, String),
    /// Any other refusal of the operating system.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was tried.
        operation: String,
        /// What the system answered.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(operation: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            operation: operation.into(),
            source: source.into(),
        }
    }
}

/// The error with its cause, which [`NetError`] leaves to the one who prints it.
fn net_message(error: &NetError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
