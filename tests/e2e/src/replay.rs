//! A whole replay: origin, target, intercept and tcpcopy in a lab.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tcpcopy_lab::{Host, Lab, Nginx, NginxConfig, Output, Process, Wrk, WrkReport, wait_until};

use crate::{Report, intercept, tcpcopy};

/// The port of the tunnel.
const TUNNEL_PORT: u16 = 36524;

/// How long the programs may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the replay may be behind after a load has ended. It is a matter of seconds; the rest
/// is for machines that do other things at the same time.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(90);

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

/// What a replay is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where intercept runs.
    pub mode: Mode,
    /// Whether clients, servers and the mapping speak IPv6.
    pub ipv6: bool,
    /// The port that is replayed, on the origin as on the target; nginx serves 80.
    pub port: u16,
    /// More arguments for tcpcopy.
    pub tcpcopy: Vec<String>,
}

impl Setup {
    /// IPv4, nothing special.
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
}

/// A running replay with nginx as origin and target.
#[derive(Debug)]
pub struct Replay {
    /// The lab; the client makes its load on the host `client`.
    pub lab: Lab,
    /// The server that the clients talk to.
    pub origin: Nginx,
    /// The server that gets the copy.
    pub target: Nginx,
    /// The running intercept.
    pub intercept: Process,
    /// The running tcpcopy, once it was started.
    pub tcpcopy: Option<Process>,
    setup: Setup,
}

impl Replay {
    /// Starts everything and waits until it is ready; `None` where there can be no lab.
    ///
    /// # Panics
    /// When something can't be started.
    pub fn start(setup: Setup) -> Option<Self> {
        let mut replay = Self::prepare(setup)?;
        replay.start_tcpcopy();
        Some(replay)
    }

    /// Starts everything but tcpcopy.
    ///
    /// # Panics
    /// When something can't be started.
    pub fn prepare(setup: Setup) -> Option<Self> {
        let lab = Lab::for_test()?;
        let server = |host: &str| {
            Nginx::start(lab.host(host), &NginxConfig::default()).expect("nginx starts")
        };
        let (origin, target) = (server("origin"), server("target"));
        if setup.mode == Mode::Assistant {
            lab.route_clients_via_assistant()
                .expect("the target takes a route");
        }
        let intercept = start_intercept(&lab, &setup);
        Some(Self {
            lab,
            origin,
            target,
            intercept,
            tcpcopy: None,
            setup,
        })
    }

    /// Starts tcpcopy on the origin.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_tcpcopy(&mut self) {
        let origin = self.lab.host("origin");
        self.tcpcopy = Some(start_tcpcopy(&self.lab, origin, &self.setup, "report.json"));
    }

    /// Starts intercept again after it was ended.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn restart_intercept(&mut self) {
        self.intercept = start_intercept(&self.lab, &self.setup);
    }

    /// The address that clients use.
    pub fn server(&self) -> SocketAddr {
        if self.setup.ipv6 {
            self.origin.ipv6()
        } else {
            self.origin.ipv4()
        }
    }

    /// The address of the target's server.
    pub fn target_server(&self) -> SocketAddr {
        if self.setup.ipv6 {
            self.target.ipv6()
        } else {
            self.target.ipv4()
        }
    }

    /// The address of a host in the IP version of this replay.
    pub fn address(&self, host: &str) -> IpAddr {
        let host = self.lab.host(host);
        if self.setup.ipv6 {
            host.ipv6().into()
        } else {
            host.ipv4().into()
        }
    }

    /// Loads the origin from the client to the end of the load.
    ///
    /// # Panics
    /// When the load itself sees errors: the origin's clients come first.
    pub fn load(&self, wrk: &Wrk) -> WrkReport {
        let report = wrk.run(self.lab.host("client")).expect("wrk runs");
        assert_eq!(report.errors, 0, "the origin's own clients were disturbed");
        report
    }

    /// Waits until the target has seen `copies` requests for each one of the origin.
    ///
    /// # Panics
    /// When it has not in time, or has seen more.
    pub fn catch_up(&self, copies: u64) {
        let counts = || (self.origin.request_count(), self.target.request_count());
        let equal = || matches!(counts(), (Ok(origin), Ok(target)) if origin * copies == target);
        let result = wait_until("the replay to catch up", CATCH_UP_TIMEOUT, equal);
        assert!(
            result.is_ok(),
            "origin {:?}, target {:?}; {}",
            counts().0,
            counts().1,
            self.log()
        );
    }

    /// Ends tcpcopy with SIGTERM and reads its report.
    ///
    /// # Panics
    /// When it was not running, ends with another status than 0, or its balance is not zero.
    pub fn finish(&mut self) -> Report {
        let process = self.tcpcopy.take().expect("tcpcopy was started");
        finish_tcpcopy(&self.lab, process, "report.json")
    }

    /// Waits until the target has as many requests as the origin, ends tcpcopy, and asserts that
    /// nothing was lost, nothing came twice, and all came in the client's name.
    ///
    /// # Panics
    /// When one of these is not so.
    pub fn finish_without_loss(&mut self) -> Report {
        self.catch_up(1);
        let report = self.finish();
        report.assert_nothing_lost();
        assert_alike(&self.origin, &self.target);
        let requests = self.origin.request_count().expect("the log can be read");
        assert_eq!(report.count("requests", "captured"), requests, "{report}");
        report
    }

    fn log(&self) -> String {
        self.tcpcopy
            .as_ref()
            .map(Process::stderr)
            .unwrap_or_default()
    }
}

