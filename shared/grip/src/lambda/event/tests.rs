use http::Response;
use http::header::HeaderName;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(event: &Value) -> Result<(Request<Vec<u8>>, Reply), InvalidEvent> {
    Event::parse(&event.to_string())?.into_request()
}

fn answer(reply: Reply, body: &[u8]) -> Value {
    let response = Response::builder()
        .status(201)
        .header("Grip-Channel", "a")
        .header("Grip-Channel", "b")
        .header("Set-Cookie", "x=1")
        .header("Set-Cookie", "y=2")
        .header("X-Odd", HeaderValue::from_bytes(b"\xff").unwrap())
        .body(body.to_vec())
        .unwrap();
    serde_json::to_value(reply.response(response)).unwrap()
}

#[test]
fn an_event_of_a_rest_api_becomes_a_request() {
    let event = json!({
        "resource": "/{proxy+}", "path": "/a b/c", "httpMethod": "POST",
        "headers": {"X-A": "last", "Content-Type": "application/websocket-events"},
        "multiValueHeaders": {"X-A": ["first", "last"], "Content-Type": ["application/websocket-events"]},
        "queryStringParameters": {"q": "2"},
        "multiValueQueryStringParameters": {"q": ["1&", "2"]},
        "pathParameters": null, "stageVariables": null,
        "requestContext": {"stage": "prod", "httpMethod": "POST", "identity": {"sourceIp": "1.2.3.4"}},
        "body": "UElORw0K", "isBase64Encoded": true,
    });
    let (request, reply) = read(&event).unwrap();

    assert_eq!((request.method(), request.uri()), (&Method::POST, &Uri::from_static("/a%20b/c?q=1%26&q=2")));
    assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
    assert_eq!(request.body(), b"PING\r\n");
    assert_eq!(reply, Reply::Rest);

    let answer = answer(reply, b"hi");
    assert_eq!(
        answer,
        json!({"statusCode": 201, "headers": {}, "isBase64Encoded": false, "body": "hi",
            "multiValueHeaders": {"grip-channel": ["a", "b"], "set-cookie": ["x=1", "y=2"]}})
    );
}

#[test]
fn an_event_of_an_http_api_or_function_url_becomes_a_request() {
    let event = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/prod/poll", "rawQueryString": "a=1&b=%2F",
        "cookies": ["x=1", "y=2"], "headers": {"x-a": "1,2"}, "httpMethod": "GET",
        "requestContext": {"stage": "prod", "http": {"method": "PUT", "path": "/prod/poll"}, "authentication": null},
        "isBase64Encoded": false,
    });
    let (request, reply) = read(&event).unwrap();

    assert_eq!((request.method(), request.uri()), (&Method::PUT, &Uri::from_static("/poll?a=1&b=%2F")));
    assert_eq!(request.headers()["cookie"], "x=1; y=2");
    assert!(request.body().is_empty());
    assert_eq!(reply, Reply::Http);

    let answer = answer(reply, b"\xff");
    assert_eq!(
        answer,
        json!({"statusCode": 201, "headers": {"grip-channel": "a, b"}, "multiValueHeaders": {},
            "cookies": ["x=1", "y=2"], "isBase64Encoded": true, "body": "/w=="})
    );
}

#[test]
fn an_event_of_a_load_balancer_becomes_a_request_with_and_without_multi_value_headers() {
    let mut event = json!({
        "requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "GET", "path": "/",
        "queryStringParameters": {"q": "a%20b"}, "headers": {"x-a": "1"}, "body": "", "isBase64Encoded": false,
    });
    let (request, reply) = read(&event).unwrap();

    assert_eq!(request.uri(), "/?q=a%20b");
    assert_eq!(reply, Reply::Alb { multi_value: false });
    let single = answer(reply, b"");
    assert_eq!(
        (&single["statusDescription"], &single["headers"]),
        (&json!("201 Created"), &json!({"grip-channel": "a, b", "set-cookie": "y=2"}))
    );
    event["multiValueHeaders"] = json!({"x-a": ["1", "2"]});
    event["headers"].take();
    let (request, reply) = read(&event).unwrap();

    assert_eq!(request.headers().get_all("x-a").iter().count(), 2);
    assert_eq!(reply, Reply::Alb { multi_value: true });
    assert_eq!(answer(reply, b"")["multiValueHeaders"]["grip-channel"], json!(["a", "b"]));
}

