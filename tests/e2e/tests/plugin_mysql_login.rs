//! Every client's login at a MySQL or MariaDB becomes a login at another one, by the method and
//! with the password that hold there.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::method::{CACHING, ED25519, NATIVE, SHA256};
use tcpcopy_e2e::{Form, MysqlReplay, MysqlUser};
use tcpcopy_lab::{Mode, Mysql, MysqlClient, MysqlKind, Report, wait_until};

use MysqlKind::{MariaDb, Mysql9};

const TIMEOUT: Duration = Duration::from_secs(60);

/// The plugin's figures in a report.
const FIGURES: &str = "targets.0.plugins.0";

/// Two servers with the same table and the replay between them; `configuration` is told what the
/// origin has of the users.
fn start(
    mode: Mode,
    kinds: [MysqlKind; 2],
    form: Form,
    users: &[MysqlUser],
    configuration: impl Fn(&Mysql) -> String,
) -> Option<MysqlReplay> {
    let mut replay = MysqlReplay::prepare(kinds, users)?;
    replay.both("create database shop; create table shop.visits (who varchar(80))");
    let configuration = configuration(&replay.origin);
    replay.start(mode, form, &configuration);
    Some(replay)
}

/// A client logs in at the origin and leaves the name that the server knows it by.
fn visit(replay: &MysqlReplay, client: MysqlKind, user: &MysqlUser) {
    let (from, server) = (replay.lab.host("client"), replay.origin.ipv4());
    let client = MysqlClient::of(client).connect(from, server, user.name, user.at_origin.1);
    let leave = "insert into visits values (current_user()); select count(*) from visits";
    let client = client.unwrap().args(["-D", "shop", "-e", leave]);
    client.run().unwrap();
}

fn visits(server: &Mysql) -> String {
    let ask = "select who, count(*) from shop.visits group by who order by who";
    server.sql(ask).unwrap()
}

/// Waits until the target has had the origin's visits, and asserts that nothing was lost on the
/// way, nor any login refused there.
fn finish(mut replay: MysqlReplay) {
    let wanted = visits(&replay.origin);
    replay.finish_when("the visits at the target", |replay| {
        visits(&replay.target) == wanted
    });
}

/// Waits until the log has a remedy with this word, asserts that one session was refused under a
/// name, and gives log and report.
fn finish_refused(mut replay: MysqlReplay, name: &str, word: &str) -> (String, Report) {
    let logged = || replay.log().contains(word);
    let seen = wait_until("the remedy in the log", TIMEOUT, logged);
    let log = replay.log();
    let report = replay.finish();
    let refused = report.count(&format!("{FIGURES}.refusals"), name);
    assert_eq!(refused, 1, "{seen:?}\n{log}\n{report}");
    assert_eq!(visits(&replay.target), "");
    (log, report)
}

/// Every user comes with every client, twice: caching_sha2_password asks for the whole password the
/// first time, and knows it the second.
fn everybody_gets_in(
    mode: Mode,
    kinds: [MysqlKind; 2],
    form: Form,
    users: &[MysqlUser],
    clients: &[MysqlKind],
) {
    let Some(replay) = start(mode, kinds, form, users, |_| {
        MysqlUser::configuration(users)
    }) else {
        return;
    };
    for _ in 0..2 {
        for user in users {
            for client in clients {
                visit(&replay, *client, user);
            }
        }
    }
    finish(replay);
}

/// MariaDB's methods to MySQL's, the passwords others.
const TO_MYSQL: [MysqlUser; 3] = [
    MysqlUser::new("caching", (NATIVE, "one"), (CACHING, "other one")),
    MysqlUser::new("sha", (NATIVE, "two"), (SHA256, "other two")),
    MysqlUser::new("open", (NATIVE, ""), (CACHING, "")),
];

#[test]
fn from_mariadb_to_mysql_9_in_the_clients_names() {
    everybody_gets_in(
        Mode::Target,
        [MariaDb, Mysql9],
        Form::Native,
        &TO_MYSQL,
        &[MariaDb, Mysql9],
    );
}

