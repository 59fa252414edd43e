//! MySQL and MariaDB: every session logs in at the target as the target demands, and runs the
//! client's statements there.

#![forbid(unsafe_code)]
#![allow(dead_code, reason = "its users are being written")]

mod accounts;
mod auth;
mod answer;
mod capability;
mod frame;
mod login;
mod secret;
#[cfg(test)]
mod testing;
mod ok;
mod sql;
mod wire;
