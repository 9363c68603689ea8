//! What an event source mapping does with a batch: invoke, look at the answer, and not let go of a record before it
//! is either done or in the dead-letter sink.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::{Origin, Record};

/// What came of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every record is done.
    Done,
    /// These are not, by partition's name and offset.
    Partial(Vec<(String, i64)>),
    /// The function failed; its error's type.
    Failed(String),
    /// The function could not be invoked: nothing is known of the batch, and it is not its fault.
    Unreachable(String),
}

/// Invokes the function.
pub trait Function {
    /// Sends it an event.
    fn invoke(&mut self, event: Vec<u8>) -> impl Future<Output = Outcome>;
}

/// Where records go that nobody could process.
pub trait DeadLetters {
    /// Keeps a letter; it must not be lost once this returns.
    fn keep(&mut self, letter: &Letter) -> std::io::Result<()>;
}

/// A batch that was given up: what Lambda tells an on-failure destination, and the records.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    request_context: Value,
    #[serde(rename = "KafkaBatchInfo")]
    batch: Value,
    /// The event that was not processed.
    pub payload: Value,
}

/// What the mapping is set to, by the names that it has in CloudFormation.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `MaximumRetryAttempts`; none is without end.
    pub retries: Option<u32>,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `FunctionResponseTypes: [ReportBatchItemFailures]`.
    pub partial: bool,
    /// The pause before the first retry; each doubles it, up to a hundredfold.
    pub pause: Duration,
}

/// How often what happened, for progress and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Invocations.
    pub invocations: u64,
    /// Of them, function errors.
    pub errors: u64,
    /// Of them, ones without an answer.
    pub unreachable: u64,
    /// Of them, with some records not done.
    pub partial: u64,
    /// Batches that were halved.
    pub halved: u64,
    /// Records given up.
    pub dead: u64,
}

/// A mapping of one topic to one function.
#[derive(Debug)]
pub struct Mapping<F, D> {
    origin: Origin,
    policy: Policy,
    function: F,
    letters: D,
    counts: Counts,
}

/// A batch or what is left of it, and how often it was retried.
struct Work {
    records: Vec<Record>,
    retries: u32,
}

impl<F: Function, D: DeadLetters> Mapping<F, D> {
    /// A mapping.
    pub fn new(origin: Origin, policy: Policy, function: F, letters: D) -> Self {
        Self { origin, policy, function, letters, counts: Counts::default() }
    }

    /// How often what happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sees to it that each record is done or a dead letter. Then, and not before, the batch may be committed. What is
    /// left of a batch goes before what comes after it, so a partition's records stay in their order.
    pub async fn process(&mut self, batch: Vec<Record>) -> std::io::Result<()> {
        let mut todo = vec![Work { records: batch, retries: 0 }];
        let mut unreachable = 0;
        while let Some(work) = todo.pop() {
            let event = self.origin.event(&work.records)?;
            self.counts.invocations += 1;
            let reason = match self.function.invoke(event).await {
                Outcome::Done => continue,
                Outcome::Unreachable(reason) => {
                    tracing::warn!(reason, "the function could not be invoked");
                    self.counts.unreachable += 1;
                    unreachable += 1;
                    self.pause(unreachable).await;
                    todo.push(work);
                    continue;
                }
                Outcome::Partial(_) if !self.policy.partial => continue,
                Outcome::Partial(items) => {
                    self.counts.partial += 1;
                    self.retry_items(work, &items, &mut todo).await?;
                    continue;
                }
                Outcome::Failed(reason) => reason,
            };
            unreachable = 0;
            self.counts.errors += 1;
            tracing::info!(reason, records = work.records.len(), retries = work.retries, "function error");
            if self.policy.bisect && work.records.len() > 1 {
                self.counts.halved += 1;
                let mut first = work.records;
                let second = first.split_off(first.len() / 2);
                // As Lambda does with streams: halving is no retry.
                todo.push(Work { records: second, retries: work.retries });
                todo.push(Work { records: first, retries: work.retries });
                self.pause(1).await;
            } else {
                self.retry(work, &mut todo).await?;
            }
        }
        Ok(())
    }

