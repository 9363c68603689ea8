//! GRIP echo: a WebSocket echo, a long-poll and a stream behind Pushpin or Fanout.

mod config;
mod handler;
mod rotation;

use std::time::Instant;

use postern_runtime::env::Environment;
use postern_runtime::secrets::SecretsManager;
use rotation::Echo;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let echo = Echo::start(Environment::process, SecretsManager::from_env, Instant::now()).await?;
    postern_runtime::serve(async |event, _context| echo.handle(&event, Instant::now()).await).await
}
