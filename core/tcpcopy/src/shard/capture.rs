//! The capture side of a shard: from ring blocks to segments.

use intercept_lib::LogGate;
use tcpcopy_engine::CaptureEvent;
use tcpcopy_net::ring::CaptureRing;
use tcpcopy_packet::{PacketError, Segment, TcpFlags};

use super::lane::Lane;
use crate::devices::look_at_devices;
use crate::traffic::Sides;

/// The rings of a shard, one for each device.
#[derive(Debug)]
pub(super) struct CaptureSource {
    rings: Vec<CaptureRing>,
    /// Says what is left out where both directions are captured.
    sides: Option<Sides>,
    /// Drops already told to the engine.
    told_drops: u64,
    log_gate: LogGate,
}

impl CaptureSource {
    pub(super) fn new(rings: Vec<CaptureRing>, sides: Option<Sides>) -> Self {
        Self {
            rings,
            sides,
            told_drops: 0,
            log_gate: LogGate::default(),
        }
    }

    pub(super) fn rings(&self) -> &[CaptureRing] {
        &self.rings
    }

    /// Gives every lane what the kernel has handed over, of each ring at most one lap: all that was
    /// there at the call. The answer is whether there may be more by now, since the kernel can fill
    /// a ring as fast as it is read, and nothing else would ever get its turn.
    pub(super) fn read(&mut self, lanes: &mut [Lane], time: tcpcopy_engine::Instant) -> bool {
        let mut may_have_more = false;
        for ring in &mut self.rings {
            let mut left = ring.block_count();
            while left > 0
                && let Some(block) = ring.next_block()
            {
                left -= 1;
                for packet in &block {
                    let sides = self.sides.as_ref();
                    if sides.is_some_and(|sides| !sides.is_wanted(packet.packet, packet.kind)) {
                        continue;
                    }
                    hear_packet(lanes, time, packet.packet);
                }
            }
            may_have_more |= left == 0;
        }
        may_have_more
    }

    /// Tells the lanes what the kernel has dropped since the last call.
    pub(super) fn count_ring_drops(&mut self, lanes: &mut [Lane]) {
        let statistics = self.rings.iter_mut().map(CaptureRing::statistics);
        let dropped: u64 = statistics.map(|s| s.map_or(0, |s| s.dropped)).sum();
        let new = dropped.saturating_sub(self.told_drops);
        if new > 0 {
            self.told_drops = dropped;
            for lane in lanes {
                lane.engine.capture_event(CaptureEvent::RingDropped(new));
            }
        }
    }

    /// Stops capturing, for good.
    pub(super) fn close(&mut self, lanes: &mut [Lane]) {
        self.count_ring_drops(lanes);
        self.rings.clear();
        self.told_drops = 0;
    }

    /// Says what became of the devices after a ring has reported an error, and clears it.
    pub(super) fn look_at_devices(&mut self) {
        look_at_devices(&mut self.rings, &mut self.log_gate);
    }
}

/// Gives every lane a captured IP packet.
pub(super) fn hear_packet(lanes: &mut [Lane], time: tcpcopy_engine::Instant, packet: &[u8]) {
    match Segment::parse(packet) {
        Ok(segment) => {
            let may_be_own = lanes.len() > 1 && segment.flags.contains(TcpFlags::SYN);
            let is_own = may_be_own
                && lanes
                    .iter_mut()
                    .any(|lane| lane.engine.is_own(time, &segment));
            for lane in lanes {
                match is_own {
                    // One lane's own would be another's to replay.
                    true => lane.engine.leave_alone(time, &segment),
                    false => lane.engine.segment(time, &segment),
                }
            }
        }
        Err(error) => {
            for lane in lanes {
                lane.engine.capture_event(event(error));
            }
        }
    }
}

fn event(error: PacketError) -> CaptureEvent {
    match error {
        PacketError::Fragment => CaptureEvent::Fragment,
        PacketError::NotTcp(_) => CaptureEvent::NotTcp,
        PacketError::NotIp | PacketError::Truncated(_) | PacketError::HeaderLength(_) => {
            CaptureEvent::Malformed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parse_error_has_its_counter() {
        assert_eq!(event(PacketError::Fragment), CaptureEvent::Fragment);
        assert_eq!(event(PacketError::NotTcp(17)), CaptureEvent::NotTcp);
        for error in [
            PacketError::NotIp,
            PacketError::Truncated("TCP header"),
            PacketError::HeaderLength("TCP"),
        ] {
            assert_eq!(event(error), CaptureEvent::Malformed);
        }
    }
}
