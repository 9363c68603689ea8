//! A batch becomes the bytes of its objects: one for every run of records of a partition.

use sha2::{Digest as _, Sha256};

use crate::csv::Bad;
use crate::event::{Partition, Payload, Record, Records};
use crate::row::{Column, Rows, decode};
use crate::settings::Settings;

/// Records of one partition with rising offsets: the content of one object.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The time of the first record.
    pub(crate) time: Option<u64>,
    /// The offsets between the first and the last that are not in the run, digested.
    gaps: Option<Sha256>,
    /// Tombstones are in the run, but have no row.
    pub(crate) rows: usize,
    columns: Vec<Column>,
    pub(crate) csv: Vec<u8>,
}

impl Run {
    fn starting_with(record: &Record<'_>) -> Self {
        Self {
            first: record.offset,
            last: record.offset,
            time: record.timestamp,
            gaps: None,
            rows: 0,
            columns: Vec::new(),
            csv: Vec::new(),
        }
    }

    fn takes(&mut self, offset: u64) {
        if offset > self.last + 1 {
            let gaps = self.gaps.get_or_insert_default();
            gaps.update((self.last + 1).to_be_bytes());
            gaps.update((offset - 1).to_be_bytes());
        }
        self.last = offset;
    }

    /// Which offsets between the first and the last are not in the run, in 64 bits; none where all are.
    pub(crate) fn gaps(&self) -> Option<String> {
        let digest = self.gaps.clone()?.finalize();
        digest.first_chunk().map(|bytes| format!("{:016x}", u64::from_be_bytes(*bytes)))
    }
}

/// A partition's part of a batch.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) partition: Partition,
    pub(crate) runs: Vec<Run>,
    pub(crate) bad: Vec<(u64, Bad)>,
    pub(crate) records: usize,
    pub(crate) tombstones: usize,
}

/// Takes a batch's records as the event is read.
pub(crate) struct Converter<'s> {
    rows: Rows<'s>,
    parts: Vec<Part>,
    current: usize,
    value: Vec<u8>,
}

impl<'s> Converter<'s> {
    pub(crate) fn new(settings: &'s Settings) -> Self {
        Self { rows: Rows::new(settings), parts: Vec::new(), current: 0, value: Vec::new() }
    }

    /// The batch by partition, in the order of the event.
    pub(crate) fn parts(self) -> Vec<Part> {
        self.parts
    }
}

impl Records for Converter<'_> {
    fn partition(&mut self, partition: Partition) {
        let known = self.parts.iter().position(|part| part.partition == partition);
        self.current = known.unwrap_or_else(|| {
            self.parts.push(Part { partition, runs: Vec::new(), bad: Vec::new(), records: 0, tombstones: 0 });
            self.parts.len() - 1
        });
    }

    fn record(&mut self, record: &Record<'_>) {
        let Some(part) = self.parts.get_mut(self.current) else { return };
        part.records += 1;
        // Not seen from Lambda, and harmless: offsets that do not rise begin another object.
        let rising = part.runs.last().is_some_and(|run| run.last < record.offset);
        let mut started = (!rising).then(|| Run::starting_with(record));
        let run = match (&mut started, part.runs.last_mut()) {
            (Some(started), _) => started,
            (None, Some(run)) => run,
            (None, None) => return,
        };
        let row = match record.value {
            Payload::Null => Ok(false),
            Payload::Other => Err(Bad::NotBase64),
            Payload::Base64(text) => decode(text, &mut self.value).and_then(|value| {
                self.rows.add(&mut run.csv, &mut run.columns, &part.partition, record, value).map(|()| true)
            }),
        };
        match row {
            Err(bad) => part.bad.push((record.offset, bad)),
            Ok(row) => {
                run.takes(record.offset);
                run.rows += usize::from(row);
                part.tombstones += usize::from(!row);
                part.runs.extend(started);
            }
        }
    }
}
