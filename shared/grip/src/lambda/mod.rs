//! AWS Lambda's HTTP events, in and out (feature `lambda`).
//!
//! One function serves all of them, whichever way it is called: API Gateway REST APIs (and HTTP APIs with
//! payload format 1.0), HTTP APIs and function URLs (2.0), and application load balancers, with single or
//! multi-value headers, base64 or not.
//!
//! ```
//! use grip::lambda::Event;
//!
//! # fn handle(request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> { http::Response::new(request.into_body()) }
//! let event = r#"{"version":"2.0","rawPath":"/","rawQueryString":"","headers":{"host":"h"},
//!     "requestContext":{"stage":"$default","http":{"method":"POST","path":"/"}},
//!     "body":"aGk=","isBase64Encoded":true}"#;
//! let (request, reply) = Event::parse(event)?.into_request()?;
//! let response = reply.response(handle(request));
//! assert_eq!(serde_json::to_value(response).unwrap()["body"], "hi");
//! # Ok::<_, grip::lambda::InvalidEvent>(())
//! ```
//!
//! Answers are made of the types of `aws_lambda_events`. Events are not read into them, because they take
//! less than what is sent, and copy it: one header with a name that HTTP does not allow makes them refuse the
//! whole event; more than 24,576 headers make them panic; `requestContext` must be complete, which it is not in
//! the events that people write for tests; the method of a 2.0 event defaults to `GET`; and four types have to be
//! told apart first. [`Event`] borrows from the text and reads what matters here.
//!
//! A body goes out as text where it is UTF-8, so that it arrives even from a REST API without binary media
//! types, and as base64 where it is not. For *incoming* binary messages a REST API needs
//! `application/websocket-events` (or `*/*`) among its binary media types; the others need nothing.

mod event;
mod fields;
mod reply;

pub use event::{Event, InvalidEvent};
pub use reply::{LambdaResponse, Reply};
