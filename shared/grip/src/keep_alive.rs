//! The keep-alive of a held stream.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::control::Mode;

/// How the data of a keep-alive is written in the `Grip-Keep-Alive` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Verbatim. The data may have only printable ASCII without `,`, `;` and `"`, and no space at either end.
    Raw,
    /// As [`Raw`](Self::Raw), with line ends and backslashes written `\n`, `\r` and `\\`.
    CString,
    /// In base64, which can write any data.
    Base64,
}

/// Why a keep-alive cannot be written in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeepAlive {
    /// There is no data. The proxy would refuse the whole response.
    #[error("the keep-alive has no data; give it at least one byte, such as a line feed")]
    Empty,
    /// The chosen format cannot write the data.
    #[error("the keep-alive's data cannot be written in the format {0:?}; Format::Base64 can write any data")]
    Format(Format),
}

/// Data that the proxy sends on a held stream while nothing is published, so that the connection stays open.
///
/// ```
/// use grip::{Hold, KeepAlive, Mode};
///
/// let hold = Hold::stream().channel("news").keep_alive(KeepAlive::new("\n", 25).mode(Mode::Interval));
/// let response = hold.apply(http::Response::new(Vec::<u8>::new()))?;
/// assert_eq!(response.headers()["grip-keep-alive"], "\\n; format=cstring; timeout=25; mode=interval");
/// # Ok::<_, grip::InvalidHold>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    data: Vec<u8>,
    format: Option<Format>,
    timeout: u32,
    mode: Mode,
}

impl KeepAlive {
    /// Sends `data` after `timeout` seconds without a publication.
    ///
    /// A header carries the data in the first format that can write it: raw, C string, base64.
    pub fn new(data: impl Into<Vec<u8>>, timeout: u32) -> Self {
        Self { data: data.into(), format: None, timeout, mode: Mode::Idle }
    }

    /// Sets when the keep-alive is due.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Writes the data in this format. Applying the hold fails if the format cannot write the data.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// The value of the `Grip-Keep-Alive` header.
    pub(crate) fn header(&self) -> Result<String, InvalidKeepAlive> {
        if self.data.is_empty() {
            return Err(InvalidKeepAlive::Empty);
        }

        let formats = [Format::Raw, Format::CString, Format::Base64];
        let (name, data) = match self.format {
            Some(format) => self.written(format).ok_or(InvalidKeepAlive::Format(format))?,
            None => formats
                .into_iter()
                .find_map(|format| self.written(format))
                .ok_or(InvalidKeepAlive::Format(Format::Base64))?,
        };
        Ok(format!("{data}; format={name}; timeout={}; mode={}", self.timeout, self.mode.name()))
    }

    /// The format's name and the data in that format, or `None` if the format cannot write the data.
    fn written(&self, format: Format) -> Option<(&'static str, String)> {
        match format {
            Format::Raw => Some(("raw", self.raw()?)),
            Format::CString => Some(("cstring", self.cstring()?)),
            Format::Base64 => Some(("base64", BASE64.encode(&self.data))),
        }
    }

    fn raw(&self) -> Option<String> {
        let text = std::str::from_utf8(&self.data).ok()?;
        let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !",;\"".contains(c);
        (text.trim() == text && text.chars().all(plain)).then(|| text.to_owned())
    }

    fn cstring(&self) -> Option<String> {
        let escaped = self.data.iter().map(|byte| match byte {
            b'\n' => Some("\\n".to_owned()),
            b'\r' => Some("\\r".to_owned()),
            b'\\' => Some("\\\\".to_owned()),
            b',' | b';' | b'"' => None,
            b' '..=b'~' => Some(char::from(*byte).to_string()),
            _ => None,
        });
        let text: String = escaped.collect::<Option<_>>()?;
        (text.trim() == text).then_some(text)
    }

    /// The keep-alive in a JSON instruction, which can write any data.
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({ "timeout": self.timeout, "mode": self.mode.name() });
        match std::str::from_utf8(&self.data) {
            Ok(text) => json["content"] = json!(text),
            Err(_) => json["content-bin"] = json!(BASE64.encode(&self.data)),
        }
        json
    }
}
