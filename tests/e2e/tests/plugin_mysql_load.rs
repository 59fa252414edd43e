//! What sysbench's connections do at one server, they do at another one: every statement, in the
//! transaction it belongs to, so that both have the same rows in the end.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use tcpcopy_e2e::method::{CACHING, ED25519, NATIVE};
use tcpcopy_e2e::{Form, MysqlReplay, MysqlUser, load_time, plugin_counter, scaled, tell};
use tcpcopy_lab::{Mode, MysqlKind, Report, Sysbench, SysbenchReport, wait_until};

use MysqlKind::{MariaDb, Mysql9};

const THREADS: u32 = 16;
/// Transactions a second: both servers, the load and the replay share one machine.
const RATE: u32 = 150;
/// Statements of each transaction.
const STATEMENTS: u64 = 20;
/// So few rows that the threads wait for each other's.
const CONTENDED_ROWS: u32 = 20;
/// So often at most that load is made until two transactions have stood in each other's way.
const CONTENDED_ROUNDS: u32 = 5;
/// What it takes until a replay has begun.
const START_TIME: Duration = Duration::from_secs(12);
const TIMEOUT: Duration = Duration::from_secs(60);
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
    let duration = scaled(load_time() / 2, load_time());
    Sysbench::apart(origin, account, THREADS, duration).at_rate(RATE)
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
        // Other connections change the same rows next, and must not come first.
        replay.catch_up();
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

/// Here the servers may order transactions differently, and find deadlocks where the other finds
/// none: the rows may differ, but whatever does is told.
#[test]
fn connections_that_change_the_same_rows() {
    let user = user(NATIVE, CACHING);
    let Some(mut replay) = MysqlReplay::prepare([MariaDb, Mysql9], &[user]) else {
        return;
    };
    replay.both("create database sbtest");
    let load = load(&replay, &user).contended(CONTENDED_ROWS);
    replay.start(
        Mode::Target,
        Form::Native,
        &MysqlUser::configuration(&[user]),
    );
    load.fill(replay.lab.host("client")).unwrap();
    replay.catch_up();
    // Until some have collided.
    let mut done = run(&replay, &load);
    for _ in 1..CONTENDED_ROUNDS {
        if done.errors == 0 {
            done = run(&replay, &load);
        }
    }
    // Every transaction begins, whatever becomes of it.
    let report = replay.finish_when("as many transactions", |replay| {
        let [origin, target] = replay
            .counted()
            .map(|counted| counted.get("begin").copied());
        origin == target
    });
    assert!(done.errors > 0, "no deadlock, so this test shows nothing");
    let [origin, target] = replay.counted();
    let counted = |name| plugin_counter(&report, name);
    let rolled_back = counted("transactions_rolled_back");
    tell(&format!(
        "contended: {done:?}, at the target only {}, at the origin only {}, rolled back at the \
         target {rolled_back}",
        counted("errors_only_at_target"),
        counted("errors_only_at_origin"),
    ));
    // What was refused is counted by the servers all the same: but for the plugin's own words, both
    // have heard the same.
    let own = BTreeMap::from([("rollback".to_owned(), rolled_back)]);
    for name in origin.keys().chain(target.keys()) {
        let [at_origin, at_target, own] =
            [&origin, &target, &own].map(|counts| counts.get(name).copied().unwrap_or(0));
        assert_eq!(at_origin + own, at_target, "{name}: {report}");
    }
    // Each deadlock of the origin was one of the target too, or is named.
    let of_origin = counted("errors_only_at_origin");
    assert!(of_origin <= done.errors, "{report}");
    assert!(of_origin >= rolled_back, "{report}");
    assert_eq!(counted("rollbacks_too_late"), 0, "{report}");
}

