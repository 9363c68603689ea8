use jiff::Timestamp;
use postern_jobs::{ATTEMPTS, End, MemoryJobs, NewJob, Progress, Rank};
use postern_types::JobId;
use proptest::prelude::*;

use super::*;
use crate::handler::tests::item;

fn at(second: u32) -> String {
    format!("2026-11-24T22:00:{second:02}.000Z")
}

fn texts(events: &[TimelineEvent]) -> Vec<(u32, &str, &str)> {
    events.iter().map(|event| (event.attempt, event.kind, &*event.detail)).collect()
}

#[test]
fn a_timeline_has_every_attempt_in_the_order_of_time() {
    let first = JobItem {
        state: State::Failed,
        dispatched_at: Some(at(1)),
        accepted_at: Some(at(2)),
        worker: Some("w1".into()),
        progress_at: Some(at(3)),
        percent: Some(40.0),
        message: Some("<b>reading</b>".into()),
        ended_at: Some(at(5)),
        error: Some("Worker.Failed".into()),
        cause: Some("no".into()),
        ..item()
    };
    let second = JobItem {
        job_id: "f".repeat(32),
        state: State::Accepted,
        attempt: Some(1),
        dispatched_at: Some(at(4)),
        resumed: true,
        accepted_at: Some(at(6)),
        ..item()
    };
    let events = events(&[second, first]);

    assert_eq!(
        texts(&events),
        [
            (1, "dispatched", "attempt 1"),
            (1, "accepted", "by w1"),
            (1, "progress", "40 % <b>reading</b>"),
            (2, "retried", "attempt 2"),
            (2, "resumed", "with the progress of the attempt before"),
            (1, "done", "FAILED: Worker.Failed: no"),
            (2, "accepted", "by a worker"),
        ]
    );
    assert_eq!((&*events[0].job_id, &*events[3].job_id), (&*item().job_id, &*"f".repeat(32)));
}

/// What can arrive about one of several attempts, at any time and any number of times.
#[derive(Debug, Clone)]
enum Message {
    Dispatched(u8),
    Accepted(u8),
    Progress(u8, i64),
    Ended(u8, Rank),
}

fn message() -> impl Strategy<Value = Message> {
    let attempt = 0..25_u8;
    let rank = prop_oneof![Just(Rank::Concluded), Just(Rank::ExecutionEnded), Just(Rank::Answered)];
    prop_oneof![
        3 => attempt.clone().prop_map(Message::Dispatched),
        2 => attempt.clone().prop_map(Message::Accepted),
        1 => (attempt.clone(), 0..50_i64).prop_map(|(attempt, second)| Message::Progress(attempt, second)),
        1 => (attempt, rank).prop_map(|(attempt, rank)| Message::Ended(attempt, rank)),
    ]
}

fn tenant() -> Tenant {
    Tenant::parse("tenant1").unwrap()
}

fn id(attempt: u8) -> JobId {
    JobId::parse(format!("{attempt:032x}")).unwrap()
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

async fn record(jobs: &MemoryJobs, message: &Message, now: Timestamp) {
    match message {
        Message::Dispatched(attempt) => {
            let mut job = NewJob::new(tenant(), id(*attempt), second(i64::from(*attempt)));
            (job.attempt, job.idempotency_key) = (Some(u32::from(*attempt)), Some("the-key".into()));
            jobs.dispatched(&job).await.unwrap();
        }
        Message::Accepted(attempt) => {
            jobs.accepted(&tenant(), &id(*attempt), Some("w"), now).await.unwrap();
        }
        Message::Progress(attempt, at) => {
            let progress = Progress {
                job_id: id(*attempt),
                percent: Some(1.0),
                message: None,
                data: None,
                log: Vec::new(),
                at: second(*at),
            };
            jobs.progress(&tenant(), None, &progress).await.unwrap();
        }
        Message::Ended(attempt, rank) => {
            jobs.ended(&tenant(), &id(*attempt), &End::new(State::Failed, *rank), now).await.unwrap();
        }
    }
}

/// Which event of which attempt it is, whatever its time.
fn name(event: &TimelineEvent) -> (&str, &'static str) {
    (&event.job_id, event.kind)
}

async fn timeline_of_last(jobs: &MemoryJobs) -> Vec<TimelineEvent> {
    let job = jobs.get(&tenant(), &id(99)).await.unwrap().unwrap();
    timeline(jobs, &tenant(), &job).await.unwrap()
}

proptest! {
    #[test]
    fn late_repeated_and_reordered_messages_take_nothing_from_a_timeline(
        messages in prop::collection::vec(message(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let jobs = MemoryJobs::default();
            record(&jobs, &Message::Dispatched(99), second(0)).await;
            // The attempts that the table remembers.
            let (mut last, mut before) = (vec![id(99)], timeline_of_last(&jobs).await);

            for (number, message) in (1..).zip(&messages) {
                if let Message::Dispatched(attempt) = message && !last.contains(&id(*attempt)) {
                    last.push(id(*attempt));
                    last.drain(..last.len().saturating_sub(ATTEMPTS));
                }
                record(&jobs, message, second(100 + number)).await;
                let after = timeline_of_last(&jobs).await;

                assert!(after.is_sorted_by_key(|event| &event.at));
                for event in &before {
                    let stays = event.job_id == id(99).as_str() || last.iter().any(|id| id.as_str() == event.job_id);
                    let later = after.iter().find(|other| name(other) == name(event));
                    assert_eq!(later.is_some(), stays, "{event:?} after {message:?}");
                    assert!(later.is_none_or(|later| later.at >= event.at), "{event:?} after {message:?}");
                }
                let mut shown: Vec<_> = after.iter().map(|event| &*event.job_id).collect();
                shown.sort_unstable();
                shown.dedup();
                assert!(last.iter().all(|id| shown.contains(&id.as_str())), "{last:?} {shown:?}");
                assert!(shown.len() <= ATTEMPTS + 1);
                before = after;
            }
        });
    }
}
