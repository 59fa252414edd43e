//! What is particular to connections of the kernel: the limits of the host, a target that takes
//! nothing, and who the target believes to talk to.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Replay, assert_alike, load_time, programs, tell};
use tcpcopy_lab::{Mode, Nginx, NginxConfig, Programs, Setup, Wrk, wait_until};

const TIMEOUT: Duration = Duration::from_secs(90);

/// How long a connection may wait for a file, and one that is served for the target: a busy machine
/// must not take that long.
const PATIENCE_S: &str = "5";

/// More than that.
const BEYOND_PATIENCE: Duration = Duration::from_secs(7);

/// More connections at once than the host of these tests has means for.
const CONNECTIONS: u32 = 300;

#[test]
fn more_connections_than_the_kernel_has_ports_for_are_replayed() {
    let Some(mut replay) = Replay::prepare(Setup::new(Mode::Socket)) else {
        return;
    };
    let origin = replay.lab.host("origin");
    origin
        .sysctl("net.ipv4.ip_local_port_range", "40000 40099")
        .unwrap();
    replay.start_tcpcopy();
    replay.load(&Wrk::keep_alive(replay.server(), CONNECTIONS, load_time()).at_rate(1_500));
    replay.finish_without_loss();
}

#[test]
fn connections_that_wait_in_vain_for_a_file_are_dropped_by_name() {
    let Some(mut replay) = Replay::prepare(Setup::new(Mode::Socket)) else {
        return;
    };
    let script = format!(
        "#!/bin/sh\nulimit -n 128\nexec {} \"$@\"\n",
        programs().tcpcopy
    );
    let limited = replay.lab.write("limited", script).unwrap();
    let chmod = replay.lab.host("origin").command("chmod");
    chmod.args(["755", &limited]).run().unwrap();
    let limited = Programs {
        tcpcopy: limited,
        ..programs().clone()
    };
    let transfer = format!("{}-{}", replay.server(), replay.target_server());
    let patience = ["-x", &transfer, "-i", "eth0", "-t", PATIENCE_S];
    replay.start_tcpcopy_with(&limited, &patience);
    let load = Wrk::keep_alive(replay.server(), CONNECTIONS, load_time() + BEYOND_PATIENCE);
    replay.load(&load.at_rate(1_500));
    let report = replay.finish();
    for account in ["connections", "requests"] {
        let count = |name| report.count(account, name);
        let dropped = report.dropped(account, "no_descriptor");
        assert!(dropped > 0 && count("delivered") > 0, "{report}");
        assert_eq!(count("captured"), count("delivered") + dropped, "{report}");
    }
    let delivered = report.count("requests", "delivered");
    assert_eq!(
        replay.target.request_count().unwrap(),
        delivered,
        "{report}"
    );
}

/// Uploads so many bodies of 4 MB at once.
fn upload(replay: &Replay, bodies: u32) {
    let body = replay.lab.write("body", vec![b'x'; 4_000_000]).unwrap();
    let script = "for n in $(seq \"$0\"); do curl -sS -o /dev/null -H Expect: \
                  --data-binary \"@$1\" \"$2/$n\" & done; wait";
    let url = format!("http://{}/r/upload", replay.server());
    let shell = replay.lab.host("client").command("bash");
    shell
        .args(["-c", script, &bodies.to_string(), &body, &url])
        .run()
        .unwrap();
}

#[test]
fn a_target_that_takes_nothing_costs_bounded_memory() {
    const BUDGET_MB: u64 = 32;
    // The program, its capture ring, and what the allocator keeps.
    const MOST_MB: u64 = BUDGET_MB + 24 + 32 + 16;
    let setup = Setup::new(Mode::Socket).with(["-m", &BUDGET_MB.to_string(), "--drain-s", "2"]);
    let Some(mut replay) = Replay::start(setup) else {
        return;
    };
    replay.target.pause().unwrap();
    upload(&replay, 64);
    // It answers at once, and logs a request when it has read its body.
    wait_until("the origin's log", TIMEOUT, || {
        replay.origin.request_count().unwrap() == 64
    })
    .unwrap();
    let report = replay.finish();
    let peak_mb = report.count("process", "peak_rss_bytes") >> 20;
    tell(&format!(
        "{peak_mb} MiB at most with -m {BUDGET_MB} and a target that takes nothing of 256 MB"
    ));
    assert!(report.dropped("bytes", "memory_budget") > 0, "{report}");
    assert!(peak_mb <= MOST_MB, "{peak_mb} MiB");
}

fn the_target_is_told_the_real_clients(version: &str) {
    let Some(mut replay) = Replay::prepare(Setup::new(Mode::Socket)) else {
        return;
    };
    let proxied = NginxConfig {
        ports: vec![8080],
        is_proxied: true,
        ..NginxConfig::default()
    };
    let target = Nginx::start(replay.lab.host("target"), &proxied).unwrap();
    let transfer = format!("{}-{}", replay.server(), target.ipv4());
    let arguments = ["-x", &transfer, "-i", "eth0", "--proxy-protocol", version];
    replay.start_tcpcopy_with(programs(), &arguments);
    replay.load(&Wrk::keep_alive(replay.server(), 16, load_time()).at_rate(500));
    replay.load(&Wrk::short(replay.server(), 16, load_time() / 2).at_rate(500));
    let counts = || [&replay.origin, &target].map(|nginx| nginx.request_count().unwrap());
    wait_until("the replay to catch up", TIMEOUT, || {
        let [origin, target] = counts();
        origin == target
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", counts()));
    replay.finish().assert_nothing_lost();
    assert_alike(&replay.origin, &target);
    let ports = |nginx: &Nginx| {
        let requests = nginx.requests().unwrap();
        let mut ports: Vec<_> = requests.iter().map(|request| request.port).collect();
        ports.sort_unstable();
        ports
    };
    assert!(
        ports(&replay.origin) == ports(&target),
        "the clients' ports"
    );
}

#[test]
fn proxy_protocol_v1_tells_the_target_the_real_clients() {
    the_target_is_told_the_real_clients("v1");
}

#[test]
fn proxy_protocol_v2_tells_the_target_the_real_clients() {
    the_target_is_told_the_real_clients("v2");
}
