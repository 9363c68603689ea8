//! Values of every type, on their way into a database and out of it.

use serde_json::json;

use super::*;

#[tokio::test]
async fn values_of_postgres_survive_word_for_word() {
    let db = Db::new(Engine::Postgres).await;
    db.execute("create type mood as enum ('glad', 'très triste')").await;
    let rows = db
        .query(
            "select 9.50::numeric(10,2) as price, 123456789012345678901234567890.000000000001::numeric as large,
             'NaN'::numeric as nan, -0.00001::numeric as small, 10000::numeric as thousands,
             9007199254740993::int8 as big, 7::int2 as two, 0.1::float8 as double, 0.1::float4 as single,
             'Infinity'::float8 as infinite, true as yes, null::text as nothing, 'é 漢字 🦀'::text as unicode,
             timestamptz '2026-11-01 12:34:56.789012+02' as zoned, timestamp '2026-11-01 12:34:56.5' as local,
             date '2026-11-01' as day, time '12:34:56.5' as hour, 'infinity'::timestamptz as always,
             '\\x00ff'::bytea as bytes, '{\"a\":  1.50}'::json as json, '{\"a\": 1.50}'::jsonb as jsonb,
             '8c5d4b6e-0a51-4d0b-9f6e-1a2b3c4d5e6f'::uuid as uuid, 'très triste'::mood as mood,
             'ab'::varchar(5) as short, 'ab'::char(4) as padded",
        )
        .await;
    let expected = json!([{
        "price": "9.50", "large": "123456789012345678901234567890.000000000001", "nan": "NaN", "small": "-0.00001",
        "thousands": "10000", "big": "9007199254740993", "two": 7, "double": 0.1, "single": 0.1, "infinite": "inf",
        "yes": true, "nothing": null, "unicode": "é 漢字 🦀", "zoned": "2026-11-01T10:34:56.789012Z",
        "local": "2026-11-01T12:34:56.5", "day": "2026-11-01", "hour": "12:34:56.5", "always": "infinity",
        "bytes": "AP8=", "json": {"a": 1.50}, "jsonb": {"a": 1.50}, "uuid": "8c5d4b6e-0a51-4d0b-9f6e-1a2b3c4d5e6f",
        "mood": "très triste", "short": "ab", "padded": "ab  ",
    }]);
    assert_eq!(rows, expected);

    let text = db
        .reads("select '{\"a\":  1.50}'::json as json")
        .run(JobContext::for_test(&json!({})))
        .await
        .unwrap();
    assert_eq!(text.get(), r#"[{"json":{"a":  1.50}}]"#, "JSON keeps its text");
    let failure = run(&db.reads("select '{1,2}'::int[] as list"), json!({})).await.unwrap_err();
    assert_eq!(failure.error(), "Sql.UnsupportedType");
    assert!(failure.cause().contains("\"list\""), "{}", failure.cause());
}

#[tokio::test]
async fn parameters_of_postgres_take_the_type_of_their_place() {
    let db = Db::new(Engine::Postgres).await;
    db.execute(
        "create table t (n numeric, i int8, d date, z timestamptz, b bytea, j jsonb, y boolean, l text[], s text)",
    )
    .await;
    let insert = db.writes("insert into t values (:n, :i, :d, :z, :b, :j, :y, :l, :s)");
    let message = br#"{"TaskToken":"t","Input":{"n":12345678901234567890.10,"i":9007199254740993,"d":"2026-11-01",
        "z":"2026-11-01T12:00:00+02:00","b":"\\x00ff","j":{"a":[1.50,null]},"y":true,"l":["a,b","\"}",null],"s":null}}"#;
    let message = Arc::new(JobMessage::parse(message).unwrap());
    insert.run(JobContext::of(message, CancellationToken::new())).await.unwrap();

    let row = db.query("select n, i, d, z, b, j, y, l::text as l, s from t").await;
    let expected = json!([{
        "n": "12345678901234567890.10", "i": "9007199254740993", "d": "2026-11-01", "z": "2026-11-01T10:00:00Z",
        "b": "AP8=", "j": {"a": [1.50, null]}, "y": true, "l": "{\"a,b\",\"\\\"}\",NULL}", "s": null,
    }]);
    assert_eq!(row, expected);

    let day = db.reads("select 1 as n where :day = date '2026-11-01'");
    assert_eq!(run(&day, json!({"day": "no day"})).await.unwrap_err().error(), "Sql.Data");
    assert_eq!(run(&day, json!({"day": [1]})).await.unwrap_err().error(), "Worker.InvalidInput");
}

