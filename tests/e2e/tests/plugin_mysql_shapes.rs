//! Every shape that a MySQL exchange can have, between real servers: packets of more than 16 MiB,
//! files, cursors, several results, changes of user and all the small commands.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tcpcopy_e2e::{Form, MysqlReplay, MysqlUser, method, plugin_counter, tell};
use tcpcopy_lab::{Mode, Mysql, MysqlClient, MysqlKind, PYTHON, Report};

use MysqlKind::{MariaDb, Mysql9};

/// The scripts' own protocol, and what they do with it.
const SCRIPTS: [(&str, &str); 2] = [
    (
        "mysql_client.py",
        include_str!("plugin_mysql_shapes/mysql_client.py"),
    ),
    ("shapes.py", include_str!("plugin_mysql_shapes/shapes.py")),
];

/// Ring for packets of 16 MiB that no network card slows down, in MiB.
const RING_MB: &str = "256";

/// How long the scenes of one client may take.
const SCENES_TIMEOUT: Duration = Duration::from_secs(120);

/// Capabilities of clients: session tracking, no EOF packets, results without their columns' names.
const SESSION_TRACK: u32 = 1 << 23;
const DEPRECATE_EOF: u32 = 1 << 24;
const OPTIONAL_METADATA: u32 = 1 << 25;

/// All scenes that both servers must come through alike, but those with large packets.
const SCENES: [&str; 14] = [
    "long_text",
    "files",
    "cursors",
    "several",
    "procedures",
    "users",
    "wrong_users",
    "small",
    "tracking",
    "kills",
    "prepared",
    "nulls",
    "long_data",
    "by_name",
];

/// What servers need for messages of that size, and to compare the tables they make.
const OPTIONS: [&str; 4] = [
    "--max-allowed-packet=256M",
    "--local-infile=1",
    "--loose-innodb-redo-log-capacity=512M",
    "--loose-innodb-log-file-size=256M",
];

/// The tables of both servers; `single` has those that differ.
const TABLES: &str = "create database shop; create database archive; create database single; \
    create table shop.items (id int primary key, it varchar(80)); \
    create table shop.notes (it varchar(2000)) character set utf8mb4; \
    create table shop.big (id int primary key, it longblob, more longblob); \
    create table shop.loaded (id int, it varchar(80)); \
    create table archive.kept (it varchar(200)); \
    create table single.common (id int); \
    insert into shop.items with recursive n as (select 1 as id union all select id + 1 from n \
    where id < 1000) select id, concat('item ', id) from n";

/// Procedures with several results.
const PROCEDURES: &str = "delimiter //
create procedure shop.report(in n int, out total int) begin
    select * from items order by id limit n;
    select count(*) into total from items where id <= n;
    select total;
end//
create procedure shop.fail_late() begin
    select 1;
    signal sqlstate '45000' set message_text = 'too late';
end//
";

/// Methods by the servers' kinds.
fn method(kind: MysqlKind) -> &'static str {
    match kind {
        MariaDb => method::NATIVE,
        Mysql9 => method::CACHING,
    }
}

/// Two servers with the tables, and the replay between them; `more` is of the plugin's configuration.
fn start(mode: Mode, kinds: [MysqlKind; 2], form: Form, more: &str) -> Option<MysqlReplay> {
    let [at_origin, at_target] = kinds.map(method);
    let users = [
        MysqlUser::new("app", (at_origin, "origin-app"), (at_target, "target-app")),
        MysqlUser::new(
            "other",
            (at_origin, "origin-other"),
            (at_target, "target-other"),
        ),
    ];
    let mut replay = MysqlReplay::prepare_with(kinds, &users, &OPTIONS)?;
    replay.both(TABLES);
    replay.both(PROCEDURES);
    let only = "create table single.only_at_origin (id int, it varchar(80)); \
                alter table single.common add column extra varchar(80)";
    replay.origin.sql(only).unwrap();
    let only = "create table single.only_at_target (id int)";
    replay.target.sql(only).unwrap();
    for (name, text) in SCRIPTS {
        replay.lab.write(name, text).unwrap();
    }
    let configuration = MysqlUser::configuration(&users) + more;
    replay.start_with_more(mode, form, &configuration, &["-B", RING_MB]);
    Some(replay)
}

