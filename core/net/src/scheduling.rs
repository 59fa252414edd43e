//! A thread's turns on the processor.

use std::io;
use std::time::Duration;

use crate::sys;

/// The turn asked for: the shortest that the kernel grants.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Asks for short turns for the calling thread: it gets the processor no more, but sooner after it
/// wakes, however many others wait (EEVDF, Linux 6.12). Priorities stay as they are. Older kernels
/// accept the request and do nothing.
///
/// A capture ring that is emptied sooner can be smaller, or forgives a busier host.
///
/// # Errors
///
/// Whatever the kernel answers, for example where a sandbox forbids the call; nothing has changed
/// then.
pub fn ask_for_short_slices() -> io::Result<()> {
    sys::set_slice(SHORT_SLICE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_accepts_the_request() {
        super::ask_for_short_slices().unwrap();
    }
}
