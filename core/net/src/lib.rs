//! The outside: packets in from the kernel, packets out to it. Everything here does I/O; nothing
//! here knows what a session is.
//!
//! - [`filter`]: which packets the kernel hands over, from the origins (`-x`) and the user (`-F`)
//! - [`ring`]: the capture ring (`AF_PACKET`, `TPACKET_V3`)
//! - [`shard`]: which shard owns a client, computed alike here and in the kernel
//! - [`file`]: capture files, read and written
//! - [`raw`]: whole IP packets sent in batches, with any source address
//! - [`scheduling`]: short turns on the processor, so that a ring is emptied in time
//! - [`sockets`]: TCP connections of the kernel's, tens of thousands behind one descriptor
//! - [`descriptors`]: how many file descriptors the process may have
//! - [`interfaces`]: the host's devices and addresses
//! - [`bpf`]: classic BPF, the machine that filter and shard programs are written for
//!
//! The system calls that need `unsafe` are in the private module `sys`.

#![deny(missing_docs)]

pub mod bpf;
pub mod descriptors;
mod error;
pub mod file;
pub mod filter;
pub mod interfaces;
pub mod raw;
pub mod ring;
pub mod scheduling;
pub mod shard;
pub mod sockets;
mod sys;

pub use error::NetError;
