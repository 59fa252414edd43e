//! The replay engine as a state machine without I/O.

#![forbid(unsafe_code)]

mod allocator;
mod config;
mod ledger;
mod time;

pub use allocator::{AllocateError, TupleAllocator};
pub use config::*;
pub use ledger::{
    Account, Balance, CaptureCounters, DropReason, Ledger, PerReason, Row, SendErrors,
    UpstreamCounters,
};
pub use time::Instant;
