//! Everything opened in the right order: what may be refused first, what captures last, and the
//! privileges dropped before the first thread runs.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use intercept_lib::tunnel::Security;
use tcpcopy_engine::{Engine, EngineConfig, Mapping, Ownership};
use tcpcopy_net::NetError;
use tcpcopy_net::filter::{CaptureFilter, Directions, FilterError, OriginFilter};
use tcpcopy_net::interfaces::{interfaces, local_addresses, route_mtu};
use tcpcopy_net::raw::{RawConfig, RawSender};
use tcpcopy_net::ring::{CaptureRing, RingConfig};
use tcpcopy_net::shard::{ShardMap, shard_of};

use crate::config::{Config, Lane, Surroundings};
use crate::control::ControlSocket;
use crate::daemon::{self, PidFile};
use crate::error::StartError;
use crate::host::system_resolver;
use crate::key_file;
use crate::logging::LogSink;
use crate::options::Options;
use crate::privileges::{self, Privileges};
use crate::report::ReportFile;
use crate::shard::{Command, LaneParts, Parts, Shard, UpstreamParts};
use crate::signals::Signals;
use crate::supervise::{Event, Events, News};
use crate::tunnel::{Identity, Tunnel};
use crate::wake::{self, Waker};

/// How long to wait for every intercept at the start, without `-L`: enough for one that is started
/// at the same moment.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// The running program, as the main thread sees it.
#[derive(Debug)]
pub struct Running {
    /// What it was told.
    pub config: Config,
    /// The shards, by number.
    pub shards: Vec<ShardHandle>,
    /// What the shards tell.
    pub events: Events,
    /// The signals.
    pub signals: Signals,
    /// The log.
    pub log: LogSink,
    /// Where the final balance goes as JSON.
    pub report: Option<ReportFile>,
    /// Where `tcpcopy ctl` asks.
    pub control: Option<ControlSocket>,
    /// Removed at the end.
    pub pid_file: Option<PidFile>,
    /// When it began.
    pub started: Instant,
}

/// A shard's thread.
#[derive(Debug)]
pub struct ShardHandle {
    commands: Sender<Command>,
    waker: Waker,
    /// The thread, to be joined at the end.
    pub thread: JoinHandle<()>,
}

