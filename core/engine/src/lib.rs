//! The replay engine as a state machine without I/O.

#![forbid(unsafe_code)]

mod config;
mod ledger;
mod time;

pub use config::*;
pub use ledger::{
    Account, Balance, CaptureCounters, DropReason, Ledger, PerReason, Row, SendErrors,
    UpstreamCounters,
};
pub use time::Instant;
