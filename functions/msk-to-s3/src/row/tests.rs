use postern_runtime::env::Environment;

use super::*;
use crate::event::Payload;

/// Appends each JSON object to one table; returns its text and the outcome of each.
fn append(environment: &[(&str, &str)], values: &[&str]) -> (String, Vec<Result<(), BadRecord>>) {
    append_to(&[&[("RECORD_FORMAT", "json")], environment].concat(), values)
}

/// Appends each value to one table; returns its text and the outcome of each.
fn append_to(environment: &[(&str, &str)], values: &[&str]) -> (String, Vec<Result<(), BadRecord>>) {
    let environment = [&[("S3_BUCKET_NAME", "b")], environment].concat();
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

#[test]
fn a_column_takes_a_nested_value_by_its_path() {
    let columns = "id=order.id,city=customer.address.city,note";
    let values = [
        r#"{"note":"n","order":{"id":7,"x":1},"customer":{"address":{"city":"A,B","zip":"1"}}}"#,
        r#"{"customer":{"address":null},"order":{}}"#,
        r#"{"customer":"c"}"#,
        r#"{"customer":{"address":{"city":{"name":"C"}}}}"#,
    ];
    let (csv, outcomes) = append(&[("CSV_COLUMNS", columns), ("CSV_HEADER", "true")], &values);
    assert_eq!(csv, "id,city,note\n7,\"A,B\",n\n,,\n,\"{\"\"name\"\":\"\"C\"\"}\",\n");
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(BadRecord::NotNested), Ok(())]);

    let strict = [("CSV_COLUMNS", columns), ("CSV_EXTRA_COLUMNS", "fail")];
    assert_eq!(append(&strict, &values[..1]).1, [Err(BadRecord::ExtraColumn)], "order.x is not a column");
}

#[test]
fn a_renamed_column_keeps_the_members_order_fast_and_slow() {
    let (csv, _) =
        append(&[("CSV_COLUMNS", "number=id,name")], &[r#"{"id":1,"name":"a"}"#, r#"{"name":"b","id":2}"#]);
    assert_eq!(csv, "1,a\n2,b\n");
}

#[test]
fn a_value_without_the_declared_type_is_a_bad_record() {
    let columns = [("CSV_COLUMNS", "id:int64,sum:decimal(6,2)")];
    let values = [
        r#"{"id":1,"sum":2.50}"#,
        r#"{"id":"7","sum":null}"#,
        r#"{"id":1.5,"sum":1}"#,
        r#"{"sum":"x","id":1}"#,
        r#"{"id":{},"sum":1}"#,
    ];
    let (csv, outcomes) = append(&columns, &values);
    assert_eq!(csv, "1,2.50\n7,\n");
    assert_eq!(outcomes[2..], [Err(BadRecord::WrongType); 3]);

    let lines = [("RECORD_FORMAT", "lines"), columns[0]];
    let (csv, outcomes) = append_to(&lines, &["1,2.5", "\"1\",", ",", "x,1", "1,\"\""]);
    assert_eq!(csv, "1,2.5\n\"1\",\n,\n");
    assert_eq!(outcomes[3..], [Err(BadRecord::WrongType); 2]);
}
