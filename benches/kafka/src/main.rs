//! The function in its runtime, event bytes in, object bytes out, without S3. With `FLOOR=true` what no function can do
//! without: the runtime, and a copy of every value, decoded.

use std::path::PathBuf;

use msk_to_s3::{Error, Object, Put, Settings, Store, write_batch};
use postern_runtime::env::Environment;

/// Takes every object; writes it to a file if there is one to write to, so that outputs can be compared.
struct Nowhere(Option<PathBuf>);

impl Store for Nowhere {
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
    let settings = Settings::read(&Environment::process())?;
    let store = Nowhere(std::env::var_os("DUMP").map(PathBuf::from));
    postern_runtime::serve_bytes(async |batch, _context| write_batch(&store, &settings, &batch).await).await
}

/// Copies and decodes every `"value":"..."` of an event made as the bench makes it; answers the bytes.
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
