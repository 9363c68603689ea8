//! What is published, and who hears it.

use postern_pushpin::get;
use tokio_tungstenite::tungstenite::Message;

use crate::echo::stack::{Stack, soon};

#[tokio::test]
async fn a_publication_reaches_every_kind_of_listener() {
    let stack = Stack::start().await;
    let mut client = stack.listener().await;
    let mut stream = stack.get("/stream").await;
    assert_eq!(soon(stream.until("opened\n")).await.unwrap(), "opened\n");
    assert!(stream.headers.keys().all(|name| !name.as_str().starts_with("grip-")));
    // Neither says when it listens: publish until both have heard.
    let polled = tokio::spawn(get(stack.pushpin.clients(), "/poll"));
    let streamed = tokio::spawn(async move {
        let text = stream.until("news").await;
        (text, stream)
    });
    while !polled.is_finished() || !streamed.is_finished() {
        stack.publish("news").await;
        assert_eq!(client.next().await, Message::text("news"));
    }
    let polled = polled.await.unwrap().unwrap();
    assert_eq!((polled.status.as_u16(), &*polled.text().await.unwrap()), (200, "news"));
    let (text, mut stream) = streamed.await.unwrap();
    assert!(text.unwrap().starts_with("opened\nnews"));
    stack.publish("Zoë").await;
    assert_eq!(client.next().await, Message::text("Zoë"));
    assert!(soon(stream.until("Zoë")).await.is_ok());
}
