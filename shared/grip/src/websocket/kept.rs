//! Keeping back messages: the proxy sends them again in a later request of the connection.

use super::{Event, Message, WebSocket};

/// The feature that Pushpin announces since the version that also keeps messages back, 1.41.
const SINCE_THE_SAME_VERSION: &str = "link:gone";

impl WebSocket<'_> {
    /// Leaves the messages that [`recv`](Self::recv) has not returned yet to a later request. Returns whether the proxy
    /// will send them again. If not, nothing has changed: go on reading.
    ///
    /// The proxy sends the messages again in front of the client's next message, at the latest with the next keep-alive
    /// ([`set_keep_alive_interval`](Self::set_keep_alive_interval)) or
    /// [`WsMessage::refresh`](crate::WsMessage::refresh). This lets a function wait until it has all parts of something
    /// that arrives in several messages, without storing them anywhere.
    ///
    /// The result is `false` in these cases:
    /// - The proxy is older than Pushpin 1.41, or it is another product. Such proxies would drop the messages.
    /// - Nothing is unread, or the client has closed the connection: nothing would follow.
    /// - Nothing but empty messages has been read. The proxy cuts a connection that makes no progress.
    /// - The next message is empty. The proxy counts bytes, so it cannot tell such a message from those before it.
    ///
    /// ```
    /// # let request = http::Request::post("/").header("Content-Type", "application/websocket-events")
    /// #     .header("Connection-Id", "1").header("Grip-Feature", "status, link:gone")
    /// #     .body(b"TEXT 5\r\nhello\r\nTEXT 5\r\npart1\r\n".to_vec()).unwrap();
    /// let mut ws = grip::WebSocket::read(&request)?;
    /// assert_eq!(ws.recv(), Some(grip::Message::Text("hello")));
    /// assert!(ws.keep_back());
    /// assert_eq!(ws.recv(), None); // part1 comes again, together with part2
    /// assert_eq!(ws.to_response().headers()["content-bytes-accepted"], "5");
    /// # Ok::<_, grip::NotWebSocket>(())
    /// ```
    pub fn keep_back(&mut self) -> bool {
        // Pings and pongs in front of the next message are answered now: an empty one would not come again.
        self.advance();
        let Some(next) = self.next else { return false };
        if !self.can_be_kept() || self.is_last() {
            return false;
        }

        let unread = match next {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        };
        let accepted = self.taken - unread;
        if unread == 0 || accepted == 0 {
            return false;
        }

        (self.next, self.content_accepted) = (None, Some(accepted));
        true
    }

    /// How many bytes of content an earlier request has already contained, because the function
    /// [kept them back](Self::keep_back). They are the first of this request.
    pub fn replayed(&self) -> usize {
        let bytes = self.headers.get("content-bytes-replayed").and_then(|bytes| bytes.to_str().ok());
        bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
    }

    /// Whether the connection ends with this request. Its events are searched once, however often this is asked.
    fn is_last(&mut self) -> bool {
        let ends = |event| matches!(event, Event::Close(_) | Event::Disconnect);
        let events = &self.events;
        *self.is_last.get_or_insert_with(|| events.clone().any(ends))
    }

    /// Whether the proxy announces that it is new enough. It removes the header from a client's handshake.
    fn can_be_kept(&self) -> bool {
        let features = self.headers.get_all("grip-feature").iter().filter_map(|value| value.to_str().ok());
        let mut features = features.flat_map(|value| value.split(','));
        features.any(|feature| feature.trim() == SINCE_THE_SAME_VERSION)
    }
}

#[cfg(test)]
mod tests;
