//! Increases `Input.step` by one and leaves the rest of the event as it is.

use postern_runtime::NamedError;
use postern_types::{InvalidField, json_kind};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The reasons for which an event is refused. The messages are logged, so they contain no payload.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the event must be an object, such as {{\"Input\": {{\"step\": 1}}}}; it is {0}")]
    Event(&'static str),
    #[error(transparent)]
    Field(#[from] InvalidField),
    #[error("{0} occurs twice; it must occur once")]
    Ambiguous(&'static str),
    #[error("Input.step is a number with a fraction or an exponent; it must be a whole number, such as 1")]
    NotWhole,
    #[error("Input.step is {0}, and the next number exceeds the range of a signed 64-bit integer")]
    Overflow(i64),
    #[error(
        "Input.step is a whole number of {0} characters, which exceeds the range of a signed 64-bit integer"
    )]
    OutOfRange(usize),
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        "StepCounter.InvalidInput"
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "Input")]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    step: Option<&'a RawValue>,
}

/// Returns the event with `Input.step + 1`. Only the digits of `step` are replaced in the event's text, so that numbers
/// keep their form and fields keep their order.
pub(crate) fn count(event: &RawValue) -> Result<Box<RawValue>, Error> {
    let text = event.get();
    if json_kind(event) != "an object" {
        return Err(Error::Event(json_kind(event)));
    }

    let Event { input } = serde_json::from_str(text).map_err(|_| Error::Ambiguous("Input"))?;
    let input = input.ok_or(InvalidField::Missing("Input"))?;
    if json_kind(input) != "an object" {
        let found = json_kind(input);
        return Err(InvalidField::Type { field: "Input", found, want: "an object" }.into());
    }
    let Input { step } = serde_json::from_str(input.get()).map_err(|_| Error::Ambiguous("Input.step"))?;
    let step = step.ok_or(InvalidField::Missing("Input.step"))?;
    let next = next(step)?.to_string();

    // `step` borrows from `text`, so the difference of their addresses is the position of `step`.
    let start = step.get().as_ptr().addr() - text.as_ptr().addr();
    let rest = &text[start + step.get().len()..];
    let counted = [&text[..start], &next, rest].concat();
    RawValue::from_string(counted).map_err(|_| Error::Ambiguous("Input.step"))
}

fn next(step: &RawValue) -> Result<i64, Error> {
    let (text, found) = (step.get(), json_kind(step));
    if found != "a number" {
        return Err(InvalidField::Type { field: "Input.step", found, want: "a whole number" }.into());
    }
    if text.contains(['.', 'e', 'E']) {
        return Err(Error::NotWhole);
    }
    let step: i64 = text.parse().map_err(|_| Error::OutOfRange(text.len()))?;
    step.checked_add(1).ok_or(Error::Overflow(step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count_text(event: &str) -> Result<String, Error> {
        let event = RawValue::from_string(event.to_owned()).unwrap();
        count(&event).map(|counted| counted.get().to_owned())
    }

    #[test]
    fn the_tutorials_event_is_counted() {
        assert_eq!(
            count_text(r#"{"Input":{"description":"Dojo Step Functions","step":1}}"#).unwrap(),
            r#"{"Input":{"description":"Dojo Step Functions","step":2}}"#
        );
    }

    #[test]
    fn the_rest_of_the_event_keeps_its_text() {
        let event = |step: &str| {
            format!(
                r#"{{ "z":1.50,"Input" : {{"b":[1e2,{{"step":7}}],"step" : {step} ,"a":12345678901234567890123,"é":"\u00e9"}}, "a":null}}"#
            )
        };
        assert_eq!(count_text(&event("9")).unwrap(), event("10"));
        assert_eq!(count_text(&event("-1")).unwrap(), event("0"));
        assert_eq!(count_text(&event("9007199254740992")).unwrap(), event("9007199254740993"));
    }

    #[test]
    fn an_error_names_the_field_and_what_is_wrong() {
        for (event, message) in [
            ("7", "it is a number"),
            ("[]", "it is an array"),
            ("{}", "Input is missing"),
            (r#"{"Input":null}"#, "Input is missing"),
            (r#"{"Input":[1]}"#, "Input is an array; it must be an object"),
            (r#"{"Input":{},"Input":{"step":1}}"#, "Input occurs twice"),
            (r#"{"Input":{}}"#, "Input.step is missing"),
            (r#"{"Input":{"step":1,"step":2}}"#, "Input.step occurs twice"),
            (r#"{"Input":{"step":"1"}}"#, "Input.step is a string; it must be a whole number"),
            (r#"{"Input":{"step":true}}"#, "Input.step is a boolean; it must be a whole number"),
            (r#"{"Input":{"step":1.0}}"#, "a fraction or an exponent"),
            (r#"{"Input":{"step":1e3}}"#, "a fraction or an exponent"),
            (
                r#"{"Input":{"step":9223372036854775807}}"#,
                "Input.step is 9223372036854775807, and the next number",
            ),
            (r#"{"Input":{"step":9223372036854775808}}"#, "a whole number of 19 characters"),
        ] {
            let error = count_text(event).unwrap_err();
            assert_eq!(error.name(), "StepCounter.InvalidInput");
            assert!(error.to_string().contains(message), "{event}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_step_below_the_largest_is_increased_by_one(step in i64::MIN..i64::MAX, before in ".*", after in ".*") {
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let event = |step: i64| {
                format!(r#"{{"x":{},"Input":{{"step":{step},"y":{}}}}}"#, quoted(&before), quoted(&after))
            };
            prop_assert_eq!(count_text(&event(step)).unwrap(), event(step + 1));
        }

        #[test]
        fn no_json_makes_the_handler_panic(text in r#"[{}\[\]":,Inputse0-9. ]{0,40}"#) {
            if let Ok(event) = RawValue::from_string(text) {
                let _ = count(&event);
            }
        }
    }
}
