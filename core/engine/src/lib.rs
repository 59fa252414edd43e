//! The replay engine as a state machine without I/O: captured segments go in, packets for the
//! target come out, and a ledger accounts for everything.
//!
//! - [`Engine`]: the inputs and the one output call
//! - `capture`: the connection table; `reassembly` puts a client's stream in order
//! - `replay`: the sessions; `gate` holds their bytes back, `mirror` is the TCP that delivers them
//! - [`plugin`]: what the engine needs of protocol plugins, which change what is said
//! - `shaping`, `selection`: which connections are replayed, how often, and how fast at most
//! - `allocator`, `timer`: who speaks to the target, and when
//! - [`Ledger`]: captured = delivered + dropped + in flight, with a name for every drop
//!
//! The engine knows no clock, socket or thread: time comes in with each input ([`Instant`]), and
//! the same inputs give the same outputs.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod allocator;
mod capture;
mod channel;
mod config;
mod connection;
mod delay;
mod engine;
mod gate;
mod latency;
mod ledger;
mod mirror;
mod outbox;
mod output;
mod own;
pub mod plugin;
mod reassembly;
mod replay;
mod selection;
mod session;
mod shaping;
mod socket;
mod time;
mod timer;

pub use allocator::{AllocateError, TupleAllocator};
pub use config::*;
pub use delay::DelayHistogram;
pub use engine::Engine;
pub use ledger::{
    Account, Balance, CaptureCounters, DropReason, Ledger, LoadCounters, PerReason, PluginCounters,
    Row, SendErrors, UpstreamCounters,
};
pub use output::{
    CaptureEvent, Closing, Gauges, InFlight, Output, Registration, SessionId, SessionRecord,
    ShutDown, SocketFailure, UpstreamEvent,
};
pub use own::SOCKET_HOP_LIMIT;
pub use reassembly::{
    Inserted, MAX_DISTANCE, MAX_HELD_BYTES, MAX_HELD_SEGMENTS, Piece, Reassembly, StreamSegment,
};
pub use selection::Selector;
pub use time::Instant;
pub use timer::TimerQueue;
