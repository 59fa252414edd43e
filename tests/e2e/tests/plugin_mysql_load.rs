//! What sysbench's connections do at one server, they do at another one: every statement, in the
//! transaction it belongs to, so that both have the same rows in the end.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use tcpcopy_e2e::{Form, MysqlReplay, MysqlUser, load_time, plugin_counter, scaled, tell};
use tcpcopy_lab::{Mode, MysqlKind, Report, Sysbench, SysbenchReport};

use MysqlKind::{MariaDb, Mysql9};

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";
const ED25519: &str = "ed25519";

const THREADS: u32 = 16;
/// Transactions a second: both servers, the load and the replay share one machine.
const RATE: u32 = 150;
const DATABASE: &str = "sbtest";

/// Two answers that are no answer to the same statement.
const DIFFERENCES: [&str; 6] = [
    "errors_only_at_target",
    "errors_only_at_origin",
    "errors_differ",
    "rows_differ",
    "affected_rows_differ",
    "transaction_states_differ",
];

/// How a replay is made: the way to the target, the plugin's form, and the packets lost in per cent.
type Run = (Mode, Form, f64);

/// Who logs in, by one method at the origin and by another at the target.
const fn user(at_origin: &'static str, at_target: &'static str) -> MysqlUser {
    MysqlUser::new("bench", (at_origin, "one"), (at_target, "other one"))
}

/// Transactions from 16 connections, each about a table of its own.
fn load(replay: &MysqlReplay, user: &MysqlUser) -> Sysbench {
    let account = (user.name, user.at_origin.1);
    let origin = replay.origin.ipv4();
    Sysbench::apart(origin, account, THREADS, load_time()).at_rate(RATE)
}

/// Runs a load to its end, which nothing disturbs.
fn run(replay: &MysqlReplay, load: &Sysbench) -> SysbenchReport {
    let done = load.run(replay.lab.host("client")).unwrap();
    assert!(done.transactions > 0 && done.reconnects == 0, "{done:?}");
    done
}

fn assert_no_difference(report: &Report) {
    for name in DIFFERENCES {
        assert_eq!(plugin_counter(report, name), 0, "{name}: {report}");
    }
}

/// Texts and prepared statements, as each of these runs replays them.
fn everything_arrives(kinds: [MysqlKind; 2], user: MysqlUser, runs: &[Run]) {
    let configuration = |_: &MysqlReplay| MysqlUser::configuration(&[user]);
    everything_arrives_with(kinds, user, configuration, runs);
}

/// The same with another configuration than the passwords.
fn everything_arrives_with(
    kinds: [MysqlKind; 2],
    user: MysqlUser,
    configuration: impl Fn(&MysqlReplay) -> String,
    runs: &[Run],
) {
    let Some(mut replay) = MysqlReplay::prepare(kinds, &[user]) else {
        return;
    };
    let configuration = configuration(&replay);
    replay.both("create database sbtest");
    let load = load(&replay, &user);
    let mut is_empty = true;
    for &(mode, form, percent) in runs {
        replay.start(mode, form, &configuration);
        if percent > 0.0 {
            replay.lose(mode, percent);
        }
        if std::mem::take(&mut is_empty) {
            load.fill(replay.lab.host("client")).unwrap();
            replay.catch_up();
        }
        let texts = run(&replay, &load);
        let prepared = run(&replay, &load.clone().prepared());
        let report = replay.finish_alike(DATABASE);
        assert_no_difference(&report);
        let lost = replay.lab.host("target").lost_packets().unwrap();
        assert_eq!(lost > 0, percent > 0.0, "{lost} packets were lost");
        let [_, target] = replay.counted();
        let as_texts = plugin_counter(&report, "executions_said_as_texts");
        tell(&format!(
            "{kinds:?} {mode:?} {form:?} {percent} %: {} + {} transactions, {} requests delivered, \
             {lost} packets lost, {as_texts} executions as texts, at the target {target:?}",
            texts.transactions,
            prepared.transactions,
            report.count("requests", "delivered"),
        ));
        for host in ["origin", "target"] {
            replay.lab.host(host).lose_nothing().unwrap();
        }
    }
}

#[test]
fn from_mariadb_to_mysql_9() {
    let runs = [
        (Mode::Target, Form::Wasm, 0.0),
        (Mode::Socket, Form::Native, 0.0),
    ];
    everything_arrives([MariaDb, Mysql9], user(NATIVE, CACHING), &runs);
}

#[test]
fn from_mariadb_to_mysql_9_with_one_per_cent_of_all_packets_lost() {
    let all = [
        (Mode::Target, Form::Wasm, 1.0),
        (Mode::Socket, Form::Wasm, 1.0),
    ];
    let runs = scaled(&all[..1], &all[..]);
    everything_arrives([MariaDb, Mysql9], user(NATIVE, CACHING), runs);
}

#[test]
fn from_mariadb_to_mariadb_with_ed25519() {
    let runs = [(Mode::Socket, Form::Native, 0.0)];
    everything_arrives([MariaDb, MariaDb], user(NATIVE, ED25519), &runs);
}

#[test]
fn from_mysql_9_to_mysql_9() {
    let runs = [(Mode::Target, Form::Native, 0.0)];
    everything_arrives([Mysql9, Mysql9], user(CACHING, CACHING), &runs);
}

#[test]
fn from_mariadb_to_mariadb_with_hashes_only() {
    let user = MysqlUser::new("bench", (NATIVE, "secret"), (NATIVE, "secret"));
    let hashes = |replay: &MysqlReplay| {
        let ask = "select concat(user, ' ', authentication_string) from mysql.user \
                   where user = 'bench'";
        let hashes = replay.origin.sql(ask).unwrap();
        format!("[mysql]\nhashes = \"{}\"\n", hashes.trim())
    };
    let runs = [(Mode::Target, Form::Wasm, 0.0)];
    everything_arrives_with([MariaDb, MariaDb], user, hashes, &runs);
}
