use proptest::prelude::*;

use super::*;

#[test]
fn the_control_address_keeps_foreign_parameters() {
    for (text, control) in [
        ("http://localhost:5561", "http://localhost:5561"),
        ("http://localhost:5561/", "http://localhost:5561"),
        ("https://h/a/b/?iss=i&key=k&x=1&verify-key=v&y=a%2Bb+c", "https://h/a/b?x=1&y=a%2Bb+c"),
        ("http://user:pass@h:1/a", "http://h:1/a"),
        ("http://[::1]:5561/?key=k", "http://[::1]:5561"),
        ("http://h/?key=k&&x", "http://h?x"),
    ] {
        assert_eq!(GripUrl::parse(text).unwrap().control(), control);
    }
}

#[test]
fn a_plus_in_a_key_stays_a_plus() {
    let url = GripUrl::parse("http://h/?key=a+b/c%3D").unwrap();
    assert!(matches!(url.auth(), Auth::Bearer(token) if token == "a+b/c="));
    let url = GripUrl::parse("http://h/?iss=i&key=base64:+/+/&verify-key=base64:+/+/&verify-iss=p").unwrap();

    assert!(matches!(url.auth(), Auth::Jwt { issuer, .. } if issuer == "i"));
    assert_eq!(url.verify_key().unwrap().algorithm(), "HS256");
    assert_eq!(url.verify_issuer(), Some("p"));
}

#[test]
fn a_user_before_the_host_means_basic_authentication() {
    let url = GripUrl::parse("http://us%40er:pa:ss@h/").unwrap();
    assert!(matches!(url.auth(), Auth::Basic { user, password } if user == "us@er" && password == "pa:ss"));
    assert!(matches!(GripUrl::parse("http://h/?iss=i").unwrap().auth(), Auth::None));
}

#[test]
fn an_invalid_url_is_reported_without_its_keys() {
    let public = r#"{"kty":"EC","crv":"P-256","x":"CKo5A1ebyFcnmVV8SE5On-8G81JyBjSvcrx4VLetWCg","y":"7gwJqaU6N8TP88--twjkwoB36f-pT3QsmI46nPhjO7M"}"#;
    for (text, error) in [
        ("", InvalidUrl::Url),
        ("localhost:5561", InvalidUrl::Url),
        ("ftp://h/", InvalidUrl::Url),
        ("/publish", InvalidUrl::Url),
        ("http://h:/", InvalidUrl::Url),
        ("http://h/#part", InvalidUrl::Url),
        ("http://h/?x=a b", InvalidUrl::Url),
        ("http://user:%zz@h/", InvalidUrl::Encoding("the password")),
        ("http://h/?key=%zz", InvalidUrl::Encoding("key")),
        ("http://h/?key=%ff", InvalidUrl::Encoding("key")),
        ("http://h/?key=", InvalidUrl::Key("key", InvalidKey::Empty)),
        ("http://h/?iss=i&key=base64:*", InvalidUrl::Key("key", InvalidKey::Base64)),
        ("http://h/?verify-key=", InvalidUrl::Key("verify-key", InvalidKey::Empty)),
        (&format!("http://h/?iss=i&key={public}"), InvalidUrl::PublicKey),
    ] {
        assert_eq!(GripUrl::parse(text).unwrap_err(), error, "{text}");
    }

    let url = GripUrl::parse("http://me:hidden@h/?key=hidden&verify-key=hidden").unwrap();
    assert!(!format!("{url:?}").contains("hidden"));
}

proptest! {
    #[test]
    fn parsing_any_text_ends_without_a_panic(text in "(https?://)?.{0,60}(\\?((iss|key|verify-key|x)=.{0,20}&?){0,4})?") {
        if let Ok(url) = GripUrl::parse(&text) {
            prop_assert!(url.control().starts_with("http"));
            prop_assert!(!url.control().contains('@') || text.contains('/'));
        }
    }
}

#[test]
fn debug_names_the_authentication_without_its_secrets() {
    for (text, expected) in [
        ("http://h/", "Auth::None"),
        ("http://h/?key=hidden", "Auth::Bearer"),
        ("http://h/?iss=i&key=hidden", "Auth::Jwt"),
        ("http://me:hidden@h/", "Auth::Basic"),
    ] {
        assert_eq!(format!("{:?}", GripUrl::parse(text).unwrap().auth()), expected);
    }
}
