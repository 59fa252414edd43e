//! How much of everything: enough to prove it in CI, or as much as is promised.

use std::env;
use std::time::Duration;

/// Seconds that a load lasts when nothing is said.
const SHORT_SECONDS: u64 = 3;

/// Seconds from which on a run counts as full, as in `cargo xtask test --full`.
const FULL_SECONDS: u64 = 10;

/// How long each load lasts: `LOAD_SECONDS`, or 3 s.
///
/// # Panics
/// When `LOAD_SECONDS` is no whole number above 0.
pub fn load_time() -> Duration {
    let seconds = match env::var("LOAD_SECONDS") {
        Ok(text) => text.parse().ok().filter(|&seconds| seconds > 0),
        Err(_) => Some(SHORT_SECONDS),
    };
    Duration::from_secs(seconds.expect("LOAD_SECONDS must be a whole number above 0"))
}

/// Tells whether the full figures are asked for.
pub fn is_full() -> bool {
    load_time().as_secs() >= FULL_SECONDS
}

/// `full` in a full run, else `short`.
pub fn scaled<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}
