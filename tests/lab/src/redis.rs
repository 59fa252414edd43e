//! A real Redis on a host, and its own load generator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Host, Output, Process, Result};

/// Where Redis listens.
const PORT: u16 = 6379;

/// How long a load may take. The generator tries for ever to reach a server that is not there.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Who asks a server that has accounts: one more, which no load uses.
const ASKER: [&str; 2] = ["lab", "lab"];

/// A running Redis without persistence; it ends when this value is dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    host: Host,
    /// The socket by which it is asked, so that nothing of that is in any capture.
    socket: String,
    has_accounts: bool,
    /// How often it was asked with an account.
    logins: AtomicU64,
}

/// Who may talk to a Redis.
#[derive(Debug, Clone, Copy)]
pub struct RedisAccounts<'a> {
    /// What everybody without a name has to say.
    pub password: &'a str,
    /// A name of another one who may do everything, and that one's password.
    pub user: (&'a str, &'a str),
}

impl Redis {
    /// Starts Redis without a password and waits until it listens.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) with its own words when it ends at once.
    pub fn start(host: &Host) -> Result<Self> {
        Self::start_with(host, None)
    }

    /// Starts Redis for nobody but these, and waits until it listens.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_for(host: &Host, accounts: RedisAccounts<'_>) -> Result<Self> {
        Self::start_with(host, Some(accounts))
    }

    fn start_with(host: &Host, accounts: Option<RedisAccounts<'_>>) -> Result<Self> {
        let shared = host.shared();
        let name = format!("redis-{}-{}", host.name(), shared.next_number());
        let socket = shared.path(&format!("{name}.sock"));
        let settings = format!(
            "port {PORT}\nbind * -::*\nprotected-mode no\nunixsocket {socket}\nsave \"\"\n\
             appendonly no\ndir {}\n",
            shared.path("")
        );
        let accounts = accounts.map(|RedisAccounts { password, user }| {
            let account = |(name, password): (&str, &str)| {
                format!("user {name} on >{password} ~* &* +@all\n")
            };
            let asker = account((ASKER[0], ASKER[1]));
            format!("requirepass {password}\n{}{asker}", account(user))
        });
        let has_accounts = accounts.is_some();
        let settings = settings + &accounts.unwrap_or_default();
        let file = shared.write(&format!("{name}.conf"), settings.as_bytes())?;
        let mut process = host.command("redis-server").arg(file).spawn()?;
        process.wait_listening(PORT)?;
        Ok(Self {
            process,
            host: host.clone(),
            socket,
            has_accounts,
            logins: AtomicU64::new(0),
        })
    }

    /// Where it listens, on IPv4.
    pub fn ipv4(&self) -> SocketAddr {
        SocketAddr::new(self.host.ipv4().into(), PORT)
    }

    /// How often each command was called since the start, but for the one that asks this.
    ///
    /// # Errors
    /// [`LabError::Failed`](crate::LabError::Failed) when it does not answer.
    pub fn calls(&self) -> Result<BTreeMap<String, u64>> {
        let mut calls = parse_counts(&self.info("commandstats")?, "cmdstat_", "calls");
        calls.remove("info");
        if let Some(logins) = calls.get_mut("auth") {
            *logins -= self.logins.load(Ordering::Relaxed);
        }
        calls.retain(|_, calls| *calls > 0);
        Ok(calls)
    }

    /// How often it answered with each error since the start, by the error's code.
    ///
    /// # Errors
    /// As [`calls`](Self::calls).
    pub fn errors(&self) -> Result<BTreeMap<String, u64>> {
        let errors = self.info("errorstats")?;
        Ok(parse_counts(&errors, "errorstat_", "count"))
    }

    fn info(&self, section: &str) -> Result<String> {
        let mut ask = self.host.command("redis-cli").args(["-s", &self.socket]);
        if self.has_accounts {
            let [user, password] = ASKER;
            ask = ask.args(["--user", user, "--pass", password, "--no-auth-warning"]);
            self.logins.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ask.args(["info", section]).run()?.stdout)
    }

    /// Loads this server with `redis-benchmark` from another host.
    ///
    /// # Errors
    /// As [`Command::run`](crate::Command::run).
    pub fn benchmark(&self, from: &Host, arguments: &[&str]) -> Result<Output> {
        from.command("redis-benchmark")
            .args(["-h", &self.host.ipv4().to_string()])
            .args(arguments)
            .timeout(LOAD_TIMEOUT)
            .run()
    }

    /// The server's process, for signals and measurements.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Reads lines such as `cmdstat_get:calls=12,usec=34,...`.
fn parse_counts(text: &str, prefix: &str, count: &str) -> BTreeMap<String, u64> {
    let parse = |line: &str| {
        let (name, figures) = line.strip_prefix(prefix)?.split_once(':')?;
        let count = figures.strip_prefix(count)?.strip_prefix('=')?;
        let count = count.split(',').next()?.trim_end().parse().ok()?;
        Some((name.to_owned(), count))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_statistics_are_read() {
        let text = "# Commandstats\r\ncmdstat_get:calls=12,usec=34,usec_per_call=2.8\r\n\
                    cmdstat_config|get:calls=2,usec=9\r\n";
        let calls = parse_counts(text, "cmdstat_", "calls");
        assert_eq!((calls["get"], calls["config|get"], calls.len()), (12, 2, 2));
    }

    #[test]
    fn error_statistics_are_read() {
        let text = "# Errorstats\r\nerrorstat_NOSCRIPT:count=3\r\n";
        let errors = parse_counts(text, "errorstat_", "count");
        assert_eq!((errors["NOSCRIPT"], errors.len()), (3, 1));
    }
}
