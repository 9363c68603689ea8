//! Presigned URLs of Amazon S3: requests that a holder without credentials may send for an hour.
//!
//! The module signs and sends nothing. The SDK's client of S3 would add megabytes to a function that only signs.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::uri::InvalidUri;
use http::{Request, Uri};

use crate::env::{Environment, InvalidVariable};
use crate::transport::domain;

/// How long a URL is valid. The temporary credentials that sign it can end before.
pub const VALIDITY: Duration = Duration::from_hours(1);

/// Why a request cannot be signed: a bucket, a key or a header that HTTP does not allow.
#[derive(Debug, thiserror::Error)]
#[error("the URL of s3://{bucket}/{key} cannot be signed: {reason}")]
pub struct PresignError {
    bucket: String,
    key: String,
    reason: String,
}

impl PresignError {
    fn of(object: Object<'_>, reason: String) -> Self {
        Self { bucket: object.bucket.to_owned(), key: object.key.to_owned(), reason }
    }
}

/// An object in S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The object's key.
    pub key: &'a str,
}

/// Signs URLs with the credentials of the function's role.
pub struct Presigner {
    region: String,
    /// The address of all buckets, where it is not that of AWS. The bucket is then the first part of the path.
    endpoint: Option<String>,
    credentials: Credentials,
}

impl Presigner {
    /// A signer with the Region, the credentials and the endpoint (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`) that
    /// Lambda sets for a function.
    pub fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let endpoint = |name| {
            let checked = |url: &str| url.parse::<Uri>().map(|_| url.trim_end_matches('/').to_owned());
            environment.parse_optional(name, "http://127.0.0.1:4566", checked)
        };
        let region = environment.required("AWS_REGION", "eu-west-1", text)?;
        let endpoint = endpoint("AWS_ENDPOINT_URL_S3")?
            .map_or_else(|| endpoint("AWS_ENDPOINT_URL"), |url| Ok(Some(url)))?;

        let key = environment.required("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", text)?;
        let secret = environment.required("AWS_SECRET_ACCESS_KEY", "the-secret-of-the-key", text)?;
        let session = environment.parse_optional("AWS_SESSION_TOKEN", "the-token-of-the-session", text)?;
        let credentials = Credentials::new(key, secret, session, None, "environment");
        Ok(Self { region, endpoint, credentials })
    }

    /// Whether the URLs begin with `https`.
    pub(crate) fn uses_tls(&self) -> bool {
        self.endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("https"))
    }

    /// The URL of a request with exactly these headers, for an hour from `now`. S3 refuses the request if a header is
    /// missing or has another value.
    pub fn url(
        &self,
        method: &str,
        object: Object<'_>,
        headers: &[(String, String)],
        now: SystemTime,
    ) -> Result<Uri, PresignError> {
        let address = self.address(object, "").map_err(|error| error.to_string());
        let signed = address.and_then(|address| self.signed(method, address, headers, now, VALIDITY));
        signed.map_err(|reason| PresignError::of(object, reason))
    }

    /// The URL that asks for an object's headers, with its checksums.
    ///
    /// S3 takes the checksum mode as a parameter, too. aws-sigv4 does not sign it as a header, and S3 refuses a presigned
    /// request with a header of its own that is not signed.
    pub(crate) fn description_url(&self, object: Object<'_>, now: SystemTime) -> Result<Uri, PresignError> {
        let address = self.address(object, "?x-amz-checksum-mode=ENABLED").map_err(|error| error.to_string());
        let signed = address.and_then(|address| self.signed("HEAD", address, &[], now, VALIDITY));
        signed.map_err(|reason| PresignError::of(object, reason))
    }

    fn signed(
        &self,
        method: &str,
        uri: Uri,
        headers: &[(String, String)],
        now: SystemTime,
        validity: Duration,
    ) -> Result<Uri, String> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(validity);
        // S3 encodes a path once and keeps it as it is.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;

        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(method, uri.to_string(), fields, SignableBody::UnsignedPayload);
        let signed = sign(request.map_err(|error| error.to_string())?, &parameters);

        let mut request = Request::get(uri).body(()).map_err(|error| error.to_string())?;
        let (instructions, _) = signed.map_err(|error| error.to_string())?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request.into_parts().0.uri)
    }

    /// The address of an object. A bucket whose name has a dot is part of the path, because the certificate of S3 is
    /// valid for one label before the Region's name.
    fn address(&self, object: Object<'_>, query: &str) -> Result<Uri, InvalidUri> {
        let Object { bucket, key } = object;
        let domain = domain(&self.region);
        let key = encoded(key);
        match &self.endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}/{key}{query}"),
            None if bucket.contains('.') => {
                format!("https://s3.{}.{domain}/{bucket}/{key}{query}", self.region)
            }
            None => format!("https://{bucket}.s3.{}.{domain}/{key}{query}", self.region),
        }
        .parse()
    }
}