/// Plays scenes as a client with these capabilities.
fn play(replay: &MysqlReplay, flags: u32, scenes: &[&str]) {
    let lab = &replay.lab;
    let began = Instant::now();
    let client = lab.host("client").command(PYTHON);
    let client = client
        .arg(lab.path("shapes.py"))
        .arg(replay.origin.ipv4().ip().to_string())
        .arg(flags.to_string())
        .arg(lab.path(""))
        .args(scenes);
    client.timeout(SCENES_TIMEOUT).run().unwrap();
    tell(&format!("{flags:#x} {scenes:?}: {:?}", began.elapsed()));
}

/// Whatever only one of the servers knows is left out at the other.
const NEEDLESS: [&str; 3] = [
    "statements_closed_unprepared",
    "changes_of_user_denied_at_origin",
    "kills_of_unknown_connections",
];

fn finish(mut replay: MysqlReplay) -> Report {
    let began = Instant::now();
    replay.needless = NEEDLESS.into();
    let report = replay.finish_alike("shop");
    replay.assert_same_tables("archive", &report);
    let counters = report.section("targets.0.plugins.0.counters");
    tell(&format!("caught up in {:?}: {counters}", began.elapsed()));
    for name in [
        "target_answer_unreadable",
        "origin_answers_unreadable",
        "origin_answers_missed",
    ] {
        assert_eq!(plugin_counter(&report, name), 0, "{name}: {report}");
    }
    report
}

/// All scenes with two kinds of clients, and the command lines.
fn every_shape(mode: Mode, kinds: [MysqlKind; 2], form: Form, more: u32) {
    let Some(replay) = start(mode, kinds, form, "") else {
        return;
    };
    // What follows the preparation of a statement waits until the target has answered that: the
    // long values of one client after the other, not of all at once.
    for (flags, scenes) in [
        (0, &SCENES[..]),
        (SESSION_TRACK | DEPRECATE_EOF | more, &SCENES),
        (0, &["packets"]),
    ] {
        play(&replay, flags, scenes);
        replay.catch_up();
    }
    let plain: &[&str] = &[];
    command_lines(&replay, MariaDb, &[plain, &["--compress"]]);
    match kinds {
        // It begins with `select $$`, which one of the two kinds counts and the other does not.
        [MariaDb, _] => {}
        [Mysql9, _] => command_lines(&replay, Mysql9, &[plain, ZLIB, ZSTD]),
    }
    let report = finish(replay);
    // One in each run of the scenes.
    assert_eq!(plugin_counter(&report, "kills_of_unknown_connections"), 2);
    // Two in each.
    let denied = plugin_counter(&report, "changes_of_user_denied_at_origin");
    assert_eq!(denied, 4);
}

const ZLIB: &[&str] = &["--compression-algorithms=zlib"];
const ZSTD: &[&str] = &["--compression-algorithms=zstd"];

/// Command lines with these options: with files and without, with long texts and answers.
fn command_lines(replay: &MysqlReplay, client: MysqlKind, ways: &[&[&str]]) {
    let file = replay.lab.write("rows.csv", "1,one\n2,two\n").unwrap();
    let text = format!(
        "insert into notes values (left(repeat('{}', 4), 2000)); select repeat('x', 3000000); \
         load data local infile '{file}' into table loaded fields terminated by ','; \
         select it from items",
        "a long text, ".repeat(7_000)
    );
    let say = |way: &[&str], files: &str, text: &str| {
        let (from, server) = (replay.lab.host("client"), replay.origin.ipv4());
        let client = MysqlClient::of(client).connect(from, server, "app", "origin-app");
        let client = client.unwrap().args(way).args(["-D", "shop", files, "-e"]);
        client.arg(text).run()
    };
    for way in ways {
        let output = say(way, "--local-infile=1", &text).unwrap();
        assert!(output.stdout.len() > 3_000_000, "{way:?}");
        // It takes files, but has not this one; then it takes none.
        for files in ["--local-infile=1", "--local-infile=0"] {
            let load = "load data local infile '/nowhere' into table loaded";
            say(way, files, load).unwrap_err();
        }
    }
}

#[test]
fn every_shape_from_mariadb_to_mysql_9() {
    every_shape(Mode::Socket, [MariaDb, Mysql9], Form::Native, 0);
}

#[test]
fn every_shape_from_mariadb_to_mariadb_wasm() {
    every_shape(Mode::Socket, [MariaDb, MariaDb], Form::Wasm, 0);
}

#[test]
fn every_shape_from_mysql_9_to_mysql_9() {
    let more = OPTIONAL_METADATA;
    every_shape(Mode::Socket, [Mysql9, Mysql9], Form::Native, more);
}

