//! What a connection of the model target sends.

use tcpcopy_packet::{Segment, TcpFlags, TcpOptions, Timestamps};

use super::Connection;
use crate::events::{MILLISECOND_US, Micros};
use crate::target::send::Transmit;
use crate::wire::Header;

impl Connection {
    pub(super) fn send_syn_ack(&mut self, now_us: Micros) {
        self.sender.next = 1;
        self.sender.highest = self.sender.highest.max(1);
        self.send_at(now_us, 0, 0, TcpFlags::SYN | TcpFlags::ACK);
        let (header, _) = self.out.last_mut().expect("just sent");
        header.options.mss = Some(self.config.mss);
        header.options.window_scale = self.config.window_scale.filter(|_| self.scaled);
        header.options.sack_permitted = self.sack;
    }

    pub(super) fn send_range(&mut self, now_us: Micros, range: Transmit) {
        let mut flags = TcpFlags::ACK;
        if range.bytes > 0 {
            flags = flags | TcpFlags::PSH;
        }
        if range.fin {
            flags = flags | TcpFlags::FIN;
        }
        let bytes = u32::try_from(range.bytes).expect("one segment");
        self.send_at(now_us, range.offset, bytes, flags);
    }

    pub(super) fn acknowledge(&mut self, now_us: Micros) {
        self.send_at(now_us, self.sender.next, 0, TcpFlags::ACK);
    }

    pub(super) fn send_at(
        &mut self,
        now_us: Micros,
        offset: u64,
        payload_len: u32,
        flags: TcpFlags,
    ) {
        self.ack_at_us = None;
        self.unacknowledged_segments = 0;
        self.acknowledged = self.receiver.next;
        let is_syn = flags.contains(TcpFlags::SYN);
        let mut options = TcpOptions::default();
        if self.timestamps {
            let value = self.clock_offset.wrapping_add(clock_ms(now_us));
            options.timestamps = Some(Timestamps {
                value,
                echo: self.recent,
            });
        }
        if self.sack && !is_syn {
            options.sack = self
                .receiver
                .sack_blocks(if self.timestamps { 3 } else { 4 });
        }
        let window = self.receiver.window_field(self.app.read, is_syn);
        let header = Header {
            tuple: self.tuple,
            seq: self.sender.seq_at(offset),
            ack: self.receiver.next_seq(),
            flags,
            window,
            options,
            payload_len,
        };
        let payload = match self.config.speaks {
            true => self.sender.said(offset, payload_len),
            false => Vec::new(),
        };
        self.out.push((header, payload));
    }

    pub(super) fn answer_with_reset(&mut self, segment: &Segment<'_>) {
        self.send_reset(segment.ack);
    }

    pub(super) fn send_reset(&mut self, seq: u32) {
        let header = Header {
            tuple: self.tuple,
            seq,
            ack: self.receiver.next_seq(),
            flags: TcpFlags::RST | TcpFlags::ACK,
            window: 0,
            options: TcpOptions::default(),
            payload_len: 0,
        };
        self.out.push((header, Vec::new()));
    }
}

fn clock_ms(now_us: Micros) -> u32 {
    u32::try_from((now_us / MILLISECOND_US) & u64::from(u32::MAX)).expect("masked")
}
