//! A table's object as Parquet.
//!
//! The rows of a row group are kept by column until there are enough of them; then each column is encoded in turn. The
//! memory is that of one row group, however large the object becomes.

mod column;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use msk_to_s3::{Kind, Metadata};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::cursor::Cursor;
use crate::error::Error;

use column::{Column, ColumnType};

/// The most rows of a row group.
const MAX_ROWS: usize = 1_000_000;

/// A Parquet object while it is written.
pub(crate) struct ParquetTable {
    writer: SerializedFileWriter<Sink>,
    sink: Sink,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
    buffer: usize,
}

impl ParquetTable {
    pub(crate) fn new(source: &msk_to_s3::Config, buffer: usize) -> Result<Self, Error> {
        let declared =
            source.columns.iter().map(|column| (column.name.as_str(), ColumnType::Declared(column.kind)));
        let metadata = source.metadata.iter().map(|column| (column.column(), metadata_type(*column)));
        let columns: Vec<Column> =
            declared.chain(metadata).map(|(name, kind)| Column::new(name, kind)).collect();

        let fields = columns.iter().map(Column::schema).collect::<Result<Vec<_>, _>>()?;
        let schema = Type::group_type_builder("records").with_fields(fields).build()?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by("postern".to_owned())
            .build();

        let sink = Sink::default();
        let writer = SerializedFileWriter::new(sink.clone(), Arc::new(schema), Arc::new(properties))?;
        Ok(Self { writer, sink, columns, rows: 0, bytes: 0, buffer })
    }

    pub(crate) fn append(&mut self, row: &Cursor) -> Result<(), Error> {
        for (position, column) in self.columns.iter_mut().enumerate() {
            let field = row.field(position);
            column.push(field.as_deref()).map_err(|expected| Error::InvalidValue {
                column: column.name().to_owned(),
                offset: row.offset,
                expected,
            })?;
        }

        self.rows += 1;
        self.bytes += row.line().len();
        if self.bytes >= self.buffer || self.rows >= MAX_ROWS { self.end_row_group() } else { Ok(()) }
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.sink.take()
    }

    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.end_row_group()?;
        self.writer.close()?;
        Ok(self.sink.take())
    }

    fn end_row_group(&mut self) -> Result<(), Error> {
        if self.rows == 0 {
            return Ok(());
        }

        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let Some(mut writer) = group.next_column()? else { break };
            column.write(&mut writer)?;
            writer.close()?;
        }
        group.close()?;

        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

fn metadata_type(column: Metadata) -> ColumnType {
    match column {
        Metadata::Partition | Metadata::Offset => ColumnType::Declared(Kind::Int64),
        Metadata::Timestamp => ColumnType::Milliseconds,
        _ => ColumnType::Declared(Kind::Text),
    }
}

/// Collects encoded bytes until the table takes them. The writer owns one handle, and the table the other.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
