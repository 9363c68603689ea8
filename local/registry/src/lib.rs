//! A stand-in for a schema registry, for tests and laptops: the part of Confluent's API that registers schemas and
//! returns them by their numbers.
//!
//! Schemas live in memory. They are not checked, neither for errors nor for compatibility with earlier versions, and
//! callers need no credentials.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A schema, as producers register it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Schema {
    schema: String,
    /// Missing for Avro.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    references: Vec<Value>,
}

/// A registry.
#[derive(Debug, Default)]
pub struct Registry {
    /// The schema with the number 1 is the first.
    schemas: Mutex<Vec<Schema>>,
}

impl Registry {
    /// Serves a registry on this address, with port 0 on a free port, in the background. Returns its address.
    pub async fn start(address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let registry = Arc::new(Self::default());

        tokio::spawn(async move {
            loop {
                // An accept fails, for example, while no file descriptor is free. Later ones may succeed.
                let Ok((stream, _)) = listener.accept().await else { continue };
                let registry = Arc::clone(&registry);
                let service = service_fn(move |request| {
                    let registry = Arc::clone(&registry);
                    async move { Ok::<_, Infallible>(registry.answer(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(address)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();

        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        let (status, answer) = match (&head.method, path.as_slice()) {
            (&Method::GET, ["schemas", "types"]) => (StatusCode::OK, json!(["AVRO"])),
            (&Method::GET, ["schemas", "ids", id]) => self.schema(id),
            (&Method::POST, ["subjects", _, "versions"]) => self.register(&body),
            _ => error(StatusCode::NOT_FOUND, 404, "HTTP 404 Not Found"),
        };

        let mut response = Response::new(Full::from(answer.to_string()));
        *response.status_mut() = status;
        response
    }

    fn schema(&self, id: &str) -> (StatusCode, Value) {
        let schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let at = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
        match at.and_then(|at| schemas.get(at)) {
            Some(schema) => (StatusCode::OK, json!(schema)),
            None => error(StatusCode::NOT_FOUND, 40_403, "Schema not found"),
        }
    }

    /// The same schema has the same number, whatever its subject is.
    fn register(&self, body: &[u8]) -> (StatusCode, Value) {
        let Ok(schema) = serde_json::from_slice::<Schema>(body) else {
            return error(StatusCode::UNPROCESSABLE_ENTITY, 42_201, "Invalid schema");
        };

        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        let at = schemas.iter().position(|known| *known == schema).unwrap_or_else(|| {
            schemas.push(schema);
            schemas.len() - 1
        });
        (StatusCode::OK, json!({"id": at + 1}))
    }
}

fn error(status: StatusCode, code: u32, message: &str) -> (StatusCode, Value) {
    (status, json!({"error_code": code, "message": message}))
}
