//! The input of a configured handler: an object whose members are the handler's parameters, all of them and no others.

use std::collections::BTreeMap;

use postern_types::TaskFailure;
use serde_json::value::RawValue;

use crate::handler::JobContext;

/// The value of a parameter. Numbers and nested values keep the text that the state machine sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Argument {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as the text that it is.
    Number(String),
    /// A text.
    Text(String),
    /// An array or an object, as JSON text.
    Json(String),
}

impl Argument {
    /// Parses the text of one JSON value.
    pub(crate) fn parse(value: &RawValue) -> Result<Self, serde_json::Error> {
        let text = value.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b'[' | b'{') => Self::Json(text.to_owned()),
            _ => Self::Number(text.to_owned()),
        })
    }
}

/// The failure of an input that the handler cannot take.
pub(crate) fn invalid(problem: impl AsRef<str>) -> TaskFailure {
    TaskFailure::new(JobContext::INVALID_INPUT, problem)
}

/// The values of the parameters `names`, in their order. The failure names a parameter that is absent or unknown.
pub(crate) fn arguments(job: &JobContext, names: &[String]) -> Result<Vec<Argument>, TaskFailure> {
    let mut members = members(job)?;
    let arguments = names.iter().map(|name| {
        let value = members
            .remove(name)
            .ok_or_else(|| invalid(format!("the input has no member {name:?}; {}", expected(names))))?;
        Argument::parse(&value).map_err(|error| invalid(format!("the member {name:?}: {error}")))
    });
    let arguments = arguments.collect::<Result<_, _>>()?;

    match members.keys().next() {
        None => Ok(arguments),
        Some(unknown) => {
            Err(invalid(format!("the input has an unknown member {unknown:?}; {}", expected(names))))
        }
    }
}

/// The members of the input. A handler without parameters takes `null` for an empty object.
fn members(job: &JobContext) -> Result<BTreeMap<String, Box<RawValue>>, TaskFailure> {
    match job.raw_input().get().as_bytes().first() {
        Some(b'n') => Ok(BTreeMap::new()),
        Some(b'{') => job.input(),
        _ => Err(invalid("the input must be an object with a member for each parameter")),
    }
}

fn expected(names: &[String]) -> String {
    if names.is_empty() { "it takes none".into() } else { format!("it takes {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &serde_json::Value, names: &[&str]) -> Result<Vec<Argument>, TaskFailure> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        arguments(&JobContext::for_test(input), &names)
    }

    #[test]
    fn numbers_and_nested_values_keep_their_text() {
        let message = br#"{"TaskToken":"t","Input":{"a":1.50,"b":[1, 2.0],"c":"\u00e9","d":null,"e":true}}"#;
        let job = postern_types::JobMessage::parse(message).unwrap();
        let job = JobContext::of(std::sync::Arc::new(job), tokio_util::sync::CancellationToken::new());
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        let expected = [
            Argument::Number("1.50".into()),
            Argument::Json("[1, 2.0]".into()),
            Argument::Text("é".into()),
            Argument::Null,
            Argument::Bool(true),
        ];
        assert_eq!(arguments(&job, &names).unwrap(), expected);
    }

    #[test]
    fn an_absent_and_an_unknown_member_are_named() {
        let day = serde_json::json!({"day": "2026-11-01"});
        assert!(parse(&day, &["day", "hour"]).unwrap_err().cause().contains("\"hour\""));
        assert!(parse(&day, &[]).unwrap_err().cause().contains("unknown member \"day\""));
        assert!(parse(&serde_json::json!([1]), &["day"]).unwrap_err().cause().contains("object"));
        assert_eq!(parse(&serde_json::json!(null), &[]).unwrap(), []);
        assert_eq!(parse(&serde_json::json!([1]), &["day"]).unwrap_err().error(), "Worker.InvalidInput");
    }
}
