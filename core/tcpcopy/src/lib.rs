//! The tcpcopy program: reproduces the live TCP traffic of an origin server against a target.
//!
//! - [`command_line`], [`options`], [`transfer`], [`pool`], [`host`], [`shaping`]: the command line
//!   and its small grammars
//! - [`config`], [`checks`]: what the options mean together, and what is refused
//! - [`traffic`]: the filter for what is captured; [`devices`]: what becomes of the devices
//! - [`start`]: everything opened in the right order, then privileges dropped; [`key_file`]: the
//!   key for the tunnels
//! - [`resolver`]: where targets that were given as names are; [`proxy_protocol`]: who the client is,
//!   told to the target
//! - [`shard`]: one thread with its rings, engine, tunnels and sender; [`tunnel`]: its way to
//!   intercept
//! - [`sources`], [`player`]: `-i`; packets of capture files, handed out when they are due
//! - [`supervise`]: the main thread: signals, figures, the end
//! - [`statistics`], [`report`], [`process`]: the figures while it runs and at the end
//! - [`capture`]: traffic recorded to files (`tcpcopy capture`)
//! - [`control`]: a running program asked and changed (`tcpcopy ctl`)
//! - [`doctor`]: the path of a replay tried for real (`tcpcopy doctor`)
//! - [`logging`], [`signals`], [`daemon`], [`privileges`], [`wake`]: dealings with the system
//! - [`error`]: why it could not run, and what to do

#![forbid(unsafe_code)]

pub mod capture;
pub mod checks;
pub mod command_line;
pub mod config;
pub mod control;
pub mod daemon;
pub mod devices;
pub mod doctor;
pub mod error;
pub mod host;
pub mod key_file;
pub mod logging;
pub mod options;
pub mod player;
pub mod plugin;
pub mod pool;
pub mod privileges;
pub mod process;
pub mod proxy_protocol;
pub mod report;
pub mod resolver;
pub mod shaping;
pub mod shard;
pub mod signals;
pub mod sources;
pub mod start;
pub mod statistics;
pub mod supervise;
pub mod traffic;
pub mod transfer;
pub mod tunnel;
pub mod wake;

mod program;

pub use program::run;
