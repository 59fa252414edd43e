//! Programs that run on a host of the lab: what they print and use, and how they end.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::init::child_of;
use crate::lab::Shared;
use crate::sockets::listens;
use crate::{LabError, Result, wait_until};

/// How long the machine may take from fork to exec.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How much of a program's output goes into a failure message, in bytes.
const TAIL_BYTES: usize = 4_000;

/// What a program printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time of all its threads, in user space and in the kernel.
    pub cpu: Duration,
    /// Memory that it occupies, in bytes.
    pub resident_bytes: u64,
}

/// A program that runs on a host; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    _lab: Arc<Shared>,
    host: String,
    text: String,
    /// `nsenter`, which waits outside the PID namespace for the program inside.
    outer: Child,
    log: PathBuf,
    is_ip: bool,
    ended: Option<ExitStatus>,
}

impl Process {
    /// A program that `nsenter`, running as `outer`, is about to start on `host`; its output is in
    /// the files `log` with the extensions `out` and `err`.
    pub(crate) fn new(
        lab: Arc<Shared>,
        host: String,
        text: String,
        outer: Child,
        log: PathBuf,
    ) -> Self {
        Self {
            _lab: lab,
            host,
            is_ip: text.starts_with("ip "),
            text,
            outer,
            log,
            ended: None,
        }
    }

    /// The process id as the outside sees it, once the program has really been started.
    ///
    /// # Errors
    /// [`LabError::Failed`] when it has ended already.
    pub fn pid(&mut self) -> Result<u32> {
        let (outer, is_ip) = (self.outer.id(), self.is_ip);
        let mut pid = None;
        let mut ended = None;
        wait_until(&format!("`{}` to start", self.text), START_TIMEOUT, || {
            pid = child_of(outer).filter(|&child| is_ip || !is_starting(child, outer));
            ended = self.outer.try_wait().ok().flatten();
            pid.is_some() || ended.is_some()
        })?;
        if let Some(status) = ended {
            self.ended = Some(status);
            return Err(self.failed(status));
        }
        pid.ok_or_else(|| LabError::Start {
            detail: format!("`{}` has no process", self.text),
        })
    }

    /// Waits until the program itself listens on the TCP port, without connecting to it.
    ///
    /// # Errors
    /// [`LabError::Failed`] when the program ends instead.
    pub fn wait_listening(&mut self, port: u16) -> Result<()> {
        let pid = self.pid()?;
        let what = format!("`{}` to listen on port {port}", self.text);
        wait_until(&what, START_TIMEOUT, || {
            !self.is_running() || listens(pid, port)
        })?;
        match self.ended {
            Some(status) => Err(self.failed(status)),
            None => Ok(()),
        }
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// As [`pid`](Self::pid), or [`LabError::Io`] when the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        self.signal_one(pid, signal)
    }

