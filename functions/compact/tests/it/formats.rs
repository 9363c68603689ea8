//! What the objects of a table look like, and which records go into them.

use std::collections::BTreeMap;

use compact::{Answer, handle};
use jiff::Timestamp;

use crate::bucket::Memory;
use crate::topic::{HOUR, Record, START, block_on, config, deliver, manifest, rows, run, table};

fn at(hour: i64) -> Record {
    Record { timestamp: START + hour * HOUR + 1, note: Some(String::new()) }
}

#[test]
fn a_late_record_goes_into_a_second_object_of_its_hour() {
    let (bucket, config) = (Memory::default(), config(&[]));
    let records: BTreeMap<u64, Record> = [(0, at(0)), (1, at(0)), (2, at(1)), (3, at(0))].into();
    bucket.now.set(START + HOUR);
    deliver(&bucket, &config, &records, &[0, 1, 2]);
    run(&bucket, &config, START + HOUR);
    assert_eq!(table(&bucket).len(), 2, "the second hour has not ended");
    assert_eq!(manifest(&bucket).ranges.iter().collect::<Vec<_>>(), [(0, 1)]);

    // A day later.
    deliver(&bucket, &config, &records, &[3]);
    run(&bucket, &config, START + 25 * HOUR);
    assert_eq!(table(&bucket), rows(&records));

    let keys: Vec<String> = manifest(&bucket).files.into_iter().map(|file| file.key).collect();
    let key = |hour: &str, first: u64, last: u64| {
        format!("in/tables/t/hour=2026-01-01T{hour}/0-{first:020}-{last:020}.parquet")
    };
    assert_eq!(keys, [key("00", 0, 1), key("00", 3, 3), key("01", 2, 2)]);
    let list = bucket.read("in/tables/t/_symlinks/hour=2026-01-01T00/0.txt").unwrap();
    assert_eq!(list, format!("s3://b/{}\ns3://b/{}\n", keys[0], keys[1]));
}

#[test]
fn a_record_whose_timestamp_is_in_the_future_waits_for_a_day_at_most() {
    let (bucket, config) = (Memory::default(), config(&[]));
    let records: BTreeMap<u64, Record> = [(0, at(9_000)), (1, at(0))].into();
    bucket.now.set(START);
    deliver(&bucket, &config, &records, &[0, 1]);
    run(&bucket, &config, START + 24 * HOUR);
    assert_eq!(table(&bucket), [], "the object's first record is not due, so the object was not read");
    run(&bucket, &config, START + 25 * HOUR);
    assert_eq!(table(&bucket), rows(&records));
}

#[test]
fn a_field_without_its_columns_type_is_an_error_that_names_no_value() {
    let bucket = Memory::default();
    let records: BTreeMap<u64, Record> =
        [(7, Record { timestamp: START, note: Some("secret".into()) })].into();
    deliver(&bucket, &config(&[]), &records, &[7]);
    let typed = config(&[("CSV_COLUMNS", "id:int64,note:date")]);
    let closed = Timestamp::from_millisecond(START + HOUR).unwrap();
    let error = block_on(compact::compact(&bucket, &typed, 0, closed)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the column note of the record at offset 7 is not date; correct the type, or declare it as text"
    );

    run(&bucket, &config(&[]), START + HOUR);
    assert_eq!(table(&bucket), rows(&records), "with the right type the same plan is completed");
}

#[test]
fn an_invocation_without_a_partition_lists_the_partitions() {
    let (bucket, config) = (Memory::default(), config(&[]));
    for partition in [10, 2] {
        bucket.write(&format!("in/t/{partition}/customer-data-undated-1-1.csv"), Vec::new());
    }
    let Answer::Partitions { partitions } = block_on(handle(&bucket, &config, "{}")).unwrap() else {
        panic!()
    };
    assert_eq!(partitions.iter().map(|input| input.partition).collect::<Vec<_>>(), [2, 10]);

    let event = serde_json::to_string(&partitions[0]).unwrap();
    let Answer::Compacted(done) = block_on(handle(&bucket, &config, &event)).unwrap() else { panic!() };
    assert_eq!((done.partition, done.files, done.more), (2, 0, false));
    assert!(
        block_on(handle(&bucket, &config, r#"{"partition":1}"#)).is_err(),
        "a misspelt field is an error"
    );
}

#[test]
fn a_large_object_is_uploaded_in_parts() {
    let (bucket, config) = (Memory::default(), config(&[("TABLE_FORMAT", "csv.zst")]));
    let mut draw = fastrand::Rng::with_seed(1);
    let note =
        |draw: &mut fastrand::Rng| std::iter::repeat_with(|| draw.alphanumeric()).take(60_000).collect();
    let records: BTreeMap<u64, Record> =
        (0..700).map(|offset| (offset, Record { timestamp: START, note: Some(note(&mut draw)) })).collect();
    for batch in records.keys().copied().collect::<Vec<_>>().chunks(50) {
        deliver(&bucket, &config, &records, batch);
    }
    run(&bucket, &config, START + HOUR);
    let files = manifest(&bucket).files;
    assert_eq!(files.len(), 1);
    let size = bucket.read(&files[0].key).unwrap().len();
    assert!(size > 16 << 20, "{size} bytes are not more than a part");
    assert_eq!((table(&bucket), bucket.unfinished_uploads()), (rows(&records), 0));
}
