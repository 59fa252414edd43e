//! RSTs to the target in the name of clients.
//!
//! They leave through a raw socket. On an assistant they go to the target over the network. On
//! the target itself they stay on the host: the kernel routes a packet for a local address to the
//! loopback with the routing decision attached, so that neither reverse-path filters nor martian
//! rules look at its foreign source, and TCP finds the connection by the tuple alone. Only a
//! firewall of the target's own that drops unknown packets on the loopback would stop them; its
//! connections then end by the target's timers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use intercept_lib::table::Reset;
use tcpcopy_net::NetError;
use tcpcopy_net::raw::{RawConfig, RawSender};
use tcpcopy_packet::{SegmentBuilder, TcpFlags};

use crate::shared::lock;

/// Bytes of resets that may wait in the kernel.
const SEND_BUFFER: usize = 1 << 20;

/// Sends resets, from any thread.
#[derive(Debug)]
pub(crate) struct Resetter {
    sender: Mutex<RawSender>,
    sent: AtomicU64,
}

impl Resetter {
    /// Opens the raw sockets.
    ///
    /// # Errors
    /// [`NetError`], as without `CAP_NET_RAW`.
    pub(crate) fn open() -> Result<Self, NetError> {
        let sender = RawSender::open(&RawConfig {
            send_buffer_bytes: SEND_BUFFER,
            ..RawConfig::default()
        })?;
        Ok(Self {
            sender: Mutex::new(sender),
            sent: AtomicU64::new(0),
        })
    }

    /// Sends resets; what the kernel refuses is left to the target's timers.
    pub(crate) fn send(&self, resets: &[Reset]) {
        if resets.is_empty() {
            return;
        }
        let mut sender = lock(&self.sender);
        let mut packet = Vec::new();
        for reset in resets {
            let mut builder = SegmentBuilder::new(reset.tuple);
            builder.seq = reset.seq;
            builder.flags = TcpFlags::RST;
            if builder.write(std::iter::empty(), &mut packet).is_ok() {
                sender.push(&packet);
            }
        }
        sender.flush();
        self.sent.store(sender.counters().packets, Relaxed);
    }

    /// Resets sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}
