//! Runs that are killed at every point, and runs at the same time.

use std::collections::BTreeMap;
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

#[test]
fn runs_at_the_same_time_write_each_record_once() {
    // Each round lets the two runs take their turns in another pattern.
    for pattern in 0_u32..64 {
        let (bucket, records) = delivered();
        let config = config(&[]);
        let closed = Timestamp::from_millisecond(START + 2 * HOUR).unwrap();
        let other = Timestamp::from_millisecond(START + HOUR).unwrap();

        block_on(async {
            let turns = std::cell::Cell::new(pattern);
            let one = compact(&bucket, &config, 0, closed);
            let two = compact(&bucket, &config, 0, other);
            let mut both = (std::pin::pin!(one), std::pin::pin!(two));
            // A run waits for nothing here, so one that is polled runs to its end: kill one within, and let the other go on.
            bucket.kill_in(Some(u64::from(turns.get())));
            let mut context = Context::from_waker(Waker::noop());
            let stopped = both.0.as_mut().poll(&mut context).is_pending();
            bucket.kill_in(None);
            while both.1.as_mut().poll(&mut context).is_pending() {}
            // The process that was stopped goes on where it was: its requests are answered now.
            if stopped {
                assert!(both.0.as_mut().poll(&mut context).is_pending(), "a lost request is never answered");
            }
        });

        run(&bucket, &config, START + 2 * HOUR);
        assert_eq!(table(&bucket), rows(&records));
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
