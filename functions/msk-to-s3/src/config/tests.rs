use super::*;

fn read(list: &[(&str, &str)]) -> Result<Config, String> {
    let list = [&[("S3_BUCKET_NAME", "b")], list].concat();
    Config::from_env(&Environment::of(&list)).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_those_of_the_sample() {
    let config = read(&[]).unwrap();
    assert_eq!(config.format, Format::Lines);
    assert_eq!((config.prefix.as_str(), config.header, config.neutralize), ("", false, false));
    assert_eq!((config.columns, config.metadata), (Vec::new(), Vec::new()));
    assert_eq!((config.compression, config.layout), (Compression::None, KeyLayout::Partition));
}

#[test]
fn every_variable_can_be_set() {
    let config = read(&[
        ("KEY_PREFIX", "/in/kafka/"),
        ("RECORD_FORMAT", "json"),
        ("CSV_COLUMNS", "id, name"),
        ("CSV_HEADER", "true"),
        ("CSV_METADATA_COLUMNS", "true"),
        ("CSV_COMPRESSION", "zstd"),
        ("CSV_NEUTRALIZE_FORMULAS", "true"),
        ("CSV_LINE_BREAKS", "space"),
        ("CSV_KEY_LAYOUT", "time"),
    ])
    .unwrap();

    assert_eq!(config.prefix, "in/kafka/");
    assert_eq!(config.columns, [Column::named("id"), Column::named("name")]);
    assert!(config.drop_extra && config.header && config.neutralize);
    assert_eq!((config.line_breaks, config.layout), (LineBreaks::Space, KeyLayout::Time));
    assert_eq!(
        config.metadata.iter().map(|column| column.column()).collect::<Vec<_>>(),
        ["kafka_topic", "kafka_partition", "kafka_offset", "kafka_timestamp"]
    );
    assert_eq!(read(&[("CSV_METADATA_COLUMNS", "key, headers")]).unwrap().metadata.len(), 2);
}

#[test]
fn extra_keys_fail_by_default_only_if_no_columns_are_configured() {
    assert!(!read(&[("RECORD_FORMAT", "json")]).unwrap().drop_extra);
    assert!(read(&[("RECORD_FORMAT", "json"), ("CSV_EXTRA_COLUMNS", "drop")]).unwrap().drop_extra);
    assert!(!read(&[("CSV_COLUMNS", "a"), ("CSV_EXTRA_COLUMNS", "fail")]).unwrap().drop_extra);
}

#[test]
fn an_error_names_the_variable_and_what_would_be_right() {
    for (list, problem) in [
        (&[("RECORD_FORMAT", "xml")][..], "RECORD_FORMAT: it must be lines or json; set it like"),
        (&[("CSV_HEADER", "true")], "CSV_HEADER: in lines mode a header needs the names"),
        (&[("CSV_KEY_LAYOUT", "hour")], "CSV_KEY_LAYOUT: it must be partition or time"),
        (&[("CSV_HEADER", "1")], "CSV_HEADER: it must be true or false"),
        (&[("CSV_COLUMNS", "a,,b")], "CSV_COLUMNS: a column name is empty"),
        (&[("CSV_COLUMNS", "a,b,a")], "CSV_COLUMNS: a column is named twice"),
        (
            &[("CSV_METADATA_COLUMNS", "offset,size")],
            "CSV_METADATA_COLUMNS: it must be true, false, or a list",
        ),
        (&[("CSV_COMPRESSION", "lz4")], "CSV_COMPRESSION: it must be none, gzip or zstd"),
        (&[("KEY_PREFIX", "a\nb")], "KEY_PREFIX: it must not contain control characters"),
    ] {
        let error = read(list).unwrap_err();
        assert!(error.contains(problem), "{error}");
    }

    let error = Config::from_env(&Environment::of(&[])).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable S3_BUCKET_NAME: it is not set; set it like S3_BUCKET_NAME=my-bucket"
    );
}

#[test]
fn a_prefix_has_512_bytes_at_most() {
    let prefix = "p".repeat(512);
    assert_eq!(read(&[("KEY_PREFIX", &prefix)]).unwrap().prefix, format!("{prefix}/"));

    let error = read(&[("KEY_PREFIX", &format!("{prefix}p"))]).unwrap_err();
    assert!(error.contains("KEY_PREFIX: it must not be longer than 512 bytes"), "{error}");
}
