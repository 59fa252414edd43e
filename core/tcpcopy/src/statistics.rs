//! The figures of a run while it lasts: a line on a terminal, lines in the log.

use std::time::{Duration, Instant};

use tcpcopy_engine::{DelayHistogram, DropReason, Gauges, Ledger};
use tcpcopy_net::raw::SendCounters;

use crate::player::{Lateness, Player, Progress, ReadCounters};
use crate::tunnel::TunnelCounters;

/// The figures of one lane at one moment, or a sum of such.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The account of all that was captured; send errors and ring drops included.
    pub ledger: Ledger,
    /// What the engine holds.
    pub gauges: Gauges,
    /// Most sessions that lived at once; of a sum the sum of their maxima.
    pub sessions_high_water: u64,
    /// How long requests waited before they left.
    pub send_delay: DelayHistogram,
    /// Packets given to the kernel.
    pub sent: SendCounters,
    /// The tunnels; intercepts up are those of the shard that has the fewest.
    pub tunnel: TunnelCounters,
}

/// The figures of a shard, or of all, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Those of each lane, in the order of `-x`.
    pub lanes: Vec<Figures>,
    /// Those of capture files.
    pub play: Option<PlayFigures>,
}

/// How far the capture files are, and how late.
#[derive(Clone, Debug)]
pub struct PlayFigures {
    /// How far.
    pub progress: Progress,
    /// How late.
    pub lateness: Lateness,
    /// What the files held beside the packets handed out.
    pub read: ReadCounters,
}

impl PlayFigures {
    /// Those of a player at a moment.
    #[must_use]
    pub fn new(player: &Player, now: Instant) -> Self {
        Self {
            progress: player.progress(now),
            lateness: player.lateness().clone(),
            read: player.counters(),
        }
    }

    /// Adds another shard's figures. All read the same files, each for its own packets, so progress
    /// is that of whoever handed out the latest.
    fn add(&mut self, other: &Self) {
        let packets = self.progress.packets + other.progress.packets;
        let place = |progress: &Progress| (progress.round, progress.captured);
        if place(&other.progress) > place(&self.progress) {
            self.progress = other.progress;
        }
        self.progress.packets = packets;
        self.lateness.merge(&other.lateness);
        self.read.cut_short += other.read.cut_short;
    }
}

impl Snapshot {
    /// The sum over shards, lane by lane.
    #[must_use]
    pub fn sum<'a>(shards: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for shard in shards {
            match (&mut sum.play, &shard.play) {
                (Some(play), Some(other)) => play.add(other),
                (None, other) => sum.play.clone_from(other),
                (Some(_), None) => {}
            }
            for (index, figures) in shard.lanes.iter().enumerate() {
                match sum.lanes.get_mut(index) {
                    Some(lane) => lane.add_shard(figures),
                    None => sum.lanes.push(figures.clone()),
                }
            }
        }
        sum
    }

    /// The sum over lanes. All lanes hear the same capture, one that has ended no more of it: its
    /// figures are those of the lane that has heard the most.
    #[must_use]
    pub fn total(&self) -> Figures {
        let mut lanes = self.lanes.iter();
        let mut total = lanes.next().cloned().unwrap_or_default();
        let mut capture = total.ledger.capture;
        for lane in lanes {
            if lane.ledger.capture.packets > capture.packets {
                capture = lane.ledger.capture;
            }
            total.add(lane);
            total.tunnel.intercepts_up += lane.tunnel.intercepts_up;
            total.tunnel.intercepts += lane.tunnel.intercepts;
        }
        total.ledger.capture = capture;
        total
    }
}

impl Figures {
    /// Adds the same lane's figures of another shard.
    fn add_shard(&mut self, other: &Self) {
        self.add(other);
        let intercepts_up = &mut self.tunnel.intercepts_up;
        *intercepts_up = (*intercepts_up).min(other.tunnel.intercepts_up);
    }

    fn add(&mut self, other: &Self) {
        self.ledger.merge(&other.ledger);
        self.gauges.connections += other.gauges.connections;
        self.gauges.sessions += other.gauges.sessions;
        self.gauges.buffered_bytes += other.gauges.buffered_bytes;
        self.gauges.hurried_sessions += other.gauges.hurried_sessions;
        self.sessions_high_water += other.sessions_high_water;
        self.send_delay.merge(&other.send_delay);
        self.sent.packets += other.sent.packets;
        self.sent.bytes += other.sent.bytes;
        self.tunnel.losses += other.tunnel.losses;
        self.tunnel.overflowed_replies += other.tunnel.overflowed_replies;
        self.tunnel.conflicts += other.tunnel.conflicts;
    }

    /// Requests dropped for a reason that the user did not ask for.
    fn requests_lost(&self) -> u64 {
        let requests = &self.ledger.requests;
        requests.dropped_total() - requests.dropped_by_choice()
    }
}

/// One line for a terminal, without the line's end.
#[must_use]
pub fn status_line(now: &Figures, before: &Figures, since: Duration) -> String {
    let requests = &now.ledger.requests;
    let delivered = requests
        .delivered
        .saturating_sub(before.ledger.requests.delivered);
    let rate = delivered as f64 / since.as_secs_f64().max(0.001);
    let intercepts = match now.tunnel.intercepts {
        0 => String::new(),
        _ => format!("  intercepts {}", now.tunnel.intercepts_up),
    };
    format!(
        "sessions {}  requests {} delivered {} lost {}  {rate:.0}/s  held {}  kernel drops {}\
         {intercepts}",
        now.gauges.sessions,
        requests.captured,
        requests.delivered,
        now.requests_lost(),
        bytes(now.gauges.buffered_bytes),
        now.ledger.capture.ring_dropped,
    )
}