/// A key as the path of a URL. S3 wants every character encoded that is neither unreserved nor a slash.
fn encoded(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                path.push(byte.into());
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(region: &str, endpoint: &str) -> Presigner {
        let variables = [
            ("AWS_REGION", region),
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ];
        Presigner::from_env(&Environment::of(&variables)).unwrap()
    }

    /// 24 May 2013, 00:00 UTC: the time of the examples in the documentation of S3.
    fn then() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(380_376)
    }

    /// The example of "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the API reference
    /// of S3.
    #[test]
    fn the_signature_is_that_of_the_example_in_the_documentation_of_s3() {
        let signer = signer("us-east-1", "");
        let address = Uri::from_static("https://examplebucket.s3.amazonaws.com/test.txt");
        let url = signer.signed("GET", address, &[], then(), Duration::from_hours(24)).unwrap().to_string();

        for part in [
            "https://examplebucket.s3.amazonaws.com/test.txt?",
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request",
            "X-Amz-Date=20130524T000000Z",
            "X-Amz-Expires=86400",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
        ] {
            assert!(url.contains(part), "{part} is not in {url}");
        }
    }

    #[test]
    fn the_length_and_the_checksum_of_an_upload_are_signed() {
        let signer = signer("eu-west-1", "");
        let object = Object { bucket: "claims", key: "tenant1/abc" };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = |bytes| [header("content-length", bytes), header("x-amz-checksum-sha256", "c3VtCg==")];
        let url = |bytes| signer.url("PUT", object, &headers(bytes), then()).unwrap().to_string();

        assert!(
            url("5").starts_with("https://claims.s3.eu-west-1.amazonaws.com/tenant1/abc?"),
            "{}",
            url("5")
        );
        assert!(
            url("5").contains("X-Amz-SignedHeaders=content-length%3Bhost%3Bx-amz-checksum-sha256"),
            "{}",
            url("5")
        );
        assert!(url("5").contains("X-Amz-Expires=3600"), "{}", url("5"));
        assert_ne!(url("5"), url("6"), "another length has another signature");
    }

    #[test]
    fn every_bucket_has_the_address_that_its_certificate_is_valid_for() {
        let address = |region: &str, endpoint: &str, bucket: &str| {
            let signer = signer(region, endpoint);
            signer.address(Object { bucket, key: "t/ä b+%" }, "").unwrap().to_string()
        };
        assert_eq!(address("eu-west-1", "", "b"), "https://b.s3.eu-west-1.amazonaws.com/t/%C3%A4%20b%2B%25");
        assert_eq!(
            address("cn-north-1", "", "b"),
            "https://b.s3.cn-north-1.amazonaws.com.cn/t/%C3%A4%20b%2B%25"
        );
        assert_eq!(
            address("eu-west-1", "", "a.b"),
            "https://s3.eu-west-1.amazonaws.com/a.b/t/%C3%A4%20b%2B%25"
        );
        assert_eq!(
            address("eu-west-1", "http://127.0.0.1:1/", "b"),
            "http://127.0.0.1:1/b/t/%C3%A4%20b%2B%25"
        );
    }
}
