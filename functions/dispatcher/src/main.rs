//! The dispatcher: a state machine's task, with its token, goes out to a worker over MQTT.

mod handler;

use handler::{Config, dispatch};
use jiff::Timestamp;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init();
    let config = Config::read(&Environment::process())?;
    let iot = aws_sdk_iotdataplane::Client::new(&postern_runtime::aws::config().await);
    postern_runtime::serve(async |event, context| {
        dispatch(&iot, &config, &event, Timestamp::now(), context.xray_trace_id.as_deref()).await
    })
    .await
}