    /// Sends the named records again; the whole batch, if it has no such record.
    async fn retry_items(
        &mut self,
        mut work: Work,
        items: &[(String, i64)],
        todo: &mut Vec<Work>,
    ) -> std::io::Result<()> {
        let is = |record: &Record, (name, offset): &(String, i64)| {
            record.offset == *offset && self.origin.name(record.partition) == *name
        };
        if items.iter().all(|item| work.records.iter().any(|record| is(record, item))) {
            let named = |record: &Record| items.iter().any(|item| is(record, item));
            work.records.retain(named);
        }
        if work.records.is_empty() { Ok(()) } else { self.retry(work, todo).await }
    }

    async fn retry(&mut self, work: Work, todo: &mut Vec<Work>) -> std::io::Result<()> {
        let retries = work.retries + 1;
        if self.policy.retries.is_some_and(|most| retries > most) {
            self.counts.dead += work.records.len() as u64;
            return self.letters.keep(&self.letter(&work, "RetryAttemptsExhausted")?);
        }
        self.pause(retries).await;
        todo.push(Work { records: work.records, retries });
        Ok(())
    }

    /// Gives up a record that fits into no event.
    pub fn too_large(&mut self, record: Record) -> std::io::Result<()> {
        self.counts.dead += 1;
        let letter =
            self.letter(&Work { records: vec![record], retries: 0 }, "MaximumPayloadSizeExceeded")?;
        self.letters.keep(&letter)
    }

    fn letter(&self, work: &Work, condition: &str) -> std::io::Result<Letter> {
        let payload: Value = serde_json::from_slice(&self.origin.event(&work.records)?)?;
        let mut partitions = Map::new();
        for record in &work.records {
            let info = partitions.entry(self.origin.name(record.partition)).or_insert_with(
                || json!({"firstRecordOffset": record.offset, "firstRecordTimestamp": record.timestamp.0}),
            );
            info["lastRecordOffset"] = record.offset.into();
            info["lastRecordTimestamp"] = record.timestamp.0.into();
        }
        Ok(Letter {
            request_context: json!({"condition": condition, "approximateInvokeCount": work.retries + 1}),
            batch: json!({"batchSize": work.records.len(), "bootstrapServers": self.origin.bootstrap_servers,
                          "recordsInfo": partitions}),
            payload,
        })
    }

