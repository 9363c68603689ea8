//! Avro records as JSON.
//!
//! The crate `apache-avro` parses the schemas. The records are read here, in one pass, because that crate reads a string
//! or a union that ends early as null, and follows a recursive schema as deep as the bytes lead it.
//!
//! AWS documents that the function gets "a standard JSON object". The JSON is that of Avro's specification (bytes and
//! fixed values are texts with one character for each byte, logical types are the numbers and bytes below them), except
//! that a union's value stands there without the name of its type. Floats that JSON lacks are the texts `NaN`,
//! `Infinity` and `-Infinity`.

use std::collections::HashMap;

use apache_avro::schema::{Name, ResolvedSchema, Schema as Definition};
use serde_json::Value;

/// The largest nesting of arrays, maps and records: what `serde_json` reads.
const MAX_DEPTH: usize = 127;

/// Why bytes are not a record of their schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The bytes end before the record does.
    #[error("they end too early")]
    Short,
    /// There are bytes after the record.
    #[error("there are more bytes than the record has")]
    Long,
    /// A number, a choice of a union or an enum, a length or a text is not possible.
    #[error("a number, a length or a text in them is not possible")]
    Impossible,
    /// Arrays, maps and records are nested too deeply.
    #[error("they are nested more than 127 levels deep")]
    Deep,
    /// The JSON would be larger than the given limit.
    #[error("their JSON is too large")]
    Large,
}

/// An Avro schema, and the named schemas in it by their full names.
pub struct Schema {
    root: Definition,
    names: HashMap<Name, Definition>,
}

impl Schema {
    /// Parses a schema, which is JSON text. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        forget_logical_types(&mut schema);
        let root = Definition::parse(&schema).map_err(|error| error.to_string())?;

        let resolved = ResolvedSchema::new(&root).map_err(|error| error.to_string())?;
        let names = resolved.get_names().iter();
        let names = names.map(|(name, schema)| (name.clone(), Definition::clone(schema))).collect();
        Ok(Self { root, names })
    }

    /// The JSON of a record in Avro's binary encoding, of at most `limit` bytes.
    pub fn json(&self, record: &[u8], limit: usize) -> Result<Vec<u8>, Misfit> {
        let mut reader = Reader { rest: record, names: &self.names, json: Vec::new(), limit };
        reader.value(&self.root, None, 0)?;
        if reader.rest.is_empty() { Ok(reader.json) } else { Err(Misfit::Long) }
    }
}

/// Removes the logical types from a schema, so that values keep the types below.
fn forget_logical_types(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(forget_logical_types),
        Value::Object(members) => {
            members.remove("logicalType");
            for name in ["type", "items", "values", "fields"] {
                members.get_mut(name).into_iter().for_each(forget_logical_types);
            }
        }
        _ => {}
    }
}

/// Reads a record and writes its JSON.
struct Reader<'r> {
    rest: &'r [u8],
    names: &'r HashMap<Name, Definition>,
    json: Vec<u8>,
    limit: usize,
}

impl<'r> Reader<'r> {
    fn value(&mut self, schema: &Definition, namespace: Option<&str>, depth: usize) -> Result<(), Misfit> {
        if depth > MAX_DEPTH {
            return Err(Misfit::Deep);
        }
        if self.json.len() > self.limit {
            return Err(Misfit::Large);
        }

        match schema {
            Definition::Null => self.json.extend(b"null"),
            Definition::Boolean => self.boolean()?,
            Definition::Int => self.int()?,
            Definition::Long => {
                let number = self.long()?;
                self.write(&number);
            }
            Definition::Float => self.float()?,
            Definition::Double => self.double()?,
            Definition::Bytes => {
                let length = self.length()?;
                self.bytes(length)?;
            }
            Definition::Fixed(fixed) => self.bytes(fixed.size)?,
            Definition::String => {
                let text = self.text()?;
                self.write(text);
            }
            Definition::Enum(list) => {
                let symbol = list.symbols.get(self.length()?).ok_or(Misfit::Impossible)?;
                self.write(symbol.as_str());
            }
            Definition::Union(union) => {
                let choice = union.variants().get(self.length()?).ok_or(Misfit::Impossible)?;
                self.value(choice, namespace, depth)?;
            }
            Definition::Array(array) => self.items(&array.items, namespace, depth)?,
            Definition::Map(map) => self.members(&map.types, namespace, depth)?,
            _ => self.named(schema, namespace, depth)?,
        }
        Ok(())
    }

