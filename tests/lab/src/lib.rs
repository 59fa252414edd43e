//! A private network of namespaces with real servers and real clients, as a library.
//!
//! A [`Lab`] is one process tree of its own: a PID namespace whose init process lives exactly as
//! long as a pipe held by the test, a mount namespace with a private `/run`, an IPC namespace for
//! what servers share in memory, and one network namespace per [`Host`]. When the test ends, panics or is killed, the pipe closes, init exits,
//! and the kernel takes every process, interface, rule and file of the lab with it. Nothing has a
//! name outside the lab, so any number of labs can run at once.
//!
//! ```text
//!            client ─┐                ┌─ origin
//!         bystander ─┤   gateway      ├─ target
//!    (more by name) ─┴── (bridge) ────┴─ assistant
//! ```
//!
//! All hosts share one link, so a packet with a borrowed source address reaches the target, and
//! the target's reply reaches the real owner of the address unless something stops it: a leak
//! can be seen.

#![forbid(unsafe_code)]

mod command;
mod drivers;
mod error;
mod fetched;
mod host;
mod init;
mod lab;
mod login_site;
mod loss;
mod memcached;
mod mysql;
mod mysql9;
mod nginx;
mod postgres;
mod process;
mod programs;
mod redis;
mod report;
mod requirements;
mod sockets;
mod sysbench;
mod wait;
mod watch;
mod workspace;
mod wrk;

pub use command::Command;
pub use drivers::Drivers;
pub use error::LabError;
pub use host::Host;
pub use lab::{Lab, LabOptions};
pub use login_site::{LoginCounts, LoginSite, Visitors};
pub use memcached::Memcached;
pub use mysql::{Mysql, MysqlClient, MysqlKind};
pub use mysql9::has_mysql9_for_test;
pub use nginx::{Nginx, NginxConfig, Request};
pub use postgres::Postgres;
pub use process::{Output, Process, Usage};
pub use programs::{Mode, Programs, Setup};
pub use redis::{Redis, RedisAccounts};
pub use report::Report;
pub use requirements::{PYTHON, Requirement, install_missing, may_skip, missing, requirements};
pub use sysbench::{Sysbench, SysbenchReport};
pub use wait::wait_until;
pub use watch::PacketWatch;
pub use workspace::{cargo, plugin_file};
pub use wrk::{Wrk, WrkReport};

/// What every fallible operation of the lab returns.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
