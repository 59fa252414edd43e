//! A plugin stands between the clients and the target: what the target gets is what the plugin says,
//! and the plugin hears what the target answers, whatever the way and its losses.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Form, plugin, programs, scaled, tell};
use tcpcopy_lab::{Lab, Mode, Process, Programs, Report, Setup, wait_until};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const PORT: u16 = 7000;
const CONNECTIONS: u64 = 20;
const TIMEOUT: Duration = Duration::from_secs(120);
const REPORT: &str = "report.json";

fn lines_of_each() -> u64 {
    scaled(50, 400)
}

/// A replay of a line protocol.
struct Replay {
    lab: Lab,
    targets: Vec<String>,
    tcpcopy: Option<Process>,
    _others: Vec<Process>,
}

fn journal_name(host: &str) -> String {
    format!("{host}-lines")
}

impl Replay {
    fn start(mode: Mode, targets: &[&str], form: Form, more: &[&str]) -> Option<Self> {
        let mut lab = Lab::for_test()?;
        for (number, name) in (7..).zip(&targets[1..]) {
            lab.add_host(name, [0, number]).unwrap();
        }
        let plugin = plugin(&lab, "upper", form);
        let setup = Setup {
            port: PORT,
            targets: targets.iter().map(|&host| host.to_owned()).collect(),
            ..Setup::new(mode).with(["--plugin", &plugin]).with(more)
        };
        let serve = |host: &str| {
            let journal = lab.path(&journal_name(host));
            let server = lab.host(host).command(TRAFFIC);
            let server = server.args(["serve-lines", "--port", "7000", "--journal", &journal]);
            let mut server = server.spawn().unwrap();
            server.wait_listening(PORT).unwrap();
            server
        };
        let hosts = ["origin"].iter().chain(targets);
        let mut others: Vec<Process> = hosts.map(|host| serve(host)).collect();
        if mode == Mode::Assistant {
            lab.route_clients_via_assistant().unwrap();
        }
        others.extend(programs().start_intercepts(&lab, &setup).unwrap());
        let origin = lab.host("origin");
        let tcpcopy = programs().start_tcpcopy(&lab, origin, &setup, REPORT);
        Some(Self {
            tcpcopy: Some(tcpcopy.unwrap()),
            targets: setup.targets,
            lab,
            _others: others,
        })
    }

    fn tcpcopy(&self) -> &Process {
        self.tcpcopy.as_ref().unwrap()
    }

    fn ask(&self, lines: u64) {
        let client = self.lab.host("client").command(TRAFFIC);
        let server = format!("{}:{PORT}", self.lab.host("origin").ipv4());
        let client = client.args(["ask-lines", "--server", &server]);
        let client = client.args(["--connections", &CONNECTIONS.to_string()]);
        let client = client.args(["--lines", &lines.to_string()]);
        client.timeout(TIMEOUT).run().unwrap();
    }

