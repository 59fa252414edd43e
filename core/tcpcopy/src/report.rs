//! The final balance: a table for people, and JSON for programs.

mod load;
mod plugins;
mod schedule;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tcpcopy_engine::{Account, DropReason, Row};
use tcpcopy_host::PluginFigures;

pub use self::load::{AskedAndAchieved, DelayReport, LoadReport, RateReport};
pub use self::schedule::ScheduleReport;
use crate::error::StartError;
use crate::process::Usage;
use crate::statistics::{Figures, Snapshot, bytes};

/// Version of [`Report`]; a field that changes its meaning changes it, a new one does not.
pub const REPORT_SCHEMA: u32 = 1;

/// The JSON object that `--report` writes.
///
/// Counts are since the start. Names in maps are those of the ledger and never change their
/// meaning within a schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// How the run ended.
    pub outcome: Outcome,
    /// Time from the start to the end, in seconds.
    pub wall_s: f64,
    /// Whether every account comes out even: captured = delivered + dropped.
    pub balanced: bool,
    /// Share of the requests meant for the target that did not reach it, 0 to 1.
    pub loss_rate: f64,
    /// Requests captured, less those the user chose to leave out.
    pub requests_meant: u64,
    /// Delivered requests that the target answered.
    pub requests_answered: u64,
    /// Connections, one for each captured connection, target and copy of it.
    pub connections: AccountReport,
    /// Requests, one for each target and copy.
    pub requests: AccountReport,
    /// Bytes of the clients' streams, once for each target and copy.
    pub bytes: AccountReport,
    /// The same for each target, or group of targets that share out the traffic between them.
    pub targets: Vec<TargetReport>,
    /// What the options that shape the load asked for, and what came of it.
    pub load: LoadReport,
    /// How capture files were played.
    pub schedule: Option<ScheduleReport>,
    /// What the capture brought, drops of the kernel included.
    pub capture: BTreeMap<String, u64>,
    /// What went to the target and what came back.
    pub upstream: BTreeMap<String, u64>,
    /// Packets that could not be sent, by kind of refusal.
    pub send_errors: BTreeMap<String, u64>,
    /// The tunnels to intercept.
    pub tunnel: TunnelReport,
    /// How many sessions lived.
    pub sessions: SessionsReport,
    /// Threads that shared the connections.
    pub shards: u16,
    /// What the process used.
    pub process: Usage,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended.
    Running,
    /// Stopped by the user.
    Stopped,
    /// Intercept was away for too long, and -L was not given.
    InterceptLost,
    /// A part of the program failed.
    Failed,
}

/// What the report says beside the figures.
#[derive(Clone, Debug)]
pub struct Run {
    /// How it ended.
    pub outcome: Outcome,
    /// What each lane's targets are called.
    pub targets: Vec<String>,
    /// What each lane's plugins did; nothing without plugins.
    pub plugins: Vec<Vec<PluginFigures>>,
    /// Threads that shared the connections.
    pub shards: u16,
    /// Time from the start to the end, in seconds.
    pub wall_s: f64,
}

/// The accounts of one lane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetReport {
    /// Its targets, as in `-x`.
    pub target: String,
    /// As in [`Report::loss_rate`].
    pub loss_rate: f64,
    /// As in [`Report::requests_answered`].
    pub requests_answered: u64,
    /// Connections.
    pub connections: AccountReport,
    /// Requests.
    pub requests: AccountReport,
    /// Bytes of the clients' streams.
    pub bytes: AccountReport,
    /// As in [`LoadReport::send_delay`].
    pub send_delay: DelayReport,
    /// What went to the target and what came back.
    pub upstream: BTreeMap<String, u64>,
    /// What plugins did, in the order of their chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginFigures>,
    /// What passed between sessions and plugins, of the whole chain together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugin_chain: BTreeMap<String, u64>,
}

impl TargetReport {
    fn new(target: String, figures: &Figures, plugins: Vec<PluginFigures>) -> Self {
        let ledger = &figures.ledger;
        Self {
            target,
            loss_rate: ledger.balance().loss_rate,
            requests_answered: ledger.answered_requests,
            connections: (&ledger.connections).into(),
            requests: (&ledger.requests).into(),
            bytes: (&ledger.bytes).into(),
            send_delay: DelayReport::new(&figures.send_delay),
            upstream: by_name(ledger.upstream.rows()),
            plugin_chain: match plugins.is_empty() {
                true => BTreeMap::new(),
                false => by_name(ledger.plugin.rows()),
            },
            plugins,
        }
    }
}

