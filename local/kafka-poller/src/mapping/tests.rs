use serde_json::Value;

use super::*;
use crate::event::{Decoded, TimestampType};

/// Answers as the test's closure decides, and keeps the offsets of each batch.
struct Fake<A>(Vec<Vec<i64>>, A);

impl<A: FnMut(usize, &[i64]) -> Outcome> Function for Fake<A> {
    async fn invoke(&mut self, event: Vec<u8>) -> Outcome {
        let event: Value = serde_json::from_slice(&event).unwrap();
        let records = event["records"]["t-0"].as_array().unwrap();
        let offsets: Vec<i64> = records.iter().map(|record| record["offset"].as_i64().unwrap()).collect();

        let outcome = (self.1)(self.0.len(), &offsets);
        self.0.push(offsets);
        outcome
    }
}

impl Destination for Vec<InvocationRecord> {
    async fn keep(&mut self, record: &InvocationRecord) -> std::io::Result<()> {
        self.push(record.clone());
        Ok(())
    }
}

fn batch(offsets: std::ops::Range<i64>) -> Vec<Record> {
    let timestamp = (9, TimestampType::CreateTime);
    let record = |offset| Record {
        partition: 0,
        offset,
        timestamp,
        key: None,
        value: None,
        headers: vec![],
        decoded: Decoded::default(),
    };
    offsets.map(record).collect()
}

fn policy(retries: u32, bisect: bool) -> Policy {
    Policy { retries: Some(retries), age: None, bisect, partial: true, pause: Duration::ZERO }
}

/// The condition, the invocations and the offsets of each invocation record.
fn contents(dead_letters: &[InvocationRecord]) -> Vec<(String, u64, Vec<i64>)> {
    let contents = |record: &InvocationRecord| {
        let json = serde_json::to_value(record).unwrap();
        let context = &json["requestContext"];
        let payload: Value = serde_json::from_str(&record.payload).unwrap();
        let records = payload["records"]["t-0"].as_array().unwrap();
        (
            context["condition"].as_str().unwrap().to_owned(),
            context["approximateInvokeCount"].as_u64().unwrap(),
            records.iter().map(|record| record["offset"].as_i64().unwrap()).collect(),
        )
    };
    dead_letters.iter().map(contents).collect()
}

/// The batches that the function was sent, and the dead letters.
async fn run_batch(
    policy: Policy,
    records: Vec<Record>,
    answer: impl FnMut(usize, &[i64]) -> Outcome,
) -> (Vec<Vec<i64>>, Vec<InvocationRecord>, Counts) {
    let origin = Origin::new("t", "b");

    let mut mapping = Mapping::new(origin, policy, "f", Fake(Vec::new(), answer), Vec::new());
    mapping.process(records).await.unwrap();
    (mapping.function.0, mapping.destination, mapping.counts)
}

/// The batches that the function was sent, and the offsets that were given up.
async fn run(
    policy: Policy,
    records: i64,
    answer: impl FnMut(usize, &[i64]) -> Outcome,
) -> (Vec<Vec<i64>>, Vec<i64>, Counts) {
    let (sent, dead_letters, counts) = run_batch(policy, batch(0..records), answer).await;
    (sent, contents(&dead_letters).into_iter().flat_map(|(_, _, offsets)| offsets).collect(), counts)
}

fn failed() -> Outcome {
    Outcome::Failed("E".into())
}

fn named(offsets: &[i64]) -> Outcome {
    Outcome::Partial(offsets.iter().map(|offset| ("t-0".into(), *offset)).collect())
}

#[tokio::test]
async fn a_processed_batch_is_sent_once() {
    let (sent, dead, counts) = run(policy(3, true), 4, |_, _| Outcome::Processed).await;
    assert_eq!((sent, dead), (vec![vec![0, 1, 2, 3]], vec![]));
    assert_eq!(counts, Counts { invocations: 1, ..Counts::default() });
}

#[tokio::test]
async fn named_records_are_sent_again_alone_and_then_given_up() {
    let poison = |_: usize, offsets: &[i64]| {
        let bad: Vec<i64> = offsets.iter().copied().filter(|offset| [1, 3].contains(offset)).collect();
        if bad.is_empty() { Outcome::Processed } else { named(&bad) }
    };

    let (sent, dead, _) = run(policy(2, true), 5, poison).await;
    assert_eq!(sent, [vec![0, 1, 2, 3, 4], vec![1, 3], vec![1, 3]]);
    assert_eq!(dead, [1, 3]);
}

