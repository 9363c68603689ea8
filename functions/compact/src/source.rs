//! The objects of msk-to-s3 that a run has to read: what their keys say, and which of them are still needed.

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use msk_to_s3::Compression;
use sha2::{Digest as _, Sha256};

use crate::ranges::Ranges;
use crate::store::Listed;

/// An object that msk-to-s3 wrote, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) key: String,
    pub(crate) etag: String,
    /// When the object was written, in milliseconds since 1970.
    pub(crate) modified: i64,
    /// The timestamp of the first record in milliseconds since 1970, to the second.
    pub(crate) time: Option<i64>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The digest of the offsets that are missing between the first and the last.
    gaps: Option<String>,
    pub(crate) compression: Compression,
}

impl Source {
    /// Reads a key, `.../customer-data-{time}-{first}-{last}[-{gaps}].csv[.gz|.zst]`. Returns `None` for another key.
    pub(crate) fn of(listed: Listed) -> Option<Self> {
        let Listed { key, etag, modified } = listed;
        let name = key.rsplit('/').next()?.strip_prefix("customer-data-")?;
        let (name, suffix) = name.split_once(".csv")?;
        let compression = match suffix {
            "" => Compression::None,
            ".gz" => Compression::Gzip,
            ".zst" => Compression::Zstd,
            _ => return None,
        };

        let mut parts = name.split('-');
        let (time, first, last) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let time = DateTime::strptime("%Y%m%dT%H%M%SZ", time).ok();
        let time = time
            .and_then(|time| time.to_zoned(TimeZone::UTC).ok())
            .map(|time| time.timestamp().as_millisecond());
        let gaps = parts.next().map(str::to_owned);
        (parts.next().is_none() && first <= last).then_some(Self {
            key,
            etag,
            modified,
            time,
            first,
            last,
            gaps,
            compression,
        })
    }

    /// Whether the object holds every offset from its first to its last. Tombstones are among them, without a row.
    pub(crate) fn is_gapless(&self) -> bool {
        self.gaps.is_none()
    }

    /// The name by which a manifest remembers that every row of an object with gaps is in the table.
    pub(crate) fn short_name(&self) -> String {
        format!("{}-{}-{}", self.first, self.last, self.gaps.as_deref().unwrap_or_default())
    }

    /// Whether every row of the object is in the table.
    fn is_done(&self, done: &Ranges, examined: &BTreeSet<String>) -> bool {
        let Some(gaps) = &self.gaps else { return done.covers(self.first, self.last) };
        done.covers(self.first, self.last)
            || examined.contains(&self.short_name())
            || digest(&done.missing(self.first, self.last)) == *gaps
    }
}

/// The digest of missing offsets that msk-to-s3 writes into a key.
fn digest(missing: &[(u64, u64)]) -> String {
    let mut digest = Sha256::new();
    for (first, last) in missing {
        digest.update(first.to_be_bytes());
        digest.update(last.to_be_bytes());
    }
    let digest = digest.finalize();
    digest.first_chunk().map_or_else(String::new, |bytes| format!("{:016x}", u64::from_be_bytes(*bytes)))
}

/// The objects that a run has to read, in the order of their first offsets.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) sources: Vec<Source>,
    /// The offsets of which the selected objects hold every record.
    pub(crate) complete: Ranges,
}

/// Selects the objects that hold every record that is not in the table yet.
///
/// Objects overlap where a batch was delivered again with other bounds. An object is left out if others hold all of its
/// records, so at most two objects without gaps overlap anywhere.
pub(crate) fn select(candidates: Vec<Source>, done: &Ranges, examined: &BTreeSet<String>) -> Selection {
    let needed = candidates.into_iter().filter(|source| !source.is_done(done, examined));
    let (gapless, others): (Vec<_>, Vec<_>) = needed.partition(Source::is_gapless);

    let mut sources = cover(gapless);
    let mut complete = Ranges::default();
    for source in &sources {
        complete.insert(source.first, source.last);
    }

    sources.extend(others.into_iter().filter(|source| !complete.covers(source.first, source.last)));
    sources.sort_by(|one, other| (one.first, one.last, &one.key).cmp(&(other.first, other.last, &other.key)));
    Selection { sources, complete }
}

