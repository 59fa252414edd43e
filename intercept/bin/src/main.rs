//! intercept: catches what the target answers to replayed sessions and reports it to tcpcopy.
//!
//! - [`options`]: the command line
//! - [`queue`]: packets of the target through NFQUEUE; `packets` has the threads that serve them
//! - [`dispatcher`]: from packets to verdicts and reply records
//! - [`server`]: the tunnel server and all housekeeping
//! - [`diagnosis`]: what this host sees of a probe, for whoever asks over the tunnel
//! - [`doctor`]: whether answers come to the intercept that runs here (`intercept doctor`)
//! - [`shared`]: what the threads share
//! - [`rules`], [`journal_file`], [`resetter`], [`listen`], [`privileges`], [`key_file`],
//!   [`pid_file`], [`statistics`]: one thing each
//!
//! Everything that can fail is opened before the rules are, so that a start that fails leaves the
//! target as it was; and the rules are the last to go, so that nothing leaks at the end.

mod diagnosis;
mod dispatcher;
mod doctor;
mod error;
mod journal_file;
mod key_file;
mod listen;
mod options;
mod packets;
mod pid_file;
mod privileges;
mod queue;
mod resetter;
mod rules;
mod server;
mod shared;
mod statistics;

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use intercept_lib::table::{SessionTable, TableConfig};
use intercept_lib::tunnel::Security;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tcpcopy_net::filter::CaptureFilter;
use tcpcopy_net::ring::{CaptureRing, RingConfig};
use tracing_subscriber::EnvFilter;

use error::Error;
use journal_file::JournalFile;
use options::{Command, Options};
use queue::{Queue, QueueOptions};
use resetter::Resetter;
use rules::{InstalledRules, RuleSet};
use server::Server;
use shared::Shared;
use statistics::Statistics;

/// Exit status when intercept could not run.
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let mut options = Options::parse();
    let outcome = match &options.command {
        Some(Command::Doctor(options)) => doctor::run(options),
        None => (options.prepare())
            .and_then(|()| run(&options))
            .map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            if options.log_file.is_some() {
                tracing::error!("{error}");
            }
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "intercept: {error}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn run(options: &Options) -> Result<(), Error> {
    options.check()?;
    if options.generate_key {
        return print(&key_file::generate()?.to_hex());
    }
    if options.cleanup {
        return print(&format!("{} rules removed", rules::cleanup()?));
    }
    start_log(options)?;
    let security = security(options)?;
    privileges::check()?;
    let signals = block_signals()?;
    let mut pid_file = options
        .pid_file
        .as_deref()
        .map(pid_file::PidFile::lock)
        .transpose()?;
    let bound = listen::Bound::take(
        &options.bind_addresses(),
        options.listen_port,
        options.bind.is_empty(),
    )?;

    let (mut source, shared, journal) = open_source(options)?;
    let mut rules = source.install_rules(options)?;
    let mut ready = false;
    let outcome = (|| {
        let listeners = bound.listen()?;
        if options.daemon {
            nix::unistd::daemon(false, false)
                .map_err(|errno| Error::io("go into the background", errno))?;
        }
        pid_file.as_mut().map_or(Ok(()), pid_file::PidFile::write)?;
        privileges::drop_others()?;
        let statistics = Statistics::new(Duration::from_secs(options.interval), source.queues());
        let shared = Arc::new(shared);
        let mut server = Server::new(
            Arc::clone(&shared),
            security,
            listeners,
            signals,
            journal,
            statistics,
        )?;
        let mut threads = source.start(&shared)?;
        rules.as_mut().map_or(Ok(()), InstalledRules::settle)?;
        ready = true;
        tracing::info!(port = options.listen_port, "ready");
        server.run(&mut threads)?;
        server.shut_down();
        Ok(())
    })();
    if let Some(pid_file) = pid_file {
        pid_file.remove();
    }
    match (outcome, rules) {
        (Ok(()), Some(rules)) => rules.remove().map(drop),
        (Err(error), Some(_)) if ready => {
            // Sessions may be alive at the target: the rules stay and keep their packets in.
            tracing::warn!("the rules stay; `intercept --cleanup` removes them");
            Err(error)
        }
        (Err(error), Some(rules)) => {
            rules.undo();
            Err(error)
        }
        (outcome, None) => outcome,
    }
}

fn security(options: &Options) -> Result<Security, Error> {
    Ok(match &options.key_file {
        Some(path) => Security::Key(key_file::read(path)?),
        None if options.insecure => Security::Insecure,
        None => Security::LoopbackOnly,
    })
}