/// Asserts that two servers have answered the same requests of the same clients, in number.
///
/// # Panics
/// When they have not.
pub fn assert_alike(origin: &Nginx, target: &Nginx) {
    let list = |nginx: &Nginx| {
        let requests = nginx.requests().expect("the log can be read");
        let mut list: Vec<_> = requests.into_iter().map(|r| (r.client, r.path)).collect();
        list.sort_unstable();
        list
    };
    let (origin, target) = (list(origin), list(target));
    assert_eq!(origin.len(), target.len());
    assert!(origin == target, "as many requests, but not the same");
}

/// Starts intercept where `setup` wants it and waits until tcpcopy can connect.
fn start_intercept(lab: &Lab, setup: &Setup) -> Process {
    let key = key_file(lab);
    let command = match setup.mode {
        Mode::Target => {
            let state = lab.path("intercept-state");
            let command = lab.host("target").command(intercept());
            command.args(["--port", &setup.port.to_string(), "--state-dir", &state])
        }
        Mode::Assistant => {
            let command = lab.host("assistant").command(intercept());
            command.args(["-i", "eth0", "-F", &format!("tcp src port {}", setup.port)])
        }
    };
    let mut process = command
        .args(["--key-file", &key])
        .spawn()
        .expect("intercept starts");
    process
        .wait_listening(TUNNEL_PORT)
        .expect("intercept listens");
    process
}

/// Starts tcpcopy on `origin` for the target's port 80 and waits until it captures.
///
/// # Panics
/// When it does not get ready.
pub fn start_tcpcopy(lab: &Lab, origin: &Host, setup: &Setup, report: &str) -> Process {
    let target = lab.host("target");
    let intercept = match setup.mode {
        Mode::Target => target,
        Mode::Assistant => lab.host("assistant"),
    };
    let end = |host: &Host| {
        let address = if setup.ipv6 {
            host.ipv6().into()
        } else {
            IpAddr::V4(host.ipv4())
        };
        SocketAddr::new(address, setup.port)
    };
    let transfer = format!("{}-{}", end(origin), end(target));
    let mut process = origin
        .command(tcpcopy())
        .args(["-x", &transfer, "-i", "eth0"])
        .args(["-s", &format!("{}:{TUNNEL_PORT}", intercept.ipv4())])
        .args(["--key-file", &key_file(lab), "--report", &lab.path(report)])
        .args(&setup.tcpcopy)
        .spawn()
        .expect("tcpcopy starts");
    let ready = wait_until("tcpcopy to be ready", READY_TIMEOUT, || {
        is_ready(&mut process)
    });
    assert!(
        ready.is_ok() && process.is_running(),
        "tcpcopy: {}",
        process.stderr()
    );
    process
}

/// Ends tcpcopy with SIGTERM and reads its report, whose balance must be zero.
///
/// # Panics
/// When it ends with another status than 0 or something is unaccounted for.
pub fn finish_tcpcopy(lab: &Lab, mut process: Process, report: &str) -> Report {
    let output = process.terminate(DRAIN_TIMEOUT).expect("tcpcopy ends");
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    assert!(
        status.success(),
        "tcpcopy ended with {status}\n{stdout}{stderr}"
    );
    let report = Report::parse(&lab.read(report).expect("tcpcopy wrote its report"));
    report.assert_balanced();
    report
}

/// Tells whether tcpcopy has a tunnel and captures, or has ended.
fn is_ready(process: &mut Process) -> bool {
    const ESTABLISHED: &str = "01";
    if !process.is_running() {
        return true;
    }
    let tunnel = format!(":{TUNNEL_PORT:04X}");
    let has_tunnel = ["tcp", "tcp6"].iter().any(|table| {
        let text = process.network_table(table).unwrap_or_default();
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .any(|words| words.len() > 3 && words[2].ends_with(&tunnel) && words[3] == ESTABLISHED)
    });
    // The first line is a heading.
    let captures = process
        .network_table("packet")
        .unwrap_or_default()
        .lines()
        .count()
        > 1;
    has_tunnel && captures
}

/// Makes the key that both programs share, once a lab, and returns its path.
fn key_file(lab: &Lab) -> String {
    const NAME: &str = "tunnel.key";
    if lab.read(NAME).is_err() {
        let command = lab
            .host("target")
            .command(intercept())
            .arg("--generate-key");
        let key = command.run().expect("intercept makes a key").stdout;
        lab.write(NAME, key).expect("the lab takes files");
    }
    lab.path(NAME)
}
