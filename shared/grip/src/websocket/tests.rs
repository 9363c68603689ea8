use proptest::prelude::*;

use super::*;
use crate::control::{Automatic, Mode};

fn request(body: &[u8]) -> Request<Vec<u8>> {
    Request::post("/")
        .header("Content-Type", CONTENT_TYPE)
        .header("Connection-Id", "c1")
        .header("Meta-User", "ann")
        .header("Sec-WebSocket-Protocol", "chat, superchat")
        .body(body.to_vec())
        .unwrap()
}

/// The response body of an echo.
fn echo(body: &[u8]) -> Vec<u8> {
    let request = request(body);
    let mut ws = WebSocket::read(&request).unwrap();
    ws.accept();
    while let Some(message) = ws.recv() {
        ws.send(message);
    }
    let response = ws.to_response();

    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/websocket-events");
    response.into_body()
}

#[test]
fn an_echo_answers_every_kind_of_event() {
    for (body, answer) in [
        (&b"OPEN\r\n"[..], &b"OPEN\r\n"[..]),
        (b"", b""),
        (b"TEXT 5\r\nhello\r\n", b"TEXT 7\r\nm:hello\r\n"),
        (b"TEXT\r\n", b"TEXT 2\r\nm:\r\n"),
        (b"BINARY 2\r\n\x00\xff\r\n", b"BINARY 4\r\nm:\x00\xff\r\n"),
        (b"PING 2\r\nhi\r\n", b"PONG 2\r\nhi\r\n"),
        (b"PING\r\n", b"PONG\r\n"),
        (b"PONG 2\r\nhi\r\n", b""),
        (
            b"TEXT 1\r\na\r\nPING 1\r\nb\r\nTEXT 1\r\nc\r\n",
            b"TEXT 3\r\nm:a\r\nPONG 1\r\nb\r\nTEXT 3\r\nm:c\r\n",
        ),
        (b"CLOSE 5\r\n\x0f\xa1bye\r\n", b"CLOSE 5\r\n\x0f\xa1bye\r\n"),
        (b"CLOSE\r\n", b"CLOSE\r\n"),
        (b"CLOSE 1\r\n\x03\r\n", b"CLOSE 2\r\n\x03\xea\r\n"),
        (b"CLOSE 2\r\n\x03\xed\r\n", b"CLOSE 2\r\n\x03\xea\r\n"),
        (b"CLOSE 3\r\n\x03\xe8\xff\r\n", b"CLOSE 2\r\n\x03\xef\r\n"),
        (b"TEXT 1\r\n\xff\r\nTEXT 1\r\na\r\n", b"CLOSE 2\r\n\x03\xef\r\n"),
        (b"DISCONNECT\r\n", b""),
        (b"TEXT 1\r\na\r\nDISCONNECT\r\n", b""),
    ] {
        assert_eq!(echo(body), answer, "{}", body.escape_ascii());
    }
}

#[test]
fn a_clients_text_is_never_a_control_message() {
    let attack = br#"c:{"type":"subscribe","channel":"secret"}"#;
    for (name, kind) in [("TEXT", "TEXT"), ("BINARY", "BINARY")] {
        let body = [format!("{name} {:x}\r\n", attack.len()).as_bytes(), attack, b"\r\n"].concat();
        let answer = echo(&body);
        assert!(answer.starts_with(format!("{kind} {:x}\r\nm:c:{{", attack.len() + 2).as_bytes()));
    }
}

#[test]
fn the_end_of_a_connection_is_reported_exactly_once() {
    let request = request(b"TEXT 1\r\na\r\nPING\r\nCLOSE 2\r\n\x03\xe8\r\nTEXT 1\r\nb\r\n");
    let mut ws = WebSocket::read(&request).unwrap();

    assert!(!ws.is_opening());
    assert!(ws.can_recv() && ws.can_recv());
    assert_eq!(ws.recv(), Some(Message::Text("a")));
    assert!(ws.can_recv() && ws.can_recv(), "the end has not been reported yet");
    assert_eq!(ws.recv(), None);
    assert_eq!(ws.end(), Some(End::Closed(Close { code: Some(1000), reason: "" })));
    assert!(!ws.can_recv());
    ws.close(4000, "late").unwrap();
    ws.send("late");

    assert_eq!(ws.to_response().body(), b"PONG\r\nCLOSE 2\r\n\x03\xe8\r\n");
}

