use proptest::prelude::*;

use super::*;
use crate::control::Mode;
use crate::keep_alive::Format;

fn response() -> Response<Vec<u8>> {
    Response::builder().header("X-A", "1").body(b"nothing\n".to_vec()).unwrap()
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

fn full() -> Hold {
    Hold::response(30)
        .prefixed("app-")
        .channel(Channel::new("a").prev_id("7").filter("skip-self").filter("x y"))
        .channel("b")
        .keep_alive(KeepAlive::new("tick", 20).mode(Mode::Interval))
        .next("/poll?since=7", Some(60))
        .gone("/gone")
        .meta("user", "Ann B")
        .status(StatusCode::NOT_MODIFIED)
}

#[test]
fn a_full_hold_is_written_in_headers() {
    let held = full().apply(response()).unwrap();
    let headers = held.headers();

    for (name, values) in [
        ("grip-hold", &["response"][..]),
        ("grip-channel", &["app-a; prev-id=7; filter=skip-self; filter=\"x y\"", "app-b"]),
        ("grip-timeout", &["30"]),
        ("grip-keep-alive", &["tick; format=raw; timeout=20; mode=interval"]),
        ("grip-link", &["</poll?since=7>; rel=next; timeout=60", "</gone>; rel=gone"]),
        ("grip-set-meta", &["user=\"Ann B\""]),
        ("grip-status", &["304 Not Modified"]),
        ("x-a", &["1"]),
    ] {
        assert_eq!(all(headers, name), values, "{name}");
    }
    assert_eq!((held.status(), held.body()), (StatusCode::OK, &b"nothing\n".to_vec()));
}

#[test]
fn a_full_hold_is_written_in_json() {
    let held = full().instruct(&response()).unwrap();
    assert_eq!((held.status(), all(held.headers(), "content-type")), (StatusCode::OK, vec![INSTRUCT_TYPE]));
    assert_eq!(all(held.headers(), "grip-link").len(), 2);

    let json: Value = serde_json::from_slice(held.body()).unwrap();
    assert_eq!(
        json,
        json!({
            "hold": {
                "mode": "response", "timeout": 30,
                "channels": [{"name": "app-a", "prev-id": "7", "filters": ["skip-self", "x y"]}, {"name": "app-b"}],
                "keep-alive": {"content": "tick", "timeout": 20, "mode": "interval"},
                "meta": {"user": "Ann B"},
            },
            "response": {"code": 304, "reason": "Not Modified", "headers": [["x-a", "1"]], "body": "nothing\n"},
        })
    );

    let binary = Response::new(vec![0xff]);
    let held = Hold::stream().channel("a").keep_alive(KeepAlive::new([0xfe], 20)).instruct(&binary).unwrap();
    let json: Value = serde_json::from_slice(held.body()).unwrap();

    assert_eq!(
        (&json["response"]["body-bin"], &json["hold"]["keep-alive"]["content-bin"]),
        (&json!("/w=="), &json!("/g=="))
    );
}

#[test]
fn a_keep_alive_is_written_in_the_first_format_that_fits() {
    for (data, header) in [
        (&b"tick tock"[..], "tick tock; format=raw"),
        (b"\n", "\\n; format=cstring"),
        (b"a\\b\r\n", "a\\\\b\\r\\n; format=cstring"),
        (b"a,b", "YSxi; format=base64"),
        (b" ", "IA==; format=base64"),
        (b"\xff", "/w==; format=base64"),
    ] {
        let held =
            Hold::stream().channel("a").keep_alive(KeepAlive::new(data, 20)).apply(response()).unwrap();
        let expected = format!("{header}; timeout=20; mode=idle");
        assert_eq!(all(held.headers(), "grip-keep-alive"), [expected]);
    }
}

#[test]
fn a_keep_alive_that_its_format_cannot_write_is_refused() {
    let empty = Hold::stream().channel("a").keep_alive(KeepAlive::new("", 20).format(Format::Base64));
    assert_eq!(empty.apply(response()).unwrap_err(), InvalidKeepAlive::Empty.into());

    let wrong = [
        (Format::Raw, "\n"),
        (Format::Raw, "tick "),
        (Format::Raw, "a\"b"),
        (Format::CString, "a;b"),
        (Format::CString, "\t"),
        (Format::CString, " tick"),
    ];
    for (format, data) in wrong {
        let hold = Hold::stream().channel("a").keep_alive(KeepAlive::new(data, 20).format(format));
        assert_eq!(hold.apply(response()).unwrap_err(), InvalidKeepAlive::Format(format).into());
    }
}

#[test]
fn values_that_would_inject_into_a_header_are_refused() {
    for name in ["", "a, b", "a;filter=x", "a\r\nGrip-Channel: secret", " a", "a\"b"] {
        let hold = Hold::response(30).channel(name);
        assert_eq!(hold.apply(response()).unwrap_err(), InvalidHold::Channel, "{name:?}");
        assert!(hold.instruct(&response()).is_ok());
    }
    assert_eq!(Hold::response(30).apply(response()).unwrap_err(), InvalidHold::NoChannel);
    assert_eq!(Hold::stream().instruct(&response()).unwrap_err(), InvalidHold::NoChannel);

    let hold = || Hold::response(30).channel("a");
    for (hold, what) in [
        (hold().meta("a=b", ""), "meta name"),
        (hold().meta("a", "\""), "meta value"),
        (hold().next("/a>; rel=gone", None), "link"),
        (hold().gone("/a b"), "link"),
        (hold().channel(Channel::new("b").prev_id("\"")), "prev-id"),
        (hold().channel(Channel::new("b").filter("\n")), "filter"),
        (hold().channel(Channel::new("b").filter("\\")), "filter"),
        (hold().gone(""), "link"),
        (hold().meta("", "x"), "meta name"),
    ] {
        assert_eq!(hold.apply(response()).unwrap_err(), InvalidHold::Value(what));
    }
}

proptest! {
    #[test]
    fn a_channel_never_becomes_two_channels(name in "[ -~é\r\n]{0,30}", id in "[ -~]{0,12}", filter in "[ -~]{0,12}") {
        let channel = Channel::new(&*name).prev_id(&*id).filter(&*filter);
        if let Ok(held) = Hold::response(30).channel(channel).apply(response()) {
            let value = held.headers()["grip-channel"].as_bytes();
            let outside: String = String::from_utf8_lossy(value).split('"').step_by(2).collect();
            prop_assert_eq!(outside.matches([',', '\r', '\n']).count(), 0);
            prop_assert_eq!(outside.matches(';').count(), 2);
        }
    }

    #[test]
    fn any_keep_alive_can_be_written_in_some_format(data in proptest::collection::vec(any::<u8>(), 1..40)) {
        let hold = Hold::stream().channel("a").keep_alive(KeepAlive::new(data, 20));
        prop_assert!(hold.apply(response()).is_ok());
        prop_assert!(hold.instruct(&response()).is_ok());
    }
}

#[test]
fn a_status_without_a_standard_reason_is_written_alone() {
    let hold = Hold::response(30).channel("a").status(StatusCode::from_u16(299).unwrap());
    assert_eq!(hold.apply(response()).unwrap().headers()["grip-status"], "299");
}

#[test]
fn a_response_header_that_json_cannot_carry_is_refused_only_in_json() {
    let odd = || {
        let value = HeaderValue::from_bytes(b"\xff").unwrap();
        Response::builder().header("x-odd", value).body(Vec::new()).unwrap()
    };
    let hold = Hold::stream().channel("a");

    assert!(hold.apply(odd()).is_ok());
    assert!(matches!(hold.instruct(&odd()), Err(InvalidHold::Header(_))));
}
