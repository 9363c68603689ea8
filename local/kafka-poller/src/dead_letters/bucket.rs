//! An S3 bucket for dead letters: one object for each invocation record.

use std::io;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;

use crate::invocation_record::InvocationRecord;

/// The pause before an invocation record is sent to S3 again, after the client's own attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// A bucket, and the prefix of the keys in it.
#[derive(Debug)]
pub struct Bucket {
    s3: Client,
    name: String,
    prefix: String,
    mapping: String,
}

impl Bucket {
    /// Opens `s3://bucket[/prefix]` for the dead letters of the mapping with this UUID. Fails if the bucket does not exist:
    /// otherwise the error would appear only with the first dead letter.
    pub async fn open(s3: Client, url: &str, mapping: &str) -> io::Result<Self> {
        let path = url.strip_prefix("s3://").filter(|path| !path.is_empty());
        let path =
            path.ok_or_else(|| io::Error::other(format!("{url} is not s3://bucket or s3://bucket/prefix")))?;
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let prefix = prefix.trim_end_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };

        s3.head_bucket().bucket(bucket).send().await.map_err(|error| {
            io::Error::other(format!("bucket {bucket}: {}", postern_runtime::aws::failure(&error).1))
        })?;
        Ok(Self { s3, name: bucket.to_owned(), prefix, mapping: mapping.to_owned() })
    }

    /// The key that AWS documents for streams, with the topic in the place of the shard.
    fn key(&self, InvocationRecord { topic, time, .. }: &InvocationRecord) -> String {
        let (day, second) = (time.strftime("%Y/%m/%d"), time.strftime("%Y-%m-%dT%H.%M.%S"));
        format!("{}aws/lambda/{}/{topic}/{day}/{second}-{}", self.prefix, self.mapping, random_uuid())
    }

    /// Retries until S3 has stored the invocation record: the batch must not be committed before.
    pub(crate) async fn put(&self, record: &InvocationRecord) -> io::Result<()> {
        let body = serde_json::to_vec(record)?;
        let key = self.key(record);
        loop {
            let put = self.s3.put_object().bucket(&self.name).key(&key).content_type("application/json");
            match put.body(ByteStream::from(body.clone())).send().await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    let (_, reason) = postern_runtime::aws::failure(&error);
                    tracing::warn!(
                        bucket = self.name,
                        reason,
                        "an invocation record could not be written; writing it again"
                    );
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A UUID of version 4: six bits state the version and variant, the others are random.
fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_has_version_4() {
        let uuid = random_uuid();
        assert_ne!(uuid, random_uuid());

        let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&uuid[14..15], "4");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }
}
