//! Real traffic in capture files, and its replay by a user without any privilege.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use tcpcopy_lab::{
    Command, Host, Lab, Nginx, NginxConfig, Output, Process, Programs, Report, Wrk, wait_until,
};

use crate::trace::{SendTimes, Trace};
use crate::{programs, tell};

/// The user who replays files; it may do nothing special.
const USER: &str = "nobody";

/// The directory that belongs to that user.
const OWN: &str = "own";

/// The port that all servers here listen on.
const PORT: u16 = 80;

/// The discard port, to which the last packet of a capture goes,
const MARK_PORT: u16 = 9;

/// and what is in it.
const MARK: &str = "that was all";

/// How long a program may take to be ready, and to end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a replay may take beyond what was recorded.
const REPLAY_TIMEOUT: Duration = Duration::from_secs(300);

/// A lab with two captures of the same traffic on the origin, made at the same time, and a target
/// that has seen nothing yet.
#[derive(Debug)]
pub struct Recording {
    /// The lab.
    pub lab: Lab,
    /// The server that gets the copy.
    pub target: Nginx,
    programs: Programs,
}

/// What a replay brought.
#[derive(Debug)]
pub struct Replayed {
    /// The balance.
    pub report: Report,
    /// The paths that the target was asked for, sorted.
    pub paths: Vec<String>,
    /// How tcpcopy ended and what it printed.
    pub output: Output,
}

impl Recording {
    /// The file that tcpdump wrote.
    pub const TCPDUMP: &str = "tcpdump.pcap";

    /// The file that `tcpcopy capture` wrote.
    pub const TCPCOPY: &str = "tcpcopy.pcapng";

    /// Lets the clients make some loads, one after the other with a pause between them, and records
    /// them; `None` where there can be no lab.
    ///
    /// # Panics
    /// When something can't be started, or a capture missed something.
    pub fn of(loads: &[Wrk], pause: Duration) -> Option<Self> {
        let make = |lab: &Lab, origin: &Nginx| {
            for (number, load) in loads.iter().enumerate() {
                if number > 0 {
                    // What is recorded is that nothing happens for this long.
                    std::thread::sleep(pause);
                }
                let server = origin.ipv4();
                let load = Wrk {
                    server,
                    ..load.clone()
                };
                let report = load.varied().run(lab.host("client")).expect("wrk runs");
                assert_eq!(report.errors, 0, "the origin's clients were disturbed");
            }
        };
        let (recording, origin) = Self::of_traffic(&NginxConfig::default(), make)?;
        recording.assert_complete(&origin);
        Some(recording)
    }

    /// Records what the clients say while `traffic` runs, which gets the lab and the origin's
    /// server; returns that server too, or `None` where there can be no lab.
    ///
    /// # Panics
    /// When something can't be started, or a capture missed something.
    pub fn of_traffic(
        nginx: &NginxConfig,
        traffic: impl FnOnce(&Lab, &Nginx),
    ) -> Option<(Self, Nginx)> {
        let lab = Lab::for_test()?;
        let start = |host: &str| Nginx::start(lab.host(host), nginx).expect("nginx starts");
        let (origin, target) = (start("origin"), start("target"));
        let programs = programs().for_every_user(&lab).expect("the lab has room");
        lab.directory_of(USER, OWN).expect("a directory is made");
        let recording = Self {
            lab,
            target,
            programs,
        };
        let host = recording.lab.host("origin");
        let tcpdump = recording.start_tcpdump(host, Self::TCPDUMP, "tcp port 80");
        let capture = recording.start_capture(host);
        traffic(&recording.lab, &origin);
        stop(capture);
        recording.stop_tcpdump(tcpdump, host, Self::TCPDUMP);
        // It is nobody else's business what clients said, unless they are given the file.
        let chmod = recording.lab.host("origin").command("chmod");
        let file = recording.lab.path(Self::TCPCOPY);
        chmod.args(["644", &file]).run().expect("a file is shared");
        Some((recording, origin))
    }

