//! The packet threads: each takes packets from its queue or its ring, forever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tcpcopy_net::NetError;
use tcpcopy_net::ring::{CaptureRing, RingConfig};

use crate::dispatcher::Dispatcher;
use crate::error::Error;
use crate::queue::{Batch, Queue};
use crate::shared::Shared;

/// Bytes captured of each packet when no payload is wanted: the longest IP and TCP headers.
const SNAPLEN_HEADERS: u32 = 128;
/// Longest wait for packets of a ring before its counters are read.
const RING_WAIT: Duration = Duration::from_millis(500);

/// Judges the packets of a queue until the queue fails.
pub(crate) fn serve_queue(mut queue: Queue, shared: &Arc<Shared>) -> Error {
    let mut dispatcher = Dispatcher::new(Arc::clone(shared));
    let number = queue.number();
    loop {
        if let Err(error) = serve_batch(&mut queue, &mut dispatcher, shared) {
            return Error::io(format!("serve queue {number}"), error);
        }
    }
}

fn serve_batch(queue: &mut Queue, dispatcher: &mut Dispatcher, shared: &Shared) -> io::Result<()> {
    queue.copy_payload(shared.links.payload_wanted())?;
    if queue.receive()? == Batch::Overrun {
        shared.counters.overruns.fetch_add(1, Relaxed);
        return Ok(());
    }
    let verdicts = dispatcher.judge(queue.packets());
    queue.conclude(verdicts)?;
    dispatcher.deliver();
    Ok(())
}

/// Opens the ring of an assistant.
///
/// # Errors
/// [`NetError`].
pub(crate) fn open_ring(config: &RingConfig, payload: bool) -> Result<CaptureRing, NetError> {
    let snaplen = if payload {
        config.snaplen
    } else {
        SNAPLEN_HEADERS
    };
    CaptureRing::open(&RingConfig {
        snaplen,
        ..config.clone()
    })
}

/// Reports the packets of a ring until the ring fails.
pub(crate) fn serve_ring(
    mut ring: CaptureRing,
    config: &RingConfig,
    shared: &Arc<Shared>,
) -> Error {
    let mut dispatcher = Dispatcher::new(Arc::clone(shared));
    let mut payload = false;
    let mut drops_before = 0;
    loop {
        if payload != shared.links.payload_wanted() {
            payload = !payload;
            ring = match open_ring(config, payload) {
                Ok(ring) => ring,
                Err(error) => return error.into(),
            };
            drops_before = 0;
        }
        while let Some(block) = ring.next_block() {
            let packets = block.packets().map(|p| (p.packet, p.original_len as usize));
            // What is not forwarded goes nowhere: the verdict is the routing's.
            dispatcher.judge(packets);
            dispatcher.deliver();
        }
        if let Err(error) = wait(&mut ring) {
            return error.into();
        }
        if let Ok(statistics) = ring.statistics() {
            let new = statistics.dropped.saturating_sub(drops_before);
            drops_before = statistics.dropped;
            shared.counters.ring_drops.fetch_add(new, Relaxed);
        }
    }
}

fn wait(ring: &mut CaptureRing) -> Result<(), NetError> {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(RING_WAIT.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&*ring, PollFlags::IN)];
    let ready = poll(&mut fds, Some(&timeout));
    let failed = fds[0].revents().contains(PollFlags::ERR);
    if ready.is_ok() && failed {
        // A device that is down comes back, or doesn't; the capture goes on either way.
        ring.device_change()?;
    }
    Ok(())
}
