//! Reading the fields of a JSON object one by one, so that an error can name the one that is wrong.

use serde_json::value::RawValue;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// Not there, or `null` where a value is needed.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Another JSON type than the contract's.
    #[error("{field} is {found}; it must be {want}")]
    Type {
        /// The field's name on the wire.
        field: &'static str,
        /// What it is, in words.
        found: &'static str,
        /// What the contract wants, in words.
        want: &'static str,
    },
    /// A text that is empty or longer than the contract allows.
    #[error("{field} has {chars} characters; it must have 1 to {most}")]
    Length {
        /// The field's name on the wire.
        field: &'static str,
        /// How long it is.
        chars: usize,
        /// How long it may be.
        most: usize,
    },
    /// A number of seconds that the Amazon States Language does not know.
    #[error("{field} must be a whole number of seconds from 1 to {most}", most = crate::limits::TIMEOUT_SECONDS)]
    Seconds {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A date that is not RFC 3339.
    #[error("{field} must be an RFC 3339 date, such as 2026-01-31T12:00:00Z")]
    Date {
        /// The field's name on the wire.
        field: &'static str,
    },
}

/// The JSON type of a value, in words for an error message.
pub fn json_kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A field's value; `null` counts as absent.
pub(crate) fn given(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

/// An optional string.
pub(crate) fn string(field: &'static str, value: Option<&RawValue>) -> Result<Option<String>, InvalidField> {
    let Some(value) = given(value) else { return Ok(None) };
    serde_json::from_str(value.get()).map(Some).map_err(|_| InvalidField::Type {
        field,
        found: json_kind(value),
        want: "a string",
    })
}

/// An optional name of 1 to 256 characters.
pub(crate) fn name(field: &'static str, value: Option<&RawValue>) -> Result<Option<String>, InvalidField> {
    const MOST: usize = 256;
    let Some(text) = string(field, value)? else { return Ok(None) };
    match text.chars().count() {
        1..=MOST => Ok(Some(text)),
        chars => Err(InvalidField::Length { field, chars, most: MOST }),
    }
}

/// An optional number of seconds, within what the Amazon States Language allows.
pub(crate) fn seconds(field: &'static str, value: Option<&RawValue>) -> Result<Option<u32>, InvalidField> {
    let Some(value) = given(value) else { return Ok(None) };
    match serde_json::from_str(value.get()) {
        Ok(seconds @ 1..=crate::limits::TIMEOUT_SECONDS) => Ok(Some(seconds)),
        _ => Err(InvalidField::Seconds { field }),
    }
}
