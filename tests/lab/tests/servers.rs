//! The servers other than nginx count what their own load generators ask for.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_lab::{Lab, Memcached, Nginx, NginxConfig, Postgres, Redis};

const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn redis_counts_each_command() {
    let Some(lab) = Lab::for_test() else { return };
    let redis = Redis::start(lab.host("origin")).unwrap();
    let load = ["-q", "-t", "set,get", "-n", "2000", "-c", "10", "-P", "4"];
    redis.benchmark(lab.host("client"), &load).unwrap();
    let calls = redis.calls().unwrap();
    assert_eq!((calls["set"], calls["get"]), (2_000, 2_000), "{calls:?}");
}

#[test]
fn memcached_counts_gets_and_sets() {
    let Some(lab) = Lab::for_test() else { return };
    let memcached = Memcached::start(lab.host("origin")).unwrap();
    let client = lab.host("client");
    let load = |test: &str| {
        let load = ["--concurrency=2", "--execute-number=500", test];
        memcached.benchmark(client, &load).unwrap();
    };
    load("--test=set");
    assert_eq!(memcached.counters().unwrap()["cmd_set"], 1_000);
    load("--test=get");
    let counters = memcached.counters().unwrap();
    assert_eq!(counters["cmd_get"], 1_000, "{counters:?}");
}

#[test]
fn postgres_counts_statements_and_knows_its_content() {
    let Some(lab) = Lab::for_test() else { return };
    let postgres = Postgres::start(lab.host("origin")).unwrap();
    let before = postgres.content().unwrap();
    let client = lab.host("client");
    for protocol in ["simple", "extended", "prepared"] {
        let load = ["-S", "-c", "4", "-t", "50", "-M", protocol];
        postgres.pgbench(client, &load).unwrap();
    }
    assert_eq!(postgres.content().unwrap(), before);
    let calls = postgres.calls().unwrap();
    let selects: u64 = calls
        .iter()
        .filter(|line| line.starts_with("SELECT abalance"))
        .filter_map(|line| line.split('|').nth(1)?.parse::<u64>().ok())
        .sum();
    assert_eq!(selects, 600, "{calls:?}");
    postgres.pgbench(client, &["-N", "-t", "1"]).unwrap();
    assert_ne!(postgres.content().unwrap(), before);
}

#[test]
fn a_program_of_another_user_has_no_privilege() {
    let Some(lab) = Lab::for_test() else { return };
    let host = lab.host("origin");
    let directory = lab.directory_of("nobody", "own").unwrap();
    let script = format!("id -un && touch {directory}/file && grep CapBnd /proc/self/status");
    let shell = || host.command("sh").as_user("nobody");
    let output = shell().args(["-c", &script]).run().unwrap();
    let mut lines = output.stdout.lines();
    assert_eq!(lines.next(), Some("nobody"));
    assert!(lines.next().unwrap().ends_with("\t0000000000000000"));
    let forbidden = shell().args(["-c", "touch /run/lab/file"]).run();
    assert!(forbidden.is_err());
    let unknown = host.command("true").as_user("no-such-user").run();
    assert!(unknown.unwrap_err().to_string().contains("no-such-user"));
}

#[test]
fn a_paused_server_answers_only_when_it_goes_on() {
    let Some(lab) = Lab::for_test() else { return };
    let mut nginx = Nginx::start(lab.host("origin"), &NginxConfig::default()).unwrap();
    let url = format!("http://{}/", nginx.ipv4());
    let ask = || {
        let curl = lab.host("client").command("curl");
        curl.args(["-sS", "--max-time", "1", &url]).run()
    };
    assert!(ask().is_ok());
    nginx.pause().unwrap();
    assert!(ask().is_err());
    nginx.resume().unwrap();
    tcpcopy_lab::wait_until("an answer", TIMEOUT, || ask().is_ok()).unwrap();
}
