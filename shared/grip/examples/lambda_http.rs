//! A WebSocket echo on Lambda with `lambda_http`, behind a function URL or an HTTP API.

use grip::{Key, Verifier, WebSocket};
use lambda_http::{Body, Error, Request, Response, run, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let key = Key::parse(&std::env::var("GRIP_VERIFY_KEY")?)?;
    let verifier = Verifier::new(key).required();
    run(service_fn(async |request: Request| Ok::<_, Error>(echo(&verifier, &request)))).await
}

fn echo(verifier: &Verifier, request: &Request) -> Response<Body> {
    if let Err(problem) = verifier.check(request.headers()) {
        let mut response = Response::new(Body::from(problem.to_string()));
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        return response;
    }

    let mut ws = match WebSocket::read(request) {
        Ok(ws) => ws,
        Err(problem) => return problem.to_response().map(Body::from),
    };
    ws.accept();
    while let Some(message) = ws.recv() {
        ws.send(message);
    }
    // The body may contain any bytes. As `Body::Binary`, it reaches Lambda in base64.
    ws.to_response().map(Body::from)
}