/// A pool of connections that was there before: what they say is replayed from a statement on that
/// begins a transaction; what can't be has a name.
fn a_pool_that_was_there_before(is_prepared: bool, mode: Mode) {
    let user = user(NATIVE, CACHING);
    let Some(mut replay) = MysqlReplay::prepare([MariaDb, Mysql9], &[user]) else {
        return;
    };
    replay.both("create database sbtest");
    let mut load = load(&replay, &user);
    load.is_prepared = is_prepared;
    load.duration += START_TIME;
    let configuration = MysqlUser::configuration(&[user]);
    replay.start(mode, Form::Native, &configuration);
    load.fill(replay.lab.host("client")).unwrap();
    replay.catch_up();
    replay.finish();

    let mut running = load.spawn(replay.lab.host("client")).unwrap();
    let transactions = |replay: &MysqlReplay| replay.origin.counters("Com_commit").unwrap();
    let before = transactions(&replay)["Com_commit"];
    wait_until("the load to run", TIMEOUT, || {
        transactions(&replay)["Com_commit"] > before + u64::from(THREADS)
    })
    .unwrap();
    let late = format!(
        "{configuration}user = \"{}\"\npassword = \"{}\"\ndatabase = \"{DATABASE}\"\n",
        user.name, user.at_target.1
    );
    replay.start(mode, Form::Native, &late);
    let [missed, _] = replay.counted().map(|counted| said(&counted));
    let output = running.wait(load.duration * 10).unwrap();
    let done = SysbenchReport::parse(&output.stdout).unwrap();
    assert_eq!(done.reconnects, 0, "{done:?}");
    finish_pool(replay, is_prepared, missed);
}

/// Statements that a server has counted, each once: an execution counts as what it executes too.
fn said(counted: &BTreeMap<String, u64>) -> u64 {
    let others = counted.iter().filter(|(name, _)| *name != "stmt_execute");
    others.map(|(_, count)| count).sum()
}

/// `missed` statements at most were said before the capture began.
fn finish_pool(mut replay: MysqlReplay, is_prepared: bool, missed: u64) {
    let mut seen = Vec::new();
    wait_until("the target to rest", TIMEOUT, || {
        let before = std::mem::replace(&mut seen, replay.counted().to_vec());
        thread::sleep(Duration::from_secs(1));
        before == seen
    })
    .unwrap();
    let report = replay.finish();
    let [origin, target] = replay.counted();
    let counted = |name| plugin_counter(&report, name);
    let left_out = counted("commands_before_joining") + counted("statements_unknown");
    let late = report.dropped("requests", "joined_late");
    let captured = report.count("requests", "captured");
    let threads = u64::from(THREADS);
    tell(&format!(
        "joined late, prepared: {is_prepared}: {captured} requests captured, origin {} (of them at \
         most {missed} before the capture), target {}, left out {left_out}, late {late}",
        said(&origin),
        said(&target),
    ));
    // What was captured: what the target has heard, what has a name, and each one's good-bye.
    let logins = counted("late_logins");
    let named = said(&target) + left_out + late + threads + logins;
    // Where the client's first bytes were there before the target could be told the login, the
    // engine takes that for a request, as it does with all that is said before the first exchange.
    let uncounted_logins = threads - logins;
    assert!(
        (named..=named + uncounted_logins).contains(&captured),
        "{captured}, of which {named} have a name: {report}"
    );
    // What the origin was told: all that was captured is, but for what servers don't count.
    let closed = replay.origin.counters("Com_stmt_close").unwrap()["Com_stmt_close"];
    let heard = named - threads - logins - closed;
    let all = said(&origin);
    // Each connection may have been within a statement when the capture began.
    assert!(
        (all - missed - threads..=all).contains(&heard),
        "{heard} of {all}, {missed} before: {report}"
    );
    // Something has been said for the first that is left out of each: what the session needs.
    let dropped = report.dropped("requests", "plugin_dropped");
    assert!(
        (left_out - threads.min(left_out)..=left_out).contains(&dropped),
        "{report}"
    );
    assert_eq!(
        report.count("requests", "dropped"),
        dropped + late,
        "{report}"
    );
    assert_eq!(counted("joined_unknown"), threads, "{report}");
    let refused = replay.target.counters("Aborted_connects").unwrap();
    assert_eq!(refused["Aborted_connects"], 0, "{report}");
    if is_prepared {
        // Nobody has seen what was prepared before.
        assert_eq!((said(&target), left_out > 0), (0, true), "{report}");
    } else {
        // At most the rest of a transaction is left out, of each connection.
        assert!(left_out <= threads * STATEMENTS, "{report}");
        assert!(said(&target) > threads * STATEMENTS, "{report}");
    }
}

#[test]
fn a_pool_that_was_there_before_says_texts() {
    a_pool_that_was_there_before(false, Mode::Target);
}

#[test]
fn a_pool_that_was_there_before_executes() {
    a_pool_that_was_there_before(true, Mode::Socket);
}
