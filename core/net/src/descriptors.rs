//! How many file descriptors the process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit of open file descriptors, before and after it was raised; `u64::MAX` is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What the process could have open when it started (the soft limit).
    pub before: u64,
    /// What it can have open now: the hard limit, unless raising failed.
    pub now: u64,
}

/// Raises the process's limit to what it is allowed to (`RLIMIT_NOFILE`, soft to hard), since each
/// connection of a socket upstream costs one.
///
/// # Errors
/// What the kernel answered; the limit is as before.
pub fn raise_limit() -> io::Result<DescriptorLimit> {
    let limit = getrlimit(Resource::Nofile);
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(DescriptorLimit {
        before: number(limit.current),
        now: number(limit.maximum),
    })
}
