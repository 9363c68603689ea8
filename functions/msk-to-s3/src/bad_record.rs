//! The reasons why a record cannot become a row.

use crate::json::InvalidJson;

/// Why a record cannot become a row. The messages go to the log, so they contain no part of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("the value is not base64")]
    NotBase64,
    #[error("the value is not UTF-8")]
    NotUtf8,
    #[error("the line contains a line break; one record must be one CSV line")]
    LineBreak,
    #[error("the line's quotes do not follow RFC 4180")]
    Quotes,
    #[error("the line has more or fewer fields than CSV_COLUMNS")]
    FieldCount,
    #[error("the value is not a JSON object")]
    NotAnObject,
    #[error("the first record of an object must name the columns, but it has no keys")]
    NoColumns,
    #[error("the first record of an object must name the columns, but it has more than 1,024 keys")]
    TooManyColumns,
    #[error("the record has a key that is not a column; CSV_EXTRA_COLUMNS=drop would ignore it")]
    ExtraColumn,
    #[error("a field does not have the type that CSV_COLUMNS declares")]
    WrongType,
    #[error("a value that must be an object, because a column is a part of it, is something else")]
    NotNested,
}

impl From<InvalidJson> for BadRecord {
    fn from(_: InvalidJson) -> Self {
        Self::NotAnObject
    }
}
