//! What the engine is told before it starts. Every limit has a name and a default.

use std::net::IpAddr;
use std::time::Duration;

use tcpcopy_packet::Endpoint;

/// One `-x` item: which captured traffic goes to which target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The origin's address; `None` takes every address.
    pub origin_address: Option<IpAddr>,
    /// The origin's port.
    pub origin_port: u16,
    /// Where the traffic is replayed to.
    pub target: Endpoint,
}

/// How bytes reach the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upstream {
    /// As packets in the client's name, with intercept to catch the answers.
    #[default]
    Raw,
    /// Through connections of this host's kernel. `-c`, `-f`, `-H`, `-M` and `-D` mean nothing to
    /// the engine then, and client and target may be of different IP versions.
    Socket,
}

/// How the mirror TCP times its acknowledgements (`-R`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RttPolicy {
    /// As the captured client's round-trip time.
    #[default]
    Captured,
    /// The same for every session; zero is as fast as possible.
    Fixed(Duration),
}

/// Which part of the connections is replayed (`-r`, `-g`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Selection {
    /// All of them.
    #[default]
    All,
    /// This percentage of the connections, 0 to 100, chosen by a hash of the client's endpoint, so
    /// that a client keeps its lot as far as the number allows.
    Percent(f64),
    /// Rising evenly from one per cent of the connections to all of them, from the first
    /// connection on.
    Ramp {
        /// The time until all of them are replayed.
        duration: Duration,
    },
}

/// An upper bound of the load (`--rate`), each copy counted; what is above it is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RateLimit {
    /// So many connections a second. What is above is not replayed at all.
    Connections(f64),
    /// So many requests a second. What is above is left out request by request, and its connection
    /// goes on.
    Requests(f64),
}

impl RateLimit {
    /// The part of the limit that each of `shard_count` engines is given.
    #[must_use]
    pub fn divided(self, shard_count: u16) -> Self {
        let parts = f64::from(shard_count.max(1));
        match self {
            Self::Connections(rate) => Self::Connections(rate / parts),
            Self::Requests(rate) => Self::Requests(rate / parts),
        }
    }

    /// The number a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        match self {
            Self::Connections(rate) | Self::Requests(rate) => rate,
        }
    }

    /// What is bounded: the limit's name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections(_) => "connections",
            Self::Requests(_) => "requests",
        }
    }
}

/// How much further away from the target the clients seem to be (`--latency`), both ways together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// On average.
    pub mean: Duration,
    /// How far a request's own latency may be from the mean, evenly spread; at most the mean.
    pub jitter: Duration,
}

/// What can be changed while the engine runs; see [`Engine::tune`](crate::Engine::tune).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tuning {
    /// As [`EngineConfig::copies`], for connections that begin from now on.
    Copies(f64),
    /// As [`EngineConfig::selection`], for connections that begin from now on; a ramp begins now.
    Selection(Selection),
    /// As [`EngineConfig::rate`].
    Rate(Option<RateLimit>),
    /// Whether new connections and new requests are left out. Sessions stay open, and connections
    /// that began meanwhile are joined afterwards.
    Pause(bool),
    /// Whether new connections are taken; false is for a host that has no time left for them.
    Admission(bool),
}

/// Whose source tuples this engine may hand out, where several engines share the work.
///
/// `owns` must be the same function that decided which client's packets reach this engine.
#[derive(Clone, Copy)]
pub struct Ownership {
    /// This shard's number, from 0.
    pub shard: u16,
    /// How many shards there are.
    pub shard_count: u16,
    /// The shard that owns a client's endpoint.
    pub shard_of: fn(address: IpAddr, port: u16, shard_count: u16) -> u16,
}

impl Ownership {
    /// One engine that owns everything.
    #[must_use]
    pub fn sole() -> Self {
        Self {
            shard: 0,
            shard_count: 1,
            shard_of: |_, _, _| 0,
        }
    }

