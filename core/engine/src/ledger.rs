//! The account of everything that was captured.
//!
//! Every connection, request and byte that enters ends in exactly one place: delivered, or dropped
//! for a [`DropReason`]. What is in neither place yet is in flight, and nothing is in flight at
//! exit: `captured = delivered + Σ dropped[reason] + in flight`.
//!
//! A ledger is plain data. Each shard keeps its own; [`Ledger::merge`] adds them up. One table,
//! [`Ledger::rows`], feeds every form of report.

mod counters;
mod reason;
#[cfg(test)]
mod tests;

pub use counters::{CaptureCounters, LoadCounters, PluginCounters, SendErrors, UpstreamCounters};
pub use reason::{DropReason, PerReason};

/// What happened to one kind of thing: connections, requests or bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// How many entered.
    pub captured: u64,
    /// How many reached the target.
    pub delivered: u64,
    /// How many ended otherwise, by reason.
    pub dropped: PerReason<u64>,
}

impl Account {
    /// `count` things entered.
    pub fn capture(&mut self, count: u64) {
        self.captured += count;
    }

    /// `count` things reached the target.
    pub fn deliver(&mut self, count: u64) {
        self.delivered += count;
    }

    /// `count` things ended for `reason`.
    pub fn drop(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason] += count;
    }

    /// `count` things that had ended for `reason` have not: another session goes on with them.
    pub fn take_back(&mut self, reason: DropReason, count: u64) {
        self.dropped[reason] -= count;
    }

    /// How many were dropped, for whatever reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }

    /// How many were left out because the user asked for it.
    #[must_use]
    pub fn dropped_by_choice(&self) -> u64 {
        let chosen = self
            .dropped
            .iter()
            .filter(|(reason, _)| reason.is_by_choice());
        chosen.map(|(_, count)| count).sum()
    }

    /// How many have not ended yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.captured.saturating_sub(self.ended())
    }

    /// How many ended more than once or never entered: a defect of this program unless zero.
    #[must_use]
    pub fn overdrawn(&self) -> u64 {
        self.ended().saturating_sub(self.captured)
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Self) {
        self.captured += other.captured;
        self.delivered += other.delivered;
        for (reason, count) in other.dropped.iter() {
            self.dropped[reason] += count;
        }
    }

    fn ended(&self) -> u64 {
        self.delivered + self.dropped_total()
    }

    fn rows(&self, name: &AccountName) -> Vec<Row> {
        let sums = [
            ("captured", self.captured, "entered"),
            ("delivered", self.delivered, "reached the target"),
            (
                "dropped",
                self.dropped_total(),
                "ended otherwise, for the reasons below",
            ),
            ("in_flight", self.in_flight(), "not ended yet; zero at exit"),
            (
                "overdrawn",
                self.overdrawn(),
                "ended more than once; a defect unless zero",
            ),
        ]
        .map(|(row, value, meaning)| Row {
            section: name.sums,
            name: row,
            value,
            meaning,
        });
        let reasons = self.dropped.iter().map(|(reason, &value)| Row {
            section: name.reasons,
            name: reason.name(),
            value,
            meaning: reason.describe(),
        });
        sums.into_iter().chain(reasons).collect()
    }
}

/// The sections an account fills in the report.
struct AccountName {
    sums: &'static str,
    reasons: &'static str,
}

const CONNECTIONS: AccountName = AccountName {
    sums: "connections",
    reasons: "connections.dropped",
};
const REQUESTS: AccountName = AccountName {
    sums: "requests",
    reasons: "requests.dropped",
};
const BYTES: AccountName = AccountName {
    sums: "bytes",
    reasons: "bytes.dropped",
};

/// All accounts and counters of a shard, or of all shards after [`Ledger::merge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Connections, one for each captured connection and copy of it.
    pub connections: Account,
    /// Requests (exchanges), one for each copy.
    pub requests: Account,
    /// Bytes of the clients' streams, once for each copy; retransmissions are not counted.
    pub bytes: Account,
    /// Delivered requests that the target has answered.
    pub answered_requests: u64,
    /// What the capture brought.
    pub capture: CaptureCounters,
    /// How the load was shaped.
    pub load: LoadCounters,
    /// What plugins did.
    pub plugin: PluginCounters,
    /// What went to the target and came back.
    pub upstream: UpstreamCounters,
    /// Packets that could not be sent.
    pub send_errors: SendErrors,
}

impl Ledger {
    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Self) {
        self.connections.merge(&other.connections);
        self.requests.merge(&other.requests);
        self.bytes.merge(&other.bytes);
        self.answered_requests += other.answered_requests;
        self.capture.merge(&other.capture);
        self.load.merge(&other.load);
        self.plugin.merge(&other.plugin);
        self.upstream.merge(&other.upstream);
        self.send_errors.merge(&other.send_errors);
    }

    /// The sums that are printed at exit.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let meant = self
            .requests
            .captured
            .saturating_sub(self.requests.dropped_by_choice());
        Balance {
            connections: self.connections,
            requests: self.requests,
            bytes: self.bytes,
            requests_meant: meant,
            loss_rate: loss_rate(meant, self.requests.delivered),
        }
    }

    /// The whole ledger as rows, in the order of the report; zeros included.
    pub fn rows(&self) -> impl Iterator<Item = Row> + use<> {
        let answered = Row {
            section: REQUESTS.sums,
            name: "answered",
            value: self.answered_requests,
            meaning: "delivered and answered by the target",
        };
        self.connections
            .rows(&CONNECTIONS)
            .into_iter()
            .chain([answered])
            .chain(self.requests.rows(&REQUESTS))
            .chain(self.bytes.rows(&BYTES))
            .chain(self.capture.rows())
            .chain(self.load.rows())
            .chain(self.plugin.rows())
            .chain(self.upstream.rows())
            .chain(self.send_errors.rows())
    }
}

/// One line of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the value belongs to; a dot separates a section from its part.
    pub section: &'static str,
    /// The value's stable name, unique in its section.
    pub name: &'static str,
    /// The count.
    pub value: u64,
    /// What the count means, for the user.
    pub meaning: &'static str,
}

/// The sums of a [`Ledger`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// See [`Ledger::connections`].
    pub connections: Account,
    /// See [`Ledger::requests`].
    pub requests: Account,
    /// See [`Ledger::bytes`].
    pub bytes: Account,
    /// Requests captured, less those that the user chose to leave out.
    pub requests_meant: u64,
    /// The share of [`Self::requests_meant`] that did not reach the target, 0 to 1: the formula of
    /// the original manual, (Σ origin − target) / Σ origin.
    pub loss_rate: f64,
}

impl Balance {
    /// Whether every account comes out even: nothing in flight, nothing counted twice.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        [&self.connections, &self.requests, &self.bytes]
            .into_iter()
            .all(|account| account.in_flight() == 0 && account.overdrawn() == 0)
    }
}

/// The share of `origin` that is missing at the target; zero when nothing was sent to the origin.
fn loss_rate(origin: u64, target: u64) -> f64 {
    if origin == 0 {
        return 0.0;
    }
    origin.saturating_sub(target) as f64 / origin as f64
}
