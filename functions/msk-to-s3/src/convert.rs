//! Sorts the records of a batch into runs and converts them to rows.
//!
//! A run is a sequence of records of one partition whose offsets rise; each run becomes one object. With the layout
//! `time`, a run has the records of one hour. The event reader calls the [`Converter`] with one record after another, so
//! no list of records is built.

use sha2::{Digest as _, Sha256};

use crate::bad_record::BadRecord;
use crate::config::{Config, KeyLayout};
use crate::event::{Partition, Payload, Record, Records};
use crate::payload::decode;
use crate::row::{RowWriter, Table};

/// Records of one partition with rising offsets: the content of one object.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The timestamp of the first record.
    pub(crate) time: Option<u64>,
    /// The hour of all its records since 1970, with the layout `time` and if they have timestamps.
    pub(crate) hour: Option<u64>,
    /// A digest of the offsets between `first` and `last` that are missing from the run; `None` for a run without gaps.
    gaps: Option<Sha256>,
    /// The number of rows. Tombstones are in the run but have no row.
    pub(crate) rows: usize,
    pub(crate) table: Table,
}

impl Run {
    fn starting_with(record: &Record<'_>, hour: Option<u64>) -> Self {
        Self {
            first: record.offset,
            last: record.offset,
            time: record.timestamp,
            hour,
            gaps: None,
            rows: 0,
            table: Table::default(),
        }
    }

    /// Extends the run to `offset`. The offsets that were left out become part of the digest: the first and the last of
    /// each gap, both included, as big-endian numbers of 64 bits.
    fn extend_to(&mut self, offset: u64) {
        if offset > self.last + 1 {
            let gaps = self.gaps.get_or_insert_default();
            gaps.update((self.last + 1).to_be_bytes());
            gaps.update((offset - 1).to_be_bytes());
        }
        self.last = offset;
    }

    /// The first 64 bits of the gaps' digest, in hexadecimal; `None` if the run has no gaps.
    pub(crate) fn gaps(&self) -> Option<String> {
        let digest = self.gaps.clone()?.finalize();
        digest.first_chunk().map(|bytes| format!("{:016x}", u64::from_be_bytes(*bytes)))
    }
}

/// The records of a batch that belong to one partition.
#[derive(Debug)]
pub(crate) struct PartitionBatch {
    pub(crate) partition: Partition,
    pub(crate) runs: Vec<Run>,
    /// The offset of each bad record, and what is wrong with it.
    pub(crate) bad: Vec<(u64, BadRecord)>,
    pub(crate) records: usize,
    pub(crate) tombstones: usize,
}

impl PartitionBatch {
    fn of(partition: Partition) -> Self {
        Self { partition, runs: Vec::new(), bad: Vec::new(), records: 0, tombstones: 0 }
    }
}

/// Converts the records of a batch while the event is read.
pub(crate) struct Converter<'c> {
    writer: RowWriter<'c>,
    layout: KeyLayout,
    partitions: Vec<PartitionBatch>,
    /// The index of the partition that the next records belong to.
    current: usize,
    /// Values are decoded into this buffer, which keeps its memory from one record to the next.
    buffer: Vec<u8>,
}

impl<'c> Converter<'c> {
    pub(crate) fn new(config: &'c Config) -> Self {
        let (writer, layout) = (RowWriter::new(config), config.layout);
        Self { writer, layout, partitions: Vec::new(), current: 0, buffer: Vec::new() }
    }

    /// The hour whose object gets the record. With the layout `partition`, objects have no hour.
    fn hour(&self, record: &Record<'_>) -> Option<u64> {
        const MILLISECONDS: u64 = 3_600_000;
        match self.layout {
            KeyLayout::Partition => None,
            KeyLayout::Time => record.timestamp.map(|time| time / MILLISECONDS),
        }
    }

    /// The batch by partition, in the order of the event.
    pub(crate) fn finish(self) -> Vec<PartitionBatch> {
        self.partitions
    }
}

impl Records for Converter<'_> {
    fn partition(&mut self, partition: Partition) {
        let known = self.partitions.iter().position(|batch| batch.partition == partition);
        self.current = known.unwrap_or_else(|| {
            self.partitions.push(PartitionBatch::of(partition));
            self.partitions.len() - 1
        });
    }

    fn record(&mut self, record: &Record<'_>) {
        let hour = self.hour(record);
        let Some(batch) = self.partitions.get_mut(self.current) else { return };
        batch.records += 1;

        // An offset that does not rise begins another run, although Lambda is not known to send such records. The new
        // run is kept only if the record is good.
        let current = batch.runs.iter_mut().rfind(|run| run.hour == hour);
        let mut started = None;
        let run = match current.filter(|run| run.last < record.offset) {
            Some(run) => run,
            None => started.insert(Run::starting_with(record, hour)),
        };

        // A tombstone is a record without a row.
        let has_row = match record.value {
            Payload::Null => Ok(false),
            Payload::NotAString => Err(BadRecord::NotBase64),
            Payload::Base64(text) => decode(text, &mut self.buffer)
                .and_then(|value| self.writer.append(&mut run.table, &batch.partition, record, value))
                .map(|()| true),
        };

        match has_row {
            Err(bad) => batch.bad.push((record.offset, bad)),
            Ok(has_row) => {
                run.extend_to(record.offset);
                run.rows += usize::from(has_row);
                batch.tombstones += usize::from(!has_row);
                batch.runs.extend(started);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offsets: &[u64]) -> Run {
        let mut run = Run {
            first: offsets[0],
            last: offsets[0],
            time: None,
            hour: None,
            gaps: None,
            rows: 0,
            table: Table::default(),
        };

        for offset in offsets {
            run.extend_to(*offset);
        }
        run
    }

    /// The digest that a run with exactly these gaps has, both ends of each included.
    fn digest(gaps: &[(u64, u64)]) -> String {
        let mut bytes = Vec::new();
        for (first, last) in gaps {
            bytes.extend_from_slice(&first.to_be_bytes());
            bytes.extend_from_slice(&last.to_be_bytes());
        }

        let digest = Sha256::digest(bytes);
        format!("{:016x}", u64::from_be_bytes(*digest.first_chunk().unwrap()))
    }

    #[test]
    fn consecutive_offsets_leave_no_gap() {
        assert_eq!(run(&[7]).gaps(), None);
        assert_eq!(run(&[7, 8, 9]).gaps(), None);
        assert_eq!((run(&[7, 8, 9]).first, run(&[7, 8, 9]).last), (7, 9));
    }

    #[test]
    fn the_digest_stands_for_the_first_and_the_last_missing_offset_of_each_gap() {
        assert_eq!(run(&[4, 6]).gaps(), Some(digest(&[(5, 5)])), "one missing offset is a gap");
        assert_eq!(run(&[4, 9]).gaps(), Some(digest(&[(5, 8)])));
        assert_eq!(run(&[0, 3, 4, 9]).gaps(), Some(digest(&[(1, 2), (5, 8)])));
    }

    #[test]
    fn other_gaps_between_the_same_offsets_have_another_digest() {
        let runs: [&[u64]; 6] = [&[0, 9], &[0, 1, 9], &[0, 8, 9], &[0, 4, 9], &[0, 5, 9], &[0, 4, 5, 9]];
        let digests: std::collections::BTreeSet<_> = runs.iter().map(|offsets| run(offsets).gaps()).collect();
        assert_eq!(digests.len(), runs.len());
    }
}
