//! The init process of a lab, whose life is the lab's life.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::requirements::search_path;
use crate::{LabError, Result};

/// The lab's own directory as processes inside the lab see it.
pub(crate) const INSIDE: &str = "/run/lab";

/// What init runs: it makes `/run` private, tells that it is ready, and ends with its input.
///
/// `cat` reads a pipe whose only writer is the test process. However that process ends, the pipe
/// closes, `cat` ends, and as it is process 1 of its PID namespace the kernel kills the rest.
const SCRIPT: &str = "set -e
mount -t tmpfs -o mode=755 lab /run
mkdir -p /run/lab/logs /run/netns /run/lock
ip link set lo up
echo ready
exec cat >/dev/null";

/// A running init process; dropping it ends the lab.
#[derive(Debug)]
pub(crate) struct Init {
    outer: Child,
    /// The lifeline: closing it is what ends the lab.
    lifeline: Option<ChildStdin>,
    pid: u32,
}

impl Init {
    pub(crate) fn start() -> Result<Self> {
        let mut outer = Command::new("unshare")
            .args([
                "--fork",
                "--kill-child",
                "--pid",
                "--mount",
                "--mount-proc",
                "--net",
                "--ipc",
                "--",
            ])
            .args(["sh", "-c", SCRIPT])
            .env("PATH", search_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| LabError::Spawn {
                command: "unshare".to_owned(),
                source,
            })?;
        let lifeline = outer.stdin.take();
        let mut ready = String::new();
        if let Some(stdout) = outer.stdout.take() {
            // An empty answer is the failure that the next lines report.
            let _ = BufReader::new(stdout).read_line(&mut ready);
        }
        let pid = child_of(outer.id());
        let mut init = Self {
            outer,
            lifeline,
            pid: pid.unwrap_or_default(),
        };
        if ready.trim() == "ready" && pid.is_some() {
            return Ok(init);
        }
        init.lifeline = None;
        let mut detail = String::new();
        if let Some(mut stderr) = init.outer.stderr.take() {
            let _ = stderr.read_to_string(&mut detail);
        }
        Err(LabError::Start {
            detail: detail.trim().to_owned(),
        })
    }

    /// The process id of init as the outside sees it.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// A path inside the lab as the outside reaches it.
    pub(crate) fn outside(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.flush();
        }
        // `unshare` waits for init, and init's end waits for every process of the lab.
        let _ = self.outer.wait();
    }
}

/// The one child of a process that forks once and waits, if it has forked yet.
pub(crate) fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
