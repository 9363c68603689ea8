use proptest::prelude::*;

use super::*;

/// What can arrive about one job, at any time and any number of times.
#[derive(Debug, Clone)]
enum Message {
    Accepted,
    Ended(State, Rank),
    Progress(i64),
}

fn message() -> impl Strategy<Value = Message> {
    let end = prop_oneof![
        Just((State::TimedOut, Rank::Concluded)),
        Just((State::Cancelled, Rank::ExecutionEnded)),
        Just((State::Failed, Rank::Answered)),
    ];
    prop_oneof![
        Just(Message::Accepted),
        end.prop_map(|(state, rank)| Message::Ended(state, rank)),
        (0..50_i64).prop_map(Message::Progress),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn new_job() -> NewJob {
    let id = JobId::parse("ba7816bf8f01cfea414140de5dae2223").unwrap();
    let mut job = NewJob::new(Tenant::parse("tenant1").unwrap(), id, Timestamp::UNIX_EPOCH);
    job.idempotency_key = Some("the-key".into());
    job
}

fn progress_at(millis: i64) -> Progress {
    Progress {
        job_id: new_job().job_id,
        percent: Some(50.0),
        message: None,
        data: Some(millis.to_string()),
        log: vec![millis.to_string()],
        at: Timestamp::from_millisecond(millis).unwrap(),
    }
}

/// Records the message, and says whether it changed the job.
async fn send(table: &MemoryJobs, message: &Message) -> bool {
    let (tenant, id, now) = (new_job().tenant, new_job().job_id, Timestamp::UNIX_EPOCH);
    match message {
        Message::Accepted => table.accepted(&tenant, &id, Some("worker-1"), now).await.unwrap(),
        Message::Ended(state, rank) => {
            table.ended(&tenant, &id, &End::new(*state, *rank), now).await.unwrap()
        }
        Message::Progress(millis) => {
            let progress = progress_at(*millis);
            table.progress(&tenant, Some("worker-1"), &progress).await.unwrap().is_some()
        }
    }
}

proptest! {
    #[test]
    fn late_repeated_and_reordered_messages_never_move_a_job_back(
        messages in prop::collection::vec(message(), 1..40),
    ) {
        block_on(async {
            let table = MemoryJobs::default();
            let job = new_job();
            table.dispatched(&job).await.unwrap();

            let mut before = table.get(&job.tenant, &job.job_id).await.unwrap().unwrap();
            for message in &messages {
                let is_changed = send(&table, message).await;
                let after = table.get(&job.tenant, &job.job_id).await.unwrap().unwrap();
                assert_eq!(is_changed, after != before);
                assert!(after.rank >= before.rank && after.progress_at >= before.progress_at);
                assert!(after.rank > before.rank || after.state == before.state);
                before = after;
            }

            // The order of arrival decides nothing but which lines of the log are kept.
            let newest = messages.iter().filter_map(|m| if let Message::Progress(at) = m { Some(*at) } else { None }).max();
            assert_eq!(before.data, newest.map(|at| at.to_string()));
            assert_eq!(table.resume(&job.tenant, "the-key").await.unwrap(), before.data);
        });
    }
}

#[tokio::test]
async fn an_answer_replaces_an_end_that_was_only_concluded() {
    let table = MemoryJobs::default();
    let (tenant, id, now) = (new_job().tenant, new_job().job_id, Timestamp::UNIX_EPOCH);
    table.dispatched(&new_job()).await.unwrap();

    assert!(table.ended(&tenant, &id, &End::new(State::Cancelled, Rank::ExecutionEnded), now).await.unwrap());
    let failed = End::new(State::Failed, Rank::Answered).because("Db.Locked", "é".repeat(2_000));
    assert!(table.ended(&tenant, &id, &failed, now).await.unwrap());
    assert!(!table.ended(&tenant, &id, &End::new(State::TimedOut, Rank::Concluded), now).await.unwrap());

    let job = table.get(&tenant, &id).await.unwrap().unwrap();
    assert_eq!((job.state, job.cause.unwrap().chars().count()), (State::Failed, 1_000));
}

#[tokio::test]
async fn another_tenants_progress_changes_nothing() {
    let table = MemoryJobs::default();
    table.dispatched(&new_job()).await.unwrap();
    let other = Tenant::parse("tenant2").unwrap();

    assert_eq!(table.progress(&other, None, &progress_at(1)).await, Ok(None));
    assert_eq!(table.get(&other, &new_job().job_id).await, Ok(None));
    assert_eq!(table.resume(&other, "the-key").await, Ok(None));
    assert_eq!(table.get(&new_job().tenant, &new_job().job_id).await.unwrap().unwrap().data, None);
}

#[tokio::test]
async fn progress_survives_more_attempts_without_any_than_the_table_remembers() {
    let (table, tenant) = (MemoryJobs::default(), new_job().tenant);
    table.dispatched(&new_job()).await.unwrap();
    table.progress(&tenant, None, &progress_at(7)).await.unwrap().unwrap();

    for attempt in 1..=30_u8 {
        let resume = table.resume(&tenant, "the-key").await.unwrap();
        assert_eq!(resume.as_deref(), Some("7"), "attempt {attempt}");
        let job_id = JobId::parse(format!("{attempt:032x}")).unwrap();
        let dispatched_at = Timestamp::from_second(attempt.into()).unwrap();
        table.dispatched(&NewJob { job_id, dispatched_at, resume, ..new_job() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_list_is_paged_newest_first_and_has_no_details() {
    let table = MemoryJobs::default();
    for number in 0..5_u8 {
        let mut job = new_job();
        job.job_id = JobId::parse(format!("{number:032x}")).unwrap();
        job.dispatched_at = Timestamp::from_second(i64::from(number / 2)).unwrap();
        table.dispatched(&job).await.unwrap();
    }

    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = table.list(&new_job().tenant, &Filter::default(), 2, cursor.as_ref()).await.unwrap();
        ids.extend(page.jobs.iter().map(|job| job.job_id.trim_start_matches('0').to_owned()));
        assert!(page.jobs.iter().all(|job| job.idempotency_key.is_none()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(ids, ["4", "3", "2", "1", ""]);
}
