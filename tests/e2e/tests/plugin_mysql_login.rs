//! Every client's login at a MySQL or MariaDB becomes a login at another one, by the method and
//! with the password that hold there.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use tcpcopy_e2e::{Form, plug, programs};
use tcpcopy_lab::{
    Lab, Mode, Mysql, MysqlClient, MysqlKind, Process, Programs, Report, Setup,
    has_mysql9_for_test, wait_until,
};

use MysqlKind::{MariaDb, Mysql9};

const TIMEOUT: Duration = Duration::from_secs(60);
const REPORT: &str = "report.json";
const PORT: u16 = 3306;

/// The plugin's figures in a report.
const FIGURES: &str = "targets.0.plugins.0";

/// Who logs in: a method and a password at the origin, and others at the target.
struct User {
    name: &'static str,
    at_origin: (&'static str, &'static str),
    at_target: (&'static str, &'static str),
}

const fn user(
    name: &'static str,
    at_origin: (&'static str, &'static str),
    at_target: (&'static str, &'static str),
) -> User {
    User {
        name,
        at_origin,
        at_target,
    }
}

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";
const SHA256: &str = "sha256_password";
const ED25519: &str = "ed25519";

/// Two servers with the same table and the replay between them.
struct Replay {
    lab: Lab,
    origin: Mysql,
    target: Mysql,
    tcpcopy: Process,
    _intercepts: Vec<Process>,
}

impl Replay {
    /// `configuration` is told what the origin has of the users.
    fn start(
        mode: Mode,
        kinds: [MysqlKind; 2],
        form: Form,
        users: &[User],
        configuration: impl Fn(&Mysql) -> String,
    ) -> Option<Self> {
        let lab = Lab::for_test()?;
        if kinds.contains(&Mysql9) && !has_mysql9_for_test() {
            return None;
        }
        let server = |host: &str, kind| {
            let server = Mysql::start(lab.host(host), kind).unwrap();
            let tables = "create database shop; create table shop.visits (who varchar(80))";
            server.sql(tables).unwrap();
            server
        };
        let (origin, target) = (server("origin", kinds[0]), server("target", kinds[1]));
        for user in users {
            let (method, password) = user.at_origin;
            origin.create_user(user.name, method, password).unwrap();
            let (method, password) = user.at_target;
            target.create_user(user.name, method, password).unwrap();
        }
        let plugged = plug(&lab, "mysql", form, &configuration(&origin));
        let setup = Setup {
            port: PORT,
            ..Setup::new(mode)
        };
        let setup = setup.with(plugged);
        let intercepts = programs().start_intercepts(&lab, &setup).unwrap();
        let host = lab.host("origin");
        let tcpcopy = programs()
            .start_tcpcopy(&lab, host, &setup, REPORT)
            .unwrap();
        Some(Self {
            lab,
            origin,
            target,
            tcpcopy,
            _intercepts: intercepts,
        })
    }

    /// A client logs in at the origin and leaves the name that the server knows it by.
    fn visit(&self, client: MysqlKind, user: &User) {
        let (from, server) = (self.lab.host("client"), self.origin.ipv4());
        let client = MysqlClient::of(client).connect(from, server, user.name, user.at_origin.1);
        let leave = "insert into visits values (current_user()); select count(*) from visits";
        client
            .unwrap()
            .args(["-D", "shop", "-e", leave])
            .run()
            .unwrap();
    }

    fn visits(server: &Mysql) -> String {
        let ask = "select who, count(*) from shop.visits group by who order by who";
        server.sql(ask).unwrap()
    }

    /// Waits until the target has had the origin's visits, and asserts that nothing was lost on the
    /// way, nor any login refused there.
    fn finish(self) {
        let wanted = Self::visits(&self.origin);
        let caught_up = wait_until("the visits at the target", TIMEOUT, || {
            Self::visits(&self.target) == wanted
        });
        let log = self.tcpcopy.stderr();
        let report = Programs::finish_tcpcopy(&self.lab, self.tcpcopy, REPORT).unwrap();
        assert_eq!(
            Self::visits(&self.target),
            wanted,
            "{caught_up:?}\n{log}\n{report}"
        );
        report.assert_nothing_lost();
        let refused = self.target.counters("Aborted_connects").unwrap();
        assert_eq!(refused["Aborted_connects"], 0, "{report}");
    }

