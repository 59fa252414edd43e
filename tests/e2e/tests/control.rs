//! `tcpcopy ctl` tells and changes what a running replay does.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::thread;
use std::time::{Duration, Instant};

use tcpcopy_e2e::{Replay, programs};
use tcpcopy_lab::{Mode, Output, Report, Result, Setup, Wrk, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);
const SOCKET: &str = "control.sock";
const RATE: u32 = 500;

/// The load is ended when all has been seen.
const LOAD_TIME: Duration = Duration::from_secs(300);

/// How long the servers are watched for more or fewer requests.
const WATCH: Duration = Duration::from_millis(1_500);

/// How soon an order must have come through to every shard, and how long a busy machine may disturb
/// every watch.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections a second that are bounded, and more than those come.
const BOUND: f64 = 100.0;
const LEAST_RATE: f64 = 1.5 * BOUND;

fn ctl(replay: &Replay, arguments: &[&str]) -> Result<Output> {
    let path = replay.lab.path(SOCKET);
    let command = replay.lab.host("origin").command(&programs().tcpcopy);
    let command = command.args(["ctl", "--control", &path]);
    command.args(arguments).run()
}

/// How many requests the servers get in a second.
struct Rates {
    origin: f64,
    target: f64,
}

/// How many they get now; `None` when there are too few to tell.
fn watch(replay: &Replay) -> Option<Rates> {
    let counts = || [&replay.origin, &replay.target].map(|nginx| nginx.request_count().unwrap());
    let (start, before) = (Instant::now(), counts());
    thread::sleep(WATCH);
    let (seconds, after) = (start.elapsed().as_secs_f64(), counts());
    let rate = |server: usize| (after[server] - before[server]) as f64 / seconds;
    let rates = Rates {
        origin: rate(0),
        target: rate(1),
    };
    (rates.origin > LEAST_RATE).then_some(rates)
}

/// How many requests the target gets for each one of the origin.
fn share(rates: &Rates) -> f64 {
    rates.target / rates.origin
}

/// Gives an order and asserts that a figure comes to be what it asks for.
fn expect(replay: &Replay, order: &[&str], figure: fn(&Rates) -> f64, expected: f64) {
    ctl(replay, order).unwrap();
    let is_near = |figure: f64| (figure - expected).abs() < 0.15 * expected.max(0.5);
    let mut seen = Vec::new();
    let came = wait_until("the order to be followed", PATIENCE, || {
        let figure = watch(replay).as_ref().map(figure);
        seen.push(figure);
        figure.is_some_and(is_near)
    });
    assert!(
        came.is_ok(),
        "{order:?} gives {seen:?} instead of {expected}"
    );
}

#[test]
fn a_running_replay_is_asked_paused_shaped_and_stopped() {
    let Some(mut replay) = Replay::prepare(Setup::new(Mode::Socket)) else {
        return;
    };
    let transfer = format!("{}-{}", replay.server(), replay.target_server());
    let socket = replay.lab.path(SOCKET);
    let arguments = ["-x", &transfer, "-i", "eth0", "--control", &socket];
    replay.start_tcpcopy_with(programs(), &arguments);
    let load = |wrk: Wrk| wrk.at_rate(RATE).spawn(replay.lab.host("client")).unwrap();
    let _load = load(Wrk::short(replay.server(), 8, LOAD_TIME));
    wait_until("the replay to run", TIMEOUT, || {
        replay.target.request_count().unwrap() > 100
    })
    .unwrap();

    let status = ctl(&replay, &["status"]).unwrap();
    let status = Report::parse(&status.stdout).unwrap();
    assert!(status.count("requests", "delivered") > 50, "{status}");

    for (order, expected) in [
        (&["pause"][..], 0.0),
        (&["resume"], 1.0),
        (&["multiplier", "2.5"], 2.5),
        (&["multiplier", "1"], 1.0),
    ] {
        expect(&replay, order, share, expected);
    }
    let bound = BOUND.to_string();
    expect(&replay, &["rate", &bound], |rates| rates.target, BOUND);
    expect(&replay, &["rate", "off"], share, 1.0);
    expect(&replay, &["percent", "50"], share, 0.5);

    let refused = ctl(&replay, &["multiplier", "0"]).unwrap_err().to_string();
    assert!(refused.contains("1 to 1023"), "{refused}");
    ctl(&replay, &["stop"]).unwrap();
    let report = replay.wait_for_end();
    for reason in ["paused", "rate_limit", "not_selected"] {
        assert!(
            report.dropped("connections", reason) > 0,
            "{reason}\n{report}"
        );
    }
    let gone = ctl(&replay, &["status"]).unwrap_err().to_string();
    assert!(gone.contains("hint: "), "{gone}");
}
