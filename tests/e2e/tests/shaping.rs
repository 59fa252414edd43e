//! The options that shape the load give what they were asked for, as the target counts it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tcpcopy_e2e::{Replay, load_time, scaled, tell};
use tcpcopy_lab::{Mode, Nginx, Report, Setup, Wrk};

/// How far what is achieved may be from what was asked for, in per cent.
const TOLERANCE_PERCENT: f64 = 2.0;

/// So many loads at most show that as many pass as `--rate` allows. Of what it allows while the
/// machine pauses the replay, some is lost; a rate that is always too low shows in every load.
const RATE_LOADS: u32 = 3;

/// Tells by how many per cent `achieved` is more than what was `asked` for.
fn off_percent(what: &str, asked: f64, achieved: f64) -> f64 {
    let off = 100.0 * (achieved - asked) / asked;
    tell(&format!(
        "{what}: asked {asked:.3}, achieved {achieved:.3}, {off:+.2} %"
    ));
    off
}

/// Asserts that `achieved` is what was `asked` for.
fn assert_near(what: &str, asked: f64, achieved: f64) {
    assert!(
        off_percent(what, asked, achieved).abs() <= TOLERANCE_PERCENT,
        "{what}: {asked} became {achieved}"
    );
}

fn connections(nginx: &Nginx) -> f64 {
    nginx.connection_count().unwrap() as f64
}

/// The same of what the report says about `load.what`.
fn assert_near_in_report(report: &Report, what: &str) {
    let section = format!("load.{what}");
    let [asked, achieved] = ["asked", "achieved"].map(|name| report.figure(&section, name));
    assert_near(&format!("{what}, in the report"), asked, achieved);
}

/// A replay that has ended.
struct Done {
    replay: Replay,
    report: Report,
    /// How long the load took by this program's clock.
    took: Duration,
}

impl Done {
    /// Makes a load on the origin and waits for what may be replayed of it.
    fn of(mut replay: Replay, load: &Wrk) -> Self {
        let start = Instant::now();
        replay.load(load);
        let took = start.elapsed();
        let report = replay.finish();
        Self {
            replay,
            report,
            took,
        }
    }
}

/// Replays short connections, `rate` a second.
fn short_connections(mode: Mode, options: &[&str], rate: u32, load: Duration) -> Option<Done> {
    let replay = Replay::start(Setup::new(mode).with(options))?;
    let load = Wrk::short(replay.server(), 16, load).at_rate(rate);
    let done = Done::of(replay, &load);
    let report = &done.report;
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
    Some(done)
}

fn one_and_a_half_times(mode: Mode) {
    let load = load_time();
    let Some(done) = short_connections(mode, &["-n", "1.5"], 800, load) else {
        return;
    };
    let (replay, report) = (done.replay, done.report);
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
    let Some(done) = short_connections(Mode::Socket, &options, 1_500, load) else {
        return;
    };
    let (replay, report) = (done.replay, done.report);
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

/// Asserts that never more than `rate` requests a second come to the target, by the clocks of this
/// program and of tcpcopy, and in one of some replays not fewer; `replay` makes one.
fn assert_rate_holds(rate: f64, mut replay: impl FnMut() -> Option<Done>) {
    for _ in 0..RATE_LOADS {
        let Some(done) = replay() else {
            return;
        };
        let (target, report) = (&done.replay.target, &done.report);
        // One may pass at once.
        let most = 1.0 + rate * done.took.as_secs_f64();
        let count = target.request_count().unwrap();
        assert!(count as f64 <= most, "{count} requests, {most} at most");
        let [allowed, achieved] =
            ["allowed", "achieved"].map(|name| report.figure("load.rate", name));
        let at_target = off_percent("--rate, at the target", rate, rate_at(target));
        let in_report = off_percent("--rate, in the report", allowed, achieved);
        assert!(in_report <= TOLERANCE_PERCENT, "{report}");
        if at_target.abs().max(-in_report) <= TOLERANCE_PERCENT {
            return;
        }
    }
    panic!("no load had {rate} a second at the target");
}

fn two_hundred_connections_a_second(mode: Mode) {
    let load = Duration::from_secs(scaled(5, 20));
    assert_rate_holds(200.0, || {
        let done = short_connections(mode, &["--rate", "200"], 600, load)?;
        let left_out = done.report.dropped("connections", "rate_limit");
        assert!(left_out > 0, "{}", done.report);
        Some(done)
    });
}

#[test]
fn rate_bounds_connections_in_the_clients_names() {
    two_hundred_connections_a_second(Mode::Target);
}

#[test]
fn rate_bounds_connections_over_sockets() {
    two_hundred_connections_a_second(Mode::Socket);
}

/// Replays so many requests as `--rate 300rps` lets through of more.
fn three_hundred_requests_a_second() -> Option<Done> {
    let setup = Setup::new(Mode::Socket).with(["--rate", "300rps"]);
    let replay = Replay::start(setup)?;
    let load = Duration::from_secs(scaled(5, 20));
    let load = Wrk::keep_alive(replay.server(), 64, load).at_rate(1_000);
    let done = Done::of(replay, &load);
    let report = &done.report;
    let left_out = report.dropped("requests", "rate_limit");
    let captured = report.count("requests", "captured");
    assert_eq!(
        report.count("requests", "delivered") + left_out,
        captured,
        "{report}"
    );
    assert_eq!(
        done.replay.target.request_count().unwrap() + left_out,
        captured,
        "{report}"
    );
    Some(done)
}

#[test]
fn rate_bounds_requests() {
    assert_rate_holds(300.0, three_hundred_requests_a_second);
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
