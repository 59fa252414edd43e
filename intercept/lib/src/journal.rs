//! The journal: which tuples belong to sessions, as bytes that survive a crash.
//!
//! intercept appends a record when a session is registered, before it confirms the registration,
//! and another when the last trace of the session (its tombstone) is gone. What a journal says is
//! live at the next start becomes tombstones, so that a target which still talks is not heard by
//! a real client.
//!
//! A record starts with two bytes of magic and ends with a checksum. A damaged record costs
//! itself: the reader goes on at the next magic.

use tcpcopy_packet::FourTuple;

use crate::wire::{Malformed, Reader, put_tuple};

/// First bytes of a record.
const MAGIC: [u8; 2] = [0xa7, b'J'];
/// Kind of [`JournalRecord::Live`].
const KIND_LIVE: u8 = 1;
/// Kind of [`JournalRecord::Gone`].
const KIND_GONE: u8 = 2;

/// One line of the journal. The tuple's source is the mirrored client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalRecord {
    /// A session was registered.
    Live {
        /// The session's tuple.
        tuple: FourTuple,
        /// The sequence number of the mirror's SYN.
        iss: u32,
    },
    /// Packets of the tuple are accepted again.
    Gone {
        /// The session's tuple.
        tuple: FourTuple,
    },
}

impl JournalRecord {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend(MAGIC);
        match self {
            Self::Live { tuple, iss } => {
                out.push(KIND_LIVE);
                put_tuple(out, tuple);
                out.extend(iss.to_be_bytes());
            }
            Self::Gone { tuple } => {
                out.push(KIND_GONE);
                put_tuple(out, tuple);
            }
        }
        let sum = checksum(&out[start..]);
        out.extend(sum.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut reader = Reader(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Malformed);
        }
        let record = match reader.u8()? {
            KIND_LIVE => Self::Live {
                tuple: reader.tuple()?,
                iss: reader.u32()?,
            },
            KIND_GONE => Self::Gone {
                tuple: reader.tuple()?,
            },
            _ => return Err(Malformed),
        };
        let body_len = bytes.len() - reader.0.len();
        if reader.u32()? != checksum(&bytes[..body_len]) {
            return Err(Malformed);
        }
        Ok((record, bytes.len() - reader.0.len()))
    }
}

/// Hands the records of a journal to `apply`, in order. Returns how many bytes belong to no
/// whole record.
pub fn replay(journal: &[u8], mut apply: impl FnMut(JournalRecord)) -> usize {
    let mut at = 0;
    let mut damaged = 0;
    while at < journal.len() {
        match JournalRecord::decode(&journal[at..]) {
            Ok((record, len)) => {
                apply(record);
                at += len;
            }
            Err(Malformed) => {
                damaged += 1;
                at += 1;
            }
        }
    }
    damaged
}

/// FNV-1a, 32 bits: enough to tell a torn record from a whole one.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;
    use tcpcopy_packet::Endpoint;

    fn record(n: u16) -> JournalRecord {
        let address: [IpAddr; 2] = match n % 2 {
            0 => [
                "198.51.100.9".parse().unwrap(),
                "192.0.2.1".parse().unwrap(),
            ],
            _ => [
                "2001:db8::9".parse().unwrap(),
                "2001:db8::1".parse().unwrap(),
            ],
        };
        let tuple = FourTuple::new(Endpoint::new(address[0], n), Endpoint::new(address[1], 80));
        if n.is_multiple_of(3) {
            JournalRecord::Gone { tuple }
        } else {
            JournalRecord::Live {
                tuple,
                iss: u32::from(n) << 13,
            }
        }
    }

    fn read(journal: &[u8]) -> (Vec<JournalRecord>, usize) {
        let mut records = Vec::new();
        let damaged = replay(journal, |record| records.push(record));
        (records, damaged)
    }

    fn write(records: impl IntoIterator<Item = JournalRecord>) -> Vec<u8> {
        let mut journal = Vec::new();
        records
            .into_iter()
            .for_each(|record| record.encode(&mut journal));
        journal
    }

    #[test]
    fn records_survive_and_a_torn_tail_costs_only_itself() {
        let journal = write((0..100).map(record));
        assert_eq!(read(&journal), ((0..100).map(record).collect(), 0));
        let whole = write((0..99).map(record)).len();
        for end in whole + 1..journal.len() {
            let (records, damaged) = read(&journal[..end]);
            assert_eq!((records.len(), damaged), (99, end - whole));
        }
    }

    proptest! {
        #[test]
        fn garbage_between_records_costs_only_itself(
            garbage in prop::collection::vec(any::<u8>(), 1..100),
            at in 0usize..20,
        ) {
            let (head, tail) = (write((0..at as u16).map(record)), write((at as u16..20).map(record)));
            let (records, damaged) = read(&[head, garbage.clone(), tail].concat());
            prop_assert_eq!(records, (0..20).map(record).collect::<Vec<_>>());
            prop_assert_eq!(damaged, garbage.len());
        }

        #[test]
        fn a_flipped_bit_costs_one_record(position in 0usize..1000, bit in 0u8..8) {
            let mut journal = write((0..20).map(record));
            let position = position % journal.len();
            journal[position] ^= 1 << bit;
            let (records, damaged) = read(&journal);
            prop_assert_eq!(records.len(), 19);
            prop_assert!(damaged > 0);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            read(&bytes);
        }
    }
}