/// Where packets come from.
enum Source {
    Queues(Vec<Queue>),
    Ring(Box<(CaptureRing, RingConfig)>),
}

/// Opens what packets come from, with the table and the journal that belong to it.
fn open_source(options: &Options) -> Result<(Source, Shared, Option<JournalFile>), Error> {
    let config = TableConfig {
        tombstone: Duration::from_secs(options.tombstone_s),
        // An assistant forwards nothing, so after a crash nothing can leak.
        journal: options.interface.is_none(),
        ..TableConfig::default()
    };
    let mut table = SessionTable::new(config, Instant::now());
    let (source, journal) = match &options.interface {
        Some(device) => (open_assistant(options, device)?, None),
        None => {
            // Before the queues: no packet may be judged without what the journal says.
            let journal = JournalFile::open(&options.state_dir, options.queue, &mut table)?;
            let queue_options = QueueOptions {
                max_length: options.queue_length,
                fail_open: options.fail_open,
            };
            let queues: Result<_, Error> = (0..options.queues)
                .map(|index| Queue::open(options.queue + index, queue_options))
                .collect();
            (Source::Queues(queues?), Some(journal))
        }
    };
    let (passlist, device) = (options.passlist.clone(), options.interface.clone());
    let shared = Shared::new(table, Resetter::open()?, passlist, device);
    Ok((source, shared, journal))
}

fn open_assistant(options: &Options, device: &str) -> Result<Source, Error> {
    let filter =
        CaptureFilter::compile(&options.capture_filter()).map_err(tcpcopy_net::NetError::from)?;
    let config = RingConfig {
        device: Some(device.to_owned()),
        ..RingConfig::new(filter)
    };
    let ring = packets::open_ring(&config, false)?;
    for (family, path) in [
        ("IPv4", "/proc/sys/net/ipv4/ip_forward"),
        ("IPv6", "/proc/sys/net/ipv6/conf/all/forwarding"),
    ] {
        if std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0") {
            tracing::warn!(
                "this host forwards {family}: the target's replies will reach real clients; \
                 write 0 to {path}"
            );
        }
    }
    Ok(Source::Ring(Box::new((ring, config))))
}

impl Source {
    fn install_rules(&mut self, options: &Options) -> Result<Option<InstalledRules>, Error> {
        if options.port.is_empty() || matches!(self, Self::Ring(_)) {
            return Ok(None);
        }
        let rules = RuleSet {
            ports: options.port.clone(),
            addresses: options.address.clone(),
            queue: options.queue,
            queues: options.queues,
            bypass: options.fail_open,
        };
        rules.install().map(Some)
    }

    fn queues(&self) -> std::ops::Range<u32> {
        match self {
            Self::Queues(queues) => {
                let first = queues.first().map_or(0, |queue| u32::from(queue.number()));
                first..first + queues.len() as u32
            }
            Self::Ring(_) => 0..0,
        }
    }

    fn start(self, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<Error>>, Error> {
        let spawn = |name: String, serve: Box<dyn FnOnce() -> Error + Send>| {
            std::thread::Builder::new()
                .name(name)
                .spawn(serve)
                .map_err(|source| Error::io("start a thread", source))
        };
        match self {
            Self::Queues(queues) => queues
                .into_iter()
                .map(|queue| {
                    let shared = Arc::clone(shared);
                    let name = format!("queue-{}", queue.number());
                    spawn(name, Box::new(move || packets::serve_queue(queue, &shared)))
                })
                .collect(),
            Self::Ring(opened) => {
                let shared = Arc::clone(shared);
                let serve = move || packets::serve_ring(opened.0, &opened.1, &shared);
                Ok(vec![spawn("ring".to_owned(), Box::new(serve))?])
            }
        }
    }
}

/// Blocks the signals that end the program, in all threads to come, and makes them readable.
fn block_signals() -> Result<SignalFd, Error> {
    let failed = |errno: nix::errno::Errno| Error::io("set up signals", errno);
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(failed)?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

fn start_log(options: &Options) -> Result<(), Error> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A log that can't be written, as on a full disk, must end nobody.
        .log_internal_errors(false)
        .with_target(false);
    match &options.log_file {
        None => {
            let ansi = std::io::stderr().is_terminal();
            builder.with_ansi(ansi).with_writer(std::io::stderr).init();
        }
        Some(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|source| Error::io(format!("open the log {}", path.display()), source))?;
            builder.with_ansi(false).with_writer(file).init();
        }
    }
    Ok(())
}

fn print(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{text}") {
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|source| Error::io("write to standard output", source)),
    }
}
