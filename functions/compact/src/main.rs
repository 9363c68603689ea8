//! The binary of `compact`: connects the handler to the Lambda runtime and to S3.

use compact::{Bucket, Config, handle};
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let config = Config::from_env(&Environment::process())?;
    let s3 = aws_sdk_s3::Client::new(&postern_runtime::aws::config());
    let bucket = Bucket::new(s3, &config.source.bucket);

    postern_runtime::serve(async |event, _context| handle(&bucket, &config, event.get()).await).await
}
