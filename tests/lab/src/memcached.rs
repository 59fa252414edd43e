//! A real memcached on a host, and libmemcached's own load generator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{Host, LabError, Output, Process, Result};

/// Where memcached listens.
const PORT: u16 = 11211;

/// How long a load may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What only depends on the commands; the other statistics also tell of time, memory, and which of
/// two connections was faster.
const COUNTERS: [&str; 4] = ["cmd_get", "cmd_set", "cmd_flush", "total_items"];

/// A running memcached; it ends when this value is dropped.
#[derive(Debug)]
pub struct Memcached {
    process: Process,
    host: Host,
}

impl Memcached {
    /// Starts memcached and waits until it listens.
    ///
    /// # Errors
    /// [`LabError::Failed`] with its own words when it ends at once.
    pub fn start(host: &Host) -> Result<Self> {
        let mut process = host
            .command("memcached")
            .args(["-u", "root", "-U", "0", "-m", "256", "-c", "4096"])
            .args(["-p", &PORT.to_string()])
            .spawn()?;
        process.wait_listening(PORT)?;
        Ok(Self {
            process,
            host: host.clone(),
        })
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv4().into(), PORT)
    }

    /// How many gets and sets there were since the start, and how many items were stored.
    ///
    /// # Errors
    /// [`LabError::Failed`] when it does not answer.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>> {
        // Asked over loopback, which no capture of this host's device sees.
        let server = format!("--servers=127.0.0.1:{PORT}");
        let text = self.host.command("memcstat").arg(server).run()?.stdout;
        let counters = parse_counters(&text);
        if counters.is_empty() {
            return Err(LabError::Unreadable {
                program: "memcstat",
                detail: text,
            });
        }
        Ok(counters)
    }

    /// Loads this server with `memcslap` from another host.
    ///
    /// # Errors
    /// As [`Command::run`](crate::Command::run).
    pub fn benchmark(&self, from: &Host, arguments: &[&str]) -> Result<Output> {
        from.command("memcslap")
            .arg(format!("--servers={}", self.ipv4()))
            .args(arguments)
            .timeout(LOAD_TIMEOUT)
            .run()
    }

    /// The server's process, for signals and measurements.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Reads lines such as `cmd_get: 12`.
fn parse_counters(text: &str) -> BTreeMap<String, u64> {
    let parse = |line: &str| {
        let (name, value) = line.trim().split_once(": ")?;
        let value = value.trim().parse().ok()?;
        COUNTERS.contains(&name).then(|| (name.to_owned(), value))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_times_are_not() {
        let text = "Server: 127.0.0.1 (11211)\n\tpid: 12\n\tcmd_get: 7\n\tcmd_set: 5\n";
        let counters = parse_counters(text);
        assert_eq!((counters["cmd_get"], counters["cmd_set"]), (7, 5));
        assert_eq!(counters.len(), 2);
    }
}
