//! Decodes a record's key or value: base64 in the event, text in the row.

use crate::bad_record::BadRecord;
use crate::json::Text;

/// Decodes base64 into `buffer`, which keeps its memory from one record to the next, and returns the decoded text.
///
/// If the bytes are not UTF-8, `buffer` holds them all the same.
pub(crate) fn decode<'b>(text: Text<'_>, buffer: &'b mut Vec<u8>) -> Result<&'b str, BadRecord> {
    buffer.clear();

    // Some JSON writers escape the slashes of base64 with a backslash.
    let text = text.unescape().ok_or(BadRecord::NotBase64)?;
    base64_simd::STANDARD.decode_append(text.as_bytes(), buffer).map_err(|_| BadRecord::NotBase64)?;
    simdutf8::basic::from_utf8(buffer).map_err(|_| BadRecord::NotUtf8)
}
