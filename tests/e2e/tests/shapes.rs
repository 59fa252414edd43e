//! Nothing is lost and nothing comes twice, whatever the shape of the load, the way to the target,
//! the place of intercept and the IP version.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use tcpcopy_e2e::{Replay, load_time};
use tcpcopy_lab::{Mode, Setup, Wrk};

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// 64 keep-alive connections at about 3,000 requests a second.
    Moderate,
    /// 128 keep-alive connections as fast as they go.
    Saturating,
    /// 64 connections at once with one request each, as fast as they go.
    Short,
}

fn nothing_is_lost(setup: Setup, shape: Shape) {
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    let server = replay.server();
    let load = match shape {
        Shape::Moderate => Wrk::keep_alive(server, 64, load_time()).at_rate(3_000),
        Shape::Saturating => Wrk::keep_alive(server, 128, load_time()),
        Shape::Short => Wrk::short(server, 64, load_time()),
    };
    let load = replay.load(&load);
    assert!(load.requests > 1_000, "{load:?} is no load");
    replay.finish_without_loss();
}

#[test]
fn moderate_load_with_intercept_on_the_target() {
    nothing_is_lost(Setup::new(Mode::Target), Shape::Moderate);
}

#[test]
fn saturating_load_with_intercept_on_the_target() {
    nothing_is_lost(Setup::new(Mode::Target), Shape::Saturating);
}

#[test]
fn short_connections_with_intercept_on_the_target() {
    nothing_is_lost(Setup::new(Mode::Target), Shape::Short);
}

#[test]
fn moderate_load_with_intercept_on_an_assistant() {
    nothing_is_lost(Setup::new(Mode::Assistant), Shape::Moderate);
}

#[test]
fn saturating_load_with_intercept_on_an_assistant() {
    nothing_is_lost(Setup::new(Mode::Assistant), Shape::Saturating);
}

#[test]
fn short_connections_with_intercept_on_an_assistant() {
    nothing_is_lost(Setup::new(Mode::Assistant), Shape::Short);
}

#[test]
fn moderate_ipv6_load_with_intercept_on_the_target() {
    nothing_is_lost(Setup::new(Mode::Target).over_ipv6(), Shape::Moderate);
}

#[test]
fn saturating_ipv6_load_with_intercept_on_the_target() {
    nothing_is_lost(Setup::new(Mode::Target).over_ipv6(), Shape::Saturating);
}

#[test]
fn short_ipv6_connections_with_intercept_on_the_target() {
    nothing_is_lost(Setup::new(Mode::Target).over_ipv6(), Shape::Short);
}

#[test]
fn moderate_ipv6_load_with_intercept_on_an_assistant() {
    nothing_is_lost(Setup::new(Mode::Assistant).over_ipv6(), Shape::Moderate);
}

#[test]
fn saturating_ipv6_load_with_intercept_on_an_assistant() {
    nothing_is_lost(Setup::new(Mode::Assistant).over_ipv6(), Shape::Saturating);
}

#[test]
fn short_ipv6_connections_with_intercept_on_an_assistant() {
    nothing_is_lost(Setup::new(Mode::Assistant).over_ipv6(), Shape::Short);
}

#[test]
fn moderate_load_over_sockets() {
    nothing_is_lost(Setup::new(Mode::Socket), Shape::Moderate);
}

#[test]
fn moderate_ipv6_load_over_sockets() {
    nothing_is_lost(Setup::new(Mode::Socket).over_ipv6(), Shape::Moderate);
}

#[test]
fn saturating_load_over_sockets() {
    nothing_is_lost(Setup::new(Mode::Socket), Shape::Saturating);
}

#[test]
fn saturating_ipv6_load_over_sockets() {
    nothing_is_lost(Setup::new(Mode::Socket).over_ipv6(), Shape::Saturating);
}

#[test]
fn short_connections_over_sockets() {
    nothing_is_lost(Setup::new(Mode::Socket), Shape::Short);
}

#[test]
fn short_ipv6_connections_over_sockets() {
    nothing_is_lost(Setup::new(Mode::Socket).over_ipv6(), Shape::Short);
}
