//! What `tcpcopy doctor` and `intercept doctor` have in common: they send a probe over the real
//! path, ask everyone on it what they saw, and say which hop fails and what to do.
//!
//! - [`link`]: a tunnel to one intercept, used by one thread that waits
//! - [`watch`]: a probe and its answers, seen on this host's devices
//! - [`prober`]: one probe sent, awaited and cleaned up after
//! - [`investigation`]: which probes to send, until the evidence is complete
//! - [`judge`]: from evidence to findings, without any I/O
//! - [`finding`], [`report`], [`tell`](tell::tell): what can be wrong, and how it is told
//!
//! A probe is a SYN whose sequence number is its tag. It is registered like a session, so that its
//! answer goes the way of every replayed connection; it never becomes one: the target's half-open
//! connection is reset, and the session ends as a tombstone.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod finding;
pub mod investigation;
pub mod judge;
pub mod link;
pub mod prober;
pub mod report;
pub mod tell;
pub mod watch;
