//! Properties: whatever the records, the batches, their order of arrival and the faults are, the table is the input.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::bucket::Memory;
use crate::topic::{
    HOUR, Record, START, assert_nothing_is_left_over, complete, config, deliver, manifest, offsets, rows,
    run, table,
};

/// The records of a topic, with gaps in the offsets, tombstones, late records and records without a timestamp.
fn records() -> impl Strategy<Value = BTreeMap<u64, Record>> {
    let record = (1_u64..3, -1_i64..6, proptest::option::weighted(0.8, "[a-z,\"\n]{0,4}"));
    proptest::collection::vec(record, 1..60).prop_map(|list| {
        let mut offset = 0;
        let mut records = BTreeMap::new();
        for (step, hour, note) in list {
            offset += if step == 2 && offset % 5 == 0 { 2 } else { 1 };
            let timestamp = if hour < 0 { -1 } else { START + hour * HOUR + i64::try_from(offset).unwrap() };
            records.insert(offset, Record { timestamp, note });
        }
        records
    })
}

/// A batch: where it begins, how many records it takes, and which of them are bad in this delivery.
type Batch = (prop::sample::Index, usize, u64);

fn batches() -> impl Strategy<Value = Vec<(Batch, u8)>> {
    proptest::collection::vec(((any::<prop::sample::Index>(), 1_usize..20, any::<u64>()), 0_u8..4), 0..15)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_table_is_the_input(
        records in records(),
        batches in batches(),
        seed in proptest::option::of(any::<u64>()),
        megabytes in prop::sample::select(vec!["1", "1024"]),
        format in prop::sample::select(vec!["parquet", "csv.gz", "csv.zst"]),
    ) {
        let bucket = Memory::default();
        let config = config(&[("TABLE_FORMAT", format), ("COMPACT_MAX_MEGABYTES", megabytes)]);
        let all: Vec<u64> = records.keys().copied().collect();
        let mut seen: Vec<_> = Vec::new();
        bucket.fail(seed);

        // After some deliveries compaction runs, at some hour.
        for ((start, length, bad), hour) in &batches {
            let start = start.index(all.len());
            let batch = all[start..].iter().take(*length).enumerate();
            let good: Vec<u64> =
                batch.filter(|(at, _)| bad >> at & 7 != 7).map(|(_, offset)| *offset).collect();
            bucket.now.set(START + i64::from(*hour) * HOUR);
            if !good.is_empty() {
                deliver(&bucket, &config, &records, &good);
            }

            if *hour > 0 {
                run(&bucket, &config, START + i64::from(*hour) * HOUR);
                let now = table(&bucket);
                let before: BTreeSet<_> = seen.iter().collect();
                prop_assert!(before.is_subset(&now.iter().collect()), "a row that was seen has gone");
                seen = now;
            }
        }

        // In the end, every record arrives.
        for batch in all.chunks(7) {
            deliver(&bucket, &config, &records, batch);
        }
        run(&bucket, &config, START + 7 * HOUR);
        bucket.fail(None);
        run(&bucket, &config, START + 7 * HOUR);

        let expected = rows(&records);
        prop_assert_eq!(table(&bucket), expected.clone());
        assert_nothing_is_left_over(&bucket);

        // The manifest's ranges hold every row, every tombstone that an object without gaps holds, and nothing else. A
        // tombstone without a row beside it is in no object, so no key tells of it.
        let claimed = offsets(&manifest(&bucket).ranges);
        let with_rows: BTreeSet<u64> = expected.iter().map(|row| row.0).collect();
        let input: BTreeSet<u64> = all.iter().copied().collect();
        prop_assert!(claimed.is_subset(&input), "{:?} was never delivered", claimed.difference(&input).collect::<Vec<_>>());
        prop_assert_eq!(claimed, &with_rows | &complete(&bucket));
    }
}
