//! Reading histories from the table.

use super::append::DynamoStore;
use super::attributes::{entry, failed, items, offset};
use crate::channels::position::Position;
use crate::channels::store::{Appended, Entry, History, Replay, StoreError, Verdict, judge};

impl DynamoStore {
    /// At most `limit` items of a channel, from an offset.
    async fn from(&self, channel: &str, first: u64, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk >= :sk")
            .expression_attribute_values(":pk", items(channel))
            .expression_attribute_values(":sk", offset(first))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("read items"))?;
        Ok(found.items().iter().filter_map(entry).collect())
    }
}

impl History for DynamoStore {
    async fn append(&self, channel: &str, content: &str) -> Result<Appended, StoreError> {
        self.append_item(channel, content).await
    }

    async fn position(&self, channel: &str) -> Result<Position, StoreError> {
        let newest = self.newest_rows(channel, 1).await?;
        Ok(newest.first().and_then(entry).map_or(Position::START, |entry| entry.position))
    }

    async fn after(&self, channel: &str, position: Position, limit: usize) -> Result<Replay, StoreError> {
        // One item more at each end: the one at the position, which shows the epoch, and one that shows that there are more.
        // A page of the table ends at 1 MB, so fewer may come; the first of them is never missing.
        let found = self.from(channel, position.offset(), limit + 2).await?;
        let mut newest = None;
        if found.is_empty() {
            newest = self.newest_rows(channel, 1).await?.first().and_then(entry).map(|entry| entry.position);
        }

        Ok(match judge(position, &found, limit, newest) {
            Verdict::Whole(entries, more) => {
                let cut = found.len() < limit + 2
                    && found.iter().map(|entry| entry.content.len()).sum::<usize>() > 900_000;
                Replay::Whole { entries, more: more || cut }
            }
            Verdict::Unknown => Replay::Unknown,
            Verdict::Lost => {
                let mut left = self.from(channel, 0, limit + 1).await?;
                let contiguous =
                    left.windows(2).take_while(|pair| pair[1].position.follows(pair[0].position)).count();
                let whole = left.len();
                left.truncate(limit.min(contiguous + 1));
                Replay::Lost { more: whole > left.len(), entries: left }
            }
        })
    }

    async fn recent(&self, channel: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let newest = self.newest_rows(channel, limit).await?;
        let mut entries: Vec<Entry> = newest.iter().filter_map(entry).collect();
        let contiguous =
            entries.windows(2).take_while(|pair| pair[0].position.follows(pair[1].position)).count();

        entries.truncate(contiguous + 1);
        entries.reverse();
        Ok(entries)
    }

    async fn settle(&self, channel: &str, position: Position) -> Result<(), StoreError> {
        match position.offset() {
            1 => Ok(()),
            _ => self.expire(channel, position.previous()).await,
        }
    }
}
