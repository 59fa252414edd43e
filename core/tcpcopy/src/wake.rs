//! Waking a thread that waits in `poll`: an event counter as a file descriptor.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::error::StartError;

/// The end that wakes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the thread that polls the other end wake up, now or when it next waits.
    pub fn wake(&self) {
        // It only fails when the counter is full: then the thread has been woken already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Makes both ends: one to wake with, one to poll for readability and to [`clear`].
///
/// # Errors
/// [`StartError::System`] when the process has no file descriptor left.
pub fn pair() -> Result<(Waker, OwnedFd), StartError> {
    let failed = |source: std::io::Error| StartError::System {
        action: "make an event",
        source,
    };
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    let event = eventfd(0, flags).map_err(|errno| failed(errno.into()))?;
    let other = event.try_clone().map_err(failed)?;
    Ok((Waker(Arc::new(event)), other))
}

/// Takes all wake-ups so far as seen.
pub fn clear(event: &OwnedFd) {
    let _ = rustix::io::read(event, &mut [0_u8; 8]);
}
