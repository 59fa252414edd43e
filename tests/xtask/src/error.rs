//! How a task fails.

use std::io;
use std::path::Path;

use tcpcopy_lab::LabError;

/// A task's failure, to be shown to its user.
#[derive(Debug)]
pub(crate) enum TaskError {
    /// The lab, or a program in it, failed.
    Lab(LabError),
    /// What was to be shown is not so.
    Claim(String),
}

impl std::fmt::Display for TaskError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lab(error) => error.fmt(formatter),
            Self::Claim(text) => text.fmt(formatter),
        }
    }
}

impl From<LabError> for TaskError {
    fn from(error: LabError) -> Self {
        Self::Lab(error)
    }
}

/// A file that could not be read or written, with its path.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> TaskError {
    move |error| TaskError::Claim(format!("{}: {error}", path.display()))
}

/// What every task returns.
pub(crate) type Result<T, E = TaskError> = std::result::Result<T, E>;

/// An error unless `holds`.
pub(crate) fn claim(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(TaskError::Claim(otherwise()))
    }
}
