//! The binary of `msk-to-s3`: connects the handler to the Lambda runtime and to S3.

use msk_to_s3::{Bucket, Config, write_batch};
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let config = Config::from_env(&Environment::process())?;
    let s3 = aws_sdk_s3::Client::new(&postern_runtime::aws::config());
    let bucket = Bucket::new(s3, &config.bucket);

    postern_runtime::serve_bytes(async |batch, _context| write_batch(&bucket, &config, &batch).await).await
}
