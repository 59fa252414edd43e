//! Real MySQL-protocol servers on a host: MariaDB as the machine has it, and MySQL 9.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::mysql9::Mysql9;
use crate::{Command, Host, Process, Result, wait_until};

/// Where the server listens.
const PORT: u16 = 3306;

/// How long a server may take until it answers; MySQL 9 makes its system tables first.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MysqlKind {
    /// MariaDB, with the `ed25519` method loaded.
    MariaDb,
    /// MySQL 9, of which `mysql_native_password` is gone.
    Mysql9,
}

/// A running server without TLS, whose root is asked by its socket only; it ends when this value is
/// dropped.
#[derive(Debug)]
pub struct Mysql {
    process: Process,
    host: Host,
    kind: MysqlKind,
    /// The socket by which it is asked, so that nothing of that is in any capture.
    socket: String,
}

impl Mysql {
    /// Makes an empty server, starts it and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Missing`](crate::LabError::Missing) where MySQL 9 can't be had,
    /// [`LabError::Failed`](crate::LabError::Failed) with the server's words when it refuses.
    pub fn start(host: &Host, kind: MysqlKind) -> Result<Self> {
        Self::start_with(host, kind, &[])
    }

    /// The same with more options for the server.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(host: &Host, kind: MysqlKind, options: &[&str]) -> Result<Self> {
        let number = host.shared().next_number();
        let directory = host.directory_of("root", &format!("mysql-{}-{number}", host.name()))?;
        let data = format!("--datadir={directory}/data");
        let socket = format!("{directory}/socket");
        match kind {
            MysqlKind::MariaDb => host.command("mariadb-install-db").args([
                "--no-defaults",
                "--user=root",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                &data,
            ]),
            MysqlKind::Mysql9 => server(host, kind)?.args(["--initialize-insecure", &data]),
        }
        .run()?;
        let process = server(host, kind)?
            .args([&data, &format!("--socket={socket}")])
            .arg(format!("--pid-file={directory}/pid"))
            .args(["--bind-address=*", &format!("--port={PORT}")])
            .args([
                "--innodb-buffer-pool-size=32M",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            // No host of the lab can ask a name server, and each login would wait for one.
            .args([
                "--sync-binlog=0",
                "--max-connections=500",
                "--skip-name-resolve",
            ])
            .args(match kind {
                MysqlKind::MariaDb => [
                    "--plugin-load-add=auth_ed25519",
                    "--innodb-log-file-size=32M",
                ],
                MysqlKind::Mysql9 => ["--tls-version=", "--innodb-redo-log-capacity=32M"],
            })
            .args(options)
            .spawn()?;
        let mut started = Self {
            process,
            host: host.clone(),
            kind,
            socket,
        };
        let ready =
            |server: &mut Self| !server.process.is_running() || server.sql("select 1").is_ok();
        wait_until("the server to answer", START_TIMEOUT, || {
            ready(&mut started)
        })?;
        // An error when it has ended.
        started.process.pid()?;
        if kind == MysqlKind::MariaDb {
            // They would be taken for every user who comes from the server's own host.
            started.sql("delete from mysql.global_priv where user = ''; flush privileges")?;
        }
        Ok(started)
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv4().into(), PORT)
    }

    /// Asks the server itself, as root from its own host, and returns the rows: a line each, with
    /// tabs between.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) with the server's words when it refuses.
    pub fn sql(&self, statements: &str) -> Result<String> {
        // MySQL's own client asks a `SELECT` of its own first, which would stand in the counters.
        let client = MysqlClient::of(MysqlKind::MariaDb);
        let output = client
            .command(&self.host)?
            .args([
                "-u",
                "root",
                "-S",
                &self.socket,
                "-N",
                "-B",
                "-e",
                statements,
            ])
            .run()?;
        Ok(output.stdout)
    }

