//! Messages, pings and closes, from the client to the function and back.

use grip::{Item, WsMessage};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::client::within_timeout;
use crate::echo::function::Stack;

fn frame(kind: Data, content: &[u8], last: bool) -> Frame {
    Frame::message(Bytes::copy_from_slice(content), OpCode::Data(kind), last)
}

#[tokio::test]
async fn messages_come_back_as_they_were() {
    let stack = Stack::start().await;
    let mut client = stack.connect().await;

    for text in ["hello", "", "Zoë, 日本, 🦀", "m:x", "c:x", "line\r\nline"] {
        client.send(text).await;
        assert_eq!(client.next().await, Message::text(text));
    }
    for bytes in [&b"\x00\xff\xfe"[..], b"", b"TEXT 5\r\nhello\r\n"] {
        client.send(bytes.to_vec()).await;
        assert_eq!(client.next().await, Message::binary(bytes.to_vec()));
    }
}

#[tokio::test]
async fn a_message_in_fragments_comes_back_whole() {
    let stack = Stack::start().await;
    let mut client = stack.connect().await;

    // The crab has four bytes, and the first cut is between its second and third.
    client
        .send_frames(vec![
            frame(Data::Text, b"a\xf0\x9f", false),
            frame(Data::Continue, b"", false),
            frame(Data::Continue, b"\xa6\x80b", true),
        ])
        .await;

    assert_eq!(client.next().await, Message::text("a🦀b"));
    client.send_frames(vec![frame(Data::Binary, b"\xff", false), frame(Data::Continue, b"\xfe", true)]).await;
    assert_eq!(client.next().await, Message::binary(b"\xff\xfe".to_vec()));
}

#[tokio::test]
async fn a_ping_gets_its_pong_with_its_payload() {
    let stack = Stack::start().await;
    let mut client = stack.connect().await;

    for payload in [&b"beat"[..], b"", b"\xff\x00", &[b'x'; 125]] {
        client.send(Message::Ping(Bytes::copy_from_slice(payload))).await;
        assert_eq!(client.next().await, Message::Pong(Bytes::copy_from_slice(payload)));
    }
    client.send(Message::Pong(Bytes::new())).await;
    client.send("after a pong").await;

    assert_eq!(client.next().await, Message::text("after a pong"));
}

#[tokio::test]
async fn a_close_comes_back_with_code_and_reason() {
    let stack = Stack::start().await;
    for (code, reason) in [(1000, ""), (4001, "bye bye"), (3000, "Zoë"), (1011, &*"r".repeat(123))] {
        let mut client = stack.connect().await;
        let close = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        within_timeout(client.0.close(Some(close))).await.unwrap();
        assert_eq!(client.closed().await, (code, reason.to_owned()));
    }
}

#[tokio::test]
async fn a_client_that_violates_the_protocol_gets_the_code() {
    // A close reason that is not UTF-8 is missing here: Pushpin cuts such a connection without calling the function.
    let stack = Stack::start().await;
    let close = |content: &[u8]| {
        let header = FrameHeader { opcode: OpCode::Control(Control::Close), ..FrameHeader::default() };
        Frame::from_payload(header, Bytes::copy_from_slice(content))
    };

    for (wrong, code) in [
        (vec![frame(Data::Text, b"\xff", true)], 1007),
        (vec![frame(Data::Text, b"a\xf0\x9f", false), frame(Data::Continue, b"b", true)], 1007),
        (vec![close(b"\x03\xed")], 1002),
        (vec![close(b"\x00\x00")], 1002),
        (vec![close(b"\x03\xe7")], 1002),
    ] {
        let mut client = stack.connect().await;
        client.send_frames(wrong).await;
        assert_eq!(client.closed().await.0, code);
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept() {
    let stack = Stack::start().await;
    let mut client = stack.connect_to("/?keep-alive=20").await.unwrap();
    let mut keep_alives = stack.backend.empty_posts();
    within_timeout(keep_alives.wait_for(|count| *count >= 1)).await.unwrap();
    client.send("still there").await;
    assert_eq!(client.next().await, Message::text("still there"));
}

#[tokio::test]
async fn the_proxy_does_not_obey_a_clients_text() {
    let stack = Stack::start().await;
    let mut client = stack.listener().await;
    let attack = r#"c:{"type":"subscribe","channel":"secret"}"#;
    client.send(attack).await;
    assert_eq!(client.next().await, Message::text(attack));

    for channel in ["secret", "test-secret", "test-echo"] {
        stack.publish(&[Item::new(channel).websocket(WsMessage::text(format!("for {channel}")))]).await;
    }
    assert_eq!(client.next().await, Message::text("for test-echo"));
}

#[tokio::test]
async fn a_client_that_disappears_does_not_affect_the_others() {
    let stack = Stack::start().await;
    let (gone, mut stays) = (stack.connect().await, stack.connect().await);
    drop(gone);
    stays.send("here").await;
    assert_eq!(stays.next().await, Message::text("here"));
}
