//! The Internet checksum (RFC 1071), summed over any number of byte slices.

/// A running one's complement sum; [`Checksum::finish`] gives the field's value.
///
/// Slices follow each other without padding: one of odd length is continued by the next slice in
/// the middle of a 16-bit word.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// The sum so far as native-endian words, folded to 16 bits after each slice, so that it
    /// can't overflow. Byte order only swaps the result's bytes (RFC 1071 section 2 (B)).
    sum: u64,
    /// Whether an odd number of bytes has been added.
    odd: bool,
}

impl Checksum {
    /// A sum over nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds bytes; at most 8 GiB in one call.
    pub fn add(&mut self, bytes: &[u8]) {
        let slice_sum = fold(sum_native(bytes));
        self.sum += u64::from(if self.odd {
            slice_sum.swap_bytes()
        } else {
            slice_sum
        });
        self.sum = u64::from(fold(self.sum));
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The value of the checksum field: the complement of the sum, in host byte order.
    ///
    /// Over bytes that include a correct checksum field it is 0.
    #[must_use]
    pub fn finish(self) -> u16 {
        u16::from_be(!fold(self.sum))
    }
}

/// Sums native-endian words of 16 bits, not yet folded. Words are taken in pairs, two pairs at a
/// time: 2^16 ≡ 1 modulo 2^16 - 1, so that a wider word adds the same as its halves.
fn sum_native(bytes: &[u8]) -> u64 {
    let mut sum = 0u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes(chunk.try_into().expect("chunks of eight"));
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut last = [0u8; 8];
    let rest = chunks.remainder();
    last[..rest.len()].copy_from_slice(rest);
    let word = u64::from_ne_bytes(last);
    sum + (word >> 32) + (word & 0xffff_ffff)
}

/// Folds a sum to 16 bits, each carry added back at the low end.
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    u16::try_from(sum).expect("folded to 16 bits")
}
