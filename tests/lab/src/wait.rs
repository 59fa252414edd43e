//! Waiting for a condition instead of for a length of time.

use std::thread;
use std::time::{Duration, Instant};

use crate::{LabError, Result};

/// How long to pause between two looks at a condition: short beside anything a test waits for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` holds and returns how long that took.
///
/// # Errors
/// [`LabError::Timeout`] naming `what` when it still does not hold after `timeout`.
pub fn wait_until(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        if condition() {
            return Ok(start.elapsed());
        }
        if start.elapsed() >= timeout {
            return Err(LabError::Timeout {
                what: what.to_owned(),
                waited: timeout,
            });
        }
        thread::sleep(LOOK_EVERY);
    }
}
