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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checksum(slices: &[&[u8]]) -> u16 {
        let mut checksum = Checksum::new();
        slices.iter().for_each(|slice| checksum.add(slice));
        checksum.finish()
    }

    /// RFC 1071 as its section 1 words it: 16-bit words, one by one.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u16;
        for word in bytes.chunks(2) {
            let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
            let (wrapped, carry) = sum.overflowing_add(word);
            sum = wrapped + u16::from(carry);
        }
        !sum
    }

    #[test]
    fn example_of_rfc_1071_section_3() {
        assert_eq!(
            checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]),
            !0xddf2
        );
    }

    #[test]
    fn ipv4_header() {
        let header = |field: u16| {
            let [high, low] = field.to_be_bytes();
            [
                0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, high, low, 0xc0, 0xa8,
                0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
            ]
        };
        assert_eq!(checksum(&[&header(0)]), 0xb861);
        assert_eq!(
            checksum(&[&header(0xb861)]),
            0,
            "a correct field makes the sum vanish"
        );
    }

    #[test]
    fn nothing_and_zeroes_and_ones() {
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[&[0; 33]]), 0xffff);
        assert_eq!(
            checksum(&[&[0xff; 1 << 20]]),
            0,
            "the sum of ones never overflows"
        );
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_sum(
            slices in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
        ) {
            let slices: Vec<&[u8]> = slices.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(checksum(&slices), naive(&slices.concat()));
        }
    }
}
