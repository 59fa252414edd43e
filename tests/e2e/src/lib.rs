//! What the end-to-end tests share: the programs under test, a replay from real clients over a
//! real origin to a real target, and the reading of its report.
//!
//! Each test has a lab of its own. How long a load lasts comes from one place, [`load_time`].

#![forbid(unsafe_code)]

mod binaries;
mod replay;
mod report;
mod scale;

pub use binaries::{intercept, tcpcopy};
pub use replay::{Mode, Replay, Setup, assert_alike, finish_tcpcopy, start_tcpcopy};
pub use report::Report;
pub use scale::{is_full, load_time, scaled};
