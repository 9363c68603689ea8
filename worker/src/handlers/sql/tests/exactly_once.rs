//! `policy = "exactly-once"`: the effect and the answer are in one transaction.

use serde_json::json;

use super::*;

async fn site(engine: Engine) -> Db {
    let db = Db::new(engine).await;
    let schema = match engine {
        Engine::Mariadb => include_str!("../answers.mysql.sql"),
        _ => include_str!("../answers.sql"),
    };
    db.execute(schema).await;
    db.execute("create table orders (n integer primary key)").await;
    db
}

fn once(db: &Db, kind: &str, statement: &str) -> Sql {
    let config =
        config::Sql { read_only: false, policy: Some(PolicyName::ExactlyOnce), ..db.config(statement) };
    Sql::new(kind, config).unwrap()
}

async fn run_with_key(handler: &Sql, key: &str, input: &Value) -> Result<String, TaskFailure> {
    handler.run(job(key, input).0).await.map(|answer| answer.get().to_owned())
}

#[tokio::test]
async fn a_key_has_one_effect_and_one_answer() {
    for engine in ALL {
        let db = site(engine).await;
        let insert = once(&db, "order", "insert into orders (n) values (:n)");
        assert!(insert.check().await.is_ok(), "{engine:?}");
        let first = run_with_key(&insert, "key-1", &json!({"n": 1})).await.unwrap();
        assert_eq!(first, r#"{"rows_affected":1}"#);
        // Without the key, the primary key would refuse the second row.
        assert_eq!(run_with_key(&insert, "key-1", &json!({"n": 1})).await.unwrap(), first, "{engine:?}");
        assert_eq!(
            run_with_key(&insert, "key-2", &json!({"n": 1})).await.unwrap_err().error(),
            "Sql.Constraint"
        );

        // The failed attempt has left no answer, and another kind has keys of its own.
        run_with_key(&insert, "key-2", &json!({"n": 2})).await.unwrap();
        let other = once(&db, "other", "insert into orders (n) values (:n)");
        run_with_key(&other, "key-1", &json!({"n": 3})).await.unwrap();
        assert_eq!(db.query("select count(*) as n from orders").await, json!([{"n": 3}]), "{engine:?}");
        assert_eq!(
            db.query("select count(*) as n from postern_answers").await,
            json!([{"n": 3}]),
            "{engine:?}"
        );
    }
}

#[tokio::test]
async fn attempts_at_the_same_time_have_one_effect() {
    for engine in ALL {
        let db = site(engine).await;
        db.execute("create table counter (n integer)").await;
        db.execute("insert into counter values (0)").await;
        let count = Arc::new(once(&db, "count", "update counter set n = n + 1"));
        let attempts: Vec<_> = (0..16)
            .map(|_| {
                let count = Arc::clone(&count);
                tokio::spawn(async move { run_with_key(&count, "same-key", &json!({})).await })
            })
            .collect();

        for attempt in attempts {
            assert_eq!(attempt.await.unwrap().unwrap(), r#"{"rows_affected":1}"#, "{engine:?}");
        }
        assert_eq!(db.query("select n from counter").await, json!([{"n": 1}]), "{engine:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_killed_before_the_commit_has_no_effect() {
    for engine in [Engine::Postgres, Engine::Mariadb] {
        let db = site(engine).await;
        let slow = db.choose(
            "insert into orders select 1 from (select pg_sleep(60)) as s",
            "insert into orders select 1 + sleep(60)",
            "",
        );
        let slow = once(&db, "slow", slow);
        let running = tokio::spawn(async move { run_with_key(&slow, "key", &json!({})).await });
        interruptions::kill_sleeper(&db).await;
        assert_eq!(running.await.unwrap().unwrap_err().error(), "Sql.Unavailable", "{engine:?}");

        let quick = once(&db, "slow", "insert into orders values (1)");
        assert_eq!(run_with_key(&quick, "key", &json!({})).await.unwrap(), r#"{"rows_affected":1}"#);
        assert_eq!(db.query("select count(*) as n from orders").await, json!([{"n": 1}]), "{engine:?}");
    }
}
