//! Finding a byte in short text, eight bytes at a time. `memchr` pays off on long text; the fields of a record
//! are some ten bytes long, and there the call alone costs more than this loop.

/// Where text begins to be long.
const SHORT: usize = 32;

const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The end of the plain part of a JSON string: the first quote, backslash or control character.
pub(crate) fn end_of_plain(text: &[u8]) -> Option<usize> {
    let (short, long) = text.split_at(text.len().min(SHORT));
    let word = |word| quote_or_control(word) | is(word, b'\\');
    let found = find(short, word, |byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    if found.is_some() || long.is_empty() {
        return found;
    }
    let end = memchr::memchr2(b'"', b'\\', long);
    let plain = &long[..end.unwrap_or(long.len())];
    // Without an early end the compiler takes sixteen bytes at a time; control characters are not to be expected.
    let control = plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20;
    let end = if control { plain.iter().position(|byte| *byte < 0x20) } else { end };
    end.map(|end| SHORT + end)
}

/// Whether a CSV field with this text has to stand in quotes (RFC 4180, section 2, rule 6).
pub(crate) fn needs_quotes(text: &[u8]) -> bool {
    let word = |word| quote_or_control(word) | is(word, b',');
    find(text, word, |byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')).is_some()
}

/// The first byte that `matches`. `word` answers with the high bit set in the first byte of its word that matches, and
/// mostly in none before it.
fn find(text: &[u8], word: impl Fn(u64) -> u64, matches: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (number, bytes) in words.iter().enumerate() {
        let found = word(u64::from_le_bytes(*bytes)) & HIGHS;
        if found != 0 {
            let first = found.trailing_zeros() as usize / 8;
            if let Some(at) = bytes[first..].iter().position(|byte| matches(*byte)) {
                return Some(number * 8 + first + at);
            }
        }
    }
    rest.iter().position(|byte| matches(*byte)).map(|at| words.len() * 8 + at)
}

/// High bit set in the bytes that are `byte`; above the first of them the answer is not to be relied on.
fn is(word: u64, byte: u8) -> u64 {
    below(word ^ u64::from_ne_bytes([byte; 8]), 0x01)
}

/// The same for a quote (0x22) and the control characters (below 0x20): with one bit turned these are all that is
/// below 0x21.
fn quote_or_control(word: u64) -> u64 {
    below(word ^ u64::from_ne_bytes([0x02; 8]), 0x21)
}

/// The same for bytes below `bound`, which is at most 0x80.
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(u64::from_ne_bytes([bound; 8])) & !word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_find_what_bytes_find(text in proptest::collection::vec(any::<u8>(), 0..120)) {
            let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(end_of_plain(&text), plain);
            prop_assert_eq!(needs_quotes(&text), text.iter().any(|byte| b",\"\n\r".contains(byte)));
        }

        #[test]
        fn wherever_the_byte_stands(at in 0_usize..90, byte in any::<u8>()) {
            let mut text = vec![b'x'; 90];
            text[at] = byte;
            let plain = matches!(byte, b'"' | b'\\' | 0..0x20).then_some(at);
            prop_assert_eq!(end_of_plain(&text), plain);
            prop_assert_eq!(needs_quotes(&text), b",\"\n\r".contains(&byte));
        }
    }
}
