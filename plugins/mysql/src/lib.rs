//! MySQL and MariaDB: every session logs in at the target as the target demands, and runs the
//! client's statements there.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "its users are being written")]

mod accounts;
mod answer;
mod auth;
mod capability;
mod compression;
mod frame;
mod login;
mod ok;
mod secret;
mod sql;
#[cfg(test)]
mod testing;
mod wire;