#[test]
fn large_packets_in_the_clients_names() {
    for form in Form::BOTH {
        let Some(replay) = start(Mode::Target, [MariaDb, MariaDb], form, "") else {
            return;
        };
        play(&replay, 0, &["packets", "files"]);
        finish(replay);
    }
}

/// The labels of a report that tell of failures: text, error and count.
fn failed(report: &Report) -> Vec<(String, u64, u64)> {
    let labels = report.section("targets.0.plugins.0.labels");
    let mut failed = Vec::new();
    for label in labels.as_array().unwrap() {
        for outcome in label["outcomes"].as_array().unwrap() {
            if outcome["word"] == "not at the origin" {
                let text = label["label"].as_str().unwrap().to_owned();
                let [error, count] = ["status", "count"].map(|it| outcome[it].as_u64().unwrap());
                failed.push((text, error, count));
            }
        }
    }
    failed
}

/// How many reads a server has counted.
fn selects(counted: &BTreeMap<String, u64>) -> u64 {
    counted.get("select").copied().unwrap_or(0)
}

#[test]
fn statements_that_fail_at_the_target_only_are_listed() {
    let kinds = [MariaDb, MariaDb];
    let Some(mut replay) = start(Mode::Socket, kinds, Form::Native, "") else {
        return;
    };
    replay.needless = vec!["statements_not_prepared", "statements_closed_unprepared"];
    play(&replay, 0, &["only_at_origin"]);
    let report = replay.finish_when("the last read at the target", |replay| {
        let [origin, target] = replay.counted();
        // Of two that read what only the origin has, the target has counted one.
        selects(&origin) == selects(&target) + 1
    });
    let expected = [
        ("insert into single.only_at_origin values(?+)", 1146, 3),
        (
            "prepare: select id from single.only_at_origin where id=?",
            1146,
            1,
        ),
        ("select it from single.only_at_origin where it=?", 1146, 1),
        ("update single.common set extra=? where id=?", 1054, 1),
    ];
    let expected: Vec<_> = expected
        .map(|(text, error, count)| (text.to_owned(), error, count))
        .into();
    assert_eq!(failed(&report), expected, "{report}");
    assert_eq!(plugin_counter(&report, "errors_only_at_target"), 6);
    for (text, error, count) in expected {
        let line =
            format!("failed   {count} of {count} {text}: {error} not at the origin {count}\n");
        assert!(replay.printed.contains(&line), "{line}{}", replay.printed);
    }
    let told = replay.printed.clone() + &report.to_string();
    assert!(
        !told.contains("secret-") && !told.contains("-app"),
        "{told}"
    );
    // Neither can do it, which is as it should be.
    let lines = replay
        .printed
        .lines()
        .filter(|line| line.contains("  failed  "));
    assert_eq!(lines.count(), 4, "{}", replay.printed);
}

#[test]
fn read_only_leaves_the_target_as_it_is() {
    let (kinds, more) = ([MariaDb, MariaDb], "read_only = true\n");
    let Some(mut replay) = start(Mode::Socket, kinds, Form::Native, more) else {
        return;
    };
    let checksums = |server: &Mysql| server.checksums("shop").unwrap();
    // Asked of both, since that counts as reading.
    let [before, _] = replay.servers().map(checksums);
    replay.needless = vec!["writers_left_out"];
    play(&replay, 0, &["reads_and_writes"]);
    /// Of a procedure.
    const INNER_SELECTS: u64 = 3;
    let report = replay.finish_when("the reads at the target", |replay| {
        let [origin, target] = replay.counted();
        selects(&origin) == selects(&target) + INNER_SELECTS
    });
    let [origin, target] = replay.counted();
    for name in ["begin", "commit", "rollback", "set_option"] {
        assert_eq!(origin[name], target[name], "{name}");
    }
    for name in [
        "insert",
        "update",
        "delete",
        "call_procedure",
        "stmt_send_long_data",
    ] {
        assert!(
            origin[name] > 0 && !target.contains_key(name),
            "{name}: {target:?}"
        );
    }
    assert_eq!((origin["stmt_execute"], target["stmt_execute"]), (63, 21));
    assert_eq!(checksums(&replay.target), before);
    assert_ne!(checksums(&replay.origin), before);
    // Of each of 20 rounds three; then a long value and its execution, one by name, a call, a
    // table made, dropped and one emptied.
    assert_eq!(plugin_counter(&report, "writers_left_out"), 67, "{report}");
}
