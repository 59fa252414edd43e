//! What the options mean together: names resolved, families matched, limits converted.

mod lanes;
mod unused;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::checks;
use crate::error::StartError;
use crate::host::Resolve;
use crate::options::{LogFormat, LogLevel, Options, UpstreamKind};
use crate::player::Schedule;
use crate::plugin::{PluginArgument, PluginOptions, TellOptions};
use crate::pool::parse_pool;
use crate::proxy_protocol::ProxyProtocol;
use crate::sources::{Sources, is_file, sources};
use tcpcopy_engine::{EngineConfig, Mapping, RttPolicy, Selection, Upstream};

pub use self::lanes::{Intercept, Lane, MOST_INTERCEPTS, MOST_LANES};
use self::lanes::{check_key, intercepts, lanes};
use self::unused::unused;

/// How much longer an idle session lives than one that waits for an answer, unless `-k` is given.
const IDLE_BEYOND_SESSION_TIMEOUT_S: u32 = 120;
/// Where a daemon logs, unless told otherwise.
const DAEMON_LOG_FILE: &str = "/var/log/tcpcopy.log";

/// All that the program needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What all engines have in common: without mappings, and memory and ownership still for all of
    /// them together.
    pub engine: EngineConfig,
    /// The targets and the ways to them; at least one.
    pub lanes: Vec<Lane>,
    /// Where packets come from.
    pub sources: Sources,
    /// How they are captured on devices.
    pub capture: Capture,
    /// How they are played from files.
    pub schedule: Schedule,
    /// What tells the target the real client, for sockets.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Processor time allowed, in per cent of one processor.
    pub cpu_percent: Option<u32>,
    /// Tunnel connections of a shard to each intercept (`-C`).
    pub tunnels: usize,
    /// File with the tunnel's key.
    pub key_file: Option<PathBuf>,
    /// Whether to go on without intercept (`-L`).
    pub survive_loss: bool,
    /// Threads that share the connections.
    pub shards: u16,
    /// Seed of all that is random.
    pub seed: Option<u64>,
    /// Time that SIGTERM leaves to deliver what is in flight.
    pub drain: Duration,
    /// Time between two lines of statistics in the log.
    pub interval: Duration,
    /// Where and how to log.
    pub log: Log,
    /// Where the final balance goes as JSON.
    pub report: Option<PathBuf>,
    /// Where `tcpcopy ctl` asks.
    pub control: Option<PathBuf>,
    /// Where the process id goes.
    pub pid_file: Option<PathBuf>,
    /// The plugins asked for.
    pub plugins: PluginOptions,
    /// Options that were given and have no effect beside the others.
    pub unused: Vec<&'static str>,
    /// Whether to run in the background.
    pub daemon: bool,
    /// Whom to become; `None` is nobody for root, no change for others.
    pub user: Option<String>,
}

/// What is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The user's own filter, in pcap-filter syntax.
    pub filter: Option<String>,
    /// Ring of each shard, in bytes.
    pub ring_bytes: usize,
    /// Bytes captured of each packet.
    pub snaplen: u32,
    /// Whether frames for others are taken.
    pub promiscuous: bool,
}

/// Where and how to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The file; standard error without one.
    pub file: Option<PathBuf>,
    /// Form of the lines.
    pub format: LogFormat,
    /// Least severe level.
    pub level: LogLevel,
}

/// What the program must know of the host it runs on.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Resolves names.
    pub resolve: Resolve<'a>,
    /// Every address of this host.
    pub local_addresses: &'a [IpAddr],
    /// Every network device of this host.
    pub devices: &'a [String],
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("local_addresses", &self.local_addresses)
            .field("devices", &self.devices)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Derives the configuration from the command line.
    ///
    /// # Errors
    /// [`StartError`] for the first thing that is wrong.
    pub fn from_options(options: Options, host: Surroundings<'_>) -> Result<Self, StartError> {
        let sources = sources(&options.input, host.devices, is_file)?;
        let engine = engine_config(&options)?;
        let mut lanes = lanes(&options, &engine, host.resolve)?;
        if matches!(sources, Sources::Devices(_)) {
            checks::check_origins(&lanes, host.local_addresses)?;
        }
        checks::check(&lanes, &engine, host.local_addresses)?;
        if engine.upstream == Upstream::Raw {
            for lane in &mut lanes {
                lane.intercepts = intercepts(&options, &lane.mappings, host.resolve)?;
                check_key(&options, &lane.intercepts)?;
            }
        }
        check_plugins(&options.plugins, &lanes)?;
        if options.promiscuous && sources == Sources::Devices(Vec::new()) {
            return Err(StartError::PromiscuousOnAny);
        }
        let unused = unused(&options, engine.upstream, &sources);
        let daemon_log = || options.daemon.then(|| PathBuf::from(DAEMON_LOG_FILE));
        let log_file = options.log_file.clone().or_else(daemon_log);
        Ok(Self {
            sources,
            schedule: options.play.schedule(),
            capture: Capture {
                filter: options.filter,
                ring_bytes: options.ring_mb as usize * 1024 * 1024,
                snaplen: options.snaplen,
                promiscuous: options.promiscuous,
            },
            engine,
            lanes,
            proxy_protocol: options.proxy_protocol,
            cpu_percent: options.cpu_percent,
            tunnels: usize::from(options.tunnels),
            key_file: options.key_file,
            survive_loss: options.lonely,
            shards: options.shards,
            seed: options.seed,
            drain: Duration::from_secs(options.drain_s.into()),
            interval: Duration::from_secs(options.interval.into()),
            log: Log {
                file: log_file.map(absolute).transpose()?,
                format: options.log_format,
                level: options.log_level,
            },
            report: options.report.map(absolute).transpose()?,
            control: options.control.map(absolute).transpose()?,
            pid_file: options.pid_file.map(absolute).transpose()?,
            plugins: options.plugins,
            unused,
            daemon: options.daemon,
            user: options.user,
        })
    }
}

