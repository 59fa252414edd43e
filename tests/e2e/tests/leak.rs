//! Real clients come first: none of them gets a packet from the target, and those who talk to the
//! target themselves are not disturbed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::thread;
use std::time::Duration;

use tcpcopy_e2e::{Replay, load_time, programs, scaled};
use tcpcopy_lab::{Host, Mode, PacketWatch, Process, Setup, Wrk, WrkReport, wait_until};

const TIMEOUT: Duration = Duration::from_secs(90);

/// How long nothing may come after everything has ended: past the target's own retransmissions.
fn silence() -> Duration {
    Duration::from_secs(scaled(8, 60))
}

/// Starts a client of the target itself, as no other test has.
fn start_bystander(replay: &Replay, duration: Duration) -> Process {
    let load = Wrk::keep_alive(replay.target_server(), 8, duration).at_rate(200);
    load.spawn(replay.lab.host("bystander")).unwrap()
}

/// Asks the target's server directly; tells whether an answer comes that is expected, however busy
/// the machine is.
fn target_answers(replay: &Replay) -> bool {
    target_answers_within(replay, 20)
}

/// The same for an answer that is not expected.
fn target_is_silent(replay: &Replay) -> bool {
    !target_answers_within(replay, 3)
}

fn target_answers_within(replay: &Replay, seconds: u32) -> bool {
    let url = format!("http://{}/direct", replay.target_server());
    let curl = replay.lab.host("bystander").command("curl");
    let curl = curl.args(["-sS", "-o", "/dev/null", "--max-time"]);
    curl.arg(seconds).arg(url).run().is_ok()
}

fn watch(replay: &Replay) -> PacketWatch {
    PacketWatch::from_sender(replay.lab.host("client"), replay.lab.host("target")).unwrap()
}

/// Asserts that the client got nothing from the target so far nor gets anything for a while.
fn assert_silence(watch: &mut PacketWatch) {
    // That nothing happens can't be waited for in any other way.
    thread::sleep(silence());
    let packets = watch.packets().unwrap();
    assert!(
        packets.is_empty(),
        "{} packets leaked, first {}",
        packets.len(),
        packets[0]
    );
}

fn nobody_is_disturbed(setup: Setup) {
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    let mut watch = watch(&replay);
    let mut bystander = start_bystander(&replay, load_time() * 2);
    replay.load(&Wrk::keep_alive(replay.server(), 32, load_time()).at_rate(1_000));
    replay.load(&Wrk::short(replay.server(), 32, load_time() / 2));
    let output = bystander.wait(TIMEOUT).unwrap();
    assert_eq!(WrkReport::parse(&output.stdout).unwrap().errors, 0);

    let direct = replay.address("bystander");
    let origin = replay.origin.request_count().unwrap();
    let replayed = |replay: &Replay| {
        let requests = replay.target.requests().unwrap();
        requests
            .iter()
            .filter(|request| request.client != direct)
            .count() as u64
    };
    wait_until("the replay to catch up", TIMEOUT, || {
        replayed(&replay) >= origin
    })
    .unwrap();
    assert!(target_answers(&replay));
    let report = replay.finish();
    report.assert_nothing_lost();
    assert_eq!(replayed(&replay), origin, "{report}");
    assert!(target_answers(&replay));
    assert_silence(&mut watch);
    assert!(target_answers(&replay));
}

#[test]
fn nobody_is_disturbed_with_intercept_on_the_target() {
    nobody_is_disturbed(Setup::new(Mode::Target));
}

#[test]
fn nobody_is_disturbed_with_intercept_on_an_assistant() {
    nobody_is_disturbed(Setup::new(Mode::Assistant));
}

#[test]
fn nobody_is_disturbed_over_ipv6() {
    nobody_is_disturbed(Setup::new(Mode::Target).over_ipv6());
}

#[test]
fn nothing_leaks_when_tcpcopy_is_killed() {
    let Some(mut replay) = Replay::start(Setup::new(Mode::Target)) else {
        return;
    };
    let mut watch = watch(&replay);
    let load = Wrk::keep_alive(replay.server(), 32, load_time()).at_rate(1_000);
    let mut load = load.spawn(replay.lab.host("client")).unwrap();
    wait_until("the replay to run", TIMEOUT, || {
        replay.target.request_count().unwrap() > 500
    })
    .unwrap();
    replay.tcpcopy.as_mut().unwrap().kill().unwrap();
    assert!(
        target_answers(&replay),
        "a client of the target itself was disturbed"
    );
    load.wait(TIMEOUT).unwrap();
    assert_silence(&mut watch);
    assert!(target_answers(&replay));

    // The next tcpcopy works with the same intercept.
    replay.start_tcpcopy();
    let before = replay.target.request_count().unwrap();
    replay.load(&Wrk::keep_alive(replay.server(), 8, load_time()).at_rate(200));
    replay.finish().assert_nothing_lost();
    assert!(replay.target.request_count().unwrap() > before + 100);
}

