use std::collections::VecDeque;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::event::{CONTENT_TYPE, Event};

fn request(body: &[u8], features: &str) -> Request<Vec<u8>> {
    Request::post("/")
        .header("Content-Type", CONTENT_TYPE)
        .header("Connection-Id", "c1")
        .header("Grip-Feature", features)
        .header("Content-Bytes-Replayed", "12")
        .body(body.to_vec())
        .unwrap()
}

/// Whether the rest is kept back after one message was read, and the response's header and body.
fn kept_after_one(body: &[u8], features: &str) -> (bool, Option<String>, Vec<u8>) {
    let request = request(body, features);
    let mut ws = WebSocket::read(&request).unwrap();
    ws.recv();
    let kept = ws.keep_back();
    if kept {
        assert!(!ws.can_recv() && ws.recv().is_none() && !ws.keep_back());
    }

    let response = ws.to_response();
    let accepted = response.headers().get("content-bytes-accepted");
    let accepted = accepted.map(|bytes| bytes.to_str().unwrap().to_owned());
    (kept, accepted, response.into_body())
}

#[test]
fn the_bytes_before_the_first_unread_message_are_accepted() {
    let kept = |body: &[u8], accepted: &str, answer: &[u8]| {
        let expected = (true, Some(accepted.to_owned()), answer.to_vec());
        assert_eq!(kept_after_one(body, "status, link:gone"), expected, "{}", body.escape_ascii());
    };

    kept(b"TEXT 3\r\none\r\nTEXT 3\r\ntwo\r\n", "3", b"");
    kept(b"TEXT 2\r\n\xc3\xab\r\nBINARY 1\r\n\xff\r\n", "2", b"");
    // Pings between the two are answered, and count. A ping after the second comes again with it.
    kept(b"TEXT 1\r\na\r\nPING 2\r\nhi\r\nPONG\r\nTEXT 1\r\nb\r\nPING\r\n", "3", b"PONG 2\r\nhi\r\n");
}

#[test]
fn what_a_proxy_could_not_send_again_is_not_kept_back() {
    for body in [
        // Nothing is unread.
        &b""[..],
        b"TEXT 1\r\na\r\n",
        b"TEXT 1\r\na\r\nCLOSE\r\n",
        b"TEXT 1\r\na\r\nPING 2\r\nhi\r\n",
        b"TEXT 1\r\na\r\nTEXT 1\r\nb\r\nCLOSE\r\n",
        b"TEXT 1\r\na\r\nTEXT 1\r\nb\r\nDISCONNECT\r\n",
        // The next message is empty.
        b"TEXT 1\r\na\r\nTEXT\r\nTEXT 1\r\nb\r\n",
        b"TEXT 1\r\na\r\nBINARY 0\r\n\r\n",
        // No byte has been read.
        b"TEXT\r\nTEXT 1\r\nb\r\n",
    ] {
        let (kept, accepted, _) = kept_after_one(body, "link:gone");
        assert_eq!((kept, accepted), (false, None), "{}", body.escape_ascii());
    }

    for features in ["", "status", "link:next, xlink:gone", "link:gone2"] {
        let body = b"TEXT 1\r\na\r\nTEXT 1\r\nb\r\n";
        assert_eq!(kept_after_one(body, features), (false, None, Vec::new()), "{features}");
    }
}

#[test]
fn the_replayed_bytes_are_those_that_the_proxy_names() {
    let mut request = request(b"", "");
    assert_eq!(WebSocket::read(&request).unwrap().replayed(), 12);

    for wrong in ["", "-1", "x"] {
        request.headers_mut().insert("content-bytes-replayed", wrong.parse().unwrap());
        assert_eq!(WebSocket::read(&request).unwrap().replayed(), 0);
    }
}

/// Removes accepted bytes from what waits, as Pushpin does: with them go empty events that follow them.
fn remove(waiting: &mut VecDeque<Vec<u8>>, mut accepted: usize) {
    while let Some(first) = waiting.front_mut() {
        let size = accepted.min(first.len());
        accepted -= size;
        if size < first.len() {
            first.drain(..size);
            break;
        }
        waiting.pop_front();
    }
    assert_eq!(accepted, 0);
}

/// One request with everything that waits. The function reads `limit` messages, and keeps back the rest if it can.
fn exchange(waiting: &mut VecDeque<Vec<u8>>, limit: usize, seen: &mut Vec<Vec<u8>>) {
    let mut body = Vec::new();
    for content in &*waiting {
        Event::Binary(content).encode(&mut body);
    }
    let request = request(&body, "link:gone");

    let mut ws = WebSocket::read(&request).unwrap();
    let mut read = 0;
    while read < limit || !ws.keep_back() {
        let Some(Message::Binary(content)) = ws.recv() else { break };
        seen.push(content.to_vec());
        read += 1;
    }

    let offered = waiting.iter().map(Vec::len).sum();
    let accepted = ws.to_response().headers().get("content-bytes-accepted").cloned();
    remove(waiting, accepted.map_or(offered, |bytes| bytes.to_str().unwrap().parse().unwrap()));
}

proptest! {
    #[test]
    fn every_message_is_seen_once_and_in_order_however_many_are_kept_back(
        arriving in proptest::collection::vec((proptest::collection::vec(0_usize..4, 0..6), 0_usize..5), 0..12),
    ) {
        let (mut waiting, mut sent, mut seen) = (VecDeque::new(), Vec::new(), Vec::new());
        for (sizes, limit) in arriving {
            for size in sizes {
                let content = vec![u8::try_from(sent.len()).unwrap(); size];
                waiting.push_back(content.clone());
                sent.push(content);
            }
            exchange(&mut waiting, limit, &mut seen);
        }

        exchange(&mut waiting, usize::MAX, &mut seen);
        prop_assert_eq!(seen, sent);
    }
}
