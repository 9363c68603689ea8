//! Runs msk-to-s3 in the Lambda runtime without S3: event bytes in, object bytes out. With `FLOOR=true` it runs only what
//! every such function needs: the runtime, and a decoded copy of each value.

use std::path::PathBuf;

use msk_to_s3::{Config, Error, Object, Put, Store, write_batch};
use postern_runtime::env::Environment;

/// A store that discards every object. If `DUMP` names a folder, the object is written to a file there, so that outputs can be compared.
struct Discard(Option<PathBuf>);

impl Store for Discard {
    async fn put(&self, object: Object) -> Result<Put, Error> {
        if let Some(folder) = &self.0 {
            std::fs::write(folder.join(object.key.replace('/', "_")), object.body)?;
        }
        Ok(Put::Written)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    if std::env::var_os("FLOOR").is_some() {
        return postern_runtime::serve_bytes(async |event, _context| Ok::<_, Error>(floor(&event))).await;
    }
    let config = Config::from_env(&Environment::process())?;
    let store = Discard(std::env::var_os("DUMP").map(PathBuf::from));
    postern_runtime::serve_bytes(async |batch, _context| write_batch(&store, &config, &batch).await).await
}

/// Decodes a copy of each `"value":"..."` in an event of `events.py`; returns the number of bytes.
fn floor(event: &[u8]) -> usize {
    const NAME: &[u8] = b"\"value\":\"";
    let mut out = Vec::with_capacity(event.len());
    let mut rest = event;
    while let Some(at) = memchr::memmem::find(rest, NAME) {
        rest = &rest[at + NAME.len()..];
        let Some(end) = memchr::memchr(b'"', rest) else { break };
        if base64_simd::STANDARD.decode_append(&rest[..end], &mut out).is_err() {
            break;
        }
    }
    out.len()
}
