//! The `sql` handler on real databases. What holds for every database is tested on every one.

mod csv;
mod exactly_once;
mod interruptions;
mod servers;
mod tls;
mod types;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postern_types::JobMessage;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::handlers::Secret;
use servers::{Engine, Server};

const ALL: [Engine; 3] = [Engine::Postgres, Engine::Mariadb, Engine::Sqlite];

/// A database of a test's own.
struct Db {
    server: Arc<Server>,
    name: String,
    engine: Engine,
}

impl Db {
    async fn new(engine: Engine) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let server = tokio::task::spawn_blocking(move || Server::shared(engine)).await.unwrap();
        let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let db = Self { name: server.first_database().to_owned(), server, engine };
        match engine {
            // Each file is a database, and SQLite's handler opens only files that exist.
            Engine::Sqlite => {
                let path = db.server.url(&name).replace("sqlite://", "");
                rusqlite::Connection::open(path).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
            }
            // CREATE DATABASE of PostgreSQL cannot run in a transaction.
            Engine::Postgres => {
                let connection = tokio_postgres::connect(&db.url(), tokio_postgres::NoTls).await.unwrap();
                let (client, driver) = connection;
                tokio::spawn(driver);
                client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
            }
            Engine::Mariadb => {
                db.execute(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
            }
        }
        Self { name, ..db }
    }

    fn url(&self) -> String {
        self.server.url(&self.name)
    }

    fn config(&self, statement: &str) -> config::Sql {
        config::Sql {
            url: Secret::Text(self.url()),
            statement: statement.into(),
            read_only: true,
            max_rows: Some(1_000),
            format: config::Format::Json,
            ca: None,
            policy: None,
            timeout_seconds: 60,
        }
    }

    fn reads(&self, statement: &str) -> Sql {
        Sql::new("test", self.config(statement)).unwrap()
    }

    fn writes(&self, statement: &str) -> Sql {
        Sql::new("test", config::Sql { read_only: false, ..self.config(statement) }).unwrap()
    }

    async fn execute(&self, statement: &str) -> Value {
        run(&self.writes(statement), json!({})).await.unwrap()
    }

    async fn query(&self, statement: &str) -> Value {
        run(&self.reads(statement), json!({})).await.unwrap()
    }

    /// The statement that this database understands.
    fn choose<'a>(&self, postgres: &'a str, mariadb: &'a str, sqlite: &'a str) -> &'a str {
        match self.engine {
            Engine::Postgres => postgres,
            Engine::Mariadb => mariadb,
            Engine::Sqlite => sqlite,
        }
    }
}

