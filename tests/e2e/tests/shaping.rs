//! The options that shape the load give what they were asked for, as the target counts it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::time::Duration;

use tcpcopy_e2e::{Replay, load_time, scaled, tell};
use tcpcopy_lab::{Mode, Nginx, Report, Setup, Wrk};

/// How far what is achieved may be from what was asked for, in per cent.
const TOLERANCE_PERCENT: f64 = 2.0;

/// Asserts that `achieved` is what was `asked` for.
fn assert_near(what: &str, asked: f64, achieved: f64) {
    let off = 100.0 * (achieved - asked) / asked;
    tell(&format!(
        "{what}: asked {asked:.3}, achieved {achieved:.3}, {off:+.2} %"
    ));
    assert!(
        off.abs() <= TOLERANCE_PERCENT,
        "{what}: {asked} became {achieved}"
    );
}

fn connections(nginx: &Nginx) -> f64 {
    nginx.connection_count().unwrap() as f64
}

/// The same of what the report says about `load.what`.
fn assert_near_in_report(report: &Report, what: &str) {
    let section = format!("load.{what}");
    let asked = if what == "rate" { "allowed" } else { "asked" };
    let (asked, achieved) = (
        report.figure(&section, asked),
        report.figure(&section, "achieved"),
    );
    assert_near(&format!("{what}, in the report"), asked, achieved);
}

/// Replays short connections, `rate` a second, and waits for what may be replayed of them.
fn short_connections(
    mode: Mode,
    options: &[&str],
    rate: u32,
    load: Duration,
) -> Option<(Replay, Report)> {
    let mut replay = Replay::start(Setup::new(mode).with(options))?;
    replay.load(&Wrk::short(replay.server(), 16, load).at_rate(rate));
    let report = replay.finish();
    // What reaches no end is what the option leaves out.
    let left_out: u64 = ["not_selected", "rate_limit"]
        .map(|reason| report.dropped("connections", reason))
        .iter()
        .sum();
    let captured = report.count("connections", "captured");
    assert_eq!(
        report.count("connections", "delivered") + left_out,
        captured,
        "{report}"
    );
    Some((replay, report))
}

fn one_and_a_half_times(mode: Mode) {
    let load = load_time();
    let Some((replay, report)) = short_connections(mode, &["-n", "1.5"], 800, load) else {
        return;
    };
    let achieved = connections(&replay.target) / connections(&replay.origin);
    assert_near("-n 1.5, at the target", 1.5, achieved);
    assert_near_in_report(&report, "multiplier");
}

#[test]
fn n_1_5_in_the_clients_names() {
    one_and_a_half_times(Mode::Target);
}

#[test]
fn n_1_5_over_sockets() {
    one_and_a_half_times(Mode::Socket);
}

#[test]
fn r_2_5_is_one_connection_in_forty() {
    let Some(mut replay) = Replay::start(Setup::new(Mode::Socket).with(["-r", "2.5"])) else {
        return;
    };
    // Each connection has a port of its own, so that not chance but the option is measured.
    while connections(&replay.origin) < 30_000.0 {
        replay.load(&Wrk::short(replay.server(), 64, load_time()));
    }
    let report = replay.finish();
    assert_near_in_report(&report, "percent");
    let achieved = 100.0 * connections(&replay.target) / connections(&replay.origin);
    assert_near("-r 2.5, at the target, in %", 2.5, achieved);
}

