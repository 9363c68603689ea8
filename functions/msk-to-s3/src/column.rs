//! The columns that `CSV_COLUMNS` declares: `name`, `name=path.in.the.value` and `name:type`, or all three together.

use crate::kind::Kind;

/// A declared column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The column's name in a header and in a table.
    pub name: String,
    /// The keys that lead to the value in a JSON object, from the outermost to the innermost.
    pub path: Vec<String>,
    /// The type that every value must have. A missing value fits every type.
    pub kind: Kind,
}

impl Column {
    /// The text column that holds the member with this key.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), path: vec![name.to_owned()], kind: Kind::Text }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (text, kind) = match text.rsplit_once(':') {
            Some((text, kind)) => (text.trim(), kind.trim().parse()?),
            None => (text, Kind::Text),
        };
        let (name, path) = text.split_once('=').unwrap_or((text, text));
        let path: Vec<String> = path.split('.').map(|key| key.trim().to_owned()).collect();

        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err("a column name is empty");
        }
        if path.iter().any(String::is_empty) {
            return Err("a column's path has an empty key");
        }
        Ok(Self { name, path, kind })
    }
}

/// Parses a list of columns, separated by commas.
pub(crate) fn parse(text: &str) -> Result<Vec<Column>, &'static str> {
    let mut columns: Vec<Column> = Vec::new();
    if text.is_empty() {
        return Ok(columns);
    }

    for declaration in split(text) {
        let column = Column::parse(declaration.trim())?;
        if columns.iter().any(|known| known.name == column.name) {
            return Err("a column is named twice");
        }
        // A value cannot be both an object with columns of its own and a column.
        let overlaps =
            |known: &Column| known.path.starts_with(&column.path) || column.path.starts_with(&known.path);
        if columns.iter().any(overlaps) {
            return Err("two columns take the same value, or one takes a part of the other's");
        }
        columns.push(column);
    }
    Ok(columns)
}

/// Splits at the commas outside parentheses: `decimal(6,2)` contains one.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |letter| {
        inside = (inside || letter == '(') && letter != ')';
        letter == ',' && !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_a_name_a_path_and_a_type() {
        let columns =
            parse("id:int64, city = customer.address.city,note, sum=total.net:decimal(6,2)").unwrap();
        let parts: Vec<_> = columns
            .iter()
            .map(|column| (&*column.name, column.path.join("/"), column.kind.to_string()))
            .collect();
        assert_eq!(
            parts,
            [
                ("id", "id".to_owned(), "int64".to_owned()),
                ("city", "customer/address/city".to_owned(), "text".to_owned()),
                ("note", "note".to_owned(), "text".to_owned()),
                ("sum", "total/net".to_owned(), "decimal(6,2)".to_owned()),
            ]
        );
        assert_eq!(parse("a.b").unwrap()[0].path, ["a", "b"], "a path without a name is its own name");
    }

    #[test]
    fn what_cannot_be_a_list_of_columns_is_refused() {
        for (text, problem) in [
            ("a,,b", "a column name is empty"),
            ("=a", "a column name is empty"),
            ("a=b..c", "a column's path has an empty key"),
            ("a,b,a", "a column is named twice"),
            ("a=x,b=x", "two columns take the same value"),
            ("a=x,b=x.y", "one takes a part of the other's"),
            ("a:integer", "a type must be text, int64"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
