//! tcpcopy started in the middle of live connections replays all that comes after the next
//! request boundary.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Replay, load_time};
use tcpcopy_lab::{Mode, Setup, Wrk, WrkReport, wait_until};

const CONNECTIONS: u32 = 64;
/// What it takes until a replay has begun, of the load's time.
const START_TIME: Duration = Duration::from_secs(12);
const TIMEOUT: Duration = Duration::from_secs(90);

fn connections_that_were_there_before_are_replayed(mode: Mode) {
    let Some(mut replay) = Replay::prepare(Setup::new(mode)) else {
        return;
    };
    let duration = load_time() + START_TIME;
    let load = Wrk::keep_alive(replay.server(), CONNECTIONS, duration).at_rate(3_000);
    let mut running = load.spawn(replay.lab.host("client")).unwrap();
    wait_until("the load to run", TIMEOUT, || {
        replay.origin.connection_count().unwrap() == u64::from(CONNECTIONS)
    })
    .unwrap();
    let before = replay.origin.request_count().unwrap();
    replay.start_tcpcopy();
    let ready = replay.origin.request_count().unwrap();
    let output = running.wait(duration * 10).unwrap();
    assert_eq!(WrkReport::parse(&output.stdout).unwrap().errors, 0);
    let total = replay.origin.request_count().unwrap();

    // Each connection may have one request under way when the capture begins.
    let least = total - ready - u64::from(CONNECTIONS);
    assert!(
        least > 1_000,
        "the load ended too early to show anything: {ready} of {total}"
    );
    wait_until("the replay to catch up", TIMEOUT, || {
        replay.target.request_count().unwrap() >= least
    })
    .unwrap_or_else(|error| panic!("{error}: {:?} of {least}", replay.target.request_count()));
    let report = replay.finish();
    let target = replay.target.request_count().unwrap();
    assert!(
        (least..=total - before).contains(&target),
        "{target}: {before} {ready} {total}"
    );
    assert_eq!(
        replay.target.connection_count().unwrap(),
        u64::from(CONNECTIONS)
    );
    assert_eq!(report.count("requests", "delivered"), target, "{report}");
    let late = report.dropped("requests", "joined_late");
    assert_eq!(
        report.count("requests", "captured"),
        target + late,
        "{report}"
    );
    assert_eq!(
        report.count("connections", "delivered"),
        u64::from(CONNECTIONS),
        "{report}"
    );
}

#[test]
fn connections_that_were_there_before_are_replayed_in_the_clients_names() {
    connections_that_were_there_before_are_replayed(Mode::Target);
}

#[test]
fn connections_that_were_there_before_are_replayed_over_sockets() {
    connections_that_were_there_before_are_replayed(Mode::Socket);
}

fn with_the_option_o_they_are_left_alone(mode: Mode) {
    let setup = Setup::new(mode).with(["-O"]);
    let Some(mut replay) = Replay::prepare(setup) else {
        return;
    };
    let load = Wrk::keep_alive(replay.server(), 8, load_time() + START_TIME);
    let mut running = load.at_rate(100).spawn(replay.lab.host("client")).unwrap();
    wait_until("the load to run", TIMEOUT, || {
        replay.origin.connection_count().unwrap() == 8
    })
    .unwrap();
    replay.start_tcpcopy();
    let before = replay.origin.request_count().unwrap();
    let curl = replay
        .lab
        .host("bystander")
        .command("curl")
        .args(["-sS", "-o", "/dev/null"]);
    curl.arg(format!("http://{}/fresh", replay.server()))
        .run()
        .unwrap();
    running.wait(TIMEOUT).unwrap();
    assert!(replay.origin.request_count().unwrap() > before + 8);
    let report = replay.finish();
    assert_eq!(
        report.dropped("connections", "mid_stream_refused"),
        8,
        "{report}"
    );
    let paths: Vec<_> = replay
        .target
        .requests()
        .unwrap()
        .into_iter()
        .map(|r| r.path)
        .collect();
    assert_eq!(paths, ["/fresh"]);
}

#[test]
fn with_the_option_o_they_are_left_alone_in_the_clients_names() {
    with_the_option_o_they_are_left_alone(Mode::Target);
}

#[test]
fn with_the_option_o_they_are_left_alone_over_sockets() {
    with_the_option_o_they_are_left_alone(Mode::Socket);
}
