//! Processes a batch as an event source mapping does: invokes the function, evaluates its response, and keeps each record
//! until it is either processed or stored at the on-failure destination. Reading and committing are in `source`.

use std::time::Duration;

use jiff::Timestamp;

use crate::dead_letters::Destination;
use crate::event::{Origin, Record};
use crate::invocation_record::{Condition, History, InvocationRecord};

/// The outcome of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every record was processed.
    Processed,
    /// The function reported these records as failed, by partition name and offset.
    Partial(Vec<(String, i64)>),
    /// The function failed with an error of this type.
    Failed(String),
    /// The function could not be invoked. The batch is not to blame, so this does not count as a retry.
    Unreachable(String),
}

/// Invokes the function.
pub trait Function {
    /// Invokes the function with an event.
    fn invoke(&mut self, event: Vec<u8>) -> impl Future<Output = Outcome>;
}

/// The mapping's failure handling, by the property names of CloudFormation.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `MaximumRetryAttempts`; `None` means unlimited.
    pub retries: Option<u32>,
    /// `MaximumRecordAgeInSeconds`; `None` means unlimited.
    pub age: Option<Duration>,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `FunctionResponseTypes: [ReportBatchItemFailures]`.
    pub partial: bool,
    /// The pause before the first retry. Each further retry doubles it, up to 64 times.
    pub pause: Duration,
}

/// Counters for progress messages and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Invocations.
    pub invocations: u64,
    /// Invocations that ended in a function error.
    pub errors: u64,
    /// Invocations that did not reach the function.
    pub unreachable: u64,
    /// Invocations that reported failed records.
    pub partial: u64,
    /// Batches that were halved.
    pub halved: u64,
    /// Records that were given up.
    pub dead: u64,
}

/// A mapping of one topic to one function.
#[derive(Debug)]
pub struct Mapping<F, D> {
    origin: Origin,
    policy: Policy,
    /// The function's name for invocation records.
    name: String,
    function: F,
    destination: D,
    counts: Counts,
}

/// A batch, or the rest of one, with its history.
struct Work {
    records: Vec<Record>,
    retries: u32,
    history: History,
}

impl<F: Function, D: Destination> Mapping<F, D> {
    /// A mapping to the function of this name.
    pub fn new(origin: Origin, policy: Policy, name: &str, function: F, destination: D) -> Self {
        Self { origin, policy, name: name.to_owned(), function, destination, counts: Counts::default() }
    }

    /// The counters so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Processes a batch. Returns once each record is either processed or stored at the on-failure destination; only then
    /// may the batch be committed. The rest of a batch is retried before the next batch starts, so the records of a partition stay in
    /// order.
    pub async fn process(&mut self, batch: Vec<Record>) -> std::io::Result<()> {
        let mut todo = vec![Work { records: batch, retries: 0, history: History::default() }];
        let mut unreachable = 0;
        while let Some(mut work) = todo.pop() {
            self.give_up_old(&mut work).await?;
            if work.records.is_empty() {
                continue;
            }

            let event = self.origin.event(&work.records)?;
            self.counts.invocations += 1;
            match self.function.invoke(event).await {
                Outcome::Unreachable(reason) => {
                    tracing::warn!(reason, "the function could not be invoked");
                    self.counts.unreachable += 1;
                    unreachable += 1;
                    self.pause(unreachable).await;
                    todo.push(work);
                }
                outcome => {
                    unreachable = 0;
                    work.history.invocations += 1;
                    self.apply(outcome, work, &mut todo).await?;
                }
            }
        }
        Ok(())
    }

    /// Applies the outcome of an invocation to its records: those that were not processed are retried or given up.
    async fn apply(&mut self, outcome: Outcome, mut work: Work, todo: &mut Vec<Work>) -> std::io::Result<()> {
        match outcome {
            Outcome::Partial(items) if self.policy.partial => {
                self.counts.partial += 1;
                work.history.failed = false;
                self.keep_failed(&mut work.records, &items);
                self.retry(work, todo).await
            }
            Outcome::Failed(reason) => {
                self.counts.errors += 1;
                work.history.failed = true;
                tracing::info!(
                    reason,
                    records = work.records.len(),
                    retries = work.retries,
                    "function error"
                );

                if self.policy.bisect && work.records.len() > 1 {
                    self.halve(work, todo).await;
                    return Ok(());
                }
                self.retry(work, todo).await
            }
            Outcome::Processed | Outcome::Partial(_) | Outcome::Unreachable(_) => Ok(()),
        }
    }

    /// Gives up a record that cannot be sent to the function.
    pub async fn reject(&mut self, record: Record, condition: Condition) -> std::io::Result<()> {
        self.give_up(&[record], condition, History::default()).await
    }

    /// Gives up the records that are too old. A record without a timestamp is never too old.
    async fn give_up_old(&mut self, work: &mut Work) -> std::io::Result<()> {
        let Some(age) = self.policy.age else { return Ok(()) };
        let oldest = Timestamp::now().as_millisecond() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);

        let old: Vec<Record> =
            work.records.extract_if(.., |record| (0..oldest).contains(&record.timestamp.0)).collect();
        if old.is_empty() {
            return Ok(());
        }
        self.give_up(&old, Condition::RecordAgeExceeded, work.history).await
    }

    /// Keeps only the named records. If a name is not a record of the batch, keeps the whole batch, as Lambda does.
    fn keep_failed(&self, records: &mut Vec<Record>, items: &[(String, i64)]) {
        let is = |record: &Record, (name, offset): &(String, i64)| {
            record.offset == *offset && self.origin.name(record.partition) == *name
        };

        if items.iter().all(|item| records.iter().any(|record| is(record, item))) {
            records.retain(|record| items.iter().any(|item| is(record, item)));
        }
    }

    /// Halves the batch. As in Lambda, this does not count as a retry.
    async fn halve(&mut self, work: Work, todo: &mut Vec<Work>) {
        self.counts.halved += 1;
        let Work { records: mut first, retries, history } = work;

        let second = first.split_off(first.len() / 2);
        todo.push(Work { records: second, retries, history });
        todo.push(Work { records: first, retries, history });
        self.pause(1).await;
    }

    /// Retries the records after a pause, or gives them up if the policy allows no further retry.
    async fn retry(&mut self, work: Work, todo: &mut Vec<Work>) -> std::io::Result<()> {
        let retries = work.retries + 1;
        if self.policy.retries.is_some_and(|most| retries > most) {
            return self.give_up(&work.records, Condition::RetryAttemptsExhausted, work.history).await;
        }

        self.pause(retries).await;
        todo.push(Work { retries, ..work });
        Ok(())
    }

    async fn give_up(
        &mut self,
        records: &[Record],
        condition: Condition,
        history: History,
    ) -> std::io::Result<()> {
        tracing::warn!(records = records.len(), ?condition, "records were given up");
        self.counts.dead += records.len() as u64;

        let together = if self.destination.is_by_record() { 1 } else { records.len().max(1) };
        for part in records.chunks(together) {
            let record = InvocationRecord::new(&self.origin, &self.name, part, condition, history)?;
            self.destination.keep(&record).await?;
        }
        Ok(())
    }

    async fn pause(&self, time: u32) {
        tokio::time::sleep(self.policy.pause * 2_u32.pow(time.saturating_sub(1).min(6))).await;
    }
}

#[cfg(test)]
mod tests;