impl Config {
    /// The mappings of all lanes.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> + Clone {
        self.lanes.iter().flat_map(|lane| &lane.mappings)
    }
}

/// A path that stays right when a daemon changes its directory.
fn absolute(path: PathBuf) -> Result<PathBuf, StartError> {
    std::path::absolute(&path).map_err(|source| StartError::File {
        action: "find",
        path,
        source,
    })
}

/// A plugin for a port that no origin has is a typing error, and so is telling nobody something.
fn check_plugins(plugins: &PluginOptions, lanes: &[Lane]) -> Result<(), StartError> {
    let TellOptions { plugin_config, set } = &plugins.tell;
    if plugins.plugin.is_empty() && (plugin_config.is_some() || !set.is_empty()) {
        return Err(StartError::NoPlugin);
    }
    let has = |port| {
        let mut mappings = lanes.iter().flat_map(|lane| &lane.mappings);
        mappings.any(|mapping| mapping.origin_port == port)
    };
    for PluginArgument { path, port } in &plugins.plugin {
        if let Some(port) = port.filter(|port| !has(*port)) {
            let path = path.clone();
            return Err(StartError::PluginPort { path, port });
        }
    }
    Ok(())
}

fn engine_config(options: &Options) -> Result<EngineConfig, StartError> {
    let localhost_replacement = match &options.localhost_address {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| StartError::LocalhostAddress(text.clone()))?,
        ),
    };
    let idle_timeout_s = options
        .idle_timeout_s
        .unwrap_or(options.session_timeout_s + IDLE_BEYOND_SESSION_TIMEOUT_S);
    Ok(EngineConfig {
        upstream: upstream(options)?,
        copies: options.copies,
        port_shift: options.port_shift,
        selection: selection(options),
        rate: options.rate,
        latency: options.latency,
        client_pool: parse_pool(&options.client_pool)?,
        localhost_replacement,
        mtu: options.mtu,
        mss: options.mss,
        rtt: match options.rtt_ms {
            None => RttPolicy::Captured,
            Some(rtt_ms) => RttPolicy::Fixed(Duration::from_millis(rtt_ms.into())),
        },
        wait_for_answers: !options.no_wait,
        only_complete: options.only_complete,
        session_timeout: Duration::from_secs(options.session_timeout_s.into()),
        idle_timeout: Duration::from_secs(idle_timeout_s.into()),
        memory_budget_bytes: u64::from(options.memory_mb) * 1024 * 1024,
        ..EngineConfig::default()
    })
}

/// The upstream asked for; without a word of it, what the other options mean.
fn upstream(options: &Options) -> Result<Upstream, StartError> {
    let names_intercept = !options.intercept.is_empty();
    match options.upstream {
        Some(UpstreamKind::Socket) if names_intercept => Err(StartError::InterceptForSockets),
        Some(UpstreamKind::Socket) => Ok(Upstream::Socket),
        None if !names_intercept => Ok(Upstream::Socket),
        Some(UpstreamKind::Raw) | None => match options.proxy_protocol {
            Some(_) => Err(StartError::ProxyProtocolRaw),
            None => Ok(Upstream::Raw),
        },
    }
}

fn selection(options: &Options) -> Selection {
    match (options.gradual_s, options.percent) {
        (Some(seconds), _) => Selection::Ramp {
            duration: Duration::from_secs(seconds.into()),
        },
        (None, Some(percent)) if percent < 100.0 => Selection::Percent(percent),
        (None, _) => Selection::All,
    }
}

#[cfg(test)]
mod tests;
