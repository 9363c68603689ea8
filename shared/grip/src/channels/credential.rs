//! Where the credential of a client stands in its request.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};

/// The token of a request: `Authorization: Bearer`, the subprotocol `bearer.TOKEN`, or `?token=`.
pub(super) fn credential(request: &Request<Vec<u8>>) -> Option<String> {
    bearer(request.headers())
        .or_else(|| {
            let offers = request.headers().get_all("sec-websocket-protocol").iter();
            let mut offers =
                offers.filter_map(|offer| offer.to_str().ok()).flat_map(|offer| offer.split(','));
            offers.find_map(|offer| offer.trim().strip_prefix("bearer.")).map(str::to_owned)
        })
        .or_else(|| {
            let mut pairs = request.uri().query()?.split('&');
            pairs.find_map(|pair| pair.strip_prefix("token=")).map(str::to_owned)
        })
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_each_of_its_places() {
        let request = |name: &str, value: &str, uri: &str| {
            Request::get(uri).header(name, value).body(Vec::new()).unwrap()
        };
        for (request, expected) in [
            (request("authorization", "bearer abc", "/"), Some("abc")),
            (request("authorization", "Basic abc", "/"), None),
            (request("sec-websocket-protocol", "grip-channels.1, bearer.abc", "/"), Some("abc")),
            (request("x", "y", "/?a=b&token=abc"), Some("abc")),
            (request("x", "y", "/?a=token"), None),
        ] {
            assert_eq!(credential(&request).as_deref(), expected);
        }
    }
}
