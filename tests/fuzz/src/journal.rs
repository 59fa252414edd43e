//! intercept's journal, as a crash or a bad disk may leave it.

use std::time::Instant;

use intercept_lib::journal::{JournalRecord, replay};
use intercept_lib::table::{SessionTable, TableConfig};

use crate::Seed;
use crate::samples::{tuple_v4, tuple_v6};

/// Loads the input; what the table then writes must be whole and say the same.
pub fn run(input: &[u8]) {
    let snapshot = |journal: &[u8]| {
        let now = Instant::now();
        let mut table = SessionTable::new(TableConfig::default(), now);
        let damaged = replay(journal, |record| table.load(now, record));
        let mut snapshot = Vec::new();
        table.snapshot(&mut snapshot);
        (snapshot, table.counts().tombstones, damaged)
    };
    let (first, tombstones, damaged) = snapshot(input);
    assert!(damaged <= input.len());
    let (_, again, damaged) = snapshot(&first);
    assert_eq!((tombstones, 0), (again, damaged));
}

/// Whole and damaged journals.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let live = |tuple| JournalRecord::Live { tuple, iss: 7 };
    let gone = |tuple| JournalRecord::Gone { tuple };
    let write = |records: &[JournalRecord]| {
        let mut journal = Vec::new();
        for record in records {
            record.encode(&mut journal);
        }
        journal
    };
    let whole = write(&[live(tuple_v4()), live(tuple_v6()), gone(tuple_v4())]);
    let mut flipped = whole.clone();
    flipped[5] ^= 0x10;
    vec![
        ("whole", whole.clone()),
        ("torn", whole[..whole.len() - 3].to_vec()),
        ("flipped-bit", flipped),
        ("garbage-first", [b"\xa7J\x01garbage", &whole[..]].concat()),
        ("gone-only", write(&[gone(tuple_v6())])),
        ("live-twice", write(&[live(tuple_v4()), live(tuple_v4())])),
    ]
}
