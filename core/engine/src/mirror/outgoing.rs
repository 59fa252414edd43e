//! Segments for the target, written as packets.

use tcpcopy_packet::{MirrorSeq, SegmentBuilder, TcpFlags, TcpOptions, Timestamps};

use super::send::Transmission;
use super::{HOP_LIMIT, Mirror};
use crate::time::Instant;

impl Mirror {
    pub(super) fn write_transmission(
        &mut self,
        now: Instant,
        transmission: &Transmission,
        packet: &mut Vec<u8>,
    ) {
        let mut flags = TcpFlags::ACK;
        if transmission.push {
            flags = flags | TcpFlags::PSH;
        }
        if transmission.fin {
            flags = flags | TcpFlags::FIN;
        }
        let seq = self.seq_at(transmission.start);
        self.write(now, flags, seq, Some(transmission), packet);
    }

    /// Writes one segment of a synchronized state.
    pub(super) fn write(
        &mut self,
        now: Instant,
        flags: TcpFlags,
        seq: MirrorSeq,
        transmission: Option<&Transmission>,
        packet: &mut Vec<u8>,
    ) {
        let mut options = TcpOptions::default();
        if self.timestamps {
            options.timestamps = Some(Timestamps {
                value: self.timestamp_value(now),
                echo: self.receive.ts_recent().value(),
            });
        }
        // Only on bare acknowledgements: there they can't push a data segment over the MTU.
        if self.sack && transmission.is_none() {
            options.sack = self.receive.sack_blocks();
        }
        let header = SegmentBuilder {
            tuple: self.tuple,
            seq: seq.value(),
            ack: self.receive.next().value(),
            flags,
            window: self.window,
            options,
            identification: self.next_identification(),
            hop_limit: HOP_LIMIT,
        };
        let written = match transmission {
            Some(transmission) => header.write(self.send.read(transmission), packet),
            None => header.write(std::iter::empty(), packet),
        };
        written.expect("a session's tuple has one family, and its segments fit the MTU");
        self.receive.note_acknowledged();
    }

    pub(super) fn timestamp_value(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.timestamp_offset)
    }

    pub(super) fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }
}
