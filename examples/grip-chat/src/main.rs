//! A chat behind Pushpin: rooms, history, presence and names in one page. See README.md for how to start it.

mod app;
mod config;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use grip::Publisher;
use grip::channels::{Channels, ChannelsError, DynamoStore, JwtAuthorizer, MemoryStore, Store};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use app::App;
use config::{Config, Failure};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let config = Config::from_env()?;

    // The memory is enough for one process. Several of them, or a function, share a table.
    match &config.table {
        None => listen(MemoryStore::new(), config).await,
        Some(table) => {
            let client = aws_sdk_dynamodb::Client::new(&postern_runtime::aws::config());
            listen(DynamoStore::new(client, table), config).await
        }
    }
}

async fn listen<S: Store + 'static>(store: S, config: Config) -> Result<(), Failure> {
    let tokens = JwtAuthorizer::new(config.key).issuer("grip-chat");
    let channels = Channels::new(store, Publisher::new(&config.proxy)?, tokens.clone())
        .verifier(config.verifier)
        .keep_alive(config.keep_alive)
        .on_failure(report);
    let app = Arc::new(App::new(channels, tokens));

    let listener = TcpListener::bind(("127.0.0.1", config.port)).await?;
    announce(listener.local_addr()?);

    loop {
        let (socket, _) = listener.accept().await?;
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| async {
                let (parts, body) = request.into_parts();
                let request = Request::from_parts(parts, body.collect().await?.to_bytes().to_vec());
                let response = app.answer(&request).await;
                Ok::<_, hyper::Error>(response.map(|body| Full::new(Bytes::from(body))))
            });
            // An error ends this connection of the proxy. The proxy opens another one.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

#[expect(clippy::print_stdout, reason = "how the user learns the address")]
fn announce(address: SocketAddr) {
    println!("The chat listens on http://{address}");
}

#[expect(clippy::print_stderr, reason = "the program's log; the error contains no message of a client")]
fn report(failure: &ChannelsError) {
    eprintln!("{failure}");
}
