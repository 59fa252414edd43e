//! Loads protocol plugins and runs them between the engine's sessions and the target.
//!
//! ```text
//!  Library::load ─▶ Step ─┐                        ┌─▶ PluginSet (shard 1) ─▶ Engine
//!  Settings ──────▶ Config┴─▶ Host (one a target) ─┼─▶ PluginSet (shard 2) ─▶ Engine
//!                               share map, figures └─▶ ...
//! ```
//!
//! - [`Library`]: a plugin's file, native or WASM, checked before anything of it is used
//! - [`Settings`]: what the plugins are told, from TOML, `--set`, files and the environment
//! - [`Host`]: the chain of plugins of one target, with the values that their sessions share and
//!   the counters; [`PluginSet`] is what an engine is given of it, and `chain` says how several
//!   plugins work on one session
//! - [`Limits`]: how much a plugin may take; what exceeds it ends the sessions of that instance
//! - [`Rehearsal`]: a loaded plugin without an engine, for transcripts
//!
//! A native plugin is trusted: it runs in this process, and what it takes is only measured. A WASM
//! plugin is given nothing but the contract's imports.

#![deny(missing_docs)]

mod chain;
mod configure;
mod figures;
mod host;
mod instance;
mod library;
mod limits;
mod load_error;
mod native;
mod rehearsal;
mod services;
mod set;
mod settings;
mod share;
mod wasm;
mod worker;

pub use configure::ConfigureError;
pub use figures::{
    CallTimeFigures, FailureFigures, LabelFigures, LatencyFigures, OutcomeFigures, PluginFigures,
    State,
};
pub use host::{Host, Step};
pub use library::{Form, Library};
pub use limits::Limits;
pub use load_error::{LoadError, LoadProblem};
pub use rehearsal::Rehearsal;
pub use set::PluginSet;
pub use settings::{Settings, SettingsError};
