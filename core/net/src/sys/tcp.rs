//! What a TCP socket's send queue holds.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::check;

/// How much of what was written the peer has not acknowledged, in units of sequence space: bytes,
/// and one for a FIN. A connection that has been reset still tells the state of that moment.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<u64> {
    let mut count: c_int = 0;
    // SAFETY: `SIOCOUTQ` (the number of `TIOCOUTQ`) writes one `int`, and `count` lives across the
    // call; the descriptor is open while it is borrowed.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) })?;
    Ok(u64::try_from(count).unwrap_or(0))
}
