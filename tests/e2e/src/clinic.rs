//! A path of a replay with real clients on it, ways to break it, and what the doctors say.

use std::time::Duration;

use serde_json::Value;
use tcpcopy_lab::{Host, Lab, Mode, Nginx, NginxConfig, Output, Process, Setup, wait_until};

use crate::programs;

/// How long a doctor may take.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(60);

/// The file of the lab that sends the client away.
const NO_MORE_VISITORS: &str = "no-more-visitors";

/// Origin, target, intercept, and a client that talks to the origin all the time.
#[derive(Debug)]
pub struct Clinic {
    /// The lab.
    pub lab: Lab,
    /// The running intercept.
    pub intercept: Option<Process>,
    /// The server under test.
    pub target: Option<Nginx>,
    /// What is replayed.
    pub setup: Setup,
    origin: Nginx,
    visitor: Option<Process>,
}

/// What a doctor said.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its exit status.
    pub status: Option<i32>,
    /// Its whole report.
    pub report: Value,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Clinic {
    /// Starts all of it; `None` where there can be no lab.
    ///
    /// # Panics
    /// When something can't be started.
    pub fn open(setup: Setup) -> Option<Self> {
        let lab = Lab::for_test()?;
        let server = |host: &str| {
            Nginx::start(lab.host(host), &NginxConfig::default()).expect("nginx starts")
        };
        let (origin, target) = (server("origin"), server("target"));
        if setup.mode == Mode::Assistant {
            let routed = lab.route_clients_via_assistant();
            routed.expect("the target takes a route");
        }
        let intercepts = programs().start_intercepts(&lab, &setup);
        let mut intercepts = intercepts.unwrap_or_else(|error| panic!("{error}"));
        let mut clinic = Self {
            lab,
            intercept: intercepts.pop(),
            target: Some(target),
            setup,
            origin,
            visitor: None,
        };
        clinic.let_visitors_come();
        Some(clinic)
    }

    /// Has a client ask the origin five times a second from now on.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn let_visitors_come(&mut self) {
        let server = self.setup.server(self.lab.host("origin"));
        let script = r#"rm -f "$1"
            while [ ! -e "$1" ]; do curl -s -o /dev/null "http://$0/"; sleep 0.2; done"#;
        let client = self.lab.host("client");
        let no_more = self.lab.path(NO_MORE_VISITORS);
        let visitor = client.command("sh").args(["-c", script]);
        let visitor = visitor.arg(server).arg(no_more);
        self.visitor = Some(visitor.spawn().expect("the visitor comes"));
        let before = self.origin.request_count().expect("a log");
        let more = || {
            self.origin
                .request_count()
                .is_ok_and(|count| count > before)
        };
        wait_until("a visitor", DOCTOR_TIMEOUT, more).expect("a visitor comes");
    }

    /// Sends the client away, and waits until its last visit is over.
    ///
    /// # Panics
    /// When it does not end.
    pub fn send_visitors_away(&mut self) {
        let written = self.lab.write(NO_MORE_VISITORS, "");
        written.expect("the lab takes a file");
        if let Some(mut visitor) = self.visitor.take() {
            let ended = visitor.wait(DOCTOR_TIMEOUT);
            ended.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Ends the server under test in good order.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop_target(&mut self) {
        let mut target = self.target.take().expect("the target runs");
        let ended = target.process().terminate(DOCTOR_TIMEOUT);
        ended.unwrap_or_else(|error| panic!("{error}"));
    }

    /// One of the hosts.
    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// Runs a command on a host to its end.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, host: &str, command: &str) -> Output {
        let mut words = command.split_whitespace();
        let program = words.next().expect("a program");
        let command = self.host(host).command(program).args(words);
        command.run().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The words of a sound examination of this path from the origin.
    ///
    /// # Panics
    /// When there is no key to be had.
    pub fn words(&self) -> Vec<String> {
        let (origin, target) = (self.host("origin"), self.host("target"));
        let transfer = format!(
            "{}-{}",
            self.setup.server(origin),
            self.setup.server(target)
        );
        let words = ["doctor", "--json", "-i", "eth0", "-x", &transfer];
        let mut words: Vec<_> = words.map(str::to_owned).into();
        words.extend(["--wait-s", "5"].map(str::to_owned));
        let intercept = match self.setup.mode {
            Mode::Target => target,
            Mode::Assistant => self.host("assistant"),
            Mode::Socket => return words,
        };
        let intercept = match self.setup.address(intercept) {
            std::net::IpAddr::V6(address) => format!("[{address}]"),
            address => address.to_string(),
        };
        let key = programs().key_file(&self.lab).expect("a key");
        words.extend(["-s", &intercept, "--key-file", &key].map(str::to_owned));
        words
    }

    /// What `tcpcopy doctor` says of this path.
    ///
    /// # Panics
    /// When it does not end, or says nothing.
    pub fn examine(&self) -> Verdict {
        self.examine_with(&[])
    }

    /// What `tcpcopy doctor` says with more, or other, options: those here go last.
    ///
    /// # Panics
    /// As [`examine`](Self::examine).
    pub fn examine_with(&self, words: &[&str]) -> Verdict {
        let mut all = self.words();
        for pair in words.chunks(2) {
            match all.iter().position(|word| word == pair[0]) {
                Some(at) => all[at + 1] = pair[1].to_owned(),
                None => all.extend(pair.iter().map(ToString::to_string)),
            }
        }
        let words: Vec<&str> = all.iter().map(String::as_str).collect();
        self.ask("origin", &programs().tcpcopy, &words)
    }

    /// What `intercept doctor` says on a host, with the key of this path.
    ///
    /// # Panics
    /// As [`examine`](Self::examine).
    pub fn examine_intercept(&self, host: &str, words: &[&str]) -> Verdict {
        let key = programs().key_file(&self.lab).expect("a key");
        let own = ["doctor", "--json", "--key-file", &key];
        let words: Vec<&str> = own.into_iter().chain(words.iter().copied()).collect();
        self.ask(host, &programs().intercept, &words)
    }

    /// Starts a doctor on a host and reads what it says.
    ///
    /// # Panics
    /// As [`examine`](Self::examine).
    pub fn ask(&self, host: &str, program: &str, words: &[&str]) -> Verdict {
        let command = self.host(host).command(program).args(words);
        let mut process = command.spawn().expect("the doctor starts");
        let output = process.wait(DOCTOR_TIMEOUT);
        Verdict::of(output.unwrap_or_else(|error| panic!("{error}")))
    }
}

impl Verdict {
    /// Reads what a doctor printed.
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            report: serde_json::from_str(&output.stdout).unwrap_or_default(),
            stderr: output.stderr,
        }
    }

    /// The names of the findings.
    pub fn findings(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array();
        let names = findings.into_iter().flatten();
        names
            .filter_map(|finding| finding["name"].as_str())
            .collect()
    }

    /// Asserts that exactly these findings were made, and that the exit status says so.
    ///
    /// # Panics
    /// When they were not.
    #[track_caller]
    pub fn assert_finds(&self, names: &[&str]) -> &Self {
        assert_eq!(self.findings(), names, "{self:#?}");
        let status = i32::from(!names.is_empty());
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// Asserts that some finding's text or hint contains this.
    ///
    /// # Panics
    /// When none does.
    #[track_caller]
    pub fn assert_says(&self, words: &str) -> &Self {
        let text = self.report["findings"].to_string();
        assert!(text.contains(words), "no {words:?} in {self:#?}");
        self
    }
}
