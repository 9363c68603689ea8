//! HTTP proxies: which one to use, and the CONNECT request that opens a tunnel through it.
//!
//! Knows nothing of MQTT or TLS; both run inside the tunnel, so that the proxy sees the endpoint's name and nothing
//! else.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// An HTTP proxy. Neither `Debug` nor `Display` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// The proxy's host name or address.
    pub host: String,
    /// The proxy's port.
    pub port: u16,
    /// User name and password for Basic authentication.
    credentials: Option<(String, String)>,
}

/// Why the proxy opens no tunnel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The proxy wants a user name and password, or other ones.
    #[error(
        "the proxy {proxy} asks for authentication (HTTP 407, {scheme}): give a user name and password that it knows \
         in the proxy's URL, http://USER:PASSWORD@HOST:PORT"
    )]
    Unauthorized {
        /// The proxy's host and port.
        proxy: String,
        /// The authentication that the proxy offers.
        scheme: String,
    },
    /// The proxy answered with another status than 200.
    #[error("the proxy {proxy} does not open a tunnel to {target}: it answered {status}")]
    Refused {
        /// The proxy's host and port.
        proxy: String,
        /// The endpoint's host and port.
        target: String,
        /// The status line of the answer.
        status: String,
    },
    /// What listens there does not speak HTTP.
    #[error("{proxy} does not answer like an HTTP proxy: is its host and port right?")]
    NotHttp {
        /// The proxy's host and port.
        proxy: String,
    },
    /// The connection to the proxy broke.
    #[error("the connection to the proxy {proxy} broke: {reason}")]
    Broken {
        /// The proxy's host and port.
        proxy: String,
        /// The operating system's words.
        reason: std::io::Error,
    },
}

/// The longest answer of a proxy to CONNECT that is read.
const MAX_ANSWER: usize = 16 * 1024;

impl Proxy {
    /// The proxy that `HTTPS_PROXY` names, unless `NO_PROXY` exempts the host. Both are read in small letters too.
    ///
    /// `NO_PROXY` is a list of host names separated by commas. A name exempts its subdomains too; `*` exempts all.
    pub(crate) fn from_environment(
        host: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, &'static str> {
        let either = |upper: &str, lower: &str| {
            variable(lower).or_else(|| variable(upper)).filter(|value| !value.trim().is_empty())
        };
        if either("NO_PROXY", "no_proxy").is_some_and(|list| is_exempt(host, &list)) {
            return Ok(None);
        }
        either("HTTPS_PROXY", "https_proxy").map(|url| url.parse()).transpose()
    }

    /// Asks the proxy for a tunnel to `target` (`HOST:PORT`). Afterwards the stream is the target's.
    pub(crate) async fn open_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        target: &str,
    ) -> Result<(), ProxyError> {
        let broken = |reason| ProxyError::Broken { proxy: self.to_string(), reason };
        stream.write_all(self.request(target).as_bytes()).await.map_err(broken)?;

        // One byte at a time: what follows the empty line belongs to TLS.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER {
                return Err(ProxyError::NotHttp { proxy: self.to_string() });
            }
            answer.push(stream.read_u8().await.map_err(broken)?);
        }

        self.judge(&String::from_utf8_lossy(&answer), target)
    }

    fn request(&self, target: &str) -> String {
        let authorization = self.credentials.as_ref().map_or_else(String::new, |(user, password)| {
            format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(format!("{user}:{password}")))
        });
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
    }

    fn judge(&self, answer: &str, target: &str) -> Result<(), ProxyError> {
        let proxy = self.to_string();
        let status = answer.lines().next().unwrap_or_default();
        let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));

        match code {
            Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
            Some("407") => {
                let scheme = header(answer, "proxy-authenticate").unwrap_or("it names no scheme").to_owned();
                Err(ProxyError::Unauthorized { proxy, scheme })
            }
            Some(_) => Err(ProxyError::Refused { proxy, target: target.into(), status: status.into() }),
            None => Err(ProxyError::NotHttp { proxy }),
        }
    }
}

/// The value of the first header with this name, which is given in small letters.
fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Whether a `NO_PROXY` list exempts the host.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry =
            entry.split(':').next().unwrap_or_default().trim_start_matches("*.").trim_start_matches('.');
        let entry = entry.to_ascii_lowercase();
        entry == "*" || host == entry || host.strip_suffix(&entry).is_some_and(|rest| rest.ends_with('.'))
    })
}

impl FromStr for Proxy {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "it must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, such as \
                            http://proxy.example:3128; special characters of the password are percent-encoded";
        let url = url.trim();
        if url.starts_with("https://") {
            return Err(
                "a proxy that is itself reached by TLS is not supported; it must be http://HOST:PORT",
            );
        }
        let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, rest),
        };

        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| WANT)?),
            None => (address, 3128),
        };
        if host.is_empty() || host.contains(['/', ':', ' ']) || port == 0 {
            return Err(WANT);
        }

        let credentials = credentials.map(|credentials| {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            Some((percent_decode(user)?, percent_decode(password)?))
        });
        match credentials {
            Some(None) => Err(WANT),
            credentials => Ok(Self { host: host.into(), port, credentials: credentials.flatten() }),
        }
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?.into_owned();
    // A line break in a header would begin a header of its own.
    (!text.contains(['\r', '\n'])).then_some(text)
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests;