    /// Whether this shard may use `endpoint` as a source.
    #[must_use]
    pub fn owns(&self, endpoint: Endpoint) -> bool {
        self.shard_count == 1
            || (self.shard_of)(endpoint.address, endpoint.port, self.shard_count) == self.shard
    }
}

impl std::fmt::Debug for Ownership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ownership({} of {})", self.shard, self.shard_count)
    }
}

/// All that the engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The `-x` list, searched in order: first those with an origin's address, then the others.
    pub mappings: Vec<Mapping>,
    /// How bytes reach the target.
    pub upstream: Upstream,
    /// Sessions per captured connection, the first included (`-n`), 1 to 1023 with up to six
    /// decimals: 1.5 replays every second connection twice.
    pub copies: f64,
    /// Shifts every source port (`-f`), so that several tcpcopy of one client don't meet; 0 to 1023.
    pub port_shift: u16,
    /// Which part of the connections is replayed (`-r`, `-g`).
    pub selection: Selection,
    /// Upper bound of the load (`--rate`).
    pub rate: Option<RateLimit>,
    /// How much further away the clients seem to be (`--latency`).
    pub latency: Option<Latency>,
    /// Addresses that replace the clients' own (`-c`); empty keeps them.
    pub client_pool: Vec<IpAddr>,
    /// Address that replaces a loopback client's (`-H`).
    pub localhost_replacement: Option<IpAddr>,
    /// Largest IP packet towards the target, in bytes (`-M`).
    pub mtu: u16,
    /// MSS offered for connections whose SYN was not seen, in bytes (`-D`).
    pub mss: u16,
    /// Acknowledgement timing (`-R`).
    pub rtt: RttPolicy,
    /// Whether requests wait for the answer to the one before (`-W` switches it off).
    pub wait_for_answers: bool,
    /// Whether only connections whose SYN was seen are replayed (`-O`).
    pub only_complete: bool,
    /// A session whose target has not answered for this long ends (`-t`).
    pub session_timeout: Duration,
    /// A session on which nothing at all happened for this long ends (`-k`).
    pub idle_timeout: Duration,
    /// A hole in a captured stream older than this is permanent.
    pub gap_timeout: Duration,
    /// Most bytes of captured payload held at once (`-m`), over all sessions.
    pub memory_budget_bytes: u64,
    /// Which tuples are ours.
    pub ownership: Ownership,
}

/// Most sessions of one captured connection, see [`EngineConfig::copies`].
pub const MAX_COPIES: u16 = 1023;
/// Default of [`EngineConfig::mtu`], in bytes: Ethernet's.
pub const DEFAULT_MTU: u16 = 1500;
/// Default of [`EngineConfig::mss`], in bytes: Ethernet's MTU less IPv4 and TCP headers.
pub const DEFAULT_MSS: u16 = 1460;
/// Default of [`EngineConfig::session_timeout`].
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(600);
/// Default of [`EngineConfig::idle_timeout`].
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(720);
/// Default of [`EngineConfig::gap_timeout`]: longer than a client's third retransmission.
pub const DEFAULT_GAP_TIMEOUT: Duration = Duration::from_secs(10);
/// Default of [`EngineConfig::memory_budget_bytes`].
pub const DEFAULT_MEMORY_BUDGET_BYTES: u64 = 1 << 30;

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            mappings: Vec::new(),
            upstream: Upstream::Raw,
            copies: 1.0,
            port_shift: 0,
            selection: Selection::All,
            rate: None,
            latency: None,
            client_pool: Vec::new(),
            localhost_replacement: None,
            mtu: DEFAULT_MTU,
            mss: DEFAULT_MSS,
            rtt: RttPolicy::Captured,
            wait_for_answers: true,
            only_complete: false,
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            gap_timeout: DEFAULT_GAP_TIMEOUT,
            memory_budget_bytes: DEFAULT_MEMORY_BUDGET_BYTES,
            ownership: Ownership::sole(),
        }
    }
}
