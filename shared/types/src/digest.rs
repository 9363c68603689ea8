//! The digest behind job ids and idempotency keys.

use sha2::{Digest as _, Sha256};

/// The first 32 lower-case hexadecimal digits of the SHA-256 of `bytes`: 128 bits, enough to be unique.
pub(crate) fn short_sha256(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest[..16].iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
