//! Replays between servers that speak MySQL's protocol, whose users log in differently at each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpcopy_lab::{
    Lab, Mode, Mysql, MysqlKind, Process, Programs, Report, Setup, has_mysql9_for_test, wait_until,
};

use crate::{Form, lose, plug, programs};

/// How long the target may need to catch up behind the end of a load.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(90);

/// How long the intercept of a replay before may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// How many rows of a table that differs a failed test shows.
const ROWS_SHOWN: usize = 5;

/// The counter of prepared statements' executions.
const EXECUTE: &str = "stmt_execute";

const REPORT: &str = "report.json";
const PORT: u16 = 3306;

/// The statements of applications that both servers must have counted alike. The lab itself asks
/// for counters and checksums, which are others.
const COUNTED: [&str; 19] = [
    "alter_table",
    "begin",
    "call_procedure",
    "change_db",
    "commit",
    "create_index",
    "create_table",
    "delete",
    "drop_table",
    "insert",
    "load",
    "replace",
    "rollback",
    "select",
    "set_option",
    "stmt_execute",
    "stmt_fetch",
    "stmt_send_long_data",
    "update",
];

/// The servers' names of methods of authentication.
pub mod method {
    /// Until MySQL 8.
    pub const NATIVE: &str = "mysql_native_password";
    /// Since MySQL 8.
    pub const CACHING: &str = "caching_sha2_password";
    /// In between.
    pub const SHA256: &str = "sha256_password";
    /// MariaDB's.
    pub const ED25519: &str = "ed25519";
}

/// Who logs in: a method and a password at the origin, and others at the target.
#[derive(Clone, Copy, Debug)]
pub struct MysqlUser {
    /// The name at both.
    pub name: &'static str,
    /// Method and password at the origin.
    pub at_origin: (&'static str, &'static str),
    /// Method and password at the target.
    pub at_target: (&'static str, &'static str),
}

impl MysqlUser {
    /// A name, and method and password at either server.
    pub const fn new(
        name: &'static str,
        at_origin: (&'static str, &'static str),
        at_target: (&'static str, &'static str),
    ) -> Self {
        Self {
            name,
            at_origin,
            at_target,
        }
    }

    /// The target's passwords as the plugin is told of them.
    pub fn configuration(users: &[Self]) -> String {
        let line = |user: &Self| format!("{} {}\n", user.name, user.at_target.1);
        let lines: String = users.iter().map(line).collect();
        format!("[mysql]\naccounts = \"\"\"\n{lines}\"\"\"\n")
    }
}

/// Two servers, and the replay between them once it is started.
#[derive(Debug)]
pub struct MysqlReplay {
    /// Where it all happens.
    pub lab: Lab,
    /// The server that the clients talk to.
    pub origin: Mysql,
    /// The server that gets the copy.
    pub target: Mysql,
    /// The plugin's names for requests that may be left out at the target, since they would do
    /// nothing there.
    pub needless: Vec<&'static str>,
    /// What tcpcopy has printed and logged, once it has ended.
    pub printed: String,
    counted_before: [BTreeMap<String, u64>; 2],
    tcpcopy: Option<Process>,
    intercepts: Vec<Process>,
}

impl MysqlReplay {
    /// Starts origin and target, each with these users.
    ///
    /// It is `None` where the machine can't have the servers and the test may do without.
    ///
    /// # Panics
    /// When a server does not start or refuses a user.
    pub fn prepare(kinds: [MysqlKind; 2], users: &[MysqlUser]) -> Option<Self> {
        Self::prepare_with(kinds, users, &[])
    }

    /// The same with more options for both servers; what only one of them knows begins with
    /// `--loose-`.
    ///
    /// # Panics
    /// As [`prepare`](Self::prepare).
    pub fn prepare_with(
        kinds: [MysqlKind; 2],
        users: &[MysqlUser],
        options: &[&str],
    ) -> Option<Self> {
        let lab = Lab::for_test()?;
        if kinds.contains(&MysqlKind::Mysql9) && !has_mysql9_for_test() {
            return None;
        }
        let server = |host: &str, kind| {
            let started = Mysql::start_with(lab.host(host), kind, options);
            started.unwrap_or_else(|error| panic!("{error}"))
        };
        let (origin, target) = (server("origin", kinds[0]), server("target", kinds[1]));
        let replay = Self {
            lab,
            origin,
            target,
            // A statement that the target could not prepare need not be closed there.
            needless: vec!["statements_closed_unprepared"],
            printed: String::new(),
            counted_before: Default::default(),
            tcpcopy: None,
            intercepts: Vec::new(),
        };
        for user in users {
            let at = [user.at_origin, user.at_target];
            for (server, (method, password)) in replay.servers().into_iter().zip(at) {
                let created = server.create_user(user.name, method, password);
                created.unwrap_or_else(|error| panic!("{error}"));
            }
        }
        Some(replay)
    }

