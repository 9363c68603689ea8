//! Turns records into the rows of one object.
//!
//! A [`Table`] is the text of one object. A [`RowWriter`] holds what is common to all tables of a batch: the
//! configuration and a buffer. To append a record, it
//!
//! 1. finds the columns: the configured ones, the ones that the table's first record named, or, for the first record
//!    itself, its own keys ([`columns`]);
//! 2. writes the header if the table is empty and `CSV_HEADER` asks for one;
//! 3. writes the value's fields: the CSV line as it is, or the members of the JSON object, each in its column
//!    ([`object`]);
//! 4. writes the metadata columns that `CSV_METADATA_COLUMNS` lists ([`metadata`]).
//!
//! If a step fails, the table is cut back to the length that it had before, so a bad record leaves no trace.

mod columns;
mod metadata;
mod object;

use std::rc::Rc;

use crate::bad_record::BadRecord;
use crate::config::{Config, Format};
use crate::csv::{self, Fields};
use crate::event::{Partition, Record};
use crate::kind::Kind;

use columns::Column;
use metadata::MetadataWriter;

/// The rows of one object.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// `None` until the first row is written.
    columns: Option<Rc<[Column]>>,
    pub(crate) csv: Vec<u8>,
}

/// Writes records as rows, by the configuration.
pub(crate) struct RowWriter<'c> {
    config: &'c Config,
    /// The columns of `CSV_COLUMNS`; empty if the variable is.
    columns: Rc<[Column]>,
    fields: Fields,
    metadata: MetadataWriter<'c>,
}

impl<'c> RowWriter<'c> {
    pub(crate) fn new(config: &'c Config) -> Self {
        let fields = Fields { neutralize: config.neutralize, line_breaks: config.line_breaks };
        let columns = config.columns.iter().map(Column::declared).collect();
        Self { config, columns, fields, metadata: MetadataWriter::new(&config.metadata, fields) }
    }

    /// Appends the record's row to the table. A bad record leaves the table as it was.
    pub(crate) fn append(
        &mut self,
        table: &mut Table,
        partition: &Partition,
        record: &Record<'_>,
        value: &str,
    ) -> Result<(), BadRecord> {
        let columns = match &table.columns {
            Some(columns) => Rc::clone(columns),
            None => self.first_columns(value)?,
        };

        let length = table.csv.len();
        if length == 0 {
            self.header(&mut table.csv, &columns);
        }
        let row = table.csv.len();
        self.value(&mut table.csv, &columns, value).inspect_err(|_| table.csv.truncate(length))?;
        self.metadata.write(&mut table.csv, partition, record);

        // Most readers skip an empty line, but read a pair of quotes as a row with one empty field.
        if table.csv.len() == row {
            table.csv.extend_from_slice(b"\"\"");
        }
        table.csv.push(b'\n');
        table.columns = Some(columns);
        Ok(())
    }

    /// The columns of a table whose first record has this value.
    fn first_columns(&self, value: &str) -> Result<Rc<[Column]>, BadRecord> {
        if self.config.format == Format::Json && self.columns.is_empty() {
            return Ok(columns::named_by(value)?.into());
        }
        Ok(Rc::clone(&self.columns))
    }

    fn header(&self, csv: &mut Vec<u8>, columns: &[Column]) {
        if !self.config.header {
            return;
        }

        let names = columns.iter().map(Column::name);
        let metadata = self.config.metadata.iter().map(|column| column.column());
        for (position, name) in names.chain(metadata).enumerate() {
            if position > 0 {
                csv.push(b',');
            }
            self.fields.text(csv, name);
        }
        csv.push(b'\n');
    }

    fn value(&self, csv: &mut Vec<u8>, columns: &[Column], value: &str) -> Result<(), BadRecord> {
        match self.config.format {
            Format::Lines => {
                self.fields.line(csv, value, columns.len())?;
                check_types(value, columns)
            }
            Format::Json => object::write(csv, self.fields, columns, value, self.config.drop_extra),
        }
    }
}

/// Checks the fields of a valid line against the declared types. A missing value fits every type.
fn check_types(line: &str, columns: &[Column]) -> Result<(), BadRecord> {
    if columns.iter().all(|column| column.kind() == Kind::Text) {
        return Ok(());
    }

    for (field, column) in csv::split(line).zip(columns) {
        let field = field?;
        let text = field.strip_prefix('"').and_then(|field| field.strip_suffix('"')).unwrap_or(field);
        if !field.is_empty() && !column.kind().accepts(text) {
            return Err(BadRecord::WrongType);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
