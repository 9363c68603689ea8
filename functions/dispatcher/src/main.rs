//! The dispatcher publishes a state machine's task, with its token, as a job for a worker over MQTT.

mod handler;

use handler::{Config, dispatch};
use jiff::Timestamp;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let config = Config::from_env(&Environment::process())?;
    let iot = aws_sdk_iotdataplane::Client::new(&postern_runtime::aws::config());
    postern_runtime::serve(async |event, context| {
        dispatch(&iot, &config, &event, Timestamp::now(), context.xray_trace_id.as_deref()).await
    })
    .await
}
