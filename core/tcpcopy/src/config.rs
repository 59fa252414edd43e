//! What the options mean together: names resolved, families matched, limits converted.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tcpcopy_engine::{EngineConfig, Mapping, RttPolicy, Selection};
use tcpcopy_packet::Endpoint;

use crate::checks;
use crate::error::StartError;
use crate::host::{Host, Resolve, parse_host_and_port};
use crate::options::{LogFormat, LogLevel, Options};
use crate::pool::parse_pool;
use crate::transfer::{Transfer, parse_transfer};

/// Most intercepts; as many as tcpcopy 1.3 took.
pub const MOST_INTERCEPTS: usize = 32;
/// How much longer an idle session lives than one that waits for an answer, unless `-k` is given.
const IDLE_BEYOND_SESSION_TIMEOUT_S: u32 = 120;
/// Time between two per cent of `-g`.
const GRADUAL_STEP: Duration = Duration::from_secs(1);
/// Where a daemon logs, unless told otherwise.
const DAEMON_LOG_FILE: &str = "/var/log/tcpcopy.log";

/// All that the program needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The engine's part; memory and ownership still for all shards together.
    pub engine: EngineConfig,
    /// What is captured.
    pub capture: Capture,
    /// Where the tunnels lead.
    pub intercepts: Vec<Intercept>,
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
    /// Where the process id goes.
    pub pid_file: Option<PathBuf>,
    /// Whether to run in the background.
    pub daemon: bool,
    /// Whom to become; `None` is nobody for root, no change for others.
    pub user: Option<String>,
}

/// What is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Device names; empty for all.
    pub devices: Vec<String>,
    /// The user's own filter, in pcap-filter syntax.
    pub filter: Option<String>,
    /// Ring of each shard, in bytes.
    pub ring_bytes: usize,
    /// Bytes captured of each packet.
    pub snaplen: u32,
    /// Whether frames for others are taken.
    pub promiscuous: bool,
}

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// As the user named it, with the port.
    pub name: String,
    /// Its addresses, tried in turn.
    pub addresses: Vec<SocketAddr>,
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
        let engine = engine_config(&options, host.resolve)?;
        checks::check(&engine, host.local_addresses)?;
        let intercepts = intercepts(&options, &engine.mappings, host.resolve)?;
        if options.key_file.is_none() && !options.insecure {
            let open = intercepts.iter().flat_map(|intercept| &intercept.addresses);
            if let Some(address) = open.copied().find(|address| !address.ip().is_loopback()) {
                return Err(StartError::NoKey(address));
            }
        }
        let devices = devices(options.device, host.devices)?;
        if options.promiscuous && devices.is_empty() {
            return Err(StartError::PromiscuousOnAny);
        }
        let daemon_log = || options.daemon.then(|| PathBuf::from(DAEMON_LOG_FILE));
        let log_file = options.log_file.clone().or_else(daemon_log);
        Ok(Self {
            capture: Capture {
                devices,
                filter: options.filter,
                ring_bytes: options.ring_mb as usize * 1024 * 1024,
                snaplen: options.snaplen,
                promiscuous: options.promiscuous,
            },
            engine,
            intercepts,
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
            pid_file: options.pid_file.map(absolute).transpose()?,
            daemon: options.daemon,
            user: options.user,
        })
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

