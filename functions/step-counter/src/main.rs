//! The step counter: the Dojo's function, whose answer is its event with one step more.

mod handler;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), postern_runtime::Error> {
    postern_runtime::log::init();
    postern_runtime::serve(async |event, _context| handler::count(&event)).await
}
