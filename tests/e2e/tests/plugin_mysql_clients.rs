//! Real clients, from the command line to connection pools, whose logins and statements are told to
//! a server where every password is another one: both servers count the same, and have the same in
//! every table.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::thread;

use tcpcopy_e2e::method::{CACHING, ED25519, NATIVE};
use tcpcopy_e2e::{Form, MysqlReplay, MysqlUser, scaled, tell};
use tcpcopy_lab::{Command, Drivers, Mode, MysqlClient, MysqlKind, Report};

use MysqlKind::{MariaDb, Mysql9};

const DBAPI: &str = include_str!("plugin_mysql_clients/dbapi.py");
const POOLS: &str = include_str!("plugin_mysql_clients/pools.py");
const MYSQL2: &str = include_str!("plugin_mysql_clients/mysql2.js");
const WORDS: &str = include_str!("plugin_mysql_clients/words.sql");

/// How often each client logs in, each time to a table of its own.
const LOGINS: usize = 3;

/// Connections of each pool, with a table each.
const POOLED: usize = 8;

/// How often each worker of a pool uses a connection.
const VISITS: usize = 30;

/// The same in a full run.
const FULL_VISITS: usize = 400;

/// A client, which logs in under its own name: so each is somebody whom no server has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    CommandLine(MysqlKind),
    /// A driver of Python's.
    DbApi(&'static str),
    /// A pool of Python's.
    Pool(&'static str),
    /// The driver of Node.js, which also makes a pool.
    Mysql2,
}

const CLIENTS: [Client; 8] = [
    Client::CommandLine(MariaDb),
    Client::CommandLine(Mysql9),
    Client::DbApi("pymysql"),
    Client::DbApi("mysqldb"),
    Client::DbApi("connector"),
    Client::Pool("sqlalchemy"),
    Client::Pool("connector"),
    Client::Mysql2,
];

impl Client {
    /// Its name, and what its tables' names begin with.
    fn name(self) -> &'static str {
        match self {
            Self::CommandLine(MariaDb) => "mariadb_line",
            Self::CommandLine(Mysql9) => "mysql_line",
            Self::DbApi(driver) => driver,
            Self::Pool("sqlalchemy") => "sqlalchemy_pool",
            Self::Pool(_) => "connector_pool",
            Self::Mysql2 => "mysql2",
        }
    }

    /// Under its name, with methods of the servers; the passwords are never the same.
    fn user(self, at_origin: &'static str, at_target: &'static str) -> MysqlUser {
        MysqlUser::new(
            self.name(),
            (at_origin, "at the origin"),
            (at_target, "another at the target"),
        )
    }

    fn tables(self) -> Vec<String> {
        let several = |prefix: &str, count: usize| -> Vec<String> {
            (0..count).map(|n| format!("{prefix}_{n}")).collect()
        };
        match self {
            Self::Pool(_) => several(self.name(), POOLED),
            Self::Mysql2 => [several("mysql2", LOGINS), several("mysql2_pool", POOLED)].concat(),
            _ => several(self.name(), LOGINS),
        }
    }

    /// Does all that it does, login by login.
    fn run(self, replay: &MysqlReplay, drivers: &Drivers, user: &MysqlUser) {
        let (from, server) = (replay.lab.host("client"), replay.origin.ipv4());
        let password = user.at_origin.1;
        let names = |command: Command| {
            command
                .args([server.ip().to_string(), server.port().to_string()])
                .args([user.name, password])
        };
        let visits = scaled(VISITS, FULL_VISITS);
        match self {
            Self::CommandLine(kind) => {
                let compressed = match (kind, user.at_origin.0) {
                    (MariaDb, _) => "--compress",
                    (Mysql9, CACHING) => "--compression-algorithms=zstd",
                    // MariaDB has no other.
                    (Mysql9, _) => "--compression-algorithms=zlib",
                };
                for (number, table) in self.tables().iter().enumerate() {
                    let client = MysqlClient::of(kind).connect(from, server, user.name, password);
                    let last = (number + 1 == LOGINS).then_some(compressed);
                    let words = WORDS.replace("TABLE", table);
                    let client = client
                        .unwrap()
                        .args(["--force", "--default-character-set=utf8mb4"]);
                    client.args(last).input(&words).run().unwrap();
                }
            }
            Self::DbApi(driver) => {
                let command = drivers.python(from).args(["-c", DBAPI, driver]);
                names(command).arg(LOGINS).run().unwrap();
            }
            Self::Pool(_) => {
                let pool = self.name().trim_end_matches("_pool");
                let command = drivers.python(from).args(["-c", POOLS, pool]);
                names(command).arg(visits).run().unwrap();
            }
            Self::Mysql2 => {
                let script = replay.lab.write("mysql2.js", MYSQL2).unwrap();
                let command = names(drivers.node(from).arg(script));
                command
                    .args([LOGINS.to_string(), visits.to_string()])
                    .run()
                    .unwrap();
            }
        }
    }
}

