//! A small sorted set of byte ranges: what was selectively acknowledged, or arrived out of order.

/// Most ranges kept; a set that would grow past it refuses the newcomer.
const MAX_RANGES: usize = 64;

/// Disjoint, sorted, non-adjacent half-open ranges of stream offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeSet {
    ranges: Vec<(u64, u64)>,
}

impl RangeSet {
    /// Adds `[start, end)`; returns false when there is no room for one more range.
    pub(super) fn insert(&mut self, start: u64, end: u64) -> bool {
        if start >= end {
            return true;
        }
        let first = self.ranges.partition_point(|range| range.1 < start);
        let last = self.ranges.partition_point(|range| range.0 <= end);
        if first == last {
            if self.ranges.len() == MAX_RANGES {
                return false;
            }
            self.ranges.insert(first, (start, end));
            return true;
        }
        let merged = (
            start.min(self.ranges[first].0),
            end.max(self.ranges[last - 1].1),
        );
        self.ranges[first] = merged;
        self.ranges.drain(first + 1..last);
        true
    }

    /// Forgets everything before `offset`.
    pub(super) fn remove_before(&mut self, offset: u64) {
        let gone = self.ranges.partition_point(|range| range.1 <= offset);
        self.ranges.drain(..gone);
        if let Some(first) = self.ranges.first_mut() {
            first.0 = first.0.max(offset);
        }
        if self.ranges.is_empty() && self.ranges.capacity() > 0 {
            self.ranges = Vec::new();
        }
    }

    /// If a range begins at or before `offset`, takes it out and returns its end.
    pub(super) fn take_contiguous(&mut self, offset: u64) -> Option<u64> {
        let first = *self.ranges.first()?;
        (first.0 <= offset).then(|| {
            self.ranges.remove(0);
            first.1
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// The end of the last range.
    pub(super) fn highest(&self) -> Option<u64> {
        self.ranges.last().map(|range| range.1)
    }

    /// How many bytes of `[start, end)` are in the set.
    pub(super) fn covered(&self, start: u64, end: u64) -> u64 {
        self.iter()
            .map(|range| range.1.min(end).saturating_sub(range.0.max(start)))
            .sum()
    }

    /// The first part of `[start, end)` that is not in the set.
    pub(super) fn first_hole(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let mut hole_start = start;
        for (range_start, range_end) in self.iter() {
            if range_end <= hole_start {
                continue;
            }
            if range_start > hole_start {
                return (hole_start < end).then(|| (hole_start, range_start.min(end)));
            }
            hole_start = range_end;
        }
        (hole_start < end).then_some((hole_start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_bytes(
            operations in prop::collection::vec((0u64..200, 1u64..40), 1..40),
            cut in 0u64..200,
        ) {
            let mut set = RangeSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (start, length) in operations {
                prop_assert!(set.insert(start, start + length));
                model.extend(start..start + length);
            }
            set.remove_before(cut);
            model.retain(|byte| *byte >= cut);
            let bytes: Vec<u64> = set.iter().flat_map(|(start, end)| start..end).collect();
            prop_assert_eq!(bytes, model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.covered(50, 150), model.range(50..150).count() as u64);
            let hole = (50u64..150).find(|byte| !model.contains(byte));
            prop_assert_eq!(set.first_hole(50, 150).map(|hole| hole.0), hole);
            if let Some((start, end)) = set.first_hole(50, 150) {
                prop_assert!((start..end).all(|byte| !model.contains(&byte)));
                prop_assert!(end == 150 || model.contains(&end));
            }
        }
    }

    #[test]
    fn refuses_more_ranges_than_its_limit() {
        let mut set = RangeSet::default();
        for index in 0..MAX_RANGES as u64 {
            assert!(set.insert(index * 10, index * 10 + 1));
        }
        assert!(!set.insert(100_000, 100_001));
        assert!(
            set.insert(1, 2),
            "a range that only grows another one needs no room"
        );
    }
}