    /// Origin and target.
    pub fn servers(&self) -> [&Mysql; 2] {
        [&self.origin, &self.target]
    }

    /// Has both servers do something that is not part of the replay.
    ///
    /// # Panics
    /// When one of them refuses.
    pub fn both(&self, statements: &str) {
        for server in self.servers() {
            let done = server.sql(statements);
            done.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Starts the replay with the plugin and its configuration, in TOML. What the servers count
    /// from here on is what [`finish_alike`](Self::finish_alike) compares.
    ///
    /// # Panics
    /// When a program does not start.
    pub fn start(&mut self, mode: Mode, form: Form, configuration: &str) {
        self.start_with_more(mode, form, configuration, &[]);
    }

    /// The same with more options for tcpcopy.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with_more(&mut self, mode: Mode, form: Form, configuration: &str, more: &[&str]) {
        let plugged = plug(&self.lab, "mysql", form, configuration);
        self.start_with(&setup(mode).with(plugged).with(more));
    }

    /// Loses `percent` of the packets between tcpcopy and the target from now on, in both
    /// directions.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn lose(&mut self, mode: Mode, percent: f64) {
        lose(&mut self.lab, &setup(mode), percent);
    }

    /// The same with a setup that has everything, the plugin too.
    ///
    /// # Panics
    /// When a program does not start.
    pub fn start_with(&mut self, setup: &Setup) {
        for mut intercept in std::mem::take(&mut self.intercepts) {
            // One that is killed leaves its rules behind, and they let nothing through.
            let ended = intercept.terminate(END_TIMEOUT);
            ended.unwrap_or_else(|error| panic!("{error}"));
        }
        self.counted_before = self.servers().map(counters);
        let intercepts = programs().start_intercepts(&self.lab, setup);
        self.intercepts = intercepts.unwrap_or_else(|error| panic!("{error}"));
        let host = self.lab.host("origin");
        let tcpcopy = programs().start_tcpcopy(&self.lab, host, setup, REPORT);
        self.tcpcopy = Some(tcpcopy.unwrap_or_else(|error| panic!("{error}")));
    }

    /// What tcpcopy has logged.
    pub fn log(&self) -> String {
        self.tcpcopy
            .as_ref()
            .map(Process::stderr)
            .unwrap_or_default()
    }

    /// What applications have said to origin and target since the replay began, by the servers' own
    /// counters; zeros are left out.
    ///
    /// # Panics
    /// When a server does not answer.
    pub fn counted(&self) -> [BTreeMap<String, u64>; 2] {
        let [at_origin, at_target] = &self.counted_before;
        [(&self.origin, at_origin), (&self.target, at_target)].map(|(server, before)| {
            let since = |(name, now): (String, u64)| {
                let count = now - before.get(&name).copied().unwrap_or(0);
                (count > 0).then_some((name, count))
            };
            counters(server).into_iter().filter_map(since).collect()
        })
    }

    /// Ends tcpcopy and reads its report, whose balance is asserted.
    ///
    /// # Panics
    /// When it was not running, or ends badly.
    pub fn finish(&mut self) -> Report {
        let process = self.tcpcopy.take().expect("tcpcopy was started");
        let finished = Programs::finish_tcpcopy_telling(&self.lab, process, REPORT);
        let (report, printed) = finished.unwrap_or_else(|error| panic!("{error}"));
        self.printed = printed;
        report.assert_balanced();
        report
    }

