//! A packet capture that tells whether anything came from where nothing may come.

use std::time::Duration;

use crate::{Host, Process, Result, wait_until};

/// How long tcpdump may take until it captures.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a packet that has arrived may take until tcpdump has printed it.
const PRINT_TIMEOUT: Duration = Duration::from_secs(20);

/// A running capture on one host.
#[derive(Debug)]
pub struct PacketWatch {
    capture: Process,
    host: Host,
}

impl PacketWatch {
    /// Watches `host` for IP packets that `sender` sent; address resolution does not count.
    ///
    /// # Errors
    /// [`LabError::Timeout`](crate::LabError::Timeout) when the capture does not start.
    pub fn from_sender(host: &Host, sender: &Host) -> Result<Self> {
        // ICMPv6 types 133 to 137 are neighbour discovery, the counterpart of ARP.
        Self::start(
            host,
            &format!(
                "(ip and src host {}) or (ip6 and src host {} and not \
                 (icmp6 and ip6[40] >= 133 and ip6[40] <= 137)) or (udp and dst port {MARK_PORT})",
                sender.ipv4(),
                sender.ipv6()
            ),
        )
    }

    fn start(host: &Host, filter: &str) -> Result<Self> {
        let capture = host
            .command("tcpdump")
            .args([
                "-i",
                "any",
                "-n",
                "-l",
                "--immediate-mode",
                "-B",
                "16384",
                filter,
            ])
            .spawn()?;
        wait_until("tcpdump to listen", START_TIMEOUT, || {
            capture.stderr().contains("listening on")
        })?;
        Ok(Self {
            capture,
            host: host.clone(),
        })
    }

    /// Lists the packets seen so far, one line each.
    ///
    /// Sends a packet to itself and waits until the capture shows it, so that every packet which
    /// arrived before the call is in the list.
    ///
    /// # Errors
    /// [`LabError::Timeout`](crate::LabError::Timeout) when the capture shows nothing any more.
    pub fn packets(&mut self) -> Result<Vec<String>> {
        let marks = self.marks();
        let send = format!("echo mark > /dev/udp/127.0.0.1/{MARK_PORT}");
        self.host.command("bash").args(["-c", &send]).run()?;
        wait_until("tcpdump to show a mark", PRINT_TIMEOUT, || {
            self.marks() > marks
        })?;
        let text = self.capture.stdout();
        Ok(text
            .lines()
            .filter(|line| !is_mark(line))
            .map(str::to_owned)
            .collect())
    }

    fn marks(&self) -> usize {
        self.capture
            .stdout()
            .lines()
            .filter(|line| is_mark(line))
            .count()
    }
}

/// The discard port: nobody listens, and the capture sees the packet all the same.
const MARK_PORT: u16 = 9;

fn is_mark(line: &str) -> bool {
    line.contains(&format!("> 127.0.0.1.{MARK_PORT}:"))
}
