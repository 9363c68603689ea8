//! Reading an event's fields one by one, so that an error names the field that is wrong.
//!
//! Serde's derived errors cannot do that for an event: they give a line and a column of a text that the caller never
//! wrote. Every function of Postern therefore deserializes its event into optional raw values, and reads each with a
//! function of this module. `null` counts as absent, except where a field belongs to the user.

use serde::Deserialize;
use serde_json::value::RawValue;

/// What is wrong with one field. The messages never contain the field's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// The field is absent or `null`, and the contract requires it.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The field has another JSON type than the contract's.
    #[error("{field} is {found}; it must be {want}")]
    Type {
        /// The field's name on the wire.
        field: &'static str,
        /// The value's JSON type, in words.
        found: &'static str,
        /// The contract's type, in words.
        want: &'static str,
    },
    /// A text is empty or longer than the contract allows.
    #[error("{field} has {chars} characters; it must have 1 to {most}")]
    Length {
        /// The field's name on the wire.
        field: &'static str,
        /// The text's length.
        chars: usize,
        /// The longest length that the contract allows.
        most: usize,
    },
    /// A duration is outside the range of the Amazon States Language.
    #[error("{field} must be a whole number of seconds from 1 to {most}", most = crate::limits::TIMEOUT_SECONDS)]
    Seconds {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A date is not in the format of RFC 3339.
    #[error("{field} must be an RFC 3339 date, such as 2026-01-31T12:00:00Z")]
    Date {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A count is not a whole number from 0 to 4,294,967,295.
    #[error("{field} must be a whole number from 0, such as the state machine's $$.State.RetryCount")]
    Count {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A list of Map indexes contains anything but whole numbers from 0.
    #[error("{field} must be an array of whole numbers from 0, one for each enclosing Map, such as [0]")]
    Indexes {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A key is empty, too long, or contains a character outside its alphabet.
    #[error("{field} must have 1 to 64 characters of A-Z a-z 0-9 . _ : / + = -, such as invoice-4711")]
    Key {
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

/// Reads an object into a struct of optional raw values. The error is a sentence without the object's content.
///
/// Serde alone would accept an array for a struct as well.
pub fn object<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, String> {
    if !value.get().starts_with('{') {
        return Err(format!("it is {}", json_kind(value)));
    }
    serde_json::from_str(value.get()).map_err(|error| error.to_string())
}

/// The field's value; `None` for a field that is absent or `null`.
pub fn given(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get() != "null")
}

/// Reads an optional string.
pub fn string(field: &'static str, value: Option<&RawValue>) -> Result<Option<String>, InvalidField> {
    let Some(value) = given(value) else { return Ok(None) };
    serde_json::from_str(value.get()).map(Some).map_err(|_| InvalidField::Type {
        field,
        found: json_kind(value),
        want: "a string",
    })
}

/// Reads a string that the contract requires.
pub fn required_string(field: &'static str, value: Option<&RawValue>) -> Result<String, InvalidField> {
    string(field, value)?.ok_or(InvalidField::Missing(field))
}

/// Reads an optional name of 1 to 256 characters.
pub fn name(field: &'static str, value: Option<&RawValue>) -> Result<Option<String>, InvalidField> {
    const MOST: usize = 256;
    let Some(text) = string(field, value)? else { return Ok(None) };
    match text.chars().count() {
        1..=MOST => Ok(Some(text)),
        chars => Err(InvalidField::Length { field, chars, most: MOST }),
    }
}

/// Reads an optional number of seconds, within the range of the Amazon States Language.
pub fn seconds(field: &'static str, value: Option<&RawValue>) -> Result<Option<u32>, InvalidField> {
    let Some(value) = given(value) else { return Ok(None) };
    match serde_json::from_str(value.get()) {
        Ok(seconds @ 1..=crate::limits::TIMEOUT_SECONDS) => Ok(Some(seconds)),
        _ => Err(InvalidField::Seconds { field }),
    }
}

/// Reads an optional whole number from 0.
pub(crate) fn count(field: &'static str, value: Option<&RawValue>) -> Result<Option<u32>, InvalidField> {
    let count = given(value).map(|value| serde_json::from_str(value.get())).transpose();
    count.map_err(|_| InvalidField::Count { field })
}

/// Reads an optional array of Map indexes. An absent array has no indexes.
pub(crate) fn indexes(field: &'static str, value: Option<&RawValue>) -> Result<Vec<u64>, InvalidField> {
    let indexes = given(value).map(|value| serde_json::from_str(value.get())).transpose();
    indexes.map(Option::unwrap_or_default).map_err(|_| InvalidField::Indexes { field })
}

/// Reads an optional idempotency key.
pub(crate) fn key(field: &'static str, value: Option<&RawValue>) -> Result<Option<String>, InvalidField> {
    let Some(key) = string(field, value)? else { return Ok(None) };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/+=-".contains(c);
    if (1..=64).contains(&key.len()) && key.chars().all(allowed) {
        Ok(Some(key))
    } else {
        Err(InvalidField::Key { field })
    }
}

/// Tells a field that is absent (`None`) from one that is `null` (`Some("null")`). Serde's own `Option` takes both for
/// `None`, but a job whose result is `null` has succeeded.
pub(crate) fn present<'de, D>(field: D) -> Result<Option<Box<RawValue>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Box::<RawValue>::deserialize(field).map(Some)
}
