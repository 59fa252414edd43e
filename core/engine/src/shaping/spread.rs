//! A fraction spread evenly over many: which connections are replayed once more than others.

/// Decimals are exact to one of so many parts.
const PARTS: u64 = 1_000_000;

/// Gives each of many things a whole number of copies, so that after any number of them the sum is
/// the factor times that number, rounded down. It counts in whole parts and never drifts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// The factor, in parts.
    factor: u64,
    /// What the things so far are owed, in parts: less than one copy.
    owed: u64,
}

impl Spread {
    pub(crate) fn new(factor: f64) -> Self {
        let mut spread = Self { factor: 0, owed: 0 };
        spread.set(factor);
        spread
    }

    /// Another factor from now on; at least 1, at most the most copies there may be.
    pub(crate) fn set(&mut self, factor: f64) {
        let factor = factor.max(1.0).min(f64::from(crate::MAX_COPIES));
        self.factor = (factor * PARTS as f64).round() as u64;
    }

    /// The copies of the next thing.
    pub(crate) fn next(&mut self) -> u16 {
        self.next_of(1) as u16
    }

    /// The copies of the next `count` things together.
    pub(crate) fn next_of(&mut self, count: u64) -> u64 {
        let sum = self.owed + self.factor * count;
        self.owed = sum % PARTS;
        sum / PARTS
    }

    /// The factor in millionths.
    pub(crate) fn factor_millionths(&self) -> u64 {
        self.factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_as_much_again_is_every_second_twice() {
        let mut spread = Spread::new(1.5);
        let copies: Vec<u16> = (0..6).map(|_| spread.next()).collect();
        assert_eq!(copies, [1, 2, 1, 2, 1, 2]);
    }

    #[test]
    fn the_sum_is_exact_after_any_number() {
        for (factor, per_thousand) in [
            (1.0, 1000),
            (1.001, 1001),
            (1.1, 1100),
            (2.3, 2300),
            (1023.0, 1_023_000),
        ] {
            let mut spread = Spread::new(factor);
            let mut sum = 0;
            for number in 1..=3_000_000u64 {
                sum += u64::from(spread.next());
                assert_eq!(sum, number * per_thousand / 1000, "{factor} after {number}");
            }
        }
    }

    #[test]
    fn many_at_once_are_as_one_by_one() {
        let (mut one, mut many) = (Spread::new(1.37), Spread::new(1.37));
        for count in [0, 1, 5, 1460, 65_535] {
            let sum: u64 = (0..count).map(|_| u64::from(one.next())).sum();
            assert_eq!(many.next_of(count), sum);
        }
    }

    #[test]
    fn what_is_no_number_of_copies_becomes_one() {
        for (factor, copies) in [(f64::NAN, 1), (-3.0, 1), (0.2, 1), (1e9, 1023)] {
            assert_eq!(Spread::new(factor).next(), copies, "{factor}");
        }
    }
}
