//! Several tcpcopy share one intercept.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use tcpcopy_e2e::{Replay, load_time, programs};
use tcpcopy_lab::{Mode, Nginx, NginxConfig, Programs, Setup, Wrk, wait_until};

use std::time::Duration;

const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(90);

fn the_target_gets_the_sum(mode: Mode) {
    let setup = Setup::new(mode);
    let Some(mut replay) = Replay::start(setup.clone()) else {
        return;
    };
    replay.lab.add_host("origin2", [0, 5]).unwrap();
    replay.lab.add_host("client2", [1, 2]).unwrap();
    let second = replay.lab.host("origin2");
    let nginx = Nginx::start(second, &NginxConfig::default()).unwrap();
    let tcpcopy = programs()
        .start_tcpcopy(&replay.lab, second, &setup, "second.json")
        .unwrap();

    let load = Wrk::keep_alive(nginx.ipv4(), 32, load_time()).at_rate(1_000);
    let mut running = load.spawn(replay.lab.host("client2")).unwrap();
    replay.load(&Wrk::keep_alive(replay.server(), 32, load_time()).at_rate(1_000));
    replay.load(&Wrk::short(replay.server(), 16, load_time() / 2));
    assert!(running.wait(load_time() * 10).unwrap().status.success());

    for origin in [&replay.origin, &nginx] {
        origin.wait_idle().unwrap();
    }
    let counts = || {
        let origins = [&replay.origin, &nginx].map(|server| server.request_count().unwrap());
        (origins, replay.target.request_count().unwrap())
    };
    wait_until("the sum", CATCH_UP_TIMEOUT, || {
        let ([one, other], target) = counts();
        one + other == target
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", counts()));
    let ([one, other], _) = counts();
    let second = Programs::finish_tcpcopy(&replay.lab, tcpcopy, "second.json").unwrap();
    let first = replay.finish();
    for (report, requests) in [(first, one), (second, other)] {
        report.assert_nothing_lost();
        assert_eq!(report.count("requests", "delivered"), requests, "{report}");
    }
    assert_eq!(replay.target.request_count().unwrap(), one + other);
}

#[test]
fn two_origins_with_intercept_on_the_target() {
    the_target_gets_the_sum(Mode::Target);
}

#[test]
fn two_origins_with_intercept_on_an_assistant() {
    the_target_gets_the_sum(Mode::Assistant);
}
