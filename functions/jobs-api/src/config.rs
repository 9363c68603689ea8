//! The function's configuration, read once at cold start.

use std::convert::Infallible;

use grip::channels::JwtAuthorizer;
use grip::{Key, Verifier};
use http::Uri;
use postern_runtime::env::{Environment, InvalidVariable};
use postern_types::Tenant;

/// The `aud` of tickets, so that a token that the same key signed for another purpose is not one.
const AUDIENCE: &str = "jobs-api";

/// Who verifies the callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Auth {
    /// API Gateway's JWT authorizer.
    Jwt,
    /// IAM, with requests that are signed by Signature Version 4.
    Iam,
}

impl Auth {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "jwt" => Ok(Self::Jwt),
            "iam" => Ok(Self::Iam),
            _ => Err("it must be jwt or iam"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Iam => "iam",
        }
    }
}

/// A state machine that the callers of one tenant may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) tenant: Tenant,
    pub(crate) name: String,
    pub(crate) arn: String,
}

/// The GRIP proxy that holds the page's WebSocket.
pub(crate) struct Live {
    /// `LIVE_URL`: the address at which a browser reaches the proxy.
    pub(crate) url: String,
    /// `GRIP_PREFIX`: the prefix of every channel's name at the proxy.
    pub(crate) prefix: String,
    /// `GRIP_VERIFY_KEY` and `GRIP_VERIFY_ISS`: the proxy's signature, which every request of `/live` needs.
    pub(crate) verifier: Verifier,
    /// `GRIP_CHANNEL_KEY`: signs and checks the tickets.
    pub(crate) tickets: JwtAuthorizer,
}

/// The function's configuration.
pub(crate) struct Config {
    /// `API_AUTH`.
    pub(crate) auth: Auth,
    /// `DEFAULT_TENANT`: the tenant of callers that IAM has verified.
    pub(crate) default_tenant: Tenant,
    /// `OIDC_ISSUER`, `OIDC_CLIENT_ID` and `OIDC_AUDIENCE`: how the page signs in.
    pub(crate) issuer: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) audience: Option<String>,
    /// `OIDC_ENDPOINT`: the origin of the issuer's token endpoint, if it is not the issuer's.
    pub(crate) endpoint: Option<String>,
    /// `MACHINES`: the state machines that can be started, as `TENANT/NAME=ARN`, separated by commas.
    pub(crate) machines: Vec<Machine>,
    /// The proxy, if `LIVE_URL` names one.
    pub(crate) live: Option<Live>,
}

impl Config {
    pub(crate) fn from_env(environment: &Environment<'_>) -> Result<Self, InvalidVariable> {
        const ISSUER: &str = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_a1B2c3D4e";
        const ENDPOINT: &str = "https://acme.auth.eu-west-1.amazoncognito.com";

        let address = |name, example| environment.parse_optional(name, example, address);
        let text = |text: &str| Ok::<_, Infallible>(text.to_owned());

        Ok(Self {
            auth: environment.parse("API_AUTH", "jwt", Auth::parse)?,
            default_tenant: environment.parse("DEFAULT_TENANT", "tenant1", Tenant::parse)?,
            issuer: address("OIDC_ISSUER", ISSUER)?,
            client_id: environment.parse_optional("OIDC_CLIENT_ID", "console", text)?,
            audience: environment.parse_optional("OIDC_AUDIENCE", "postern", text)?,
            endpoint: address("OIDC_ENDPOINT", ENDPOINT)?,
            machines: environment.parse_or(
                "MACHINES",
                "",
                "tenant1/on-prem-job=arn:aws:states:...",
                machines,
            )?,
            live: live(environment)?,
        })
    }

    /// A machine of a tenant, by its name.
    pub(crate) fn machine(&self, tenant: &Tenant, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.tenant == *tenant && machine.name == name)
    }

    /// The origins to which the page may connect, besides its own.
    pub(crate) fn origins(&self) -> Vec<String> {
        let live = self.live.as_ref().map(|live| live.url.as_str());
        let addresses = [self.issuer.as_deref(), self.endpoint.as_deref(), live];
        addresses.into_iter().flatten().filter_map(origin).collect()
    }
}

