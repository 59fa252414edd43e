//! `tcpcopy ctl` tells and changes what a running replay does.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::thread;
use std::time::Duration;

use tcpcopy_e2e::{Replay, programs};
use tcpcopy_lab::{Mode, Output, Report, Result, Setup, Wrk, wait_until};

const TIMEOUT: Duration = Duration::from_secs(60);
const SOCKET: &str = "control.sock";
const RATE: u32 = 500;

/// How long the target is watched for more or fewer requests.
const WATCH: Duration = Duration::from_millis(1_500);

/// How soon an order must have come through to every shard.
const SETTLE: Duration = Duration::from_millis(300);

fn ctl(replay: &Replay, arguments: &[&str]) -> Result<Output> {
    let path = replay.lab.path(SOCKET);
    let command = replay.lab.host("origin").command(&programs().tcpcopy);
    let command = command.args(["ctl", "--control", &path]);
    command.args(arguments).run()
}

/// How many requests the target gets for each one that the origin gets now.
fn share(replay: &Replay) -> f64 {
    thread::sleep(SETTLE);
    let counts = || {
        let count = |nginx: &tcpcopy_lab::Nginx| nginx.request_count().unwrap() as f64;
        (count(&replay.origin), count(&replay.target))
    };
    let before = counts();
    thread::sleep(WATCH);
    let after = counts();
    assert!(after.0 - before.0 > 100.0, "the load has ended");
    (after.1 - before.1) / (after.0 - before.0)
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
    let _load = load(Wrk::short(replay.server(), 8, TIMEOUT));
    wait_until("the replay to run", TIMEOUT, || {
        replay.target.request_count().unwrap() > 100
    })
    .unwrap();

    let status = ctl(&replay, &["status"]).unwrap();
    let status = Report::parse(&status.stdout).unwrap();
    assert!(status.count("requests", "delivered") > 50, "{status}");

    let near = |share: f64, expected: f64| (share - expected).abs() < 0.15 * expected.max(0.5);
    let expect = |what: &[&str], expected: f64| {
        ctl(&replay, what).unwrap();
        let share = share(&replay);
        assert!(
            near(share, expected),
            "{what:?} gives {share} of each request"
        );
    };
    expect(&["pause"], 0.0);
    expect(&["resume"], 1.0);
    expect(&["multiplier", "2.5"], 2.5);
    expect(&["multiplier", "1"], 1.0);
    expect(&["rate", &format!("{}", RATE / 5)], 0.2);
    expect(&["rate", "off"], 1.0);
    expect(&["percent", "50"], 0.5);

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
