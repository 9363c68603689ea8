//! One test for each way in which a batch can be delivered again. The argument is in `docs/kafka/why-nothing-is-lost.md`.

use serde_json::json;

use crate::support::{Memory, bad, config, event, good, lines, of_partitions, record, tombstone, write};

#[test]
fn the_key_says_which_records_are_in_the_object() {
    let s3 = Memory::default();
    assert!(bad(&s3, &config(&[("KEY_PREFIX", "in")]), &event(&good(7..=9))).is_empty());
    let key = "in/t/0/customer-data-19700101T000007Z-00000000000000000007-00000000000000000009.csv";

    assert_eq!(s3.keys(), [key]);
    assert_eq!(s3.only().body, b"v7\nv8\nv9\n");
    assert_eq!(s3.only().content_type, "text/csv; charset=utf-8");
}

#[test]
fn the_same_batch_again_writes_nothing() {
    let s3 = Memory::default();
    for _ in 0..3 {
        assert!(bad(&s3, &lines(), &event(&good(0..50))).is_empty());
    }
    assert_eq!((s3.keys().len(), s3.rows().len()), (1, 50));
}

#[test]
fn a_batch_with_other_bounds_doubles_rows_and_the_query_reads_each_once() {
    let s3 = Memory::default();
    for offsets in [0..5, 0..8, 3..12, 11..12, 12..20] {
        assert!(bad(&s3, &lines(), &event(&good(offsets))).is_empty());
    }

    assert_eq!(s3.rows().len(), 5 + 8 + 9 + 1 + 8);
    assert_eq!(s3.offsets(), (0..20).collect::<Vec<_>>());
    assert!(s3.read_once().iter().all(|(offset, row)| *row == [format!("v{offset}")]));
}

