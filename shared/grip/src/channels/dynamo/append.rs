//! The store, and appending to a history with conditional writes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::ProvideErrorMetadata as _;
use aws_sdk_dynamodb::types::AttributeValue;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::attributes::{Attributes, entry, failed, items, offset, seconds, string, text};
use crate::channels::memory::epoch;
use crate::channels::name::hex;
use crate::channels::position::Position;
use crate::channels::store::{Appended, StoreError};

/// How long the position of a channel is remembered without reading the table. It is far below the shortest time for
/// which items are kept, so an offset that is thought to be the next cannot be one that has been used and has expired.
const REMEMBERED: Duration = Duration::from_mins(1);

/// The shortest time for which items are kept.
const SHORTEST: Duration = Duration::from_mins(10);

/// The most channels whose positions are remembered.
const CHANNELS: usize = 10_000;

/// How long an append keeps trying when the table throttles or other publishers are faster.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Refusals that another attempt does not change.
const LASTING: [&str; 3] = ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"];

/// Histories, presence and revocations in a DynamoDB table. See the section on DynamoDB in the manual for the table.
///
/// The role needs `dynamodb:PutItem`, `GetItem`, `BatchGetItem`, `UpdateItem`, `DeleteItem` and `Query` on the table.
#[derive(Debug)]
pub struct DynamoStore {
    pub(super) client: Client,
    pub(super) table: String,
    kept: Duration,
    newest: Mutex<HashMap<String, (Position, SystemTime)>>,
}

/// The outcome of one attempt to write an item.
enum Attempt {
    Written,
    /// Another publisher was first.
    Taken,
    /// The table refused, or the outcome is unknown.
    Failed(StoreError),
    /// The table refused, and will refuse the same again.
    Refused(StoreError),
}