#[test]
fn the_smallest_events_are_accepted() {
    let (request, reply) = read(&json!({"httpMethod": "POST", "headers": null, "body": null})).unwrap();
    assert_eq!((request.uri().path(), request.headers().len(), reply), ("/", 0, Reply::Rest));
    let (request, reply) = read(&json!({"requestContext": {"http": {"method": "POST"}}})).unwrap();
    assert_eq!((request.method(), reply), (&Method::POST, Reply::Http));
}

#[test]
fn invalid_headers_are_left_out_and_the_rest_is_kept() {
    let event =
        json!({"httpMethod": "GET", "headers": {"a b": "1", "X-Bad": "a\r\nb", "X-Name": "Zoë", "": "1"}});
    let (request, _) = read(&event).unwrap();
    let headers: Vec<(&HeaderName, &[u8])> =
        request.headers().iter().map(|(name, value)| (name, value.as_bytes())).collect();

    assert_eq!(headers, [(&HeaderName::from_static("x-name"), "Zoë".as_bytes())]);
    let many: serde_json::Map<_, _> = (0..40_000).map(|n| (format!("h{n}"), json!("v"))).collect();
    assert!(read(&json!({"httpMethod": "GET", "headers": many})).is_ok());
}

#[test]
fn an_event_that_is_not_a_request_is_reported_without_its_content() {
    for (event, error) in [
        (json!({}), InvalidEvent::NotHttp),
        (json!({"Records": []}), InvalidEvent::NotHttp),
        (json!({"version": "2.0", "httpMethod": "GET"}), InvalidEvent::NotHttp),
        (json!({"httpMethod": "G T"}), InvalidEvent::NotHttp),
        (json!({"httpMethod": "POST", "body": "*", "isBase64Encoded": true}), InvalidEvent::Base64),
    ] {
        assert_eq!(read(&event).unwrap_err(), error, "{event}");
    }

    let error = Event::parse(r#"{"body": {"hidden": 1}}"#).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("line 1, column 9") && !error.contains("hidden"), "{error}");
    assert!(Event::parse("[1").is_err());
}

#[test]
fn the_stage_of_an_http_api_is_removed_only_where_it_is_a_whole_segment() {
    for (path, stage, expected) in [
        ("/prod", "prod", "/"),
        ("/prod/a", "prod", "/a"),
        ("/production", "prod", "/production"),
        ("/$default/a", "$default", "/$default/a"),
        ("a", "prod", "/a"),
    ] {
        let event = json!({"version": "2.0", "rawPath": path,
            "requestContext": {"stage": stage, "http": {"method": "GET"}}});
        assert_eq!(read(&event).unwrap().0.uri().path(), expected, "{path}");
    }
}

proptest! {
    #[test]
    fn reading_any_text_ends_without_a_panic(
        path in ".{0,20}", query in ".{0,20}", name in ".{0,10}", value in ".{0,10}", body in ".{0,20}",
        base64: bool, version in "(1.0|2.0|)", stage in ".{0,4}", method in "[A-Z]{0,5}.?",
    ) {
        let event = json!({
            "version": version, "httpMethod": method, "path": path, "rawQueryString": query,
            "headers": {name.clone(): value}, "cookies": [value], "queryStringParameters": {name: value},
            "requestContext": {"stage": stage, "http": {"method": method}}, "body": body, "isBase64Encoded": base64,
        });
        if let Ok((request, reply)) = read(&event) {
            let response = reply.response(Response::new(request.into_body()));
            prop_assert!(serde_json::to_string(&response).is_ok());
        }
    }

    #[test]
    fn a_body_survives_the_way_in_and_out(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for event in [
            json!({"httpMethod": "POST", "body": BASE64.encode(&body), "isBase64Encoded": true}),
            json!({"version": "2.0", "requestContext": {"http": {"method": "POST"}}, "body": BASE64.encode(&body), "isBase64Encoded": true}),
        ] {
            let (request, reply) = read(&event).unwrap();
            prop_assert_eq!(request.body(), &body);
            let answer = serde_json::to_value(reply.response(Response::new(request.into_body()))).unwrap();
            let text = answer["body"].as_str().unwrap();
            let back = if answer["isBase64Encoded"] == json!(true) {
                BASE64.decode(text).unwrap()
            } else {
                text.as_bytes().to_vec()
            };
            prop_assert_eq!(&back, &body);
        }
    }
}
