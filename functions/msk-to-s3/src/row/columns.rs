//! The columns of a table, as the configuration or the first JSON object names them.

use crate::bad_record::BadRecord;
use crate::column;
use crate::json::Reader;
use crate::kind::Kind;

/// The most columns that a record may name. A key that is out of order is compared with every column, so more
/// columns would make such records slow.
pub(super) const MAX_COLUMNS: usize = 1_024;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    declared: column::Column,
    /// The key of the value as JSON writers write it before a value, for example `"id":`. A nested value has none.
    token: Option<String>,
}

impl Column {
    pub(super) fn declared(declared: &column::Column) -> Self {
        let token = match declared.path.as_slice() {
            [key] => Some(format!("{}:", serde_json::Value::from(key.as_str()))),
            _ => None,
        };
        Self { declared: declared.clone(), token }
    }

    pub(super) fn name(&self) -> &str {
        &self.declared.name
    }

    /// The keys that lead to the value.
    pub(super) fn path(&self) -> &[String] {
        &self.declared.path
    }

    pub(super) fn kind(&self) -> Kind {
        self.declared.kind
    }

    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether the value is a member of the record's object, with this key.
    fn is_member(&self, key: &str) -> bool {
        self.path().len() == 1 && self.path()[0] == key
    }
}

/// The column of the member with this key.
pub(super) fn position(columns: &[Column], key: &str) -> Option<usize> {
    columns.iter().position(|column| column.is_member(key))
}

/// The columns that a JSON object names: its keys, each once, in the order in which they appear.
pub(super) fn named_by(object: &str) -> Result<Vec<Column>, BadRecord> {
    let mut reader = Reader::new(object);
    let mut columns: Vec<Column> = Vec::new();

    reader.object()?;
    while let Some(key) = reader.key()? {
        reader.value()?;
        let name = key.unescape().ok_or(BadRecord::NotAnObject)?;
        if position(&columns, &name).is_some() {
            continue;
        }
        if columns.len() == MAX_COLUMNS {
            return Err(BadRecord::TooManyColumns);
        }
        columns.push(Column::declared(&column::Column::named(&name)));
    }
    reader.end()?;

    if columns.is_empty() { Err(BadRecord::NoColumns) } else { Ok(columns) }
}
