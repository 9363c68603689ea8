//! A function to test with: this crate's own tests, run as a `bootstrap` of one test that works for Lambda.

use std::net::SocketAddr;

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::function::{Function, Program};

/// `instances` processes of [`bootstrap`].
pub(crate) async fn function(instances: usize) -> Function {
    let program = Program {
        bootstrap: std::env::current_exe().unwrap(),
        arguments: ["--exact", "testing::bootstrap", "--ignored"].map(str::to_owned).into(),
        variables: Vec::new(),
    };
    Function::run(&program, instances).await.unwrap()
}

#[test]
#[ignore = "not a test: the function of the other tests"]
fn bootstrap() {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lambda_runtime::run(service_fn(handle))).unwrap();
    }
}

/// Does what the event says, and answers with it; with its body, if it is a request.
async fn handle(LambdaEvent { payload, .. }: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    if payload.get("exit").is_some() {
        std::process::exit(1);
    }
    if payload.get("fail").is_some() || payload["rawPath"] == "/fail" {
        return Err(Diagnostic { error_type: "Test.Failed".into(), error_message: "as told".into() });
    }
    if let Some(address) = payload["hold"].as_str() {
        // Until whoever listens there hangs up.
        let mut held = TcpStream::connect(address).await.unwrap();
        let _ = held.read(&mut [0]).await;
    }
    if payload.get("rawPath").is_some() {
        let (body, base64) = (&payload["body"], &payload["isBase64Encoded"]);
        return Ok(json!({"statusCode": 200, "body": body, "isBase64Encoded": base64}));
    }
    Ok(payload)
}

/// Sends a request, and reads the whole response.
pub(crate) async fn http(address: SocketAddr, head: &str, body: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head =
        format!("{head}\r\nhost: local\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut response = Vec::new();
    socket.read_to_end(&mut response).await.unwrap();
    response
}
