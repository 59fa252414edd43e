//! `tcpcopy doctor`: tries the path of a replay for real and says which hop fails.
//!
//! - [`options`]: its command line
//! - [`traffic`]: whether clients' packets come by where they are looked for
//! - [`raw`]: the way to the target and back through intercept, with probes
//! - [`socket`]: an ordinary connection to the target

mod options;
mod raw;
mod socket;
mod traffic;

use std::io::{self, Write};
use std::process::ExitCode;

use tcpcopy_doctor::finding::Here;
use tcpcopy_doctor::prober::ProbeError;
use tcpcopy_doctor::report::{Health, Report};
use tcpcopy_engine::Upstream;
use tcpcopy_net::NetError;
use tcpcopy_packet::FourTuple;

use crate::config::Config;
use crate::error::StartError;
use crate::privileges;
use crate::sources::Sources;
use crate::start::{configure, needs_packets};

pub use options::DoctorOptions;

/// Why the examination could not be made.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    /// What would keep a replay from starting, too.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A probe could not be tried.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

impl DoctorError {
    fn user_text(&self) -> String {
        match self {
            Self::Start(error) => error.user_text(),
            Self::Probe(error) => format!("tcpcopy: {error}\n"),
        }
    }
}

/// Examines, prints, and says how it went: exit status 0 without a finding, 1 with one, 2 when the
/// examination could not be made.
pub fn run(options: &DoctorOptions) -> ExitCode {
    /// Could not run.
    const COULD_NOT_RUN: u8 = 2;
    let mut report = Report::new();
    let outcome = examine(options, &mut report);
    // Whoever read the output may be gone.
    let _ = io::stdout().write_all(report.render(options.json).as_bytes());
    match outcome {
        Ok(()) => report.status(),
        Err(error) => {
            let _ = io::stderr().write_all(error.user_text().as_bytes());
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn examine(options: &DoctorOptions, report: &mut Report) -> Result<(), DoctorError> {
    let config = match configure(options.replay()?) {
        Ok(config) => config,
        Err(error @ StartError::Resolve { .. }) => {
            let reason = error.to_string();
            report.hop("names", Health::Bad, reason.as_str());
            report.find(Here::NameUnresolved { reason });
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let has_rights = has_rights(&config, report)?;
    let mut clients = Vec::new();
    if has_rights {
        clients = clients_of(options, &config, report)?;
    }
    match config.engine.upstream {
        Upstream::Socket => socket::examine(&config, report),
        Upstream::Raw if has_rights => raw::examine(options, &config, &clients, report)?,
        Upstream::Raw => {}
    }
    Ok(())
}

/// Whether this process may do what the replay would have to; a lack becomes a finding.
fn has_rights(config: &Config, report: &mut Report) -> Result<bool, StartError> {
    if !needs_packets(config) {
        let text = "none is needed: packets come from files and leave through connections";
        report.hop("rights", Health::Good, text);
        return Ok(true);
    }
    match privileges::check_capabilities() {
        Ok(()) => {
            report.hop("rights", Health::Good, "this process has CAP_NET_RAW");
            Ok(true)
        }
        Err(StartError::Capability { name, program }) => {
            report.hop("rights", Health::Bad, format!("this process has no {name}"));
            report.find(Here::CapabilityMissing {
                capability: name,
                program,
            });
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The clients that come by, if packets are captured at all.
fn clients_of(
    options: &DoctorOptions,
    config: &Config,
    report: &mut Report,
) -> Result<Vec<FourTuple>, StartError> {
    match &config.sources {
        Sources::Devices(devices) => traffic::look(config, devices, options.wait(), report)
            .or_else(|error| descriptors_or(error, report).map(|()| Vec::new())),
        Sources::Files(_) => {
            let text = "packets come from files, which were not looked into";
            report.hop("capture", Health::Untried, text);
            Ok(Vec::new())
        }
    }
}

/// Makes a finding of a lack of file descriptors; other failures stay what they are.
fn descriptors_or(error: StartError, report: &mut Report) -> Result<(), StartError> {
    match &error {
        StartError::System { source, .. } if socket::is_lack_of_descriptors(source) => {
            report.find(Here::NoDescriptor);
            Ok(())
        }
        _ => Err(error),
    }
}

/// A failure of the capture, with the system's own error where there is one.
fn capture_error(error: NetError) -> StartError {
    match error {
        NetError::Io { operation, source } => StartError::System {
            action: operation,
            source,
        },
        other => StartError::System {
            action: "look at this host's devices",
            source: io::Error::other(other),
        },
    }
}
