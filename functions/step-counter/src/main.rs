//! The step counter, the function of the Dojo's tutorial: it returns its event with `Input.step` increased by one.

mod handler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init(env!("CARGO_CRATE_NAME"));
    postern_runtime::serve(async |event, _context| handler::count(&event)).await
}
