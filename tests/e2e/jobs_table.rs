//! The table of jobs in DynamoDB, held against the table in memory that the unit tests of functions use.

use jiff::{SignedDuration, Timestamp};
use postern_jobs::{End, Filter, JobItem, Jobs, MemoryJobs, NewJob, Page, Progress, Rank, State};
use postern_types::{JobId, Tenant};

use crate::stack::Stack;

const EXECUTION: &str = "arn:aws:states:us-east-1:123456789012:execution:on-prem-job:one";

/// Some of what functions write, in any order and any number of times.
#[derive(Debug, Clone)]
enum Write {
    Dispatched(NewJob),
    Accepted(JobId),
    Ended(JobId, End),
    Progress(Progress),
}

fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

/// A write about one of six jobs. The times are few, so that many writes are late, repeated or at the same time.
fn write(random: &mut fastrand::Rng) -> Write {
    let number = random.u8(0..6);
    let job_id = JobId::parse(format!("{number:032x}")).unwrap();
    let at = Timestamp::from_second(1_795_560_000 + random.i64(0..8)).unwrap();

    match random.u8(0..8) {
        0 => {
            let mut job = NewJob::new(tenant("tenant1"), job_id, at);
            job.execution = Some(EXECUTION.to_owned());
            job.idempotency_key = Some(format!("key-{}", number % 2));
            job.deadline = Some(at + SignedDuration::from_secs(300));
            job.resume = random.bool().then(|| random.u32(..).to_string());
            Write::Dispatched(job)
        }
        1 => Write::Accepted(job_id),
        2 => {
            let (state, rank) = random
                .choice([
                    (State::TimedOut, Rank::Concluded),
                    (State::Cancelled, Rank::ExecutionEnded),
                    (State::Succeeded, Rank::Answered),
                    (State::Failed, Rank::Answered),
                ])
                .unwrap();
            let end = End::new(state, rank);
            Write::Ended(job_id, if random.bool() { end.because("E", "é".repeat(1_200)) } else { end })
        }
        _ => Write::Progress(Progress {
            job_id,
            percent: random.bool().then(|| random.f64() * 120.0),
            message: random.bool().then(|| "message".to_owned()),
            data: random.bool().then(|| random.u32(..).to_string()),
            log: (0..random.usize(0..3)).map(|line| format!("line {line}")).collect(),
            at,
        }),
    }
}

/// Whether the write changed the job, and the job as a progress returned it.
async fn apply(jobs: &impl Jobs, write: &Write) -> (bool, Option<JobItem>) {
    let (tenant, now) = (tenant("tenant1"), Timestamp::from_second(1_795_570_000).unwrap());
    match write {
        Write::Dispatched(job) => (jobs.dispatched(job).await.unwrap(), None),
        Write::Accepted(id) => (jobs.accepted(&tenant, id, Some("w"), now).await.unwrap(), None),
        Write::Ended(id, end) => (jobs.ended(&tenant, id, end, now).await.unwrap(), None),
        Write::Progress(progress) => {
            let job = jobs.progress(&tenant, Some("w"), progress).await.unwrap();
            (job.is_some(), job)
        }
    }
}

/// All pages of a list.
async fn list(jobs: &impl Jobs, tenant: &Tenant, filter: Filter) -> Vec<JobItem> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let Page { jobs: page, next } = jobs.list(tenant, &filter, 2, cursor.as_ref()).await.unwrap();
        assert!(page.len() <= 2);
        all.extend(page);
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

async fn open(jobs: &impl Jobs) -> Vec<String> {
    let mut ids: Vec<_> =
        jobs.open_jobs(EXECUTION).await.unwrap().into_iter().map(|job| format!("{job:?}")).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_in_dynamodb_ends_as_the_table_in_memory_does() {
    let stack = Stack::start("jobs-table").await;
    let (table, memory) = (stack.jobs(), MemoryJobs::default());
    let seed = std::env::var("POSTERN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);

    for number in 0..150 {
        let write = write(&mut random);
        let expected = apply(&memory, &write).await;
        assert_eq!(apply(&table, &write).await, expected, "POSTERN_SEED={seed}, write {number}: {write:?}");
    }

    let tenant1 = tenant("tenant1");
    for number in 0..6 {
        let id = JobId::parse(format!("{number:032x}")).unwrap();
        assert_eq!(table.get(&tenant1, &id).await, memory.get(&tenant1, &id).await, "POSTERN_SEED={seed}");
    }
    for key in ["key-0", "key-1", "key-2"] {
        assert_eq!(
            table.resume(&tenant1, key).await,
            memory.resume(&tenant1, key).await,
            "POSTERN_SEED={seed}"
        );
        let expected = memory.attempts(&tenant1, key).await;
        assert_eq!(table.attempts(&tenant1, key).await, expected, "POSTERN_SEED={seed}, {key}");
    }
    let from = Timestamp::from_second(1_795_560_003).unwrap();
    let states = State::ALL.map(|state| Filter { state: Some(state), ..Filter::default() });
    let times = [Filter::default(), Filter { from: Some(from), ..Filter::default() }];
    for filter in states.into_iter().chain(times).chain([Filter { to: Some(from), ..Filter::default() }]) {
        let expected = list(&memory, &tenant1, filter).await;
        assert_eq!(list(&table, &tenant1, filter).await, expected, "POSTERN_SEED={seed}, {filter:?}");
    }
    assert_eq!(open(&table).await, open(&memory).await, "POSTERN_SEED={seed}");
    assert!(list(&table, &tenant("tenant2"), Filter::default()).await.is_empty());
}
