//! The same traffic goes to two targets, and one that hangs holds up no other.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::thread;
use std::time::{Duration, Instant};

use tcpcopy_e2e::{Replay, load_time, scaled, tell};
use tcpcopy_lab::{Mode, Nginx, Setup, Wrk, WrkReport, wait_until};

const TIMEOUT: Duration = Duration::from_secs(90);
const RATE: u32 = 1_500;

/// How often the targets' counts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Less than a target that hangs would take; how far behind the other one was is printed.
const AT_ONCE: Duration = Duration::from_secs(10);

/// How long the one target hangs.
fn pause() -> Duration {
    Duration::from_secs(scaled(5, 20))
}

fn count(nginx: &Nginx) -> u64 {
    nginx.request_count().unwrap()
}

fn a_target_that_hangs_holds_up_no_other(mode: Mode) {
    let setup = Setup::new(mode).towards(["target", "target2"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    let load = Wrk::keep_alive(replay.server(), 64, pause() + load_time()).at_rate(RATE);
    let mut load = load.spawn(replay.lab.host("client")).unwrap();
    wait_until("the replay to run", TIMEOUT, || {
        count(&replay.target).min(count(&replay.more_targets[0])) > 500
    })
    .unwrap();

    replay.more_targets[0].pause().unwrap();
    let stopped_at = count(&replay.more_targets[0]);
    let (start, mut farthest) = (Instant::now(), 0);
    while start.elapsed() < pause() {
        thread::sleep(LOOK_EVERY);
        // The target first, so that what comes in between looks like a delay and not like none.
        let target = count(&replay.target);
        farthest = farthest.max(count(&replay.origin).saturating_sub(target));
    }
    let output = load.wait(TIMEOUT).unwrap();
    assert_eq!(WrkReport::parse(&output.stdout).unwrap().errors, 0);
    replay.origin.wait_idle().unwrap();
    let total = count(&replay.origin);
    let behind = wait_until("the target that works", AT_ONCE, || {
        count(&replay.target) == total
    });
    let behind =
        behind.unwrap_or_else(|error| panic!("{error}: {} of {total}", count(&replay.target)));
    assert_eq!(count(&replay.more_targets[0]), stopped_at, "it hangs");
    let farthest_ms = farthest * 1_000 / u64::from(RATE);
    tell(&format!(
        "{mode:?}: while one target hung for {} s the other was at most {farthest} of {total} \
         requests, thus {farthest_ms} ms, behind the origin, and done {behind:?} after the load",
        start.elapsed().as_secs()
    ));

    replay.more_targets[0].resume().unwrap();
    wait_until("the target that hung", TIMEOUT, || {
        count(&replay.more_targets[0]) == total
    })
    .unwrap_or_else(|error| panic!("{error}: {} of {total}", count(&replay.more_targets[0])));
    let report = replay.finish();
    report.assert_nothing_lost();
    assert_eq!(report.target_count(), 2, "{report}");
    for target in 0..2 {
        report.assert_nothing_lost_at(target);
        let section = format!("targets.{target}.requests");
        assert_eq!(report.count(&section, "delivered"), total, "{report}");
        let delay = |name| report.figure(&format!("targets.{target}.send_delay"), name);
        let (middle, p99) = (delay("p50_ms"), delay("p99_ms"));
        tell(&format!(
            "{mode:?}: target {target}: sent after {middle} ms (median), {p99} ms (p99)"
        ));
    }
    for target in [&replay.target, &replay.more_targets[0]] {
        assert_eq!(count(target), total);
    }
}

#[test]
fn a_target_that_hangs_holds_up_no_other_over_sockets() {
    a_target_that_hangs_holds_up_no_other(Mode::Socket);
}

#[test]
fn a_target_that_hangs_holds_up_no_other_with_two_intercepts() {
    a_target_that_hangs_holds_up_no_other(Mode::Target);
}

fn a_dead_target_costs_the_other_nothing(mode: Mode) {
    let setup = Setup::new(mode).towards(["target", "target2"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    let mut dead = replay.more_targets.pop().unwrap();
    dead.process().terminate(TIMEOUT).unwrap();
    replay.load(&Wrk::keep_alive(replay.server(), 32, load_time()).at_rate(RATE));
    replay.load(&Wrk::short(replay.server(), 16, load_time() / 2).at_rate(RATE));
    replay.catch_up(1);
    let report = replay.finish();
    report.assert_nothing_lost_at(0);
    let refused = report.dropped("targets.1.requests", "target_refused");
    assert_eq!(
        refused,
        report.count("targets.1.requests", "captured"),
        "{report}"
    );
}

#[test]
fn a_dead_target_costs_the_other_nothing_over_sockets() {
    a_dead_target_costs_the_other_nothing(Mode::Socket);
}

#[test]
fn a_dead_target_costs_the_other_nothing_with_two_intercepts() {
    a_dead_target_costs_the_other_nothing(Mode::Target);
}
