//! Task token done passes a worker's answer, which an IoT rule hands over, on to Step Functions.

mod claim;
mod error;
mod handler;
mod record;

use claim::Claims;
use jiff::Timestamp;
use postern_jobs::DynamoJobs;
use postern_runtime::claim_check::ClaimCheck;
use postern_runtime::env::Environment;
use postern_runtime::iot::Publisher;
use record::Record;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let environment = Environment::process();
    let workers = Publisher::from_env(&environment)?;
    let claims = Claims { bucket: ClaimCheck::from_env(&environment)?, commands: workers.clone() };
    let record = DynamoJobs::from_env(&environment)?.map(|jobs| Record { jobs, workers });
    let step_functions = aws_sdk_sfn::Client::new(&postern_runtime::aws::config());

    postern_runtime::serve(async |event, _context| {
        handler::answer(&step_functions, &claims, record.as_ref(), &event, Timestamp::now()).await
    })
    .await
}
