//! The values that a statement returns, in the types that both forms of a result know.

/// The value of a column in a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    /// A number that keeps its text, since a double may not hold it.
    Single(f32),
    Text(String),
    Bytes(Vec<u8>),
    /// JSON text, which becomes part of the result. A text that is not JSON stays a text.
    Json(String),
}
