//! Protocol plugins between the clients and the targets; the host that runs them is a crate of its
//! own.
//!
//! - [`options`]: which plugins, told what, with which limits
//! - [`load`]: loaded and configured for a replay, a host for each target
//! - [`command`]: `tcpcopy plugin`: [`inspect`] tells what a plugin says of itself, [`trial`] plays a
//!   transcript or the [`streams`] of a capture file to it

mod command;
mod inspect;
mod load;
mod options;
mod streams;
mod trial;

use std::path::PathBuf;

use tcpcopy_host::{ConfigureError, LoadError, SettingsError};

pub use command::{PluginCommand, run};
pub use load::Plugins;
pub use options::{LimitOptions, PluginArgument, PluginOptions, TellOptions};
pub use streams::StreamsError;

/// Why a plugin could not be used. Each prints what, why and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// Its file.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What it is told, before it is told.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What it is told, as it takes it.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// What a plugin is to be tried with can't be read.
    #[error(
        "{path}: {reason}\n\nhint: give a transcript (lines such as C: get x\\n), or a capture file"
    )]
    Story {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A capture file that a plugin is to be tried with is of no use.
    #[error("{source}\n\nhint: {}", source.hint())]
    Streams {
        /// Why.
        #[source]
        source: StreamsError,
    },
}

impl From<StreamsError> for PluginError {
    fn from(source: StreamsError) -> Self {
        Self::Streams { source }
    }
}
