//! Holding an HTTP response open: long-poll and streams.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::keep_alive::KeepAlive;

/// The media type of the JSON form of an instruction.
pub const INSTRUCT_TYPE: &str = "application/grip-instruct";

/// A channel that a held response listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    name: String,
    prev_id: Option<String>,
    filters: Vec<String>,
}

impl Channel {
    /// A channel by its name, without the prefix.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), prev_id: None, filters: Vec::new() }
    }

    /// The id of the last item that the client has: the proxy asks again at once if a newer one was published
    /// in between.
    #[must_use]
    pub fn prev_id(mut self, id: impl Into<String>) -> Self {
        self.prev_id = Some(id.into());
        self
    }

    /// Adds a filter that the proxy applies, such as `skip-self`.
    #[must_use]
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filters.push(filter.into());
        self
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// What cannot be said in an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHold {
    /// A hold listens to something.
    #[error("a hold needs a channel")]
    NoChannel,
    /// The name of a channel, as it would stand in a header.
    #[error(
        "a channel's name is empty or has a character that a header cannot hold (, ; \" or a control character); \
         Hold::instruct takes any name"
    )]
    Channel,
    /// A prev-id, a filter, a meta value, a reason or a link.
    #[error("a {0} has a character that cannot stand in a header")]
    Value(&'static str),
    /// No data, or data that the chosen format cannot hold.
    #[error(
        "the keep-alive's data is empty or cannot be written in this format; Format::Base64 takes any other"
    )]
    KeepAlive,
}

/// An instruction to hold a response open until something is published, and what goes with it.
///
/// Long-poll: the response that the client gets when nothing was published in time, and the hold.
///
/// ```
/// use grip::Hold;
///
/// let nothing = http::Response::new(b"nothing yet\n".to_vec());
/// let response = Hold::response(30).channel("echo").apply(nothing)?;
/// assert_eq!(response.headers()["grip-hold"], "response");
/// assert_eq!(response.headers()["grip-channel"], "echo");
/// # Ok::<_, grip::InvalidHold>(())
/// ```
///
/// A stream: the response that the client gets at once, to which the published parts are added.
///
/// ```
/// use grip::{Hold, KeepAlive};
///
/// let first = http::Response::new(b"[opened]\n".to_vec());
/// let response = Hold::stream().channel("echo").keep_alive(KeepAlive::new("\n", 25)).apply(first)?;
/// assert_eq!(response.headers()["grip-keep-alive"], "\\n; format=cstring; timeout=25; mode=idle");
/// # Ok::<_, grip::InvalidHold>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    mode: &'static str,
    prefix: String,
    channels: Vec<Channel>,
    timeout: Option<u32>,
    keep_alive: Option<KeepAlive>,
    links: Vec<(String, &'static str, Option<u32>)>,
    meta: Vec<(String, String)>,
    status: Option<(StatusCode, String)>,
}

impl Hold {
    fn new(mode: &'static str, timeout: Option<u32>) -> Self {
        Self {
            mode,
            prefix: String::new(),
            channels: Vec::new(),
            timeout,
            keep_alive: None,
            links: Vec::new(),
            meta: Vec::new(),
            status: None,
        }
    }

    /// Long-poll: waits so many seconds for something to be published. Pushpin takes fewer than 5 for 5.
    pub fn response(timeout: u32) -> Self {
        Self::new("response", Some(timeout))
    }

    /// A stream: ends when the client goes, or a publication closes it.
    pub fn stream() -> Self {
        Self::new("stream", None)
    }

    /// Puts `prefix` before every channel's name.
    #[must_use]
    pub fn prefixed(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Listens to a channel; more than one may be named.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<Channel>) -> Self {
        self.channels.push(channel.into());
        self
    }

