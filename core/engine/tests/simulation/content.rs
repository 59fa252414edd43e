//! What servers say, where somebody looks at it: every byte follows from its position in the stream,
//! so that one which is missing, twice or elsewhere shows.

use crate::rng::mix;

const ORIGIN_KEY: u64 = 0x0419_1e55;
const TARGET_KEY: u64 = 0x7a49_e7ed;

/// Marks the last byte of what the target says at once.
const END: u8 = 0x80;

/// What an origin says from this offset of its stream on.
pub(crate) fn origin_said(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len)
        .map(|at| byte(ORIGIN_KEY, at))
        .collect()
}

/// What a target says from this offset of its stream on, where what it says at once ends at each of
/// `ends`, in order.
pub(crate) fn target_said(offset: u64, len: u64, ends: &[u64]) -> Vec<u8> {
    let end = offset + len;
    let mut said: Vec<u8> = (offset..end).map(|at| byte(TARGET_KEY, at)).collect();
    let first = ends.partition_point(|it| *it <= offset);
    for it in ends[first..].iter().take_while(|it| **it <= end) {
        said[usize::try_from(it - offset).expect("in memory") - 1] |= END;
    }
    said
}

/// How many answers end within what a target says from this offset on.
///
/// # Panics
///
/// Panics if it is not what a target says there.
pub(crate) fn answers_in(offset: u64, said: &[u8]) -> u64 {
    let mut ends = 0;
    for (at, heard) in (offset..).zip(said) {
        assert_eq!(
            heard & !END,
            byte(TARGET_KEY, at),
            "byte {at} of the target"
        );
        ends += u64::from(heard & END != 0);
    }
    ends
}

fn byte(key: u64, at: u64) -> u8 {
    mix(key ^ (at / 8)).to_le_bytes()[(at % 8) as usize] & !END
}
