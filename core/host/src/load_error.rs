//! Why a file is no plugin that can be used, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use plugin_api::abi;
use thiserror::Error;

/// A plugin could not be loaded. It prints as file, reason, an empty line and the remedy.
#[derive(Debug, Error)]
#[error("{}: {problem}\n\nhint: {}", file.display(), self.remedy())]
pub struct LoadError {
    file: PathBuf,
    problem: LoadProblem,
}

impl LoadError {
    pub(crate) fn new(file: &Path, problem: LoadProblem) -> Self {
        let file = file.to_owned();
        Self { file, problem }
    }

    /// The plugin's file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is wrong with it.
    #[must_use]
    pub fn problem(&self) -> &LoadProblem {
        &self.problem
    }

    /// The same, taken out.
    #[must_use]
    pub fn into_problem(self) -> LoadProblem {
        self.problem
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.problem.remedy()
    }
}

/// What is wrong with a plugin's file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadProblem {
    /// The file can't be read.
    #[error("the plugin can't be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The thread that counts the time of calls can't be started.
    #[error("the clock of WASM plugins can't be started: {0}")]
    NoClock(#[source] io::Error),
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is neither form of a plugin.
    #[error("this is neither a native library (ELF) nor a WASM module: it begins with {beginning}")]
    Foreign {
        /// Its first bytes, in words.
        beginning: String,
    },
    /// It is shorter than it says itself.
    #[error("the file is cut off or damaged: {0}")]
    Damaged(String),
    /// A native library for another machine.
    #[error("this library is made for another kind of machine ({found}), this is {ours}")]
    Machine {
        /// What it is made for.
        found: String,
        /// What this is.
        ours: &'static str,
    },
    /// The system's loader refuses it.
    #[error("the system can't load this library: {0}")]
    Loader(String),
    /// A library or module that has nothing to do with the contract.
    #[error("this is a {form}, but no tcpcopy plugin: {missing} is missing")]
    NoPlugin {
        /// What it is.
        form: &'static str,
        /// What a plugin would have.
        missing: String,
    },
    /// It is made for another version of the contract.
    #[error(
        "the plugin is made for version {found} of the plugin contract, this tcpcopy knows version {}",
        abi::VERSION
    )]
    Version {
        /// Which one.
        found: String,
    },
    /// Part of the contract is not there.
    #[error("the plugin is incomplete: `{0}` is missing")]
    Incomplete(String),
    /// A function is not of the contract's type.
    #[error("the plugin's `{function}` is not what the contract says: {problem}")]
    Signature {
        /// Which one.
        function: String,
        /// What is different.
        problem: String,
    },
    /// It wants what plugins are not given.
    #[error("the plugin wants what plugins are not given: {}", .0.join(", "))]
    Imports(Vec<String>),
    /// The plugin did not say who it is.
    #[error("the plugin failed when asked for its manifest: {0}")]
    Silent(String),
    /// What the plugin says of itself can't be.
    #[error("the plugin's manifest is invalid: {0}")]
    Manifest(String),
}

impl LoadProblem {
    fn remedy(&self) -> String {
        let version = abi::VERSION;
        match self {
            Self::Unreadable(error) => match error.kind() {
                io::ErrorKind::NotFound => "check the path; it is taken from the working directory",
                io::ErrorKind::PermissionDenied => {
                    "let the user that runs tcpcopy read the file and its directories"
                }
                _ => "give the path of a file that can be read",
            }
            .to_owned(),
            Self::NoClock(_) => "let this process have one more thread".to_owned(),
            Self::Empty | Self::Damaged(_) => "build it again, or copy it again whole".to_owned(),
            Self::Foreign { .. } => {
                "give the .so or .wasm file that the plugin's build makes, not \
                                     its source or an archive"
                    .to_owned()
            }
            Self::Machine { ours, .. } => {
                format!("build it for {ours}, or as WASM, which runs everywhere")
            }
            Self::Loader(_) => "build it on this system, install the libraries that it needs \
                                (`ldd` lists them), or build it as WASM"
                .to_owned(),
            Self::NoPlugin { .. } => {
                "export the plugin with `export_plugin!` in a crate of type `cdylib`, or see \
                 `plugin-api/` for the contract in C and WIT"
                    .to_owned()
            }
            Self::Version { .. } => format!(
                "build the plugin with version {version} of the plugin API, or use a tcpcopy that \
                 knows its version"
            ),
            Self::Incomplete(_) | Self::Signature { .. } => {
                format!("build the plugin anew against version {version} of the contract")
            }
            Self::Imports(_) => "build it for `wasm32-unknown-unknown`, without WASI: a plugin \
                                 has no files, network or clock"
                .to_owned(),
            Self::Silent(_) | Self::Manifest(_) => {
                "this is a mistake in the plugin: tell its author".to_owned()
            }
        }
    }
}