    /// Reads one of the captures.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn trace(&self, name: &str) -> Trace {
        // tcpdump reads both forms and writes the one that is read here.
        let copy = format!("{name}.copy");
        let convert = self.lab.host("bystander").command("tcpdump");
        convert
            .args(["-Z", "root", "-r", &self.lab.path(name)])
            .args(["-w", &self.lab.path(&copy)])
            .run()
            .expect("tcpdump reads the file");
        Trace::new(self.lab.read_bytes(&copy).expect("tcpdump wrote a file"))
    }

    /// Replays files to the end, as fast as `arguments` say.
    ///
    /// # Panics
    /// When that can't be done, loses something, or does not come out even.
    pub fn replay(&self, files: &[&str], arguments: &[&str]) -> Replayed {
        let replayed = self.replay_broken(files, arguments);
        let words = &replayed.output.stderr;
        assert!(replayed.output.status.success(), "{words}");
        replayed.report.assert_nothing_lost();
        replayed
    }

    /// Replays files to the end, whatever that is.
    ///
    /// # Panics
    /// When there is no balance, or it does not come out even.
    pub fn replay_broken(&self, files: &[&str], arguments: &[&str]) -> Replayed {
        let files: Vec<_> = files.iter().map(|name| self.lab.path(name)).collect();
        let command = self.command(&files.join(","), arguments);
        self.finish(command)
    }

    /// Replays what a shell command prints.
    ///
    /// # Panics
    /// As [`replay`](Self::replay).
    pub fn replay_from_pipe(&self, producer: &str, arguments: &[&str]) -> Replayed {
        let script = format!("{producer} | \"$0\" \"$@\"");
        let shell = self.lab.host("bystander").command("sh").as_user(USER);
        let shell = shell.args(["-c", &script, &self.programs.tcpcopy]);
        let arguments = self.arguments("-", self.target.ipv4(), arguments);
        let replayed = self.finish(shell.args(arguments));
        replayed.report.assert_nothing_lost();
        replayed
    }

    /// Replays a file while tcpdump watches the target's device; returns what arrived there too.
    ///
    /// # Panics
    /// As [`replay`](Self::replay).
    pub fn replay_traced(&self, file: &str, arguments: &[&str]) -> (Replayed, Trace) {
        const FILE: &str = "arrived.pcap";
        let target = self.lab.host("target");
        let tcpdump = self.start_tcpdump(target, FILE, "tcp dst port 80");
        let replayed = self.replay(&[file], arguments);
        self.stop_tcpdump(tcpdump, target, FILE);
        (replayed, self.trace(FILE))
    }

    /// Replays a file while tcpdump watches the target's device; returns when each request arrived
    /// there too.
    ///
    /// # Panics
    /// As [`replay`](Self::replay).
    pub fn replay_watched(&self, file: &str, arguments: &[&str]) -> (Replayed, SendTimes) {
        let (replayed, trace) = self.replay_traced(file, arguments);
        (replayed, trace.requests(PORT))
    }

    /// Replays a file to another server than nginx; that one has to tell what came.
    ///
    /// # Panics
    /// As [`replay`](Self::replay).
    pub fn replay_to(&self, server: SocketAddr, file: &str, arguments: &[&str]) -> Report {
        let command = self.command_to(server, &self.lab.path(file), arguments);
        let replayed = self.finish(command);
        replayed.report.assert_nothing_lost();
        replayed.report
    }

    /// The command that replays a file as a user without privileges.
    pub fn command(&self, file: &str, arguments: &[&str]) -> Command {
        self.command_to(self.target.ipv4(), file, arguments)
    }

    fn command_to(&self, server: SocketAddr, file: &str, arguments: &[&str]) -> Command {
        let host = self.lab.host("bystander");
        let command = host.command(&self.programs.tcpcopy).as_user(USER);
        command.args(self.arguments(file, server, arguments))
    }

    fn arguments(&self, file: &str, server: SocketAddr, arguments: &[&str]) -> Vec<String> {
        let transfer = format!("{PORT}-{server}");
        let fixed = ["-i", file, "-x", &transfer, "--upstream", "socket"];
        let words = fixed.iter().chain(arguments);
        let mut words: Vec<_> = words.map(|&word| word.to_owned()).collect();
        words.extend(["--report".to_owned(), self.lab.path(&report_file())]);
        words
    }

    fn finish(&self, command: Command) -> Replayed {
        let before = self.target.request_count().expect("the log can be read");
        let mut process = command.spawn().expect("tcpcopy starts");
        let output = process.wait(REPLAY_TIMEOUT).expect("the replay ends");
        let report = self.lab.read(&report_file());
        let report = report.unwrap_or_else(|error| panic!("{error}\n{}", output.stderr));
        let report = Report::parse(&report).expect("a report");
        report.assert_balanced();
        let requests = self.target.requests().expect("the log can be read");
        let new = requests.into_iter().skip(before as usize);
        let mut paths: Vec<_> = new.map(|request| request.path).collect();
        paths.sort_unstable();
        Replayed {
            report,
            paths,
            output,
        }
    }

    /// Asserts that both captures have every request that the origin has answered.
    fn assert_complete(&self, origin: &Nginx) {
        let requests = origin.requests().expect("the log can be read");
        let mut expected: Vec<_> = requests.into_iter().map(|request| request.path).collect();
        expected.sort_unstable();
        for file in [Self::TCPDUMP, Self::TCPCOPY] {
            let captured: Vec<_> = self.trace(file).requests(PORT).into_keys().collect();
            let (count, answered) = (captured.len(), expected.len());
            assert!(
                captured == expected,
                "{file} has {count} of {answered} requests"
            );
        }
    }

    fn start_tcpdump(&self, host: &Host, file: &str, filter: &str) -> Process {
        let filter = format!("({filter}) or (udp and dst port {MARK_PORT})");
        let tcpdump = host.command("tcpdump");
        let tcpdump = tcpdump
            .args(["-i", "eth0", "-n", "-Z", "root", "-B", "65536", "-U"])
            .args(["--immediate-mode", "-w", &self.lab.path(file), &filter])
            .spawn()
            .expect("tcpdump starts");
        wait_until("tcpdump to capture", TIMEOUT, || {
            tcpdump.stderr().contains("listening on")
        })
        .expect("tcpdump captures");
        tcpdump
    }

    /// Ends tcpdump after it has written all that has come so far: it would forget what it has not
    /// read yet.
    fn stop_tcpdump(&self, process: Process, host: &Host, file: &str) {
        let send = format!("printf '{MARK}' > /dev/udp/{}/{MARK_PORT}", host.ipv4());
        let sender = self.lab.host("assistant").command("bash");
        sender.args(["-c", &send]).run().expect("a mark is sent");
        wait_until("tcpdump to write all", TIMEOUT, || {
            let bytes = self.lab.read_bytes(file);
            bytes.is_ok_and(|bytes| bytes.ends_with(MARK.as_bytes()))
        })
        .expect("tcpdump writes all");
        let text = stop(process).stderr;
        assert!(text.contains("\n0 packets dropped by kernel"), "{text}");
    }

    fn start_capture(&self, host: &Host) -> Process {
        let transfer = format!("{PORT}-{}", self.target.ipv4());
        let file = self.lab.path(Self::TCPCOPY);
        let capture = host.command(&self.programs.tcpcopy);
        let mut capture = capture
            .args(["capture", "-x", &transfer, "-i", "eth0", "-o", &file])
            .spawn()
            .expect("tcpcopy starts");
        wait_until("tcpcopy to capture", TIMEOUT, || {
            !capture.is_running() || capture.stderr().contains(" started ")
        })
        .expect("tcpcopy captures");
        assert!(capture.is_running(), "{}", capture.stderr());
        capture
    }
}

/// The file that gets the balance, in the user's own directory.
fn report_file() -> String {
    format!("{OWN}/report.json")
}

fn stop(mut process: Process) -> Output {
    let output = process.terminate(TIMEOUT).expect("the program ends");
    assert!(output.status.success(), "{}", output.stderr);
    output
}

/// Asserts that a process of that user has no privilege and can't get one.
///
/// # Panics
/// When it has one.
pub fn assert_unprivileged(process: &mut Process) {
    let pid = process.pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set));
        assert!(
            line.is_some_and(|line| line.ends_with("\t0000000000000000")),
            "{status}"
        );
    }
    tell(&format!("replaying without privileges as {USER}"));
}
