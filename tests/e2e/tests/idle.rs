//! Very many idle connections cost little memory.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Replay, tell};
use tcpcopy_lab::{Lab, Mode, Process, Setup, wait_until};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const TIMEOUT: Duration = Duration::from_secs(240);

/// Connections of one client process at most, below what a process may usually open.
const PER_PROCESS: u64 = 12_500;

/// A client host has ports for two processes.
const PROCESSES_PER_HOST: u64 = 2;

/// The budget of the design: so much for the program,
const PROGRAM_BYTES: u64 = 24 << 20;

/// and so much for each live session.
const SESSION_BYTES: u64 = 1_536;

/// The capture ring (`-B`), in MiB, which comes on top: connections that are opened as fast as it
/// goes need room while the machine does other things.
const RING_MB: u64 = 128;

fn accept(lab: &Lab, host: &str) -> Process {
    let mut server = lab
        .host(host)
        .command(TRAFFIC)
        .args(["accept", "--port", "8080", "--processes", "12", "--journal"])
        .arg(lab.path(&format!("{host}-journal")))
        .spawn()
        .unwrap();
    server.wait_listening(8080).unwrap();
    server
}

fn answered(lab: &Lab, host: &str) -> u64 {
    let text = lab.read(&format!("{host}-journal")).unwrap_or_default();
    let failed: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("failed"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} failed on {host}, first: {}",
        failed.len(),
        failed[0]
    );
    text.lines().count() as u64
}

/// Starts the clients, each on a host that has ports enough for it.
fn connect(lab: &mut Lab, connections: u64) -> Vec<Process> {
    let origin = format!("{}:8080", lab.host("origin").ipv4());
    let processes = connections.div_ceil(PER_PROCESS);
    (0..processes)
        .map(|process| {
            let number = u8::try_from(process / PROCESSES_PER_HOST).unwrap() + 10;
            let name = format!("client{number}");
            if process % PROCESSES_PER_HOST == 0 {
                lab.add_host(&name, [1, number]).unwrap();
            }
            let client = lab
                .host(&name)
                .command(TRAFFIC)
                .args(["connect", "--server", &origin]);
            client
                .arg("--connections")
                .arg(connections / processes)
                .spawn()
                .unwrap()
        })
        .collect()
}

fn idle_connections_fit_into_the_budget(mode: Mode, connections: u64) {
    let setup = Setup {
        port: 8080,
        ..Setup::new(mode).with(["-B", &RING_MB.to_string()])
    };
    let Some(mut replay) = Replay::prepare(setup) else {
        return;
    };
    let _servers = ["origin", "target"].map(|host| accept(&replay.lab, host));
    replay.start_tcpcopy();
    let clients = connect(&mut replay.lab, connections);
    wait_until("the connections to stand", TIMEOUT, || {
        clients
            .iter()
            .all(|client| client.stdout().contains("held"))
    })
    .unwrap();
    // An answer is written down after it was given.
    wait_until("the origin's journal", TIMEOUT, || {
        answered(&replay.lab, "origin") >= connections
    })
    .unwrap();
    assert_eq!(answered(&replay.lab, "origin"), connections);
    let caught_up = wait_until("the target to have them too", TIMEOUT, || {
        answered(&replay.lab, "target") >= connections
    });
    let at_target = answered(&replay.lab, "target");
    if at_target != connections {
        panic!(
            "{at_target} of {connections}, {caught_up:?}\n{}",
            replay.finish()
        );
    }

    let budget = PROGRAM_BYTES + connections * SESSION_BYTES + (RING_MB << 20);
    let tcpcopy = replay
        .tcpcopy
        .as_mut()
        .unwrap()
        .usage()
        .unwrap()
        .resident_bytes;
    let intercepts = replay.intercepts.iter_mut();
    let intercept: u64 = intercepts
        .map(|intercept| intercept.usage().unwrap().resident_bytes)
        .sum();
    let report = replay.finish();
    let peak = report.count("process", "peak_rss_bytes");
    tell(&format!(
        "{connections} idle connections: tcpcopy {} MiB (peak {} MiB), intercept {} MiB",
        tcpcopy >> 20,
        peak >> 20,
        intercept >> 20
    ));
    assert_eq!(
        report.count("requests", "delivered"),
        connections,
        "{report}"
    );
    assert!(
        tcpcopy <= budget,
        "tcpcopy holds {tcpcopy} bytes, more than {budget}"
    );
}

#[test]
fn a_hundred_thousand_idle_connections_fit_into_the_budget() {
    idle_connections_fit_into_the_budget(Mode::Target, 100_000);
}

/// As many as a process may have files open on an ordinary machine, less some of its own.
#[test]
fn very_many_idle_connections_fit_into_the_budget_over_sockets() {
    idle_connections_fit_into_the_budget(Mode::Socket, 18_000);
}
