//! NFQUEUE's netlink messages as bytes; no system call.
//!
//! A message is a netlink header, a netfilter header and attributes. Lengths and types of headers
//! are in host byte order, values of attributes in network byte order.

use intercept_lib::table::Verdict;
use std::ops::Range;

/// Length of a netlink header, in bytes.
const NETLINK_HEADER_LEN: usize = 16;
/// Length of a netlink header with the netfilter header, in bytes.
const HEADERS_LEN: usize = NETLINK_HEADER_LEN + 4;
/// Length of an attribute's header, in bytes.
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// Netlink's message type for errors and acknowledgements.
const TYPE_ERROR: u16 = libc::NLMSG_ERROR as u16;
/// Flags in an attribute's type.
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// What can be said to a queue when it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Config {
    /// Take the queue.
    Bind,
    /// Copy at most so many bytes of each packet.
    CopyRange(u32),
    /// Hold at most so many packets in the kernel.
    MaxLength(u32),
    /// Set these `NFQA_CFG_F_` flags.
    Flags(u32),
}

impl Config {
    /// The message, with an acknowledgement asked for.
    pub(super) fn encode(self, queue: u16) -> Vec<u8> {
        let mut message = Vec::with_capacity(64);
        begin(&mut message, libc::NFQNL_MSG_CONFIG, queue, libc::NLM_F_ACK);
        match self {
            Self::Bind => {
                let command = [libc::NFQNL_CFG_CMD_BIND as u8, 0, 0, 0];
                attribute(&mut message, libc::NFQA_CFG_CMD, &command);
            }
            Self::CopyRange(bytes) => {
                let [a, b, c, d] = bytes.to_be_bytes();
                let parameters = [a, b, c, d, libc::NFQNL_COPY_PACKET as u8];
                attribute(&mut message, libc::NFQA_CFG_PARAMS, &parameters);
            }
            Self::MaxLength(packets) => {
                attribute(
                    &mut message,
                    libc::NFQA_CFG_QUEUE_MAXLEN,
                    &packets.to_be_bytes(),
                );
            }
            Self::Flags(flags) => {
                attribute(&mut message, libc::NFQA_CFG_FLAGS, &flags.to_be_bytes());
                attribute(&mut message, libc::NFQA_CFG_MASK, &flags.to_be_bytes());
            }
        }
        finish(&mut message, 0);
        message
    }
}

/// Verdicts on packets in the order of their arrival, as few messages as can say them.
///
/// One message gives the same verdict to every packet up to a number, so a run of equal verdicts
/// costs one message. The kernel numbers packets from 1 on without gaps, so a number that is missed
/// belongs to a packet that could not be read, or that the kernel has dropped already: it is
/// dropped, lest the next verdict be its own.
#[derive(Debug)]
pub(super) struct Verdicts {
    queue: u16,
    messages: Vec<u8>,
    run: Option<(Verdict, u32)>,
    last_id: u32,
}

impl Verdicts {
    pub(super) const fn new(queue: u16) -> Self {
        Self {
            queue,
            messages: Vec::new(),
            run: None,
            last_id: 0,
        }
    }

    /// Adds the verdict on the next packet.
    pub(super) fn push(&mut self, id: u32, verdict: Verdict) {
        let missed_id = id.wrapping_sub(1);
        if missed_id != self.last_id {
            self.extend_run(missed_id, Verdict::Drop);
        }
        self.last_id = id;
        self.extend_run(id, verdict);
    }

    fn extend_run(&mut self, id: u32, verdict: Verdict) {
        if self.run.is_some_and(|(before, _)| before != verdict) {
            self.end_run();
        }
        self.run = Some((verdict, id));
    }

    /// The messages; empty when there was no verdict.
    pub(super) fn messages(&mut self) -> &[u8] {
        self.end_run();
        &self.messages
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.run = None;
    }

    fn end_run(&mut self) {
        let Some((verdict, last_id)) = self.run.take() else {
            return;
        };
        let verdict = match verdict {
            Verdict::Accept => libc::NF_ACCEPT as u32,
            Verdict::Drop => libc::NF_DROP as u32,
        };
        let start = self.messages.len();
        begin(
            &mut self.messages,
            libc::NFQNL_MSG_VERDICT_BATCH,
            self.queue,
            0,
        );
        let mut value = [0; 8];
        value[..4].copy_from_slice(&verdict.to_be_bytes());
        value[4..].copy_from_slice(&last_id.to_be_bytes());
        attribute(&mut self.messages, libc::NFQA_VERDICT_HDR, &value);
        finish(&mut self.messages, start);
    }
}

/// A message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A packet that awaits its verdict.
    Packet(PacketPlace),
    /// The answer to a request: 0 or an error number.
    Answer(i32),
    /// Something else.
    Other,
}

/// A packet, by where it lies in the buffer it was received in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PacketPlace {
    /// The kernel's number for it, for the verdict.
    pub(super) id: u32,
    /// The captured bytes, from the IP header on.
    pub(super) bytes: Range<usize>,
    /// The packet's length before it was cut to the copy range.
    pub(super) wire_len: usize,
}

/// Reads the message at the start of `buffer`; also returns its length with padding. `None` when
/// there is no whole message.
pub(super) fn read(buffer: &[u8]) -> Option<(Received, usize)> {
    let header = buffer.get(..NETLINK_HEADER_LEN)?;
    let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let message = buffer.get(..len).filter(|_| len >= NETLINK_HEADER_LEN)?;
    let received = match kind {
        TYPE_ERROR => {
            let code = message.get(NETLINK_HEADER_LEN..)?.first_chunk()?;
            Received::Answer(-i32::from_ne_bytes(*code))
        }
        kind if kind == message_type(libc::NFQNL_MSG_PACKET) => packet(message)?,
        _ => Received::Other,
    };
    Some((received, len.next_multiple_of(4)))
}