/// One account of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountReport {
    /// How many entered.
    pub captured: u64,
    /// How many reached the target.
    pub delivered: u64,
    /// How many ended otherwise.
    pub dropped: u64,
    /// How many did not end; 0 when the balance is right.
    pub in_flight: u64,
    /// How many ended more than once; 0 when the balance is right.
    pub overdrawn: u64,
    /// Every reason with its count, zeros included.
    pub dropped_by_reason: BTreeMap<String, u64>,
}

/// The tunnels over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelReport {
    /// Intercepts; none where connections need none.
    #[serde(default)]
    pub intercepts: u64,
    /// How often an intercept was lost, over all shards.
    pub losses: u64,
    /// Replies that intercepts dropped because they were not read fast enough.
    pub overflowed_replies: u64,
    /// Sessions an intercept would not take.
    pub conflicts: u64,
}

/// Sessions over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionsReport {
    /// Sessions alive at the end.
    pub live: u64,
    /// Most sessions that lived at once; with several shards the sum of their maxima.
    pub high_water: u64,
}

impl From<&Account> for AccountReport {
    fn from(account: &Account) -> Self {
        let reasons = account.dropped.iter();
        Self {
            captured: account.captured,
            delivered: account.delivered,
            dropped: account.dropped_total(),
            in_flight: account.in_flight(),
            overdrawn: account.overdrawn(),
            dropped_by_reason: reasons
                .map(|(reason, n)| (reason.name().to_owned(), *n))
                .collect(),
        }
    }
}

impl Report {
    /// Puts the figures together.
    #[must_use]
    pub fn new(snapshot: &Snapshot, run: Run) -> Self {
        let total = snapshot.total();
        let ledger = &total.ledger;
        let plugins = run.plugins.into_iter().chain(std::iter::repeat(Vec::new()));
        let lanes = run.targets.into_iter().zip(&snapshot.lanes).zip(plugins);
        let balance = ledger.balance();
        Self {
            schema: REPORT_SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            outcome: run.outcome,
            wall_s: run.wall_s,
            balanced: snapshot
                .lanes
                .iter()
                .all(|lane| lane.ledger.balance().is_zero()),
            loss_rate: balance.loss_rate,
            requests_meant: balance.requests_meant,
            requests_answered: ledger.answered_requests,
            connections: (&ledger.connections).into(),
            requests: (&ledger.requests).into(),
            bytes: (&ledger.bytes).into(),
            targets: lanes
                .map(|((target, figures), plugins)| TargetReport::new(target, figures, plugins))
                .collect(),
            load: LoadReport::new(&total),
            schedule: snapshot.play.as_ref().map(ScheduleReport::new),
            capture: by_name(ledger.capture.rows()),
            upstream: by_name(ledger.upstream.rows()),
            send_errors: by_name(ledger.send_errors.rows()),
            tunnel: TunnelReport {
                intercepts: total.tunnel.intercepts,
                losses: total.tunnel.losses,
                overflowed_replies: total.tunnel.overflowed_replies,
                conflicts: total.tunnel.conflicts,
            },
            sessions: SessionsReport {
                live: total.gauges.sessions,
                high_water: total.sessions_high_water,
            },
            shards: run.shards,
            process: Usage::now(),
        }
    }

