//! The function of this crate's tests. Each event states what the function does with it. If the variable `END` is set, the
//! program ends at once.
#![expect(clippy::unwrap_used, reason = "it fails by panicking, as the tests do")]

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if std::env::var_os("END").is_some() {
        return;
    }
    lambda_runtime::run(service_fn(handle)).await.unwrap();
}

/// Does what the event states, then responds with the event, or with its body if the event is an HTTP request.
async fn handle(LambdaEvent { payload, .. }: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    if payload.get("exit").is_some() {
        std::process::exit(1);
    }
    if payload.get("fail").is_some() || payload["rawPath"] == "/fail" {
        return Err(Diagnostic {
            error_type: "Test.Failed".into(),
            error_message: "the event requests an error".into(),
        });
    }
    if let Some(address) = payload["hold"].as_str() {
        // The read ends when the test closes the connection.
        let mut held = TcpStream::connect(address).await.unwrap();
        let _ = held.read(&mut [0]).await;
    }
    if payload.get("rawPath").is_some() {
        let (body, base64) = (&payload["body"], &payload["isBase64Encoded"]);
        return Ok(json!({"statusCode": 200, "body": body, "isBase64Encoded": base64}));
    }
    Ok(payload)
}
