//! MSK to S3: records of a Kafka topic become CSV objects.

use msk_to_s3::{Bucket, Settings, write_batch};
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let settings = Settings::read(&Environment::process())?;
    let s3 = aws_sdk_s3::Client::new(&postern_runtime::aws::config().await);
    let bucket = Bucket::new(s3, &settings.bucket);
    postern_runtime::serve_bytes(async |batch, _context| write_batch(&bucket, &settings, &batch).await).await
}
