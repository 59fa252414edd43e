//! Packet loss between tcpcopy and the target, in both directions, costs time and no request.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use tcpcopy_e2e::{Replay, load_time};
use tcpcopy_lab::{Mode, Setup, Wrk};

fn nothing_is_lost_at(percent: f64, mode: Mode) {
    let Some(mut replay) = Replay::start(Setup::new(mode)) else {
        return;
    };
    replay.lose(percent);
    replay.load(&Wrk::keep_alive(replay.server(), 64, load_time()).at_rate(3_000));
    replay.load(&Wrk::short(replay.server(), 16, load_time() / 2));
    replay.finish_without_loss();
    let lost = replay.lab.host("target").lost_packets().unwrap();
    assert!(lost > 0, "no packet was lost, so this test shows nothing");
}

#[test]
fn one_per_cent_with_intercept_on_the_target() {
    nothing_is_lost_at(1.0, Mode::Target);
}

#[test]
fn five_per_cent_with_intercept_on_the_target() {
    nothing_is_lost_at(5.0, Mode::Target);
}

#[test]
fn one_per_cent_with_intercept_on_an_assistant() {
    nothing_is_lost_at(1.0, Mode::Assistant);
}

#[test]
fn five_per_cent_with_intercept_on_an_assistant() {
    nothing_is_lost_at(5.0, Mode::Assistant);
}

#[test]
fn one_per_cent_over_sockets() {
    nothing_is_lost_at(1.0, Mode::Socket);
}

#[test]
fn five_per_cent_over_sockets() {
    nothing_is_lost_at(5.0, Mode::Socket);
}
