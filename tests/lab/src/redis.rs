//! A real Redis on a host, and its own load generator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{Host, Output, Process, Result};

/// Where Redis listens.
const PORT: u16 = 6379;

/// How long a load may take. The generator tries for ever to reach a server that is not there.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// A running Redis without persistence or password; it ends when this value is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    host: Host,
    /// The socket by which it is asked, so that nothing of that is in any capture.
    socket: String,
}

impl Redis {
    /// Starts Redis and waits until it listens.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) with its own words when it ends at once.
    pub fn start(host: &Host) -> Result<Self> {
        let shared = host.shared();
        let name = format!("redis-{}-{}", host.name(), shared.next_number());
        let socket = shared.path(&format!("{name}.sock"));
        let settings = format!(
            "port {PORT}\nbind * -::*\nprotected-mode no\nunixsocket {socket}\nsave \"\"\n\
             appendonly no\ndir {}\n",
            shared.path("")
        );
        let file = shared.write(&format!("{name}.conf"), settings.as_bytes())?;
        let mut process = host.command("redis-server").arg(file).spawn()?;
        process.wait_listening(PORT)?;
        Ok(Self {
            process,
            host: host.clone(),
            socket,
        })
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv4().into(), PORT)
    }

    /// How often each command was called since the start, but for the one that asks this.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when it does not answer.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>> {
        let ask = ["-s", &self.socket, "info", "commandstats"];
        let output = self.host.command("redis-cli").args(ask).run()?;
        let mut calls = parse_calls(&output.stdout);
        calls.remove("info");
        Ok(calls)
    }

    /// Loads this server with `redis-benchmark` from another host.
    ///
    /// # Errors
    /// As [`Command::run`](crate::Command::run).
    pub fn benchmark(&self, from: &Host, arguments: &[&str]) -> Result<Output> {
        from.command("redis-benchmark")
            .args(["-h", &self.host.ipv4().to_string()])
            .args(arguments)
            .timeout(LOAD_TIMEOUT)
            .run()
    }

    /// The server's process, for signals and measurements.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Reads lines such as `cmdstat_get:calls=12,usec=34,...`.
fn parse_calls(text: &str) -> BTreeMap<String, u64> {
    let parse = |line: &str| {
        let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = figures.split(',').next()?.parse().ok()?;
        Some((name.to_owned(), calls))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_statistics_are_read() {
        let text = "# Commandstats\r\ncmdstat_get:calls=12,usec=34,usec_per_call=2.8\r\n\
                    cmdstat_config|get:calls=2,usec=9\r\n";
        let calls = parse_calls(text);
        assert_eq!((calls["get"], calls["config|get"], calls.len()), (12, 2, 2));
    }
}