    /// Waits until the log has a remedy with this word, asserts that one session was refused under
    /// a name, and gives log and report.
    fn finish_refused(self, name: &str, word: &str) -> (String, Report) {
        let logged = || self.tcpcopy.stderr().contains(word);
        let seen = wait_until("the remedy in the log", TIMEOUT, logged);
        let log = self.tcpcopy.stderr();
        let report = Programs::finish_tcpcopy(&self.lab, self.tcpcopy, REPORT).unwrap();
        report.assert_balanced();
        let refused = report.count(&format!("{FIGURES}.refusals"), name);
        assert_eq!(refused, 1, "{seen:?}\n{log}\n{report}");
        assert_eq!(Self::visits(&self.target), "");
        (log, report)
    }
}

/// The target's passwords as the plugin is told of them.
fn passwords(users: &[User]) -> String {
    let line = |user: &User| format!("{} {}\n", user.name, user.at_target.1);
    let lines: String = users.iter().map(line).collect();
    format!("[mysql]\naccounts = \"\"\"\n{lines}\"\"\"\n")
}

/// Every user comes with every client, twice: caching_sha2_password asks for the whole password the
/// first time, and knows it the second.
fn everybody_gets_in(
    mode: Mode,
    kinds: [MysqlKind; 2],
    form: Form,
    users: &[User],
    clients: &[MysqlKind],
) {
    let Some(replay) = Replay::start(mode, kinds, form, users, |_| passwords(users)) else {
        return;
    };
    for _ in 0..2 {
        for user in users {
            for client in clients {
                replay.visit(*client, user);
            }
        }
    }
    replay.finish();
}

/// MariaDB's methods to MySQL's, the passwords others.
const TO_MYSQL: [User; 3] = [
    user("caching", (NATIVE, "one"), (CACHING, "other one")),
    user("sha", (NATIVE, "two"), (SHA256, "other two")),
    user("open", (NATIVE, ""), (CACHING, "")),
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
        user("signs", (CACHING, "one"), (ED25519, "other one")),
        user("native", (SHA256, "two"), (NATIVE, "other two")),
        user("open", (CACHING, ""), (NATIVE, "")),
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
        user("same", (CACHING, "one"), (CACHING, "one")),
        user("other", (CACHING, "two"), (SHA256, "other two")),
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
        user("signs", (ED25519, "one"), (NATIVE, "other one")),
        user("native", (NATIVE, "two"), (ED25519, "other two")),
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
    let users = [user("app", (NATIVE, "secret"), (NATIVE, "secret"))];
    let hash = |origin: &Mysql| {
        let ask = "select authentication_string from mysql.user where user = 'app'";
        format!(
            "[mysql]\nhashes = \"app {}\"\n",
            origin.sql(ask).unwrap().trim()
        )
    };
    let started = Replay::start(Mode::Socket, [MariaDb, MariaDb], Form::Native, &users, hash);
    let Some(replay) = started else { return };
    for _ in 0..3 {
        replay.visit(MariaDb, &users[0]);
    }
    replay.finish();
}

#[test]
fn a_wrong_password_is_refused_by_name_and_not_shown() {
    let users = [user("app", (NATIVE, "secret"), (CACHING, "right"))];
    let wrong = |_: &Mysql| "[mysql]\naccounts = \"app hunter2\"\n".to_owned();
    let started = Replay::start(Mode::Socket, [MariaDb, Mysql9], Form::Native, &users, wrong);
    let Some(replay) = started else { return };
    replay.visit(MariaDb, &users[0]);
    let (log, report) = replay.finish_refused("login_denied", "1045");
    assert!(log.contains("`app`"), "{log}");
    assert!(
        !log.contains("hunter2") && !report.to_string().contains("hunter2"),
        "{log}"
    );
}

#[test]
fn a_client_that_encrypts_is_refused_by_name() {
    let users = [user("app", (CACHING, "secret"), (CACHING, "secret"))];
    let configuration = passwords(&users);
    let started = Replay::start(Mode::Socket, [Mysql9, Mysql9], Form::Native, &users, |_| {
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
    replay.finish_refused("tls", "TLS");
}
