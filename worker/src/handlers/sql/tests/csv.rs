//! Results as CSV files on every database. `POSTERN_TEST_CSV_ROWS` sets the number of rows of the long one, whose peak of
//! memory is printed.

use super::*;

/// Runs the statement, and returns what the handler has answered and the file.
async fn exported(
    db: &Db,
    statement: &str,
    max_rows: Option<usize>,
) -> Result<(String, Option<Vec<u8>>), TaskFailure> {
    let config = config::Sql { format: config::Format::Csv, max_rows, ..db.config(statement) };
    let handler = Sql::new("test", config).unwrap();
    let job = JobContext::for_test(&json!({}));
    let files = job.files();
    let answer = handler.run(job).await?;
    Ok((answer.get().to_owned(), files.finished()))
}

#[tokio::test]
async fn rows_become_a_file_with_a_header_and_keep_their_digits() {
    for engine in ALL {
        let db = Db::new(engine).await;
        let statement = "select 9007199254740993 as n, 'a \"b\", c' as t, null as empty, '' as none";
        let (answer, file) = exported(&db, statement, None).await.unwrap();
        assert_eq!(answer, "null");
        let file = String::from_utf8(file.unwrap()).unwrap();
        assert_eq!(file, "n,t,empty,none\r\n9007199254740993,\"a \"\"b\"\", c\",,\"\"\r\n", "{engine:?}");
    }
}

#[tokio::test]
async fn a_file_is_bounded_by_max_rows_if_the_section_says_so_and_a_failure_leaves_none() {
    for engine in ALL {
        let db = Db::new(engine).await;
        let statement = "select 1 as n union all select 2 union all select 3";
        let failure = exported(&db, statement, Some(2)).await.unwrap_err();
        assert_eq!(failure.error(), "Sql.TooManyRows", "{engine:?}");
        assert!(exported(&db, statement, Some(3)).await.unwrap().1.is_some());
    }
}

#[tokio::test]
async fn a_long_result_needs_no_more_memory_than_a_short_one() {
    let rows: usize = std::env::var("POSTERN_TEST_CSV_ROWS").map_or(20_000, |rows| rows.parse().unwrap());
    for engine in ALL {
        let db = Db::new(engine).await;
        let statement = match engine {
            Engine::Postgres => format!("select n, 'row ' || n as t from generate_series(1, {rows}) as s(n)"),
            Engine::Mariadb => format!("select seq as n, concat('row ', seq) as t from seq_1_to_{rows}"),
            Engine::Sqlite => format!(
                "with recursive s(n) as (select 1 union all select n + 1 from s where n < {rows}) \
                 select n, 'row ' || n as t from s"
            ),
        };
        let (_, file) = exported(&db, &statement, None).await.unwrap();
        let peak = peak_memory();

        let file = String::from_utf8(file.unwrap()).unwrap();
        assert_eq!(file.lines().count(), rows + 1, "{engine:?}");
        assert_eq!(file.lines().last(), Some(&*format!("{rows},row {rows}")));
        println!("{engine:?}: {rows} rows, {} bytes, peak of the process's memory {peak} kB", file.len());
    }
}

/// The most memory that this process has had so far, in kB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