    async fn pause(&self, time: u32) {
        tokio::time::sleep(self.policy.pause * 2_u32.pow(time.saturating_sub(1).min(6))).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::TimestampType;

    /// Fails whole batches or single records, as the test's closure says; notes the batches' offsets.
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

    impl DeadLetters for Vec<Letter> {
        fn keep(&mut self, letter: &Letter) -> std::io::Result<()> {
            self.push(letter.clone());
            Ok(())
        }
    }

    fn batch(offsets: std::ops::Range<i64>) -> Vec<Record> {
        let timestamp = (9, TimestampType::CreateTime);
        let record =
            |offset| Record { partition: 0, offset, timestamp, key: None, value: None, headers: vec![] };
        offsets.map(record).collect()
    }

    fn policy(retries: u32, bisect: bool) -> Policy {
        Policy { retries: Some(retries), bisect, partial: true, pause: Duration::ZERO }
    }

    /// What the function was sent, and the offsets in the dead letters.
    async fn run(
        policy: Policy,
        records: i64,
        answer: impl FnMut(usize, &[i64]) -> Outcome,
    ) -> (Vec<Vec<i64>>, Vec<i64>, Counts) {
        let origin = Origin { topic: "t".into(), bootstrap_servers: "b".into() };
        let mut mapping = Mapping::new(origin, policy, Fake(Vec::new(), answer), Vec::new());
        mapping.process(batch(0..records)).await.unwrap();
        let dead =
            mapping.letters.iter().flat_map(|letter| letter.payload["records"]["t-0"].as_array().unwrap());
        let dead = dead.map(|record| record["offset"].as_i64().unwrap()).collect();
        (mapping.function.0, dead, mapping.counts)
    }

    fn failed() -> Outcome {
        Outcome::Failed("E".into())
    }

    fn named(offsets: &[i64]) -> Outcome {
        Outcome::Partial(offsets.iter().map(|offset| ("t-0".into(), *offset)).collect())
    }

    #[tokio::test]
    async fn a_batch_that_is_done_is_sent_once() {
        let (sent, dead, counts) = run(policy(3, true), 4, |_, _| Outcome::Done).await;
        assert_eq!((sent, dead), (vec![vec![0, 1, 2, 3]], vec![]));
        assert_eq!(counts, Counts { invocations: 1, ..Counts::default() });
    }

    #[tokio::test]
    async fn named_records_are_sent_again_alone_and_then_given_up() {
        let poison = |_: usize, offsets: &[i64]| {
            let bad: Vec<i64> = offsets.iter().copied().filter(|offset| [1, 3].contains(offset)).collect();
            if bad.is_empty() { Outcome::Done } else { named(&bad) }
        };
        let (sent, dead, _) = run(policy(2, true), 5, poison).await;
        assert_eq!(sent, [vec![0, 1, 2, 3, 4], vec![1, 3], vec![1, 3]]);
        assert_eq!(dead, [1, 3]);
    }

    #[tokio::test]
    async fn an_answer_that_names_a_stranger_is_for_the_whole_batch() {
        let (sent, dead, _) =
            run(policy(1, false), 2, |time, _| if time == 0 { named(&[1, 99]) } else { Outcome::Done }).await;
        assert_eq!((sent, dead), (vec![vec![0, 1], vec![0, 1]], vec![]));
    }

    #[tokio::test]
    async fn halving_finds_the_one_that_fails_and_keeps_the_order() {
        let poison = |_: usize, offsets: &[i64]| if offsets.contains(&2) { failed() } else { Outcome::Done };
        let (sent, dead, counts) = run(policy(1, true), 5, poison).await;
        assert_eq!(dead, [2]);
        let done: Vec<i64> = sent.iter().filter(|batch| !batch.contains(&2)).flatten().copied().collect();
        assert_eq!(done, [0, 1, 3, 4]);
        assert_eq!(sent.iter().filter(|batch| **batch == [2]).count(), 2, "one attempt and one retry");
        assert!(counts.halved > 0);
    }

    #[tokio::test]
    async fn retries_are_bounded_and_an_absent_function_is_no_retry() {
        let (sent, dead, _) = run(policy(3, false), 2, |_, _| failed()).await;
        assert_eq!((sent.len(), dead), (4, vec![0, 1]));
        let away = |time: usize, _: &[i64]| {
            if time < 20 { Outcome::Unreachable("refused".into()) } else { Outcome::Done }
        };
        let (sent, dead, counts) = run(policy(0, true), 2, away).await;
        assert_eq!((sent.len(), dead, counts.unreachable), (21, vec![], 20));
    }

    #[tokio::test]
    async fn without_the_response_type_an_answer_is_not_read() {
        let policy = Policy { partial: false, ..policy(3, false) };
        let (sent, dead, _) = run(policy, 2, |_, _| named(&[1])).await;
        assert_eq!((sent.len(), dead), (1, vec![]));
    }

    #[test]
    fn a_letter_says_what_was_in_the_batch() {
        let origin = Origin { topic: "t".into(), bootstrap_servers: "b".into() };
        let mapping = Mapping::new(
            origin,
            policy(1, false),
            Fake(Vec::new(), |_: usize, _: &[i64]| Outcome::Done),
            Vec::new(),
        );
        let letter =
            mapping.letter(&Work { records: batch(4..7), retries: 1 }, "RetryAttemptsExhausted").unwrap();
        let letter: BTreeMap<String, Value> =
            serde_json::from_value(serde_json::to_value(letter).unwrap()).unwrap();
        assert_eq!(letter["requestContext"]["approximateInvokeCount"], 2);
        assert_eq!(letter["KafkaBatchInfo"]["recordsInfo"]["t-0"]["lastRecordOffset"], 6);
        assert_eq!(letter["payload"]["records"]["t-0"].as_array().unwrap().len(), 3);
    }
}