impl DynamoStore {
    /// A store in this table, which keeps items for a day.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into(), kept: Duration::from_hours(24), newest: Mutex::default() }
    }

    /// Keeps items for this long after the next item of their channel, at least ten minutes.
    #[must_use]
    pub fn keep(mut self, time: Duration) -> Self {
        self.kept = time.max(SHORTEST);
        self
    }

    /// Appends with a conditional write, and repeats it until it succeeds or the time is over.
    pub(super) async fn append_item(&self, channel: &str, content: &str) -> Result<Appended, StoreError> {
        let start = Instant::now();
        let writer = writer()?;
        let mut wait = Duration::from_millis(5);
        let mut last = match self.remembered(channel) {
            Some(position) => position,
            None => self.newest_or_new(channel).await?,
        };

        loop {
            let (next, begun) = (last.next(), Instant::now());
            let failure = match self.write(channel, next, content, &writer).await {
                Attempt::Written => {
                    self.remember(channel, next);
                    return Ok(Appended { position: next, begun });
                }
                Attempt::Taken => None,
                Attempt::Failed(failure) => Some(failure),
                Attempt::Refused(failure) => return Err(failure),
            };

            // An attempt that seemed to fail may have succeeded.
            self.forget(channel);
            let written = self.is_written_by(channel, next, &writer).await;
            if let Ok(true) = written {
                self.remember(channel, next);
                return Ok(Appended { position: next, begun });
            }
            let is_known = written.is_ok();
            if start.elapsed() > TIMEOUT {
                let busy = || StoreError::new("append an item", "other publishers were always faster");
                return Err(written.err().or(failure).unwrap_or_else(busy));
            }

            tokio::time::sleep(jittered(wait)).await;
            wait = (wait * 2).min(Duration::from_millis(500));
            // Without knowing whether this attempt was written, the next one takes the same offset: at another one, the
            // item could be added twice. The write's condition also protects an old position when the read is throttled.
            if is_known && let Ok(newest) = self.newest_or_new(channel).await {
                last = newest;
            }
        }
    }

    async fn write(&self, channel: &str, position: Position, content: &str, writer: &str) -> Attempt {
        // The SDK may not repeat this write by itself: it would take its own first attempt for another publisher's, and it
        // might do so long after the position was read.
        let once = aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled());
        let sent = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", items(channel))
            .item("sk", offset(position.offset()))
            .item("epoch", text(format!("{:016x}", position.epoch())))
            .item("content", text(content))
            .item("writer", text(writer))
            .condition_expression("attribute_not_exists(pk)")
            .customize()
            .config_override(once)
            .send()
            .await;

        match sent {
            Ok(_) => Attempt::Written,
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Attempt::Taken,
            Err(error) if error.code().is_some_and(|code| LASTING.contains(&code)) => {
                Attempt::Refused(failed("append an item")(error))
            }
            Err(error) => Attempt::Failed(failed("append an item")(error)),
        }
    }

    async fn is_written_by(
        &self,
        channel: &str,
        position: Position,
        writer: &str,
    ) -> Result<bool, StoreError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", items(channel))
            .key("sk", offset(position.offset()))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("read an item"))?;
        Ok(found.item.is_some_and(|item| string(&item, "writer") == Some(writer)))
    }

    /// The place after the newest item, or the start of a new history.
    async fn newest_or_new(&self, channel: &str) -> Result<Position, StoreError> {
        let newest = self.newest_rows(channel, 2).await?;

        // Repairs the item of a process that ended between its two writes.
        if let Some(older) = newest.get(1).filter(|row| !row.contains_key("ttl")).and_then(entry) {
            self.expire(channel, older.position).await?;
        }
        match newest.first().and_then(entry) {
            Some(newest) => Ok(newest.position),
            None => Ok(Position::new(epoch()?, 0)),
        }
    }

    /// The newest rows of a channel, the newest first.
    pub(super) async fn newest_rows(
        &self,
        channel: &str,
        limit: usize,
    ) -> Result<Vec<Attributes>, StoreError> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", items(channel))
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("read the newest items"))?;
        Ok(found.items.unwrap_or_default())
    }

    /// Lets an item expire, because a newer one exists.
    pub(super) async fn expire(&self, channel: &str, position: Position) -> Result<(), StoreError> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", items(channel))
            .key("sk", offset(position.offset()))
            .update_expression("SET #ttl = :ttl")
            .condition_expression("attribute_exists(pk) AND epoch = :epoch")
            .expression_attribute_names("#ttl", "ttl")
            .expression_attribute_values(":ttl", seconds(SystemTime::now() + self.kept))
            .expression_attribute_values(":epoch", AttributeValue::S(format!("{:016x}", position.epoch())))
            .send()
            .await;

        match sent {
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
            Err(error) => Err(failed("set an item's expiry")(error)),
            Ok(_) => Ok(()),
        }
    }

    fn remembered(&self, channel: &str) -> Option<Position> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let (position, read) = newest.get(channel)?;
        // The system's clock, not the monotonic one, which stands still while a function is frozen.
        let age = SystemTime::now().duration_since(*read).ok()?;
        (age < REMEMBERED).then_some(*position)
    }

    fn remember(&self, channel: &str, position: Position) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() >= CHANNELS {
            newest.clear();
        }
        let known = newest.entry(channel.to_owned()).or_insert((position, SystemTime::now()));
        if known.0.epoch() != position.epoch() || known.0.offset() <= position.offset() {
            *known = (position, SystemTime::now());
        }
    }

    fn forget(&self, channel: &str) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(channel);
    }
}

/// A random name for one append.
fn writer() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::new("append an item", "the system has no random numbers"))?;
    Ok(hex(&bytes))
}

/// Half to all of a time, so that publishers that met once do not meet again.
fn jittered(time: Duration) -> Duration {
    let mut byte = [0; 1];
    let _ = SystemRandom::new().fill(&mut byte);
    time / 2 + time * u32::from(byte[0]) / 512
}
