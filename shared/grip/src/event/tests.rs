use proptest::prelude::*;

use super::*;

fn all(body: &[u8]) -> Vec<Event<'_>> {
    Events::decode(body).unwrap().collect()
}

#[test]
fn every_event_is_decoded() {
    let body =
        b"OPEN\r\nTEXT A\r\n0123456789\r\nBINARY 00\r\n\r\nPING\r\nPONG 1\r\nx\r\nCLOSE 2\r\n\x03\xe8\r\n\
        FUTURE 3\r\n\r\n\r\r\nDISCONNECT\r\n";

    assert_eq!(
        all(body),
        [
            Event::Open,
            Event::Text(b"0123456789"),
            Event::Binary(b""),
            Event::Ping(b""),
            Event::Pong(b"x"),
            Event::Close(b"\x03\xe8"),
            Event::Disconnect,
        ]
    );
    assert_eq!(all(b""), []);
    assert_eq!(all(b"OPEN 0\r\n\r\nTEXT\r\n"), [Event::Open, Event::Text(b"")]);
    assert_eq!(all(b"OPEN 2\r\nno\r\nDISCONNECT 2\r\nno\r\n"), [Event::Open, Event::Disconnect]);
}

#[test]
fn encoding_reserves_exactly_the_bytes_of_the_event() {
    for size in [0, 1, 15, 16, 100, 70_000] {
        let content = vec![0; size];
        let mut body = Vec::new();
        Event::Text(&content).encode(&mut body);

        let mut out = Vec::with_capacity(body.len());
        let room = out.capacity();
        Event::Text(&content).encode(&mut out);
        assert_eq!(out.capacity(), room, "{size} bytes");
    }
}

#[test]
fn each_problem_is_reported_with_its_offset() {
    for (body, at, problem) in [
        (&b"\r\n"[..], 0, Problem::Name),
        (b"text 1\r\nx\r\n", 0, Problem::Name),
        (b"TEXT 1\r\nx\r\n1", 11, Problem::Name),
        (&[b'A'; 33], 0, Problem::Name),
        (b"TEXT -7\r\n", 5, Problem::Size),
        (b"TEXT +7\r\n1234567\r\n", 5, Problem::Size),
        (b"TEXT 0x1\r\nx\r\n", 6, Problem::LineEnd),
        (b"TEXT \r\n", 5, Problem::Size),
        (b"TEXT  1\r\nx\r\n", 5, Problem::Size),
        (b"TEXT 10000000000000000\r\n", 5, Problem::Size),
        (b"TEXT 00000000000000001\r\nx\r\n", 5, Problem::Size),
        (b"TEXT ffffffffffffffff\r\n", 23, Problem::Truncated),
        (b"TEXT 1\nx\n", 6, Problem::LineEnd),
        (b"TEXT 1 \r\nx\r\n", 6, Problem::LineEnd),
        (b"TEXT 5\r\nhell", 8, Problem::Truncated),
        (b"TEXT 5\r\nhello", 13, Problem::LineEnd),
        (b"TEXT 5\r\nhello\n", 13, Problem::LineEnd),
        (b"TEXT", 4, Problem::LineEnd),
        (b"OPEN\n", 4, Problem::LineEnd),
    ] {
        let error = Events::decode(body).unwrap_err();
        assert_eq!(error, InvalidBody { at, problem }, "{}", body.escape_ascii());
    }
}

fn event() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (0..7_u8, proptest::collection::vec(any::<u8>(), 0..300))
}

fn of((kind, content): &(u8, Vec<u8>)) -> Event<'_> {
    match kind {
        0 => Event::Open,
        1 => Event::Text(content),
        2 => Event::Binary(content),
        3 => Event::Ping(content),
        4 => Event::Pong(content),
        5 => Event::Close(content),
        _ => Event::Disconnect,
    }
}

proptest! {
    #[test]
    fn decoding_reverses_encoding(events in proptest::collection::vec(event(), 0..20)) {
        let events: Vec<_> = events.iter().map(of).collect();
        let mut body = Vec::new();
        for event in &events {
            event.encode(&mut body);
        }
        prop_assert_eq!(all(&body), events);
    }

    #[test]
    fn a_truncated_body_is_refused_or_has_fewer_events(events in proptest::collection::vec(event(), 1..5), cut in 1..400_usize) {
        let mut body = Vec::new();
        for event in &events {
            of(event).encode(&mut body);
        }

        body.truncate(body.len().saturating_sub(cut));
        if let Ok(decoded) = Events::decode(&body) {
            prop_assert!(decoded.count() < events.len());
        }
    }

    #[test]
    fn decoding_any_bytes_ends_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..500)) {
        if let Ok(events) = Events::decode(&body) {
            prop_assert!(events.count() <= body.len());
        }
    }

    #[test]
    fn decoding_a_near_miss_ends_without_a_panic(body in "((OPEN|TEXT|BINARY|PING|X)( ?-?[0-9a-fA-F]{0,17})(\r\n|\n|\r)(.{0,6}\r?\n)?){0,8}") {
        if let Ok(events) = Events::decode(body.as_bytes()) {
            prop_assert!(events.count() <= body.len());
        }
    }
}
