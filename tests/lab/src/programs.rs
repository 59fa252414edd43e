//! The programs of this workspace on the hosts of a lab: how they are found, started and ended.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::workspace::build_programs;
use crate::{Command, Host, Lab, LabError, Process, Report, Result, wait_until};

/// The port of the tunnel between tcpcopy and intercept.
const TUNNEL_PORT: u16 = 36524;

/// How long a program may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long tcpcopy may take to end after SIGTERM.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How the copy reaches a target, and where intercept runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Packets in the clients' names; intercept on the target, with NFQUEUE.
    Target,
    /// Packets in the clients' names; intercept on the assistant, behind a route.
    Assistant,
    /// Connections of the kernel on the origin; no intercept anywhere.
    Socket,
}

/// What is replayed, and how.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How, and where intercept runs.
    pub mode: Mode,
    /// The hosts that get the copy, each of them all of it.
    pub targets: Vec<String>,
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
            targets: vec!["target".to_owned()],
            ipv6: false,
            port: 80,
            tcpcopy: Vec::new(),
        }
    }

    /// The same towards other hosts than `target` alone.
    ///
    /// With several, `mode` can't be [`Mode::Assistant`].
    pub fn towards<const N: usize>(self, targets: [&str; N]) -> Self {
        let targets = targets.map(str::to_owned).into();
        Self { targets, ..self }
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
        let named = (named("TCPCOPY_BIN")?, named("INTERCEPT_BIN")?);
        let (tcpcopy, intercept) = match named {
            (Some(tcpcopy), Some(intercept)) => (tcpcopy, intercept),
            (tcpcopy, intercept) => {
                let built = build_programs(["tcpcopy", "intercept"])?;
                let [built_tcpcopy, built_intercept] = built;
                (
                    tcpcopy.unwrap_or(built_tcpcopy),
                    intercept.unwrap_or(built_intercept),
                )
            }
        };
        Ok(Self { tcpcopy, intercept })
    }

    /// The same programs where every user of the machine may run them: copied into the lab.
    ///
    /// # Errors
    /// [`LabError::Failed`] when there is no room.
    pub fn for_every_user(&self, lab: &Lab) -> Result<Self> {
        let copy = |program: &str, name: &str| {
            let path = lab.path(name);
            let install = lab.host("client").command("install");
            install.args(["-m", "755", program, &path]).run()?;
            Ok::<_, LabError>(path)
        };
        Ok(Self {
            tcpcopy: copy(&self.tcpcopy, "tcpcopy")?,
            intercept: copy(&self.intercept, "intercept")?,
        })
    }

    /// Starts intercept wherever `setup` wants one and waits until tcpcopy can connect.
    ///
    /// # Errors
    /// [`LabError::Failed`] with its own words when one ends instead.
    pub fn start_intercepts(&self, lab: &Lab, setup: &Setup) -> Result<Vec<Process>> {
        let port = setup.port;
        let commands = match setup.mode {
            Mode::Target => {
                let on = |name: &String| {
                    let state_dir = self.state_dir(lab, name);
                    let command = lab.host(name).command(&self.intercept);
                    command.args(["--port", &port.to_string(), "--state-dir", &state_dir])
                };
                setup.targets.iter().map(on).collect()
            }
            Mode::Assistant => {
                let command = lab.host("assistant").command(&self.intercept);
                let filter = format!("tcp src port {port}");
                vec![command.args(["-i", "eth0", "-F", &filter])]
            }
            Mode::Socket => Vec::new(),
        };
        let key = self.key_file(lab)?;
        let start = |command: Command| {
            let mut process = command.args(["--key-file", &key]).spawn()?;
            process.wait_listening(TUNNEL_PORT)?;
            Ok(process)
        };
        commands.into_iter().map(start).collect()
    }

    /// Starts tcpcopy on `origin` towards the targets and waits until it captures; its report will
    /// be the file `report` of the lab.
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
        let from = setup.server(origin);
        let to = |target: &String| format!("{from}-{}", setup.server(lab.host(target)));
        let transfers: Vec<_> = setup.targets.iter().map(to).collect();
        let captured = ["-x", &transfers.join(","), "-i", "eth0"].map(str::to_owned);
        let arguments = [&captured[..], &self.upstream(lab, setup)?, &setup.tcpcopy].concat();
        self.start_tcpcopy_with(lab, origin, &arguments, report)
    }

    /// Starts tcpcopy on `host` with these arguments and waits until it captures; its report will
    /// be the file `report` of the lab.
    ///
    /// # Errors
    /// As [`start_tcpcopy`](Self::start_tcpcopy).
    pub fn start_tcpcopy_with<T: ToString>(
        &self,
        lab: &Lab,
        host: &Host,
        arguments: &[T],
        report: &str,
    ) -> Result<Process> {
        let mut process = host
            .command(&self.tcpcopy)
            .args(arguments.iter().map(ToString::to_string))
            .args(["--report", &lab.path(report)])
            .spawn()?;
        // tcpcopy says so once its tunnel is up and its rings capture.
        wait_until("tcpcopy to be ready", READY_TIMEOUT, || {
            !process.is_running() || process.stderr().contains(" started ")
        })?;
        // An error when it has ended.
        process.pid()?;
        Ok(process)
    }

    /// The options that tell tcpcopy how the copy travels.
    fn upstream(&self, lab: &Lab, setup: &Setup) -> Result<Vec<String>> {
        let at = |host: &str| format!("{}:{TUNNEL_PORT}", lab.host(host).ipv4());
        let upstream = match (setup.mode, &setup.targets[..]) {
            (Mode::Socket, _) => return Ok(["--upstream", "socket"].map(str::to_owned).into()),
            (Mode::Assistant, _) => ["-s".to_owned(), at("assistant")],
            (Mode::Target, [target]) => ["-s".to_owned(), at(target)],
            // One intercept for each target is expected at its address.
            (Mode::Target, _) => ["--upstream", "raw"].map(str::to_owned),
        };
        let key = ["--key-file".to_owned(), self.key_file(lab)?];
        Ok([upstream, key].concat())
    }

    /// Ends tcpcopy with SIGTERM and reads its report, the file `report` of the lab.
    ///
    /// # Errors
    /// [`LabError::Failed`] when it ends with another status than 0.
    pub fn finish_tcpcopy(lab: &Lab, process: Process, report: &str) -> Result<Report> {
        Self::finish_tcpcopy_telling(lab, process, report).map(|(report, _)| report)
    }

    /// The same, with what it has printed for people.
    ///
    /// # Errors
    /// As [`finish_tcpcopy`](Self::finish_tcpcopy).
    pub fn finish_tcpcopy_telling(
        lab: &Lab,
        mut process: Process,
        report: &str,
    ) -> Result<(Report, String)> {
        let output = process.terminate(DRAIN_TIMEOUT)?;
        if !output.status.success() {
            return Err(process.failed(output.status));
        }
        let printed = output.stdout + &output.stderr;
        Ok((Report::parse(&lab.read(report)?)?, printed))
    }

    /// The directory in which intercept on this target keeps what outlives it.
    pub fn state_dir(&self, lab: &Lab, target: &str) -> String {
        lab.path(&format!("intercept-state-{target}"))
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

/// The program that a variable names, if it does.
fn named(variable: &str) -> Result<Option<String>> {
    match env::var(variable) {
        Err(_) => Ok(None),
        Ok(path) if Path::new(&path).is_file() => Ok(Some(path)),
        Ok(path) => Err(LabError::Start {
            detail: format!("{variable} names no file: {path}"),
        }),
    }
}
