//! Prepares a template for an emulator as `sam build` does for AWS: packages the functions' binaries and replaces the
//! local paths of code and definitions by S3 locations.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bytes::Bytes;

use crate::api::Api;
use crate::error::Error;
use crate::zip::archive;

/// The bucket of packages and definitions.
const BUCKET: &str = "postern-artifacts";

/// Uploads what the template's `CodeUri` and `DefinitionUri` lines name, and the template with the S3 locations instead.
/// Returns the template's URL: CloudFormation takes no template above 51,200 bytes in the request itself.
///
/// The template is edited line by line, so that CloudFormation reads the rest exactly as it is written. A function's
/// binary is the `Binary` of its Metadata, which stands above its `CodeUri`. A function whose binary is not built
/// gets a key that says so: its condition may keep it out of the stack, and if not, the deployment fails with that key.
pub(crate) async fn package(
    api: &Api,
    template: &str,
    definitions: impl Fn(&str) -> Result<String, Error>,
    binaries: &Path,
) -> Result<String, Error> {
    api.create_bucket(BUCKET).await?;
    let mut binary = None;
    let mut packaged = String::with_capacity(template.len());

    for line in template.lines() {
        let (name, value) = line.trim().split_once(':').unwrap_or_default();
        let value = value.trim();
        let key = match name {
            "Binary" => {
                binary = Some(value);
                None
            }
            "CodeUri" => {
                let binary = binary.take().ok_or_else(|| {
                    Error::Invalid("template.yml: a CodeUri without a Metadata Binary above it".into())
                })?;
                Some(upload_function(api, &binaries.join(binary), binary).await?)
            }
            "DefinitionUri" => Some(upload(api, definitions(value)?.into()).await?),
            _ => None,
        };

        if let Some(key) = key {
            let indent = &line[..line.len() - line.trim_start().len()];
            // Writing to a String does not fail.
            let _ = writeln!(packaged, "{indent}{name}: {{Bucket: {BUCKET}, Key: \"{key}\"}}");
        } else {
            packaged.push_str(line);
            packaged.push('\n');
        }
    }

    let key = upload(api, packaged.into()).await?;
    Ok(api.object_url(BUCKET, &key))
}

/// Uploads the package of a function if its binary is built. Returns the object's key.
async fn upload_function(api: &Api, path: &Path, binary: &str) -> Result<String, Error> {
    match fs::read(path) {
        Ok(content) => upload(api, archive(&content).into()).await,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(format!("{binary}-is-not-built")),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// Uploads an object under the digest of its content, so that an unchanged function keeps its key.
async fn upload(api: &Api, content: Bytes) -> Result<String, Error> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &content);
    let mut key = String::new();
    for byte in digest.as_ref() {
        let _ = write!(key, "{byte:02x}");
    }

    api.put(BUCKET, &key, content).await?;
    Ok(key)
}