#[test]
fn g_rises_from_one_per_cent_to_all() {
    let seconds = scaled(6, 20);
    let options = ["-g", &seconds.to_string()];
    let load = Duration::from_secs(seconds);
    let Some((replay, report)) = short_connections(Mode::Socket, &options, 1_500, load) else {
        return;
    };
    assert_near_in_report(&report, "percent");
    let achieved = 100.0 * connections(&replay.target) / connections(&replay.origin);
    let asked = report.figure("load.percent", "asked");
    assert_near("-g, at the target, in %", asked, achieved);
    // A load that lasts as long as the ramp is half replayed.
    assert!((40.0..=60.0).contains(&asked), "{report}");
    // The second half of the time has three times as much as the first.
    let requests = replay.target.requests().unwrap();
    let (first, last) = (requests[0].at, requests[requests.len() - 1].at);
    let early = requests
        .iter()
        .filter(|request| request.at < first + (last - first) / 2);
    let early = early.count() as f64 / requests.len() as f64;
    assert!(
        (0.15..=0.35).contains(&early),
        "{early} in the first half of the time"
    );
}

/// How many requests a second a server has answered.
fn rate_at(nginx: &Nginx) -> f64 {
    let requests = nginx.requests().unwrap();
    let times = || requests.iter().map(|request| request.at);
    let span = times().max().unwrap() - times().min().unwrap();
    (requests.len() - 1) as f64 / span.as_secs_f64()
}

fn two_hundred_connections_a_second(mode: Mode) {
    let load = Duration::from_secs(scaled(5, 20));
    let Some((replay, report)) = short_connections(mode, &["--rate", "200"], 600, load) else {
        return;
    };
    assert_near("--rate 200, at the target", 200.0, rate_at(&replay.target));
    assert_near_in_report(&report, "rate");
    assert!(report.dropped("connections", "rate_limit") > 0, "{report}");
}

#[test]
fn rate_bounds_connections_in_the_clients_names() {
    two_hundred_connections_a_second(Mode::Target);
}

#[test]
fn rate_bounds_connections_over_sockets() {
    two_hundred_connections_a_second(Mode::Socket);
}

#[test]
fn rate_bounds_requests() {
    let setup = Setup::new(Mode::Socket).with(["--rate", "300rps"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    let load = Duration::from_secs(scaled(5, 20));
    replay.load(&Wrk::keep_alive(replay.server(), 64, load).at_rate(1_000));
    let report = replay.finish();
    assert_near(
        "--rate 300rps, at the target",
        300.0,
        rate_at(&replay.target),
    );
    let left_out = report.dropped("requests", "rate_limit");
    let captured = report.count("requests", "captured");
    assert_eq!(
        report.count("requests", "delivered") + left_out,
        captured,
        "{report}"
    );
    assert_eq!(
        replay.target.request_count().unwrap() + left_out,
        captured,
        "{report}"
    );
}

/// The middle of the times between two requests of one connection.
fn median_gap(nginx: &Nginx) -> Duration {
    let mut connections: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    for request in nginx.requests().unwrap() {
        connections
            .entry(request.connection)
            .or_default()
            .push(request.at);
    }
    let mut gaps: Vec<_> = connections
        .values()
        .flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]))
        .collect();
    gaps.sort_unstable();
    gaps[gaps.len() / 2]
}

fn the_target_sees_clients_further_away(mode: Mode) {
    let setup = Setup::new(mode).with(["--latency", "80+-20"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    // Each of the 16 clients asks again 10 ms after an answer, which is sooner than it could if it
    // were so far away.
    let load = Wrk::keep_alive(replay.server(), 16, Duration::from_secs(1));
    replay.load(&load.at_rate(1_600));
    replay.catch_up(1);
    replay.finish().assert_nothing_lost();
    let (origin, target) = (median_gap(&replay.origin), median_gap(&replay.target));
    tell(&format!(
        "--latency 80+-20, {mode:?}: {origin:?} between two requests became {target:?}"
    ));
    let added = target.saturating_sub(origin).as_millis();
    assert!((40..=160).contains(&added), "{added} ms were added");
}

#[test]
fn latency_is_added_in_the_clients_names() {
    the_target_sees_clients_further_away(Mode::Target);
}

#[test]
fn latency_is_added_over_sockets() {
    the_target_sees_clients_further_away(Mode::Socket);
}
