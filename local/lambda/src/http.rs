//! The two APIs that accept events, on one port: Lambda's Invoke API at its own path, the function URL at all others.

use std::io;

use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::watch;

use crate::function_url;
use crate::queue::{Events, FunctionError};
use crate::server::{Server, serve, status};

/// Starts the server. Also returns the number of `POST` requests without a body to the function URL.
pub(crate) async fn open(events: Events) -> io::Result<(Server, watch::Receiver<usize>)> {
    let (counter, empty_posts) = watch::channel(0);
    let server = serve(move |request: Request<Vec<u8>>| {
        let invocation = is_invocation(&request);
        if !invocation && request.method() == Method::POST && request.body().is_empty() {
            counter.send_modify(|count| *count += 1);
        }
        let events = events.clone();
        async move { if invocation { invoke(&events, request).await } else { respond(&events, request).await } }
    });
    Ok((server.await?, empty_posts))
}

fn is_invocation(request: &Request<Vec<u8>>) -> bool {
    let segments: Vec<&str> = request.uri().path().split('/').collect();
    matches!(segments.as_slice(), ["", "2015-03-31", "functions", _, "invocations"])
}

/// Answers a call of `Invoke` as Lambda does: a function error has status 200 and the header `x-amz-function-error`.
async fn invoke(events: &Events, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    match events.invoke(request.into_body()).await {
        Ok(answer) => Response::new(answer),
        Err(FunctionError(error)) => {
            let mut response = Response::new(error);
            response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
            response
        }
    }
}

/// Answers a request as a function URL does. A failed function or an invalid response becomes status 502.
async fn respond(events: &Events, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let answer = events.invoke(function_url::event(&request).to_string().into_bytes()).await;
    let response = answer.ok().and_then(|answer| function_url::response(&answer));
    response.unwrap_or_else(|| status(StatusCode::BAD_GATEWAY))
}

#[cfg(test)]
mod tests {
    use crate::testing::{function, http};

    #[tokio::test]
    async fn an_invocation_has_the_status_and_headers_of_lambda() {
        let function = function(1).await;
        let invoke = async |event: &str| {
            let head = "POST /2015-03-31/functions/any/invocations HTTP/1.1";
            String::from_utf8(http(function.address(), head, event.as_bytes()).await).unwrap()
        };

        let answer = invoke("{\"a\":1}").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n{\"a\":1}"), "{answer}");
        assert!(!answer.contains("x-amz-function-error"), "{answer}");

        let error = invoke("{\"fail\":1}").await;
        assert!(error.starts_with("HTTP/1.1 200 ") && error.contains("Test.Failed"), "{error}");
        assert!(error.contains("x-amz-function-error: Unhandled"), "{error}");
    }

    #[tokio::test]
    async fn a_body_is_passed_unchanged_and_a_failed_function_is_status_502() {
        let function = function(1).await;
        for body in [&b"text"[..], b"\x00\xff\r\n"] {
            let answer = http(function.address(), "POST /a HTTP/1.1", body).await;
            assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(&[b"\r\n\r\n", body].concat()));
        }
        assert!(http(function.address(), "POST /fail HTTP/1.1", b"x").await.starts_with(b"HTTP/1.1 502 "));
    }

    #[tokio::test]
    async fn posts_without_a_body_are_counted() {
        let function = function(1).await;
        for (head, body) in [("GET /", &b""[..]), ("POST /", b"x"), ("POST /", b"")] {
            http(function.address(), &format!("{head} HTTP/1.1"), body).await;
        }
        assert_eq!(*function.empty_posts().borrow(), 1);
    }
}
