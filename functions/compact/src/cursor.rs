//! Walks through the rows of one object of msk-to-s3.

use std::borrow::Cow;
use std::io::Read as _;

use bytes::Bytes;
use msk_to_s3::{Compression, Metadata};

use crate::config::Config;
use crate::error::Error;
use crate::row::{self, Field};
use crate::source::Source;

/// The most text that an object may hold. An object holds records of one event, which has at most 6 MB.
const MAX_TEXT_BYTES: u64 = 128_000_000;

/// The number of fields in a row, and the positions of those that compaction reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    fields: usize,
    offset: usize,
    timestamp: usize,
    header: bool,
}

impl Shape {
    pub(crate) fn of(config: &Config) -> Self {
        let source = &config.source;
        let position = |wanted| {
            let at = source.metadata.iter().position(|column| *column == wanted);
            source.columns.len() + at.unwrap_or_default()
        };
        Self {
            fields: source.columns.len() + source.metadata.len(),
            offset: position(Metadata::Offset),
            timestamp: position(Metadata::Timestamp),
            header: source.header,
        }
    }
}

/// A position in an object: its current row.
#[derive(Debug)]
pub(crate) struct Cursor {
    key: String,
    /// The object's position in the list of sources.
    pub(crate) source: usize,
    shape: Shape,
    text: Vec<u8>,
    start: usize,
    end: usize,
    fields: Vec<Field>,
    pub(crate) offset: u64,
    /// The record's timestamp in milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
}

impl Cursor {
    /// Opens an object at its first row. `None`: the object has no rows.
    pub(crate) fn open(
        source: &Source,
        position: usize,
        body: &Bytes,
        shape: Shape,
    ) -> Result<Option<Self>, Error> {
        let text = decompress(source, body)?;
        let mut cursor = Self {
            key: source.key.clone(),
            source: position,
            shape,
            text,
            start: 0,
            end: 0,
            fields: Vec::new(),
            offset: 0,
            timestamp: None,
        };

        if shape.header {
            cursor.read_fields()?;
        }
        let has_row = cursor.advance_from(None)?;
        Ok(has_row.then_some(cursor))
    }

    /// Moves to the next row. Returns `false` at the end of the object.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        self.advance_from(Some(self.offset))
    }

    fn advance_from(&mut self, previous: Option<u64>) -> Result<bool, Error> {
        if self.end == self.text.len() {
            return Ok(false);
        }
        self.read_fields()?;

        let number = |position: usize| {
            let text = self.fields[position].text(&self.text);
            text.map(|text| std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok()))
        };
        let offset = number(self.shape.offset).flatten().and_then(|offset| u64::try_from(offset).ok());
        let timestamp = match number(self.shape.timestamp) {
            None => None,
            Some(None) => return Err(self.invalid("a row has a timestamp that is not a number")),
            Some(timestamp) => timestamp,
        };

        self.offset =
            offset.ok_or_else(|| self.invalid("a row has no offset, or one that is not a number"))?;
        self.timestamp = timestamp;
        if previous.is_some_and(|previous| self.offset <= previous) {
            return Err(self.invalid("the offsets do not rise"));
        }
        Ok(true)
    }

    fn read_fields(&mut self) -> Result<(), Error> {
        self.start = self.end;
        self.end = row::read(&self.text, self.end, &mut self.fields)
            .ok_or_else(|| self.invalid("a row is not valid CSV, or its line break is missing"))?;
        if self.fields.len() != self.shape.fields {
            let (found, expected) = (self.fields.len(), self.shape.fields);
            return Err(self.invalid(&format!(
                "a row has {found} fields; CSV_COLUMNS and CSV_METADATA_COLUMNS name {expected}"
            )));
        }
        Ok(())
    }

    /// The row as it stands in the object, with its line break.
    pub(crate) fn line(&self) -> &[u8] {
        &self.text[self.start..self.end]
    }

    /// The text of a field; `None` for a missing value.
    pub(crate) fn field(&self, position: usize) -> Option<Cow<'_, [u8]>> {
        self.fields[position].text(&self.text)
    }

    fn invalid(&self, problem: &str) -> Error {
        Error::InvalidSource { key: self.key.clone(), problem: problem.to_owned() }
    }
}

fn decompress(source: &Source, body: &Bytes) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let read = match source.compression {
        Compression::None => {
            text.extend_from_slice(body);
            Ok(0)
        }
        Compression::Gzip => {
            flate2::read::MultiGzDecoder::new(&body[..]).take(MAX_TEXT_BYTES).read_to_end(&mut text)
        }
        Compression::Zstd => zstd::Decoder::new(&body[..])
            .and_then(|decoder| decoder.take(MAX_TEXT_BYTES).read_to_end(&mut text)),
    };

    let problem = match read {
        Err(error) => format!("it cannot be decompressed: {error}"),
        Ok(_) if text.len() as u64 >= MAX_TEXT_BYTES => {
            format!("it has more than {MAX_TEXT_BYTES} bytes of text")
        }
        Ok(_) => return Ok(text),
    };
    Err(Error::InvalidSource { key: source.key.clone(), problem })
}
