//! The result of a statement as JSON text, within the limits of rows and bytes.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_types::TaskFailure;
use serde_json::value::RawValue;

use crate::handlers::limits::{RESULT_BYTES, too_large};

/// The largest whole number that every reader of JSON takes exactly: 2 to the power of 53, minus 1.
const EXACT: u64 = (1 << 53) - 1;

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

/// The rows so far, as JSON text.
pub(super) struct Rows {
    /// The names of the columns, as JSON texts.
    columns: Vec<String>,
    text: String,
    count: usize,
    most: usize,
}

impl Rows {
    /// No rows of these columns. Two columns of one name cannot both be members of an object.
    pub(super) fn new<'a>(
        columns: impl IntoIterator<Item = &'a str>,
        most: usize,
    ) -> Result<Self, TaskFailure> {
        let mut names = Vec::new();
        for column in columns {
            let name = quote(column);
            if names.contains(&name) {
                let cause = format!("two columns are named {name}: give one another name with AS");
                return Err(TaskFailure::new("Sql.DuplicateColumn", cause));
            }
            names.push(name);
        }
        Ok(Self { columns: names, text: "[".into(), count: 0, most })
    }

    /// Adds a row with a cell for each column.
    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<(), TaskFailure> {
        self.count += 1;
        if self.count > self.most {
            let cause = format!("the result has more rows than the handler's max_rows, {}", self.most);
            return Err(TaskFailure::new("Sql.TooManyRows", cause));
        }

        self.text.push_str(if self.count == 1 { "{" } else { ",{" });
        for (index, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            self.text.push_str(if index == 0 { "" } else { "," });
            self.text.push_str(column);
            self.text.push(':');
            write(&mut self.text, cell);
        }
        self.text.push('}');

        if self.text.len() > RESULT_BYTES { Err(too_large("the rows of the result")) } else { Ok(()) }
    }

    /// The JSON array.
    pub(super) fn end(mut self) -> String {
        self.text.push(']');
        self.text
    }
}

/// The result of a statement that returns no rows.
pub(super) fn affected(count: u64) -> String {
    format!("{{\"rows_affected\":{count}}}")
}

fn write(out: &mut String, cell: Cell) {
    // Writing to a String cannot fail.
    let _ = match cell {
        Cell::Null => write!(out, "null"),
        Cell::Bool(value) => write!(out, "{value}"),
        Cell::Integer(number) if number.unsigned_abs() <= EXACT => write!(out, "{number}"),
        Cell::Integer(number) => write!(out, "\"{number}\""),
        Cell::Unsigned(number) if number <= EXACT => write!(out, "{number}"),
        Cell::Unsigned(number) => write!(out, "\"{number}\""),
        Cell::Float(number) if number.is_finite() => write!(out, "{number:?}"),
        Cell::Float(number) => write!(out, "\"{number}\""),
        Cell::Single(number) if number.is_finite() => write!(out, "{number:?}"),
        Cell::Single(number) => write!(out, "\"{number}\""),
        Cell::Bytes(bytes) => write!(out, "\"{}\"", BASE64.encode(bytes)),
        Cell::Json(text) if serde_json::from_str::<&RawValue>(&text).is_ok() => write!(out, "{text}"),
        Cell::Json(text) | Cell::Text(text) => write!(out, "{}", quote(&text)),
    };
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn one(cell: Cell) -> String {
        let mut rows = Rows::new(["c"], 1).unwrap();
        rows.add([cell]).unwrap();
        rows.end()
    }

    #[test]
    fn a_number_that_json_cannot_carry_exactly_is_text() {
        assert_eq!(one(Cell::Integer(9_007_199_254_740_991)), r#"[{"c":9007199254740991}]"#);
        assert_eq!(one(Cell::Integer(9_007_199_254_740_992)), r#"[{"c":"9007199254740992"}]"#);
        assert_eq!(one(Cell::Integer(i64::MIN)), r#"[{"c":"-9223372036854775808"}]"#);
        assert_eq!(one(Cell::Unsigned(u64::MAX)), r#"[{"c":"18446744073709551615"}]"#);
        assert_eq!(one(Cell::Float(0.1)), r#"[{"c":0.1}]"#);
        assert_eq!(one(Cell::Single(0.1)), r#"[{"c":0.1}]"#);
        assert_eq!(one(Cell::Float(f64::NAN)), r#"[{"c":"NaN"}]"#);
        assert_eq!(one(Cell::Json("{\"a\": 1.50}".into())), r#"[{"c":{"a": 1.50}}]"#);
        assert_eq!(one(Cell::Json("no json".into())), r#"[{"c":"no json"}]"#);
    }

    #[test]
    fn a_row_too_many_and_a_byte_too_many_are_failures() {
        let mut rows = Rows::new(["c"], 1).unwrap();
        rows.add([Cell::Null]).unwrap();
        assert_eq!(rows.add([Cell::Null]).unwrap_err().error(), "Sql.TooManyRows");

        let mut rows = Rows::new(["c"], 1).unwrap();
        let large = Cell::Text("x".repeat(RESULT_BYTES));
        assert_eq!(rows.add([large]).unwrap_err().error(), "Worker.ResultTooLarge");
        assert_eq!(Rows::new(["a", "a"], 1).err().unwrap().error(), "Sql.DuplicateColumn");
    }

    proptest! {
        #[test]
        fn every_text_and_every_double_comes_back(column in ".{0,10}", text in ".{0,30}", number: f64) {
            let mut rows = Rows::new([column.as_str()], 2).unwrap();
            rows.add([Cell::Text(text.clone())]).unwrap();
            rows.add([Cell::Float(number)]).unwrap();
            let text_of_rows = rows.end();
            let rows: Vec<BTreeMap<String, &RawValue>> = serde_json::from_str(&text_of_rows).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(rows[0][&column].get()).unwrap(), text);
            if number.is_finite() {
                prop_assert_eq!(rows[1][&column].get().parse::<f64>().unwrap().to_bits(), number.to_bits());
            }
        }
    }
}