    /// Sends something from time to time on a stream.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.keep_alive = Some(keep_alive);
        self
    }

    /// Where the proxy asks for more when so many seconds passed (120 if not said), or a stream's items were
    /// missed.
    #[must_use]
    pub fn next(mut self, uri: impl Into<String>, timeout: Option<u32>) -> Self {
        self.links.push((uri.into(), "next", timeout));
        self
    }

    /// Where the proxy tells that the client has gone (Pushpin 1.41 and later).
    #[must_use]
    pub fn gone(mut self, uri: impl Into<String>) -> Self {
        self.links.push((uri.into(), "gone", None));
        self
    }

    /// Attaches a value to the held request, for filters and links.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.push((name.into(), value.into()));
        self
    }

    /// The status that the client gets, where the gateway in between passes on none but 200.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or_default().to_owned();
        self.status = Some((status, reason));
        self
    }

    /// The response with the instruction in its headers.
    pub fn apply<B>(&self, mut response: Response<B>) -> Result<Response<B>, InvalidHold> {
        let headers = response.headers_mut();
        if self.channels.is_empty() {
            return Err(InvalidHold::NoChannel);
        }
        headers.insert("grip-hold", HeaderValue::from_static(self.mode));
        for channel in &self.channels {
            headers.append("grip-channel", value(&self.channel_header(channel)?, "channel")?);
        }
        if let Some(timeout) = self.timeout {
            headers.insert("grip-timeout", timeout.into());
        }
        if let Some(keep_alive) = &self.keep_alive {
            headers.insert("grip-keep-alive", value(&keep_alive.header()?, "keep-alive")?);
        }
        for (name, meta) in &self.meta {
            let meta = format!("{}={}", token(name, "meta name")?, quoted(meta, "meta value")?);
            headers.append("grip-set-meta", value(&meta, "meta value")?);
        }
        self.write_links(headers)?;
        if let Some((status, reason)) = &self.status {
            let status = format!("{} {reason}", status.as_u16());
            headers.insert("grip-status", value(status.trim_end(), "status")?);
        }
        Ok(response)
    }

    /// The same as one JSON document, `application/grip-instruct`, which takes channels of any name and binary
    /// keep-alives, and passes gateways that drop headers. Its own status is always 200.
    ///
    /// ```
    /// use grip::Hold;
    ///
    /// let nothing = http::Response::builder().status(304).body(Vec::new()).unwrap();
    /// let response = Hold::response(30).channel("a, b; \"c\"").instruct(&nothing)?;
    /// assert_eq!(response.status(), 200);
    /// assert_eq!(response.headers()["content-type"], "application/grip-instruct");
    /// # Ok::<_, grip::InvalidHold>(())
    /// ```
    pub fn instruct(&self, response: &Response<Vec<u8>>) -> Result<Response<Vec<u8>>, InvalidHold> {
        if self.channels.is_empty() {
            return Err(InvalidHold::NoChannel);
        }
        let mut hold = Map::from_iter([("mode".to_owned(), json!(self.mode))]);
        hold.insert(
            "channels".to_owned(),
            self.channels.iter().map(|channel| self.channel_json(channel)).collect(),
        );
        if let Some(timeout) = self.timeout {
            hold.insert("timeout".to_owned(), json!(timeout));
        }
        if let Some(keep_alive) = &self.keep_alive {
            hold.insert("keep-alive".to_owned(), keep_alive.json());
        }
        if !self.meta.is_empty() {
            let meta: Map<_, _> =
                self.meta.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            hold.insert("meta".to_owned(), meta.into());
        }
        let status = self.status.as_ref().map_or(response.status(), |(status, _)| *status);
        let mut answer = json!({
            "code": status.as_u16(),
            "reason": status.canonical_reason().unwrap_or_default(),
            "headers": headers_json(response.headers())?,
        });
        match std::str::from_utf8(response.body()) {
            Ok(text) => answer["body"] = json!(text),
            Err(_) => answer["body-bin"] = json!(BASE64.encode(response.body())),
        }
        let body = json!({ "hold": hold, "response": answer }).to_string();
        let mut instruct = Response::new(body.into_bytes());
        instruct.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(INSTRUCT_TYPE));
        self.write_links(instruct.headers_mut())?;
        Ok(instruct)
    }

    fn channel_header(&self, channel: &Channel) -> Result<String, InvalidHold> {
        let name = format!("{}{}", self.prefix, channel.name);
        let plain = |c: char| !c.is_control() && !",;\"".contains(c);
        if name.is_empty() || name.trim() != name || !name.chars().all(plain) {
            return Err(InvalidHold::Channel);
        }
        let mut header = name;
        if let Some(id) = &channel.prev_id {
            let _ = write!(header, "; prev-id={}", quoted(id, "prev-id")?);
        }
        for filter in &channel.filters {
            let _ = write!(header, "; filter={}", quoted(filter, "filter")?);
        }
        Ok(header)
    }

    fn channel_json(&self, channel: &Channel) -> Value {
        let mut json = json!({ "name": format!("{}{}", self.prefix, channel.name) });
        if let Some(id) = &channel.prev_id {
            json["prev-id"] = json!(id);
        }
        if !channel.filters.is_empty() {
            json["filters"] = json!(channel.filters);
        }
        json
    }

    fn write_links(&self, headers: &mut HeaderMap) -> Result<(), InvalidHold> {
        for (uri, rel, timeout) in &self.links {
            if uri.is_empty() || !uri.chars().all(|c| c.is_ascii_graphic() && !"<>,;\"".contains(c)) {
                return Err(InvalidHold::Value("link"));
            }
            let mut link = format!("<{uri}>; rel={rel}");
            if let Some(timeout) = timeout {
                let _ = write!(link, "; timeout={timeout}");
            }
            headers.append("grip-link", value(&link, "link")?);
        }
        Ok(())
    }
}

/// Headers as pairs, which may hold a name twice.
pub(crate) fn headers_json(headers: &HeaderMap) -> Result<Vec<(&str, &str)>, InvalidHold> {
    let pairs = headers.iter().map(|(name, value)| match std::str::from_utf8(value.as_bytes()) {
        Ok(value) => Ok((name.as_str(), value)),
        Err(_) => Err(InvalidHold::Value("header")),
    });
    pairs.collect()
}

fn value(text: &str, what: &'static str) -> Result<HeaderValue, InvalidHold> {
    HeaderValue::try_from(text).map_err(|_| InvalidHold::Value(what))
}

fn token<'a>(text: &'a str, what: &'static str) -> Result<&'a str, InvalidHold> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!text.is_empty() && text.chars().all(plain)).then_some(text).ok_or(InvalidHold::Value(what))
}

/// A parameter's value: plain where it can be, else between quotes. What would end the quotes is refused.
fn quoted(text: &str, what: &'static str) -> Result<String, InvalidHold> {
    if token(text, what).is_ok() {
        return Ok(text.to_owned());
    }
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(InvalidHold::Value(what));
    }
    Ok(format!("\"{text}\""))
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
