//! The layout `time`: folders by hour, with the same promises as the layout `partition`.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Memory, bad, base64, config, event, parse};

const HOUR: u64 = 3_600_000;

/// A record at this time, whose value is `v` and the offset.
fn at(offset: u64, time: Option<u64>) -> Value {
    let value = base64(format!("v{offset}"));
    json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": time, "value": value})
}

fn by_time() -> msk_to_s3::Config {
    config(&[("CSV_COLUMNS", "value"), ("CSV_METADATA_COLUMNS", "true"), ("CSV_KEY_LAYOUT", "time")])
}

/// The folders of the hour of a time.
fn folder(time: Option<u64>) -> String {
    let Some(hour) = time.map(|time| time / HOUR) else {
        return "t/date=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__/".to_owned();
    };
    // Times of this test are in the first days of 1970.
    format!("t/date=1970-01-{:02}/hour={:02}/", hour / 24 + 1, hour % 24)
}

#[test]
fn a_batch_that_spans_hours_becomes_an_object_for_each() {
    let s3 = Memory::default();
    let late = [at(0, Some(25 * HOUR)), at(1, Some(26 * HOUR)), at(2, Some(25 * HOUR + 1_000)), at(3, None)];
    for _ in 0..2 {
        assert!(bad(&s3, &by_time(), &event(&late)).is_empty());
        let keys = s3.keys();
        let [first, second, undated] = &keys[..] else { panic!("{keys:?}") };

        // The object of the first hour lacks offset 1, so its key ends in the digest of its gap.
        let name = "customer-data-0-19700102T010000Z-00000000000000000000-00000000000000000002-";
        let start = format!("t/date=1970-01-02/hour=01/{name}");
        assert!(first.starts_with(&start) && first.len() == start.len() + 16 + ".csv".len(), "{first}");
        let name = "customer-data-0-19700102T020000Z-00000000000000000001-00000000000000000001.csv";
        assert_eq!(*second, format!("t/date=1970-01-02/hour=02/{name}"));
        let name = "customer-data-0-undated-00000000000000000003-00000000000000000003.csv";
        assert_eq!(*undated, folder(None) + name);
    }
    assert_eq!((s3.rows().len(), s3.offsets()), (4, vec![0, 1, 2, 3]));
}

#[test]
fn a_record_that_was_bad_and_is_good_now_is_not_taken_for_written() {
    let s3 = Memory::default();
    let mut batch: Vec<Value> = (0..6).map(|offset| at(offset, Some(offset % 2 * HOUR))).collect();
    let good = batch[2].clone();
    batch[2]["value"] = base64("v2,more").into();
    assert_eq!(bad(&s3, &by_time(), &event(&batch)), ["t-0:2"]);
    assert_eq!(s3.offsets(), [0, 1, 3, 4, 5]);

    batch[2] = good;
    assert!(bad(&s3, &by_time(), &event(&batch)).is_empty());
    assert_eq!(s3.offsets(), (0..6).collect::<Vec<_>>());
}

#[test]
fn offsets_that_do_not_rise_begin_another_object_of_their_hour() {
    let s3 = Memory::default();
    let batch = [at(4, Some(0)), at(9, Some(HOUR)), at(5, Some(0)), at(5, Some(0)), at(2, Some(0))];
    assert!(bad(&s3, &by_time(), &event(&batch)).is_empty());
    assert_eq!(s3.keys().len(), 4, "{:?}", s3.keys());
    assert_eq!(s3.offsets(), [2, 4, 5, 9]);
}

/// The times of the records, of which some have none, and deliveries of them: the first offset of each batch and its
/// length.
fn deliveries() -> impl Strategy<Value = (Vec<Option<u64>>, Vec<(usize, usize)>)> {
    let time = proptest::option::weighted(0.9, prop_oneof![0..3 * HOUR, 22 * HOUR..26 * HOUR]);
    vec(time, 1..40).prop_flat_map(|times| {
        let batch = (0..times.len(), 1..20_usize);
        (Just(times), vec(batch, 1..10))
    })
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_a_retry_finds_its_keys((times, batches) in deliveries()) {
        let (s3, flat) = (Memory::default(), Memory::default());
        let flat_layout = config(&[("CSV_COLUMNS", "value"), ("CSV_METADATA_COLUMNS", "true")]);
        let mut delivered = BTreeSet::new();

        for (first, length) in batches {
            let offsets = first..times.len().min(first + length);
            let batch: Vec<Value> = offsets.clone().map(|offset| at(offset as u64, times[offset])).collect();
            delivered.extend(offsets.map(|offset| offset as u64));

            prop_assert!(bad(&s3, &by_time(), &event(&batch)).is_empty());
            let (keys, texts) = (s3.keys(), s3.texts());
            prop_assert!(bad(&s3, &by_time(), &event(&batch)).is_empty());
            prop_assert_eq!((s3.keys(), s3.texts()), (keys, texts), "a retry with the same bounds writes nothing");
            prop_assert!(bad(&flat, &flat_layout, &event(&batch)).is_empty());
        }

        prop_assert_eq!(s3.offsets(), delivered.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(s3.read_once(), flat.read_once(), "the layout does not change what a reader sees");
        let mut contents = BTreeSet::new();
        for (key, text) in s3.keys().iter().zip(s3.texts()) {
            let offsets: Vec<u64> = parse(&text).iter().map(|row| row[3].parse().unwrap()).collect();
            for offset in &offsets {
                prop_assert!(key.starts_with(&folder(times[usize::try_from(*offset).unwrap()])), "{} in {}", offset, key);
            }
            let bounds = format!("-{:020}-{:020}", offsets[0], offsets[offsets.len() - 1]);
            prop_assert!(key.contains(&bounds), "{} has {:?}", key, offsets);
            prop_assert!(contents.insert(offsets), "{} has the records of another object", key);
        }
    }
}