#[test]
fn a_connection_is_accepted_or_refused() {
    let request = request(b"OPEN\r\n");
    let mut ws = WebSocket::read(&request).unwrap();

    assert!(ws.is_opening());
    assert_eq!((ws.id(), ws.meta("user"), ws.meta("other")), ("c1", Some("ann"), None));
    assert_eq!(ws.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    ws.send("welcome");
    ws.accept_protocol("chat").unwrap();
    ws.set_meta("room", "7").unwrap();
    ws.set_keep_alive_interval(30);

    assert_eq!(ws.set_meta("room", "7\r\nX: y"), Err(InvalidHeader));
    assert_eq!(ws.set_meta("a b", "7"), Err(InvalidHeader));
    let response = ws.to_response();
    assert_eq!(response.body(), b"OPEN\r\nTEXT 9\r\nm:welcome\r\n");
    for (name, value) in [
        ("sec-websocket-extensions", "grip"),
        ("sec-websocket-protocol", "chat"),
        ("set-meta-room", "7"),
        ("keep-alive-interval", "30"),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    assert_eq!(WebSocket::read(&request).unwrap().to_response().status(), 403);
}

#[test]
fn pings_and_closes_among_unread_messages_are_answered() {
    let request = request(b"TEXT 1\r\na\r\nPING 1\r\np\r\nBINARY 1\r\nb\r\nCLOSE\r\n");
    let ws = WebSocket::read(&request).unwrap();
    assert_eq!(ws.to_response().body(), b"PONG 1\r\np\r\nCLOSE\r\n");
}

#[test]
fn the_function_closes_with_code_and_reason() {
    let request = request(b"");
    let mut ws = WebSocket::read(&request).unwrap();

    assert_eq!(ws.close(1005, ""), Err(InvalidClose::Code(1005)));
    ws.close(4001, "bye").unwrap();
    assert_eq!(ws.end(), Some(End::ByUs));
    assert!(!ws.can_recv());
    assert_eq!(ws.to_response().body(), b"CLOSE 5\r\n\x0f\xa1bye\r\n");
}

#[test]
fn control_messages_are_sent_with_their_own_prefix() {
    let request = request(b"");
    let mut ws = WebSocket::read(&request).unwrap().prefixed("app-");
    ws.subscribe("a").unwrap();
    ws.unsubscribe("a").unwrap();
    ws.control(&Control::KeepAlive { message: Some(Automatic::Ping("")), timeout: 20, mode: Mode::Idle })
        .unwrap();

    assert_eq!(ws.subscribe(&"x".repeat(CONTROL_BYTES)), Err(ControlTooLarge(CONTROL_BYTES + 39)));
    let room = ws.room();
    let body = ws.to_response().into_body();

    assert_eq!(room, ANSWER_BYTES - body.len());
    let texts: Vec<Event<'_>> = Events::decode(&body).unwrap().collect();
    assert_eq!(
        texts,
        [
            Event::Text(br#"c:{"type":"subscribe","channel":"app-a"}"#),
            Event::Text(br#"c:{"type":"unsubscribe","channel":"app-a"}"#),
            Event::Text(
                br#"c:{"type":"keep-alive","content":"","message-type":"ping","timeout":20,"mode":"idle"}"#
            ),
        ]
    );
}

#[test]
fn requests_of_another_kind_are_refused() {
    let mut get = request(b"");
    *get.method_mut() = Method::GET;

    assert_eq!(WebSocket::read(&get).unwrap_err(), NotWebSocket::NotPost);
    let mut html = request(b"");
    html.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));

    assert_eq!(WebSocket::read(&html).unwrap_err(), NotWebSocket::ContentType);
    assert!(!WebSocket::is_claimed_by(&html));
    let mut anonymous = request(b"");
    anonymous.headers_mut().remove("connection-id");

    assert_eq!(WebSocket::read(&anonymous).unwrap_err(), NotWebSocket::NoConnectionId);
    let broken = request(b"TEXT -7\r\n");
    let response = WebSocket::read(&broken).unwrap_err().to_response();

    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.body(), b"Not a WebSocket-over-HTTP request\n");

    let mut spelled = request(b"");
    let kind = HeaderValue::from_static("Application/WebSocket-Events; charset=utf-8");
    spelled.headers_mut().insert("content-type", kind);

    assert!(WebSocket::read(&spelled).is_ok());
}

proptest! {
    #[test]
    fn no_text_of_a_client_leaves_an_echo_as_a_control_message(
        texts in proptest::collection::vec(proptest::string::string_regex("(m:|c:|C:)?\\{?.{0,30}").unwrap(), 0..8),
    ) {
        let mut body = Vec::new();
        for text in &texts {
            Event::Text(text.as_bytes()).encode(&mut body);
        }

        let answer = echo(&body);
        let answered: Vec<Event<'_>> = Events::decode(&answer).unwrap().collect();
        prop_assert_eq!(answered.len(), texts.len());
        for (event, text) in answered.iter().zip(&texts) {
            let expected = format!("m:{text}");
            prop_assert_eq!(*event, Event::Text(expected.as_bytes()));
        }
    }

    #[test]
    fn an_echo_of_any_bytes_is_well_formed_and_at_most_twice_as_long(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let request = request(&body);
        if let Ok(mut ws) = WebSocket::read(&request) {
            while ws.can_recv() {
                match ws.recv() {
                    Some(message) => ws.send(message),
                    None => break,
                }
            }
            let answer = ws.to_response().into_body();
            prop_assert!(Events::decode(&answer).is_ok());
            prop_assert!(answer.len() <= 2 * body.len() + 16);
        }
    }
}

#[test]
fn a_ping_is_cut_to_the_longest_payload() {
    let request = request(b"");
    let mut ws = WebSocket::read(&request).unwrap();
    ws.ping(&[b'p'; 126]);
    let body = ws.to_response().into_body();
    assert_eq!(Events::decode(&body).unwrap().collect::<Vec<_>>(), [Event::Ping(&[b'p'; 125])]);
}

#[test]
fn nothing_is_sent_after_the_end() {
    let request = request(b"CLOSE\r\n");
    let mut ws = WebSocket::read(&request).unwrap();

    assert_eq!(ws.recv(), None);
    ws.send("late");
    ws.send_binary(b"late");
    ws.ping(b"late");
    ws.subscribe("late").unwrap();

    assert_eq!(ws.to_response().body(), b"CLOSE\r\n");
}

#[test]
fn a_lost_connection_gets_an_empty_response() {
    let request = request(b"TEXT 1\r\na\r\nDISCONNECT\r\n");
    let mut ws = WebSocket::read(&request).unwrap();
    ws.send("never read");

    assert_eq!(ws.recv(), Some(Message::Text("a")));
    assert_eq!((ws.recv(), ws.end()), (None, Some(End::Disconnected)));
    assert_eq!(ws.to_response().body(), b"");
}

#[test]
fn only_the_first_request_of_a_connection_can_be_accepted() {
    let request = request(b"TEXT 1\r\na\r\n");
    let mut ws = WebSocket::read(&request).unwrap();
    ws.accept();
    let response = ws.to_response();

    assert_eq!((response.status(), response.body()), (StatusCode::OK, &Vec::new()));
    assert!(response.headers().get("sec-websocket-extensions").is_none());
}

#[test]
fn the_largest_control_message_is_accepted() {
    let request = request(b"");
    let mut ws = WebSocket::read(&request).unwrap();
    let overhead = r#"c:{"type":"unsubscribe","channel":""}"#.len();

    assert_eq!(ws.unsubscribe(&"x".repeat(CONTROL_BYTES - overhead)), Ok(()));
    assert_eq!(
        ws.unsubscribe(&"x".repeat(CONTROL_BYTES - overhead + 1)),
        Err(ControlTooLarge(CONTROL_BYTES + 1))
    );
}

#[test]
fn a_message_can_be_made_of_a_string_or_of_bytes() {
    assert_eq!(Message::from(&String::from("a")), Message::Text("a"));
    assert_eq!(Message::from(&b"a"[..]), Message::Binary(b"a"));
}
