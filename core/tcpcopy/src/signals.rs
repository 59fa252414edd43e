//! Signals as something to wait for, beside everything else.
//!
//! SIGPIPE needs no care: the Rust runtime ignores it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What the user asks for by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: come to an end.
    Stop,
    /// SIGHUP: open the log file anew.
    ReopenLog,
}

/// The signals this program answers, blocked and read from a file descriptor.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals for the calling thread and those it will start; to be called before any
    /// thread is started.
    ///
    /// # Errors
    /// What the system said.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// The next request, if a signal has come.
    ///
    /// # Errors
    /// What the system said.
    pub fn next_request(&self) -> io::Result<Option<Request>> {
        let Some(info) = self.0.read_signal()? else {
            return Ok(None);
        };
        let is_hangup = i32::try_from(info.ssi_signo) == Ok(Signal::SIGHUP as i32);
        Ok(Some(if is_hangup {
            Request::ReopenLog
        } else {
            Request::Stop
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn signals_become_requests() {
        let signals = Signals::block().unwrap();
        assert_eq!(signals.next_request().unwrap(), None);
        for (signal, request) in [
            (Signal::SIGTERM, Request::Stop),
            (Signal::SIGINT, Request::Stop),
            (Signal::SIGHUP, Request::ReopenLog),
        ] {
            raise(signal).unwrap();
            assert_eq!(signals.next_request().unwrap(), Some(request), "{signal}");
        }
        assert_eq!(signals.next_request().unwrap(), None);
    }
}
