//! Task token done passes a worker's answer, which an IoT rule hands over, on to Step Functions.

mod handler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    let step_functions = aws_sdk_sfn::Client::new(&postern_runtime::aws::config());
    postern_runtime::serve(async |event, _context| handler::answer(&step_functions, &event).await).await
}