impl ShardHandle {
    /// Gives the shard a command; one that has ended does not hear it.
    pub fn command(&self, command: Command) {
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

/// Checks, opens and starts everything.
///
/// # Errors
/// [`StartError`] for the first thing that is wrong; nothing runs then.
pub fn start(options: Options) -> Result<Running, StartError> {
    let config = configure(options)?;
    privileges::check_capabilities()?;
    let privileges = Privileges::choose(config.user.as_deref())?;
    let security = security(config.key_file.as_deref())?;
    let filter = filter(&config)?;
    let mut pid_file = config.pid_file.as_deref().map(PidFile::lock).transpose()?;
    let report = config.report.as_deref().map(ReportFile::open).transpose()?;
    let control = config
        .control
        .as_deref()
        .map(ControlSocket::open)
        .transpose()?;
    let log = LogSink::install(&config.log)?;
    let signals = Signals::block().map_err(|source| StartError::System {
        action: "block signals",
        source,
    })?;
    let seed = config
        .seed
        .unwrap_or_else(|| RandomState::new().hash_one(0));
    let upstreams = upstreams(&config, &security)?;
    let rings = rings(&config, &filter)?;
    if config.daemon {
        daemon::detach()?;
    }
    if let Some(pid_file) = &mut pid_file {
        pid_file.write()?;
    }
    privileges.apply()?;
    log_start(&config, &filter, seed);
    let started = Instant::now();
    let (events, news) = Events::new()?;
    let mut shards = Vec::new();
    for (number, (rings, upstreams)) in rings.into_iter().zip(upstreams).enumerate() {
        let number = u16::try_from(number).expect("at most 64 shards");
        let lanes = config.lanes.iter().zip(upstreams);
        let lanes = lanes.map(|(lane, upstream)| LaneParts {
            // All lanes make the same choices, so that their targets get the same traffic.
            engine: Engine::new(
                engine_config(&config, lane, number),
                seed ^ u64::from(number),
            ),
            upstream,
        });
        let (commands, receiver) = mpsc::channel();
        let (waker, wake) = wake::pair()?;
        let shard = Shard::new(Parts {
            rings,
            lanes: lanes.collect(),
            commands: receiver,
            wake,
        });
        let thread = spawn(number, shard, news.clone())?;
        shards.push(ShardHandle {
            commands,
            waker,
            thread,
        });
    }
    Ok(Running {
        config,
        shards,
        events,
        signals,
        log,
        report,
        control,
        pid_file,
        started,
    })
}

fn log_start(config: &Config, filter: &CaptureFilter, seed: u64) {
    let targets: Vec<String> = config.lanes.iter().map(Lane::name).collect();
    let intercepts = config.lanes.iter().flat_map(|lane| &lane.intercepts);
    let intercepts: Vec<&str> = intercepts.map(|i| i.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        filter = filter.expression(),
        devices = ?config.capture.devices,
        ?targets,
        ?intercepts,
        shards = config.shards,
        seed,
        "started"
    );
}

fn configure(options: Options) -> Result<Config, StartError> {
    let failed = |error: NetError| StartError::System {
        action: "look at this host's devices",
        source: std::io::Error::other(error),
    };
    let addresses: Vec<_> = local_addresses().map_err(failed)?.into_iter().collect();
    let devices: Vec<_> = interfaces()
        .map_err(failed)?
        .into_iter()
        .map(|device| device.name)
        .collect();
    let surroundings = Surroundings {
        resolve: &system_resolver,
        local_addresses: &addresses,
        devices: &devices,
    };
    Config::from_options(options, surroundings)
}

/// The key, or that there is none: whether one is needed has been checked.
fn security(key_file: Option<&Path>) -> Result<Security, StartError> {
    let Some(path) = key_file else {
        return Ok(Security::Insecure);
    };
    key_file::read(path).map(Security::Key)
}

fn filter(config: &Config) -> Result<CaptureFilter, StartError> {
    let wrong = |error: FilterError| StartError::Filter(error.to_string());
    let user_filter = config.capture.filter.as_deref();
    // Alone first, so that stray brackets in it can't reach what is joined to it.
    user_filter
        .map(CaptureFilter::compile)
        .transpose()
        .map_err(wrong)?;
    let conditions: Vec<String> = user_filter
        .map(|text| format!("({text})"))
        .into_iter()
        .chain(not_our_own(config.mappings()))
        .collect();
    let conditions = conditions.join(" and ");
    CaptureFilter::for_origins(&origins(config), Directions::ToOrigin, Some(&conditions))
        .map_err(wrong)
}

/// Keeps replayed packets from being captured and replayed in turn, where they pass the capturing
/// device, as on a mirror port, and any address that receives on the target's port is an origin.
fn not_our_own<'a>(mappings: impl Iterator<Item = &'a Mapping> + Clone) -> Vec<String> {
    let any_address_on = |port| {
        mappings
            .clone()
            .any(|origin| origin.origin_address.is_none() && origin.origin_port == port)
    };
    let mut conditions: Vec<String> = mappings
        .clone()
        .map(|mapping| mapping.target)
        .filter(|target| any_address_on(target.port))
        .map(|target| {
            format!(
                "not (dst host {} and dst port {})",
                target.address, target.port
            )
        })
        .collect();
    conditions.sort();
    conditions.dedup();
    conditions
}

/// The largest packet that `-M` and every route to a target of the lane allow, in bytes.
fn mtu(config: &Config, lane: &Lane) -> u16 {
    let targets = lane.mappings.iter().map(|mapping| mapping.target.address);
    let routes = targets.filter_map(|target| route_mtu(target).ok());
    let routes = routes.filter_map(|mtu| u16::try_from(mtu).ok());
    routes.fold(config.engine.mtu, u16::min)
}

fn origins(config: &Config) -> Vec<OriginFilter> {
    let mut origins: Vec<OriginFilter> = Vec::new();
    for mapping in config.mappings() {
        let origin = OriginFilter {
            address: mapping.origin_address,
            port: mapping.origin_port,
        };
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    origins
}

fn engine_config(config: &Config, lane: &Lane, shard: u16) -> EngineConfig {
    let engines = u64::from(config.shards) * config.lanes.len() as u64;
    EngineConfig {
        mappings: lane.mappings.clone(),
        mtu: mtu(config, lane),
        memory_budget_bytes: config.engine.memory_budget_bytes / engines,
        rate: (config.engine.rate).map(|rate| rate.divided(config.shards)),
        ownership: Ownership {
            shard,
            shard_count: config.shards,
            shard_of,
        },
        ..config.engine.clone()
    }
}

/// The way out of every lane of every shard.
fn upstreams(config: &Config, security: &Security) -> Result<Vec<Vec<UpstreamParts>>, StartError> {
    let instance = RandomState::new().hash_one(std::process::id());
    let mut of_shards = Vec::new();
    for shard in 0..config.shards {
        let mut of_lanes = Vec::new();
        for (index, lane) in config.lanes.iter().enumerate() {
            // To intercept, each lane is a shard of its own: their sessions have nothing in common.
            let number = usize::from(config.shards) * index + usize::from(shard);
            let identity = Identity {
                instance,
                shard: u16::try_from(number).expect("at most 64 shards and 8 lanes"),
                security: security.clone(),
            };
            of_lanes.push(UpstreamParts::Raw {
                tunnel: tunnel(config, lane, &identity)?,
                sender: sender(lane)?,
                survive_loss: config.survive_loss,
            });
        }
        of_shards.push(of_lanes);
    }
    Ok(of_shards)
}

/// The tunnels of a lane; without `-L` all of them up.
fn tunnel(config: &Config, lane: &Lane, identity: &Identity) -> Result<Tunnel, StartError> {
    let mut tunnel = Tunnel::new(&lane.intercepts, config.tunnels, identity, Instant::now());
    if !config.survive_loss {
        tunnel.connect(CONNECT_PATIENCE)?;
    }
    Ok(tunnel)
}

fn sender(lane: &Lane) -> Result<RawSender, StartError> {
    let targets = || lane.mappings.iter().map(|mapping| mapping.target.address);
    let raw = RawConfig {
        ipv4: targets().any(|address| address.is_ipv4()),
        ipv6: targets().any(|address| address.is_ipv6()),
        ..RawConfig::default()
    };
    RawSender::open(&raw).map_err(|error| StartError::Sender(reason(&error)))
}

/// The rings of every shard, one for each device.
fn rings(config: &Config, filter: &CaptureFilter) -> Result<Vec<Vec<CaptureRing>>, StartError> {
    let map = ShardMap::new(config.shards, &origins(config), Directions::ToOrigin);
    let mut of_shards: Vec<Vec<CaptureRing>> = (0..config.shards).map(|_| Vec::new()).collect();
    let devices: Vec<Option<String>> = match config.capture.devices.as_slice() {
        [] => vec![None],
        named => named.iter().cloned().map(Some).collect(),
    };
    for device in devices {
        let name = device.clone().unwrap_or_else(|| "any device".to_owned());
        let ring_config = RingConfig {
            device,
            ring_bytes: config.capture.ring_bytes,
            snaplen: config.capture.snaplen,
            promiscuous: config.capture.promiscuous,
            ..RingConfig::new(filter.clone())
        };
        let rings =
            CaptureRing::open_sharded(&ring_config, &map).map_err(|error| StartError::Capture {
                device: name,
                reason: reason(&error),
            })?;
        for (of_shard, ring) in of_shards.iter_mut().zip(rings) {
            of_shard.push(ring);
        }
    }
    Ok(of_shards)
}

/// An error with its cause, on one line.
fn reason(error: &NetError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn spawn(number: u16, mut shard: Shard, news: News) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new()
        .name(format!("shard {number}"))
        .spawn(move || {
            let guard = news.guard(number);
            let end = shard.run(|snapshot| news.send(Event::Figures(number, Box::new(snapshot))));
            guard.ended(end, shard.snapshot());
        })
        .map_err(|source| StartError::System {
            action: "start a thread",
            source,
        })
}

#[cfg(test)]
mod tests {
    use tcpcopy_packet::Endpoint;

    use super::*;

    fn mapping(origin: Option<&str>, origin_port: u16, target: &str, port: u16) -> Mapping {
        let address = |text: &str| text.parse().expect("an address");
        let target = Endpoint::new(address(target), port);
        Mapping {
            origin_address: origin.map(address),
            origin_port,
            target,
        }
    }

    #[test]
    fn replayed_packets_are_not_captured_again() {
        assert_eq!(
            not_our_own(
                [
                    mapping(None, 80, "10.0.0.9", 80),
                    mapping(None, 80, "fd00::9", 80),
                    mapping(None, 81, "10.0.0.9", 8081),
                    mapping(Some("10.0.0.1"), 82, "10.0.0.9", 82),
                ]
                .iter()
            ),
            [
                "not (dst host 10.0.0.9 and dst port 80)",
                "not (dst host fd00::9 and dst port 80)",
            ]
        );
    }
}