    /// Waits until the target has answered what the origin has, by both servers' counters.
    ///
    /// A server counts a statement before it does it. What comes next from another connection must
    /// not meet it half done: a table whose index is still being made lets MySQL end a transaction
    /// that came in between as a deadlock, and the rows differ from then on.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn catch_up(&self) {
        let caught_up = wait_until("the counters to agree", CATCH_UP_TIMEOUT, || {
            self.is_alike() && self.target.is_at_rest()
        });
        let log = self.log();
        assert!(
            caught_up.is_ok(),
            "{caught_up:?}\n{:#?}\n{log}",
            self.counted()
        );
    }

    /// What the target can't prepare it hears as a text: so executions are compared at the end.
    fn is_alike(&self) -> bool {
        let [origin, target] = self.counted().map(|mut counted| {
            counted.remove(EXECUTE);
            counted
        });
        origin == target
    }

    /// Waits until this is so and the target is at rest, ends tcpcopy, and asserts that nothing was
    /// lost but what is [`needless`](Self::needless), and that no login failed at the target.
    ///
    /// # Panics
    /// When one of these is not so.
    pub fn finish_when(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Report {
        let so = wait_until(what, CATCH_UP_TIMEOUT, || {
            is_so(self) && self.target.is_at_rest()
        });
        let log = self.log();
        let report = self.finish();
        assert!(so.is_ok(), "{so:?}\n{:#?}\n{report}\n{log}", self.counted());
        let names = self.needless.iter();
        let needless = names.map(|name| plugin_counter(&report, name)).sum::<u64>();
        let lost = ["connections", "bytes", "requests"].map(|it| report.count(it, "dropped"));
        let left_out = report.dropped("requests", "plugin_dropped");
        // Their bytes may have nothing behind them that is said.
        let bytes = report.dropped("bytes", "plugin_dropped");
        assert!(bytes == 0 || needless > 0, "{report}");
        assert_eq!(
            (lost, left_out),
            ([0, bytes, needless], needless),
            "{report}"
        );
        let refused = self.target.counters("Aborted_connects");
        let refused = refused.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(refused["Aborted_connects"], 0, "{report}\n{log}");
        report
    }

    /// Waits until both servers have counted the same statements, ends tcpcopy, and asserts that
    /// nothing was lost, that no login failed at the target, that every execution came as one or,
    /// by the plugin's figure, as a text, and that the database has the same checksums at both.
    ///
    /// # Panics
    /// When one of these is not so.
    pub fn finish_alike(&mut self, database: &str) -> Report {
        let report = self.finish_when("the counters to agree", Self::is_alike);
        let [origin, target] = self
            .counted()
            .map(|it| it.get(EXECUTE).copied().unwrap_or(0));
        let as_texts = plugin_counter(&report, "executions_said_as_texts");
        assert_eq!(origin, target + as_texts, "executions; {report}");
        self.assert_same_tables(database, &report);
        report
    }

    /// Asserts that a database has the same tables and contents at both.
    ///
    /// # Panics
    /// When it has not, with the first rows that only one of them has, or no tables at all.
    pub fn assert_same_tables(&self, database: &str, report: &Report) {
        let checksums = self.servers().map(|server| {
            let checksums = server.checksums(database);
            checksums.unwrap_or_else(|error| panic!("{error}"))
        });
        assert!(!checksums[0].is_empty(), "{database} is empty");
        let of_target: BTreeSet<_> = checksums[1].lines().collect();
        let differing = checksums[0].lines().filter(|it| !of_target.contains(it));
        let differing = differing.filter_map(|line| line.split('\t').next());
        let rows: Vec<_> = differing
            .map(|table| (table, self.rows_at_one_only(database, table)))
            .collect();
        assert_eq!(
            checksums[0], checksums[1],
            "{rows:#?}\n{}\n{report}",
            self.printed
        );
    }

    /// The first rows of a table that only the origin has, and those that only the target has.
    fn rows_at_one_only(&self, database: &str, table: &str) -> [Vec<String>; 2] {
        let [origin, target] = self.servers().map(|server| {
            let rows = server.sql(&format!("select * from `{database}`.`{table}`"));
            let rows = rows.unwrap_or_else(|error| error.to_string());
            rows.lines().map(str::to_owned).collect::<BTreeSet<_>>()
        });
        let only = |one: &BTreeSet<String>, other| {
            let rows = one.difference(other).take(ROWS_SHOWN);
            rows.cloned().collect::<Vec<_>>()
        };
        [only(&origin, &target), only(&target, &origin)]
    }
}

/// What the plugin has counted under a name of its own.
///
/// # Panics
/// When no plugin was at work.
pub fn plugin_counter(report: &Report, name: &str) -> u64 {
    report.count_if_any("targets.0.plugins.0.counters", name)
}

fn setup(mode: Mode) -> Setup {
    Setup {
        port: PORT,
        ..Setup::new(mode)
    }
}

/// A server's counters of [`COUNTED`], by their short names.
fn counters(server: &Mysql) -> BTreeMap<String, u64> {
    let counters = server.counters("Com_");
    let counters = counters.unwrap_or_else(|error| panic!("{error}"));
    let mut short = BTreeMap::new();
    for (name, count) in counters {
        // MariaDB counts temporary tables apart.
        let name = name.replace("_temporary", "");
        if let Some(name) = name.strip_prefix("Com_")
            && COUNTED.contains(&name)
        {
            *short.entry(name.to_owned()).or_default() += count;
        }
    }
    short
}
