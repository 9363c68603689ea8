//! Reading the messages beside jobs and answers. A message of another form is an error that does not contain it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fields;

/// A message that does not have the form of its topic. The text names what is wrong, without the message's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMessage(pub(crate) String);

/// Reads a JSON object.
pub(crate) fn parse<T: for<'a> Deserialize<'a>>(payload: &[u8]) -> Result<T, InvalidMessage> {
    let value: &RawValue = serde_json::from_slice(payload)
        .map_err(|error| InvalidMessage(format!("the message is not JSON: {error}")))?;
    fields::object(value).map_err(|reason| {
        InvalidMessage(format!("the message does not have the form of its topic: {reason}"))
    })
}