/// The fewest objects without gaps that hold the records of all of them.
fn cover(mut gapless: Vec<Source>) -> Vec<Source> {
    gapless.sort_by_key(|source| (source.first, std::cmp::Reverse(source.last)));
    let mut chosen: Vec<Source> = Vec::new();
    let mut rest = gapless.into_iter().peekable();

    while let Some(next) = rest.next() {
        let Some(end) = chosen.last().map(|last| last.last).filter(|end| next.first <= end.saturating_add(1))
        else {
            chosen.push(next);
            continue;
        };

        // Of the objects that begin within the chosen ones or right after them, the one that reaches furthest.
        let mut furthest = next;
        while let Some(other) = rest.next_if(|other| other.first <= end.saturating_add(1)) {
            if other.last > furthest.last {
                furthest = other;
            }
        }
        if furthest.last > end {
            chosen.push(furthest);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(first: u64, last: u64, gaps: &str) -> Source {
        let gaps = if gaps.is_empty() { String::new() } else { format!("-{gaps}") };
        let key = format!("in/t/0/customer-data-20260101T000001Z-{first:020}-{last:020}{gaps}.csv");
        Source::of(Listed { key, etag: String::new(), modified: 0 }).unwrap()
    }

    proptest! {
        #[test]
        fn the_selection_holds_every_record_and_at_most_two_objects_overlap(
            list in proptest::collection::vec((0_u64..60, 0_u64..20), 0..25)
        ) {
            let all: Vec<_> = list.iter().map(|(first, length)| source(*first, first + length, "")).collect();
            let selection = select(all.clone(), &Ranges::default(), &BTreeSet::new());
            for offset in 0..90 {
                let holds = |source: &&Source| (source.first..=source.last).contains(&offset);
                let selected = selection.sources.iter().filter(holds).count();
                prop_assert!(selected <= 2, "{} objects hold {}", selected, offset);
                prop_assert_eq!(selected > 0, all.iter().any(|source| holds(&source)));
                prop_assert_eq!(selected > 0, selection.complete.contains(offset));
            }
        }
    }

    #[test]
    fn a_key_says_which_records_it_holds() {
        let key =
            |name: &str| Source::of(Listed { key: format!("in/t/0/{name}"), etag: "e".into(), modified: 5 });
        let found =
            key("customer-data-20260101T000003Z-00000000000000000015-00000000000000000114-00ff.csv.gz")
                .unwrap();
        assert_eq!((found.first, found.last, found.time), (15, 114, Some(1_767_225_603_000)));
        assert_eq!((found.compression, found.is_gapless()), (Compression::Gzip, false));
        assert_eq!(key("customer-data-undated-1-2.csv").unwrap().time, None);
        for other in [
            "customer-data-undated-2-1.csv",
            "customer-data-undated-1-2.parquet",
            "x.csv",
            "customer-data-1-2.csv",
        ] {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn an_object_whose_records_are_in_the_table_is_not_read_again() {
        let mut done = Ranges::default();
        done.insert(0, 4);
        done.insert(6, 9);
        let gaps = digest(&[(5, 5)]);
        let examined = BTreeSet::from([source(0, 20, "aa").short_name()]);
        let candidates = vec![
            source(0, 4, ""),
            source(0, 9, &gaps),
            source(0, 20, "aa"),
            source(0, 20, "bb"),
            source(4, 6, ""),
        ];
        let selection = select(candidates, &done, &examined);
        let names: Vec<_> = selection.sources.iter().map(Source::short_name).collect();
        assert_eq!(names, ["0-20-bb", "4-6-"]);
    }
}
