//! The result of a statement: JSON text within the limits of rows and bytes, or a CSV file within that of rows.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_types::TaskFailure;
use serde_json::value::RawValue;

use super::cell::Cell;
use super::csv::CsvFile;
use crate::handlers::limits::{RESULT_BYTES, too_large};

/// The largest whole number that every reader of JSON takes exactly: 2 to the power of 53, minus 1.
const EXACT: u64 = (1 << 53) - 1;

/// The rows so far.
pub(super) struct Rows {
    /// The names of the columns, as JSON texts.
    columns: Vec<String>,
    form: Form,
    count: usize,
    most: usize,
}

/// Where the rows go.
enum Form {
    /// To JSON text, which becomes part of the answer.
    Json(String),
    /// To a file, which takes the place of the answer.
    Csv(CsvFile),
}

impl Rows {
    /// No rows of these columns. Two columns of one name cannot both be members of an object.
    pub(super) fn new<'a>(
        columns: impl IntoIterator<Item = &'a str>,
        most: usize,
        csv: Option<&CsvFile>,
    ) -> Result<Self, TaskFailure> {
        let (mut names, mut header) = (Vec::new(), Vec::new());
        for column in columns {
            let name = quote(column);
            if names.contains(&name) {
                let cause = format!("two columns are named {name}: give one another name with AS");
                return Err(TaskFailure::new("Sql.DuplicateColumn", cause));
            }
            names.push(name);
            header.push(column);
        }

        let form = match csv {
            // A statement that returns no rows has no columns, and its answer is a value.
            Some(csv) if !header.is_empty() => {
                csv.begin(&header)?;
                Form::Csv(csv.clone())
            }
            _ => Form::Json("[".into()),
        };
        Ok(Self { columns: names, form, count: 0, most })
    }

    /// Adds a row with a cell for each column.
    pub(super) fn add(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<(), TaskFailure> {
        self.count += 1;
        if self.count > self.most {
            let cause = format!("the result has more rows than the handler's max_rows, {}", self.most);
            return Err(TaskFailure::new("Sql.TooManyRows", cause));
        }

        match &mut self.form {
            Form::Json(text) => add(text, &self.columns, self.count == 1, cells),
            Form::Csv(file) => file.add(cells),
        }
    }

    /// The JSON array. It is `null` where a file takes its place.
    pub(super) fn end(self) -> String {
        match self.form {
            Form::Json(mut text) => {
                text.push(']');
                text
            }
            Form::Csv(_) => "null".into(),
        }
    }
}

/// Adds a row to a JSON array.
fn add(
    text: &mut String,
    columns: &[String],
    is_first: bool,
    cells: impl IntoIterator<Item = Cell>,
) -> Result<(), TaskFailure> {
    text.push_str(if is_first { "{" } else { ",{" });
    for (index, (column, cell)) in columns.iter().zip(cells).enumerate() {
        text.push_str(if index == 0 { "" } else { "," });
        text.push_str(column);
        text.push(':');
        write(text, cell);
    }
    text.push('}');

    if text.len() > RESULT_BYTES { Err(too_large("the rows of the result")) } else { Ok(()) }
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
        let mut rows = Rows::new(["c"], 1, None).unwrap();
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
        let mut rows = Rows::new(["c"], 1, None).unwrap();
        rows.add([Cell::Null]).unwrap();
        assert_eq!(rows.add([Cell::Null]).unwrap_err().error(), "Sql.TooManyRows");

        let mut rows = Rows::new(["c"], 1, None).unwrap();
        let large = Cell::Text("x".repeat(RESULT_BYTES));
        assert_eq!(rows.add([large]).unwrap_err().error(), "Worker.ResultTooLarge");
        assert_eq!(Rows::new(["a", "a"], 1, None).err().unwrap().error(), "Sql.DuplicateColumn");
    }

    proptest! {
        #[test]
        fn every_text_and_every_double_comes_back(column in ".{0,10}", text in ".{0,30}", number: f64) {
            let mut rows = Rows::new([column.as_str()], 2, None).unwrap();
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
