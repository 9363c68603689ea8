//! The columns of a table, as the configuration or the first JSON object names them.

use crate::bad_record::BadRecord;
use crate::json::Reader;

/// The most columns that a record may name. A key that is out of order is compared with every column, so more
/// columns would make such records slow.
pub(super) const MAX_COLUMNS: usize = 1_024;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    name: String,
    /// The name as JSON writers write it before a value, for example `"id":`.
    token: String,
}

impl Column {
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), token: format!("{}:", serde_json::Value::from(name)) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }
}

/// The columns that a JSON object names: its keys, each once, in the order in which they appear.
pub(super) fn named_by(object: &str) -> Result<Vec<Column>, BadRecord> {
    let mut reader = Reader::new(object);
    let mut columns: Vec<Column> = Vec::new();

    reader.object()?;
    while let Some(key) = reader.key()? {
        reader.value()?;
        let name = key.unescape().ok_or(BadRecord::NotAnObject)?;
        if columns.iter().any(|column| column.name == name) {
            continue;
        }
        if columns.len() == MAX_COLUMNS {
            return Err(BadRecord::TooManyColumns);
        }
        columns.push(Column::named(&name));
    }
    reader.end()?;

    if columns.is_empty() { Err(BadRecord::NoColumns) } else { Ok(columns) }
}