#[test]
fn intercept_fails_closed_comes_back_and_is_cleaned_up_after() {
    let Some(mut replay) = Replay::start(Setup::new(Mode::Target).with(["-L"])) else {
        return;
    };
    let mut watch = watch(&replay);
    let load = Wrk::keep_alive(replay.server(), 32, load_time() * 2).at_rate(1_000);
    let mut load = load.spawn(replay.lab.host("client")).unwrap();
    wait_until("the replay to run", TIMEOUT, || {
        replay.target.request_count().unwrap() > 500
    })
    .unwrap();
    replay.intercept().kill().unwrap();
    assert!(
        target_is_silent(&replay),
        "a dead intercept must let nothing pass"
    );
    load.wait(TIMEOUT).unwrap();
    assert_silence(&mut watch);

    replay.restart_intercept();
    wait_until("the port to answer again", TIMEOUT, || {
        !target_is_silent(&replay)
    })
    .unwrap();
    assert_silence(&mut watch);
    replay.finish();

    replay.intercept().kill().unwrap();
    assert!(
        target_is_silent(&replay),
        "a dead intercept must let nothing pass"
    );
    let target = replay.lab.host("target");
    let state = programs().state_dir(&replay.lab, "target");
    target
        .command(&programs().intercept)
        .args(["--cleanup", "--state-dir", &state])
        .run()
        .unwrap();
    assert!(target_answers(&replay));
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = target.command(program).run().unwrap().stdout;
        assert!(!rules.contains("NFQUEUE"), "{rules}");
    }
}

#[test]
fn nothing_leaks_when_intercept_is_stopped_and_started_under_load() {
    let Some(mut replay) = Replay::start(Setup::new(Mode::Target)) else {
        return;
    };
    let mut watch = watch(&replay);
    let load = Wrk::keep_alive(replay.server(), 32, load_time() * 3).at_rate(1_000);
    let mut load = load.spawn(replay.lab.host("client")).unwrap();
    let is_running = |replay: &Replay, more_than: u64| {
        wait_until("the replay to run", TIMEOUT, || {
            replay.target.request_count().unwrap() > more_than
        })
        .unwrap();
    };
    is_running(&replay, 500);
    let stopped = replay.intercept().terminate(TIMEOUT).unwrap();
    assert!(stopped.status.success());
    assert!(target_answers(&replay), "its rules are gone");
    let before = replay.target.request_count().unwrap();
    replay.restart_intercept();
    is_running(&replay, before + 500);
    load.wait(TIMEOUT).unwrap();
    replay.finish();
    assert_silence(&mut watch);
}

#[test]
fn an_ordinary_end_of_intercept_takes_its_rules_away() {
    let Some(mut replay) = Replay::start(Setup::new(Mode::Target)) else {
        return;
    };
    replay.load(&Wrk::keep_alive(replay.server(), 8, load_time()).at_rate(200));
    replay.finish_without_loss();
    assert!(
        replay
            .intercept()
            .terminate(TIMEOUT)
            .unwrap()
            .status
            .success()
    );
    assert!(target_answers(&replay));
    let rules = replay
        .lab
        .host("target")
        .command("iptables-save")
        .run()
        .unwrap()
        .stdout;
    assert!(!rules.contains("NFQUEUE"), "{rules}");
}

#[test]
fn over_sockets_nothing_is_left_on_any_host() {
    let Some(mut replay) = Replay::start(Setup::new(Mode::Socket)) else {
        return;
    };
    let mut watch = watch(&replay);
    let mut bystander = start_bystander(&replay, load_time());
    replay.load(&Wrk::keep_alive(replay.server(), 32, load_time()).at_rate(1_000));
    replay.load(&Wrk::short(replay.server(), 32, load_time() / 2));
    let output = bystander.wait(TIMEOUT).unwrap();
    assert_eq!(WrkReport::parse(&output.stdout).unwrap().errors, 0);
    // An idle connection that is still open when the end comes.
    let mut idle = replay.lab.host("client").command("bash");
    idle = idle.args(["-c", "exec 3<>/dev/tcp/$0/80; exec sleep 600"]);
    let _idle = idle.arg(replay.address("origin")).spawn().unwrap();
    let (origin, target) = (replay.lab.host("origin"), replay.lab.host("target"));
    wait_until("the idle connection", TIMEOUT, || {
        sockets_between(origin, target).contains("ESTAB")
    })
    .unwrap();

    let report = replay.finish();
    report.assert_nothing_lost();
    let (origin, target) = (replay.lab.host("origin"), replay.lab.host("target"));
    for (host, other) in [(origin, target), (target, origin)] {
        let sockets = sockets_between(host, other);
        assert_eq!(sockets, "", "left on {}", host.name());
        for program in ["iptables-save", "ip6tables-save"] {
            let rules = host.command(program).run().unwrap().stdout;
            assert!(!rules.contains("-A "), "{rules}");
        }
        let routes = host
            .command("ip")
            .args(["route", "show", "table", "all"])
            .run();
        assert!(!routes.unwrap().stdout.contains("via 10.55.0.4"));
    }
    assert_silence(&mut watch);
    assert!(target_answers(&replay));
}

/// The TCP sockets of a host that are connected to another; what only waits for late packets does
/// not count.
fn sockets_between(host: &Host, other: &Host) -> String {
    let list = ["-Htan", "state", "connected", "exclude", "time-wait", "dst"];
    let ss = host.command("ss").args(list).arg(other.ipv4());
    ss.run().unwrap().stdout
}