    /// Sends a signal to the program's children, as for a server whose workers are to hang.
    ///
    /// Stopping the program itself would stop the lab's own process that waits for it.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn signal_children(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        children_of(pid)
            .into_iter()
            .try_for_each(|child| self.signal_one(child, signal))
    }

    /// Stops the program's children and waits until none of them does anything any more.
    ///
    /// # Errors
    /// As [`signal_children`](Self::signal_children), or [`LabError::Timeout`].
    pub fn stop_children(&mut self) -> Result<()> {
        self.signal_children(Signal::SIGSTOP)?;
        let pid = self.pid()?;
        let what = format!("the children of `{}` to stop", self.text);
        let all = || children_of(pid).into_iter().all(is_stopped);
        wait_until(&what, START_TIMEOUT, all).map(drop)
    }

    fn signal_one(&self, pid: u32, signal: Signal) -> Result<()> {
        let raw = Pid::from_raw(pid.cast_signed());
        kill(raw, signal).map_err(|errno| LabError::io("signal", &self.text, errno.into()))
    }

    /// Kills the program with SIGKILL and waits for its end.
    ///
    /// # Errors
    /// As [`signal`](Self::signal) and [`wait`](Self::wait).
    pub fn kill(&mut self) -> Result<Output> {
        self.signal(Signal::SIGKILL)?;
        self.wait(START_TIMEOUT)
    }

    /// Asks the program to end with SIGTERM and waits until it has.
    ///
    /// # Errors
    /// As [`signal`](Self::signal) and [`wait`](Self::wait).
    pub fn terminate(&mut self, timeout: Duration) -> Result<Output> {
        self.signal(Signal::SIGTERM)?;
        self.wait(timeout)
    }

    /// Tells whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.outer.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    /// Waits until the program ends by itself and returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the end of its output; the program then still runs.
    pub fn wait(&mut self, timeout: Duration) -> Result<Output> {
        let what = format!("the end of `{}` on {}", self.text, self.host);
        if wait_until(&what, timeout, || !self.is_running()).is_err() {
            let what = format!("{what}; it printed\n{}", self.tail());
            return Err(LabError::Timeout {
                what,
                waited: timeout,
            });
        }
        let Some(status) = self.ended else {
            return Err(LabError::Timeout {
                what,
                waited: timeout,
            });
        };
        Ok(Output {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
        })
    }

    /// What the program has written to its standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.log.with_extension("out"))
    }

    /// What the program has written to its standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.log.with_extension("err"))
    }

    /// What the program has used so far.
    ///
    /// # Errors
    /// As [`pid`](Self::pid).
    pub fn usage(&mut self) -> Result<Usage> {
        let pid = self.pid()?;
        usage_of(pid)
    }

    /// What the program and its children have used so far, as a server with workers needs it.
    ///
    /// # Errors
    /// As [`pid`](Self::pid).
    pub fn usage_with_children(&mut self) -> Result<Usage> {
        let pid = self.pid()?;
        let mut sum = usage_of(pid)?;
        for child in children_of(pid) {
            let usage = usage_of(child)?;
            sum.cpu += usage.cpu;
            sum.resident_bytes += usage.resident_bytes;
        }
        Ok(sum)
    }

    /// The error that tells how this program ended.
    pub(crate) fn failed(&self, status: ExitStatus) -> LabError {
        LabError::Failed {
            command: self.text.clone(),
            host: self.host.clone(),
            status: status.to_string(),
            stderr: self.tail(),
        }
    }

    /// The last lines of both outputs.
    fn tail(&self) -> String {
        let text = self.stdout() + &self.stderr();
        let start = text.len().saturating_sub(TAIL_BYTES);
        let start = (start..=text.len())
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        text[start..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        // The program may end between the two calls; then there is nothing left to kill.
        if let Ok(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.outer.wait();
    }
}

/// Tells whether a forked process still runs `nsenter` or `ip` on its way to the program.
fn is_starting(child: u32, outer: u32) -> bool {
    let executable = |pid: u32| fs::read_link(format!("/proc/{pid}/exe"));
    let Ok(current) = executable(child) else {
        return true;
    };
    current.file_name() == Some(OsStr::new("ip"))
        || executable(outer).is_ok_and(|nsenter| nsenter.file_name() == current.file_name())
}

/// The processes that a process has started and that still run.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let words = children.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Tells whether a signal has stopped a process.
fn is_stopped(pid: u32) -> bool {
    const STOPPED: &str = "T";
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The first field after the name, which may hold spaces and parentheses.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().next() == Some(STOPPED)
}

fn usage_of(pid: u32) -> Result<Usage> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).map_err(|cause| LabError::io("read", path, cause))
    };
    let unreadable = |detail: &str| LabError::Unreadable {
        program: "the kernel",
        detail: detail.to_owned(),
    };
    let stat = read("stat")?;
    // The second field is the name in parentheses and may hold spaces; `utime` and `stime` are
    // fields 14 and 15, which are the 12th and 13th after it.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u64> = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|f| f.parse().ok())
        .collect();
    let [user, system] = ticks[..] else {
        return Err(unreadable(&stat));
    };
    let statm = read("statm")?;
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|field| field.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| unreadable(&statm))?;
    let ticks_per_second = system_constant(SysconfVar::CLK_TCK, 100);
    let page_bytes = system_constant(SysconfVar::PAGE_SIZE, 4096);
    Ok(Usage {
        cpu: Duration::from_millis((user + system) * 1_000 / ticks_per_second),
        resident_bytes: pages * page_bytes,
    })
}

/// A constant of the system, or its usual value where the system does not tell.
fn system_constant(variable: SysconfVar, usual: u64) -> u64 {
    let value = sysconf(variable).ok().flatten();
    value
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(usual)
}

fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
