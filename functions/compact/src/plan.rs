//! Decides what a run does: reads every record that is not in the table yet, and assigns each to the object of its hour.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::cursor::{Cursor, Shape};
use crate::error::Error;
use crate::hour::Hour;
use crate::manifest::{Manifest, Plan, PlannedSource, TableFile};
use crate::merge::{Merge, Row};
use crate::ranges::Ranges;
use crate::source::{Selection, Source, select};
use crate::store::Store;

/// The most objects that one plan writes. Records of more hours take several runs.
const MAX_FILES: usize = 256;

/// How long a record waits for the end of its hour, in milliseconds after its object was written. A timestamp further in
/// the future is wrong, and its record must not wait forever.
const LONGEST_WAIT: i64 = 24 * 3_600_000;

/// The times by which a run decides, in milliseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Hours that end at this time or before are closed.
    pub(crate) closed_before: i64,
}

impl Clock {
    /// Whether a record of this hour, in an object written at `modified`, can go into the table.
    fn is_due(self, hour: Hour, modified: i64) -> bool {
        hour.has_ended(self.closed_before) || self.is_old(modified)
    }

    fn is_old(self, modified: i64) -> bool {
        modified.saturating_add(LONGEST_WAIT) < self.closed_before
    }

    /// Whether an object may hold records that are due. Its key has the time of its first record only: if that is not
    /// due, later runs look at the object.
    fn may_be_due(self, source: &Source) -> bool {
        self.is_old(source.modified)
            || source.time.is_none_or(|time| Hour::of(Some(time)).has_ended(self.closed_before))
    }
}

/// A plan, and whether it leaves records for another one.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) more: bool,
}

/// Plans the next run. `None`: every record that is due is in the table.
pub(crate) async fn next(
    store: &impl Store,
    config: &Config,
    manifest: &Manifest,
    clock: Clock,
) -> Result<Option<Planned>, Error> {
    let listed = store.list(&config.source_prefix(manifest.partition)).await?;
    let all: Vec<Source> = listed.into_iter().filter_map(Source::of).collect();

    // The manifest need not remember objects that have expired.
    let existing: BTreeSet<String> =
        all.iter().filter(|source| !source.is_gapless()).map(Source::short_name).collect();
    let examined: BTreeSet<String> = manifest.examined.intersection(&existing).cloned().collect();

    let candidates = all.into_iter().filter(|source| clock.may_be_due(source)).collect();
    let selection = select(candidates, &manifest.ranges, &examined);
    let mut planner = Planner::new(config, manifest, clock, &selection);
    let more = planner.walk(store, Shape::of(config)).await?;
    let plan = planner.finish(examined);
    Ok(plan.map(|plan| Planned { plan, more }))
}

/// Walks through the records, and collects the plan.
struct Planner<'p> {
    config: &'p Config,
    partition: u32,
    done: &'p Ranges,
    clock: Clock,
    selection: &'p Selection,
    ranges: Ranges,
    files: BTreeMap<Hour, TableFile>,
    /// For each source: whether the walk has met a row of it, and whether one of its rows has to wait.
    met: Vec<(bool, bool)>,
    bytes: u64,
    /// The previous record, and whether it was due.
    previous: Option<(u64, bool)>,
}

impl<'p> Planner<'p> {
    fn new(config: &'p Config, manifest: &'p Manifest, clock: Clock, selection: &'p Selection) -> Self {
        Self {
            config,
            partition: manifest.partition,
            done: &manifest.ranges,
            clock,
            selection,
            ranges: Ranges::default(),
            files: BTreeMap::new(),
            met: vec![(false, false); selection.sources.len()],
            bytes: 0,
            previous: None,
        }
    }

