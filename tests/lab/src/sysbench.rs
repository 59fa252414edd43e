//! The load generator sysbench: transactions of a database's clients.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Command, Host, LabError, Process, Result};

/// How much longer than asked a load may take to end, its statements' preparation included.
const PATIENCE: Duration = Duration::from_secs(60);

/// The load of sysbench, with a table for each thread: whatever a thread chooses, it chooses its own.
const OWN_TABLES: &str = "\
require(\"oltp_read_write\")
local uniform = sysbench.rand.uniform
function sysbench.rand.uniform(low, high)
  if low == 1 and high == sysbench.opt.tables then
    return sysbench.tid % sysbench.opt.tables + 1
  end
  return uniform(low, high)
end
";

/// Transactions of reading and writing, as the users of a shop make them.
#[derive(Debug, Clone)]
pub struct Sysbench {
    /// The server.
    pub server: SocketAddr,
    /// Who logs in, and with which password.
    pub user: (String, String),
    /// The database, which must be there.
    pub database: String,
    /// Connections that are open at once.
    pub threads: u32,
    /// How many tables there are.
    pub tables: u32,
    /// Rows in each.
    pub table_size: u32,
    /// Whether each thread keeps to a table of its own, so that the order in which the threads'
    /// statements come makes no difference.
    pub is_apart: bool,
    /// Whether statements are prepared and executed, or said as texts.
    pub is_prepared: bool,
    /// Transactions a second in all, or as fast as it goes.
    pub rate: Option<u32>,
    /// How long the load lasts.
    pub duration: Duration,
}

impl Sysbench {
    /// Texts from as many connections as there are tables, each about its own.
    pub fn apart(server: SocketAddr, user: (&str, &str), threads: u32, duration: Duration) -> Self {
        Self {
            server,
            user: (user.0.to_owned(), user.1.to_owned()),
            database: "sbtest".to_owned(),
            threads,
            tables: threads,
            table_size: 500,
            is_apart: true,
            is_prepared: false,
            rate: None,
            duration,
        }
    }

    /// The same with prepared statements.
    pub fn prepared(self) -> Self {
        Self {
            is_prepared: true,
            ..self
        }
    }

    /// Holds the load near `rate` transactions a second.
    pub fn at_rate(self, rate: u32) -> Self {
        Self {
            rate: Some(rate),
            ..self
        }
    }

    /// The same from connections that all change the same few rows of one table.
    pub fn contended(self, rows: u32) -> Self {
        Self {
            is_apart: false,
            tables: 1,
            table_size: rows,
            ..self
        }
    }

    /// Makes the tables and fills them.
    ///
    /// # Errors
    /// As [`Command::run`].
    pub fn fill(&self, host: &Host) -> Result<()> {
        self.command(host, "prepare")?.run().map(drop)
    }

    /// Runs the load from `host` to its end.
    ///
    /// # Errors
    /// As [`Command::run`], or [`LabError::Unreadable`].
    pub fn run(&self, host: &Host) -> Result<SysbenchReport> {
        let command = self.command(host, "run")?;
        let output = command.timeout(self.duration + PATIENCE).run()?;
        SysbenchReport::parse(&output.stdout)
    }

    /// Starts the load on `host` and returns at once.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self, host: &Host) -> Result<Process> {
        self.command(host, "run")?.spawn()
    }

    fn command(&self, host: &Host, verb: &str) -> Result<Command> {
        let script = match self.is_apart {
            true => host.shared().write("sysbench.lua", OWN_TABLES.as_bytes())?,
            false => "oltp_read_write".to_owned(),
        };
        let statements = if self.is_prepared { "auto" } else { "disable" };
        let (user, password) = &self.user;
        Ok(host
            .command("sysbench")
            .args([&script, "--db-driver=mysql"])
            .arg(format!("--mysql-host={}", self.server.ip()))
            .arg(format!("--mysql-port={}", self.server.port()))
            .arg(format!("--mysql-user={user}"))
            .arg(format!("--mysql-password={password}"))
            .arg(format!("--mysql-db={}", self.database))
            .arg(format!("--db-ps-mode={statements}"))
            .arg(format!("--threads={}", self.threads))
            .arg(format!("--tables={}", self.tables))
            .arg(format!("--table-size={}", self.table_size))
            // Zero is sysbench's word for no limit.
            .arg(format!("--rate={}", self.rate.unwrap_or(0)))
            .arg(format!("--time={}", self.duration.as_secs().max(1)))
            .arg(verb))
    }
}

/// What sysbench counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SysbenchReport {
    /// Transactions that were committed.
    pub transactions: u64,
    /// Statements that were answered.
    pub queries: u64,
    /// Errors that a transaction begins again for, such as deadlocks.
    pub errors: u64,
    /// Connections that it had to open again.
    pub reconnects: u64,
}

impl SysbenchReport {
    /// Reads what sysbench printed, for loads that were started with [`Sysbench::spawn`].
    ///
    /// # Errors
    /// [`LabError::Unreadable`].
    pub fn parse(stdout: &str) -> Result<Self> {
        let count = |name: &str| {
            let lines = stdout.lines().map(str::trim_start);
            let text = lines.filter_map(|line| line.strip_prefix(name)).next();
            let digits = text.and_then(|text| text.split_whitespace().next());
            digits
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| LabError::Unreadable {
                    program: "sysbench",
                    detail: stdout.trim().to_owned(),
                })
        };
        Ok(Self {
            transactions: count("transactions:")?,
            queries: count("queries:")?,
            errors: count("ignored errors:")?,
            reconnects: count("reconnects:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        let text = "SQL statistics:\n    queries performed:\n        read: 280\n    \
                    transactions:                        20     (18.97 per sec.)\n    \
                    queries:                             400    (379.41 per sec.)\n    \
                    ignored errors:                      3      (0.00 per sec.)\n    \
                    reconnects:                          0      (0.00 per sec.)\n";
        let report = SysbenchReport::parse(text).expect("a report");
        let counted = (report.transactions, report.queries, report.errors);
        assert_eq!((counted, report.reconnects), ((20, 400, 3), 0));
        assert!(SysbenchReport::parse("FATAL: no server").is_err());
    }
}
