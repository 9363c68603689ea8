//! Approval lets a person answer a state machine's task through a sealed link that expires.

mod handler;
mod page;
mod record;

use jiff::Timestamp;
use postern_approval::{KeySource, Keyring};
use postern_jobs::DynamoJobs;
use postern_runtime::env::Environment;
use postern_runtime::secrets::SecretsManager;
use record::Record;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let environment = Environment::process();
    let secrets = SecretsManager::from_env(&environment)?;
    let keys = Keyring::open(KeySource::from_env(&environment)?, secrets, Timestamp::now()).await?;
    let record = Record::from_env(&environment, DynamoJobs::from_env(&environment)?)?;
    let tasks = aws_sdk_sfn::Client::new(&postern_runtime::aws::config());

    postern_runtime::serve(async |event, _context| {
        handler::handle(&tasks, &record, &keys, &event, Timestamp::now()).await
    })
    .await
}