#[tokio::test]
async fn an_answer_that_names_an_unknown_record_fails_the_whole_batch() {
    let (sent, dead, _) =
        run(policy(1, false), 2, |time, _| if time == 0 { named(&[1, 99]) } else { Outcome::Processed })
            .await;
    assert_eq!((sent, dead), (vec![vec![0, 1], vec![0, 1]], vec![]));
}

#[tokio::test]
async fn halving_isolates_the_failing_record_and_keeps_the_order() {
    let poison = |_: usize, offsets: &[i64]| if offsets.contains(&2) { failed() } else { Outcome::Processed };

    let (sent, dead, counts) = run(policy(1, true), 5, poison).await;
    assert_eq!(dead, [2]);
    let done: Vec<i64> = sent.iter().filter(|batch| !batch.contains(&2)).flatten().copied().collect();
    assert_eq!(done, [0, 1, 3, 4]);
    assert_eq!(sent.iter().filter(|batch| **batch == [2]).count(), 2, "one attempt and one retry");
    assert!(counts.halved > 0);
}

#[tokio::test]
async fn retries_are_limited_and_an_unreachable_function_does_not_count_as_one() {
    let (sent, dead, _) = run(policy(3, false), 2, |_, _| failed()).await;
    assert_eq!((sent.len(), dead), (4, vec![0, 1]));

    let away = |time: usize, _: &[i64]| {
        if time < 20 { Outcome::Unreachable("refused".into()) } else { Outcome::Processed }
    };
    let (sent, dead, counts) = run(policy(0, true), 2, away).await;
    assert_eq!((sent.len(), dead, counts.unreachable), (21, vec![], 20));
}

#[tokio::test]
async fn without_the_response_type_the_answer_is_ignored() {
    let policy = Policy { partial: false, ..policy(3, false) };
    let (sent, dead, _) = run(policy, 2, |_, _| named(&[1])).await;
    assert_eq!((sent.len(), dead), (1, vec![]));
}

#[tokio::test]
async fn an_old_record_is_given_up_before_it_is_sent_but_not_one_without_a_timestamp() {
    let policy = Policy { age: Some(Duration::from_hours(1)), ..policy(0, false) };
    let mut records = batch(0..5);
    records[1].timestamp.0 = Timestamp::now().as_millisecond();
    records[3].timestamp.0 = -1;

    let (sent, dead_letters, counts) = run_batch(policy, records, |_, _| failed()).await;
    assert_eq!(sent, [[1, 3]]);

    let contents = contents(&dead_letters);
    assert_eq!(contents[0], ("RecordAgeExceeded".into(), 0, vec![0, 2, 4]));
    assert_eq!(contents[1], ("RetryAttemptsExhausted".into(), 1, vec![1, 3]));
    assert_eq!(counts.dead, 5);
}

#[tokio::test]
async fn a_record_that_becomes_too_old_is_given_up_even_if_the_function_is_unreachable() {
    let policy =
        Policy { age: Some(Duration::from_millis(1)), pause: Duration::from_millis(2), ..policy(0, false) };

    let mut records = batch(0..1);
    records[0].timestamp.0 = Timestamp::now().as_millisecond();
    let away = |_: usize, _: &[i64]| Outcome::Unreachable("refused".into());

    let (_, dead_letters, counts) = run_batch(policy, records, away).await;
    assert_eq!(contents(&dead_letters), [("RecordAgeExceeded".to_owned(), 0, vec![0])]);
    assert_eq!(counts.errors, 0);
}

#[tokio::test]
async fn a_record_larger_than_an_event_is_given_up_with_its_own_condition() {
    let origin = Origin::new("t", "b");
    let function = Fake(Vec::new(), |_: usize, _: &[i64]| Outcome::Processed);
    let mut mapping = Mapping::new(origin, policy(0, false), "f", function, Vec::new());

    mapping.reject(batch(7..8).remove(0), Condition::MaximumPayloadSizeExceeded).await.unwrap();
    assert_eq!(contents(&mapping.destination), [("MaximumPayloadSizeExceeded".to_owned(), 0, vec![7])]);
}
