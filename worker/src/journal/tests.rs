use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel as blocking_channel;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::health::Counter;

const RETENTION: Retention = Retention { age: Duration::from_hours(24), bytes: 1_000_000 };

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(directory: &Path) -> Result<(Journal, Recovered), JournalError> {
    Journal::open(directory, RETENTION, Health::new())
}

fn refusal(directory: &Path) -> JournalError {
    match open(directory) {
        Ok(_) => panic!("the journal was opened"),
        Err(error) => error,
    }
}

fn job(job_id: &str) -> NewJob {
    NewJob {
        job_id: job_id.into(),
        kind: "add".into(),
        key: job_id.into(),
        message: Bytes::from("message"),
        started: false,
    }
}

fn finished(job_id: &str, payload: &str) -> Finished {
    Finished { job_id: job_id.into(), payload: Bytes::copy_from_slice(payload.as_bytes()), deadline: None }
}

fn report() -> Entry {
    Entry::Report { id: "report-1".into(), payload: Bytes::from("report") }
}

async fn admit(journal: &Journal, job_id: &str) -> Admitted {
    journal.admit(vec![Entry::Job(job(job_id))]).await.remove(0)
}

async fn finish(journal: &Journal, job_id: &str, payload: &str) -> Answer {
    journal.finish(vec![finished(job_id, payload)], None).await.remove(0)
}

#[tokio::test]
async fn a_job_is_new_then_known_then_answered() {
    let directory = directory();
    let (journal, recovered) = open(directory.path()).unwrap();
    assert!(recovered.jobs.is_empty() && recovered.answers.is_empty());

    assert_eq!(admit(&journal, "a").await, Admitted::New);
    assert_eq!(admit(&journal, "a").await, Admitted::Known, "it waits or runs");
    let answer = finish(&journal, "a", "57").await;
    assert_eq!(admit(&journal, "a").await, Admitted::Known, "its answer is still to be sent");
    journal.sent(answer.id).await;
    assert_eq!(admit(&journal, "a").await, Admitted::Answered(answer));
}

#[tokio::test]
async fn the_next_process_finds_jobs_and_answers() {
    let directory = directory();
    let (journal, _) = open(directory.path()).unwrap();
    for job_id in ["waiting", "running", "answered", "sent"] {
        admit(&journal, job_id).await;
    }
    let reported = journal.admit(vec![report()]).await;
    assert!(matches!(&reported[..], [Admitted::Report(_)]), "{reported:?}");
    journal.start("add".into(), "running".into()).await;
    let deadline = Timestamp::from_millisecond(1_800_000_000_123).unwrap();
    let late = Finished { deadline: Some(deadline), ..finished("answered", "57") };
    journal.finish(vec![late], None).await;
    let sent = finish(&journal, "sent", "58").await;
    journal.sent(sent.id).await;
    journal.close().await;

    let (journal, recovered) = open(directory.path()).unwrap();
    let started: Vec<_> = recovered.jobs.iter().map(|job| job.started).collect();
    assert_eq!(started, [false, true], "in the order of arrival");
    let answers: Vec<_> =
        recovered.answers.iter().map(|answer| (&answer.payload[..], answer.deadline)).collect();
    assert_eq!(answers, [(&b"report"[..], None), (&b"57"[..], Some(deadline))]);
    journal.sent(recovered.answers[0].id).await;
    journal.close().await;

    let (journal, recovered) = open(directory.path()).unwrap();
    assert_eq!(recovered.answers.len(), 1, "the report was sent");
    assert_eq!(journal.admit(vec![report()]).await, [Admitted::Known]);
}

#[tokio::test]
async fn a_burst_of_1000_jobs_costs_one_sync() {
    let directory = directory();
    let health = Health::new();
    let (journal, _) = Journal::open(directory.path(), RETENTION, health.clone()).unwrap();
    // The writer is busy while the burst arrives.
    let (release, busy) = blocking_channel::<()>();
    let blocker = tokio::spawn({
        let journal = journal.clone();
        async move { journal.write(move |_| Ok(busy.recv().is_ok())).await }
    });
    tokio::task::yield_now().await;

    let sent = Arc::new(AtomicUsize::new(0));
    let burst: Vec<_> = (0..1_000)
        .map(|number| {
            let (journal, sent) = (journal.clone(), Arc::clone(&sent));
            tokio::spawn(async move {
                // The request is sent in the same step.
                sent.fetch_add(1, Ordering::SeqCst);
                admit(&journal, &number.to_string()).await
            })
        })
        .collect();
    while sent.load(Ordering::SeqCst) < 1_000 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    blocker.await.unwrap();
    for admitted in burst {
        assert_eq!(admitted.await.unwrap(), Admitted::New);
    }

    assert_eq!(health.count(Counter::JournalRequests), 1_001);
    let commits = health.count(Counter::JournalCommits);
    assert!(commits <= 2, "{commits} transactions for 1,000 jobs");
}