async fn run(handler: &Sql, input: Value) -> Result<Value, TaskFailure> {
    let result = handler.run(JobContext::for_test(&input)).await?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

/// A job with a key, and the token that cancels it.
fn job(key: &str, input: &Value) -> (JobContext, CancellationToken) {
    let message = json!({"TaskToken": "t", "IdempotencyKey": key, "Input": input}).to_string();
    let cancelled = CancellationToken::new();
    let message = Arc::new(JobMessage::parse(message.as_bytes()).unwrap());
    (JobContext::of(message, cancelled.clone()), cancelled)
}

/// Waits until a query has this answer.
async fn until(db: &Db, query: &str, expected: &Value) {
    let held = async {
        while db.query(query).await != *expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let held = tokio::time::timeout(Duration::from_secs(30), held).await;
    assert!(held.is_ok(), "{query} never had the answer {expected}");
}

#[tokio::test]
async fn every_text_reaches_the_database_as_a_value() {
    let evil = [
        "'; drop table victims; --",
        "' or '1'='1",
        "\" or \"\"=\"",
        "\\'; drop table victims; --",
        "') ; select 1 --",
        "/* */ ; --",
        "$1",
        "?",
        ":x",
        "@x",
        "%s",
        "$$; drop table victims; $$",
        "\u{2019} or 1=1",
        "ʼ or 1=1",
        "; attach database '/tmp/owned' as a",
        "x'; copy victims to '/tmp/owned'; --",
        "' union select * from victims --",
        "\u{1}\r\n\t",
        "é 漢字 🦀",
        "{\"a\":1}",
        "{a,b}",
        "NULL",
        "",
        " ",
        "\\",
        "\\x41",
        "0x41",
        "1; delete from victims",
        "' into outfile '/tmp/owned",
        "`id`",
        "@/etc/passwd",
        "load_file('/etc/passwd')",
        "%00",
        "\u{202e}",
        "''''",
        "\u{feff}",
    ];
    for engine in ALL {
        let db = Db::new(engine).await;
        db.execute("create table victims (id integer, name varchar(200))").await;
        let insert = db.writes("insert into victims (id, name) values (:id, :name)");
        let select = db.reads("select name from victims where id = :id and name = :name");
        let compare =
            db.reads(db.choose("select :x::text as x", "select cast(:x as char) as x", "select :x as x"));

        for (id, text) in evil.iter().enumerate() {
            let row = json!({"id": id, "name": text});
            assert_eq!(
                run(&insert, row.clone()).await.unwrap(),
                json!({"rows_affected": 1}),
                "{engine:?} {text:?}"
            );
            assert_eq!(run(&select, row).await.unwrap(), json!([{"name": text}]), "{engine:?} {text:?}");
            assert_eq!(
                run(&compare, json!({"x": text})).await.unwrap(),
                json!([{"x": text}]),
                "{engine:?} {text:?}"
            );
        }
        let count = db.query("select count(*) as n from victims").await;
        assert_eq!(count, json!([{"n": evil.len()}]), "{engine:?}");
    }
}

#[tokio::test]
async fn a_nul_in_a_text_is_refused_or_kept() {
    for engine in ALL {
        let db = Db::new(engine).await;
        let handler =
            db.reads(db.choose("select :x::text as x", "select cast(:x as char) as x", "select :x as x"));
        match run(&handler, json!({"x": "a\0; drop table t"})).await {
            Ok(kept) => assert_eq!(kept, json!([{"x": "a\0; drop table t"}]), "{engine:?}"),
            Err(failure) => assert_eq!(failure.error(), "Sql.Data", "{engine:?}: {}", failure.cause()),
        }
        assert_eq!(run(&handler, json!({"x": "after"})).await.unwrap(), json!([{"x": "after"}]));
    }
}

#[tokio::test]
async fn all_parameters_and_no_others_are_given() {
    for engine in ALL {
        let db = Db::new(engine).await;
        let handler = db.reads("select 1 as n where 1 = :a and 2 = :b");
        assert_eq!(run(&handler, json!({"a": 1, "b": 2})).await.unwrap(), json!([{"n": 1}]), "{engine:?}");
        for (input, named) in [
            (json!({"a": 1}), "\"b\""),
            (json!({"a": 1, "b": 2, "c": 3}), "\"c\""),
            (json!([1, 2]), "object"),
            (json!("a"), "object"),
        ] {
            let failure = run(&handler, input).await.unwrap_err();
            assert_eq!(failure.error(), "Worker.InvalidInput");
            assert!(failure.cause().contains(named), "{}", failure.cause());
        }
    }
}

#[tokio::test]
async fn a_reading_handler_cannot_write() {
    for engine in ALL {
        let db = Db::new(engine).await;
        db.execute("create table t (n integer)").await;
        for statement in [
            "insert into t values (1)",
            "update t set n = 2",
            "delete from t",
            "drop table t",
            "create table other (n integer)",
        ] {
            let failure = run(&db.reads(statement), json!({})).await.unwrap_err();
            assert_eq!(failure.error(), "Sql.ReadOnly", "{engine:?} {statement}: {}", failure.cause());
        }
        assert_eq!(db.query("select count(*) as n from t").await, json!([{"n": 0}]));
    }
}

#[tokio::test]
async fn a_function_that_writes_is_stopped_as_well() {
    let db = Db::new(Engine::Postgres).await;
    db.execute("create table t (n integer)").await;
    db.execute("create function f() returns int language sql as 'insert into t values (1); select 1'").await;
    assert_eq!(run(&db.reads("select f()"), json!({})).await.unwrap_err().error(), "Sql.ReadOnly");
    assert!(
        run(&db.reads("set transaction read write"), json!({})).await.is_ok(),
        "it ends with its transaction"
    );
    assert_eq!(run(&db.reads("select f()"), json!({})).await.unwrap_err().error(), "Sql.ReadOnly");
    assert_eq!(db.query("select count(*) as n from t").await, json!([{"n": 0}]));
}

#[tokio::test]
async fn a_refused_statement_has_a_name_and_the_next_job_runs() {
    for engine in ALL {
        let db = Db::new(engine).await;
        db.execute("create table t (n integer primary key)").await;
        let insert = db.writes("insert into t (n) values (:n)");
        run(&insert, json!({"n": 1})).await.unwrap();
        let failure = run(&insert, json!({"n": 1})).await.unwrap_err();
        assert_eq!(failure.error(), "Sql.Constraint", "{engine:?}: {}", failure.cause());
        run(&insert, json!({"n": 2})).await.unwrap();

        let failure = run(&db.reads("select absent from t"), json!({})).await.unwrap_err();
        assert_eq!(failure.error(), "Sql.Statement");
        assert!(failure.cause().contains("absent"), "{}", failure.cause());
        assert_eq!(db.query("select count(*) as n from t").await, json!([{"n": 2}]));
    }
}

#[tokio::test]
async fn too_many_rows_and_a_result_too_large_end_the_statement() {
    for engine in ALL {
        let db = Db::new(engine).await;
        let many = db.choose(
            "select generate_series(1, 1000000000) as n",
            "select seq as n from seq_1_to_1000000000",
            "with recursive s(n) as (select 1 union all select n + 1 from s) select n from s",
        );
        let few = Sql::new("test", config::Sql { max_rows: Some(10), ..db.config(many) }).unwrap();
        assert_eq!(run(&few, json!({})).await.unwrap_err().error(), "Sql.TooManyRows", "{engine:?}");
        let unlimited =
            Sql::new("test", config::Sql { max_rows: Some(usize::MAX), ..db.config(many) }).unwrap();
        assert_eq!(
            run(&unlimited, json!({})).await.unwrap_err().error(),
            "Worker.ResultTooLarge",
            "{engine:?}"
        );

        let limited = format!("select n from ({many} limit 10) as a");
        let exact = Sql::new("test", config::Sql { max_rows: Some(10), ..db.config(&limited) }).unwrap();
        assert_eq!(run(&exact, json!({})).await.unwrap().as_array().unwrap().len(), 10, "{engine:?}");
    }
}

#[tokio::test]
async fn doctor_tells_what_is_wrong_without_a_secret() {
    for engine in ALL {
        let db = Db::new(engine).await;
        assert!(db.reads("select 1 as n").check().await.unwrap().starts_with("ok"));
        let problem = db.reads("select absent from nowhere").check().await.unwrap_err();
        assert!(problem.contains("nowhere") || problem.contains("absent"), "{problem}");

        let once = config::Sql {
            read_only: false,
            policy: Some(PolicyName::ExactlyOnce),
            ..db.config("select 1 as n")
        };
        let problem = Sql::new("test", once).unwrap().check().await.unwrap_err();
        assert!(problem.contains("postern_answers"), "{problem}");
    }

    let away = Server::shared(Engine::Sqlite);
    let urls = [
        "postgres://u:hunter2@127.0.0.1:1/db".to_owned(),
        "mysql://u:hunter2@127.0.0.1:1/db".to_owned(),
        away.url("absent.sqlite"),
    ];
    for url in urls {
        let db = Db { name: String::new(), server: Arc::clone(&away), engine: Engine::Sqlite };
        let config = config::Sql { url: Secret::Text(url), ..db.config("select 1") };
        let handler = Sql::new("test", config).unwrap();
        let problem = handler.check().await.unwrap_err();
        assert!(problem.starts_with("Sql.Unavailable: ") && !problem.contains("hunter2"), "{problem}");
        assert_eq!(run(&handler, json!({})).await.unwrap_err().error(), "Sql.Unavailable");
    }
}

#[test]
fn a_section_that_cannot_work_is_refused() {
    let config = |url: &str, statement: &str| config::Sql {
        url: Secret::Text(url.into()),
        statement: statement.into(),
        read_only: true,
        max_rows: Some(1),
        format: config::Format::Json,
        ca: None,
        policy: None,
        timeout_seconds: 60,
    };
    let problem = |config| Sql::new("test", config).err().unwrap();
    assert!(problem(config("oracle://h/db", "select 1")).starts_with("url: "));
    assert!(problem(config("sqlite:///a", "select ?")).starts_with("statement: "));
    let csv = config::Sql {
        format: config::Format::Csv,
        read_only: false,
        policy: Some(PolicyName::ExactlyOnce),
        ..config("sqlite:///a", "select 1")
    };
    assert!(problem(csv).contains("format = \"json\""));
    let once = config::Sql { policy: Some(PolicyName::ExactlyOnce), ..config("sqlite:///a", "select 1") };
    assert!(problem(once).contains("read_only = false"));
    let absent =
        config::Sql { url: Secret::Env { env: "POSTERN_TEST_ABSENT".into() }, ..config("", "select 1") };
    assert!(problem(absent).contains("POSTERN_TEST_ABSENT"));
}
