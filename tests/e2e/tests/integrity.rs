//! What the target receives is what the origin received, byte for byte.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Replay, scaled};
use tcpcopy_lab::{Lab, Mode, Process, Setup, wait_until};

const TRAFFIC: &str = env!("CARGO_BIN_EXE_lab-traffic");
const LARGEST_BYTES: u64 = 8 << 20;
/// Ring for bodies that no network card slows down, in MiB.
const RING_MB: &str = "256";
const TIMEOUT: Duration = Duration::from_secs(240);

/// Starts the server that writes down hashes, beside nginx.
fn serve(lab: &Lab, host: &str) -> Process {
    let mut server = lab
        .host(host)
        .command(TRAFFIC)
        .args(["serve", "--port", "8080", "--journal"])
        .arg(lab.path(&format!("{host}-journal")))
        .spawn()
        .unwrap();
    server.wait_listening(8080).unwrap();
    server
}

fn journal(lab: &Lab, host: &str) -> Vec<String> {
    let text = lab.read(&format!("{host}-journal")).unwrap_or_default();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn bodies_are_equal(mode: Mode, loss_percent: f64, bodies: u64) {
    // The bodies come at the speed of memory, on two cores that client, servers, intercept and
    // tcpcopy share: a pause of tcpcopy that is nothing to a network card fills the default ring.
    let setup = Setup {
        port: 8080,
        ..Setup::new(mode).with(["-B", RING_MB])
    };
    let Some(mut replay) = Replay::prepare(setup) else {
        return;
    };
    let _servers = ["origin", "target"].map(|host| serve(&replay.lab, host));
    if loss_percent > 0.0 {
        let target = replay.lab.host("target");
        target
            .drop_incoming(loss_percent, &["-p", "tcp", "--dport", "8080"])
            .unwrap();
        let data = [
            "-p",
            "tcp",
            "--sport",
            "8080",
            "!",
            "--tcp-flags",
            "SYN",
            "SYN",
        ];
        target.drop_outgoing(loss_percent, &data).unwrap();
    }
    replay.start_tcpcopy();
    let client = replay
        .lab
        .host("client")
        .command(TRAFFIC)
        .args(["transfer", "--server"]);
    client
        .arg(format!("{}:8080", replay.lab.host("origin").ipv4()))
        .args([
            "--bodies",
            &bodies.to_string(),
            "--max-bytes",
            &LARGEST_BYTES.to_string(),
        ])
        .timeout(TIMEOUT)
        .run()
        .unwrap();

    // A download is written down after the client has it.
    wait_until("the origin's journal", TIMEOUT, || {
        journal(&replay.lab, "origin").len() as u64 >= 2 * bodies
    })
    .unwrap();
    let origin = journal(&replay.lab, "origin");
    assert_eq!(origin.len() as u64, 2 * bodies);
    let caught_up = wait_until("all bodies", TIMEOUT, || {
        journal(&replay.lab, "target").len() >= origin.len()
    });
    let target = journal(&replay.lab, "target");
    let lacking = origin.iter().find(|line| !target.contains(line));
    assert!(
        origin == target,
        "{caught_up:?}, {} bodies, lacking {lacking:?}",
        target.len()
    );
    let report = replay.finish();
    report.assert_nothing_lost();
}

#[test]
fn bodies_with_intercept_on_the_target() {
    bodies_are_equal(Mode::Target, 0.0, scaled(300, 1_000));
}

#[test]
fn bodies_with_intercept_on_an_assistant() {
    bodies_are_equal(Mode::Assistant, 0.0, scaled(100, 1_000));
}

#[test]
fn bodies_at_one_per_cent_loss() {
    bodies_are_equal(Mode::Target, 1.0, scaled(100, 1_000));
}

#[test]
fn bodies_over_sockets() {
    bodies_are_equal(Mode::Socket, 0.0, scaled(300, 1_000));
}

#[test]
fn bodies_over_sockets_at_one_per_cent_loss() {
    bodies_are_equal(Mode::Socket, 1.0, scaled(100, 1_000));
}