    /// What each connection said to a host, sorted.
    fn heard(&self, host: &str) -> Vec<String> {
        let text = self.lab.read(&journal_name(host)).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    /// Waits until every target has heard the origin's connections so often, ends tcpcopy, and
    /// asserts that each target heard what the plugin makes of what the origin heard: nothing else,
    /// and nothing less.
    fn finish(&mut self, copies: usize, prefix: &str) -> (Report, Vec<String>) {
        // A connection is written down when the server sees its end.
        wait_until("the origin's journal", TIMEOUT, || {
            self.heard("origin").len() as u64 == CONNECTIONS
        })
        .unwrap();
        let origin = self.heard("origin");
        let of_one = |connection: &String| {
            let lines = connection.split_terminator('|');
            lines
                .map(|line| format!("{prefix}{}|", line.to_ascii_uppercase()))
                .collect::<String>()
        };
        let copied = origin.iter().flat_map(|it| vec![of_one(it); copies]);
        let mut expected: Vec<String> = copied.collect();
        expected.sort_unstable();
        for target in &self.targets {
            let count = || self.heard(target).len();
            let caught_up = wait_until("the target", TIMEOUT, || count() == expected.len());
            let stderr = self.tcpcopy().stderr();
            assert!(caught_up.is_ok(), "{target} heard {}: {stderr}", count());
            assert!(self.heard(target) == expected, "{target} heard otherwise");
        }
        let tcpcopy = self.tcpcopy.take().unwrap();
        let report = Programs::finish_tcpcopy(&self.lab, tcpcopy, REPORT).unwrap();
        report.assert_nothing_lost();
        (report, expected)
    }
}

/// Asserts that the plugin heard the whole answer to each of so many requests.
fn assert_all_answered(report: &Report, target: usize, requests: u64) {
    let plugin = format!("targets.{target}.plugins.0");
    assert_eq!(
        report.count(&format!("{plugin}.counters"), "lines"),
        requests
    );
    for name in ["begun", "ok"] {
        let label = format!("{plugin}.labels.0");
        assert_eq!(report.count(&label, name), requests, "{name}: {report}");
    }
    let section = format!("targets.{target}");
    assert_eq!(
        report.count(&section, "requests_answered"),
        requests,
        "{report}"
    );
}

fn every_line_comes_in_capitals(mode: Mode, form: Form) {
    let Some(mut replay) = Replay::start(mode, &["target"], form, &[]) else {
        return;
    };
    replay.ask(lines_of_each());
    let (report, _) = replay.finish(1, "");
    assert_all_answered(&report, 0, CONNECTIONS * lines_of_each());
}

#[test]
fn over_sockets_with_a_native_plugin() {
    every_line_comes_in_capitals(Mode::Socket, Form::Native);
}

#[test]
fn over_sockets_with_a_wasm_plugin() {
    every_line_comes_in_capitals(Mode::Socket, Form::Wasm);
}

#[test]
fn in_the_clients_names_with_a_native_plugin() {
    every_line_comes_in_capitals(Mode::Target, Form::Native);
}

#[test]
fn in_the_clients_names_with_a_wasm_plugin() {
    every_line_comes_in_capitals(Mode::Target, Form::Wasm);
}

#[test]
fn with_intercept_on_an_assistant() {
    every_line_comes_in_capitals(Mode::Assistant, Form::Wasm);
}

/// Both ways lose packets: the plugin must not notice.
fn loss_is_not_seen_by_the_plugin(mode: Mode) {
    let Some(mut replay) = Replay::start(mode, &["target"], Form::Wasm, &[]) else {
        return;
    };
    let to = ["-p", "tcp", "--dport", "7000"];
    let from = ["-p", "tcp", "--sport", "7000"];
    let target = replay.lab.host("target");
    target.drop_incoming(1.0, &to).unwrap();
    match mode {
        // A SYN-ACK that the packet filter drops is an error to the target's TCP.
        Mode::Target | Mode::Socket => {
            let data = [&from[..], &["!", "--tcp-flags", "SYN", "SYN"]].concat();
            target.drop_outgoing(1.0, &data).unwrap();
        }
        Mode::Assistant => {
            let lab = &mut replay.lab;
            lab.lose_on_the_way_to_the_assistant(1.0, &from).unwrap();
        }
    }
    let lines = 4 * lines_of_each();
    replay.ask(lines);
    let (report, _) = replay.finish(1, "");
    // What was lost on the way to the assistant is counted elsewhere.
    let lost = replay.lab.host("target").lost_packets().unwrap();
    tell(&format!("{mode:?}: {lost} packets or more were lost"));
    assert!(lost > 0, "no packet was lost, so this test shows nothing");
    assert_all_answered(&report, 0, CONNECTIONS * lines);
}

#[test]
fn at_one_per_cent_loss_in_the_clients_names() {
    loss_is_not_seen_by_the_plugin(Mode::Target);
}

#[test]
fn at_one_per_cent_loss_with_intercept_on_an_assistant() {
    loss_is_not_seen_by_the_plugin(Mode::Assistant);
}

#[test]
fn at_one_per_cent_loss_over_sockets() {
    loss_is_not_seen_by_the_plugin(Mode::Socket);
}

/// Each copy has a plugin session of its own.
#[test]
fn two_copies_of_every_connection() {
    let more = ["-n", "2", "--set", "upper.prefix=x "];
    let Some(mut replay) = Replay::start(Mode::Target, &["target"], Form::Native, &more) else {
        return;
    };
    replay.ask(lines_of_each());
    let (report, _) = replay.finish(2, "x ");
    assert_all_answered(&report, 0, 2 * CONNECTIONS * lines_of_each());
}

/// Each target has plugins of its own: counters, exchanges and values are not mixed.
#[test]
fn two_targets_and_several_threads() {
    let more = ["--shards", "2"];
    let targets = ["target", "target2"];
    let Some(mut replay) = Replay::start(Mode::Socket, &targets, Form::Wasm, &more) else {
        return;
    };
    replay.ask(lines_of_each());
    let (report, _) = replay.finish(1, "");
    for target in 0..2 {
        assert_all_answered(&report, target, CONNECTIONS * lines_of_each());
    }
}

/// The same through either form of a plugin, byte for byte.
#[test]
fn native_and_wasm_say_the_same() {
    let heard = Form::BOTH.map(|form| {
        let more = ["--set", "upper.prefix=> "];
        let mut replay = Replay::start(Mode::Socket, &["target"], form, &more)?;
        replay.ask(lines_of_each());
        Some(replay.finish(1, "> ").1)
    });
    assert!(heard[0] == heard[1], "native and WASM differ");
}

/// What `tcpcopy plugin` says in the lab, and with which status.
fn plugin_job(lab: &Lab, arguments: &[&str]) -> (i32, String) {
    let tcpcopy = lab.host("origin").command(&programs().tcpcopy);
    let mut process = tcpcopy.arg("plugin").args(arguments).spawn().unwrap();
    let output = process.wait(TIMEOUT).unwrap();
    let status = output.status.code().unwrap();
    (status, output.stdout + &output.stderr)
}

#[test]
fn a_plugin_is_described_and_tried_without_a_network() {
    let Some(lab) = Lab::for_test() else {
        return;
    };
    let story = "C: get x\\nput\\x20\nT: 1\\n\nC: y\\n\nC end\n";
    let story = lab.write("story", story).unwrap();
    let told = Form::BOTH.map(|form| {
        let file = plugin(&lab, "upper", form);
        let (status, text) = plugin_job(&lab, &["inspect", &file]);
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("upper 0.1.0: lines in capitals"), "{text}");
        assert!(text.contains("prefix (a text, default: nothing)"), "{text}");

        let test = ["test", &file, &story, "--set"];
        let (status, text) = plugin_job(&lab, &[&test[..], &["upper.no_such=1"]].concat());
        assert_eq!(status, 2, "{text}");
        assert!(text.contains("unknown key, there is: prefix"), "{text}");
        let (status, text) = plugin_job(&lab, &[&test[..], &["upper.prefix=> "]].concat());
        assert_eq!(status, 0, "{text}");
        text
    });
    let expected = r"session 1 of 192.0.2.1:50001
  sent 16 bytes
    > GET X\n
    > PUT Y\n
  exchange line: 8 bytes, ok
  exchange line: 8 bytes, no end
counters
  lines 2
";
    assert_eq!(told, [expected, expected]);

    let file = plugin(&lab, "misbehaving", Form::Wasm);
    let panic = ["--set", "misbehaving.fault=panic"];
    let (status, text) = plugin_job(&lab, &[&["test", &file, &story][..], &panic].concat());
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("step 1: the plugin failed"), "{text}");
}
