//! A table's object as compressed CSV: the rows as msk-to-s3 wrote them.

use std::io::Write as _;

use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::config::Format;
use crate::error::Error;

/// A CSV object while it is written.
pub(crate) enum CsvTable {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl CsvTable {
    pub(crate) fn new(format: Format, source: &msk_to_s3::Config) -> Result<Self, Error> {
        let mut table = match format {
            Format::CsvZstd => Self::Zstd(ZstdEncoder::new(Vec::new(), 3)?),
            _ => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default())),
        };
        if source.header {
            table.append(&header(source))?;
        }
        Ok(table)
    }

    pub(crate) fn append(&mut self, line: &[u8]) -> Result<(), Error> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(line)?,
            Self::Zstd(encoder) => encoder.write_all(line)?,
        }
        Ok(())
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Gzip(encoder) => std::mem::take(encoder.get_mut()),
            Self::Zstd(encoder) => std::mem::take(encoder.get_mut()),
        }
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        })
    }
}

/// The names of the columns as a CSV row. Every name is quoted, which is always valid.
fn header(source: &msk_to_s3::Config) -> Vec<u8> {
    let columns = source.columns.iter().map(|column| column.name.as_str());
    let names = columns.chain(source.metadata.iter().map(|column| column.column()));
    let quoted: Vec<String> = names.map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
    format!("{}\n", quoted.join(",")).into_bytes()
}
