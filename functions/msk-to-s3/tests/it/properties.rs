//! Properties for records of any bytes: no panic, no lost record, and every object is RFC 4180 with the same fields.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::{Memory, base64, config, event, parse, record, write};

/// Text in which the special characters of CSV and JSON are frequent.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[\",\r\n=+@'\\\\ -]".prop_map(String::from),
        1 => Just("\u{feff}".to_owned()),
        1 => Just("\0".to_owned()),
        4 => any::<char>().prop_map(String::from),
    ];
    vec(part, 0..10).prop_map(|parts| parts.concat())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), text().prop_map(String::into_bytes)]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => vec(text(), 0..3).prop_map(Value::from),
    ]
}

/// The field that a JSON value becomes.
fn as_field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The offsets of the records that the answer names as bad.
fn bad_offsets(s3: &Memory, list: &[(&str, &str)], records: &[Value]) -> Vec<u64> {
    let answer = write(s3, &config(list), &event(records)).unwrap();
    answer.batch_item_failures.iter().map(|failure| failure.item_identifier.offset).collect()
}

proptest! {
    #[test]
    fn lines_of_any_bytes_are_written_unchanged_or_bad(values in vec(proptest::option::weighted(0.9, bytes()), 0..20)) {
        let records: Vec<Value> = (0..).zip(&values).map(|(offset, value)| match value {
            Some(value) => record(offset, value),
            None => json!({"offset": offset, "value": null}),
        }).collect();

        let s3 = Memory::default();
        let bad = bad_offsets(&s3, &[("CSV_METADATA_COLUMNS", "offset")], &records);

        let written: BTreeMap<u64, Vec<String>> = s3.rows().into_iter().map(|mut row| {
            (row.pop().unwrap().parse().unwrap(), row)
        }).collect();

        for (offset, value) in (0..).zip(&values) {
            let Some(value) = value else {
                prop_assert!(!written.contains_key(&offset) && !bad.contains(&offset));
                continue;
            };
            prop_assert!(written.contains_key(&offset) != bad.contains(&offset), "either written or bad");
            if let Some(row) = written.get(&offset) {
                // Another field precedes the value, because a parser would skip an empty line.
                let alone = parse(&format!("x,{}", std::str::from_utf8(value).unwrap()));
                prop_assert_eq!(row.as_slice(), &alone[0][1..]);
            }
        }
    }

    #[test]
    fn lines_alone_are_as_many_rows_as_good_records(values in vec(bytes(), 0..20)) {
        let records: Vec<Value> = (0..).zip(&values).map(|(offset, value)| record(offset, value)).collect();

        let s3 = Memory::default();
        let bad = bad_offsets(&s3, &[], &records);
        prop_assert_eq!(s3.rows().len() + bad.len(), values.len());
    }

    #[test]
    fn objects_with_any_scalars_are_read_back(
        rows in vec(vec(proptest::option::weighted(0.8, scalar()), 3), 1..15),
        neutralize in any::<bool>(),
    ) {
        let names = ["id", "a \"quoted\", name", "é\n"];
        let records: Vec<Value> = (0..).zip(&rows).map(|(offset, row)| {
            let members: Map<String, Value> = names.iter().zip(row)
                .filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?))).collect();
            record(offset, Value::Object(members).to_string())
        }).collect();

        let s3 = Memory::default();
        let list = [("RECORD_FORMAT", "json"), ("CSV_COLUMNS", "id,other"), ("CSV_METADATA_COLUMNS", "true"),
                    ("CSV_NEUTRALIZE_FORMULAS", if neutralize { "true" } else { "false" })];
        prop_assert!(bad_offsets(&s3, &list, &records).is_empty());

        let read = s3.read_once();
        prop_assert_eq!(read.len(), rows.len());
        for ((offset, fields), (number, row)) in read.iter().zip((0_u64..).zip(&rows)) {
            let id = row[0].as_ref().map_or_else(String::new, as_field);
            let same = fields[0] == id || (neutralize && fields[0] == format!("'{id}"));
            prop_assert!(same, "{:?} for {:?}", fields[0], id);
            prop_assert_eq!((*offset, fields.len(), fields[1].as_str()), (number, 2, ""));
        }
    }

    #[test]
    fn the_first_records_keys_are_the_columns(rows in vec(vec(scalar(), 3), 1..10), names in vec(text(), 3)) {
        prop_assume!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        let records: Vec<Value> = (0..).zip(&rows).map(|(offset, row)| {
            let members = names.iter().zip(row);
            let json: Vec<String> = members.map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
            record(offset, format!("{{{}}}", json.join(",")))
        }).collect();
        let s3 = Memory::default();
        let list = [("RECORD_FORMAT", "json"), ("CSV_HEADER", "true")];
        prop_assert!(bad_offsets(&s3, &list, &records).is_empty());

        let mut wanted = vec![names];
        wanted.extend(rows.iter().map(|row| row.iter().map(as_field).collect()));
        prop_assert_eq!(s3.rows(), wanted);
    }

    #[test]
    fn the_order_of_an_objects_keys_does_not_matter(row in vec(scalar(), 3), twice in any::<bool>(), junk in text()) {
        let members: Vec<String> =
            ["a", "b", "c"].iter().zip(&row).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let in_order = members.join(",");
        let mut other = vec![members[2].clone(), members[0].clone(), members[1].clone()];
        if twice {
            // Of members with the same key, the last one counts.
            other.insert(1, format!("\"\\u0061\":{}", Value::from(junk.as_str())));
        }

        let list = [("RECORD_FORMAT", "json"), ("CSV_COLUMNS", "a,b,c"), ("CSV_EXTRA_COLUMNS", "fail")];
        let s3 = Memory::default();
        let records = [record(0, format!("{{{in_order}}}")), record(1, format!("{{{}}}", other.join(", ")))];
        prop_assert!(bad_offsets(&s3, &list, &records).is_empty());
        let rows = s3.rows();
        prop_assert_eq!(&rows[0], &row.iter().map(as_field).collect::<Vec<_>>());
        prop_assert_eq!(&rows[0], &rows[1]);

        // A text that is not an object of exactly these keys is a bad record, even if it begins like one.
        for (offset, bad) in (2..).zip([
            format!("{{{in_order}}} x"), format!("{{{in_order}"), format!("{{{in_order},}}"),
            format!("{{{in_order},\"d\":1}}"), format!("{{{in_order},\"c\":\"\\ud800\"}}"),
        ]) {
            prop_assert_eq!(bad_offsets(&s3, &list, &[record(offset, bad)]), [offset]);
        }
        prop_assert_eq!(s3.rows().len(), 2);
    }

    #[test]
    fn keys_and_headers_of_any_bytes_become_text(key in bytes(), name in text(), header in vec(any::<i8>(), 0..20), odd in any::<i64>()) {
        let mut numbers: Vec<i64> = header.iter().copied().map(i64::from).collect();
        numbers.push(odd);
        let mut record = record(0, "v");
        record["key"] = base64(&key).into();
        record["headers"] = json!([{ name.as_str(): numbers }, { "none": null }, 7, {}]);
        let s3 = Memory::default();
        let list = [("CSV_METADATA_COLUMNS", "key,headers,timestamp_type,key_schema_id")];
        prop_assert!(bad_offsets(&s3, &list, &[record]).is_empty());
        let rows = s3.rows();
        prop_assert_eq!(rows.len(), 1);
        prop_assert_eq!(&rows[0][1], &String::from_utf8_lossy(&key));
        let mut bytes: Vec<u8> = header.iter().copied().map(i8::cast_unsigned).collect();
        bytes.extend(u8::try_from(odd).ok().or_else(|| i8::try_from(odd).ok().map(i8::cast_unsigned)));
        let headers: Value = serde_json::from_str(&rows[0][2]).unwrap();
        prop_assert_eq!(headers, json!([{ name: String::from_utf8_lossy(&bytes) }, { "none": null }]));
        prop_assert_eq!(&rows[0][3..], ["CREATE_TIME", ""]);
    }

    #[test]
    fn json_that_is_not_an_event_is_refused(text in text(), number in any::<i64>()) {
        for event in [
            json!(text), json!(number), json!([text]), json!({"records": text}),
            json!({"eventSource": "aws:kafka", "records": {text.as_str(): []}}),
            json!({"eventSource": "aws:kafka", "records": {"t-0": [{"offset": text}]}}),
        ] {
            let event = serde_json::value::to_raw_value(&event).unwrap();
            let error = write(&Memory::default(), &config(&[]), &event).unwrap_err();
            prop_assert_eq!(postern_runtime::NamedError::name(&error), "MskToS3.InvalidEvent");
        }
    }
}
