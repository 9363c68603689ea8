//! Parameters as text, in the form that PostgreSQL reads for each type.

use std::error::Error;
use std::fmt;

use bytes::BytesMut;
use postern_types::TaskFailure;
use serde_json::value::RawValue;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

use crate::handlers::input::{Argument, invalid};

/// A value for the server to parse; `None` is NULL. `Debug` does not show it.
pub(super) struct Parameter(Option<String>);

/// The parameter `name` of a statement, whose type the server has found.
pub(super) fn parameter(name: &str, argument: &Argument, of_type: &Type) -> Result<Parameter, TaskFailure> {
    let json = *of_type == Type::JSON || *of_type == Type::JSONB;
    let text = match argument {
        Argument::Null => None,
        Argument::Text(text) if json => Some(serde_json::Value::from(text.as_str()).to_string()),
        Argument::Text(text) | Argument::Number(text) => Some(text.clone()),
        Argument::Bool(value) => Some(value.to_string()),
        Argument::Json(text) if json => Some(text.clone()),
        Argument::Json(text) if matches!(of_type.kind(), Kind::Array(_)) => {
            Some(array(text).ok_or_else(|| {
                invalid(format!("{name:?} must be an array of texts, numbers, true, false or null"))
            })?)
        }
        Argument::Json(_) => {
            let problem =
                format!("{name:?} has the type {of_type} in the database, which takes no array or object");
            return Err(invalid(problem));
        }
    };
    Ok(Parameter(text))
}

/// `{"a","b",NULL}`. Every element is quoted, so that none of its characters means anything.
fn array(json: &str) -> Option<String> {
    let elements: Vec<Box<RawValue>> = serde_json::from_str(json).ok()?;
    let elements = elements.iter().map(|element| match Argument::parse(element).ok()? {
        Argument::Null => Some("NULL".to_owned()),
        Argument::Bool(value) => Some(value.to_string()),
        Argument::Number(text) => Some(text),
        Argument::Text(text) => Some(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
        Argument::Json(_) => None,
    });
    Some(format!("{{{}}}", elements.collect::<Option<Vec<_>>>()?.join(",")))
}

impl ToSql for Parameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parameter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_of_an_array_is_quoted() {
        let json = r#"["a,b", "\"}", "\\", "NULL", null, 1.50, true, ""]"#;
        assert_eq!(array(json).unwrap(), r#"{"a,b","\"}","\\","NULL",NULL,1.50,true,""}"#);
        assert_eq!(array("[]").unwrap(), "{}");
        assert_eq!(array("[[1]]"), None);
        assert_eq!(array("{}"), None);
    }
}
