//! Running programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use tcpcopy_lab::cargo;

use crate::error::{Result, TaskError, claim};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).to_owned()
}

/// Runs a program that prints what it prints.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| not_started(&name, &error))?;
    claim(status.success(), || format!("{name}: {status}"))
}

/// Runs a program for what it prints; its errors go where ours go.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| not_started(&name, &error))?;
    claim(output.status.success(), || {
        format!("{name}: {}", output.status)
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn not_started(name: &str, error: &std::io::Error) -> TaskError {
    TaskError::Claim(format!("{name} could not be started: {error}"))
}
