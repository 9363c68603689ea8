//! Jobs API: the HTTP API of a tenant's jobs and workers, and the console's page.

mod actions;
mod assets;
mod aws;
mod caller;
mod config;
mod handler;
mod job;
mod list;
mod live;
mod payload;
mod problem;
mod reply;
mod route;
mod services;
mod start;
mod timeline;
mod workers;

use jiff::Timestamp;
use postern_runtime::env::Environment;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let api = start::api(Environment::process).await?;
    postern_runtime::serve(async |event, _context| api.handle(&event, Timestamp::now()).await).await
}