    /// The tables for people: one for each target, where there are several, and the sum.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        if self.targets.len() > 1 {
            for target in &self.targets {
                let accounts = [&target.connections, &target.requests, &target.bytes];
                add_table(&mut text, &target.target, accounts);
                text.push('\n');
            }
        }
        let title = if self.targets.len() > 1 {
            "all targets"
        } else {
            ""
        };
        add_table(
            &mut text,
            title,
            [&self.connections, &self.requests, &self.bytes],
        );
        text.push('\n');
        text.push_str(&self.load.lines());
        if let Some(schedule) = &self.schedule {
            text.push_str(&schedule.line());
        }
        for target in &self.targets {
            let name = (self.targets.len() > 1).then_some(target.target.as_str());
            text.push_str(&plugins::lines(name, &target.plugins));
        }
        text.push_str(&self.summary());
        text
    }

    fn summary(&self) -> String {
        format!(
            "loss rate    {:.4} % ({} of {} requests did not reach the target; {} were answered)\n\
             capture      {} packets, {} dropped by the kernel\n\
             {}\
             sessions     {} at most at once\n\
             this process {:.1} s, {:.2} s of processor time, {} of memory at most\n",
            self.loss_rate * 100.0,
            self.requests_meant.saturating_sub(self.requests.delivered),
            self.requests_meant,
            self.requests_answered,
            count(&self.capture, "packets"),
            count(&self.capture, "ring_dropped"),
            self.upstream_lines(),
            self.sessions.high_water,
            self.wall_s,
            self.process.cpu_s,
            bytes(self.process.peak_rss_bytes),
        )
    }

    fn upstream_lines(&self) -> String {
        let sent = |name| count(&self.upstream, name);
        if self.tunnel.intercepts == 0 {
            return format!(
                "sent         {} bytes in {} connections, {} waited for a port or a descriptor\n",
                sent("socket_bytes"),
                sent("connects"),
                sent("connect_shortages"),
            );
        }
        format!(
            "sent         {} packets, {} segments sent again, {} packets refused by the kernel\n\
             intercept    lost {} times\n",
            sent("packets_sent"),
            sent("retransmitted_segments"),
            self.send_errors.values().sum::<u64>(),
            self.tunnel.losses,
        )
    }
}

fn count(map: &BTreeMap<String, u64>, name: &str) -> u64 {
    map.get(name).copied().unwrap_or(0)
}

fn add_table(text: &mut String, title: &str, accounts: [&AccountReport; 3]) {
    text.push_str(&format!(
        "{title:<22}{:>14}{:>14}{:>18}\n",
        "connections", "requests", "bytes"
    ));
    let mut line = |name: &str, values: [i128; 3], meaning: &str| {
        let [connections, requests, bytes] = values;
        let line = format!("{name:<22}{connections:>14}{requests:>14}{bytes:>18}  {meaning}");
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(
        "captured",
        accounts.map(|account| account.captured.into()),
        "",
    );
    line(
        "delivered",
        accounts.map(|account| account.delivered.into()),
        "",
    );
    for reason in DropReason::ALL {
        let dropped = |account: &AccountReport| {
            account
                .dropped_by_reason
                .get(reason.name())
                .copied()
                .unwrap_or(0)
        };
        let counts = accounts.map(|account| dropped(account).into());
        if counts != [0; 3] {
            line(&format!("- {}", reason.name()), counts, reason.describe());
        }
    }
    line(
        "in flight",
        accounts.map(|account| account.in_flight.into()),
        "",
    );
    line(
        "balance",
        accounts.map(AccountReport::balance),
        "captured - delivered - dropped",
    );
}

impl AccountReport {
    /// What is neither delivered nor dropped; negative for what ended more than once.
    fn balance(&self) -> i128 {
        i128::from(self.in_flight) - i128::from(self.overdrawn)
    }
}

fn by_name(rows: impl Iterator<Item = Row>) -> BTreeMap<String, u64> {
    rows.map(|row| (row.name.to_owned(), row.value)).collect()
}

/// Where `--report` writes, opened while the privileges for it are there.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
}

impl ReportFile {
    /// Opens the file, and creates it if need be; what is in it stays for now.
    ///
    /// # Errors
    /// [`StartError::File`].
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        match opened {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file,
            }),
            Err(source) => Err(StartError::File {
                action: "open the report",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Replaces the file's content at once, so that no reader sees half of it. Where the process
    /// may no longer create files beside it, and where it is not a plain file, the content is
    /// written in place, in one piece.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(mut self, report: &Report) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        if self.file.metadata()?.is_file() && self.replace(text.as_bytes()).is_ok() {
            return Ok(());
        }
        if self.file.metadata()?.is_file() {
            self.file.rewind()?;
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)?;
        let written = file
            .write_all(content)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&beside, &self.path));
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        written
    }
}

#[cfg(test)]
mod tests;