#[test]
fn from_mariadb_to_mysql_9_wasm() {
    everybody_gets_in(
        Mode::Socket,
        [MariaDb, Mysql9],
        Form::Wasm,
        &TO_MYSQL,
        &[MariaDb, Mysql9],
    );
}

#[test]
fn from_mysql_9_to_mariadb() {
    let users = [
        MysqlUser::new("signs", (CACHING, "one"), (ED25519, "other one")),
        MysqlUser::new("native", (SHA256, "two"), (NATIVE, "other two")),
        MysqlUser::new("open", (CACHING, ""), (NATIVE, "")),
    ];
    everybody_gets_in(
        Mode::Socket,
        [Mysql9, MariaDb],
        Form::Native,
        &users,
        &[MariaDb, Mysql9],
    );
}

#[test]
fn from_mysql_9_to_mysql_9() {
    let users = [
        MysqlUser::new("same", (CACHING, "one"), (CACHING, "one")),
        MysqlUser::new("other", (CACHING, "two"), (SHA256, "other two")),
    ];
    everybody_gets_in(
        Mode::Socket,
        [Mysql9, Mysql9],
        Form::Native,
        &users,
        &[MariaDb, Mysql9],
    );
}

#[test]
fn from_mariadb_to_mariadb() {
    let users = [
        MysqlUser::new("signs", (ED25519, "one"), (NATIVE, "other one")),
        MysqlUser::new("native", (NATIVE, "two"), (ED25519, "other two")),
    ];
    everybody_gets_in(
        Mode::Socket,
        [MariaDb, MariaDb],
        Form::Native,
        &users,
        &[MariaDb],
    );
}

#[test]
fn a_stored_hash_is_enough_between_native_accounts() {
    let users = [MysqlUser::new(
        "app",
        (NATIVE, "secret"),
        (NATIVE, "secret"),
    )];
    let hash = |origin: &Mysql| {
        let ask = "select authentication_string from mysql.user where user = 'app'";
        format!(
            "[mysql]\nhashes = \"app {}\"\n",
            origin.sql(ask).unwrap().trim()
        )
    };
    let started = start(Mode::Socket, [MariaDb, MariaDb], Form::Native, &users, hash);
    let Some(replay) = started else { return };
    for _ in 0..3 {
        visit(&replay, MariaDb, &users[0]);
    }
    finish(replay);
}

#[test]
fn a_wrong_password_is_refused_by_name_and_not_shown() {
    let users = [MysqlUser::new(
        "app",
        (NATIVE, "secret"),
        (CACHING, "right"),
    )];
    let wrong = |_: &Mysql| "[mysql]\naccounts = \"app hunter2\"\n".to_owned();
    let started = start(Mode::Socket, [MariaDb, Mysql9], Form::Native, &users, wrong);
    let Some(replay) = started else { return };
    visit(&replay, MariaDb, &users[0]);
    let (log, report) = finish_refused(replay, "login_denied", "1045");
    assert!(log.contains("`app`"), "{log}");
    assert!(
        !log.contains("hunter2") && !report.to_string().contains("hunter2"),
        "{log}"
    );
}

#[test]
fn a_client_that_encrypts_is_refused_by_name() {
    let users = [MysqlUser::new(
        "app",
        (CACHING, "secret"),
        (CACHING, "secret"),
    )];
    let configuration = MysqlUser::configuration(&users);
    let started = start(Mode::Socket, [Mysql9, Mysql9], Form::Native, &users, |_| {
        configuration.clone()
    });
    let Some(mut replay) = started else { return };
    let host = replay.lab.host("origin").clone();
    drop(replay.origin);
    replay.origin = Mysql::start_with(&host, Mysql9, &["--tls-version=TLSv1.3"]).unwrap();
    replay.origin.create_user("app", CACHING, "secret").unwrap();
    let (from, server) = (replay.lab.host("client"), replay.origin.ipv4());
    let client = MysqlClient::of(Mysql9)
        .connect(from, server, "app", "secret")
        .unwrap();
    client
        .args(["--ssl-mode=REQUIRED", "-e", "select 1"])
        .run()
        .unwrap();
    finish_refused(replay, "tls", "TLS");
}
