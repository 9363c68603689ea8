//! Channels in an axum server behind Pushpin: `cargo run --example axum --features publish`.
//!
//! Give Pushpin the route `* 127.0.0.1:9000,over_http`, and publish with
//! `curl 127.0.0.1:7999/channels/news -d '"hello"'`. Every client
//! may do everything; replace `Anybody` by a `JwtAuthorizer` to change that.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use grip::channels::{Anybody, Channels, MemoryStore};
use grip::{GripUrl, Publisher};

type App = Arc<Channels<MemoryStore, Publisher, Anybody>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proxy = Publisher::new(&GripUrl::parse("http://127.0.0.1:5561/")?)?;
    let app: App = Arc::new(Channels::new(MemoryStore::new(), proxy, Anybody));

    let router =
        Router::new().route("/channels", any(serve)).route("/channels/{*path}", any(serve)).with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
    axum::serve(listener, router).await?;
    Ok(())
}

async fn serve(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1_000_000).await.unwrap_or_default();
    let request = http::Request::from_parts(parts, body.to_vec());

    let path = request.uri().path().strip_prefix("/channels").unwrap_or_default();
    app.serve(path, &request).await.map(Body::from)
}
