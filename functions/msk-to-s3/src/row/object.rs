//! Writes the members of a JSON object as CSV fields, each in its column.
//!
//! Records of one topic mostly have the same keys in the same order. [`write_in_order`] relies on that: it compares
//! each key with the one column that is expected, and writes the value while it reads. If the object turns out to be
//! different, its partial row is discarded and [`locate`] reads the object again: it looks each key up and returns one
//! value for each column, which are then written in the order of the columns. Columns that are parts of nested objects
//! always take the second way.

use crate::bad_record::BadRecord;
use crate::csv::Fields;
use crate::json::{Kind, Reader, Value};
use crate::kind;

use super::columns::{self, Column};

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
    let mut values = vec![None; columns.len()];
    locate(&mut values, columns, object, drop_extra)?;
    for (position, value) in values.into_iter().enumerate() {
        separate(csv, position);
        if let Some(value) = value {
            write_value(csv, fields, columns[position].kind(), value)?;
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
        if !reader.skip_key(column.token()?) {
            return None;
        }
        separate(csv, position);

        // Most fields are texts without escapes: one pass finds out where they end, and whether they need quotes.
        let is_text = column.kind() == kind::Kind::Text;
        let unescaped =
            reader.attempt(|reader| reader.unescaped().filter(|(text, _)| is_text && fields.keeps(text)));
        match unescaped {
            Some((text, has_comma)) => {
                let quote: &[u8] = if has_comma { b"\"" } else { b"" };
                csv.extend_from_slice(quote);
                csv.extend_from_slice(text.as_bytes());
                csv.extend_from_slice(quote);
            }
            None => write_value(csv, fields, column.kind(), reader.typed_value().ok()?).ok()?,
        }
    }

    let complete = reader.key().ok()?.is_none() && reader.end().is_ok();
    complete.then_some(())
}

/// Reads the whole object and finds the value of each column; a column without a member keeps `None`.
fn locate<'o>(
    values: &mut [Option<Value<'o>>],
    columns: &[Column],
    object: &'o str,
    drop_extra: bool,
) -> Result<(), BadRecord> {
    let mut reader = Reader::new(object);
    if columns.iter().any(|column| column.token().is_none()) {
        locate_nested(&mut reader, values, columns, &mut Vec::new(), drop_extra)?;
    } else {
        locate_members(&mut reader, values, columns, drop_extra)?;
    }
    reader.end()?;
    Ok(())
}

/// Finds the values of columns that are all members of the object itself.
fn locate_members<'o>(
    reader: &mut Reader<'o>,
    values: &mut [Option<Value<'o>>],
    columns: &[Column],
    drop_extra: bool,
) -> Result<(), BadRecord> {
    reader.object()?;

    // The column after the last one found: most objects that get here are in order for a stretch.
    let mut next = 0;
    loop {
        let expected = columns.get(next).and_then(Column::token);
        let position = if expected.is_some_and(|token| reader.skip_key(token)) {
            Some(next)
        } else {
            let Some(key) = reader.key()? else { return Ok(()) };
            columns::position(columns, &key.unescape().ok_or(BadRecord::NotAnObject)?)
        };

        if position.is_none() && !drop_extra {
            return Err(BadRecord::ExtraColumn);
        }
        let value = unicode_value(reader)?;
        if let Some(position) = position {
            values[position] = Some(value);
            next = position + 1;
        }
    }
}

/// Finds the values of columns in an object and in the objects within it. `path` are the keys that lead to the object.
fn locate_nested<'o>(
    reader: &mut Reader<'o>,
    values: &mut [Option<Value<'o>>],
    columns: &[Column],
    path: &mut Vec<String>,
    drop_extra: bool,
) -> Result<(), BadRecord> {
    reader.object()?;
    while let Some(key) = reader.key()? {
        path.push(key.unescape().ok_or(BadRecord::NotAnObject)?.into_owned());
        let position = columns.iter().position(|column| column.path() == path.as_slice());
        let leads_further = columns.iter().any(|column| column.path().starts_with(path));

        match (position, reader.kind()?) {
            (Some(position), _) => values[position] = Some(unicode_value(reader)?),
            (None, Kind::Object) if leads_further => {
                locate_nested(reader, values, columns, path, drop_extra)?;
            }
            // A null along the path stands for an object without members.
            (None, Kind::Null) if leads_further => drop(reader.value()?),
            (None, _) if leads_further => return Err(BadRecord::NotNested),
            (None, _) if drop_extra => drop(unicode_value(reader)?),
            (None, _) => return Err(BadRecord::ExtraColumn),
        }
        path.pop();
    }
    Ok(())
}

/// The next value. Half of a surrogate pair is not text: a bad record is better than a field that was changed.
fn unicode_value<'o>(reader: &mut Reader<'o>) -> Result<Value<'o>, BadRecord> {
    let value = reader.typed_value()?;
    if value.kind == Kind::String && value.text.unescape().is_none() {
        return Err(BadRecord::NotAnObject);
    }
    Ok(value)
}

/// Writes one value as a field: nothing for `null`, a number or literal as it stands, text and nested JSON quoted
/// where CSV needs it.
fn write_value(
    csv: &mut Vec<u8>,
    fields: Fields,
    declared: kind::Kind,
    value: Value<'_>,
) -> Result<(), BadRecord> {
    if declared != kind::Kind::Text && value.kind != Kind::Null {
        let is_scalar = !matches!(value.kind, Kind::Object | Kind::Array);
        let text = value.text.unescape().ok_or(BadRecord::NotAnObject)?;
        if !is_scalar || !declared.accepts(&text) {
            return Err(BadRecord::WrongType);
        }
    }

    match value.kind {
        Kind::Null => {}
        Kind::Number | Kind::Literal => csv.extend_from_slice(value.text.raw().as_bytes()),
        Kind::String | Kind::Object | Kind::Array => {
            fields.text(csv, &value.text.unescape().ok_or(BadRecord::NotAnObject)?);
        }
    }
    Ok(())
}

fn separate(csv: &mut Vec<u8>, position: usize) {
    if position > 0 {
        csv.push(b',');
    }
}