fn engine_config(options: &Options, resolve: Resolve<'_>) -> Result<EngineConfig, StartError> {
    let client_pool = parse_pool(&options.client_pool)?;
    let pool_is_ipv4 = client_pool.first().map(IpAddr::is_ipv4);
    let mut mappings = Vec::new();
    for item in &options.transfer {
        let transfer = parse_transfer(item)?;
        add_mappings(&mut mappings, item, &transfer, pool_is_ipv4, resolve)?;
    }
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
        mappings,
        copies: options.copies,
        port_shift: options.port_shift,
        selection: selection(options)?,
        client_pool,
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

fn selection(options: &Options) -> Result<Selection, StartError> {
    match options.percent {
        Some(percent) if !(percent > 0.0 && percent <= 100.0) => Err(StartError::Percent(percent)),
        _ if options.gradual => Ok(Selection::Ramp { step: GRADUAL_STEP }),
        Some(percent) if percent < 100.0 => Ok(Selection::Percent(percent)),
        _ => Ok(Selection::All),
    }
}

/// Adds one mapping for each pair of an origin address and the target's first address of the
/// family that will be used: the pool's, else the origin's.
fn add_mappings(
    mappings: &mut Vec<Mapping>,
    item: &str,
    transfer: &Transfer,
    pool_is_ipv4: Option<bool>,
    resolve: Resolve<'_>,
) -> Result<(), StartError> {
    let origins: Vec<Option<IpAddr>> = match &transfer.origin {
        None => vec![None],
        Some(host) => resolved("-x", host, resolve)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let targets = resolved("-x", &transfer.target, resolve)?;
    let mut any_match = false;
    for origin_address in origins {
        for wants_ipv4 in [true, false] {
            let family = pool_is_ipv4.or(origin_address.map(|address| address.is_ipv4()));
            if family.is_some_and(|is_ipv4| is_ipv4 != wants_ipv4) {
                continue;
            }
            let Some(address) = targets.iter().find(|target| target.is_ipv4() == wants_ipv4) else {
                continue;
            };
            let target = Endpoint::new(*address, transfer.target_port);
            let mapping = Mapping {
                origin_address,
                origin_port: transfer.origin_port,
                target,
            };
            add_mapping(mappings, mapping)?;
            any_match = true;
        }
    }
    if any_match {
        return Ok(());
    }
    let family = |is_ipv4| if is_ipv4 { "IPv4" } else { "IPv6" };
    let reason = match pool_is_ipv4 {
        Some(is_ipv4) => {
            format!(
                "the target has no {0} address, and the pool of -c is {0}",
                family(is_ipv4)
            )
        }
        None => format!(
            "the target has {} addresses only, the origin none",
            family(targets.iter().any(IpAddr::is_ipv4))
        ),
    };
    Err(StartError::NoCommonFamily {
        item: item.to_owned(),
        reason,
    })
}

fn add_mapping(mappings: &mut Vec<Mapping>, new: Mapping) -> Result<(), StartError> {
    let same_origin = |mapping: &&Mapping| {
        mapping.origin_address == new.origin_address
            && mapping.origin_port == new.origin_port
            && mapping.target.address.is_ipv4() == new.target.address.is_ipv4()
    };
    match mappings.iter().find(same_origin) {
        None => mappings.push(new),
        Some(first) if first.target == new.target => {}
        Some(first) => {
            let address = new
                .origin_address
                .map_or("*".to_owned(), |address| address.to_string());
            return Err(StartError::TwoTargets {
                origin: format!("{address}:{}", new.origin_port),
                first: first.target,
                second: new.target,
            });
        }
    }
    Ok(())
}

fn resolved(
    option: &'static str,
    host: &Host,
    resolve: Resolve<'_>,
) -> Result<Vec<IpAddr>, StartError> {
    host.resolve(resolve).map_err(|source| StartError::Resolve {
        option,
        host: host.to_string(),
        source,
    })
}

/// The intercepts of `-s`; without it, one at each target's address.
fn intercepts(
    options: &Options,
    mappings: &[Mapping],
    resolve: Resolve<'_>,
) -> Result<Vec<Intercept>, StartError> {
    let mut found: Vec<Intercept> = Vec::new();
    if options.intercept.is_empty() {
        for mapping in mappings {
            let address = SocketAddr::new(mapping.target.address, options.intercept_port);
            found.push(Intercept {
                name: address.to_string(),
                addresses: vec![address],
            });
        }
    }
    for item in &options.intercept {
        let wrong = |source| StartError::Intercept {
            item: item.clone(),
            source,
        };
        let (host, port) = parse_host_and_port(item).map_err(wrong)?;
        let port = port.unwrap_or(options.intercept_port);
        let addresses = resolved("-s", &host, resolve)?;
        found.push(Intercept {
            name: format!("{host}:{port}"),
            addresses: addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, port))
                .collect(),
        });
    }
    let mut distinct: Vec<Intercept> = Vec::new();
    for intercept in found {
        if !distinct
            .iter()
            .any(|known| known.addresses == intercept.addresses)
        {
            distinct.push(intercept);
        }
    }
    if distinct.len() > MOST_INTERCEPTS {
        return Err(StartError::TooManyIntercepts(distinct.len()));
    }
    Ok(distinct)
}

/// The devices of `-i`; `any` among them means all.
fn devices(names: Vec<String>, present: &[String]) -> Result<Vec<String>, StartError> {
    if names.iter().any(|name| name == "any") {
        return Ok(Vec::new());
    }
    let mut devices: Vec<String> = Vec::new();
    for name in names {
        if !present.contains(&name) {
            return Err(no_device(name, present));
        }
        if !devices.contains(&name) {
            devices.push(name);
        }
    }
    Ok(devices)
}

fn no_device(name: String, present: &[String]) -> StartError {
    match std::fs::metadata(&name) {
        Ok(metadata) if metadata.is_file() => StartError::CaptureFile(name),
        _ => StartError::NoDevice {
            name,
            present: present.join(", "),
        },
    }
}

#[cfg(test)]
mod tests;
