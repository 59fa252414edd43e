//! Everything opened in the right order: what may be refused first, what captures last, and the
//! privileges dropped before the first thread runs.

mod source;
mod upstream;

use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tcpcopy_engine::{Engine, EngineConfig, Ownership, Upstream};
use tcpcopy_net::NetError;
use tcpcopy_net::filter::CaptureFilter;
use tcpcopy_net::interfaces::{interfaces, local_addresses, route_mtu};
use tcpcopy_net::shard::shard_of;

use crate::config::{Config, Lane, Surroundings};
use crate::control::ControlSocket;
use crate::daemon::{self, PidFile};
use crate::error::StartError;
use crate::host::system_resolver;
use crate::logging::LogSink;
use crate::options::Options;
use crate::player::Speed;
use crate::plugin::Plugins;
use crate::privileges::{self, Privileges};
use crate::report::ReportFile;
use crate::shard::{Command, LaneParts, Parts, Shard, SourceParts};
use crate::signals::Signals;
use crate::sources::Sources;
use crate::supervise::{Event, Events, News};
use crate::wake::{self, Waker};

pub(crate) use source::{origins, wanted};
pub(crate) use upstream::security;

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The running program, as the main thread sees it.
#[derive(Debug)]
pub struct Running {
    /// What it was told.
    pub config: Config,
    /// The shards, by number.
    pub shards: Vec<ShardHandle>,
    /// The plugins of every lane.
    pub plugins: Plugins,
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
    if needs_packets(&config) {
        privileges::check_capabilities()?;
    }
    let privileges = Privileges::choose(config.user.as_deref())?;
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
    let plugins = Plugins::load(&config)?;
    let wanted = source::wanted(&config, |port| plugins.want_origin(port))?;
    let mut upstreams = upstream::open(&config, &plugins)?;
    let sources = source::open(&config, &wanted)?;
    if config.daemon {
        daemon::detach()?;
    }
    if let Some(pid_file) = &mut pid_file {
        pid_file.write()?;
    }
    privileges.apply()?;
    // Threads from here on.
    upstream::follow_names(&config, &mut upstreams)?;
    log_start(&config, &wanted.filter, seed);
    warn_of_unused(&config);
    let started = Instant::now();
    let (events, news) = Events::new()?;
    let mut shards = Vec::new();
    for (number, (source, upstreams)) in sources.into_iter().zip(upstreams).enumerate() {
        let number = u16::try_from(number).expect("at most 64 shards");
        let source = source.play(lane_budget_bytes(&config))?;
        let (waker, wake) = wake::pair()?;
        let lanes = config.lanes.iter().zip(upstreams).enumerate();
        let lanes = lanes.map(|(index, (lane, upstream))| LaneParts {
            engine: engine(&config, lane, number, seed, plugins.of_lane(index, &waker)),
            upstream,
        });
        let lanes = lanes.collect();
        let end = (waker, wake);
        let shard = start_shard(&config, number, started, source, lanes, end, &news)?;
        shards.push(shard);
    }
    Ok(Running {
        config,
        shards,
        plugins,
        events,
        signals,
        log,
        report,
        control,
        pid_file,
        started,
    })
}

/// Whether packets are captured or sent, which takes a privilege.
pub(crate) fn needs_packets(config: &Config) -> bool {
    config.engine.upstream == Upstream::Raw || matches!(config.sources, Sources::Devices(_))
}

/// The engine of a lane. Those of all lanes make the same choices, so that their targets get the same
/// traffic.
fn engine(
    config: &Config,
    lane: &Lane,
    shard: u16,
    seed: u64,
    plugins: Option<Box<dyn tcpcopy_engine::plugin::Plugins>>,
) -> Engine {
    let engine = engine_config(config, lane, shard);
    let seed = seed ^ u64::from(shard);
    match plugins {
        None => Engine::new(engine, seed),
        Some(plugins) => Engine::with_plugins(engine, seed, plugins),
    }
}

fn start_shard(
    config: &Config,
    number: u16,
    epoch: Instant,
    source: SourceParts,
    lanes: Vec<LaneParts>,
    (waker, wake): (Waker, OwnedFd),
    news: &News,
) -> Result<ShardHandle, StartError> {
    let (commands, receiver) = mpsc::channel();
    let shard = Shard::new(Parts {
        source,
        lanes,
        cpu_share: config
            .cpu_percent
            .map(|percent| f64::from(percent) / 100.0 / f64::from(config.shards)),
        commands: receiver,
        wake,
        epoch,
    });
    let thread = spawn(number, shard, news.clone())?;
    Ok(ShardHandle {
        commands,
        waker,
        thread,
    })
}

fn log_start(config: &Config, filter: &CaptureFilter, seed: u64) {
    let targets: Vec<String> = config.lanes.iter().map(Lane::name).collect();
    let intercepts = config.lanes.iter().flat_map(|lane| &lane.intercepts);
    let intercepts: Vec<&str> = intercepts.map(|i| i.name.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        filter = filter.expression(),
        sources = ?config.sources,
        upstream = ?config.engine.upstream,
        ?targets,
        ?intercepts,
        shards = config.shards,
        seed,
        "started"
    );
}

fn warn_of_unused(config: &Config) {
    if !config.unused.is_empty() {
        let upstream = match config.engine.upstream {
            Upstream::Raw => "--upstream raw",
            Upstream::Socket => "--upstream socket (-s or --upstream raw would use packets)",
        };
        tracing::warn!(
            options = config.unused.join(", "),
            "options without effect with {upstream} and this -i"
        );
    }
}

/// What the options mean on this host.
///
/// # Errors
/// [`StartError`] for the first thing that is wrong.
pub(crate) fn configure(options: Options) -> Result<Config, StartError> {
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

/// The largest packet that `-M` and every route to a target of the lane allow, in bytes.
fn mtu(config: &Config, lane: &Lane) -> u16 {
    let targets = lane.mappings.iter().map(|mapping| mapping.target.address);
    let routes = targets.filter_map(|target| route_mtu(target).ok());
    let routes = routes.filter_map(|mtu| u16::try_from(mtu).ok());
    routes.fold(config.engine.mtu, u16::min)
}

/// How old a hole in a captured stream becomes, in the time that the packets are played in.
fn gap_timeout(config: &Config) -> Duration {
    let captured = config.engine.gap_timeout;
    match (&config.sources, config.schedule.speed) {
        (Sources::Devices(_), _) => captured,
        (Sources::Files(_), Speed::Times(times)) => captured.div_f64(times),
        // There the time says nothing; a hole that stays is given up at the end of the files.
        (Sources::Files(_), Speed::Max) => NEVER,
    }
}

/// Each engine's part of the memory budget.
fn lane_budget_bytes(config: &Config) -> u64 {
    let engines = u64::from(config.shards) * config.lanes.len() as u64;
    config.engine.memory_budget_bytes / engines
}

fn engine_config(config: &Config, lane: &Lane, shard: u16) -> EngineConfig {
    EngineConfig {
        mappings: lane.mappings.clone(),
        mtu: mtu(config, lane),
        memory_budget_bytes: lane_budget_bytes(config),
        gap_timeout: gap_timeout(config),
        rate: (config.engine.rate).map(|rate| rate.divided(config.shards)),
        ownership: Ownership {
            shard,
            shard_count: config.shards,
            shard_of,
        },
        ..config.engine.clone()
    }
}

/// An error with its cause, on one line.
pub(crate) fn reason(error: &NetError) -> String {
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