/// Writes the figures to the log: first in the words of tcpcopy 1.3, which people search for, then
/// in ours, as fields.
pub fn log(now: &Figures, before: &Figures) {
    let Figures { ledger, gauges, .. } = now;
    let connections = &ledger.connections;
    let dropped = |reason: DropReason| connections.dropped[reason];
    let obsolete = dropped(DropReason::TargetSilent) + dropped(DropReason::IdleTimeout);
    let released = connections.captured.saturating_sub(connections.in_flight());
    tracing::info!(
        "active:{},rel:{released},obs del:{obsolete}",
        gauges.sessions
    );
    tracing::info!(
        "conns:{},resp packs:{},send Packets:{},retransmit:{}",
        connections.delivered,
        ledger.upstream.replies,
        now.sent.packets,
        ledger.upstream.retransmitted_segments,
    );
    tracing::info!(
        "all clt:{},all clt packs:{}",
        connections.captured,
        ledger.capture.client_segments
    );
    tracing::info!(
        requests = ledger.requests.captured,
        delivered = ledger.requests.delivered,
        answered = ledger.answered_requests,
        lost = now.requests_lost(),
        bytes = ledger.bytes.captured,
        held_bytes = gauges.buffered_bytes,
        intercepts_up = now.tunnel.intercepts_up,
        "statistics"
    );
    warn_of_losses(now, before);
}

/// One line for each kind of trouble that has grown.
fn warn_of_losses(now: &Figures, before: &Figures) {
    let ring_dropped = now.ledger.capture.ring_dropped;
    if ring_dropped > before.ledger.capture.ring_dropped {
        tracing::warn!(
            ring_dropped,
            "the kernel dropped packets; a larger ring (-B) helps"
        );
    }
    let own_replay = now.ledger.capture.own_replay;
    if own_replay > before.ledger.capture.own_replay {
        tracing::warn!(
            own_replay,
            "connections of this replay were captured again, and are left alone: {}",
            DropReason::OwnReplay.describe()
        );
    }
    let errors = &now.ledger.send_errors;
    if errors.total() > before.ledger.send_errors.total() {
        tracing::warn!(
            not_permitted = errors.not_permitted,
            no_buffers = errors.no_buffers,
            too_large = errors.too_large,
            unreachable = errors.unreachable,
            other = errors.other,
            "packets could not be sent; they are sent again"
        );
    }
    if now.tunnel.overflowed_replies > before.tunnel.overflowed_replies {
        let replies = now.tunnel.overflowed_replies;
        tracing::warn!(
            replies,
            "intercept dropped replies that were not read fast enough"
        );
    }
    let requests = &now.ledger.requests.dropped;
    let unwanted = DropReason::ALL
        .into_iter()
        .filter(|reason| !reason.is_by_choice());
    for reason in unwanted.filter(|&r| requests[r] > before.ledger.requests.dropped[r]) {
        let count = requests[reason];
        tracing::warn!(
            reason = reason.name(),
            count,
            "requests lost: {}",
            reason.describe()
        );
    }
}

/// A number of bytes for people.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(captured: u64, delivered: u64) -> Figures {
        let mut figures = Figures::default();
        figures.ledger.capture.packets = captured;
        figures.ledger.requests.capture(captured);
        figures.ledger.requests.deliver(delivered);
        figures.ledger.requests.drop(DropReason::NotSelected, 1);
        figures.ledger.requests.drop(DropReason::TargetReset, 2);
        figures.gauges.sessions = 5;
        figures.tunnel.intercepts = 1;
        figures.tunnel.intercepts_up = 1;
        figures
    }

    #[test]
    fn shards_add_up_lane_by_lane() {
        let shard = |lanes: &[Figures]| Snapshot {
            lanes: lanes.to_vec(),
            play: None,
        };
        let mut lonely = figures(4, 1);
        lonely.tunnel.intercepts_up = 0;
        let sum = Snapshot::sum([
            &shard(&[figures(10, 7), figures(10, 5)]),
            &shard(&[lonely, figures(4, 4)]),
        ]);
        let requests = |figures: &Figures| figures.ledger.requests;
        assert_eq!(sum.lanes.len(), 2);
        assert_eq!(
            (
                requests(&sum.lanes[0]).captured,
                requests(&sum.lanes[0]).delivered
            ),
            (14, 8)
        );
        assert_eq!(requests(&sum.lanes[1]).delivered, 9);
        assert_eq!(
            (
                sum.lanes[0].gauges.sessions,
                sum.lanes[0].tunnel.intercepts_up
            ),
            (10, 0)
        );
        assert_eq!(Snapshot::sum([]).total().ledger.requests.captured, 0);
    }

    #[test]
    fn lanes_add_up_but_hear_one_capture() {
        let snapshot = Snapshot {
            lanes: vec![figures(10, 7), figures(10, 5)],
            play: None,
        };
        let total = snapshot.total();
        assert_eq!(total.ledger.requests.captured, 20);
        assert_eq!(total.ledger.capture.packets, 10);
        assert_eq!(total.tunnel.intercepts_up, 2);
        let one_has_ended = Snapshot {
            lanes: vec![figures(10, 7), figures(90, 5), figures(80, 5)],
            play: None,
        };
        assert_eq!(one_has_ended.total().ledger.capture.packets, 90);
    }

    #[test]
    fn the_status_line_tells_rate_and_losses() {
        let line = status_line(
            &figures(300, 250),
            &figures(100, 50),
            Duration::from_secs(2),
        );
        assert_eq!(
            line,
            "sessions 5  requests 300 delivered 250 lost 2  100/s  held 0 B  kernel drops 0  \
             intercepts 1"
        );
    }

    #[test]
    fn bytes_for_people() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(24 << 20), "24.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }
}