fn packet(message: &[u8]) -> Option<Received> {
    let mut place = PacketPlace::default();
    let mut id = None;
    let mut wire_len = None;
    let mut at = HEADERS_LEN;
    while let Some(&[l0, l1, t0, t1]) = message.get(at..).and_then(|rest| rest.first_chunk()) {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = at + ATTRIBUTE_HEADER_LEN..at + len;
        let Some(bytes) = message.get(value.clone()) else {
            break;
        };
        let number = || bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match i32::from(u16::from_ne_bytes([t0, t1]) & ATTRIBUTE_TYPE_MASK) {
            libc::NFQA_PACKET_HDR => id = number(),
            libc::NFQA_CAP_LEN => wire_len = number(),
            libc::NFQA_PAYLOAD => place.bytes = value,
            _ => {}
        }
        at += len.next_multiple_of(4);
    }
    place.id = id?;
    place.wire_len = wire_len.map_or(place.bytes.len(), |len| len as usize);
    Some(Received::Packet(place))
}

const fn message_type(kind: libc::c_int) -> u16 {
    (libc::NFNL_SUBSYS_QUEUE << 8 | kind) as u16
}

fn begin(out: &mut Vec<u8>, kind: libc::c_int, queue: u16, flags: libc::c_int) {
    out.extend([0; 4]);
    out.extend(message_type(kind).to_ne_bytes());
    out.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    out.extend([0; 8]);
    out.extend([libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8]);
    out.extend(queue.to_be_bytes());
}

fn attribute(out: &mut Vec<u8>, kind: libc::c_int, value: &[u8]) {
    out.extend(((ATTRIBUTE_HEADER_LEN + value.len()) as u16).to_ne_bytes());
    out.extend((kind as u16).to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Fills in the length of the message that begins at `start`.
fn finish(out: &mut [u8], start: usize) {
    let len = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&len.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_message(id: u32, payload: &[u8], cap_len: Option<u32>) -> Vec<u8> {
        let mut message = Vec::new();
        begin(&mut message, libc::NFQNL_MSG_PACKET, 3, 0);
        let mut header = id.to_be_bytes().to_vec();
        header.extend([8, 0, 3]);
        attribute(&mut message, libc::NFQA_PACKET_HDR, &header);
        attribute(&mut message, libc::NFQA_IFINDEX_OUTDEV, &[0, 0, 0, 2]);
        if let Some(len) = cap_len {
            attribute(&mut message, libc::NFQA_CAP_LEN, &len.to_be_bytes());
        }
        attribute(&mut message, libc::NFQA_PAYLOAD, payload);
        finish(&mut message, 0);
        message
    }

    #[test]
    fn a_packet_is_found_with_its_length_on_the_wire() {
        for (cap_len, wire_len) in [(None, 7), (Some(1500), 1500)] {
            let mut bytes = packet_message(9, b"payload", cap_len);
            let len = bytes.len();
            bytes.extend([0xee; 9]);
            let Some((Received::Packet(place), read_len)) = read(&bytes) else {
                panic!()
            };
            assert_eq!((place.id, place.wire_len, read_len), (9, wire_len, len));
            assert_eq!(&bytes[place.bytes], b"payload");
        }
    }

    #[test]
    fn cut_messages_are_no_messages() {
        let bytes = packet_message(9, b"payload", None);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None, "{end}");
        }
        let mut lying = bytes;
        lying[..4].copy_from_slice(&3u32.to_ne_bytes());
        assert_eq!(read(&lying), None);
    }

    #[test]
    fn answers_carry_the_error_number() {
        let mut message = Vec::new();
        message.extend(36u32.to_ne_bytes());
        message.extend(TYPE_ERROR.to_ne_bytes());
        message.extend([0; 10]);
        message.extend((-libc::EPERM).to_ne_bytes());
        message.extend([0; 16]);
        assert_eq!(read(&message), Some((Received::Answer(libc::EPERM), 36)));
    }

    /// Verdicts (0 is drop, 1 is accept) with the last number of each run.
    fn said(messages: &[u8]) -> Vec<(u32, u32)> {
        let said = messages.chunks(32).map(|m| {
            let number = |at: usize| u32::from_be_bytes(m[at..at + 4].try_into().unwrap());
            (number(24), number(28))
        });
        said.collect()
    }

    #[test]
    fn a_packet_that_could_not_be_read_is_dropped_whatever_follows() {
        let mut verdicts = Verdicts::new(3);
        for id in [1, 2, 5, 6] {
            verdicts.push(id, Verdict::Accept);
        }
        assert_eq!(said(verdicts.messages()), [(1, 2), (0, 4), (1, 6)]);
        verdicts.clear();
        verdicts.push(8, Verdict::Accept);
        assert_eq!(said(verdicts.messages()), [(0, 7), (1, 8)]);
    }

    #[test]
    fn a_run_of_equal_verdicts_is_one_message() {
        let mut verdicts = Verdicts::new(3);
        assert!(verdicts.messages().is_empty());
        for id in 1..=64 {
            verdicts.push(id, Verdict::Drop);
        }
        assert_eq!(verdicts.messages().len(), 32);
        verdicts.push(65, Verdict::Drop);
        verdicts.push(66, Verdict::Accept);
        verdicts.push(67, Verdict::Drop);
        assert_eq!(
            said(verdicts.messages()),
            [(0, 64), (0, 65), (1, 66), (0, 67)]
        );
        verdicts.clear();
        assert!(verdicts.messages().is_empty());
    }
}
