//! What intercept and tcpcopy agree on, without any I/O: the tunnel between them, intercept's
//! session table with its verdicts, and the journal that carries the table over a crash.
//!
//! - [`tunnel`]: the protocol, with the state machine of each end
//! - [`LogGate`]: one log line a minute at most
//!
//! Time and bytes come in as arguments; bytes, events and verdicts go out as return values. The
//! one thing taken from outside is randomness for ephemeral keys, drawn by the Noise library.

#![forbid(unsafe_code)]

pub mod tunnel;

mod log_gate;

pub use log_gate::LogGate;
