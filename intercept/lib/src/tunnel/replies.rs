//! Reply records: what the target sent, as intercept reports it.

use std::ops::Range;

use tcpcopy_packet::TcpFlags;

use super::channel::MAX_BODY_LEN;
use crate::wire::{Malformed, Reader};

/// Bytes of a record before its TCP header.
const RECORD_HEADER_LEN: usize = 15;
/// Most payload bytes in one record: a segment with more is reported in several.
const MAX_PAYLOAD_LEN: usize = 32 << 10;
/// Where the flags stand in a TCP header.
const FLAGS_OFFSET: usize = 13;

/// One segment of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyRecord<'a> {
    /// The session, by the number it was registered with.
    pub session: u64,
    /// The payload's length on the wire, in bytes.
    pub payload_len: u32,
    /// The TCP header with its options, 20 to 60 bytes.
    pub tcp: &'a [u8],
    /// The payload: all `payload_len` bytes of it when the link asked for payload, else none.
    pub payload: &'a [u8],
}

/// Reply records of one link, encoded one after the other.
#[derive(Debug, Default)]
pub struct ReplyBatch {
    bytes: Vec<u8>,
    count: u64,
}

impl ReplyBatch {
    /// Adds a segment of which only the header is reported. `tcp` is the TCP header alone.
    pub fn push(&mut self, session: u64, payload_len: u32, tcp: &[u8]) {
        self.encode(session, payload_len, tcp, &[]);
    }

    /// Adds a segment with its payload. What was not captured is not reported: the segment then
    /// looks shorter than it was and without its FIN, so that the target sends the rest again.
    pub fn push_with_payload(&mut self, session: u64, payload_len: u32, tcp: &[u8], data: &[u8]) {
        let complete = data.len() == payload_len as usize;
        if complete && data.len() <= MAX_PAYLOAD_LEN {
            return self.encode(session, payload_len, tcp, data);
        }
        let mut header = [0; 60];
        let Some(header) = header.get_mut(..tcp.len()) else {
            return;
        };
        header.copy_from_slice(tcp);
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let pieces = data.len().div_ceil(MAX_PAYLOAD_LEN);
        for (index, piece) in data.chunks(MAX_PAYLOAD_LEN).enumerate() {
            let offset = index * MAX_PAYLOAD_LEN;
            header[4..8].copy_from_slice(&seq.wrapping_add(offset as u32).to_be_bytes());
            header[FLAGS_OFFSET] = tcp[FLAGS_OFFSET];
            if index + 1 < pieces || !complete {
                header[FLAGS_OFFSET] &= !(TcpFlags::FIN | TcpFlags::PSH).bits();
            }
            self.encode(session, piece.len() as u32, header, piece);
        }
    }

    /// Records in the batch.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all records, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// The records in runs that fit a frame's body each.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let run = run_len(rest);
            let (body, tail) = rest.split_at(run);
            rest = tail;
            (run > 0).then_some(body)
        })
    }

    fn encode(&mut self, session: u64, payload_len: u32, tcp: &[u8], payload: &[u8]) {
        let (Ok(tcp_len), Ok(data_len)) = (u8::try_from(tcp.len()), u16::try_from(payload.len()))
        else {
            return;
        };
        self.bytes.extend(session.to_be_bytes());
        self.bytes.extend(payload_len.to_be_bytes());
        self.bytes.push(tcp_len);
        self.bytes.extend(data_len.to_be_bytes());
        self.bytes.extend_from_slice(tcp);
        self.bytes.extend_from_slice(payload);
        self.count += 1;
    }
}

/// How many bytes of `records` make the longest run of whole records that fits a frame.
fn run_len(records: &[u8]) -> usize {
    if records.len() <= MAX_BODY_LEN {
        return records.len();
    }
    let mut end = 0;
    while let Ok(record) = decode_record(records, end) {
        if record.next > MAX_BODY_LEN {
            break;
        }
        end = record.next;
    }
    end
}

/// Where a record's parts lie in the buffer it was read from.
#[derive(Clone, Debug)]
pub(super) struct RecordPlace {
    pub(super) session: u64,
    pub(super) payload_len: u32,
    pub(super) tcp: Range<usize>,
    pub(super) payload: Range<usize>,
    /// Where the next record starts.
    pub(super) next: usize,
}

/// Reads the record at `start`.
pub(super) fn decode_record(bytes: &[u8], start: usize) -> Result<RecordPlace, Malformed> {
    let mut reader = Reader(bytes.get(start..).ok_or(Malformed)?);
    let session = reader.u64()?;
    let payload_len = reader.u32()?;
    let tcp_len = usize::from(reader.u8()?);
    let data_len = usize::from(reader.u16()?);
    reader.take(tcp_len)?;
    reader.take(data_len)?;
    if !(20..=60).contains(&tcp_len) || data_len > payload_len as usize {
        return Err(Malformed);
    }
    let tcp = start + RECORD_HEADER_LEN..start + RECORD_HEADER_LEN + tcp_len;
    let payload = tcp.end..tcp.end + data_len;
    let next = payload.end;
    Ok(RecordPlace {
        session,
        payload_len,
        tcp,
        payload,
        next,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: TcpFlags) -> [u8; 20] {
        let mut tcp = [0; 20];
        tcp[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        tcp[12] = 5 << 4;
        tcp[FLAGS_OFFSET] = flags.bits();
        tcp
    }

    fn records(batch: &ReplyBatch) -> Vec<(u32, u8, Vec<u8>)> {
        let mut found = Vec::new();
        for body in batch.bodies() {
            let mut at = 0;
            while at < body.len() {
                let place = decode_record(body, at).expect("whole records in each body");
                let tcp = &body[place.tcp];
                let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
                assert_eq!(place.payload_len as usize, place.payload.len());
                found.push((seq, tcp[FLAGS_OFFSET], body[place.payload].to_vec()));
                at = place.next;
            }
        }
        found
    }

    #[test]
    fn a_large_payload_is_reported_in_pieces_with_the_fin_on_the_last() {
        let data: Vec<u8> = (0..65_000u32).map(|i| i as u8).collect();
        let mut batch = ReplyBatch::default();
        let flags = TcpFlags::FIN | TcpFlags::ACK;
        batch.push_with_payload(7, 65_000, &header(flags), &data);
        let found = records(&batch);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, found[0].1), (u32::MAX, TcpFlags::ACK.bits()));
        assert_eq!((found[1].0, found[1].1), ((32 << 10) - 1, flags.bits()));
        assert_eq!([found[0].2.as_slice(), &found[1].2].concat(), data);
    }

    #[test]
    fn what_was_not_captured_is_left_for_the_target_to_send_again() {
        let mut batch = ReplyBatch::default();
        let flags = TcpFlags::FIN | TcpFlags::ACK;
        batch.push_with_payload(7, 100, &header(flags), &[1; 96]);
        assert_eq!(
            records(&batch),
            [(u32::MAX, TcpFlags::ACK.bits(), vec![1; 96])]
        );
    }
}
