//! Merges the rows of many objects in the order of their offsets.
//!
//! Only the objects around the current offset are in memory: those that overlap there, and a few that are read ahead.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use futures_util::stream::{self, LocalBoxStream};

use crate::cursor::{Cursor, Shape};
use crate::error::Error;
use crate::source::Source;
use crate::store::Store;

/// The number of objects that are read ahead.
const AHEAD: usize = 4;

/// The rows of a list of objects.
pub(crate) struct Merge<'s> {
    /// The objects that are not open yet, with their first offsets.
    opening: LocalBoxStream<'s, Result<Option<Cursor>, Error>>,
    firsts: VecDeque<u64>,
    open: Vec<Cursor>,
    /// The open object whose row was returned last.
    current: Option<usize>,
    last: Option<u64>,
}

/// A row, and whether a row with the same offset came before.
pub(crate) struct Row<'m> {
    pub(crate) cursor: &'m Cursor,
    pub(crate) repeated: bool,
}

impl<'s> Merge<'s> {
    /// Merges objects, which are in the order of their first offsets.
    pub(crate) fn of(store: &'s impl Store, shape: Shape, sources: &'s [Source]) -> Self {
        let opening = stream::iter(sources.iter().enumerate())
            .map(move |(position, source)| open(store, shape, position, source))
            .buffered(AHEAD)
            .boxed_local();
        let firsts = sources.iter().map(|source| source.first).collect();
        Self { opening, firsts, open: Vec::new(), current: None, last: None }
    }

    /// The next row, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Row<'_>>, Error> {
        if let Some(current) = self.current.take()
            && !self.open[current].advance()?
        {
            self.open.swap_remove(current);
        }

        // Open every object that may hold the next offset.
        let mut least = self.open.iter().map(|cursor| cursor.offset).min();
        while self.firsts.front().is_some_and(|first| least.is_none_or(|least| *first <= least)) {
            self.firsts.pop_front();
            let Some(opened) = self.opening.next().await else { break };
            if let Some(cursor) = opened? {
                least = Some(least.map_or(cursor.offset, |least| least.min(cursor.offset)));
                self.open.push(cursor);
            }
        }

        let next =
            (0..self.open.len()).min_by_key(|index| (self.open[*index].offset, self.open[*index].source));
        self.current = next;
        let Some(cursor) = next.map(|index| &self.open[index]) else { return Ok(None) };
        let repeated = self.last.replace(cursor.offset) == Some(cursor.offset);
        Ok(Some(Row { cursor, repeated }))
    }
}

async fn open(
    store: &impl Store,
    shape: Shape,
    position: usize,
    source: &Source,
) -> Result<Option<Cursor>, Error> {
    match store.get(&source.key).await? {
        Some((body, etag)) if etag == source.etag => Cursor::open(source, position, &body, shape),
        _ => Err(Error::SourceMissing(source.key.clone())),
    }
}
