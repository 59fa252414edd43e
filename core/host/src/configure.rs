//! Why a plugin that was loaded could not be set to work.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A plugin does not take its configuration. It prints as file, plugin, reason, an empty line and
/// the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}: plugin {plugin}: {reason}\n\nhint: {remedy}", file.display())]
pub struct ConfigureError {
    /// The plugin's file.
    pub file: PathBuf,
    /// The plugin's name.
    pub plugin: String,
    /// What is wrong; it names the key, where it is about one.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl ConfigureError {
    /// The configuration will not do.
    pub(crate) fn refused(file: &Path, plugin: &str, reason: String) -> Self {
        Self {
            file: file.to_owned(),
            plugin: plugin.to_owned(),
            reason,
            remedy: format!(
                "correct the table [{plugin}] of the plugins' configuration or --set {plugin}.KEY=VALUE; \
                 `tcpcopy plugin inspect {}` lists the keys",
                file.display()
            ),
        }
    }

    /// The plugin broke over it.
    pub(crate) fn failed(file: &Path, plugin: &str, words: &str) -> Self {
        Self {
            file: file.to_owned(),
            plugin: plugin.to_owned(),
            reason: format!("it failed when it was given its configuration: {words}"),
            remedy:
                "this is a mistake in the plugin: tell its author, or try another configuration"
                    .to_owned(),
        }
    }
}