#[test]
fn a_record_that_was_bad_and_is_good_now_is_not_taken_for_written() {
    // Offset 5 has two fields, but at the first delivery the configuration has one column.
    let mut batch = good(0..10);
    batch[5] = record(5, "v5,more");
    let s3 = Memory::default();
    assert_eq!(bad(&s3, &lines(), &event(&batch)), ["t-0:5"]);
    assert_eq!(s3.offsets(), [0, 1, 2, 3, 4, 6, 7, 8, 9]);

    // The bounds are the same, but the object has one record more. Its key differs, so S3 does not answer 412.
    let wider = config(&[("CSV_METADATA_COLUMNS", "true")]);
    assert!(bad(&s3, &wider, &event(&batch)).is_empty());
    assert_eq!(s3.keys().len(), 2);
    assert_eq!(s3.offsets(), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_bad_record_sent_again_alone_gets_its_own_object() {
    let mut batch = good(0..10);
    batch[5] = record(5, "v5,more");
    let s3 = Memory::default();
    assert_eq!(bad(&s3, &lines(), &event(&batch)), ["t-0:5"]);

    assert_eq!(
        bad(&s3, &lines(), &event(&batch[5..6])),
        ["t-0:5"],
        "the record is still bad, and no object is written"
    );
    assert_eq!(s3.keys().len(), 1);
    let wider = config(&[("CSV_METADATA_COLUMNS", "true")]);
    assert!(bad(&s3, &wider, &event(&batch[5..6])).is_empty());
    assert_eq!((s3.rows().len(), s3.offsets().len()), (10, 10));
}

#[test]
fn bad_records_sent_again_together_do_not_claim_what_lies_between_them() {
    let (s3, narrow, wide) = (Memory::default(), lines(), config(&[("CSV_METADATA_COLUMNS", "true")]));
    let mut batch = good(0..10);
    (batch[2], batch[7]) = (record(2, "v2,more"), record(7, "v7,more"));
    assert_eq!(bad(&s3, &narrow, &event(&batch)), ["t-0:2", "t-0:7"]);

    // The batch of 2 and 7 and the batch of 2 to 7 have the same bounds, so the gaps must make their keys differ.
    assert!(bad(&s3, &wide, &event(&[batch[2].clone(), batch[7].clone()])).is_empty());
    assert!(bad(&s3, &wide, &event(&batch[2..8])).is_empty());
    assert_eq!(s3.keys().len(), 3);
    assert_eq!(s3.offsets(), (0..10).collect::<Vec<_>>());
}

#[test]
fn gaps_in_the_offsets_are_part_of_the_key() {
    // These are the offsets of a compacted topic, and the same bounds with the records that other compactions leave.
    let s3 = Memory::default();
    for offsets in [&[0, 3, 4, 9][..], &[0, 3, 5, 9], &[0, 9], &[0, 3, 4, 9], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]
    {
        assert!(bad(&s3, &lines(), &event(&good(offsets.iter().copied()))).is_empty());
    }

    assert_eq!(s3.keys().len(), 4, "{:?}", s3.keys());
    assert_eq!(s3.offsets(), (0..10).collect::<Vec<_>>());
    assert_eq!(s3.keys().iter().filter(|key| key.ends_with("00009.csv")).count(), 1, "one is complete");
}

#[test]
fn tombstones_have_no_row_and_leave_no_gap() {
    let s3 = Memory::default();
    let mut batch = good(0..6);
    (batch[0], batch[3]) = (tombstone(0), tombstone(3));
    assert!(bad(&s3, &lines(), &event(&batch)).is_empty());
    assert!(s3.only().key.ends_with("19700101T000000Z-00000000000000000000-00000000000000000005.csv"));
    assert_eq!(s3.offsets(), [1, 2, 4, 5]);

    let s3 = Memory::default();
    assert!(bad(&s3, &lines(), &event(&[tombstone(0), tombstone(1)])).is_empty());
    assert!(s3.keys().is_empty(), "a batch of tombstones writes no object");
}

#[test]

fn a_failed_write_fails_the_batch_and_its_retry_completes_it() {
    for writes in 0..3 {
        let s3 = Memory::failing_after(writes);
        let batch = of_partitions(&json!({
            "t-0": good(0..4),
            "u-0": [{"offset": 7, "value": "dTc="}],
            "u-1": [{"offset": 8, "value": "dTg="}],
        }));

        let error = write(&s3, &lines(), &batch).unwrap_err();
        assert_eq!(postern_runtime::NamedError::name(&error), "MskToS3.Throttled");
        assert_eq!(s3.keys().len(), 2, "the first error must not cancel the other writes");

        assert!(bad(&s3, &lines(), &batch).is_empty());
        assert_eq!((s3.keys().len(), s3.rows().len()), (3, 6));
    }
}

#[test]
fn bad_records_are_not_answered_when_the_batch_fails() {
    let mut batch = good(0..3);
    batch[1] = record(1, "a\nb");
    let s3 = Memory::failing_after(0);

    assert!(
        write(&s3, &lines(), &event(&batch)).is_err(),
        "an answer would commit records that were not written"
    );
}

#[test]
fn offsets_that_do_not_rise_begin_another_object() {
    let s3 = Memory::default();
    assert!(bad(&s3, &lines(), &event(&good([4, 5, 5, 2, 3]))).is_empty());
    assert_eq!(s3.keys().len(), 3);
    assert_eq!(s3.offsets(), [2, 3, 4, 5]);
}

#[test]

fn a_partition_listed_twice_is_one_partition() {
    let s3 = Memory::default();
    let event = r#"{"eventSource":"aws:kafka","records":{"t-0":[{"offset":0,"value":"YQ=="}],"t-1":[],
                    "t-0":[{"offset":1,"value":"Yg=="}]}}"#;
    let event = serde_json::value::RawValue::from_string(event.to_owned()).unwrap();

    assert!(bad(&s3, &config(&[]), &event).is_empty());
    assert_eq!(s3.only().body, b"a\nb\n");
    assert!(s3.only().key.starts_with("t/0/customer-data-undated-"));
}

#[test]
fn the_same_records_are_the_same_bytes_compressed_too() {
    for (word, suffix) in [("gzip", ".csv.gz"), ("zstd", ".csv.zst")] {
        let config = config(&[("CSV_COMPRESSION", word)]);
        let (one, other) = (Memory::default(), Memory::default());
        bad(&one, &config, &event(&good(0..500)));
        bad(&other, &config, &event(&good(0..500)));
        assert_eq!(one.only(), other.only());
        assert!(one.only().key.ends_with(suffix) && one.only().body.len() < 2_000);
    }
}
