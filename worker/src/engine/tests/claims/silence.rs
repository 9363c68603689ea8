//! Requests for a URL that the cloud does not answer.

use super::*;

/// A handler with a large result, and how often it has run.
fn counted() -> (Registry, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let registry = work(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok(large()) }
    });
    (registry, runs)
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_has_never_answered_fails_the_job_in_a_minute_and_a_later_attempt_uploads_without_another_run()
 {
    let (directory, (registry, runs)) = (tempfile::tempdir().unwrap(), counted());
    let bench = open(directory.path(), registry);
    let start = tokio::time::Instant::now();
    bench.send(1, &our_job("abc", r#","IdempotencyKey":"k""#));
    let failed = &bench.answers("FAILED", 1).await[0];
    assert_eq!(failed["Error"], "Worker.UploadFailed");
    assert!(start.elapsed() < Duration::from_secs(65), "{:?}", start.elapsed());
    let cause = failed["Cause"].as_str().unwrap();
    for words in ["3 requests", "iot:Receive", "t/to/worker/w"] {
        assert!(cause.contains(words), "{words} is not in: {cause}");
    }
    assert_eq!(bench.answers("UPLOAD", 3).await.len(), 3);

    bench.send(2, &our_job("def", r#","IdempotencyKey":"k""#));
    let again = bench.answers("UPLOAD", 4).await;
    assert_eq!((&again[3]["TaskToken"], runs.load(Ordering::SeqCst)), (&json!("def"), 1));
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_has_answered_before_may_be_away_for_a_quarter_of_an_hour() {
    let directory = tempfile::tempdir().unwrap();
    let bench = open(directory.path(), work(async |_| Ok(large())));
    bench.send(1, &our_job("abc", ""));
    bench.answers("UPLOAD", 1).await;
    refuse(&bench);
    bench.answers("FAILED", 1).await;

    let start = tokio::time::Instant::now();
    bench.send(2, &our_job("def", ""));
    let failed = &bench.answers("FAILED", 2).await[1];
    assert!(start.elapsed() > Duration::from_mins(15), "{:?}", start.elapsed());
    assert!(failed["Cause"].as_str().unwrap().contains("6 requests"), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_its_topic_of_commands_fails_a_large_result_at_once_and_says_what_to_do() {
    let (directory, (registry, runs)) = (tempfile::tempdir().unwrap(), counted());
    let bench = Bench::open(directory.path(), Broker::default(), registry, 1, Handle::current());
    let start = tokio::time::Instant::now();
    bench.send(1, &our_job("abc", r#","IdempotencyKey":"k""#));
    let failed = &bench.answers("FAILED", 1).await[0];
    assert_eq!(failed["Error"], "Worker.UploadFailed");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let cause = failed["Cause"].as_str().unwrap();
    for words in ["subscription to t/to/worker/w", "policy"] {
        assert!(cause.contains(words), "{words} is not in: {cause}");
    }
    assert_eq!(spooled(directory.path()), 1, "the result is kept");

    // The policy is corrected.
    bench.broker.0.controlled.send_replace(1);
    let before = bench.answers("UPLOAD", 1).await.len();
    bench.send(2, &our_job("def", r#","IdempotencyKey":"k""#));
    let again = bench.answers("UPLOAD", before + 1).await;
    assert_eq!((&again[before]["TaskToken"], runs.load(Ordering::SeqCst)), (&json!("def"), 1));
}
