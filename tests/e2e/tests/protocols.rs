//! Redis, memcached and PostgreSQL are replayed without a plugin: what origin and target count
//! agrees command by command.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fmt::Debug;
use std::time::Duration;

use tcpcopy_e2e::{programs, scaled};
use tcpcopy_lab::{
    Host, Lab, Memcached, Mode, Postgres, Process, Programs, Redis, Setup, wait_until,
};

const TIMEOUT: Duration = Duration::from_secs(90);
const REPORT: &str = "report.json";

/// A replay between two servers of any kind.
struct Replay<S> {
    lab: Lab,
    origin: S,
    target: S,
    tcpcopy: Process,
    _intercepts: Vec<Process>,
}

impl<S> Replay<S> {
    fn start(mode: Mode, port: u16, server: fn(&Host) -> tcpcopy_lab::Result<S>) -> Option<Self> {
        let lab = Lab::for_test()?;
        let setup = Setup {
            port,
            ..Setup::new(mode)
        };
        let [origin, target] = ["origin", "target"].map(|host| server(lab.host(host)).unwrap());
        let intercepts = programs().start_intercepts(&lab, &setup).unwrap();
        let tcpcopy = programs()
            .start_tcpcopy(&lab, lab.host("origin"), &setup, REPORT)
            .unwrap();
        Some(Self {
            lab,
            origin,
            target,
            tcpcopy,
            _intercepts: intercepts,
        })
    }

    fn client(&self) -> &Host {
        self.lab.host("client")
    }

    /// Waits until the target has counted what the origin has, ends tcpcopy, and asserts that both
    /// are the same and nothing was lost.
    fn finish<T: PartialEq + Debug>(self, counters: impl Fn(&S) -> T) {
        let both = || (counters(&self.origin), counters(&self.target));
        // Some of the answers are of no use before the end: PostgreSQL counts a while later.
        let caught_up = wait_until("the counters to agree", TIMEOUT, || {
            let (origin, target) = both();
            origin == target
        });
        let (origin, target) = both();
        assert_eq!(origin, target, "{caught_up:?}\n{}", self.tcpcopy.stderr());
        let report = Programs::finish_tcpcopy(&self.lab, self.tcpcopy, REPORT).unwrap();
        report.assert_nothing_lost();
        assert!(report.count("requests", "delivered") > 100, "{report}");
        let (origin, target) = (counters(&self.origin), counters(&self.target));
        assert_eq!(origin, target);
    }
}

fn redis(mode: Mode) {
    let Some(replay) = Replay::start(mode, 6379, Redis::start) else {
        return;
    };
    let requests = scaled("6000", "100000");
    let some = "set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,lrange_100,mset";
    let every = ["-q", "-n", requests, "-r", "1000"];
    for shape in [
        ["-c", "20", "-P", "1", "-t", some],
        ["-c", "20", "-P", "8", "-t", some],
    ] {
        let arguments = [&every[..], &shape].concat();
        replay
            .origin
            .benchmark(replay.client(), &arguments)
            .unwrap();
    }
    // One command a connection, and values of 10 kB.
    let reconnecting = ["-q", "-n", "500", "-c", "5", "-k", "0", "-t", "get"];
    replay
        .origin
        .benchmark(replay.client(), &reconnecting)
        .unwrap();
    let large = ["-q", "-n", "2000", "-d", "10000", "-t", "set,get"];
    replay.origin.benchmark(replay.client(), &large).unwrap();
    let calls = replay.origin.calls().unwrap();
    assert!(calls.len() > 12, "{calls:?}");
    replay.finish(|redis| redis.calls().unwrap());
}

#[test]
fn redis_in_the_clients_names() {
    redis(Mode::Target);
}

#[test]
fn redis_over_sockets() {
    redis(Mode::Socket);
}

fn memcached(mode: Mode) {
    let Some(replay) = Replay::start(mode, 11211, Memcached::start) else {
        return;
    };
    let number = scaled("--execute-number=1000", "--execute-number=20000");
    let text = [&["--tcp-nodelay"][..], &["--non-blocking"]];
    let both = [text[0], text[1], &["--binary"]];
    // The binary protocol asks for many values by quiet gets, which only a hit answers: whether
    // there is an answer would depend on which of two connections is the faster one.
    for (test, shapes) in [("set", &both[..]), ("get", &both), ("mget", &text)] {
        for shape in shapes {
            let test = format!("--test={test}");
            let arguments = [&[test.as_str(), number, "--concurrency=4"], *shape].concat();
            let load = replay.origin.benchmark(replay.client(), &arguments);
            load.unwrap();
        }
    }
    let counters = replay.origin.counters().unwrap();
    assert!(
        counters["cmd_set"] > 3_000 && counters["cmd_get"] > 3_000,
        "{counters:?}"
    );
    replay.finish(|memcached| memcached.counters().unwrap());
}

#[test]
fn memcached_in_the_clients_names() {
    memcached(Mode::Target);
}

#[test]
fn memcached_over_sockets() {
    memcached(Mode::Socket);
}

/// One row more, and what is there of one client.
const INSERT_AND_SELECT: &str = "\\set number random(1, 1000000)
INSERT INTO event VALUES (:client_id, :number);
BEGIN;
SELECT count(*), max(number) FROM event WHERE client = :client_id;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :number % 100000 + 1;
END;
";

fn postgres(mode: Mode) {
    let Some(replay) = Replay::start(mode, 5432, Postgres::start) else {
        return;
    };
    let script = replay.lab.write("insert.sql", INSERT_AND_SELECT).unwrap();
    let number = scaled("100", "2000");
    for protocol in ["simple", "extended", "prepared"] {
        let every = ["-c", "8", "-t", number, "-M", protocol];
        for what in [&["-S"][..], &["-f", &script]] {
            let arguments = [&every[..], what].concat();
            replay.origin.pgbench(replay.client(), &arguments).unwrap();
        }
    }
    // A connection for each transaction.
    let reconnecting = ["-C", "-c", "4", "-t", "20", "-S"];
    replay
        .origin
        .pgbench(replay.client(), &reconnecting)
        .unwrap();
    let calls = replay.origin.calls().unwrap();
    assert!(calls.len() > 4, "{calls:?}");
    replay.finish(|postgres| (postgres.calls().unwrap(), postgres.content().unwrap()));
}

#[test]
fn postgres_in_the_clients_names() {
    postgres(Mode::Target);
}

#[test]
fn postgres_over_sockets() {
    postgres(Mode::Socket);
}
