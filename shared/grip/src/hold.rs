//! Holding an HTTP response open: long-polls and streams.
//!
//! A [`Hold`] is an instruction for the proxy. It travels with the response, in headers or in a JSON document. While the
//! proxy holds the response open, it sends what is published as an [`Item`](crate::Item).

use std::fmt::Write as _;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::keep_alive::{InvalidKeepAlive, KeepAlive};
use crate::response::{self, HeaderNotUtf8};

/// The media type of an instruction in JSON.
pub const INSTRUCT_TYPE: &str = "application/grip-instruct";

/// A channel that a held response listens to.
///
/// ```
/// use grip::{Channel, Hold};
///
/// let hold = Hold::response(30).channel(Channel::new("log").prev_id("41").filter("skip-self"));
/// let response = hold.apply(http::Response::new(Vec::<u8>::new()))?;
/// assert_eq!(response.headers()["grip-channel"], "log; prev-id=41; filter=skip-self");
/// # Ok::<_, grip::InvalidHold>(())
/// ```
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

    /// The id of the last item that the client received. If a newer item was published in the meantime, the proxy
    /// repeats the request at once instead of holding the response.
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

    fn header(&self, prefix: &str) -> Result<String, InvalidHold> {
        let name = format!("{prefix}{}", self.name);
        let plain = |c: char| !c.is_control() && !",;\"".contains(c);
        if name.is_empty() || name.trim() != name || !name.chars().all(plain) {
            return Err(InvalidHold::Channel);
        }

        let mut header = name;
        if let Some(id) = &self.prev_id {
            let _ = write!(header, "; prev-id={}", quoted(id, "prev-id")?);
        }
        for filter in &self.filters {
            let _ = write!(header, "; filter={}", quoted(filter, "filter")?);
        }
        Ok(header)
    }

    fn json(&self, prefix: &str) -> Value {
        let mut json = json!({ "name": format!("{prefix}{}", self.name) });
        if let Some(id) = &self.prev_id {
            json["prev-id"] = json!(id);
        }
        if !self.filters.is_empty() {
            json["filters"] = json!(self.filters);
        }
        json
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// Why a hold cannot be written into a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHold {
    /// The hold names no channel.
    #[error("the hold names no channel; name at least one with Hold::channel")]
    NoChannel,
    /// A channel's name is empty, or a header cannot carry it.
    #[error(
        "the channel's name is empty, has a space at an end, or contains one of , ; \" or a control character, which \
         the header cannot carry; Hold::instruct takes any name"
    )]
    Channel,
    /// A value contains a character that the header cannot carry. The field says which value.
    #[error("the {0} contains a character that a header cannot carry")]
    Value(&'static str),
    /// The keep-alive cannot be written.
    #[error(transparent)]
    KeepAlive(#[from] InvalidKeepAlive),
    /// A header of the response cannot be written as JSON.
    #[error(transparent)]
    Header(#[from] HeaderNotUtf8),
}

/// An instruction to hold a response open until an item is published.
///
/// A long-poll: the client receives the response `nothing` if no item is published in time.
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
/// A stream: the client receives `first` at once, and then each published item.
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
    links: Vec<Link>,
    meta: Vec<(String, String)>,
    status: Option<StatusCode>,
}

/// An address that the proxy calls for a held response.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    uri: String,
    rel: &'static str,
    timeout: Option<u32>,
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

    /// A long-poll: the proxy waits `timeout` seconds for a publication. Pushpin waits at least 5.
    pub fn response(timeout: u32) -> Self {
        Self::new("response", Some(timeout))
    }

    /// A stream, which ends when the client disconnects or a publication closes it.
    pub fn stream() -> Self {
        Self::new("stream", None)
    }

    /// Puts `prefix` before the name of every channel.
    #[must_use]
    pub fn prefixed(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Listens to a channel. A hold may listen to several.
    #[must_use]
    pub fn channel(mut self, channel: impl Into<Channel>) -> Self {
        self.channels.push(channel.into());
        self
    }

    /// Sends a keep-alive on the stream.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.keep_alive = Some(keep_alive);
        self
    }

    /// The address that continues a stream. The proxy requests it after `timeout` seconds (120 by default), or when
    /// the stream missed an item.
    #[must_use]
    pub fn next(mut self, uri: impl Into<String>, timeout: Option<u32>) -> Self {
        self.links.push(Link { uri: uri.into(), rel: "next", timeout });
        self
    }

    /// The address that the proxy requests when the client has disconnected (Pushpin 1.41 and later).
    #[must_use]
    pub fn gone(mut self, uri: impl Into<String>) -> Self {
        self.links.push(Link { uri: uri.into(), rel: "gone", timeout: None });
        self
    }

    /// Attaches a value to the held request, which filters and links can read.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.push((name.into(), value.into()));
        self
    }

    /// The status that the client receives. Use it where a gateway between the function and the proxy accepts only
    /// 200.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds the instruction to the headers of a response.
    pub fn apply<B>(&self, mut response: Response<B>) -> Result<Response<B>, InvalidHold> {
        if self.channels.is_empty() {
            return Err(InvalidHold::NoChannel);
        }

        let headers = response.headers_mut();
        headers.insert("grip-hold", HeaderValue::from_static(self.mode));
        for channel in &self.channels {
            headers.append("grip-channel", value(&channel.header(&self.prefix)?, "channel")?);
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

        if let Some(status) = self.status {
            let status = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
            headers.insert("grip-status", value(status.trim_end(), "status")?);
        }
        Ok(response)
    }

    /// Writes the instruction and the response into one JSON document of type [`INSTRUCT_TYPE`].
    ///
    /// This form takes channels of any name and binary keep-alives, and it passes through gateways that drop unknown
    /// headers. The document's own status is always 200; the client receives the status of `response`.
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

        let status = self.status.unwrap_or(response.status());
        let response = response::json(response, status)?;
        let body = json!({ "hold": self.json(), "response": response }).to_string();

        let mut instruct = Response::new(body.into_bytes());
        instruct.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(INSTRUCT_TYPE));
        // Links have no place in the document: the proxy reads them from the header.
        self.write_links(instruct.headers_mut())?;
        Ok(instruct)
    }

    /// The member `hold` of the JSON document.
    fn json(&self) -> Value {
        let mut hold = Map::from_iter([("mode".to_owned(), json!(self.mode))]);
        let channels = self.channels.iter().map(|channel| channel.json(&self.prefix)).collect();
        hold.insert("channels".to_owned(), channels);

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
        hold.into()
    }

    fn write_links(&self, headers: &mut HeaderMap) -> Result<(), InvalidHold> {
        for Link { uri, rel, timeout } in &self.links {
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

fn value(text: &str, what: &'static str) -> Result<HeaderValue, InvalidHold> {
    HeaderValue::try_from(text).map_err(|_| InvalidHold::Value(what))
}

/// Checks that a text can stand in a header without quotes.
fn token<'a>(text: &'a str, what: &'static str) -> Result<&'a str, InvalidHold> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!text.is_empty() && text.chars().all(plain)).then_some(text).ok_or(InvalidHold::Value(what))
}

/// A parameter's value, between quotes where it needs them. Fails on a quote and on a backslash, which could
/// end the quotes early.
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
mod tests;
