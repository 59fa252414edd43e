//! A real PostgreSQL on a host, and its own load generator.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Command, Host, LabError, Output, Process, Result, wait_until};

/// Where PostgreSQL listens.
const PORT: u16 = 5432;

/// The user that the Debian package makes; the server refuses to run as root.
const USER: &str = "postgres";

/// Where Debian keeps one directory for each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// How long the server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a load may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// The database that [`Postgres::pgbench`] uses. Questions about it are asked from another one.
const DATABASE: &str = "bench";

/// A running PostgreSQL that trusts everybody and counts every statement; it ends when this value
/// is dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    host: Host,
    /// The directory of its socket, by which it is asked, so that nothing of that is in any
    /// capture.
    directory: String,
}

impl Postgres {
    /// Makes a cluster with the tables of pgbench, starts it and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Missing`] without PostgreSQL, [`LabError::Failed`] with its own words when it
    /// refuses.
    pub fn start(host: &Host) -> Result<Self> {
        let name = format!("postgres-{}-{}", host.name(), host.shared().next_number());
        let directory = host.directory_of(USER, &name)?;
        let data = format!("{directory}/data");
        as_server(host, "initdb")?
            .args(["-D", &data, "-U", USER, "-A", "trust"])
            .args(["--no-sync", "--locale=C", "--encoding=UTF8"])
            .run()?;
        let access = "local all all trust\nhost all all all trust\n";
        host.shared()
            .write(&format!("{name}/data/pg_hba.conf"), access.as_bytes())?;
        let mut server = as_server(host, "postgres")?.args(["-D", &data]);
        for setting in settings(&directory) {
            server = server.args(["-c", &setting]);
        }
        let mut process = server.spawn()?;
        process.wait_listening(PORT)?;
        let server = Self {
            process,
            host: host.clone(),
            directory,
        };
        let ready = || server.sql("postgres", "select 1").is_ok();
        wait_until("PostgreSQL to answer", START_TIMEOUT, ready)?;
        server.sql("postgres", &format!("create database {DATABASE}"))?;
        as_server(host, "pgbench")?
            .args(["-h", &server.directory, "-U", USER, "-i", "-q", DATABASE])
            .run()?;
        server.sql("postgres", "create extension pg_stat_statements")?;
        server.sql(DATABASE, "create table event (client int, number int)")?;
        server.sql("postgres", "select pg_stat_statements_reset()")?;
        Ok(server)
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv4().into(), PORT)
    }

    /// How often each statement was called in pgbench's database since the start: lines of
    /// `statement|calls|rows`, sorted.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn calls(&self) -> Result<Vec<String>> {
        let text = self.sql(
            "postgres",
            &format!(
                "select s.query, s.calls, s.rows from pg_stat_statements s \
                 join pg_database d on d.oid = s.dbid where d.datname = '{DATABASE}'"
            ),
        )?;
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    /// What the tables of pgbench and the table `event (client, number)` hold, as digests that do
    /// not depend on the order of the rows.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn content(&self) -> Result<String> {
        let digest = |table: &str| {
            format!("select '{table}', count(*), sum(hashtext(t::text)::bigint) from {table} t")
        };
        let tables = [
            "pgbench_accounts",
            "pgbench_branches",
            "pgbench_tellers",
            "event",
        ];
        self.sql(DATABASE, &tables.map(digest).join(" union all "))
    }

    /// Asks the server itself, from its own host, and returns the rows.
    ///
    /// # Errors
    /// [`LabError::Failed`] with the server's words when it refuses.
    pub fn sql(&self, database: &str, text: &str) -> Result<String> {
        let output = as_server(&self.host, "psql")?
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args([
                "-h",
                &self.directory,
                "-U",
                USER,
                "-d",
                database,
                "-c",
                text,
            ])
            .run()?;
        Ok(output.stdout)
    }

    /// Loads this server with `pgbench` from another host.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub fn pgbench(&self, from: &Host, arguments: &[&str]) -> Result<Output> {
        from.command(&program("pgbench")?)
            .args(["-h", &self.host.ipv4().to_string(), "-U", USER, "-n"])
            .args(arguments)
            .arg(DATABASE)
            .timeout(LOAD_TIMEOUT)
            .run()
    }

    /// The server's process, for signals and measurements.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Whether the server and its tools are there.
pub(crate) fn is_installed() -> bool {
    program("postgres").is_ok()
}

/// A program of PostgreSQL, to be run as the user whom the server's files belong to.
fn as_server(host: &Host, name: &str) -> Result<Command> {
    Ok(host.command(&program(name)?).as_user(USER))
}

/// The path of a program of the newest version that is installed.
fn program(name: &str) -> Result<String> {
    let version = |path: &PathBuf| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let directories = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = directories
        .map(|entry| entry.path())
        .filter(|path| path.join("bin").join(name).is_file())
        .max_by_key(version);
    match newest {
        Some(path) => Ok(path.join("bin").join(name).display().to_string()),
        None => Err(LabError::Missing {
            programs: format!("{name} (PostgreSQL)"),
            command: "apt-get install -y postgresql".to_owned(),
        }),
    }
}

/// Everything else than the defaults: nothing is kept, and nothing is left in shared memory.
fn settings(directory: &str) -> [String; 8] {
    [
        "listen_addresses=*".to_owned(),
        format!("port={PORT}"),
        format!("unix_socket_directories={directory}"),
        "fsync=off".to_owned(),
        "shared_buffers=32MB".to_owned(),
        "dynamic_shared_memory_type=mmap".to_owned(),
        "shared_preload_libraries=pg_stat_statements".to_owned(),
        "ssl=off".to_owned(),
    ]
}
