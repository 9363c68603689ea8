//! Runs that are killed at every point, and runs at the same time.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use compact::compact;
use jiff::Timestamp;

use crate::bucket::Memory;
use crate::topic::{
    HOUR, Record, START, assert_nothing_is_left_over, block_on, config, deliver, manifest, rows, run, table,
};

/// Twelve records of two hours, three of them late, in batches that overlap.
fn records() -> BTreeMap<u64, Record> {
    let hours = [0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0];
    let record = |(offset, hour): (usize, &i64)| {
        let note = (offset != 5).then(|| format!("n\"{offset},\n"));
        (offset as u64, Record { timestamp: START + hour * HOUR + 1_000 + offset as i64, note })
    };
    hours.iter().enumerate().map(record).collect()
}

fn delivered() -> (Memory, BTreeMap<u64, Record>) {
    let (bucket, records) = (Memory::default(), records());
    bucket.now.set(START + HOUR);
    for batch in [&[0, 1, 2, 3][..], &[2, 3, 4, 5, 6], &[0, 1, 2], &[7, 9, 10], &[8], &[7, 8, 9, 10, 11]] {
        deliver(&bucket, &config(&[]), &records, batch);
    }
    (bucket, records)
}

/// Polls a run until it waits, which it does only if it is killed.
fn killed(bucket: &Memory, closed: Timestamp) -> bool {
    let config = config(&[]);
    let mut run = std::pin::pin!(compact(bucket, &config, 0, closed));
    matches!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}

#[test]
fn a_run_that_is_killed_at_any_request_changes_nothing_that_a_reader_sees() {
    let end = START + 2 * HOUR;
    let closed = Timestamp::from_millisecond(end).unwrap();
    let mut kills = 0;

    for point in 0.. {
        let (bucket, records) = delivered();
        bucket.kill_in(Some(point));
        if !killed(&bucket, closed) {
            break;
        }
        kills += 1;

        // A reader sees the whole table or none of it, and a second kill at the same point makes no difference.
        let seen = table(&bucket);
        assert!(seen.is_empty() || seen == rows(&records), "killed at request {point}: {seen:?}");
        bucket.kill_in(Some(point));
        killed(&bucket, closed);

        bucket.kill_in(None);
        run(&bucket, &config(&[]), end);
        assert_eq!(table(&bucket), rows(&records), "killed at request {point}");
        assert_nothing_is_left_over(&bucket);
    }
    assert!(kills > 20, "only {kills} points");
}

#[test]
fn running_twice_writes_nothing() {
    let (bucket, _) = delivered();
    run(&bucket, &config(&[]), START + 2 * HOUR);
    let (before, requests) = (bucket.read(crate::topic::MANIFEST), bucket.requests.get());
    run(&bucket, &config(&[]), START + 2 * HOUR);
    assert_eq!(bucket.read(crate::topic::MANIFEST), before);
    assert_eq!(bucket.requests.get() - requests, 2, "the manifest and the list are read, no object is");
}

/// Polls runs in random turns until each has ended, with or without success.
fn take_turns(mut runs: Vec<Pin<Box<dyn Future<Output = bool> + '_>>>, seed: u64) {
    let mut draw = fastrand::Rng::with_seed(seed);
    let mut context = Context::from_waker(Waker::noop());
    while !runs.is_empty() {
        let turn = draw.usize(..runs.len());
        if runs[turn].as_mut().poll(&mut context).is_ready() {
            drop(runs.swap_remove(turn));
        }
    }
}

#[test]
fn runs_at_the_same_time_write_each_record_once() {
    let (early, end) = (START + HOUR, START + 2 * HOUR);
    for seed in 0..200 {
        let (bucket, records) = delivered();
        let config = config(&[]);
        let start = |closed: i64| {
            let run = compact(&bucket, &config, 0, Timestamp::from_millisecond(closed).unwrap());
            Box::pin(async { run.await.is_ok() }) as Pin<Box<dyn Future<Output = bool>>>
        };
        bucket.takes_turns.set(true);
        take_turns(vec![start(early), start(end), start(end), start(early)], seed);

        bucket.takes_turns.set(false);
        run(&bucket, &config, end);
        assert_eq!(table(&bucket), rows(&records), "seed {seed}");
        assert_nothing_is_left_over(&bucket);
    }
}

#[test]
fn an_object_that_a_plan_names_and_that_is_gone_is_an_error() {
    let end = START + 2 * HOUR;
    let closed = Timestamp::from_millisecond(end).unwrap();
    for point in 0.. {
        let (bucket, _) = delivered();
        bucket.kill_in(Some(point));
        assert!(killed(&bucket, closed), "no plan was committed");
        bucket.kill_in(None);
        let Some(plan) = manifest(&bucket).pending else { continue };

        bucket.delete(&plan.sources[0].key);
        let error = block_on(compact(&bucket, &config(&[]), 0, closed)).unwrap_err();
        assert!(error.to_string().contains("was deleted or replaced after a plan named it"), "{error}");
        return;
    }
}
