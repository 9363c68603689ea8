//! A set of offsets, kept as ranges.

use serde::{Deserialize, Serialize};

/// A set of offsets: ranges with both ends included, in rising order, never touching each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Adds every offset from `first` to `last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        // The ranges from `from` to `to` overlap or touch the new one, and become one range with it.
        let from = self.0.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|(start, _)| *start <= last.saturating_add(1));

        let merged = self.0[from..to]
            .iter()
            .fold((first, last), |(first, last), (start, end)| (first.min(*start), last.max(*end)));
        self.0.splice(from..to, [merged]);
    }

    /// Adds every offset of another set.
    pub fn extend(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert(first, last);
        }
    }

    /// The range that contains an offset.
    pub fn around(&self, offset: u64) -> Option<(u64, u64)> {
        let at = self.0.partition_point(|(_, end)| *end < offset);
        self.0.get(at).copied().filter(|(start, _)| *start <= offset)
    }

    /// Whether the set contains an offset.
    pub fn contains(&self, offset: u64) -> bool {
        self.around(offset).is_some()
    }

    /// Whether the set contains every offset from `first` to `last`.
    pub fn covers(&self, first: u64, last: u64) -> bool {
        self.around(first).is_some_and(|(_, end)| last <= end)
    }

    /// The ranges between `first` and `last` that are missing from the set.
    pub fn missing(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        let mut next = Some(first);
        let at = self.0.partition_point(|(_, end)| *end < first);

        for (start, end) in self.0[at..].iter().take_while(|(start, _)| *start <= last) {
            if let Some(next) = next.filter(|next| next < start) {
                missing.push((next, start - 1));
            }
            next = end.checked_add(1);
        }
        missing.extend(next.filter(|next| *next <= last).map(|next| (next, last)));
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_ranges_hold_the_offsets_of_a_plain_set(
            list in proptest::collection::vec((0_u64..60, 0_u64..6), 0..30), (first, length) in (0_u64..60, 0_u64..20)
        ) {
            let mut ranges = Ranges::default();
            let mut plain = BTreeSet::new();
            for (first, length) in list {
                ranges.insert(first, first + length);
                plain.extend(first..=first + length);
            }

            let held: Vec<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(&held, &plain.iter().copied().collect::<Vec<_>>());
            let ends: Vec<_> = ranges.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", ends);

            let asked = first..=first + length;
            prop_assert_eq!(ranges.covers(first, first + length), asked.clone().all(|offset| plain.contains(&offset)));
            let missing: Vec<u64> =
                ranges.missing(first, first + length).into_iter().flat_map(|(first, last)| first..=last).collect();
            prop_assert_eq!(missing, asked.filter(|offset| !plain.contains(offset)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_largest_offset_does_not_overflow() {
        let mut ranges = Ranges::default();
        ranges.insert(u64::MAX, u64::MAX);
        ranges.insert(0, 0);
        assert_eq!(ranges.missing(0, u64::MAX), [(1, u64::MAX - 1)]);
    }
}
