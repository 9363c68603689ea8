//! The dispatcher publishes a state machine's task, with its token, as a job for a worker over MQTT.

mod claim;
mod error;
mod handler;
mod record;

use handler::{Config, dispatch};
use jiff::Timestamp;
use postern_jobs::DynamoJobs;
use postern_runtime::claim_check::ClaimCheck;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let environment = Environment::process();
    let config = Config::from_env(&environment)?;
    let jobs = DynamoJobs::from_env(&environment)?;
    let claims = ClaimCheck::from_env(&environment)?;
    let iot = aws_sdk_iotdataplane::Client::new(&postern_runtime::aws::config());
    postern_runtime::serve(async |event, context| {
        let trace = context.xray_trace_id.as_deref();
        dispatch(&iot, jobs.as_ref(), claims.as_ref(), &config, &event, Timestamp::now(), trace).await
    })
    .await
}