    /// Reads records to the end, or until the plan is large enough. Returns whether records are left.
    async fn walk(&mut self, store: &impl Store, shape: Shape) -> Result<bool, Error> {
        let mut merge = Merge::of(store, shape, &self.selection.sources);
        while let Some(Row { cursor, repeated }) = merge.next().await? {
            let source = &self.selection.sources[cursor.source];
            let hour = Hour::of(cursor.timestamp);
            let due = self.clock.is_due(hour, source.modified);
            let is_done = self.done.contains(cursor.offset);

            if !repeated {
                self.claim_tombstones_before(Some(cursor.offset));
                if self.is_full(hour, due && !is_done) {
                    self.previous = None;
                    return Ok(true);
                }
                self.take(cursor, hour, due, is_done);
            }

            let (met, waits) = &mut self.met[cursor.source];
            *met = true;
            *waits |= !self.ranges.contains(cursor.offset) && !is_done;
        }

        self.claim_tombstones_before(None);
        Ok(false)
    }

    /// Whether the plan is too large for another record.
    fn is_full(&self, hour: Hour, due: bool) -> bool {
        due && !self.files.is_empty()
            && (self.bytes >= self.config.most_bytes
                || (self.files.len() >= MAX_FILES && !self.files.contains_key(&hour)))
    }

    /// Assigns a record to the object of its hour.
    fn take(&mut self, cursor: &Cursor, hour: Hour, due: bool, is_done: bool) {
        let offset = cursor.offset;
        if due && !is_done {
            self.bytes += cursor.line().len() as u64;
            let file = self.files.entry(hour).or_insert_with(|| TableFile {
                key: String::new(),
                hour: hour.to_string(),
                first: offset,
                last: offset,
                rows: 0,
            });
            file.last = offset;
            file.rows += 1;

            self.ranges.insert(offset, offset);
        }

        // The offsets before the record, back to the record before it, have no rows: where an object says that it is
        // complete, they are tombstones.
        let start = self.selection.complete.around(offset).map_or(offset, |(start, _)| start);
        let start = start.max(self.previous.map_or(0, |(previous, _)| previous + 1));
        if due && start < offset {
            self.ranges.insert(start, offset - 1);
        }
        self.previous = Some((offset, due));
    }

    /// Adds the offsets between the previous record and `next` that have no rows although an object is complete there.
    fn claim_tombstones_before(&mut self, next: Option<u64>) {
        let Some((previous, true)) = self.previous else { return };
        let Some((_, end)) = self.selection.complete.around(previous) else { return };
        let last = next.map_or(end, |next| end.min(next - 1));
        if last > previous {
            self.ranges.insert(previous + 1, last);
        }
    }

    /// The plan; `None` if it would change nothing.
    fn finish(self, mut examined: BTreeSet<String>) -> Option<Plan> {
        let known = examined.len();
        let sources = self.selection.sources.iter().zip(&self.met);
        examined.extend(
            sources
                .clone()
                .filter(|(source, (met, waits))| {
                    *met && !waits && !source.is_gapless() && self.is_read(source)
                })
                .map(|(source, _)| source.short_name()),
        );
        if self.files.is_empty() && self.ranges.is_empty() && examined.len() == known {
            return None;
        }

        let name = |file: TableFile| {
            let (prefix, suffix) = (self.config.table_prefix(), self.config.format.suffix());
            let key = format!(
                "{prefix}hour={}/{}-{:020}-{:020}{suffix}",
                file.hour, self.partition, file.first, file.last
            );
            TableFile { key, ..file }
        };
        let read = sources.filter(|(_, (met, _))| *met);
        let planned =
            |(source, _): (&Source, _)| PlannedSource { key: source.key.clone(), etag: source.etag.clone() };
        Some(Plan {
            sources: read.map(planned).collect(),
            files: self.files.into_values().map(name).collect(),
            ranges: self.ranges,
            examined,
        })
    }

    /// Whether the walk has passed the end of an object.
    fn is_read(&self, source: &Source) -> bool {
        self.previous.is_some_and(|(previous, _)| previous >= source.last)
    }
}
