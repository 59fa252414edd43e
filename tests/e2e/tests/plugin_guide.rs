//! The author's guide does what it says: its own command lines, between its two servers.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use tcpcopy_e2e::{Form, plugin, programs};
use tcpcopy_lab::{Lab, Process, Programs, Report, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);
const REPORT: &str = "report.json";

const NOTES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/notes");

/// The commands of the guide's block in which these words are, one a line.
fn shown(words: &str) -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugin-api/GUIDE.md");
    let guide = fs::read_to_string(guide).unwrap();
    let blocks = guide.split("```sh\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let block = blocks.find(|block| block.contains(words));
    let block = block.unwrap_or_else(|| panic!("the guide shows no {words}"));
    let lines = block.replace("\\\n", " ");
    lines.lines().map(str::to_owned).collect()
}

/// The arguments of one of those commands, behind the program.
fn arguments(command: &str, lab: &Lab, form: Form) -> Vec<String> {
    let words = command.split_whitespace().skip(1);
    let here = |word: &str| match word {
        "target/plugins/notes.wasm" => plugin(lab, "notes", form),
        word => word.replace("plugins/notes/", &format!("{NOTES}/")),
    };
    words.map(here).collect()
}

/// The guide's two servers, its client, and tcpcopy between, with these options.
struct Running {
    lab: Lab,
    origin: Process,
    target: Process,
    tcpcopy: Process,
}

impl Running {
    fn start(form: Form, with_plugin: bool) -> Option<Self> {
        let lab = Lab::for_test()?;
        let host = lab.host("origin");
        let serve = |command: &str, port| {
            let command = command.split('#').next().unwrap();
            let server = host.command("python3");
            let mut server = server.args(arguments(command, &lab, form)).spawn().unwrap();
            server.wait_listening(port).unwrap();
            server
        };
        let servers = shown("python3 plugins/notes/server.py");
        let (origin, target) = (serve(&servers[0], 8080), serve(&servers[1], 9090));
        let command = &shown("-x 8080-127.0.0.1:9090")[0];
        let mut arguments = arguments(command, &lab, form);
        if !with_plugin {
            arguments.truncate(2);
        }
        let tcpcopy = programs().start_tcpcopy_with(&lab, host, &arguments, REPORT);
        let tcpcopy = tcpcopy.unwrap();
        Some(Self {
            lab,
            origin,
            target,
            tcpcopy,
        })
    }

    /// Lets the guide's client speak, and waits until the target has heard so many requests; the
    /// answer is what the client heard, what both servers print, and the report.
    fn visit(self, requests: usize) -> (String, [Vec<String>; 2], Report) {
        let script = shown("exec 3<>").join("\n");
        let client = self.lab.host("origin").command("bash");
        let heard = client.args(["-c", &script]).timeout(TIMEOUT).run().unwrap();
        let lines = |server: &Process| -> Vec<String> {
            server.stdout().lines().map(str::to_owned).collect()
        };
        let caught_up = wait_until("the target", TIMEOUT, || {
            lines(&self.target).len() >= requests
        });
        caught_up.unwrap_or_else(|error| panic!("{error}: {}", self.tcpcopy.stderr()));
        let report = Programs::finish_tcpcopy(&self.lab, self.tcpcopy, REPORT).unwrap();
        let printed = [lines(&self.origin), lines(&self.target)];
        (heard.stdout, printed, report)
    }
}

#[test]
fn notes_are_found_at_the_target() {
    for form in Form::BOTH {
        let Some(running) = Running::start(form, true) else {
            return;
        };
        let (heard, [origin, target], report) = running.visit(3);
        assert_eq!(heard, "WELCOME\r\nSTORED 17\r\nNOTE milk, eggs\r\n");
        let expected = [
            "8080 AUTH eve production -> WELCOME",
            "8080 PUT milk, eggs -> STORED 17",
            "8080 GET 17 -> NOTE milk, eggs",
        ];
        assert_eq!(origin, expected);
        let expected = [
            "9090 AUTH eve test -> WELCOME",
            "9090 PUT milk, eggs -> STORED 4",
            "9090 GET 4 -> NOTE milk, eggs",
        ];
        assert_eq!(target, expected, "{form:?}");
        report.assert_nothing_lost();
        assert_eq!(report.count("requests", "captured"), 3, "{report}");
        let counters = "targets.0.plugins.0.counters";
        assert_eq!(report.count(counters, "notes_learnt"), 1, "{report}");
    }
}

#[test]
fn without_the_plugin_nobody_gets_in() {
    let Some(running) = Running::start(Form::Wasm, false) else {
        return;
    };
    let (_, [_, target], _) = running.visit(3);
    assert_eq!(target[0], "9090 AUTH eve production -> ERR wrong password");
    assert_eq!(target[2], "9090 GET 17 -> ERR log in first");
}

#[test]
fn it_can_be_tried_without_a_network() {
    let Some(lab) = Lab::for_test() else { return };
    let commands = shown("tcpcopy plugin inspect");
    let said = |words: &str| {
        let command = commands.iter().find(|command| command.contains(words));
        let arguments = arguments(command.unwrap(), &lab, Form::Wasm);
        let tcpcopy = lab.host("origin").command(&programs().tcpcopy);
        tcpcopy.args(arguments).run().unwrap().stdout
    };
    let inspected = said("plugin inspect");
    for words in ["notes 0.1.0: logs in", "password (a secret text, required)"] {
        assert!(inspected.contains(words), "{inspected}");
    }
    let tested = said("notes.transcript");
    for words in [
        "AUTH bob test",
        "GET 4",
        "notes_learnt 1",
        "notes_unknown 1",
    ] {
        assert!(tested.contains(words), "{tested}");
    }
}

/// The place in its source, although a trap has no words.
#[test]
fn a_trial_tells_where_a_plugin_has_panicked() {
    let Some(lab) = Lab::for_test() else { return };
    let story = format!("{NOTES}/transcripts/notes.transcript");
    for form in Form::BOTH {
        let file = plugin(&lab, "misbehaving", form);
        let script =
            r#""$0" plugin test "$1" "$2" --set misbehaving.fault=panic; echo "status $?""#;
        let shell = lab.host("origin").command("sh");
        let told = shell.args(["-c", script, &programs().tcpcopy, &file, &story]);
        let told = told.run().unwrap().stdout;
        for words in ["fault.rs:", "as I was told, in on_client", "status 1"] {
            assert!(told.contains(words), "{form:?}: {words} is not in: {told}");
        }
    }
}
