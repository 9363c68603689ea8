//! The errors of decoding with a schema registry. No message contains a part of a record.

use crate::avro::Misfit;
use crate::invocation_record::Condition;

/// A schema registry cannot be used, or a key or a value cannot be decoded with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry did not answer at the start.
    #[error(
        "the schema registry {url} cannot be used: {reason}; expected a registry with Confluent's API, such as \
         http://127.0.0.1:8081"
    )]
    Registry {
        /// The URL.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The registry has a schema of a format that is not decoded here.
    #[error("schema {id} is {format}; the local poller decodes Avro only")]
    Format {
        /// The schema's number.
        id: u32,
        /// The registry's name for the format.
        format: String,
    },
    /// The schema consists of several schemas in the registry.
    #[error("schema {0} refers to other schemas in the registry, which the local poller does not resolve")]
    References(u32),
    /// The registry has no such schema.
    #[error("schema {0} is not in the registry")]
    SchemaNotFound(u32),
    /// The registry has the schema, but it is not valid.
    #[error("schema {id} is not an Avro schema: {reason}")]
    InvalidSchema {
        /// The schema's number.
        id: u32,
        /// What is wrong with the schema.
        reason: String,
    },
    /// The bytes name no schema.
    #[error("the bytes do not begin with a zero byte and the four bytes of a schema's number")]
    NoSchema,
    /// The bytes are not a record of the schema that they name.
    #[error("the bytes are not a record of schema {id}: {misfit}")]
    Misfit {
        /// The schema's number.
        id: u32,
        /// What does not fit.
        misfit: Misfit,
    },
}

impl Error {
    /// The condition under which Lambda gives up a record with this error; `None` if the error is the poller's own, so
    /// that no record must be given up for it.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Registry { .. } | Self::Format { .. } | Self::References(_) => None,
            Self::SchemaNotFound(_) => Some(Condition::SchemaNotFound),
            Self::Misfit { misfit: Misfit::Large, .. } => Some(Condition::MaximumPayloadSizeExceeded),
            Self::InvalidSchema { .. } | Self::NoSchema | Self::Misfit { .. } => {
                Some(Condition::DeserializationError)
            }
        }
    }
}
