//! Approval lets a person answer a state machine's task through a sealed link that expires.

mod config;
mod handler;
mod link;
mod page;

use jiff::Timestamp;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let aws = postern_runtime::aws::config();
    let secrets = aws_sdk_secretsmanager::Client::new(&aws);
    let config = config::Config::from_env(&Environment::process(), &secrets).await?;
    let tasks = aws_sdk_sfn::Client::new(&aws);

    postern_runtime::serve(async |event, _context| {
        handler::handle(&tasks, &config.key, &event, Timestamp::now()).await
    })
    .await
}
