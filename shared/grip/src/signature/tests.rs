use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::header::HeaderValue;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::*;
use crate::key::InvalidKey;
use crate::token::TOKEN_CHARS;

/// A public key in two forms, and a token of its private key that expires in 2100.
const RSA_PEM: &str = include_str!("../../testdata/rs256.pem");
const RSA_PKCS1: &str = include_str!("../../testdata/rs256.pkcs1.pem");
const RSA_TOKEN: &str = include_str!("../../testdata/rs256.jwt");

const NOW: u64 = 1_700_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secret() -> Key {
    Key::parse("changeme").unwrap()
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grip-sig", HeaderValue::from_str(token).unwrap());
    headers
}

/// A token with any header and claims, signed with the secret.
fn signed(header: &str, claims: &str) -> String {
    let body = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
    let signature = BASE64URL.encode(secret().sign(body.as_bytes()).unwrap());
    format!("{body}.{signature}")
}

fn check(verifier: &Verifier, token: &str) -> Result<Origin, NotSigned> {
    verifier.check_at(&headers(token), at(NOW))
}

fn refused(token: &str) -> InvalidSignature {
    let verifier = Verifier::new(secret()).issuer("pushpin");
    match check(&verifier, token) {
        Ok(Origin::Unknown(Some(error))) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_of_the_secret_proves_the_proxy() {
    let token = token(&secret(), Some("pushpin"), Duration::from_mins(1), at(NOW)).unwrap();
    let verifier = Verifier::new(secret()).issuer("pushpin").required();

    assert_eq!(check(&verifier, &token), Ok(Origin::Proxy));
    assert_eq!(verifier.check_at(&headers(&token), at(NOW + 59)), Ok(Origin::Proxy));
    assert_eq!(verifier.check_at(&headers(&token), at(NOW + 60)), Err(InvalidSignature::Expired.into()));

    let other = Verifier::new(Key::parse("changeme2").unwrap()).required();
    assert_eq!(check(&other, &token), Err(InvalidSignature::Signature.into()));
    let other = Verifier::new(secret()).issuer("other").required();
    assert_eq!(check(&other, &token), Err(InvalidSignature::Issuer.into()));
}

#[test]
fn every_claim_is_checked() {
    let header = r#"{"alg":"HS256"}"#;
    let fine = r#"{"iss":"pushpin","exp":1700000001,"nbf":1699999999.5}"#;

    assert_eq!(check(&Verifier::new(secret()), &signed(header, fine)), Ok(Origin::Proxy));
    for (claims, error) in [
        (r#"{"iss":"pushpin"}"#, InvalidSignature::Expired),
        (r#"{"iss":"pushpin","exp":null}"#, InvalidSignature::Expired),
        (r#"{"iss":"pushpin","exp":1700000000}"#, InvalidSignature::Expired),
        (r#"{"iss":"pushpin","exp":"4000000000"}"#, InvalidSignature::Malformed),
        (r#"{"iss":"pushpin","exp":4000000000,"exp":4000000001}"#, InvalidSignature::Malformed),
        (r#"{"iss":"pushpin","exp":1e999}"#, InvalidSignature::Malformed),
        (r#"{"iss":"pushpin","exp":4e9,"nbf":1700000001}"#, InvalidSignature::NotYet),
        (r#"{"iss":"pushpin","exp":4e9,"nbf":"x"}"#, InvalidSignature::Malformed),
        (r#"{"iss":"fanout","exp":4e9}"#, InvalidSignature::Issuer),
        (r#"{"exp":4e9}"#, InvalidSignature::Issuer),
        (r#"["pushpin"]"#, InvalidSignature::Malformed),
    ] {
        assert_eq!(refused(&signed(header, claims)), error, "{claims}");
    }
}

#[test]
fn the_key_chooses_the_algorithm() {
    let claims = r#"{"iss":"pushpin","exp":4e9}"#;
    for alg in ["none", "HS384", "HS512", "RS256", "ES256", "hs256", ""] {
        let token = signed(&format!(r#"{{"alg":"{alg}"}}"#), claims);
        assert_eq!(refused(&token), InvalidSignature::Algorithm, "{alg}");
    }
    let critical = signed(r#"{"alg":"HS256","crit":["x"]}"#, claims);
    assert_eq!(refused(&critical), InvalidSignature::Algorithm);
    assert_eq!(refused(&signed("{}", claims)), InvalidSignature::Malformed);
    let whole = signed(r#"{"alg":"HS256"}"#, claims);
    let (unsigned, _) = whole.rsplit_once('.').unwrap();
    assert_eq!(refused(&format!("{unsigned}.")), InvalidSignature::Signature);

    // The public key's text used as a secret: a verifier that lets the token choose the algorithm accepts it.
    let body = format!("{}.{}", BASE64URL.encode(r#"{"alg":"HS256"}"#), BASE64URL.encode(claims));
    let confused = Key::from_secret(RSA_PEM.as_bytes()).unwrap().sign(body.as_bytes()).unwrap();
    let verifier = Verifier::new(Key::parse(RSA_PEM).unwrap()).required();
    let token = format!("{body}.{}", BASE64URL.encode(confused));
    assert_eq!(check(&verifier, &token), Err(InvalidSignature::Algorithm.into()));
}

#[test]
fn a_text_that_is_not_a_token_is_malformed() {
    for token in ["", "a", "a.b", "..", "a.b.c.d", "*.*.*", "e30=.e30=.e30=", &"x".repeat(TOKEN_CHARS + 1)] {
        assert_eq!(refused(token), InvalidSignature::Malformed, "{token:.20}");
    }
}

#[test]
fn a_required_signature_is_required_even_without_a_key() {
    let none = HeaderMap::new();
    assert_eq!(Verifier::default().check(&none), Ok(Origin::Unknown(None)));
    assert_eq!(Verifier::new(secret()).check(&none), Ok(Origin::Unknown(None)));
    assert_eq!(Verifier::new(secret()).required().check(&none), Err(NotSigned::Missing));
    assert_eq!(Verifier::default().required().check(&headers("a.b.c")), Err(NotSigned::Missing));
}

#[test]
fn rs256_keys_are_read_in_every_form() {
    let n = "n9NIWT_gZwb1LRJNksqFivxCIxobmCcPCRhH40q1TP-RMuqlzEyEFpbin7vQji94r9efekXmMXxEjSVv7MBx5hRDUYSwpDgrUZa8eLKkDudskatmuxfv0n-wGcPhrp2wvRwxLZxQubgE0kvmxN4GLn7HcacIfog9gD7E6eBPvYR6TrVRps7f859bcqNb6eAoT04GCmB78oDbsyw0fhI38xb9UCpmN7RZUmi7EnnJv6dLCXtTT85tk6b2KBlJwreHrx6IDYv_ULm2Ej1ltw5UkRuSNcMLg33Krq2UouBHD34WhdeylItt7BDOpPWqETPIHy6srVboofresUUK3fFjsQ";
    for key in [
        RSA_PEM.to_owned(),
        RSA_PEM.replace('\n', "\\n"),
        RSA_PKCS1.to_owned(),
        format!("base64:{}", base64::engine::general_purpose::STANDARD.encode(RSA_PEM)),
        format!(r#"{{"kty":"RSA","alg":"RS256","e":"AQAB","n":"{n}"}}"#),
    ] {
        let verifier = Verifier::new(Key::parse(&key).unwrap()).issuer("pushpin").required();
        assert_eq!(check(&verifier, RSA_TOKEN.trim()), Ok(Origin::Proxy), "{key:.40}");
        let cut = &RSA_TOKEN.trim()[..RSA_TOKEN.trim().len() - 2];
        assert_eq!(check(&verifier, cut), Err(InvalidSignature::Signature.into()));
    }
}

#[test]
fn es256_keys_are_read_in_every_form() {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random).unwrap();
    let header = BASE64URL.encode(r#"{"alg":"ES256","kid":"1"}"#);
    let body = format!("{header}.{}", BASE64URL.encode(r#"{"iss":"fastly:abc","exp":4e9}"#));
    let token = format!("{body}.{}", BASE64URL.encode(pair.sign(&random, body.as_bytes()).unwrap()));
    let point = pair.public_key().as_ref();
    let prefix = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\0";
    let spki = base64::engine::general_purpose::STANDARD.encode([&prefix[..], point].concat());
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n", &spki[..64], &spki[64..]);
    let (x, y) = (BASE64URL.encode(&point[1..33]), BASE64URL.encode(&point[33..]));

    for key in [pem, format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#)] {
        let verifier = Verifier::new(Key::parse(&key).unwrap()).issuer("fastly:abc").required();
        assert_eq!(check(&verifier, &token), Ok(Origin::Proxy));
        let zero = format!("{body}.{}", BASE64URL.encode([0; 64]));
        assert_eq!(check(&verifier, &zero), Err(InvalidSignature::Signature.into()));
    }
}

#[test]
fn an_invalid_key_is_reported_without_showing_it() {
    let private = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    for (text, error) in [
        ("", InvalidKey::Empty),
        ("base64:", InvalidKey::Empty),
        ("base64:?", InvalidKey::Base64),
        ("-----BEGIN PUBLIC KEY-----\nhidden", InvalidKey::Pem),
        (private, InvalidKey::PemLabel("PRIVATE KEY".to_owned())),
        ("{", InvalidKey::Jwk("it is not a JSON object with the member kty")),
        (r#"{"kty":"oct","k":""}"#, InvalidKey::Empty),
        (r#"{"kty":"oct"}"#, InvalidKey::Jwk("k is missing")),
        (r#"{"kty":"oct","k":"*"}"#, InvalidKey::Jwk("a member is not base64url")),
        (r#"{"kty":"EC","crv":"P-256","y":"AA"}"#, InvalidKey::Jwk("x is missing")),
        (
            r#"{"kty":"oct","k":"AA","alg":"HS512"}"#,
            InvalidKey::Jwk("alg must be the algorithm of the key: HS256, RS256 or ES256"),
        ),
        (
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
            InvalidKey::Jwk("a coordinate of P-256 has 32 bytes"),
        ),
        (r#"{"kty":"EC","crv":"P-384"}"#, InvalidKey::Jwk("kty must be oct or RSA, or EC with crv P-256")),
        (r#"{"kty":"RSA","e":"AQAB"}"#, InvalidKey::Jwk("n is missing")),
    ] {
        assert_eq!(Key::parse(text).unwrap_err(), error, "{text}");
    }

    assert_eq!(
        format!("{:?}", Verifier::new(Key::parse("hidden").unwrap()).issuer("i")),
        "Verifier { key: Some(Key(HS256)), issuer: Some(\"i\"), required: false }"
    );
}

proptest! {
    #[test]
    fn no_random_token_is_accepted(token in "[ -~]{0,200}|([A-Za-z0-9_-]{0,40}\\.){2}[A-Za-z0-9_-]{0,90}") {
        prop_assert_ne!(check(&Verifier::new(secret()), &token), Ok(Origin::Proxy));
    }

    #[test]
    fn no_token_with_a_flipped_bit_is_accepted(at in 0..300_usize, bit in 0..7_u32) {
        let verifier = Verifier::new(secret());
        let mut token = signed(r#"{"alg":"HS256"}"#, r#"{"exp":4e9}"#).into_bytes();
        let at = at % token.len();
        token[at] ^= 1 << bit;
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&token) {
            headers.insert("grip-sig", value);
            prop_assert_ne!(verifier.check(&headers), Ok(Origin::Proxy));
        }
    }

    #[test]
    fn parsing_a_key_from_any_text_ends_without_a_panic(text in "(base64:|-----BEGIN [A-Z ]{0,20}-----\n)?[ -~\n]{0,200}", json in "\\{\"kty\":\"(EC|RSA|oct)\",\"(k|n|x|crv)\":\"[A-Za-z0-9_-]{0,50}\"\\}") {
        let _ = Key::parse(&text);
        let _ = Key::parse(&json);
    }

    #[test]
    fn parsing_a_key_from_any_der_ends_without_a_panic(der in proptest::collection::vec(any::<u8>(), 0..120)) {
        let der = base64::engine::general_purpose::STANDARD.encode(der);
        let _ = Key::parse(&format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n"));
    }
}

#[test]
fn a_token_of_the_longest_length_is_still_checked() {
    let claims = format!(r#"{{"exp":4e9,"pad":"{}"}}"#, "x".repeat(6_000));
    let token = signed(r#"{"alg":"HS256"}"#, &claims);
    assert!(token.len() <= TOKEN_CHARS && token.len() > TOKEN_CHARS - 200, "{}", token.len());
    assert_eq!(check(&Verifier::new(secret()), &token), Ok(Origin::Proxy));
}

#[test]
fn a_public_key_signs_nothing() {
    let key = Key::parse(RSA_PEM).unwrap();
    assert_eq!(token(&key, None, Duration::from_mins(1), at(NOW)), None);
    let token = token(&secret(), None, Duration::from_mins(1), at(NOW)).unwrap();
    assert_eq!(check(&Verifier::new(secret()), &token), Ok(Origin::Proxy));
}
