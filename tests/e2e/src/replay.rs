//! A whole replay: origin, target, intercept and tcpcopy in a lab.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use tcpcopy_lab::{
    Lab, Mode, Nginx, NginxConfig, Process, Programs, Report, Setup, Wrk, WrkReport, wait_until,
};

use crate::{Form, lose, plug};

/// The file of the lab that gets the balance.
const REPORT: &str = "report.json";

/// The last byte of the address of the first host beyond those of every lab.
const FIRST_MORE_HOST: u8 = 7;

/// How long the replay may be behind after a load has ended. It is a matter of seconds; the rest
/// is for machines that do other things at the same time.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(90);

/// The programs under test, built once a test program.
///
/// # Panics
/// When they can't be built.
pub fn programs() -> &'static Programs {
    static PROGRAMS: LazyLock<Programs> =
        LazyLock::new(|| Programs::find().unwrap_or_else(|error| panic!("{error}")));
    &PROGRAMS
}

/// A running replay with nginx as origin and target.
#[derive(Debug)]
pub struct Replay {
    /// The lab; the client makes its load on the host `client`.
    pub lab: Lab,
    /// The server that the clients talk to.
    pub origin: Nginx,
    /// The server that gets the copy; the first, where there are several.
    pub target: Nginx,
    /// The other servers that get the copy.
    pub more_targets: Vec<Nginx>,
    /// The running intercepts: one for each target, one on the assistant, or none.
    pub intercepts: Vec<Process>,
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

    /// Starts everything but tcpcopy; hosts that `setup` names and no lab has are made.
    ///
    /// # Panics
    /// When something can't be started.
    pub fn prepare(setup: Setup) -> Option<Self> {
        Self::prepare_with(setup, |_| NginxConfig::default())
    }

    /// Starts everything but tcpcopy, with servers of its own: `nginx` says how, for each host.
    ///
    /// # Panics
    /// As [`prepare`](Self::prepare).
    pub fn prepare_with(setup: Setup, nginx: impl Fn(&str) -> NginxConfig) -> Option<Self> {
        let mut lab = Lab::for_test()?;
        for (number, name) in (FIRST_MORE_HOST..).zip(setup.targets.iter().skip(1)) {
            lab.add_host(name, [0, number]).expect("a host is made");
        }
        let server = |host: &str| Nginx::start(lab.host(host), &nginx(host)).expect("nginx starts");
        let origin = server("origin");
        let mut targets = setup.targets.iter().map(|host| server(host));
        let target = targets.next().expect("a setup has a target");
        let more_targets = targets.collect();
        if setup.mode == Mode::Assistant {
            lab.route_clients_via_assistant()
                .expect("the target takes a route");
        }
        let intercepts = start_intercepts(&lab, &setup);
        Some(Self {
            lab,
            origin,
            target,
            more_targets,
            intercepts,
            tcpcopy: None,
            setup,
        })
    }

    /// Has tcpcopy use a plugin with a configuration in TOML, from its next start on.
    ///
    /// # Panics
    /// When there is no such plugin.
    pub fn plug(&mut self, name: &str, form: Form, configuration: &str) {
        let arguments = plug(&self.lab, name, form, configuration);
        self.setup.tcpcopy.extend(arguments);
    }

    /// Starts tcpcopy on the origin.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start_tcpcopy(&mut self) {
        let origin = self.lab.host("origin");
        let started = programs().start_tcpcopy(&self.lab, origin, &self.setup, REPORT);
        self.tcpcopy = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    /// Loses `percent` of the packets between tcpcopy and the target from now on, in both directions.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn lose(&mut self, percent: f64) {
        lose(&mut self.lab, &self.setup, percent);
    }

    /// Starts tcpcopy on the origin with exactly these arguments beside the report's.
    ///
    /// # Panics
    /// As [`start_tcpcopy`](Self::start_tcpcopy).
    pub fn start_tcpcopy_with<T: ToString>(&mut self, programs: &Programs, arguments: &[T]) {
        let origin = self.lab.host("origin");
        let started = programs.start_tcpcopy_with(&self.lab, origin, arguments, REPORT);
        self.tcpcopy = Some(started.unwrap_or_else(|error| panic!("{error}")));
    }

    /// The running intercept.
    ///
    /// # Panics
    /// When there is none.
    pub fn intercept(&mut self) -> &mut Process {
        self.intercepts.first_mut().expect("this setup has one")
    }

    /// Starts intercept again after it was ended.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn restart_intercept(&mut self) {
        self.intercepts = start_intercepts(&self.lab, &self.setup);
    }

    /// Where the clients' server listens.
    pub fn server(&self) -> SocketAddr {
        self.setup.server(self.lab.host("origin"))
    }

    /// Where the target's server listens.
    pub fn target_server(&self) -> SocketAddr {
        self.setup.server(self.lab.host("target"))
    }

    /// The address of a host in the IP version of this replay.
    pub fn address(&self, host: &str) -> IpAddr {
        self.setup.address(self.lab.host(host))
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
        let report = Programs::finish_tcpcopy(&self.lab, process, REPORT);
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        report.assert_balanced();
        report
    }

    /// Waits until tcpcopy ends by itself and reads its report.
    ///
    /// # Panics
    /// When it does not end in time, or its balance is not zero.
    pub fn wait_for_end(&mut self) -> Report {
        let mut process = self.tcpcopy.take().expect("tcpcopy was started");
        let output = process.wait(CATCH_UP_TIMEOUT).expect("tcpcopy ends");
        assert!(output.status.success(), "{}", output.stderr);
        let report = self.lab.read(REPORT).expect("tcpcopy writes a report");
        let report = Report::parse(&report).expect("a report");
        report.assert_balanced();
        report
    }

    /// Waits until the target has as many requests as the origin, ends tcpcopy, and asserts that
    /// nothing was lost, nothing came twice, and all came in the client's name, or, over sockets,
    /// that every connection of the target asked what one of the origin had asked.
    ///
    /// # Panics
    /// When one of these is not so.
    pub fn finish_without_loss(&mut self) -> Report {
        self.catch_up(1);
        let report = self.finish();
        report.assert_nothing_lost();
        match self.setup.mode {
            Mode::Target | Mode::Assistant => assert_alike(&self.origin, &self.target),
            // The target sees all clients under the address of tcpcopy's host.
            Mode::Socket => assert_same_conversations(&self.origin, &self.target),
        }
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

/// Asserts that two servers have answered the same requests in the same order on as many
/// connections.
///
/// # Panics
/// When they have not.
pub fn assert_same_conversations(origin: &Nginx, target: &Nginx) {
    let list = |nginx: &Nginx| nginx.conversations().expect("the log can be read");
    let (origin, target) = (list(origin), list(target));
    assert_eq!(origin.len(), target.len(), "connections");
    assert!(origin == target, "as many connections, but not the same");
}

fn start_intercepts(lab: &Lab, setup: &Setup) -> Vec<Process> {
    programs()
        .start_intercepts(lab, setup)
        .unwrap_or_else(|error| panic!("{error}"))
}