    /// Makes a user who may do everything from everywhere. `method` is the server's name of it, such
    /// as `mysql_native_password`, `ed25519` or `caching_sha2_password`.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn create_user(&self, name: &str, method: &str, password: &str) -> Result<()> {
        let proof = match self.kind {
            MysqlKind::MariaDb => format!("via {method} using password('{password}')"),
            MysqlKind::Mysql9 => format!("with {method} by '{password}'"),
        };
        self.sql(&format!(
            "create user '{name}'@'%' identified {proof}; \
             grant all on *.* to '{name}'@'%' with grant option"
        ))
        .map(drop)
    }

    /// The server's global counters whose names begin so, such as `Com_`.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn counters(&self, prefix: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.sql(&format!("show global status like '{prefix}%'"))?;
        Ok(parse_counters(&text))
    }

    /// Whether it is doing nothing for any client: what it has counted, it has also done.
    ///
    /// It is not where it does not answer.
    pub fn is_at_rest(&self) -> bool {
        let Ok(connections) = self.sql("show processlist") else {
            return false;
        };
        connections.lines().all(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            // Root is the lab itself; the others are the server's own threads.
            let is_client =
                |user: &str| !["root", "system user", "event_scheduler"].contains(&user);
            let [_, user, _, _, command, ..] = fields[..] else {
                // A statement of several lines.
                return true;
            };
            !is_client(user) || command == "Sleep"
        })
    }

    /// Name, number of rows and checksum of every table of a database, a line each.
    ///
    /// It is made of what the columns say, in whatever order the rows are: `CHECKSUM TABLE` is made
    /// of how the server keeps them, which differs from kind to kind.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn checksums(&self, database: &str) -> Result<String> {
        let columns = self.sql(&format!(
            "select table_name, column_name, data_type from information_schema.columns \
             where table_schema = '{database}' order by table_name, ordinal_position"
        ))?;
        let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for line in columns.lines() {
            if let [table, name, kind] = line.split('\t').collect::<Vec<_>>()[..] {
                tables.entry(table).or_default().push(content(name, kind));
            }
        }
        let sums: Vec<_> = tables
            .iter()
            .map(|(table, columns)| {
                let row = columns.join(", ',', ");
                format!(
                    "select '{table}', count(*), \
                     sum(cast(conv(left(sha2(concat({row}), 256), 12), 16, 10) as unsigned)) \
                     from `{database}`.`{table}`"
                )
            })
            .collect();
        match sums.as_slice() {
            [] => Ok(String::new()),
            sums => self.sql(&sums.join("; ")),
        }
    }

    /// The server's process, for signals and measurements.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A command-line client, which may be of the other kind than its server.
#[derive(Debug, Clone, Copy)]
pub struct MysqlClient {
    kind: MysqlKind,
}

impl MysqlClient {
    /// MariaDB's client, or MySQL 9's.
    #[must_use]
    pub fn of(kind: MysqlKind) -> Self {
        Self { kind }
    }

    /// The client on a host, without encryption, as this user of the server there.
    ///
    /// # Errors
    /// [`LabError::Missing`](crate::LabError::Missing) where MySQL 9 can't be had.
    pub fn connect(
        self,
        from: &Host,
        server: SocketAddr,
        user: &str,
        password: &str,
    ) -> Result<Command> {
        let plain = match self.kind {
            MysqlKind::MariaDb => ["--skip-ssl"].as_slice(),
            MysqlKind::Mysql9 => &["--ssl-mode=DISABLED", "--get-server-public-key"],
        };
        let command = self.command(from)?.args(plain);
        let command = command.args(["-h", &server.ip().to_string(), "-u", user]);
        Ok(command
            .args([
                "-P",
                &server.port().to_string(),
                "--protocol=tcp",
                "-N",
                "-B",
            ])
            .arg(format!("--password={password}")))
    }

    fn command(self, host: &Host) -> Result<Command> {
        Ok(match self.kind {
            MysqlKind::MariaDb => host.command("mariadb").arg("--no-defaults"),
            MysqlKind::Mysql9 => {
                let installed = Mysql9::find_or_fetch()?;
                installed
                    .command(host, "bin/mysql")
                    .arg("--no-defaults")
                    .arg(format!("--plugin-dir={}", installed.plugins()))
            }
        })
    }
}

/// The server's program with what is said to it in any case.
fn server(host: &Host, kind: MysqlKind) -> Result<Command> {
    Ok(match kind {
        MysqlKind::MariaDb => host
            .command("mariadbd")
            .args(["--no-defaults", "--user=root"]),
        MysqlKind::Mysql9 => {
            let installed = Mysql9::find_or_fetch()?;
            let command = installed.command(host, "sbin/mysqld");
            command
                .args(["--no-defaults", "--user=root", "--mysqlx=OFF"])
                .args(["--secure-file-priv=NULL", "--performance-schema=OFF"])
                .args(installed.places())
        }
    })
}

/// The expression for what a column says, whatever the server's character set is.
fn content(column: &str, kind: &str) -> String {
    let is_text = ["char", "text", "enum", "set"]
        .iter()
        .any(|word| kind.ends_with(word));
    let bytes = match is_text {
        true => format!("convert(`{column}` using utf8mb4)"),
        false => format!("cast(`{column}` as binary)"),
    };
    format!("ifnull(hex({bytes}), 'null')")
}

fn parse_counters(text: &str) -> BTreeMap<String, u64> {
    let parse = |line: &str| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_words_are_not() {
        let counters = parse_counters("Com_select\t12\nRsa_public_key\tabc\nCom_insert\t0\n");
        assert_eq!(
            (
                counters["Com_select"],
                counters["Com_insert"],
                counters.len()
            ),
            (12, 0, 2)
        );
    }
}
