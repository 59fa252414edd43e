//! The same clients, replayed through the connections of a model kernel instead of packets.
//!
//! - [`kernel`], [`far`]: the kernel, the network behind it, and the target's end
//! - [`harness`]: a run
//! - [`generated`], [`named`]: the tests

mod far;
mod generated;
mod harness;
mod kernel;
mod named;

pub(crate) use generated::{over_impatient_kernel, over_patient_kernel};
pub(crate) use harness::run;
pub(crate) use named::simulate_plain;
