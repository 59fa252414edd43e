//! Redis with passwords and accounts that differ between origin and target: with the plugin, both
//! count the same commands, and nobody is turned away.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::thread;
use std::time::Duration;

use tcpcopy_e2e::{Form, plug, programs, scaled, tell};
use tcpcopy_lab::{
    Host, Lab, Mode, PYTHON, Process, Programs, Redis, RedisAccounts, Report, Setup, wait_until,
};

const TIMEOUT: Duration = Duration::from_secs(90);
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);
const REPORT: &str = "report.json";
const PORT: u16 = 6379;

/// Commands that take longer than any test.
const ENDLESS_LOAD: &str = "1000000000";

/// A target that counts nothing new for so long has counted all.
const REST: Duration = Duration::from_secs(2);

const CLIENTS: &str = include_str!("plugin_redis/clients.py");

const AT_ORIGIN: RedisAccounts<'_> = RedisAccounts {
    password: "origin-password",
    user: ("app", "origin-app"),
};

const AT_TARGET: RedisAccounts<'_> = RedisAccounts {
    password: "target-password",
    user: ("app2", "target-app"),
};

/// A replay between two servers, the target's with accounts.
struct Replay {
    lab: Lab,
    origin: Redis,
    target: Redis,
    tcpcopy: Process,
    _intercepts: Vec<Process>,
}

impl Replay {
    fn start(
        mode: Mode,
        form: Form,
        origin: fn(&Host) -> tcpcopy_lab::Result<Redis>,
    ) -> Option<Self> {
        let lab = Lab::for_test()?;
        let origin = origin(lab.host("origin")).unwrap();
        Some(Self::between(lab, origin, mode, form))
    }

    fn between(lab: Lab, origin: Redis, mode: Mode, form: Form) -> Self {
        let target = Redis::start_for(lab.host("target"), AT_TARGET).unwrap();
        let secret = |name: &str, text: &str| {
            let path = lab.path(name);
            // A file that others can read would be refused.
            let script = r#"umask 077; printf '%s\n' "$1" > "$0""#;
            let command = lab.host("origin").command("sh");
            command.args(["-c", script, &path, text]).run().unwrap();
            path
        };
        let (user, password) = AT_TARGET.user;
        let accounts = format!("{} {user} {password}", AT_ORIGIN.user.0);
        let configuration = format!(
            "[redis]\npassword = {{ file = \"{}\" }}\naccounts = {{ file = \"{}\" }}\n\
             drop = [\"DEBUG\"]\n",
            secret("password", AT_TARGET.password),
            secret("accounts", &accounts),
        );
        let setup = Setup {
            port: PORT,
            ..Setup::new(mode).with(plug(&lab, "redis", form, &configuration))
        };
        let intercepts = programs().start_intercepts(&lab, &setup).unwrap();
        let tcpcopy = programs()
            .start_tcpcopy(&lab, lab.host("origin"), &setup, REPORT)
            .unwrap();
        Self {
            lab,
            origin,
            target,
            tcpcopy,
            _intercepts: intercepts,
        }
    }

    fn benchmark(&self, arguments: &[&str]) {
        let client = self.lab.host("client");
        self.origin.benchmark(client, arguments).unwrap();
    }

    /// Applications come; `accounts` are those of the origin, empty where it has none.
    fn clients(&self, accounts: RedisAccounts<'_>) {
        let script = self.lab.write("clients.py", CLIENTS).unwrap();
        let server = self.origin.ipv4();
        // The plugin's file beside the script has the name of the module that this one imports.
        let isolated = self.lab.host("client").command(PYTHON).arg("-I");
        let client = isolated.arg(script);
        let client = client.args([server.ip().to_string(), server.port().to_string()]);
        let (user, password) = accounts.user;
        let clients = client.args([accounts.password, user, password]);
        clients.timeout(LOAD_TIMEOUT).run().unwrap();
    }

