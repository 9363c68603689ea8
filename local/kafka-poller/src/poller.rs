//! The loop of the poller: batches from the topic through the registry and the filters to the function, then a commit.

use postern_runtime::Error;

use crate::dead_letters::Destination;
use crate::decode::Decoder;
use crate::filter::Filters;
use crate::invocation_record::Condition;
use crate::mapping::{Function, Mapping};
use crate::source::{Batch, Source};

/// The parts of a poller.
pub struct Poller<F, D> {
    /// The topic.
    pub source: Source,
    /// The schema registry, if the mapping has one.
    pub decoder: Option<Decoder>,
    /// The event filters.
    pub filters: Filters,
    /// The function and its destination.
    pub mapping: Mapping<F, D>,
}

impl<F: Function, D: Destination> Poller<F, D> {
    /// Polls until an error ends it.
    pub async fn run(mut self) -> Result<(), Error> {
        loop {
            let mut batch = self.source.batch().await?;
            let next = batch.next();
            self.decode(&mut batch).await?;
            for record in batch.too_large.drain(..) {
                self.mapping.reject(record, Condition::MaximumPayloadSizeExceeded).await?;
            }

            // As in Lambda, filters see decoded records.
            batch.records.retain(|record| self.filters.matches(record));
            let records = batch.records.len();
            for part in self.source.events(batch.records) {
                self.mapping.process(part).await?;
            }
            self.source.commit(&next)?;
            tracing::info!(records, counts = ?self.mapping.counts(), "batch committed");
        }
    }

    /// Decodes the records of a batch. Gives up those that cannot be decoded: Lambda does not invoke the function with
    /// them, and does not try again.
    async fn decode(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };

        for mut record in std::mem::take(&mut batch.records) {
            let Err(error) = decoder.decode(&mut record).await else {
                let place = if self.source.fits(&record) { &mut batch.records } else { &mut batch.too_large };
                place.push(record);
                continue;
            };

            let (partition, offset) = (record.partition, record.offset);
            tracing::warn!(partition, offset, %error, "a record could not be decoded");
            match error.condition() {
                Some(condition) => self.mapping.reject(record, condition).await?,
                None => return Err(error.into()),
            }
        }
        Ok(())
    }
}
