//! The replay engine as a state machine without I/O.

#![forbid(unsafe_code)]

mod allocator;
mod config;
mod ledger;
mod reassembly;
mod selection;
mod time;
mod timer;

pub use allocator::{AllocateError, TupleAllocator};
pub use config::*;
pub use ledger::{
    Account, Balance, CaptureCounters, DropReason, Ledger, PerReason, Row, SendErrors,
    UpstreamCounters,
};
pub use reassembly::{
    Inserted, MAX_DISTANCE, MAX_HELD_BYTES, MAX_HELD_SEGMENTS, Piece, Reassembly, StreamSegment,
};
pub use selection::Selector;
pub use time::Instant;
pub use timer::TimerQueue;
