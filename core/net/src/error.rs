//! What can fail on the way to the kernel, in words for the user.

use std::io;
use std::net::IpAddr;

use crate::filter::FilterError;

/// A failure of the operating system or of the configuration. Losing single packets is not one:
/// that is counted, by [`crate::ring::CaptureStatistics`] and [`crate::raw::SendErrors`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The process lacks a capability; the binary knows its own path and prints the setcap hint.
    #[error("cannot {operation}: the capability {capability} is missing")]
    MissingCapability {
        /// What was tried.
        operation: &'static str,
        /// The capability's name as `setcap` and `capsh` spell it, in capitals.
        capability: &'static str,
    },
    /// No network device has the name.
    #[error(
        "no network device is called {device:?}\n\nhint: `ip link` lists the devices of this network namespace; `any` captures on all of them"
    )]
    NoSuchDevice {
        /// The name as given.
        device: String,
    },
    /// The device is down, and this kernel cannot shard the capture on a device that is down.
    #[error("cannot capture on {device:?}: it is down\n\nhint: `ip link set dev {device} up`")]
    DeviceDown {
        /// The device's name.
        device: String,
    },
    /// A source address that this host does not have.
    #[error("{address} is not an address of this host\n\nhint: `ip address` lists them")]
    NotOwnAddress {
        /// The address as given.
        address: IpAddr,
    },
    /// A parameter outside its range.
    #[error("{0}")]
    InvalidConfig(String),
    /// The capture filter does not compile or is too long for the kernel.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Any other refusal of the operating system.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

/// Opening packet sockets and raw sockets needs it.
pub(crate) const CAP_NET_RAW: &str = "CAP_NET_RAW";
/// Marking packets needs it (before Linux 5.17, CAP_NET_RAW is not enough).
pub(crate) const CAP_NET_ADMIN: &str = "CAP_NET_ADMIN";

impl NetError {
    /// Names a failed operation, and the capability if its absence is what the error says.
    pub(crate) fn of(
        operation: &'static str,
        capability: &'static str,
        error: impl Into<io::Error>,
    ) -> Self {
        let source = error.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::MissingCapability {
                operation,
                capability,
            },
            _ => Self::Io { operation, source },
        }
    }

    /// Names a failed operation that needs no capability of its own.
    pub(crate) fn io(operation: &'static str, error: impl Into<io::Error>) -> Self {
        Self::Io {
            operation,
            source: error.into(),
        }
    }
}