/// All clients at once, from one kind of server to another; the methods are those of all accounts.
fn replayed(
    mode: Mode,
    form: Form,
    kinds: [MysqlKind; 2],
    methods: [&'static str; 2],
) -> Option<Report> {
    let users = CLIENTS.map(|client| client.user(methods[0], methods[1]));
    let drivers = Drivers::for_test()?;
    let mut replay = MysqlReplay::prepare(kinds, &users)?;
    replay.both(&schema());
    replay.start(mode, form, &MysqlUser::configuration(&users));
    if kinds[0] == Mysql9 {
        // Python's connector without TLS only knows the short form of caching_sha2_password, which
        // takes somebody's earlier login with the long one.
        for user in &users {
            let (from, server) = (replay.lab.host("client"), replay.origin.ipv4());
            let earlier =
                MysqlClient::of(Mysql9).connect(from, server, user.name, user.at_origin.1);
            earlier.unwrap().args(["-e", "select 1"]).run().unwrap();
        }
    }
    thread::scope(|scope| {
        for (client, user) in CLIENTS.iter().zip(&users) {
            scope.spawn(|| client.run(&replay, &drivers, user));
        }
    });
    let [counted, _] = replay.counted();
    let report = if kinds[0] == kinds[1] {
        replay.finish_alike("shop")
    } else {
        finish_across(&mut replay, kinds, users.len())
    };
    tell(&format!("{kinds:?} {mode:?} {form:?}: {counted:?}"));
    Some(report)
}

/// As [`MysqlReplay::finish_alike`], between servers that count one statement in different ways: a
/// SELECT that can't be parsed is none. Such are, at MySQL, the `select $$` with which its command
/// line begins and which asks MariaDB for a column, and at the target, the variable of the origin's
/// isolation that SQLAlchemy asks for once and that has another name there.
fn finish_across(replay: &mut MysqlReplay, kinds: [MysqlKind; 2], users: usize) -> Report {
    let (lines, lacking) = match kinds[0] {
        MariaDb => (0, LOGINS + 1),
        Mysql9 => (LOGINS + users, 1),
    };
    let report = replay.finish_when("the counters to agree", |replay| {
        let [mut origin, mut target] = replay.counted();
        let selects = [&mut origin, &mut target].map(|it| it.remove("select").unwrap_or(0));
        origin == target && selects[0] + lines as u64 == selects[1] + lacking as u64
    });
    replay.assert_same_tables("shop", &report);
    report
}

/// The database of all clients, with a table for each of their logins.
fn schema() -> String {
    let table = |name: String| {
        format!(
            "create table shop.{name} (id int auto_increment primary key, n int, big bigint, \
             ratio double, word varchar(200), raw mediumblob, moment datetime(6), key (word)); "
        )
    };
    let tables: String = CLIENTS
        .iter()
        .flat_map(|client| client.tables())
        .map(table)
        .collect();
    format!(
        "create database shop character set utf8mb4 collate utf8mb4_general_ci; {tables} \
         create procedure shop.add_one(in n int) select n + 1"
    )
}

/// What a plugin that lost track of something would count.
const LOSSES: [&str; 7] = [
    "executions_unreadable",
    "parameter_types_unknown",
    "prepared_on_demand",
    "statements_not_prepared",
    "statements_unknown",
    "rows_differ",
    "affected_rows_differ",
];

/// Statements that fared in another way at the target: between servers of one kind there are none.
const DIFFERENCES: [&str; 3] = [
    "errors_only_at_target",
    "errors_only_at_origin",
    "errors_differ",
];

/// Asserts that the plugin has counted nothing under these names.
fn assert_none(report: &Report, names: &[&str]) {
    let text = report.to_string();
    for name in names {
        // A figure is there once something was counted.
        assert!(!text.contains(&format!("\"{name}\"")), "{name}\n{text}");
    }
}

#[test]
fn from_mariadb_to_mysql_9_in_the_clients_names() {
    if let Some(report) = replayed(
        Mode::Target,
        Form::Native,
        [MariaDb, Mysql9],
        [NATIVE, CACHING],
    ) {
        assert_none(&report, &LOSSES);
    }
}

#[test]
fn from_mariadb_to_mariadb() {
    if let Some(report) = replayed(
        Mode::Socket,
        Form::Native,
        [MariaDb, MariaDb],
        [NATIVE, ED25519],
    ) {
        assert_none(&report, &LOSSES);
        assert_none(&report, &DIFFERENCES);
    }
}

#[test]
fn from_mysql_9_to_mysql_9_in_the_clients_names() {
    if let Some(report) = replayed(
        Mode::Target,
        Form::Wasm,
        [Mysql9, Mysql9],
        [CACHING, CACHING],
    ) {
        assert_none(&report, &LOSSES);
        assert_none(&report, &DIFFERENCES);
    }
}

#[test]
fn from_mysql_9_to_mariadb() {
    if let Some(report) = replayed(
        Mode::Socket,
        Form::Wasm,
        [Mysql9, MariaDb],
        [CACHING, ED25519],
    ) {
        assert_none(&report, &LOSSES);
    }
}
