//! What keeps a held stream alive.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::control::Mode;
use crate::hold::InvalidHold;

/// How a keep-alive's data is written in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As it is: visible characters only, no `,`, `;` or `"`.
    Raw,
    /// With `\n`, `\r` and `\\` for line ends and backslashes.
    CString,
    /// In base64: anything.
    Base64,
}

/// What the proxy sends on a held stream from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    data: Vec<u8>,
    format: Option<Format>,
    timeout: u32,
    mode: Mode,
}

impl KeepAlive {
    /// Sends `data` every `timeout` seconds of silence. It is written in the first of the three formats that
    /// can hold it.
    pub fn new(data: impl Into<Vec<u8>>, timeout: u32) -> Self {
        Self { data: data.into(), format: None, timeout, mode: Mode::Idle }
    }

    /// When it is due.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Writes the data in this format or not at all.
    #[must_use]
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    pub(crate) fn header(&self) -> Result<String, InvalidHold> {
        if self.data.is_empty() {
            // The proxy would refuse the whole answer.
            return Err(InvalidHold::KeepAlive);
        }
        let (name, data) = match self.format {
            Some(Format::Base64) => ("base64", BASE64.encode(&self.data)),
            Some(Format::Raw) => ("raw", self.raw().ok_or(InvalidHold::KeepAlive)?),
            Some(Format::CString) => ("cstring", self.cstring().ok_or(InvalidHold::KeepAlive)?),
            None => self
                .raw()
                .map(|data| ("raw", data))
                .or_else(|| self.cstring().map(|data| ("cstring", data)))
                .unwrap_or_else(|| ("base64", BASE64.encode(&self.data))),
        };
        Ok(format!("{data}; format={name}; timeout={}; mode={}", self.timeout, self.mode.name()))
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

    pub(crate) fn json(&self) -> Value {
        let mut json = json!({ "timeout": self.timeout, "mode": self.mode.name() });
        match std::str::from_utf8(&self.data) {
            Ok(text) => json["content"] = json!(text),
            Err(_) => json["content-bin"] = json!(BASE64.encode(&self.data)),
        }
        json
    }
}