    /// A record, or a name that stands for a schema.
    fn named(&mut self, schema: &Definition, namespace: Option<&str>, depth: usize) -> Result<(), Misfit> {
        match schema {
            Definition::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                self.json.push(b'{');
                for (number, field) in record.fields.iter().enumerate() {
                    self.separate(number);
                    self.write(field.name.as_str());
                    self.json.push(b':');
                    self.value(&field.schema, name.namespace(), depth + 1)?;
                }
                self.json.push(b'}');
                Ok(())
            }
            Definition::Ref { name } => {
                let name = name.fully_qualified_name(namespace);
                let schema = self.names.get(name.as_ref()).ok_or(Misfit::Impossible)?;
                self.value(schema, name.namespace(), depth)
            }
            // Logical types, which no parsed schema has.
            _ => Err(Misfit::Impossible),
        }
    }

    fn items(&mut self, schema: &Definition, namespace: Option<&str>, depth: usize) -> Result<(), Misfit> {
        self.json.push(b'[');
        let mut number = 0;
        while let Some(items) = self.block()? {
            for _ in 0..items {
                self.separate(number);
                number += 1;
                self.value(schema, namespace, depth + 1)?;
            }
        }
        self.json.push(b']');
        Ok(())
    }

    fn members(&mut self, schema: &Definition, namespace: Option<&str>, depth: usize) -> Result<(), Misfit> {
        self.json.push(b'{');
        let mut number = 0;
        while let Some(members) = self.block()? {
            for _ in 0..members {
                self.separate(number);
                number += 1;
                let name = self.text()?;
                self.write(name);
                self.json.push(b':');
                self.value(schema, namespace, depth + 1)?;
            }
        }
        self.json.push(b'}');
        Ok(())
    }

    /// The number of items in the next block of an array or a map; `None` at its end.
    fn block(&mut self) -> Result<Option<u64>, Misfit> {
        let items = self.long()?;
        if items < 0 {
            // The block's size in bytes, for readers that skip the block.
            self.length()?;
        }
        Ok(Some(items.unsigned_abs()).filter(|items| *items > 0))
    }

    fn int(&mut self) -> Result<(), Misfit> {
        let number = i32::try_from(self.long()?).map_err(|_| Misfit::Impossible)?;
        self.write(&number);
        Ok(())
    }

    /// A float with the fewest digits that tell it from other floats of 32 bits.
    fn float(&mut self) -> Result<(), Misfit> {
        let number = f32::from_le_bytes(self.array()?);
        match not_finite(number.into()) {
            Some(text) => self.write(text),
            None => self.write(&number),
        }
        Ok(())
    }

    fn double(&mut self) -> Result<(), Misfit> {
        let number = f64::from_le_bytes(self.array()?);
        match not_finite(number) {
            Some(text) => self.write(text),
            None => self.write(&number),
        }
        Ok(())
    }

    fn boolean(&mut self) -> Result<(), Misfit> {
        let text: &[u8] = match self.array()? {
            [0] => b"false",
            [1] => b"true",
            _ => return Err(Misfit::Impossible),
        };
        self.json.extend(text);
        Ok(())
    }

    /// A text with one character for each byte.
    fn bytes(&mut self, length: usize) -> Result<(), Misfit> {
        let text: String = self.take(length)?.iter().copied().map(char::from).collect();
        self.write(text.as_str());
        Ok(())
    }

    fn text(&mut self) -> Result<&'r str, Misfit> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Misfit::Impossible)
    }

    fn length(&mut self) -> Result<usize, Misfit> {
        usize::try_from(self.long()?).map_err(|_| Misfit::Impossible)
    }

    /// A number of at most 64 bits: seven in a byte, the lowest first, and the sign in the lowest bit.
    fn long(&mut self) -> Result<i64, Misfit> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(Misfit::Impossible)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let (first, rest) = self.rest.split_first_chunk().ok_or(Misfit::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'r [u8], Misfit> {
        let (first, rest) = self.rest.split_at_checked(length).ok_or(Misfit::Short)?;
        self.rest = rest;
        Ok(first)
    }

    fn separate(&mut self, number: usize) {
        if number > 0 {
            self.json.push(b',');
        }
    }

    fn write(&mut self, scalar: &(impl serde::Serialize + ?Sized)) {
        // A scalar can always be written into memory.
        let _ = serde_json::to_writer(&mut self.json, scalar);
    }
}

/// The text for a number that JSON does not have.
fn not_finite(number: f64) -> Option<&'static str> {
    match number {
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        number if number.is_nan() => Some("NaN"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
