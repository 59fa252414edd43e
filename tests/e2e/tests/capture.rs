//! `tcpcopy capture` beside tcpdump: the same packets, readable by it, within the bounds asked for.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{load_time, programs};
use tcpcopy_lab::{Host, Lab, Nginx, NginxConfig, Output, Process, Wrk, wait_until};

const READY_TIMEOUT: Duration = Duration::from_secs(30);
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests a second that any machine records without a drop.
const RATE: u32 = 500;

/// Starts `tcpcopy capture` on a host and waits until it records.
fn record(host: &Host, arguments: &[&str]) -> Process {
    let command = host.command(&programs().tcpcopy).arg("capture");
    started(command.args(arguments).spawn().unwrap())
}

/// Waits until a recording has begun.
fn started(mut process: Process) -> Process {
    wait_until("the recording to begin", READY_TIMEOUT, || {
        !process.is_running() || process.stderr().contains("started capturing")
    })
    .unwrap();
    process.pid().unwrap_or_else(|error| panic!("{error}"));
    process
}

fn dump(host: &Host, file: &str, filter: &str) -> Process {
    // Short packets in a large buffer, handed over at once: none is dropped or left behind.
    let arguments = "-i eth0 -U --immediate-mode -s 256 -B 32768 -Z root -w";
    let arguments = arguments.split(' ').chain([file, filter]);
    let mut process = host.command("tcpdump").args(arguments).spawn().unwrap();
    wait_until("tcpdump to listen", READY_TIMEOUT, || {
        !process.is_running() || process.stderr().contains("listening on")
    })
    .unwrap();
    process
}

/// How many packets tcpdump finds in a file.
fn packets_in(host: &Host, file: &str) -> u64 {
    let script = r#"tcpdump -n -r "$0" | wc -l"#;
    let output = host.command("sh").args(["-c", script, file]).run().unwrap();
    assert!(!output.stderr.contains("truncated"), "{}", output.stderr);
    output.stdout.trim().parse().unwrap()
}

/// A figure of the summary.
fn figure(output: &Output, name: &str) -> u64 {
    let line = output.stdout.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no '{name}' in {}", output.stdout));
    line.split_whitespace().last().unwrap().parse().unwrap()
}

fn load(lab: &Lab, nginx: &Nginx) {
    let client = lab.host("client");
    let url = format!("http://{}/", nginx.ipv4());
    client
        .command("curl")
        .args(["-s", "-o", "/dev/null", &url])
        .run()
        .unwrap();
    let wrk = Wrk::keep_alive(nginx.ipv4(), 16, load_time()).at_rate(RATE);
    assert_eq!(wrk.run(client).unwrap().errors, 0);
    let wrk = Wrk::short(nginx.ipv4(), 8, load_time() / 2).at_rate(RATE);
    assert_eq!(wrk.run(client).unwrap().errors, 0);
    // The recordings end one after the other: nothing may be under way then.
    nginx.wait_idle().unwrap();
}

#[test]
fn tcpdump_sees_and_reads_the_same_packets() {
    let Some(lab) = Lab::for_test() else {
        return;
    };
    let origin = lab.host("origin");
    let nginx = Nginx::start(origin, &NginxConfig::default()).unwrap();
    let path = |name: &str| lab.path(name);
    let (requests, both, ours) = (
        path("requests.pcapng"),
        path("both.pcapng"),
        path("a.pcapng"),
    );
    let (theirs_to, theirs) = (path("to.pcap"), path("theirs.pcap"));
    let mut recordings = [
        record(origin, &["-x", "80", "-i", "eth0", "-o", &requests]),
        record(origin, &["-x", "80", "--both", "-o", &both]),
        // As a replay is told, and only what one client sends.
        record(
            origin,
            &[
                "-x",
                "80-10.55.0.3:80",
                "-F",
                "src port 1",
                "-i",
                "eth0",
                "-o",
                &ours,
            ],
        ),
    ];
    let mut dumps = [
        dump(origin, &theirs_to, "tcp dst port 80"),
        dump(origin, &theirs, "tcp port 80"),
    ];
    load(&lab, &nginx);
    let outputs = recordings
        .each_mut()
        .map(|process| process.terminate(END_TIMEOUT).unwrap());
    for process in &mut dumps {
        process.terminate(END_TIMEOUT).unwrap();
        assert!(
            process.stderr().contains("\n0 packets dropped by kernel"),
            "{}",
            process.stderr()
        );
    }
    let expected = [
        packets_in(origin, &theirs_to),
        packets_in(origin, &theirs),
        0,
    ];
    assert!(expected[0] > u64::from(RATE), "{expected:?}");
    for ((output, file), expected) in outputs.iter().zip([&requests, &both, &ours]).zip(expected) {
        assert!(output.status.success(), "{}", output.stderr);
        assert_eq!(
            figure(output, "kernel drops") + figure(output, "disk drops"),
            0
        );
        assert_eq!(figure(output, "packets recorded"), expected, "{file}");
        assert_eq!(packets_in(origin, file), expected, "{file}");
    }
}

