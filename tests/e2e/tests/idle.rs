//! Very many idle connections cost little memory.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::Replay;
use tcpcopy_lab::{Lab, Mode, Process, Setup, wait_until};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const CONNECTIONS: u64 = 100_000;
const TIMEOUT: Duration = Duration::from_secs(240);

/// Connections of one client process, below what a process may usually open.
const PER_PROCESS: u64 = 12_500;

/// A client host has ports for two processes.
const PROCESSES_PER_HOST: u64 = 2;

/// The budget of the design: so much for the program, and so much for each live session.
const BUDGET_BYTES: u64 = (24 << 20) + CONNECTIONS * 1_536;

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
fn connect(lab: &mut Lab) -> Vec<Process> {
    let origin = format!("{}:8080", lab.host("origin").ipv4());
    (0..CONNECTIONS / PER_PROCESS)
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
                .arg(PER_PROCESS)
                .spawn()
                .unwrap()
        })
        .collect()
}

#[test]
fn a_hundred_thousand_idle_connections_fit_into_the_budget() {
    let setup = Setup {
        port: 8080,
        ..Setup::new(Mode::Target)
    };
    let Some(mut replay) = Replay::prepare(setup) else {
        return;
    };
    let _servers = ["origin", "target"].map(|host| accept(&replay.lab, host));
    replay.start_tcpcopy();
    let clients = connect(&mut replay.lab);
    wait_until("the connections to stand", TIMEOUT, || {
        clients
            .iter()
            .all(|client| client.stdout().contains("held"))
    })
    .unwrap();
    assert_eq!(answered(&replay.lab, "origin"), CONNECTIONS);
    let caught_up = wait_until("the target to have them too", TIMEOUT, || {
        answered(&replay.lab, "target") >= CONNECTIONS
    });
    assert_eq!(
        answered(&replay.lab, "target"),
        CONNECTIONS,
        "{caught_up:?}"
    );

    let tcpcopy = replay
        .tcpcopy
        .as_mut()
        .unwrap()
        .usage()
        .unwrap()
        .resident_bytes;
    let intercept = replay.intercept.usage().unwrap().resident_bytes;
    let report = replay.finish();
    let peak = report.count("process", "peak_rss_bytes");
    println!(
        "{CONNECTIONS} idle connections: tcpcopy {} MiB (peak {} MiB), intercept {} MiB",
        tcpcopy >> 20,
        peak >> 20,
        intercept >> 20
    );
    assert_eq!(
        report.count("requests", "delivered"),
        CONNECTIONS,
        "{report}"
    );
    assert!(
        tcpcopy <= BUDGET_BYTES,
        "tcpcopy holds {tcpcopy} bytes, more than {BUDGET_BYTES}"
    );
}
