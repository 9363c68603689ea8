//! Progress: from a handler to the table of jobs, and from there to the next attempt.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use postern_jobs::{Filter, JobItem, Jobs as _, NewJob, State};
use postern_local::Deployment;
use postern_types::{JobId, Tenant};
use serde_json::{Value, json};

use crate::stack::{MACHINE, Stack, TIMEOUT, held};

/// Publishes progress of one job as the worker of a tenant would.
async fn report(stack: &Stack, tenant: &str, job_id: &JobId, second: u8, percent: u8) {
    let entry = json!({"JobId": job_id, "Percent": percent, "Data": {"row": percent}, "Log": [format!("at {percent}")],
        "At": format!("2026-01-01T00:00:{second:02}.000Z")});
    stack.publish_to(&format!("{tenant}/progress"), json!({"Jobs": [entry]}).to_string()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reordered_repeated_and_forged_progress_never_moves_a_job_back() {
    let stack = Stack::start("progress").await;
    let execution = stack.execute(r#"{"a":1,"b":2}"#).await;
    let id = stack.job_id(&execution, 1).await;
    stack.job(&id, "the job is dispatched", |job| job.state == State::Dispatched).await;

    report(&stack, "tenant1", &id, 5, 50).await;
    stack.job(&id, "progress", |job| job.percent == Some(50.0)).await;
    // Late, repeated, of another tenant and of no job. The last message is recorded after all of them.
    report(&stack, "tenant1", &id, 4, 40).await;
    report(&stack, "tenant1", &id, 5, 55).await;
    report(&stack, "tenant2", &id, 8, 80).await;
    report(&stack, "tenant1", &JobId::parse("0".repeat(32)).unwrap(), 8, 80).await;
    report(&stack, "tenant1", &id, 9, 90).await;

    let job = stack.job(&id, "the last progress", |job| job.percent == Some(90.0)).await;
    assert_eq!(job.log, ["at 50", "at 90"]);
    let data: Value = serde_json::from_str(&job.data.unwrap()).unwrap();
    assert_eq!((job.state, data), (State::Dispatched, json!({"row": 90})));
    let jobs = stack.jobs();
    let tenant2 = Tenant::parse("tenant2").unwrap();
    assert_eq!(jobs.get(&tenant2, &id).await.unwrap(), None);
    assert_eq!(jobs.resume(&tenant2, job.idempotency_key.as_deref().unwrap()).await.unwrap(), None);
    assert_eq!(stack.dead_letters().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_without_a_known_job_id_is_a_dead_letter() {
    let stack = Stack::start("progress-invalid").await;
    let forged = json!({"Jobs": [{"JobId": "key#another", "Percent": 1, "At": "2026-01-01T00:00:00.000Z"}]});
    stack.publish_to("tenant1/progress", forged.to_string()).await;

    let dead_letter = stack.dead_letter().await;
    assert_eq!(dead_letter["responsePayload"]["errorType"], "JobProgress.InvalidMessage", "{dead_letter}");
    assert_eq!(dead_letter["requestPayload"]["tenant"], "tenant1");
}

/// The seconds for which the workers of the next test report.
const ROUNDS: u8 = 3;

/// Each worker has a tenth of the jobs. `POSTERN_PROGRESS_JOBS=1000` asks for as many as ten busy workers have.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_ends_right_when_ten_workers_report_all_their_jobs_each_second() {
    let stack = Stack::start("progress-many").await;
    let count =
        std::env::var("POSTERN_PROGRESS_JOBS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    let tenant = Tenant::parse("tenant1").unwrap();
    let ids: Vec<_> = (0..count).map(|number: u32| JobId::parse(format!("{number:032x}")).unwrap()).collect();
    let jobs = stack.jobs();
    let now = Timestamp::now();
    let dispatched = ids.iter().map(|id| {
        let job =
            NewJob { idempotency_key: Some(id.to_string()), ..NewJob::new(tenant.clone(), id.clone(), now) };
        let jobs = jobs.clone();
        async move { jobs.dispatched(&job).await.unwrap() }
    });
    stream::iter(dispatched).buffer_unordered(16).collect::<Vec<_>>().await;

    let start = Instant::now();
    for round in 1..=ROUNDS {
        for worker in ids.chunks(ids.len().div_ceil(10)) {
            let percent = f64::from(round) / f64::from(ROUNDS) * 100.0;
            let at = format!("2026-01-01T00:00:{round:02}.000Z");
            let entries: Vec<_> = worker
                .iter()
                .map(|id| json!({"JobId": id, "Percent": percent, "Data": {"round": round}, "At": at}))
                .collect();
            stack.publish_to("tenant1/progress", json!({"Jobs": entries}).to_string()).await;
        }
    }

    let is_done = |job: &JobItem| job.percent == Some(100.0);
    let end = Instant::now() + 2 * TIMEOUT;
    while listed(&stack, &tenant).await.iter().filter(|job| is_done(job)).count() < ids.len() {
        assert!(Instant::now() < end, "some jobs are not at 100 %");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("{count} jobs, {ROUNDS} reports each, in {} messages: {:?}", 10 * ROUNDS, start.elapsed());
    for id in ids.iter().step_by(17) {
        let data = jobs.get(&tenant, id).await.unwrap().unwrap().data.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), json!({"round": ROUNDS}));
    }
    assert_eq!(stack.dead_letters().await, 0);
}

/// All jobs of a tenant.
async fn listed(stack: &Stack, tenant: &Tenant) -> Vec<JobItem> {
    let (jobs, mut all, mut cursor) = (stack.jobs(), Vec::new(), None);
    loop {
        let page = jobs.list(tenant, &Filter::default(), 100, cursor.as_ref()).await.unwrap();
        all.extend(page.jobs);
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// A state machine whose jobs run in the handler `rows`.
fn rows() -> Deployment {
    held(Deployment::new("test")).edit(MACHINE, r#""Kind": "hold""#, r#""Kind": "rows""#)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_begins_where_the_killed_attempt_was() {
    let mut stack = Stack::with("resume", rows()).await;
    let (held, began) = (stack.folder.join("held"), stack.folder.join("began"));
    std::fs::write(&held, "").unwrap();
    stack.test_worker().await;

    // The first attempt stops at row 700 for as long as the file is there.
    let input = json!({"rows": 1_000, "stop_at": 700, "while": held, "began": began});
    let execution = stack.execute(&input.to_string()).await;
    let first = stack.job_id(&execution, 1).await;
    let job = stack.job(&first, "row 700", |job| job.percent == Some(70.0)).await;
    assert!(!job.resumed && job.log.iter().any(|line| line == "row 700"), "{job:?}");
    stack.workers_mut()[0].kill();
    std::fs::remove_file(&held).unwrap();
    stack.test_worker().await;

    let finished = stack.end(&execution).await;
    assert_eq!(finished.status, "SUCCEEDED", "{finished:?}");
    let began: Vec<String> = std::fs::read_to_string(&began).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(began, ["0", "700"], "the rows with which the attempts began");
    let second = stack.job_id(&execution, 2).await;
    let job = stack.job(&second, "the end", |job| job.state == State::Succeeded).await;
    assert!(job.resumed);
    let output: Value = serde_json::from_str(&finished.output.unwrap()).unwrap();
    assert_eq!(output["lambdaOutput"]["result"], 1_000);
}
