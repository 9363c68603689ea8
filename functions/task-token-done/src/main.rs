//! Task token done passes a worker's answer, which an IoT rule hands over, on to Step Functions.

mod claim;
mod error;
mod handler;

use claim::Claims;
use postern_runtime::claim_check::ClaimCheck;
use postern_runtime::env::Environment;
use postern_runtime::iot::Publisher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let environment = Environment::process();
    let claims =
        Claims { bucket: ClaimCheck::from_env(&environment)?, commands: Publisher::from_env(&environment)? };
    let step_functions = aws_sdk_sfn::Client::new(&postern_runtime::aws::config());
    postern_runtime::serve(async |event, _context| handler::answer(&step_functions, &claims, &event).await)
        .await
}