#[tokio::test]
async fn a_second_process_learns_which_process_holds_the_directory() {
    let directory = directory();
    let (journal, _) = open(directory.path()).unwrap();
    let error = refusal(directory.path());
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    assert!(!error.may_pass());

    journal.close().await;
    open(directory.path()).unwrap();
}

#[test]
fn the_lock_file_of_a_dead_process_is_no_obstacle() {
    let directory = directory();
    fs::write(directory.path().join("lock"), "999999999999\n").unwrap();
    let (_journal, _) = open(directory.path()).unwrap();
    let pid = fs::read_to_string(directory.path().join("lock")).unwrap();
    assert_eq!(pid.trim(), std::process::id().to_string());
}

#[test]
fn only_the_workers_user_may_read_the_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = directory();
    let state = directory.path().join("new/state");
    let (_journal, _) = open(&state).unwrap();
    assert_eq!(fs::metadata(state).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_file_of_format_1_is_read() {
    let directory = directory();
    let db = Connection::open(directory.path().join("journal.sqlite")).unwrap();
    db.execute_batch(include_str!("tests/format-1.sql")).unwrap();
    drop(db);

    let (journal, recovered) = open(directory.path()).unwrap();
    let jobs: Vec<_> = recovered.jobs.iter().map(|job| (&job.message[..], job.started)).collect();
    assert_eq!(jobs, [(&b"waiting message"[..], false), (&b"running message"[..], true)]);
    let answers: Vec<_> = recovered.answers.iter().map(|answer| &answer.payload[..]).collect();
    assert_eq!(answers, [b"answer to send"]);
    assert!(matches!(admit(&journal, "sent").await, Admitted::Answered(_)));
    assert_eq!(journal.recall("sql".into(), "order-7".into()).await.as_deref(), Some("{\"rows\":1}"));
}

#[test]
fn a_file_of_a_newer_format_is_refused() {
    let directory = directory();
    let db = Connection::open(directory.path().join("journal.sqlite")).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);

    let error = refusal(directory.path());
    assert!(error.to_string().contains("has format 99; this worker knows formats up to"), "{error}");
    assert!(!error.may_pass());
}

#[test]
fn a_damaged_file_is_named_and_waited_for() {
    let directory = directory();
    fs::write(directory.path().join("journal.sqlite"), [b'x'; 8_192]).unwrap();
    let error = refusal(directory.path());
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(error.may_pass());
}

#[test]
fn a_directory_that_cannot_be_created_is_named() {
    let error = refusal(Path::new("/proc/state"));
    assert!(error.to_string().starts_with("/proc/state: "), "{error}");
    assert!(error.may_pass());
}

#[tokio::test]
async fn a_full_disk_stops_what_needs_room_and_nothing_is_lost() {
    let directory = directory();
    let health = Health::new();
    let (journal, _) = Journal::open(directory.path(), RETENTION, health.clone()).unwrap();
    let answer = finish(&journal, "before", "57").await;
    journal.limit_pages(1).await;

    let large = NewJob { message: Bytes::from(vec![b'x'; 100_000]), ..job("large") };
    let waiting = tokio::spawn({
        let journal = journal.clone();
        async move { journal.admit(vec![Entry::Job(large)]).await }
    });
    while health.problems().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    journal.sent(answer.id).await;
    assert!(!waiting.is_finished(), "no room yet");

    journal.limit_pages(1_000_000).await;
    assert_eq!(waiting.await.unwrap(), [Admitted::New]);
    assert_eq!(health.problems(), []);
}

#[tokio::test]
async fn old_and_oversized_answers_are_forgotten_but_not_those_to_be_sent() {
    let directory = directory();
    let (journal, _) = open(directory.path()).unwrap();
    for job_id in ["oldest", "middle", "newest"] {
        let answer = finish(&journal, job_id, &"x".repeat(100)).await;
        if job_id != "middle" {
            journal.sent(answer.id).await;
        }
    }
    let memory = Memory { kind: "add".into(), key: "k".into(), result: "57".into() };
    journal.finish(vec![], Some(memory)).await;

    let retention = Retention { age: RETENTION.age, bytes: 250 };
    journal.write(move |db| store::forget(db, retention, Timestamp::now())).await;
    assert_eq!(admit(&journal, "oldest").await, Admitted::New, "too many bytes");
    assert!(matches!(admit(&journal, "newest").await, Admitted::Answered(_)));
    assert!(journal.recall("add".into(), "k".into()).await.is_some());

    let later = Timestamp::now() + jiff::SignedDuration::from_hours(25);
    journal.write(move |db| store::forget(db, RETENTION, later)).await;
    assert_eq!(admit(&journal, "newest").await, Admitted::New, "too old");
    assert_eq!(admit(&journal, "middle").await, Admitted::Known, "still to be sent");
    assert!(journal.recall("add".into(), "k".into()).await.is_none());
}
