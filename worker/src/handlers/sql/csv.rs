//! Rows as CSV (RFC 4180) in a result file: a header, lines that end with CRLF, and quotes where a value needs them.
//!
//! NULL is an empty field, and an empty text is `""`. Numbers keep all their digits, bytes are base64, and JSON is its
//! text.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use postern_types::TaskFailure;

use super::cell::Cell;
use crate::claim::spool::ResultFile;
use crate::handler::JobContext;

/// The content type of the file.
const CSV: &str = "text/csv; charset=utf-8; header=present";

/// A file for the rows of one job. Clones write to the same file.
#[derive(Debug, Clone)]
pub(super) struct CsvFile(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    file: ResultFile,
    /// Whether the header is written.
    begun: bool,
    line: String,
}

impl CsvFile {
    /// An empty file for the job's result.
    pub(super) fn create(job: &JobContext) -> Result<Self, TaskFailure> {
        let open = Open { file: job.result_file(CSV)?, begun: false, line: String::new() };
        Ok(Self(Arc::new(Mutex::new(Some(open)))))
    }

    /// Writes the header.
    pub(super) fn begin(&self, columns: &[&str]) -> Result<(), TaskFailure> {
        self.with(|open| {
            open.begun = true;
            open.write(columns.iter().map(|column| Cell::Text((*column).to_owned())))
        })
    }

    /// Writes a row.
    pub(super) fn add(&self, cells: impl IntoIterator<Item = Cell>) -> Result<(), TaskFailure> {
        self.with(|open| open.write(cells))
    }

    /// Makes the file the job's result, if the statement has returned rows.
    pub(super) fn finish(&self) -> Result<(), TaskFailure> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match open {
            Some(open) if open.begun => open.file.finish(),
            _ => Ok(()),
        }
    }

    fn with(&self, write: impl FnOnce(&mut Open) -> Result<(), TaskFailure>) -> Result<(), TaskFailure> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(open) => write(open),
            None => Err(TaskFailure::new("Sql.Cancelled", "the job has ended")),
        }
    }
}

impl Open {
    fn write(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<(), TaskFailure> {
        self.line.clear();
        for (index, cell) in cells.into_iter().enumerate() {
            if index > 0 {
                self.line.push(',');
            }
            field(&mut self.line, cell);
        }
        self.line.push_str("\r\n");
        self.file.append(&self.line)
    }
}

fn field(line: &mut String, cell: Cell) {
    // Writing to a String cannot fail.
    let _ = match cell {
        Cell::Null => Ok(()),
        Cell::Bool(value) => write!(line, "{value}"),
        Cell::Integer(number) => write!(line, "{number}"),
        Cell::Unsigned(number) => write!(line, "{number}"),
        Cell::Float(number) => write!(line, "{number:?}"),
        Cell::Single(number) => write!(line, "{number:?}"),
        Cell::Bytes(bytes) => write!(line, "{}", BASE64.encode(bytes)),
        Cell::Json(text) | Cell::Text(text) => {
            quoted(line, &text);
            Ok(())
        }
    };
}

/// A text, in quotes if it is empty or contains what separates fields or lines.
fn quoted(line: &mut String, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        return line.push_str(text);
    }
    line.push('"');
    line.push_str(&text.replace('"', "\"\""));
    line.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(rows: Vec<Vec<Cell>>) -> String {
        let job = JobContext::for_test(&());
        let file = CsvFile::create(&job).unwrap();
        file.begin(&["a", "b,c"]).unwrap();
        for row in rows {
            file.add(row).unwrap();
        }
        file.finish().unwrap();
        String::from_utf8(job.files().finished().unwrap()).unwrap()
    }

    /// Reads CSV by the grammar of RFC 4180. An unquoted empty field is `None`.
    fn read(text: &str) -> Vec<Vec<Option<String>>> {
        let (mut rows, mut row) = (Vec::new(), Vec::new());
        let mut rest = text;
        while !rest.is_empty() {
            let field = if let Some(quoted) = rest.strip_prefix('"') {
                let mut end = 0;
                while quoted[end..].starts_with("\"\"") || !quoted[end..].starts_with('"') {
                    end += if quoted[end..].starts_with('"') {
                        2
                    } else {
                        quoted[end..].chars().next().unwrap().len_utf8()
                    };
                }
                rest = &quoted[end + 1..];
                Some(quoted[..end].replace("\"\"", "\""))
            } else {
                let end = rest.find([',', '\r']).unwrap();
                let (field, after) = rest.split_at(end);
                rest = after;
                (!field.is_empty()).then(|| field.to_owned())
            };
            row.push(field);
            if let Some(after) = rest.strip_prefix(',') {
                rest = after;
            } else {
                rest = rest.strip_prefix("\r\n").unwrap();
                rows.push(std::mem::take(&mut row));
            }
        }
        rows
    }

    #[test]
    fn every_kind_of_value_has_its_form() {
        let rows = vec![
            vec![Cell::Null, Cell::Text(String::new())],
            vec![Cell::Integer(i64::MIN), Cell::Unsigned(u64::MAX)],
            vec![Cell::Bool(true), Cell::Float(0.1)],
            vec![Cell::Bytes(vec![0, 255]), Cell::Json("{\"a\": 1.50}".into())],
        ];
        let expected = "a,\"b,c\"\r\n,\"\"\r\n-9223372036854775808,18446744073709551615\r\ntrue,0.1\r\n\
                        AP8=,\"{\"\"a\"\": 1.50}\"\r\n";
        assert_eq!(written(rows), expected);
    }

    proptest! {
        #[test]
        fn every_text_comes_back(texts in proptest::collection::vec((".{0,20}", "[\",\r\n a]{0,6}"), 0..5)) {
            let rows = texts.iter().map(|(a, b)| vec![Cell::Text(a.clone()), Cell::Text(b.clone())]).collect();
            let read = read(&written(rows));
            let expected = texts.into_iter().map(|(a, b)| vec![Some(a), Some(b)]);
            prop_assert_eq!(read[1..].to_vec(), expected.collect::<Vec<_>>());
        }
    }
}
