//! Held responses: keep-alives, statuses, filters and links.

use grip::{Channel, Format, Hold, HttpStream, Item, KeepAlive, Mode};
use http::{Response, StatusCode};

use crate::client::within_timeout;
use crate::library::function::Stack;

fn first() -> Response<Vec<u8>> {
    Response::builder().header("x-kept", "1").body(b"first\n".to_vec()).unwrap()
}

#[tokio::test]
async fn keep_alives_of_every_format_arrive() {
    let stack = Stack::start(|request| {
        let (data, format) = match request.uri().path() {
            "/raw" => ("tick tock", Format::Raw),
            "/cstring" => ("\\ tick\r\n", Format::CString),
            _ => ("a,b;\"c\"\n", Format::Base64),
        };
        let mode = if request.uri().query() == Some("interval") { Mode::Interval } else { Mode::Idle };
        let hold = Hold::stream().channel("lines");
        let hold = hold.keep_alive(KeepAlive::new(data, 1).mode(mode).format(format));
        if request.uri().path() == "/json" { hold.instruct(&first()) } else { hold.apply(first()) }.unwrap()
    })
    .await;
    let mut held = Vec::new();

    for (path, data) in [
        ("/raw", "tick tock"),
        ("/cstring?interval", "\\ tick\r\n"),
        ("/base64", "a,b;\"c\"\n"),
        ("/json?interval", "a,b;\"c\"\n"),
    ] {
        held.push((path, data, stack.get(path).await));
    }
    for (path, data, mut answer) in held {
        assert_eq!(answer.headers["x-kept"], "1");
        let expected = format!("first\n{data}{data}");
        assert!(
            within_timeout(answer.until(&format!("{data}{data}"))).await.unwrap().starts_with(&expected),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_poll_without_news_ends_with_the_given_status() {
    let stack = Stack::start(|request| {
        let hold = Hold::response(5).channel("never").status(StatusCode::ACCEPTED);
        match request.uri().path() {
            "/json" => hold.instruct(&first()).unwrap(),
            _ => hold.apply(first()).unwrap(),
        }
    })
    .await;
    let (json, headers) = tokio::join!(stack.get("/json"), stack.get("/"));

    for answer in [json, headers] {
        assert_eq!((answer.status, answer.headers["x-kept"].to_str().unwrap()), (StatusCode::ACCEPTED, "1"));
        assert_eq!(within_timeout(answer.text()).await.unwrap(), "first\n");
    }
}

#[tokio::test]
async fn filters_read_the_values_attached_to_a_hold() {
    let stack = Stack::start(|request| {
        let news = Channel::new("news").filter("skip-self").filter("var-subst");
        let hold = Hold::stream().meta("user", "Ann B").channel(news);
        match request.uri().path() {
            "/json" => hold.instruct(&first()).unwrap(),
            _ => hold.apply(first()).unwrap(),
        }
    })
    .await;
    let item = |text: &str, sender| Item::new("news").meta("sender", sender).stream(HttpStream::text(text));

    for path in ["/", "/json"] {
        let mut answer = stack.get(path).await;
        let items = [item("hers\n", "Ann B"), item("his, for %(user)s\n", "Al")];
        let text = stack.publish_until(&items, answer.until("Ann B\n")).await.unwrap();
        assert!(text.starts_with("first\nhis, for Ann B\n"), "{path}: {text}");
    }
}

#[tokio::test]
async fn a_stream_continues_at_the_address_of_its_link() {
    let stack = Stack::start(|request| match request.uri().path() {
        "/" => Hold::stream().channel("lines").next("/two", Some(1)).apply(first()).unwrap(),
        "/two" => {
            let hold = Hold::stream().channel("lines").next("/three", Some(1));
            hold.apply(Response::new(b"two\n".to_vec())).unwrap()
        }
        _ => Response::new(b"three\n".to_vec()),
    })
    .await;
    assert_eq!(within_timeout(stack.get("/").await.text()).await.unwrap(), "first\ntwo\nthree\n");
}
