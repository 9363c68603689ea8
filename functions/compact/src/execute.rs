//! Carries out a plan: writes each of its objects that does not exist yet.

use crate::config::{Config, Format};
use crate::cursor::Shape;
use crate::error::Error;
use crate::hour::Hour;
use crate::manifest::{Plan, TableFile};
use crate::merge::{Merge, Row};
use crate::source::Source;
use crate::store::{Listed, Store};
use crate::table::Table;
use crate::upload::Upload;

/// The number of objects that are written at the same time. A plan with more hours reads its sources several times.
const OPEN_FILES: usize = 4;

/// The bytes of rows that all open objects together keep until they are encoded.
const BUFFER_BYTES: usize = 64 << 20;

/// Writes the objects of a plan. Objects that exist were written by a run of the same plan.
pub(crate) async fn write_files(store: &impl Store, config: &Config, plan: &Plan) -> Result<(), Error> {
    let mut missing = Vec::new();
    for file in &plan.files {
        if !store.exists(&file.key).await? {
            missing.push(file);
        }
    }

    for files in missing.chunks(OPEN_FILES) {
        write(store, config, plan, files).await?;
    }
    Ok(())
}

/// Writes a few objects in one pass over the sources.
async fn write(store: &impl Store, config: &Config, plan: &Plan, files: &[&TableFile]) -> Result<(), Error> {
    let buffer = BUFFER_BYTES / files.len();
    let mut open = files
        .iter()
        .map(|file| OpenFile::new(store, config, file, buffer))
        .collect::<Result<Vec<_>, Error>>()?;

    let written = append_rows(store, config, plan, &mut open).await;
    if let Err(error) = written {
        for file in open {
            file.upload.abort().await;
        }
        return Err(error);
    }

    for file in open {
        file.finish().await?;
    }
    Ok(())
}

async fn append_rows<S: Store>(
    store: &S,
    config: &Config,
    plan: &Plan,
    open: &mut [OpenFile<'_, S>],
) -> Result<(), Error> {
    let first = open.iter().map(|file| file.expected.first).min().unwrap_or_default();
    let last = open.iter().map(|file| file.expected.last).max().unwrap_or_default();
    let mut sources = Vec::new();
    for planned in &plan.sources {
        let listed = Listed { key: planned.key.clone(), etag: planned.etag.clone(), modified: 0 };
        let source = Source::of(listed).ok_or_else(|| Error::SourceMissing(planned.key.clone()))?;
        if source.first <= last && first <= source.last {
            sources.push(source);
        }
    }

    // Rows of one hour mostly follow each other, so the name of the hour is made once for all of them.
    let mut current: Option<(Hour, Option<usize>)> = None;
    let mut merge = Merge::of(store, Shape::of(config), &sources);
    while let Some(Row { cursor, repeated }) = merge.next().await? {
        if repeated || !plan.ranges.contains(cursor.offset) {
            continue;
        }

        let hour = Hour::of(cursor.timestamp);
        let position = match current {
            Some((known, position)) if known == hour => position,
            _ => {
                let name = hour.to_string();
                open.iter().position(|file| file.expected.hour == name)
            }
        };
        current = Some((hour, position));

        if let Some(file) = position.map(|position| &mut open[position]) {
            file.table.append(cursor)?;
            file.rows += 1;
            file.upload_encoded().await?;
        }
    }

    let differs = open.iter().find(|file| file.rows != file.expected.rows);
    differs.map_or(Ok(()), |file| {
        let problem = format!("{} rows were planned, {} were found", file.expected.rows, file.rows);
        Err(Error::InvalidSource { key: file.expected.key.clone(), problem })
    })
}

/// An object of the plan while it is written.
struct OpenFile<'s, S: Store> {
    expected: &'s TableFile,
    rows: u64,
    table: Table,
    upload: Upload<'s, S>,
}

impl<'s, S: Store> OpenFile<'s, S> {
    fn new(store: &'s S, config: &Config, expected: &'s TableFile, buffer: usize) -> Result<Self, Error> {
        // The plan decides the format, because the configuration may have changed since the plan was made.
        let format = Format::of(&expected.key).unwrap_or(config.format);
        let table = Table::new(format, config, buffer)?;
        Ok(Self { expected, rows: 0, table, upload: Upload::new(store, &expected.key) })
    }

    async fn upload_encoded(&mut self) -> Result<(), Error> {
        let encoded = self.table.take();
        if encoded.is_empty() { Ok(()) } else { self.upload.push(encoded).await }
    }

    async fn finish(mut self) -> Result<(), Error> {
        let end = self.table.finish()?;
        self.upload.push(end).await?;
        self.upload.finish().await
    }
}
