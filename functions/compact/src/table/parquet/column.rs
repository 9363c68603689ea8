//! One column of a row group: its values until they are encoded, and its type in Parquet.

use std::sync::Arc;

use bytes::Bytes;
use msk_to_s3::{Kind, Typed};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedColumnWriter;
use parquet::schema::types::{Type, TypePtr};

/// The number of texts that are handed to the encoder at once.
const TEXTS: usize = 1_024;

/// The type of a column in the table.
#[derive(Debug, Clone, Copy)]
pub(super) enum ColumnType {
    /// The type that `CSV_COLUMNS` declares.
    Declared(Kind),
    /// Kafka's timestamp: milliseconds since 1970.
    Milliseconds,
}

/// The values of a column, without the missing ones.
enum Values {
    /// The texts one after another, and where each ends.
    Texts(Vec<u8>, Vec<usize>),
    Longs(Vec<i64>),
    Ints(Vec<i32>),
    Doubles(Vec<f64>),
    Bools(Vec<bool>),
}

/// A column of a row group.
pub(super) struct Column {
    name: String,
    kind: ColumnType,
    values: Values,
    /// For each row 1, or 0 for a missing value.
    levels: Vec<i16>,
}

impl Column {
    pub(super) fn new(name: &str, kind: ColumnType) -> Self {
        let values = match kind {
            ColumnType::Declared(Kind::Text) => Values::Texts(Vec::new(), Vec::new()),
            ColumnType::Declared(Kind::Float64) => Values::Doubles(Vec::new()),
            ColumnType::Declared(Kind::Bool) => Values::Bools(Vec::new()),
            ColumnType::Declared(Kind::Date) => Values::Ints(Vec::new()),
            ColumnType::Declared(_) | ColumnType::Milliseconds => Values::Longs(Vec::new()),
        };
        Self { name: name.to_owned(), kind, values, levels: Vec::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The column in the schema. Every column may have missing values.
    pub(super) fn schema(&self) -> Result<TypePtr, ParquetError> {
        let timestamp = |unit| Some(LogicalType::timestamp(true, unit));
        let (physical, logical) = match self.kind {
            ColumnType::Milliseconds => (Physical::INT64, timestamp(TimeUnit::MILLIS)),
            ColumnType::Declared(kind) => match kind {
                Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
                Kind::Int64 => (Physical::INT64, None),
                Kind::Float64 => (Physical::DOUBLE, None),
                Kind::Bool => (Physical::BOOLEAN, None),
                Kind::Date => (Physical::INT32, Some(LogicalType::Date)),
                Kind::Timestamp => (Physical::INT64, timestamp(TimeUnit::MICROS)),
                Kind::Decimal { precision, scale } => {
                    (Physical::INT64, Some(LogicalType::decimal(scale.into(), precision.into())))
                }
            },
        };

        let mut builder = Type::primitive_type_builder(&self.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        if let ColumnType::Declared(Kind::Decimal { precision, scale }) = self.kind {
            builder = builder.with_precision(precision.into()).with_scale(scale.into());
        }
        Ok(Arc::new(builder.build()?))
    }

    /// Adds the value of the next row. The error is the type that the text does not have.
    pub(super) fn push(&mut self, text: Option<&[u8]>) -> Result<(), String> {
        let Some(text) = text else {
            self.levels.push(0);
            return Ok(());
        };

        if let Values::Texts(bytes, ends) = &mut self.values {
            bytes.extend_from_slice(text);
            ends.push(bytes.len());
        } else {
            self.push_typed(text)?;
        }
        self.levels.push(1);
        Ok(())
    }

    fn push_typed(&mut self, text: &[u8]) -> Result<(), String> {
        let (kind, expected) = match self.kind {
            ColumnType::Declared(kind) => (kind, kind.to_string()),
            ColumnType::Milliseconds => (Kind::Int64, "a number of milliseconds".to_owned()),
        };
        let typed = std::str::from_utf8(text).ok().and_then(|text| kind.read(text));

        match (&mut self.values, typed) {
            (
                Values::Longs(values),
                Some(Typed::Int(value) | Typed::Microseconds(value) | Typed::Unscaled(value)),
            ) => {
                values.push(value);
            }
            (Values::Doubles(values), Some(Typed::Float(value))) => values.push(value),
            (Values::Bools(values), Some(Typed::Bool(value))) => values.push(value),
            (Values::Ints(values), Some(Typed::Days(value))) => values.push(value),
            _ => return Err(expected),
        }
        Ok(())
    }

    /// Encodes the values, and forgets them.
    pub(super) fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.levels);
        let levels = Some(&rows[..]);
        match &mut self.values {
            Values::Longs(values) => {
                writer.typed::<Int64Type>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Ints(values) => {
                writer.typed::<Int32Type>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Doubles(values) => {
                writer.typed::<DoubleType>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Bools(values) => {
                writer.typed::<BoolType>().write_batch(&std::mem::take(values), levels, None)?
            }
            Values::Texts(bytes, ends) => {
                return write_texts(writer, &std::mem::take(bytes).into(), &std::mem::take(ends), &rows);
            }
        };
        Ok(())
    }
}

/// Encodes texts a thousand rows at a time: the encoder's form of a text takes more memory than a short text itself.
fn write_texts(
    writer: &mut SerializedColumnWriter<'_>,
    bytes: &Bytes,
    ends: &[usize],
    levels: &[i16],
) -> Result<(), ParquetError> {
    let mut start = 0;
    let mut ends = ends.iter();
    let mut values: Vec<ByteArray> = Vec::with_capacity(TEXTS);

    for levels in levels.chunks(TEXTS) {
        let present = levels.iter().filter(|level| **level == 1).count();
        values.clear();
        for end in ends.by_ref().take(present) {
            values.push(bytes.slice(start..*end).into());
            start = *end;
        }
        writer.typed::<ByteArrayType>().write_batch(&values, Some(levels), None)?;
    }
    Ok(())
}
