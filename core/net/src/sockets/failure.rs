//! Why a connection failed, in the words that a user can act on.

use rustix::io::Errno;

/// Why there is no connection, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SocketFailure {
    /// Nobody listens at the target's port (`ECONNREFUSED`), at once or later.
    #[error("the target refuses connections")]
    Refused,
    /// The target has reset the connection after it was established.
    #[error("the target has reset the connection")]
    Reset,
    /// The target has not answered for as long as the kernel tries (`ETIMEDOUT`).
    #[error("the target does not answer")]
    TimedOut,
    /// No way to the target: no route, or a router or the own device says so.
    #[error("the target is unreachable")]
    Unreachable,
    /// Every local port that could be used towards the target is in use, or no source address is
    /// of the target's family (`EADDRNOTAVAIL`).
    #[error("no local port is left for another connection to the target")]
    NoPort,
    /// The process or the host has no file descriptor left (`EMFILE`, `ENFILE`).
    #[error("no file descriptor is left for another connection")]
    NoDescriptor,
    /// Anything else.
    #[error("the connection failed: {}", std::io::Error::from_raw_os_error(*.errno))]
    Other {
        /// The operating system's error number, for a log.
        errno: i32,
    },
}

impl From<Errno> for SocketFailure {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::CONNREFUSED => Self::Refused,
            Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED | Errno::NOTCONN => Self::Reset,
            Errno::TIMEDOUT => Self::TimedOut,
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::HOSTDOWN => {
                Self::Unreachable
            }
            Errno::ADDRNOTAVAIL => Self::NoPort,
            // `ENOSPC` is epoll's: the user's limit of watched descriptors.
            Errno::MFILE | Errno::NFILE | Errno::NOSPC => Self::NoDescriptor,
            other => Self::Other {
                errno: other.raw_os_error(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_keeps_its_number() {
        let failure = SocketFailure::from(Errno::PERM);
        assert_eq!(failure, SocketFailure::Other { errno: libc::EPERM });
        assert_eq!(
            failure.to_string(),
            "the connection failed: Operation not permitted (os error 1)"
        );
    }
}
