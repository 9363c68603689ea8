//! Statements that are cancelled, and connections that are killed.

use serde_json::json;

use super::*;

/// The number of statements that sleep on the server.
fn sleepers(db: &Db) -> String {
    let of_database = match db.engine {
        Engine::Postgres => {
            "pg_stat_activity where state = 'active' and query like '%pg_sleep%' and pid <> pg_backend_pid() and datname"
        }
        _ => "information_schema.processlist where state like 'User sleep%' and db",
    };
    format!("select count(*) as n from {of_database} = '{}'", db.name)
}

/// Waits for the one statement that sleeps, and kills its connection.
pub(super) async fn kill_sleeper(db: &Db) {
    until(db, &sleepers(db), &json!([{"n": 1}])).await;
    if db.engine == Engine::Postgres {
        let pids = "pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid() and datname";
        db.query(&format!("select pg_terminate_backend(pid) as done from {pids} = '{}'", db.name)).await;
        return;
    }
    let ids = "information_schema.processlist where state like 'User sleep%' and db";
    let found = db.query(&format!("select id from {ids} = '{}'", db.name)).await;
    db.execute(&format!("kill connection {}", found[0]["id"])).await;
}

fn sleeping(db: &Db) -> Sql {
    db.reads(db.choose("select 'x' from pg_sleep(1000)", "select sleep(1000) as n", ENDLESS))
}

/// A statement of SQLite that does not end.
const ENDLESS: &str =
    "with recursive s(n) as (select 1 union all select n + 1 from s) select count(*) as n from s";

#[tokio::test]
async fn a_cancelled_job_ends_its_statement_on_the_server() {
    for engine in [Engine::Postgres, Engine::Mariadb] {
        let db = Db::new(engine).await;
        let (context, cancel) = job("key", &json!({}));
        let handler = sleeping(&db);
        let running = tokio::spawn(async move { handler.run(context).await });
        until(&db, &sleepers(&db), &json!([{"n": 1}])).await;

        cancel.cancel();
        let failure = running.await.unwrap().unwrap_err();
        assert_eq!(failure.error(), "Worker.Cancelled", "{engine:?}");
        assert_eq!(db.query(&sleepers(&db)).await, json!([{"n": 0}]), "{engine:?}: the statement has ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_interrupts_sqlite() {
    let db = Db::new(Engine::Sqlite).await;
    let (context, cancel) = job("key", &json!({}));
    let handler = sleeping(&db);
    let running = tokio::spawn(async move { handler.run(context).await });
    cancel.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), running).await.expect("it never ends");
    assert_eq!(ended.unwrap().unwrap_err().error(), "Worker.Cancelled");
}

#[tokio::test]
async fn a_statement_that_takes_longer_than_its_limit_times_out_and_ends() {
    for engine in [Engine::Postgres, Engine::Mariadb] {
        let db = Db::new(engine).await;
        let statement = db.choose("select 'x' from pg_sleep(1000)", "select sleep(1000) as n", "");
        let slow = Sql::new("test", config::Sql { timeout_seconds: 1, ..db.config(statement) }).unwrap();
        assert_eq!(run(&slow, json!({})).await.unwrap_err().error(), "Sql.Timeout", "{engine:?}");
        assert_eq!(db.query(&sleepers(&db)).await, json!([{"n": 0}]), "{engine:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_killed_in_the_middle_fails_one_job() {
    for engine in [Engine::Postgres, Engine::Mariadb] {
        let db = Db::new(engine).await;
        let handler = Arc::new(sleeping(&db));
        let running = tokio::spawn({
            let handler = Arc::clone(&handler);
            async move { run(&handler, json!({})).await }
        });
        kill_sleeper(&db).await;
        let failure = running.await.unwrap().unwrap_err();
        assert_eq!(failure.error(), "Sql.Unavailable", "{engine:?}: {}", failure.cause());
    }
}

#[tokio::test]
async fn a_connection_that_was_killed_while_it_was_idle_is_replaced() {
    for engine in [Engine::Postgres, Engine::Mariadb] {
        let db = Db::new(engine).await;
        let own = db.choose("select pg_backend_pid() as id", "select connection_id() as id", "");
        let handler = db.reads(own);
        let first = run(&handler, json!({})).await.unwrap();
        assert_eq!(run(&handler, json!({})).await.unwrap(), first, "{engine:?}: the connection is kept");

        let id = &first[0]["id"];
        match engine {
            Engine::Postgres => db.query(&format!("select pg_terminate_backend({id})")).await,
            _ => db.execute(&format!("kill connection {id}")).await,
        };
        let second = run(&handler, json!({})).await.unwrap();
        assert_ne!(second, first, "{engine:?}");
    }
}
