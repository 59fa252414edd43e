//! How much of the captured load is replayed: which connections, how often, and how fast at most.

mod bucket;
mod spread;

use tcpcopy_packet::Endpoint;

use self::bucket::Bucket;
use self::spread::Spread;
use crate::config::{EngineConfig, RateLimit, Tuning};
use crate::ledger::{DropReason, LoadCounters};
use crate::selection::Selector;
use crate::time::Instant;

/// All that decides about load, as it stands at the moment.
#[derive(Debug)]
pub(crate) struct Shaping {
    selector: Selector,
    /// Copies of the connections that are replayed.
    copies: Spread,
    /// Copies that those left out would have had, for the account.
    left_out_copies: Spread,
    /// The same for bytes of connections that are not in the table.
    unknown_bytes: Spread,
    unknown_requests: Spread,
    limit: Option<Limit>,
    /// What the limits before the present one allowed.
    allowed_before: u64,
    is_paused: bool,
    takes_connections: bool,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    rate: RateLimit,
    bucket: Bucket,
}

impl Limit {
    fn new(rate: RateLimit) -> Self {
        Self {
            rate,
            bucket: Bucket::new(rate.per_second()),
        }
    }
}

/// What becomes of a connection that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Why it is not replayed, or not yet.
    pub(crate) refused: Option<DropReason>,
    /// How often it is replayed, or would be.
    pub(crate) copies: u16,
}

impl Shaping {
    pub(crate) fn new(config: &EngineConfig, seed: u64) -> Self {
        Self {
            selector: Selector::new(config.selection, seed),
            copies: Spread::new(config.copies),
            left_out_copies: Spread::new(config.copies),
            unknown_bytes: Spread::new(config.copies),
            unknown_requests: Spread::new(config.copies),
            limit: config.rate.map(Limit::new),
            allowed_before: 0,
            is_paused: false,
            takes_connections: true,
        }
    }

    pub(crate) fn tune(&mut self, now: Instant, tuning: Tuning) {
        match tuning {
            Tuning::Copies(copies) => {
                self.copies.set(copies);
                self.left_out_copies.set(copies);
                self.unknown_bytes.set(copies);
                self.unknown_requests.set(copies);
            }
            Tuning::Selection(selection) => self.selector.set(selection, now),
            Tuning::Rate(rate) => {
                if let Some(mut limit) = self.limit.take() {
                    limit.bucket.allows(now);
                    self.allowed_before += limit.bucket.allowed();
                }
                self.limit = rate.map(Limit::new);
            }
            Tuning::Pause(is_paused) => self.is_paused = is_paused,
            Tuning::Admission(takes) => self.takes_connections = takes,
        }
    }

    /// Decides about a connection that begins.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        client: Endpoint,
        load: &mut LoadCounters,
    ) -> Admission {
        load.connections_seen += 1;
        load.connections_asked_millionths += (self.selector.percent(now) * 1e4).round() as u64;
        if !self.selector.selects(client, now) {
            return self.leave_out(DropReason::NotSelected);
        }
        load.connections_selected += 1;
        if !self.takes_connections {
            return self.leave_out(DropReason::CpuLimit);
        }
        if !self.is_paused && !self.rate_admits_connection(now, load) {
            let admission = self.leave_out(DropReason::RateLimit);
            load.rate_offered += u64::from(admission.copies);
            return admission;
        }
        let copies = self.copies.next();
        load.connections_replayed += 1;
        load.sessions_asked_millionths += self.copies.factor_millionths();
        load.sessions_given += u64::from(copies);
        if !self.is_paused {
            self.charge_connections(u64::from(copies), load);
        }
        Admission {
            refused: self.is_paused.then_some(DropReason::Paused),
            copies,
        }
    }

    /// A connection that is left out, with the copies that it would have had.
    pub(crate) fn leave_out(&mut self, reason: DropReason) -> Admission {
        Admission {
            refused: Some(reason),
            copies: self.left_out_copies.next(),
        }
    }

    /// As often as bytes count of which nobody knows the connection.
    pub(crate) fn copies_of_bytes(&mut self, bytes: u64) -> u64 {
        self.unknown_bytes.next_of(bytes)
    }

    /// The same of requests.
    pub(crate) fn copies_of_requests(&mut self, requests: u64) -> u64 {
        self.unknown_requests.next_of(requests)
    }

    /// Whether a connection that was held up by a pause may be joined now.
    pub(crate) fn admit_late(&mut self, now: Instant, load: &mut LoadCounters) -> bool {
        let admits = self.rate_admits_connection(now, load);
        if admits {
            self.charge_connections(1, load);
        }
        admits
    }

    /// Why a request that begins now is left out; `None` where it is replayed.
    pub(crate) fn leaves_out_request(
        &mut self,
        now: Instant,
        copies: u64,
        load: &mut LoadCounters,
    ) -> Option<DropReason> {
        if self.is_paused {
            return Some(DropReason::Paused);
        }
        let limit = self.limit.as_mut()?;
        if !matches!(limit.rate, RateLimit::Requests(_)) {
            return None;
        }
        let allows = limit.bucket.allows(now);
        load.rate_allowed = self.allowed_before + limit.bucket.allowed();
        load.rate_offered += copies;
        (!allows).then_some(DropReason::RateLimit)
    }

    /// A request was begun in so many sessions.
    pub(crate) fn charge_requests(&mut self, sessions: u64, load: &mut LoadCounters) {
        if let Some(limit) = &mut self.limit
            && matches!(limit.rate, RateLimit::Requests(_))
        {
            limit.bucket.charge(sessions);
            load.rate_admitted += sessions;
        }
    }

    fn rate_admits_connection(&mut self, now: Instant, load: &mut LoadCounters) -> bool {
        let Some(limit) = &mut self.limit else {
            return true;
        };
        if !matches!(limit.rate, RateLimit::Connections(_)) {
            return true;
        }
        let allows = limit.bucket.allows(now);
        load.rate_allowed = self.allowed_before + limit.bucket.allowed();
        allows
    }

    fn charge_connections(&mut self, sessions: u64, load: &mut LoadCounters) {
        if let Some(limit) = &mut self.limit
            && matches!(limit.rate, RateLimit::Connections(_))
        {
            limit.bucket.charge(sessions);
            load.rate_offered += sessions;
            load.rate_admitted += sessions;
        }
    }
}
