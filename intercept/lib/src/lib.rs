//! What intercept and tcpcopy agree on, without any I/O: the tunnel between them, intercept's
//! session table with its verdicts, and the journal that carries the table over a crash.
//!
//! - [`tunnel`]: the protocol, with the state machine of each end
//! - [`table`]: sessions, tombstones and verdicts
//! - [`journal`]: the table's records on disk, as bytes
//! - [`TargetSegment`]: what is read of a packet of the target
//! - [`LogGate`]: a few log lines a minute at most
//!
//! Time and bytes come in as arguments; bytes, events and verdicts go out as return values. The
//! one thing taken from outside is randomness: for ephemeral keys, drawn by the Noise library, and
//! for hashing, so that nobody can choose tuples that collide. Neither shows in any result.

#![forbid(unsafe_code)]

pub mod journal;
pub mod table;
pub mod tunnel;

mod log_gate;
mod target_segment;
mod wire;

pub use log_gate::LogGate;
pub use target_segment::TargetSegment;
