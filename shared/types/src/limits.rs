//! The limits of AWS services that the code must respect, each with the page that states it.

/// Largest MQTT payload that AWS IoT Core accepts, in bytes ("AWS IoT Core endpoints and quotas": 128 KB a publish).
/// The service refuses a larger one with `PAYLOAD_LIMIT_EXCEEDED` or HTTP 413.
pub const IOT_PAYLOAD_BYTES: usize = 131_072;

/// Longest topic, in bytes of UTF-8 ("AWS IoT Core endpoints and quotas").
pub const TOPIC_BYTES: usize = 256;

/// Largest number of slashes in a topic ("AWS IoT Core endpoints and quotas": 7 forward slashes).
pub const TOPIC_SLASHES: usize = 7;

/// Largest task output and execution input, in bytes of UTF-8 ("Step Functions service quotas": 256 KiB).
pub const TASK_OUTPUT_BYTES: usize = 262_144;

/// Longest task token, in characters (`TaskToken` in the Step Functions API reference).
pub const TASK_TOKEN_CHARS: usize = 2_048;

/// Longest error name that `SendTaskFailure` accepts, in characters (`SensitiveError`).
pub const ERROR_CHARS: usize = 256;

/// Longest cause that `SendTaskFailure` accepts, in characters (`SensitiveCause`).
pub const CAUSE_CHARS: usize = 32_768;

/// Longest `TimeoutSeconds` and `HeartbeatSeconds` in the Amazon States Language, in seconds.
pub const TIMEOUT_SECONDS: u32 = 99_999_999;

/// Largest object of one PUT to Amazon S3, in bytes ("Amazon S3 objects overview": 5 GB).
pub const UPLOAD_BYTES: u64 = 5_368_709_120;

/// Cuts `text` to at most `chars` characters, on a character boundary.
///
/// ```
/// assert_eq!(postern_types::limits::cut("né à Sète", 2), "né");
/// ```
pub fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}
