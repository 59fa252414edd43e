//! What a capture ring is made of.

use crate::NetError;
use crate::filter::CaptureFilter;

/// Default size of one ring: with default blocks, 256 of them.
pub const RING_BYTES_DEFAULT: usize = 32 << 20;

/// Default size of a block: the smallest power of two that holds the longest packet of GRO or GSO
/// (64 KiB and its headers) whole. Large blocks are no gain: each is handed over after
/// [`RETIRE_TIMEOUT_MS_DEFAULT`] at the latest, full or not.
pub const BLOCK_BYTES_DEFAULT: usize = 128 << 10;

/// Default time after which a block that is not full is handed over. Longer would delay the replay,
/// shorter would shorten the pause that sparse traffic forgives.
pub const RETIRE_TIMEOUT_MS_DEFAULT: u32 = 2;

/// Default for the most bytes kept of one packet: more than the longest there is.
pub const SNAPLEN_DEFAULT: u32 = 256 << 10;

/// The device name that means all devices.
pub(super) const ANY_DEVICE: &str = "any";

/// How to open a [`CaptureRing`](super::CaptureRing).
///
/// A reader that stops for a while loses nothing as long as there are free blocks. When traffic is
/// dense that is `ring_bytes` of packets, each with 96 bytes more (half of it when all packets are
/// 64 KiB long: a default block holds one of them). When it is sparse, each block is
/// handed over nearly empty after `retire_timeout_ms`, so the ring lasts for
/// `retire_timeout_ms * ring_bytes / block_bytes`: 512 ms by default. Kernels before 6.18 count
/// the timeout in timer ticks of up to 10 ms, which makes both the pause that is forgiven and the
/// delay of a packet longer.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// The device to capture on; `None` or `any` is all of this network namespace.
    pub device: Option<String>,
    /// Which packets enter the ring.
    pub filter: CaptureFilter,
    /// Memory of one ring, shared with the kernel and resident from the start; rounded down to
    /// whole blocks, of which there must be at least 2.
    pub ring_bytes: usize,
    /// Size of a block: a multiple of the page size. Packets longer than a block are cut.
    pub block_bytes: usize,
    /// The longest a packet waits in a block that is not full, 1 or more. The kernel looks twice, so
    /// it may be twice as long.
    pub retire_timeout_ms: u32,
    /// The most bytes kept of one packet.
    pub snaplen: u32,
    /// Also captures what this host sends; without it only what it receives. On a loopback device
    /// each packet is both sent and received, and is captured once in either case.
    pub include_outgoing: bool,
    /// Also captures what is addressed to other hosts (a mirror port). Needs a device.
    pub promiscuous: bool,
}

impl RingConfig {
    /// Received packets that pass the filter, on all devices, with the default sizes.
    #[must_use]
    pub fn new(filter: CaptureFilter) -> Self {
        Self {
            device: None,
            filter,
            ring_bytes: RING_BYTES_DEFAULT,
            block_bytes: BLOCK_BYTES_DEFAULT,
            retire_timeout_ms: RETIRE_TIMEOUT_MS_DEFAULT,
            snaplen: SNAPLEN_DEFAULT,
            include_outgoing: false,
            promiscuous: false,
        }
    }

    /// The device, unless it is all devices.
    pub(super) fn named_device(&self) -> Option<&str> {
        self.device
            .as_deref()
            .filter(|device| *device != ANY_DEVICE)
    }

    /// What the kernel is asked for.
    pub(super) fn request(&self) -> Result<libc::tpacket_req3, NetError> {
        /// Divides every block; the kernel checks the arithmetic but does not use frames.
        const FRAME_BYTES: u32 = 2048;
        let page_bytes = rustix::param::page_size();
        if self.block_bytes == 0 || !self.block_bytes.is_multiple_of(page_bytes) {
            return Err(NetError::InvalidConfig(format!(
                "the ring's block size of {} bytes is not a multiple of the page size, {page_bytes}",
                self.block_bytes
            )));
        }
        let block_count = self.ring_bytes / self.block_bytes;
        if block_count < 2 {
            return Err(NetError::InvalidConfig(format!(
                "a ring of {} bytes does not hold two blocks of {} bytes",
                self.ring_bytes, self.block_bytes
            )));
        }
        if self.retire_timeout_ms == 0 {
            return Err(NetError::InvalidConfig(
                "the ring's retire timeout must be at least 1 ms".to_owned(),
            ));
        }
        if self.promiscuous && self.named_device().is_none() {
            return Err(NetError::InvalidConfig(
                "promiscuous mode needs a device, not all of them\n\nhint: name the device that receives the mirrored traffic"
                    .to_owned(),
            ));
        }
        let too_large =
            |_| NetError::InvalidConfig("the ring is not smaller than 4 GiB".to_owned());
        let block_count = u32::try_from(block_count).map_err(too_large)?;
        let block_bytes = u32::try_from(self.block_bytes).map_err(too_large)?;
        let ring_bytes = block_count.checked_mul(block_bytes);
        let ring_bytes = ring_bytes.ok_or_else(|| {
            NetError::InvalidConfig("the ring is not smaller than 4 GiB".to_owned())
        })?;
        Ok(libc::tpacket_req3 {
            tp_block_size: block_bytes,
            tp_block_nr: block_count,
            tp_frame_size: FRAME_BYTES,
            tp_frame_nr: ring_bytes / FRAME_BYTES,
            tp_retire_blk_tov: self.retire_timeout_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        })
    }
}
