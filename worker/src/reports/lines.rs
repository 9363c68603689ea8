//! The tail of a job's log: the newest lines, within bounds.

use std::collections::VecDeque;

use postern_types::limits::cut;

/// The most lines that wait to be sent.
const LINES: usize = 200;
/// The most bytes that wait to be sent.
const BYTES: usize = 20_480;
/// The longest line, in characters.
pub(crate) const LINE_CHARS: usize = 1_000;

/// The newest lines. Control characters stay in them: they are data, which whoever shows them must neutralize.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
    /// How many lines went since some were last taken.
    dropped: usize,
}

impl Tail {
    /// Adds the lines of a text, each cut to 1,000 characters. The oldest go beyond 200 lines and 20 KB.
    pub(super) fn push(&mut self, text: &str) {
        for line in text.lines() {
            let line = cut(line, LINE_CHARS);
            self.bytes += line.len();
            self.lines.push_back(line.to_owned());
            while self.lines.len() > LINES || self.bytes > BYTES {
                self.bytes -= self.lines.pop_front().map_or(0, |oldest| oldest.len());
                self.dropped += 1;
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }

    /// Moves lines to the end of `taken`, as many as fit into `room` bytes of JSON. Returns the bytes that they need.
    pub(super) fn take(&mut self, room: usize, taken: &mut Vec<String>) -> usize {
        let mut used = 0;
        if self.dropped > 0 {
            let line = format!("[{} lines were dropped: too many in a short time]", self.dropped);
            let Some(bytes) = fits(&line, room) else { return 0 };
            used += bytes;
            taken.push(line);
            self.dropped = 0;
        }

        while let Some(line) = self.lines.front() {
            let Some(bytes) = fits(line, room - used) else { break };
            used += bytes;
            self.bytes -= line.len();
            taken.extend(self.lines.pop_front());
        }
        used
    }
}

/// The bytes of the line as JSON with a comma, if there is room for them.
fn fits(line: &str, room: usize) -> Option<usize> {
    let bytes = serde_json::to_string(line).map_or(usize::MAX, |json| json.len() + 1);
    (bytes <= room).then_some(bytes)
}
