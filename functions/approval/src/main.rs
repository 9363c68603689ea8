//! Approval: a person answers a state machine's task through a link that is signed, sealed and expires.

mod config;
mod handler;
mod link;
mod page;

use jiff::Timestamp;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init();
    let aws = postern_runtime::aws::config().await;
    let key = config::key(&Environment::process(), &aws_sdk_secretsmanager::Client::new(&aws)).await?;
    let tasks = aws_sdk_sfn::Client::new(&aws);
    postern_runtime::serve(async |event, _context| {
        handler::handle(&tasks, &key, &event, Timestamp::now()).await
    })
    .await
}
