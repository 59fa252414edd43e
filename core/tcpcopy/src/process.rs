//! What the process itself has used.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Memory and processor time of the process since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Most resident memory at any time, in bytes, the capture rings included.
    pub peak_rss_bytes: u64,
    /// Resident memory now, in bytes.
    pub rss_bytes: u64,
    /// Processor time of all threads, user and system, in seconds.
    pub cpu_s: f64,
}

impl Usage {
    /// Asks the kernel; what it does not tell is 0.
    #[must_use]
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(cpu).unwrap_or_default();
        Self {
            peak_rss_bytes: status_bytes(&status, "VmHWM:"),
            rss_bytes: status_bytes(&status, "VmRSS:"),
            cpu_s: cpu.as_secs_f64(),
        }
    }
}

/// The value of a line such as `VmHWM:     1234 kB`.
fn status_bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse().ok())
        .map_or(0, |kib: u64| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_status_file() {
        let status = "Name:\ttcpcopy\nVmHWM:\t    1234 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(status_bytes(status, "VmHWM:"), 1234 * 1024);
        assert_eq!(status_bytes(status, "VmSwap:"), 0);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::now();
        assert!(usage.peak_rss_bytes >= usage.rss_bytes && usage.rss_bytes > 0);
        assert!(usage.cpu_s > 0.0);
    }
}
