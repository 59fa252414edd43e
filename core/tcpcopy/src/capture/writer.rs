//! The writer's thread: takes batches of blocks from a bounded queue and writes them.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::thread::JoinHandle;

use tcpcopy_net::file::{Kept, Recording, RecordingError};

use crate::error::StartError;
use crate::wake::{self, Waker};

/// A batch is handed to the writer when it has so many bytes; then it holds at most a packet more.
pub(super) const BATCH_BYTES: usize = 256 << 10;
/// Batches that may wait for the disk: 32 MiB.
const QUEUE_BATCHES: usize = 128;

/// Blocks of packets.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) blocks: Vec<u8>,
    pub(super) packets: u64,
    /// When the newest packet was captured.
    pub(super) newest_ns: u64,
}

enum Message {
    Batch(Batch),
    /// The last blocks.
    End(Vec<u8>),
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Handed {
    /// The writer will have it; here is an empty one.
    Taken(Batch),
    /// There was no room. It comes back, to be counted and reused.
    Full(Batch),
    /// The writer has failed.
    Gone,
}

/// The way to the writer.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
    empty: Receiver<Batch>,
    thread: JoinHandle<Result<Kept, RecordingError>>,
    /// Readable when the thread has ended.
    pub(super) ended: OwnedFd,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(recording: Recording) -> Result<Self, StartError> {
        let (queue, batches) = mpsc::sync_channel(QUEUE_BATCHES);
        let (give_back, empty) = mpsc::channel();
        let (waker, ended) = wake::pair()?;
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || write_all(recording, &batches, &give_back, waker))
            .map_err(|source| StartError::System {
                action: "start a thread",
                source,
            })?;
        Ok(Self {
            queue,
            empty,
            thread,
            ended,
        })
    }

    /// Gives the writer a batch, without waiting.
    pub(super) fn hand(&self, batch: Batch) -> Handed {
        match self.queue.try_send(Message::Batch(batch)) {
            Ok(()) => Handed::Taken(self.empty.try_recv().unwrap_or_default()),
            Err(TrySendError::Full(Message::Batch(batch))) => Handed::Full(batch),
            Err(_) => Handed::Gone,
        }
    }

    /// Gives it the last blocks, behind all that waits, if there is room; `Self::ended` tells when
    /// all is written.
    pub(super) fn end(&self, blocks: &[u8]) -> bool {
        !matches!(
            self.queue.try_send(Message::End(blocks.to_vec())),
            Err(TrySendError::Full(_))
        )
    }

    /// Waits for the thread.
    pub(super) fn join(self) -> Result<Kept, RecordingError> {
        drop(self.queue);
        match self.thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn write_all(
    mut recording: Recording,
    batches: &Receiver<Message>,
    give_back: &Sender<Batch>,
    waker: Waker,
) -> Result<Kept, RecordingError> {
    /// Wakes the main thread however this one ends.
    struct Ended(Waker);
    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.wake();
        }
    }
    let _ended = Ended(waker);
    loop {
        match batches.recv() {
            Ok(Message::Batch(mut batch)) => {
                recording.write(&batch.blocks, batch.packets, batch.newest_ns)?;
                batch.blocks.clear();
                batch.packets = 0;
                // The main thread may have gone meanwhile.
                let _ = give_back.send(batch);
            }
            Ok(Message::End(blocks)) => return recording.close(&blocks),
            Err(_) => return recording.close(&[]),
        }
    }
}