#[test]
fn a_row_of_files_stays_within_its_bound() {
    const MIB: u64 = 1 << 20;
    let Some(lab) = Lab::for_test() else {
        return;
    };
    let origin = lab.host("origin");
    let nginx = Nginx::start(origin, &NginxConfig::default()).unwrap();
    // The privileges are gone before the first file is created.
    let directory = lab.directory_of("nobody", "row").unwrap();
    let file = format!("{directory}/web.pcapng");
    let row = ["--rotate-mb", "1", "--keep-mb", "8"];
    let arguments = [&["-x", "80", "--both", "-o", &file][..], &row].concat();
    let mut recording = record(origin, &arguments);
    let list = || {
        let script = r#"cd "$0" && stat -c '%s %n' -- *"#;
        let output = origin
            .command("sh")
            .args(["-c", script, &directory])
            .run()
            .unwrap();
        let entry = |line: &str| {
            let (bytes, name) = line.split_once(' ').unwrap();
            (name.to_owned(), bytes.parse::<u64>().unwrap())
        };
        output.stdout.lines().map(entry).collect::<Vec<_>>()
    };
    let last_number = |files: &[(String, u64)]| -> u64 {
        let name = &files.last().unwrap().0;
        name.strip_prefix("web-")
            .unwrap()
            .strip_suffix(".pcapng")
            .unwrap()
            .parse()
            .unwrap()
    };
    let mut number = 0;
    while number < 12 {
        Wrk::keep_alive(nginx.ipv4(), 16, load_time() / 3)
            .run(lab.host("client"))
            .unwrap();
        let files = list();
        assert!(files.iter().all(|(_, bytes)| *bytes <= MIB), "{files:?}");
        assert!(
            files.iter().map(|(_, bytes)| bytes).sum::<u64>() <= 8 * MIB,
            "{files:?}"
        );
        number = last_number(&files);
    }
    let output = recording.terminate(END_TIMEOUT).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let files = list();
    assert_eq!(figure(&output, "files "), last_number(&files));
    assert_eq!(
        figure(&output, "files ") - figure(&output, "files removed"),
        files.len() as u64
    );
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(
        figure(&output, "bytes written") - figure(&output, "bytes removed"),
        bytes
    );
    for (name, _) in files {
        assert!(packets_in(origin, &format!("{directory}/{name}")) > 0);
    }
}

#[test]
fn a_full_disk_ends_it_with_what_was_kept() {
    let Some(lab) = Lab::for_test() else {
        return;
    };
    let origin = lab.host("origin");
    let nginx = Nginx::start(origin, &NginxConfig::default()).unwrap();
    let directory = lab.path("small-disk");
    // Each command sees mounts of its own only, so that all of it is one.
    let script = r#"mkdir "$1" && mount -t tmpfs -o size=1m none "$1" || exit 99
        "$0" capture -x 80 --both -o "$1/web.pcapng"
        status=$?
        echo "left $(tcpdump -n -r "$1/web.pcapng" | wc -l)"
        exit $status"#;
    let command = origin.command("sh");
    let arguments = ["-c", script, &programs().tcpcopy, &directory];
    let mut recording = started(command.args(arguments).spawn().unwrap());
    while recording.is_running() {
        Wrk::keep_alive(nginx.ipv4(), 16, load_time() / 3)
            .run(lab.host("client"))
            .unwrap();
    }
    let output = recording.wait(END_TIMEOUT).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    let expected = format!(
        "tcpcopy: can't write to {directory}/web.pcapng: No space left on device (os error 28); {} \
         packets were recorded before\n",
        figure(&output, "left")
    );
    assert!(
        output.stderr.contains(&expected),
        "{expected}\n{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("\nhint: make room"),
        "{}",
        output.stderr
    );
}
