//! HTTP events of AWS Lambda (feature `lambda`): reads an event into a request, and writes a response for it.
//!
//! The same function serves every service that makes HTTP events: API Gateway REST APIs, HTTP APIs with payload format
//! 1.0 or 2.0, function URLs, and application load balancers with single-value or multi-value headers.
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
//! # Bodies
//!
//! A body that is UTF-8 is returned as text, so that it arrives even from a REST API without binary media types. Any
//! other body is returned in base64. For *incoming* binary messages a REST API needs `application/websocket-events` (or
//! `*/*`) among its binary media types. The other services need no configuration.
//!
//! # Why events are not read with `aws_lambda_events`
//!
//! Responses are written with the types of `aws_lambda_events`. Its event types are not used, for these reasons:
//!
//! - One header with a name that HTTP does not allow makes them refuse the whole event, and more than 24,576 headers make
//!   them panic.
//! - They require a complete `requestContext`, which events written for tests rarely have.
//! - The method of an event in format 2.0 defaults to `GET` if it is missing.
//! - They copy the body, and the caller must find out first which of the four types to use.
//!
//! [`Event`] borrows from the event's text and reads only the members that an HTTP request needs.

mod event;
mod fields;
mod reply;

pub use event::{Event, InvalidEvent};
pub use reply::{LambdaResponse, Reply};
