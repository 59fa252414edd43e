//! `tcpcopy capture`: records what a replay would capture, as pcapng files.
//!
//! ```text
//! rings ─▶ main thread: blocks of packets ─▶ queue, bounded ─▶ writer's thread ─▶ files
//! ```
//! The main thread never waits for a disk: what the queue has no room for is dropped and counted.
//! Privileges are dropped before the first packet is read.

mod options;
mod plan;
mod recorder;
mod summary;
mod writer;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use nix::unistd::User;
use tcpcopy_net::file::{Recording, RecordingError};

use crate::config::Log;
use crate::error::StartError;
use crate::logging::LogSink;
use crate::options::{LogFormat, LogLevel};
use crate::privileges::{self, Privileges};
use crate::signals::Signals;
use crate::sources::SourcesError;

pub use options::CaptureOptions;

use plan::{Plan, Record};
use recorder::{End, Recorder};

/// Why nothing can be recorded, or not further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// What a replay would say as well.
    #[error(transparent)]
    Start(#[from] StartError),
    /// `-i` makes no sense.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// `-i` names files.
    #[error("-i names capture files; there is nothing to record of them")]
    Files,
    /// A row of files on standard output.
    #[error("standard output is one stream, and --rotate-mb and the like ask for several files")]
    RowOnStandardOutput,
    /// A bound that not even one file keeps.
    #[error("--keep-mb {keep_mb} is less than --rotate-mb {rotate_mb}: not even one file may stay")]
    KeepBelowRotate {
        /// The bound on all files.
        keep_mb: u64,
        /// The bound on one.
        rotate_mb: u64,
    },
    /// The files can't be written.
    #[error("{source}")]
    Recording {
        /// What went wrong.
        #[source]
        source: RecordingError,
        /// Who writes them, if that is not who started the program.
        user: Option<String>,
    },
}

impl CaptureError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Start(error) => return error.hint(),
            Self::Sources(error) => error.hint(),
            Self::Files => "name the devices that the traffic arrives on, or leave -i out",
            Self::RowOnStandardOutput => "name a file with -o, or leave out the rotation",
            Self::KeepBelowRotate { .. } => "let --keep-mb be a multiple of --rotate-mb",
            Self::Recording { source, user } => return Some(recording_hint(source, user.as_ref())),
        };
        Some(hint.to_owned())
    }

    fn user_text(&self) -> String {
        match (self, self.hint()) {
            (Self::Start(error), _) => error.user_text(),
            (_, Some(hint)) => format!("tcpcopy: {self}\n\nhint: {hint}\n"),
            (_, None) => format!("tcpcopy: {self}\n"),
        }
    }
}

fn recording_hint(error: &RecordingError, user: Option<&String>) -> String {
    match (error.source.kind(), user) {
        (io::ErrorKind::PermissionDenied, Some(user)) => format!(
            "the privileges are dropped first, so it is user '{user}' who writes the files: name a \
             directory where that user may, or another user with --user"
        ),
        (io::ErrorKind::StorageFull, _) => {
            "make room, or bound what is kept with --rotate-mb and --keep-mb".to_owned()
        }
        _ => "check the path and the disk".to_owned(),
    }
}

/// Records until SIGINT or SIGTERM: exit status 0 when all that was captured is in the files, 1 when
/// the recording broke off, 2 when it could not begin.
pub fn run(options: CaptureOptions) -> ExitCode {
    /// Broke off.
    const BROKE_OFF: u8 = 1;
    /// Could not begin.
    const COULD_NOT_RUN: u8 = 2;
    let explain = |error: &CaptureError| {
        let _ = io::stderr().write_all(error.user_text().as_bytes());
    };
    let to_standard_output = options.output_is_standard();
    let running = match start(options) {
        Ok(running) => running,
        Err(error) => {
            explain(&error);
            return ExitCode::from(COULD_NOT_RUN);
        }
    };
    let ended = running.recorder.run(&running.signals, &running.log);
    running.log.clear_status();
    let summary = match ended {
        End::Done(summary) => summary,
        End::Failed(source) => {
            let user = running.user;
            explain(&CaptureError::Recording { source, user });
            return ExitCode::from(BROKE_OFF);
        }
        End::Abandoned => {
            tracing::error!("stopped before all that was captured was written");
            return ExitCode::from(BROKE_OFF);
        }
    };
    let text = summary.table(running.started.elapsed());
    // Whoever reads this may be gone; the recording is there.
    let _ = if to_standard_output {
        io::stderr().write_all(text.as_bytes())
    } else {
        io::stdout().write_all(text.as_bytes())
    };
    ExitCode::SUCCESS
}

/// Everything open.
struct Running {
    recorder: Recorder,
    signals: Signals,
    log: LogSink,
    started: Instant,
    /// Who writes the files, if that is not who started the program.
    user: Option<String>,
}

/// Checks and opens everything. A single file is created before the privileges are dropped, unless
/// the user to become was named; the files of a row are all that user's.
fn start(options: CaptureOptions) -> Result<Running, CaptureError> {
    let user_named = options.user.is_some();
    let plan = Plan::new(options)?;
    privileges::check_capabilities()?;
    let privileges = Privileges::choose(plan.user.as_deref())?;
    let log = LogSink::install(&Log {
        file: None,
        format: LogFormat::Text,
        level: LogLevel::Info,
    })?;
    let signals = Signals::block().map_err(|source| StartError::System {
        action: "block signals",
        source,
    })?;
    let rings = plan.rings()?;
    let create_first = !user_named && !plan.is_row();
    let created = create_first.then(|| create(&plan, None)).transpose()?;
    privileges.apply()?;
    let user = writer_name(&privileges);
    let recording = match created {
        Some(recording) => recording,
        None => create(&plan, user.clone())?,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        filter = plan.filter.expression(),
        devices = ?plan.devices,
        file = %recording.path().display(),
        "started capturing"
    );
    Ok(Running {
        recorder: Recorder::new(plan, rings, recording)?,
        signals,
        log,
        started: Instant::now(),
        user,
    })
}

fn create(plan: &Plan, user: Option<String>) -> Result<Recording, CaptureError> {
    let created = match plan.record() {
        Record::StandardOutput(header) => {
            Recording::to_stream("standard output", io::stdout(), header)
        }
        Record::Files(config) => Recording::create(config),
    };
    created.map_err(|source| CaptureError::Recording { source, user })
}

/// Whom the privileges were dropped to.
fn writer_name(privileges: &Privileges) -> Option<String> {
    match privileges {
        Privileges::Drop(Some(User { name, .. })) => Some(name.clone()),
        Privileges::Drop(None) | Privileges::Keep => None,
    }
}
