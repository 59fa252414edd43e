//! Packets on their way from the reader's thread to the player: two batches, of which one is filled
//! while the other is played.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tcpcopy_net::file::{FileCounters, FileError};

use crate::error::StartError;
use crate::wake::{self, Waker};

/// Packets in a batch, in bytes; a batch ends with the packet that exceeds it.
const BATCH_BYTES: usize = 1 << 20;
/// Packets in a batch.
pub(super) const BATCH_PACKETS: usize = 8 << 10;

/// What the files held beside the packets handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounters {
    /// As the files tell, of all rounds that have ended.
    pub files: FileCounters,
    /// Packets read to be handed out.
    pub packets: u64,
    /// Frames that hold no IP packet.
    pub not_ip: u64,
    /// Frames of a framing that isn't known here.
    pub unknown_link: u64,
    /// libpcap's number of the first such framing.
    pub first_unknown_link: Option<u16>,
    /// Frames before `--from`. What comes after `--until` is not read.
    pub before_window: u64,
    /// Packets that the filter does not let pass.
    pub filtered_out: u64,
    /// Packets of other shards.
    pub of_other_shards: u64,
    /// Packets handed out that the capture had cut short.
    pub cut_short: u64,
    /// Captured time that was left out of idle gaps, in nanoseconds.
    pub idle_cut_ns: u64,
}

/// What the reader has found, in order.
#[derive(Debug)]
pub(super) enum Entry {
    Packet(PacketHead),
    /// The position is the length of all files.
    EndOfRound {
        position: u64,
    },
    Failed(Box<FileError>),
}

/// A packet of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketHead {
    pub(super) length: u32,
    /// When it is due at the captured speed, from the begin of the round.
    pub(super) due_ns: u64,
    /// When it was captured, from the begin of the files.
    pub(super) captured_ns: u64,
    /// Bytes of the files read up to it.
    pub(super) position: u64,
}

/// Packets in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Bytes of packets taken.
    taken: usize,
    entries: VecDeque<Entry>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// When the packet in front is due; `None` if something else is there.
    pub(super) fn due_ns(&self) -> Option<u64> {
        match self.entries.front() {
            Some(Entry::Packet(head)) => Some(head.due_ns),
            _ => None,
        }
    }

    /// Takes what is in front, with its bytes if it is a packet.
    pub(super) fn take(&mut self) -> (Option<Entry>, &[u8]) {
        let entry = self.entries.pop_front();
        let start = self.taken;
        if let Some(Entry::Packet(head)) = &entry {
            self.taken += head.length as usize;
        }
        (entry, &self.bytes[start..self.taken])
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.taken = 0;
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.entries.len() >= BATCH_PACKETS
    }
}

/// The way from the reader to the player.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signalled when a full batch was taken, or when the reader is to stop.
    room: Condvar,
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    filling: Batch,
    counters: ReadCounters,
    /// Whether the player has found nothing and waits.
    is_wanted: bool,
    /// Whether the player has gone.
    is_stopped: bool,
    /// Whether the reader has gone.
    has_ended: bool,
}

impl Queue {
    /// The queue, and what its player polls.
    pub(super) fn new() -> Result<(Self, OwnedFd), StartError> {
        let (waker, wake) = wake::pair()?;
        let queue = Self {
            state: Mutex::default(),
            room: Condvar::new(),
            waker,
        };
        Ok((queue, wake))
    }

    /// Adds an entry, with its bytes if it is a packet, once there is room; false when nobody wants
    /// it any more.
    pub(super) fn push(&self, entry: Entry, packet: &[u8], counters: &ReadCounters) -> bool {
        let mut state = self.lock();
        while state.filling.is_full() && !state.is_stopped {
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.filling.bytes.extend_from_slice(packet);
        state.filling.entries.push_back(entry);
        state.counters = *counters;
        self.wake(&mut state);
        !state.is_stopped
    }

    /// The reader goes.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        self.wake(&mut state);
    }

    /// Replaces the player's empty batch by what has been read; false when that is nothing yet. Once
    /// the reader has gone it is true.
    pub(super) fn swap(&self, batch: &mut Batch, event: &OwnedFd) -> bool {
        let mut state = self.lock();
        // Whatever it was woken for is taken here, or would wake it again and again.
        wake::clear(event);
        if state.filling.is_empty() {
            state.is_wanted = !state.has_ended;
            return state.has_ended;
        }
        batch.clear();
        std::mem::swap(batch, &mut state.filling);
        drop(state);
        self.room.notify_one();
        true
    }

    /// When the first packet that the player has not got is due; `None` if something else is there.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.lock().filling.due_ns()
    }

    /// The player goes.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.room.notify_one();
    }

    pub(super) fn counters(&self) -> ReadCounters {
        self.lock().counters
    }

    fn wake(&self, state: &mut State) {
        if std::mem::take(&mut state.is_wanted) {
            self.waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
