use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const RECORD: &str = r#"{"type": "record", "name": "n.R", "fields": [
    {"name": "z", "type": "string"}, {"name": "a", "type": ["null", "double"]},
    {"name": "list", "type": {"type": "array", "items": "long"}},
    {"name": "next", "type": ["null", "R"]}]}"#;
const LIMIT: usize = 10_000;

fn json(schema: &str, record: &[u8]) -> Result<String, Misfit> {
    let json = Schema::parse(schema).unwrap().json(record, LIMIT)?;
    Ok(String::from_utf8(json).unwrap())
}

/// A record of the schema `RECORD`, with further ones in it.
fn record() -> impl Strategy<Value = Value> {
    let leaf = (".{0,9}", proptest::option::of(any::<f64>()), proptest::collection::vec(any::<i64>(), 0..4));
    proptest::collection::vec(leaf, 1..5).prop_map(|list| {
        list.into_iter().rev().fold(Value::Null, |next, (z, a, list)| {
            json!({"z": z, "a": a.filter(|number| number.is_finite()), "list": list, "next": next})
        })
    })
}

/// The same record as the crate's writer needs it.
fn avro(record: &Value) -> Avro {
    let long = |number: &Value| Avro::Long(number.as_i64().unwrap());
    Avro::Record(vec![
        ("z".to_owned(), Avro::String(record["z"].as_str().unwrap().to_owned())),
        ("a".to_owned(), choice(record["a"].as_f64().map(Avro::Double))),
        ("list".to_owned(), Avro::Array(record["list"].as_array().unwrap().iter().map(long).collect())),
        ("next".to_owned(), choice(Some(&record["next"]).filter(|next| !next.is_null()).map(avro))),
    ])
}

fn choice(value: Option<Avro>) -> Avro {
    let number = value.is_some().into();
    Avro::Union(number, Box::new(value.unwrap_or(Avro::Null)))
}

/// The JSON of the record, with the members in the order of the schema.
fn text(record: &Value) -> String {
    if record.is_null() {
        return "null".to_owned();
    }
    let next = text(&record["next"]);
    format!(r#"{{"z":{},"a":{},"list":{},"next":{next}}}"#, record["z"], record["a"], record["list"])
}

fn bytes(record: &Value) -> Vec<u8> {
    let schema = Definition::parse_str(RECORD).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(avro(record)).unwrap()
}

proptest! {
    #[test]
    fn what_the_crate_writes_is_read_as_the_same_json(record in record()) {
        prop_assert_eq!(json(RECORD, &bytes(&record)).unwrap(), text(&record));
    }

    #[test]
    fn a_record_that_ends_early_is_never_read(record in record(), at in any::<prop::sample::Index>()) {
        let bytes = bytes(&record);
        let short = &bytes[..at.index(bytes.len())];
        prop_assert_eq!(json(RECORD, short), Err(Misfit::Short));

        let mut long = bytes;
        long.push(0);
        prop_assert_eq!(json(RECORD, &long), Err(Misfit::Long));
    }

    #[test]
    fn any_bytes_are_json_or_a_misfit(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(text) = json(RECORD, &bytes) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }
    }
}

#[test]
fn members_stay_in_the_order_of_the_schema() {
    assert_eq!(json(RECORD, &[2, b'x', 0, 0, 0]).unwrap(), r#"{"z":"x","a":null,"list":[],"next":null}"#);
}

#[test]
fn logical_types_are_the_types_below_them() {
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    assert_eq!(json(date, &[4]).unwrap(), "2");
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#;
    assert_eq!(json(decimal, &[4, 0x00, 0xff]).unwrap(), "\"\\u0000ÿ\"");
    // A wrong logical type is ignored, as the specification says.
    assert_eq!(json(r#"{"type": "string", "logicalType": "uuid"}"#, &[2, b'x']).unwrap(), "\"x\"");
}

#[test]
fn floats_have_few_digits_and_a_text_where_json_has_none() {
    assert_eq!(json("\"float\"", &0.1_f32.to_le_bytes()).unwrap(), "0.1");
    assert_eq!(json("\"double\"", &f64::NEG_INFINITY.to_le_bytes()).unwrap(), "\"-Infinity\"");
    assert_eq!(json("\"float\"", &f32::NAN.to_le_bytes()).unwrap(), "\"NaN\"");
}

#[test]
fn a_block_may_state_its_size() {
    assert_eq!(json(r#"{"type": "array", "items": "int"}"#, &[3, 4, 2, 4, 2, 6, 0]).unwrap(), "[1,2,3]");
    assert_eq!(json(r#"{"type": "map", "values": "int"}"#, &[1, 6, 2, b'k', 2, 0]).unwrap(), r#"{"k":1}"#);
}

#[test]
fn numbers_choices_and_lengths_that_are_not_possible_are_misfits() {
    let long = "\"long\"";
    let mut most = [0xff; 10];
    most[9] = 1;
    assert_eq!(json(long, &most).unwrap(), i64::MIN.to_string());
    most[9] = 2;
    for (schema, bytes) in [
        (long, most.as_slice()),
        ("\"int\"", &[0x80, 0x80, 0x80, 0x80, 0x10]),
        ("\"boolean\"", &[2]),
        ("\"string\"", &[2, 0xff]),
        ("\"bytes\"", &[1]),
        (r#"["null", "int"]"#, &[4]),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, &[2]),
    ] {
        assert_eq!(json(schema, bytes), Err(Misfit::Impossible), "{schema}");
    }
}

#[test]
fn neither_depth_nor_size_is_without_a_limit() {
    let nested = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]}"#;
    assert_eq!(json(nested, &vec![2; 1_000_000]), Err(Misfit::Deep));
    let endless = r#"{"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}"#;
    assert_eq!(json(endless, &[]), Err(Misfit::Deep));
    // The head of a block of 2^62 - 1 nulls, which have no bytes of their own.
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(json(r#"{"type": "array", "items": "null"}"#, &many), Err(Misfit::Large));
}

#[test]
fn a_schema_that_is_none_is_refused_with_the_reason() {
    assert!(Schema::parse("{").err().unwrap().contains("EOF"));
    assert!(Schema::parse(r#"{"type": "record", "name": "R"}"#).err().unwrap().contains("fields"));
}
