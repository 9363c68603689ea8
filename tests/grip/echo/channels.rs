//! Publications through the function, and which listeners receive them.

use postern_pushpin::get;
use tokio_tungstenite::tungstenite::Message;

use crate::client::within_timeout;
use crate::echo::function::Stack;

#[tokio::test]
async fn a_publication_reaches_every_kind_of_listener() {
    let stack = Stack::start().await;
    let mut client = stack.listener().await;
    let mut stream = stack.get("/stream").await;
    assert_eq!(within_timeout(stream.until("opened\n")).await.unwrap(), "opened\n");
    assert!(stream.headers.keys().all(|name| !name.as_str().starts_with("grip-")));

    // Neither the poll nor the stream shows when it listens: publish until both have received something.
    let polled = tokio::spawn(get(stack.pushpin.clients(), "/poll"));
    let streamed = tokio::spawn(async move {
        let text = stream.until("news").await;
        (text, stream)
    });
    while !polled.is_finished() || !streamed.is_finished() {
        stack.publish_text("news").await;
        assert_eq!(client.next().await, Message::text("news"));
    }

    let polled = polled.await.unwrap().unwrap();
    assert_eq!((polled.status.as_u16(), &*polled.text().await.unwrap()), (200, "news"));
    let (text, mut stream) = streamed.await.unwrap();
    assert!(text.unwrap().starts_with("opened\nnews"));

    stack.publish_text("Zoë").await;
    assert_eq!(client.next().await, Message::text("Zoë"));
    assert!(within_timeout(stream.until("Zoë")).await.is_ok());
}
