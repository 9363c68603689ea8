//! Finds special bytes in short text, eight bytes at a time.
//!
//! `memchr` pays off on long text. The fields of a record are some ten bytes long, and for those the call alone costs
//! more than the loop here.
//!
//! The technique is "SIMD within a register". Eight bytes are loaded into one `u64`, and one subtraction tells which of
//! them are small: if a byte is less than `bound`, subtracting `bound` borrows and sets the byte's high bit
//! ([`below`]). The other conditions are reduced to this one by an exclusive or: a byte equals `b` if `byte ^ b` is
//! below 1 ([`equal_to`]). A borrow also reaches the next byte, so bytes above the first match may be reported
//! wrongly. That is harmless: only the first is used, and [`find`] checks it.

/// Text up to this length is searched by words, the rest by `memchr`.
const SHORT: usize = 32;

/// The high bit of every byte.
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The end of the plain part of a JSON string: the first quote, backslash or control character.
pub(crate) fn end_of_plain(text: &[u8]) -> Option<usize> {
    let (short, long) = text.split_at(text.len().min(SHORT));
    let in_word = |word| quote_or_control(word) | equal_to(word, b'\\');
    let found = find(short, in_word, |byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    if found.is_some() || long.is_empty() {
        return found;
    }

    let end = memchr::memchr2(b'"', b'\\', long);
    let plain = &long[..end.unwrap_or(long.len())];

    // Valid JSON has no control characters in strings. A minimum over all bytes, without an early end, lets the
    // compiler check sixteen bytes at a time.
    let has_control = plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) < 0x20;
    let end = if has_control { plain.iter().position(|byte| *byte < 0x20) } else { end };
    end.map(|end| SHORT + end)
}

/// The length of a JSON string that is a CSV field as it stands: the text up to the quote that ends it, if no comma,
/// backslash or control character comes before.
pub(crate) fn end_of_field(text: &[u8]) -> Option<usize> {
    let in_word = |word| quote_or_control(word) | equal_to(word, b'\\') | equal_to(word, b',');
    let end = find(text, in_word, |byte| matches!(byte, b'"' | b'\\' | b',' | 0..0x20))?;
    (text[end] == b'"').then_some(end)
}

/// Whether a CSV field with this text has to be quoted (RFC 4180, section 2, rule 6).
pub(crate) fn needs_quotes(text: &[u8]) -> bool {
    let in_word = |word| quote_or_control(word) | equal_to(word, b',');
    find(text, in_word, |byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')).is_some()
}

/// The number that the first eight bytes are, if all of them are digits.
pub(crate) fn eight_digits(text: &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(*text.first_chunk()?);

    // A digit is 0x30 to 0x39: its high half is 3, also after adding 6.
    let high_halves = u64::from_ne_bytes([0xf0; 8]);
    let (threes, sixes) = (u64::from_ne_bytes([0x30; 8]), u64::from_ne_bytes([0x06; 8]));
    if (word | word.wrapping_add(sixes)) & high_halves != threes || word & high_halves != threes {
        return None;
    }

    // Neighbours become numbers of two digits, then of four, then of eight. The first digit is in the lowest bits.
    let digits = word ^ threes;
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

/// The position of the first byte that `matches`.
///
/// `in_word` sets the high bit of the first matching byte of its word. It may also set the high bit of bytes that do
/// not match, for example of all control characters: each candidate is checked with `matches`.
fn find(text: &[u8], in_word: impl Fn(u64) -> u64, matches: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = text.as_chunks::<8>();
    for (number, bytes) in words.iter().enumerate() {
        let candidates = in_word(u64::from_le_bytes(*bytes)) & HIGH_BITS;
        if candidates != 0 {
            // Little-endian: the first byte of the text is in the lowest bits.
            let first = candidates.trailing_zeros() as usize / 8;
            if let Some(at) = bytes[first..].iter().position(|byte| matches(*byte)) {
                return Some(number * 8 + first + at);
            }
        }
    }

    rest.iter().position(|byte| matches(*byte)).map(|at| words.len() * 8 + at)
}

/// Sets the high bit of the first byte that equals `byte`.
fn equal_to(word: u64, byte: u8) -> u64 {
    below(word ^ u64::from_ne_bytes([byte; 8]), 0x01)
}

/// Sets the high bit of the first byte that is a quote (0x22) or a control character (below 0x20). The exclusive or
/// with 0x02 turns the quote into 0x20 and keeps control characters below 0x20; every other byte is 0x21 or more.
fn quote_or_control(word: u64) -> u64 {
    below(word ^ u64::from_ne_bytes([0x02; 8]), 0x21)
}

/// Sets the high bit of the first byte that is below `bound`, which is at most 0x80.
fn below(word: u64, bound: u8) -> u64 {
    word.wrapping_sub(u64::from_ne_bytes([bound; 8])) & !word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_search_by_words_finds_what_a_search_by_bytes_finds(text in proptest::collection::vec(any::<u8>(), 0..120)) {
            let plain = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(end_of_plain(&text), plain);
            prop_assert_eq!(needs_quotes(&text), text.iter().any(|byte| b",\"\n\r".contains(byte)));

            let special = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | b',' | 0..0x20));
            prop_assert_eq!(end_of_field(&text), special.filter(|at| text[*at] == b'"'));
        }

        #[test]
        fn eight_digits_are_one_number(number in 0_u64..100_000_000, at in 0_usize..8, byte in any::<u8>()) {
            let mut text = format!("{number:08}").into_bytes();
            prop_assert_eq!(eight_digits(&text), Some(number));
            prop_assert_eq!(eight_digits(&text[1..]), None);

            text[at] = byte;
            let expected = str::from_utf8(&text).ok().filter(|_| byte.is_ascii_digit());
            prop_assert_eq!(eight_digits(&text), expected.and_then(|text| text.parse().ok()));
        }

        #[test]
        fn the_byte_is_found_at_every_position(at in 0_usize..90, byte in any::<u8>()) {
            let mut text = vec![b'x'; 90];
            text[at] = byte;
            let plain = matches!(byte, b'"' | b'\\' | 0..0x20).then_some(at);
            prop_assert_eq!(end_of_plain(&text), plain);
            prop_assert_eq!(needs_quotes(&text), b",\"\n\r".contains(&byte));
        }
    }
}
