//! Job canceller ends the jobs of an execution that has ended before them.

mod handler;

use jiff::Timestamp;
use postern_jobs::DynamoJobs;
use postern_runtime::env::Environment;
use postern_runtime::iot::Publisher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let environment = Environment::process();
    let workers = Publisher::from_env(&environment)?;
    let jobs = DynamoJobs::from_env(&environment)?
        .ok_or("environment variable JOBS_TABLE: it is not set; set it to the name of the table of jobs")?;

    postern_runtime::serve(async |event, _context| {
        handler::cancel(&jobs, &workers, &event, Timestamp::now()).await
    })
    .await
}
