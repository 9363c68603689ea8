use postern_runtime::env::Environment;

use super::*;
use crate::event::Payload;

/// Appends each JSON object to one table; returns its text and the outcome of each.
fn append(environment: &[(&str, &str)], values: &[&str]) -> (String, Vec<Result<(), BadRecord>>) {
    let environment = [&[("S3_BUCKET_NAME", "b"), ("RECORD_FORMAT", "json")], environment].concat();
    let config = Config::from_env(&Environment::of(&environment)).unwrap();
    let (mut writer, mut table) = (RowWriter::new(&config), Table::default());
    let partition = Partition { name: "t-0".into(), topic: "t".into(), number: 0 };
    let record = Record {
        offset: 0,
        timestamp: None,
        timestamp_type: None,
        key: Payload::Null,
        value: Payload::Null,
        headers: None,
        key_schema: None,
        value_schema: None,
    };

    let append = |value: &&str| writer.append(&mut table, &partition, &record, value);
    let outcomes = values.iter().map(append).collect();
    (String::from_utf8(table.csv).unwrap(), outcomes)
}

#[test]
fn the_first_good_record_names_the_columns() {
    let values = ["7", "{}", r#"{"a":1,"b":2,"a":3}"#, r#"{"b":4,"a":5}"#, r#"{"a":6}"#, r#"{"c":1}"#];
    let (csv, outcomes) = append(&[("CSV_HEADER", "true")], &values);
    assert_eq!(csv, "a,b\n3,2\n5,4\n6,\n");
    assert_eq!(outcomes[0], Err(BadRecord::NotAnObject));
    assert_eq!(outcomes[1], Err(BadRecord::NoColumns));
    assert_eq!(outcomes[5], Err(BadRecord::ExtraColumn));
}

#[test]
fn a_bad_record_leaves_the_table_as_it_was() {
    let half_a_pair = r#"{"a":"\ud83d"}"#;
    let (csv, outcomes) = append(&[("CSV_HEADER", "true")], &[half_a_pair, r#"{"b":1}"#, r#"{"b":2,"c":3}"#]);
    assert_eq!(csv, "b\n1\n", "the bad record must write no header and name no columns");
    assert_eq!(outcomes, [Err(BadRecord::NotAnObject), Ok(()), Err(BadRecord::ExtraColumn)]);
}

#[test]
fn a_record_may_name_1024_columns_and_no_more() {
    let object = |keys: usize| {
        let members: Vec<String> = (0..keys).map(|key| format!(r#""k{key}":{key}"#)).collect();
        format!("{{{}}}", members.join(","))
    };

    assert_eq!(append(&[], &[&object(columns::MAX_COLUMNS)]).1, [Ok(())]);
    assert_eq!(append(&[], &[&object(columns::MAX_COLUMNS + 1)]).1, [Err(BadRecord::TooManyColumns)]);
}

#[test]
fn trailing_text_after_an_object_is_refused() {
    for value in [r#"{"a":1} x"#, r#"{"a":1}}"#, r#"{"a":1,}"#, r#"{"a":1"#] {
        assert_eq!(append(&[], &[r#"{"a":1}"#, value]).1[1], Err(BadRecord::NotAnObject), "{value}");
    }
    assert_eq!(append(&[], &[r#"{"a":1}"#, "{ \"a\" : 1 }\n"]).0, "1\n1\n");
}
