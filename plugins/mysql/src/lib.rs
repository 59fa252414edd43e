//! MySQL and MariaDB: every session logs in at the target as the target demands, and runs the
//! client's statements there.

#![forbid(unsafe_code)]

mod account;
mod accounts;
mod answer;
mod auth;
mod capability;
mod command;
mod compression;
mod frame;
mod login;
mod ok;
mod options;
mod parameters;
mod plugin;
mod secret;
mod session;
mod sql;
mod statements;
#[cfg(test)]
mod testing;
mod wire;

pub use plugin::Mysql;
pub use session::Connection;

// Nothing else is in this file: what links several plugins, such as the fuzz targets, then leaves the
// symbol out.
plugin_api::export_plugin!(Mysql);
