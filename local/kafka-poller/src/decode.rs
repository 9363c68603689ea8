//! Decodes keys and values with a schema registry (`SchemaRegistryConfig` with `EventRecordFormat: JSON`).
//!
//! A key or a value begins with a zero byte and the number of its schema, as the producers of Confluent's registry write
//! it. Only Avro is decoded; a schema of another format ends the poller.

use crate::error::Error;
use crate::event::{Decoded, Part, Record, SchemaMetadata};
use crate::registry::Registry;
use crate::source::EVENT_BYTES;

/// A part of a record that is decoded (`SchemaValidationConfigs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Attribute {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// Decodes records.
pub struct Decoder {
    registry: Registry,
    attributes: Vec<Attribute>,
}

impl Decoder {
    /// A decoder of these parts of a record.
    pub fn new(registry: Registry, attributes: Vec<Attribute>) -> Self {
        Self { registry, attributes }
    }

    /// Decodes a record. A key or a value that is null has no schema and stays null.
    pub async fn decode(&mut self, record: &mut Record) -> Result<(), Error> {
        let mut decoded = Decoded::default();
        for attribute in &self.attributes {
            let (bytes, part) = match attribute {
                Attribute::Key => (&record.key, &mut decoded.key),
                Attribute::Value => (&record.value, &mut decoded.value),
            };
            if let Some(bytes) = bytes {
                *part = Some(decode(&mut self.registry, bytes).await?);
            }
        }
        record.decoded = decoded;
        Ok(())
    }
}

async fn decode(registry: &mut Registry, bytes: &[u8]) -> Result<Part, Error> {
    let (id, record) = frame(bytes).ok_or(Error::NoSchema)?;
    let schema = registry.schema(id).await?;
    let json = schema.json(record, EVENT_BYTES).map_err(|misfit| Error::Misfit { id, misfit })?;
    Ok(Part { json, schema: SchemaMetadata { data_format: "AVRO", schema_id: id.to_string() } })
}

/// The number of the schema, and the bytes after it.
fn frame(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (id, record) = bytes.strip_prefix(&[0])?.split_first_chunk()?;
    Some((u32::from_be_bytes(*id), record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_zero_byte_and_the_schemas_number() {
        assert_eq!(frame(&[0, 0, 0, 1, 2, 9]), Some((258, [9].as_slice())));
        assert_eq!(frame(&[0, 0, 0, 0, 1]), Some((1, [].as_slice())));
        assert_eq!(frame(&[1, 0, 0, 0, 1, 9]), None);
        assert_eq!(frame(&[0, 0, 0, 1]), None);
        assert_eq!(frame(&[]), None);
    }
}
