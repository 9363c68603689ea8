//! A WebSocket echo on Lambda with `lambda_runtime` alone: REST and HTTP APIs, function URLs and load balancers.

use grip::lambda::{Event, LambdaResponse};
use grip::{Key, Verifier, WebSocket};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::value::RawValue;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let key = Key::parse(&std::env::var("GRIP_VERIFY_KEY")?)?;
    let verifier = Verifier::new(key).required();
    run(service_fn(async |event: LambdaEvent<Box<RawValue>>| answer(&verifier, &event.payload))).await
}

fn answer(verifier: &Verifier, event: &RawValue) -> Result<LambdaResponse, Error> {
    let (request, reply) = Event::parse(event.get())?.into_request()?;
    if verifier.check(request.headers()).is_err() {
        let mut refusal = http::Response::new(Vec::new());
        *refusal.status_mut() = http::StatusCode::FORBIDDEN;
        return Ok(reply.response(refusal));
    }

    let mut ws = match WebSocket::read(&request) {
        Ok(ws) => ws,
        Err(problem) => return Ok(reply.response(problem.to_response())),
    };
    ws.accept();
    while let Some(message) = ws.recv() {
        ws.send(message);
    }
    Ok(reply.response(ws.to_response()))
}