#[tokio::test]
async fn values_of_mariadb_survive_word_for_word() {
    let db = Db::new(Engine::Mariadb).await;
    db.execute(
        "create table t (price decimal(40,12), big bigint unsigned, small tinyint, dbl double, sgl float, yes boolean,
         nothing text, uni text, ts timestamp(6) null, dt datetime(1), day date, hour time(1), bytes blob, json json,
         e enum('glad', 'très triste'))",
    )
    .await;
    let insert = db.writes(
        "insert into t values (:price, :big, :small, :dbl, 0.1, :yes, :nothing, :uni, :ts, :dt, :day, :hour, unhex('00ff'),
         :json, :e)",
    );
    let message = br#"{"TaskToken":"t","Input":{"price":1234567890123456789012345678.000000000001,
        "big":18446744073709551615,"small":-7,"dbl":0.1,"yes":true,"nothing":null,"uni":"\u00e9 \u6f22\u5b57 \ud83e\udd80",
        "ts":"2026-11-01 10:34:56.789012","dt":"2026-11-01 12:34:56.5","day":"2026-11-01","hour":"-100:34:56.5",
        "json":{"a":1.50},"e":"tr\u00e8s triste"}}"#;
    let message = Arc::new(JobMessage::parse(message).unwrap());
    insert.run(JobContext::of(message, CancellationToken::new())).await.unwrap();

    let expected = json!([{
        "price": "1234567890123456789012345678.000000000001", "big": "18446744073709551615", "small": -7, "dbl": 0.1,
        "sgl": 0.1, "yes": 1, "nothing": null, "uni": "é 漢字 🦀", "ts": "2026-11-01T10:34:56.789012Z",
        "dt": "2026-11-01T12:34:56.5", "day": "2026-11-01", "hour": "-100:34:56.5", "bytes": "AP8=",
        // MariaDB's type JSON is a text.
        "json": "{\"a\":1.50}", "e": "très triste",
    }]);
    assert_eq!(db.query("select * from t").await, expected);
    let wrong = db.writes("insert into t (day) values (:day)");
    assert_eq!(run(&wrong, json!({"day": "no day"})).await.unwrap_err().error(), "Sql.Data");
}

#[tokio::test]
async fn values_of_sqlite_survive_word_for_word() {
    let db = Db::new(Engine::Sqlite).await;
    let echo = db.reads("select :a as a, :b as b, :c as c, :d as d, :e as e, :f as f, x'00ff' as g, :a as h");
    let message = br#"{"TaskToken":"t","Input":{"a":9007199254740993,"b":0.1,"c":null,"d":"\u00e9","e":true,
        "f":123456789012345678901234567890}}"#;
    let message = Arc::new(JobMessage::parse(message).unwrap());
    let row = echo.run(JobContext::of(message, CancellationToken::new())).await.unwrap();
    assert_eq!(
        row.get(),
        r#"[{"a":"9007199254740993","b":0.1,"c":null,"d":"é","e":1,"f":"123456789012345678901234567890","g":"AP8=","h":"9007199254740993"}]"#
    );
}

#[tokio::test]
async fn two_columns_of_one_name_are_a_failure() {
    for engine in ALL {
        let db = Db::new(engine).await;
        let failure = run(&db.reads("select 1 as n, 2 as n"), json!({})).await.unwrap_err();
        assert_eq!(failure.error(), "Sql.DuplicateColumn", "{engine:?}");
    }
}
