//! The line of statistics.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::shared::Shared;

/// Where the kernel tells how its queues fare.
const QUEUES: &str = "/proc/net/netfilter/nfnetlink_queue";

/// Writes a line of statistics once an interval.
#[derive(Debug)]
pub(crate) struct Statistics {
    interval: Duration,
    next_at: Option<Instant>,
    /// The queues of this process; none on an assistant.
    queues: std::ops::Range<u32>,
}

impl Statistics {
    /// A line each `interval`; none if that is zero.
    pub(crate) const fn new(interval: Duration, queues: std::ops::Range<u32>) -> Self {
        Self {
            interval,
            next_at: None,
            queues,
        }
    }

    /// Writes the line if it is due.
    pub(crate) fn tick(&mut self, now: Instant, shared: &Shared, links: usize) {
        if self.interval.is_zero() {
            return;
        }
        match self.next_at {
            Some(at) if now < at => return,
            Some(_) => self.log(shared, links),
            None => {}
        }
        self.next_at = Some(now + self.interval);
    }

    /// Writes the line.
    pub(crate) fn log(&self, shared: &Shared, links: usize) {
        let table = shared.table().counts();
        let counters = &shared.counters;
        let kernel = kernel_drops(&self.queues);
        tracing::info!(
            links,
            sessions = table.sessions,
            tombstones = table.tombstones,
            registered = table.registered,
            conflicts = table.conflicts,
            session_packets = table.session_packets,
            late_packets = table.late_packets,
            foreign_packets = table.foreign_packets,
            passed = counters.passed.load(Relaxed),
            unreadable = counters.unreadable.load(Relaxed),
            reported = counters.reported.load(Relaxed),
            unreported = counters.unreported.load(Relaxed),
            resets = table.resets,
            resets_sent = shared.resetter.sent(),
            queue_full = kernel.queue_full,
            buffer_full = kernel.buffer_full,
            overruns = counters.overruns.load(Relaxed),
            ring_drops = counters.ring_drops.load(Relaxed),
            "statistics"
        );
    }
}

/// Packets that the kernel dropped because they were not taken fast enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct KernelDrops {
    /// The queue had its length.
    queue_full: u64,
    /// The socket's buffer had no room.
    buffer_full: u64,
}

fn kernel_drops(queues: &std::ops::Range<u32>) -> KernelDrops {
    if queues.is_empty() {
        return KernelDrops::default();
    }
    parse_drops(&fs::read_to_string(QUEUES).unwrap_or_default(), queues)
}

/// Sums up the columns: queue, port, waiting, copy mode, copy range, queue drops, user drops, …
fn parse_drops(table: &str, queues: &std::ops::Range<u32>) -> KernelDrops {
    let mut drops = KernelDrops::default();
    for line in table.lines() {
        let columns: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        if let [queue, _, _, _, _, queue_drops, user_drops, ..] = columns[..]
            && u32::try_from(queue).is_ok_and(|queue| queues.contains(&queue))
        {
            drops.queue_full += queue_drops;
            drops.buffer_full += user_drops;
        }
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_our_queues_are_summed_up() {
        let table = "    0  31621     0 2   128     5     7      100  1\n\
                     \x20   1  31622     0 2   128     1     2      100  1\n\
                     \x20   9  31700     0 2   128    50    50      100  1\n";
        assert_eq!(
            parse_drops(table, &(0..2)),
            KernelDrops {
                queue_full: 6,
                buffer_full: 9
            }
        );
        assert_eq!(
            parse_drops("nonsense\n1 2\n", &(0..2)),
            KernelDrops::default()
        );
    }
}
