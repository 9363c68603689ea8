//! Job progress writes what workers report about running jobs into the table of jobs, and tells listeners through a GRIP
//! proxy which jobs of the table have changed.

mod handler;
mod hints;

use std::time::Instant;

use hints::Hints;
use jiff::Timestamp;
use postern_jobs::DynamoJobs;
use postern_runtime::env::Environment;
use postern_runtime::secrets::SecretsManager;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let jobs = DynamoJobs::from_env(&Environment::process())?
        .ok_or("environment variable JOBS_TABLE: it is not set; set it to the name of the table of jobs")?;
    let hints = Hints::start(Environment::process, SecretsManager::from_env, Instant::now()).await?;

    postern_runtime::serve(async |event, _context| {
        handler::handle(&jobs, &hints, &event, Timestamp::now()).await
    })
    .await
}
