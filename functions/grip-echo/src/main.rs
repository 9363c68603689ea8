//! GRIP echo: a WebSocket echo, a long-poll and a stream behind Pushpin or Fanout.

mod config;
mod handler;

use config::Config;
use grip::Publisher;
use handler::handle;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let config = Config::from_env(&Environment::process())?;
    let proxy = Publisher::new(&config.url)?.prefixed(&config.prefix);
    postern_runtime::serve(async |event, _context| handle(&proxy, &config, &event).await).await
}
