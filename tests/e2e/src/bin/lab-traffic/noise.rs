//! Bytes and sizes that look random and can be made again from a number.

/// The SplitMix64 generator.
#[derive(Debug, Clone)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        // Neighbouring seeds would give sequences that are shifts of each other.
        Self(seed.wrapping_mul(0xA076_1D64_78BD_642F))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A size from 1 to `max` bytes whose magnitudes are equally likely, so that small bodies are
    /// as common as large ones.
    pub(crate) fn size(&mut self, max: u64) -> usize {
        let bits = u64::from(u64::BITS - max.leading_zeros());
        let ceiling = max >> (self.next() % bits);
        usize::try_from(1 + self.next() % ceiling.max(1)).expect("a body fits into memory")
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        assert_eq!(Noise::new(7).bytes(100), Noise::new(7).bytes(100));
        assert_ne!(Noise::new(7).bytes(100), Noise::new(8).bytes(100));
        assert_eq!(Noise::new(7).bytes(13).len(), 13);
    }

    #[test]
    fn sizes_stay_within_bounds_and_reach_all_magnitudes() {
        let mut noise = Noise::new(1);
        let sizes: Vec<_> = (0..1_000).map(|_| noise.size(8 << 20)).collect();
        assert!(sizes.iter().all(|&size| (1..=8 << 20).contains(&size)));
        assert!(sizes.iter().any(|&size| size < 100));
        assert!(sizes.iter().any(|&size| size > 4 << 20));
    }
}
