//! The sample events of `events/msk-to-s3`: each has the outcome that the docs promise.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::value::RawValue;

use crate::support::{Memory, bad, config, write};

const PLAIN: &[(&str, &str)] = &[];
const FULL: &[(&str, &str)] = &[("CSV_METADATA_COLUMNS", "partition,offset,timestamp,key,headers")];
const JSON: &[(&str, &str)] = &[
    ("RECORD_FORMAT", "json"),
    ("CSV_HEADER", "true"),
    ("CSV_METADATA_COLUMNS", "key_schema_id,value_schema_id"),
];

/// A file, the function's environment, the text of the objects, and the bad records.
type Sample =
    (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

const SAMPLES: [Sample; 8] = [
    (
        "msk",
        PLAIN,
        &["C-00015,Ana Lima,Lisboa,120.50\nC-00016,\"Krause, Jörg\",Köln,-3.00\n\
           C-00017,\"The \"\"Corner\"\" Shop\",Leeds,0\n"],
        &[],
    ),
    ("self-managed", PLAIN, &["C-00000,Zoë,Gent,1\nC-00001,Noé,Brest,2\n"], &[]),
    (
        "headers",
        FULL,
        &[
            "C-00020,Zoë,Gent,1,0,20,1767225605000,C-00020,\"[{\"\"name\"\":\"\"Zoë\"\"},{\"\"trace\"\":\"\"4f92\"\"}]\"\n\
           C-00021,Noé,Brest,2,0,21,1767225605250,C-00021,\
           \"[{\"\"unsigned\"\":\"\"Zoë\"\"},{\"\"nothing\"\":null}]\"\n",
        ],
        &[],
    ),
    ("tombstones", PLAIN, &["C-00031,Ana,Porto,7\n"], &[]),
    (
        "missing-fields",
        FULL,
        &["C-00040,Ana,Porto,7,0,40,1767225610000,,\nC-00041,Rui,Faro,8,0,41,,,\n"],
        &[],
    ),
    ("two-partitions", PLAIN, &["C-00050,Ana,Porto,7\nC-00051,Rui,Faro,8\n", "C-00007,Eva,Wien,9\n"], &[]),
    ("bad-record", PLAIN, &["C-00060,Ana,Porto,7\nC-00062,Eva,Wien,9\n"], &["customer-0:61"]),
    (
        "schema-registry",
        JSON,
        &["id,name,city,balance,kafka_key_schema_id,kafka_value_schema_id\n\
           C-00070,Ana Lima,Lisboa,120.50,7,1f4b2c7e-9c1d-4a55-8b0e-6f1d2a3b4c5d\n\
           C-00071,\"The \"\"Corner\"\", Shop\",Leeds,1e3,7,1f4b2c7e-9c1d-4a55-8b0e-6f1d2a3b4c5d\n"],
        &[],
    ),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events/msk-to-s3")
}

#[test]
fn each_sample_has_the_promised_outcome() {
    for (name, list, texts, failures) in SAMPLES {
        let event = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let event = RawValue::from_string(event.trim_end().to_owned()).unwrap();
        let s3 = Memory::default();
        assert_eq!(bad(&s3, &config(list), &event), failures, "{name}");
        assert_eq!(s3.texts(), texts, "{name}");
    }
}

#[test]
fn no_sample_is_left_out() {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<String> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, SAMPLES.iter().map(|(name, ..)| (*name).to_owned()).collect());
}

#[test]
fn the_answer_is_a_partial_batch_response() {
    let event = fs::read_to_string(folder().join("bad-record.json")).unwrap();
    let event = RawValue::from_string(event.trim_end().to_owned()).unwrap();
    let answer = write(&Memory::default(), &config(PLAIN), &event).unwrap();

    assert_eq!(
        serde_json::to_string(&answer).unwrap(),
        r#"{"batchItemFailures":[{"itemIdentifier":{"partition":"customer-0","offset":61}}]}"#
    );
}