fn live(environment: &Environment<'_>) -> Result<Option<Live>, InvalidVariable> {
    const EXAMPLE_KEY: &str = "base64:c2VjcmV0";
    let text = |text: &str| Ok::<_, Infallible>(text.to_owned());
    let Some(url) = environment.parse_optional("LIVE_URL", "wss://proxy.example/live", address)? else {
        return Ok(None);
    };

    let key = environment.required("GRIP_VERIFY_KEY", EXAMPLE_KEY, Key::parse)?;
    let mut verifier = Verifier::new(key).required();
    if let Some(issuer) = environment.parse_optional("GRIP_VERIFY_ISS", "pushpin", text)? {
        verifier = verifier.issuer(issuer);
    }

    let key = environment.required("GRIP_CHANNEL_KEY", EXAMPLE_KEY, secret)?;
    let prefix = environment.parse_optional("GRIP_PREFIX", "myapp-", text)?.unwrap_or_default();
    Ok(Some(Live { url, prefix, verifier, tickets: JwtAuthorizer::new(key).audience(AUDIENCE) }))
}

/// A key that can sign. A public key cannot.
fn secret(text: &str) -> Result<Key, String> {
    let key = Key::parse(text).map_err(|error| error.to_string())?;
    match key.algorithm() {
        "HS256" => Ok(key),
        other => Err(format!("a key for {other} cannot sign tickets; use a secret")),
    }
}

fn machines(text: &str) -> Result<Vec<Machine>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let machine = |entry: &str| {
        let (tenant, rest) = entry.split_once('/')?;
        let (name, arn) = rest.split_once('=')?;
        let arn = arn.contains(":stateMachine:").then(|| arn.to_owned())?;
        Some(Machine { tenant: Tenant::parse(tenant).ok()?, name: name.to_owned(), arn })
    };

    entries.map(|entry| machine(entry).ok_or_else(|| format!("{entry:?} is not TENANT/NAME=ARN"))).collect()
}

/// An absolute address without characters that would end a source in a content security policy.
fn address(text: &str) -> Result<String, &'static str> {
    const PROBLEM: &str = "it must be an absolute address, such as https://issuer.example";
    if text.contains([';', ',', '\'', '"', ' ', '*']) {
        return Err(PROBLEM);
    }

    origin(text).map(|_| text.to_owned()).ok_or(PROBLEM)
}

fn origin(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_belongs_to_a_tenant() {
        let machines =
            machines("t1/on-prem-job=arn:aws:states:eu-west-1:1:stateMachine:a, t2/b=arn:x:stateMachine:b");
        let machines = machines.unwrap();
        assert_eq!((machines[0].tenant.as_str(), &*machines[0].name), ("t1", "on-prem-job"));
        assert_eq!(machines[1].arn, "arn:x:stateMachine:b");
        for wrong in
            ["on-prem-job=arn:x:stateMachine:b", "t/a", "+/a=arn:x:stateMachine:b", "t/a=arn:aws:s3:::b"]
        {
            assert!(super::machines(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_page_may_connect_to_the_issuer_and_to_the_proxy() {
        let environment = [
            ("OIDC_ISSUER", "https://issuer.example/pool"),
            ("OIDC_ENDPOINT", "https://sign-in.example"),
            ("LIVE_URL", "wss://proxy.example:7999/live"),
            ("GRIP_VERIFY_KEY", "changeme"),
            ("GRIP_CHANNEL_KEY", "changeme"),
        ];
        let config =
            Config::from_env(&Environment::of(&environment)).unwrap_or_else(|error| panic!("{error}"));
        let expected = ["https://issuer.example", "https://sign-in.example", "wss://proxy.example:7999"];
        assert_eq!(config.origins(), expected);
    }

    #[test]
    fn an_invalid_environment_is_reported_without_its_secrets() {
        for (name, value) in [
            ("API_AUTH", "none"),
            ("OIDC_ISSUER", "issuer.example"),
            ("OIDC_ISSUER", "https://issuer.example; script-src *"),
            ("MACHINES", "a"),
            ("GRIP_VERIFY_KEY", ""),
            ("GRIP_CHANNEL_KEY", "base64:hidden*"),
        ] {
            let environment =
                [(name, value), ("LIVE_URL", "wss://proxy.example/live"), ("GRIP_VERIFY_KEY", "changeme")];
            let environment = Environment::of(&environment);
            let error = Config::from_env(&environment).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hidden"), "{error}");
        }
    }
}
