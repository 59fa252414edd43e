//! The tunnel: the link over which tcpcopy registers sessions and intercept reports replies.
//!
//! # On the wire
//! Both ends first send a clear [`Prelude`](PRELUDE_LEN) of eight bytes: four of magic, the
//! protocol version, and flags that say whether a key is used. The client sends first; the server
//! answers only what looks like a tunnel. With a key follow the two messages of the Noise
//! handshake `NNpsk0_25519_ChaChaPoly_BLAKE2s`, whose prologue is both preludes, so that nobody
//! in between can talk the ends down to another version or to clear text. From then on everything
//! is an *envelope*: a length (two bytes) and as many bytes, which are frames, sealed when there
//! is a key. A *frame* is a kind (one byte), a length (two bytes) and a body; a receiver skips
//! kinds it does not know. All numbers are big-endian.
//!
//! # Registration before the first packet
//! The client registers a session and sends the session's SYN only after the server has confirmed
//! it. A SYN-ACK therefore never meets an intercept that does not know its session, however busy
//! the machine is. The other way to solve this race is to hold back SYN-ACKs that belong to no
//! session for a while; it fails exactly under load, when the registration comes later than the
//! while, and it delays every other user of the target.
//!
//! # Diagnosis
//! A client that was granted [`Features::DIAGNOSIS`] may ask what the server sees of a probe, a SYN
//! with a sequence number of its own. From the first question about it the server looks for the
//! probe and its answer on all devices; each answer tells what has been seen so far.
//!
//! # What a peer can cost
//! One connection. Queues are bounded ([`MAX_QUEUED_REPLIES`], [`MAX_QUEUED_REQUESTS`]): the
//! server drops reply records of a slow client, counts them and says so (the target retransmits,
//! so nothing is lost for good); a client whose server does not read gives the link up.

mod channel;
mod client;
mod diagnosis;
mod frame;
mod key;
mod replies;
mod server;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use channel::{ChannelError, PRELUDE_LEN};
pub use client::{Backoff, ClientConfig, ClientEvent, DownReason, TunnelClient};
pub use diagnosis::{
    Diagnosis, MAX_SIGHTINGS, Place, Probe, ReversePath, Seen, Sighting, TargetState,
};
pub use frame::{Features, Hello, RefuseCode, Registration, Unregistration};
pub use key::{KeyError, Security, TunnelKey};
pub use replies::{ReplyBatch, ReplyRecord};
pub use server::{CloseReason, ServerEvent, ServerLink};

/// The port intercept listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 36524;
/// The protocol version spoken here. A peer with another one is refused: both ends come from one
/// release.
pub const TUNNEL_VERSION: u16 = 1;
/// Time between two heartbeats of the client.
pub const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which the other end is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(10);
/// Time a connection may take from its start to the end of the hello.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that may wait for a slow client before reply records are dropped.
pub const MAX_QUEUED_REPLIES: usize = 4 << 20;
/// Bytes that may wait for a slow server before the client gives the link up.
pub const MAX_QUEUED_REQUESTS: usize = 8 << 20;
