//! Encodes rows as an object of the table.

mod csv;
mod parquet;

use crate::config::{Config, Format};
use crate::cursor::Cursor;
use crate::error::Error;

use csv::CsvTable;
use parquet::ParquetTable;

/// An object of the table while it is written. Encoded bytes are taken from it as they come.
pub(crate) enum Table {
    Parquet(ParquetTable),
    Csv(CsvTable),
}

impl Table {
    /// An empty object. Parquet keeps up to `buffer` bytes of rows until it encodes them as a row group.
    pub(crate) fn new(format: Format, config: &Config, buffer: usize) -> Result<Self, Error> {
        Ok(match format {
            Format::Parquet => Self::Parquet(ParquetTable::new(&config.source, buffer)?),
            Format::CsvGzip | Format::CsvZstd => Self::Csv(CsvTable::new(format, &config.source)?),
        })
    }

    /// Appends the current row of a cursor.
    pub(crate) fn append(&mut self, row: &Cursor) -> Result<(), Error> {
        match self {
            Self::Parquet(table) => table.append(row),
            Self::Csv(table) => table.append(row.line()),
        }
    }

    /// Takes the bytes that are encoded so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Parquet(table) => table.take(),
            Self::Csv(table) => table.take(),
        }
    }

    /// Ends the object and returns its last bytes.
    pub(crate) fn finish(self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Parquet(table) => table.finish(),
            Self::Csv(table) => table.finish(),
        }
    }
}
