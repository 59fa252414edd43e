//! The programs of this workspace on the hosts of a lab: how they are found, started and ended.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::{Host, Lab, LabError, Process, Report, Result, wait_until};

/// The port of the tunnel between tcpcopy and intercept.
const TUNNEL_PORT: u16 = 36524;

/// How long a program may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long tcpcopy may take to end after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Where intercept runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// On the target, with NFQUEUE.
    Target,
    /// On the assistant, behind a route.
    Assistant,
}

/// What is replayed, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where intercept runs.
    pub mode: Mode,
    /// Whether clients, servers and the mapping speak IPv6.
    pub ipv6: bool,
    /// The port that is replayed, on the origin as on the target.
    pub port: u16,
    /// More arguments for tcpcopy.
    pub tcpcopy: Vec<String>,
}

impl Setup {
    /// Port 80 over IPv4, nothing special.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            ipv6: false,
            port: 80,
            tcpcopy: Vec::new(),
        }
    }

    /// The same over IPv6.
    pub fn over_ipv6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    /// The same with more arguments for tcpcopy.
    pub fn with<T: ToString>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.tcpcopy
            .extend(arguments.into_iter().map(|argument| argument.to_string()));
        self
    }

    /// Where the server of this host listens.
    pub fn server(&self, host: &Host) -> SocketAddr {
        SocketAddr::new(self.address(host), self.port)
    }

    /// The host's address in the IP version of this setup.
    pub fn address(&self, host: &Host) -> IpAddr {
        if self.ipv6 {
            host.ipv6().into()
        } else {
            host.ipv4().into()
        }
    }
}

/// The paths of the two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The path of tcpcopy.
    pub tcpcopy: String,
    /// The path of intercept.
    pub intercept: String,
}

impl Programs {
    /// Takes the programs that `TCPCOPY_BIN` and `INTERCEPT_BIN` name, and lets cargo build from
    /// this workspace, as users get it, what they do not name.
    ///
    /// # Errors
    /// [`LabError::Start`] when a name leads nowhere or cargo fails.
    pub fn find() -> Result<Self> {
        Ok(Self {
            tcpcopy: find("TCPCOPY_BIN", "tcpcopy")?,
            intercept: find("INTERCEPT_BIN", "intercept")?,
        })
    }

    /// Starts intercept where `setup` wants it and waits until tcpcopy can connect.
    ///
    /// # Errors
    /// [`LabError::Failed`] with its own words when it ends instead.
    pub fn start_intercept(&self, lab: &Lab, setup: &Setup) -> Result<Process> {
        let key = self.key_file(lab)?;
        let command = match setup.mode {
            Mode::Target => lab
                .host("target")
                .command(&self.intercept)
                .args(["--port", &setup.port.to_string()])
                .args(["--state-dir", &self.state_dir(lab)]),
            Mode::Assistant => lab.host("assistant").command(&self.intercept).args([
                "-i",
                "eth0",
                "-F",
                &format!("tcp src port {}", setup.port),
            ]),
        };
        let mut process = command.args(["--key-file", &key]).spawn()?;
        process.wait_listening(TUNNEL_PORT)?;
        Ok(process)
    }

    /// Starts tcpcopy on `origin` towards the lab's target and waits until it captures; its
    /// report will be the file `report` of the lab.
    ///
    /// # Errors
    /// [`LabError::Failed`] with its own words when it ends instead.
    pub fn start_tcpcopy(
        &self,
        lab: &Lab,
        origin: &Host,
        setup: &Setup,
        report: &str,
    ) -> Result<Process> {
        let target = lab.host("target");
        let intercept = match setup.mode {
            Mode::Target => target,
            Mode::Assistant => lab.host("assistant"),
        };
        let transfer = format!("{}-{}", setup.server(origin), setup.server(target));
        let mut process = origin
            .command(&self.tcpcopy)
            .args(["-x", &transfer, "-i", "eth0"])
            .args(["-s", &format!("{}:{TUNNEL_PORT}", intercept.ipv4())])
            .args([
                "--key-file",
                &self.key_file(lab)?,
                "--report",
                &lab.path(report),
            ])
            .args(&setup.tcpcopy)
            .spawn()?;
        // tcpcopy says so once its tunnel is up and its rings capture.
        wait_until("tcpcopy to be ready", READY_TIMEOUT, || {
            !process.is_running() || process.stderr().contains(" started ")
        })?;
        // An error when it has ended.
        process.pid()?;
        Ok(process)
    }

    /// Ends tcpcopy with SIGTERM and reads its report, the file `report` of the lab.
    ///
    /// # Errors
    /// [`LabError::Failed`] when it ends with another status than 0.
    pub fn finish_tcpcopy(lab: &Lab, mut process: Process, report: &str) -> Result<Report> {
        let output = process.terminate(DRAIN_TIMEOUT)?;
        if !output.status.success() {
            return Err(process.failed(output.status));
        }
        Report::parse(&lab.read(report)?)
    }

    /// The directory in which intercept on the target keeps what outlives it.
    pub fn state_dir(&self, lab: &Lab) -> String {
        lab.path("intercept-state")
    }

    /// Makes the key that both programs share, once a lab, and returns its path.
    ///
    /// # Errors
    /// [`LabError::Failed`] when intercept can't make one.
    pub fn key_file(&self, lab: &Lab) -> Result<String> {
        const NAME: &str = "tunnel.key";
        let path = lab.path(NAME);
        if lab.read(NAME).is_err() {
            // Both programs refuse a key that others can read.
            let script = r#"umask 077; "$0" --generate-key > "$1""#;
            let command = lab.host("target").command("sh");
            command.args(["-c", script, &self.intercept, &path]).run()?;
        }
        Ok(path)
    }
}

fn find(variable: &str, package: &str) -> Result<String> {
    let path = match env::var(variable) {
        Ok(path) => path,
        Err(_) => build(package)?,
    };
    if Path::new(&path).is_file() {
        return Ok(path);
    }
    Err(LabError::Start {
        detail: format!("{variable} names no file: {path}"),
    })
}

/// Builds a program and returns the path that cargo reports.
fn build(package: &str) -> Result<String> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let failed = |detail: String| LabError::Start { detail };
    let output = std::process::Command::new(&cargo)
        .args([
            "build",
            "--release",
            "--package",
            package,
            "--message-format=json",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| LabError::Spawn {
            command: cargo,
            source,
        })?;
    if !output.status.success() {
        return Err(failed(format!("cargo could not build {package}")));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == package)
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .ok_or_else(|| failed(format!("cargo built no program `{package}`")))
}
