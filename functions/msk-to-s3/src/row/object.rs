//! Writes the members of a JSON object as CSV fields, each in its column.
//!
//! Records of one topic mostly have the same keys in the same order. [`write_in_order`] relies on that: it compares
//! each key with the one column that is expected, and writes the value while it reads. If the object turns out to be
//! different, its partial row is discarded and [`locate`] reads the object again: it looks each key up and returns one
//! value for each column, which are then written in the order of the columns.

use crate::bad_record::BadRecord;
use crate::csv::Fields;
use crate::json::{Kind, Reader, Value};

use super::columns::Column;

/// Appends the object's fields to `csv`. A column without a member is an empty field; of members with the same key
/// the last one counts. A key that is not a column is an error unless `drop_extra` is set.
///
/// After an error `csv` may end in a partial row.
pub(super) fn write(
    csv: &mut Vec<u8>,
    fields: Fields,
    columns: &[Column],
    object: &str,
    drop_extra: bool,
) -> Result<(), BadRecord> {
    let start = csv.len();
    if write_in_order(csv, fields, columns, object).is_some() {
        return Ok(());
    }

    csv.truncate(start);
    for (position, value) in locate(columns, object, drop_extra)?.into_iter().enumerate() {
        separate(csv, position);
        if let Some(value) = value {
            write_value(csv, fields, value).ok_or(BadRecord::NotAnObject)?;
        }
    }
    Ok(())
}

/// Writes an object whose keys are exactly the columns in their order. Returns `None` for every other text; `csv` may
/// then end in a partial row.
fn write_in_order(csv: &mut Vec<u8>, fields: Fields, columns: &[Column], object: &str) -> Option<()> {
    let mut reader = Reader::new(object);
    reader.object().ok()?;

    for (position, column) in columns.iter().enumerate() {
        if !reader.skip_key(column.token()) {
            return None;
        }
        separate(csv, position);
        write_value(csv, fields, reader.typed_value().ok()?)?;
    }

    let complete = reader.key().ok()?.is_none() && reader.end().is_ok();
    complete.then_some(())
}

/// Reads the whole object and returns the value of each column, `None` for a column without a member.
fn locate<'o>(
    columns: &[Column],
    object: &'o str,
    drop_extra: bool,
) -> Result<Vec<Option<Value<'o>>>, BadRecord> {
    let mut values = vec![None; columns.len()];
    let mut reader = Reader::new(object);
    reader.object()?;

    // The column after the last one found: most objects that get here are in order for a stretch.
    let mut next = 0;
    loop {
        let position = if columns.get(next).is_some_and(|column| reader.skip_key(column.token())) {
            Some(next)
        } else {
            let Some(key) = reader.key()? else { break };
            let key = key.unescape().ok_or(BadRecord::NotAnObject)?;
            columns.iter().position(|column| column.name() == key)
        };

        if position.is_none() && !drop_extra {
            return Err(BadRecord::ExtraColumn);
        }
        let value = reader.typed_value()?;
        // Half of a surrogate pair is not text. A bad record is better than a field that was changed.
        if value.kind == Kind::String && value.text.unescape().is_none() {
            return Err(BadRecord::NotAnObject);
        }
        if let Some(position) = position {
            values[position] = Some(value);
            next = position + 1;
        }
    }

    reader.end()?;
    Ok(values)
}

/// Writes one value as a field: nothing for `null`, a number or literal as it stands, text and nested JSON quoted
/// where CSV needs it. Returns `None` for a string that is not Unicode.
fn write_value(csv: &mut Vec<u8>, fields: Fields, value: Value<'_>) -> Option<()> {
    match value.kind {
        Kind::Null => {}
        Kind::Number | Kind::Literal => csv.extend_from_slice(value.text.raw().as_bytes()),
        Kind::String | Kind::Object | Kind::Array => fields.text(csv, &value.text.unescape()?),
    }
    Some(())
}

fn separate(csv: &mut Vec<u8>, position: usize) {
    if position > 0 {
        csv.push(b',');
    }
}
