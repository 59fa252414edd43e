//! The memory that the kernel shares with a `TPACKET_V3` socket: blocks that belong to one side at
//! a time, by a status word at the start of each.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Where a block's status is.
const STATUS_OFFSET: usize =
    offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);

/// A mapped ring; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct PacketRing {
    start: NonNull<u8>,
    block_bytes: usize,
    block_count: usize,
}

// SAFETY: the mapping has no tie to the thread that made it, and all access goes through the
// value.
unsafe impl Send for PacketRing {}

impl PacketRing {
    /// Maps the ring that `PACKET_RX_RING` has set up for the socket with these numbers.
    pub(crate) fn map(
        socket: impl AsFd,
        block_bytes: usize,
        block_count: usize,
    ) -> io::Result<Self> {
        let length = block_bytes * block_count;
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing; the kernel
        // refuses it unless its length is the ring's.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                socket,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            block_bytes,
            block_count,
        })
    }

    /// How many blocks there are.
    pub(crate) fn block_count(&self) -> usize {
        self.block_count
    }

    /// The block, if the kernel has handed it over.
    pub(crate) fn take(&mut self, index: usize) -> Option<HandedOver<'_>> {
        assert!(index < self.block_count, "a block of the ring");
        // SAFETY: `index` is below the block count, so this is inside the mapping, which lives as
        // long as `self`.
        let block = unsafe { self.start.add(index * self.block_bytes) };
        // SAFETY: the status lies inside the block, is aligned as blocks are page-aligned, and
        // both sides access it atomically.
        let status = unsafe { AtomicU32::from_ptr(block.add(STATUS_OFFSET).as_ptr().cast()) };
        // Acquire: what the kernel wrote before it handed the block over is seen from here on.
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        Some(HandedOver {
            block,
            block_bytes: self.block_bytes,
            status,
        })
    }
}

impl Drop for PacketRing {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; borrows of it have ended.
        let result = unsafe {
            munmap(
                self.start.as_ptr().cast(),
                self.block_bytes * self.block_count,
            )
        };
        debug_assert!(result.is_ok(), "unmapping an own mapping: {result:?}");
    }
}

/// A block while it belongs to this side; goes back to the kernel when dropped.
#[derive(Debug)]
pub(crate) struct HandedOver<'r> {
    block: NonNull<u8>,
    block_bytes: usize,
    status: &'r AtomicU32,
}

impl HandedOver<'_> {
    /// The whole block: its header, then the packets.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the block lies in the mapping, and the kernel does not write to a block that it
        // has handed over; the borrow ends before `drop` gives the block back.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.block_bytes) }
    }
}

impl Drop for HandedOver<'_> {
    fn drop(&mut self) {
        // Release: all reads of the block are done before the kernel may write to it.
        self.status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}