    /// The same as [`start`](Self::start), with clients that have logged in before tcpcopy starts and
    /// go on until they are stopped, as children of the process.
    fn join(mode: Mode, form: Form) -> Option<(Self, Process)> {
        let lab = Lab::for_test()?;
        let origin = Redis::start_for(lab.host("origin"), AT_ORIGIN).unwrap();
        let server = origin.ipv4().ip();
        let load = lab.host("client").command("sh");
        let load = load.args(["-c", r#"redis-benchmark "$@" & wait"#, "sh"]);
        let load = load.args(["-h", &server.to_string(), "-a", AT_ORIGIN.password]);
        let load = load.args(["-q", "-c", "4", "-n", ENDLESS_LOAD, "-t", "get"]);
        let load = load.spawn().unwrap();
        wait_until("the load to begin", TIMEOUT, || {
            origin
                .calls()
                .unwrap()
                .get("get")
                .is_some_and(|it| *it > 100)
        })
        .unwrap();
        Some((Self::between(lab, origin, mode, form), load))
    }

    /// Waits until the target has counted what the origin has, `more` logins aside, and ends tcpcopy.
    fn finish(self, more: impl Fn(&Report) -> u64) -> Report {
        let without_logins = |redis: &Redis| {
            let mut calls = redis.calls().unwrap();
            (calls.remove("auth").unwrap_or(0), calls)
        };
        let caught_up = wait_until("the counters to agree", TIMEOUT, || {
            without_logins(&self.origin).1 == without_logins(&self.target).1
        });
        let log = self.tcpcopy.stderr();
        let report = Programs::finish_tcpcopy(&self.lab, self.tcpcopy, REPORT).unwrap();
        let (origin, target) = (without_logins(&self.origin), without_logins(&self.target));
        assert_eq!(origin.1, target.1, "{caught_up:?}\n{report}\n{log}");
        report.assert_balanced();
        report.assert_nothing_lost();
        assert_eq!(
            origin.0 + more(&report),
            target.0,
            "logins\n{report}\n{log}"
        );
        let errors = [&self.origin, &self.target].map(|redis| redis.errors().unwrap());
        assert_eq!(
            errors[0], errors[1],
            "errors, with WRONGPASS and NOAUTH\n{log}"
        );
        assert!(!errors[1].contains_key("WRONGPASS") && !errors[1].contains_key("NOAUTH"));
        let commands: u64 = target.1.values().sum::<u64>() + target.0;
        tell(&format!(
            "{commands} commands of {} kinds at the target",
            target.1.len() + 1
        ));
        report
    }
}

fn with_other_accounts(mode: Mode, form: Form) {
    let origin = |host: &Host| Redis::start_for(host, AT_ORIGIN);
    let Some(replay) = Replay::start(mode, form, origin) else {
        return;
    };
    let requests = scaled("3000", "100000");
    let some = "set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset";
    let every = ["-q", "-n", requests, "-r", "1000", "-t", some, "-c", "20"];
    let (user, password) = AT_ORIGIN.user;
    let default = ["-a", AT_ORIGIN.password];
    let app = ["--user", user, "-a", password];
    replay.benchmark(&[&every[..], &default, &["-P", "1"]].concat());
    replay.benchmark(&[&every[..], &default, &["-P", "16"]].concat());
    replay.benchmark(&[&every[..], &app, &["-P", "4", "-3"]].concat());
    // A login for each command, and values that are longer than what the plugin gathers.
    let reconnecting = ["-q", "-n", "500", "-c", "5", "-k", "0", "-t", "get"];
    replay.benchmark(&[&reconnecting[..], &default].concat());
    let large = ["-q", "-n", "60", "-c", "2", "-d", "100000", "-t", "set,get"];
    replay.benchmark(&[&large[..], &app].concat());
    replay.clients(AT_ORIGIN);
    let calls = replay.origin.calls().unwrap();
    assert!(calls.len() > 30 && calls["auth"] > 500, "{calls:?}");
    let report = replay.finish(|_| 0);
    assert_eq!(
        report.count("requests", "captured"),
        report.count("requests", "delivered")
    );
}

#[test]
fn other_accounts_in_the_clients_names() {
    with_other_accounts(Mode::Target, Form::Native);
}

#[test]
fn other_accounts_in_the_clients_names_with_wasm() {
    with_other_accounts(Mode::Target, Form::Wasm);
}

#[test]
fn other_accounts_over_sockets() {
    with_other_accounts(Mode::Socket, Form::Native);
}

#[test]
fn other_accounts_over_sockets_with_wasm() {
    with_other_accounts(Mode::Socket, Form::Wasm);
}

/// The origin asks nobody who they are; at the target, the plugin says it for them.
#[test]
fn clients_that_never_log_in() {
    let Some(replay) = Replay::start(Mode::Target, Form::Wasm, Redis::start) else {
        return;
    };
    let requests = scaled("3000", "50000");
    let shape = [
        "-q",
        "-n",
        requests,
        "-c",
        "20",
        "-P",
        "8",
        "-t",
        "set,get,incr",
    ];
    replay.benchmark(&shape);
    let reconnecting = ["-q", "-n", "300", "-c", "5", "-k", "0", "-t", "get"];
    replay.benchmark(&reconnecting);
    replay.clients(RedisAccounts {
        password: "",
        user: ("", ""),
    });
    // Some connections of the benchmark say nothing before they are closed, so nobody logs in.
    let added = |report: &Report| report.count("targets.0.plugins.0.counters", "logins_added");
    let report = replay.finish(added);
    let connections = report.count("connections", "captured");
    assert!(added(&report) > connections * 9 / 10, "{report}");
    assert!(connections > 300, "{report}");
}

#[test]
fn clients_from_before_the_capture() {
    let Some((replay, mut load)) = Replay::join(Mode::Target, Form::Native) else {
        return;
    };
    let gets = || {
        let calls = replay.target.calls().unwrap();
        calls.get("get").copied().unwrap_or(0)
    };
    wait_until("the replay to run", TIMEOUT, || gets() > 1_000).unwrap();
    assert!(load.is_running(), "tcpcopy was to start while it runs");
    // Whoever is stopped breaks nothing off, and says no more.
    load.stop_children().unwrap();
    let mut seen = 0;
    wait_until("the target to rest", TIMEOUT, || {
        thread::sleep(REST);
        let before = std::mem::replace(&mut seen, gets());
        before == seen
    })
    .unwrap();
    let report = Programs::finish_tcpcopy(&replay.lab, replay.tcpcopy, REPORT).unwrap();
    report.assert_balanced();
    let (calls, errors) = (
        replay.target.calls().unwrap(),
        replay.target.errors().unwrap(),
    );
    assert!(errors.is_empty(), "{errors:?}\n{report}");
    assert_eq!(calls["auth"], 4, "{calls:?}\n{report}");
    assert!(calls["get"] > 1_000, "{calls:?}\n{report}");
    let marked = report.count("requests", "delivered");
    assert_eq!(calls["get"], marked, "{calls:?}\n{report}");
    tell(&format!(
        "{marked} commands of connections that were there before"
    ));
}
