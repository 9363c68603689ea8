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
    let found = find(short, in_word, ends_plain);
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

/// The length of a JSON string without escapes, the text up to the quote that ends it, and whether it has a comma. `None`
/// if a backslash or a control character comes before the quote.
pub(crate) fn end_of_unescaped(text: &[u8]) -> Option<(usize, bool)> {
    let (words, rest) = text.as_chunks::<8>();
    let mut has_comma = false;
    for (number, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let ends = (quote_or_control(word) | equal_to(word, b'\\')) & HIGH_BITS;
        let commas = equal_to(word, b',') & HIGH_BITS;
        if ends != 0 {
            let end = ends.trailing_zeros() as usize / 8;
            let before = commas & !(u64::MAX << (end * 8));
            return (bytes[end] == b'"').then_some((number * 8 + end, has_comma || before != 0));
        }
        has_comma |= commas != 0;
    }

    let end = rest.iter().position(|byte| ends_plain(*byte)).filter(|end| rest[*end] == b'"')?;
    Some((words.len() * 8 + end, has_comma || rest[..end].contains(&b',')))
}

/// Whether the plain part of a JSON string ends before this byte.
fn ends_plain(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Whether a CSV field with this text has to be quoted (RFC 4180, section 2, rule 6).
pub(crate) fn needs_quotes(text: &[u8]) -> bool {
    let in_word = |word| quote_or_control(word) | equal_to(word, b',');
    find(text, in_word, |byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')).is_some()
}

/// The number that the digits at the beginning of the text are, and how many of them there are. It reads at most eight, and
/// nothing from a text that is shorter.
pub(crate) fn leading_digits(text: &[u8]) -> Option<(u64, usize)> {
    // Digits become 0 to 9. Adding 0x76 sets the high bit of every byte that is more than 9, or was so before.
    let digits = u64::from_le_bytes(*text.first_chunk()?) ^ u64::from_ne_bytes([0x30; 8]);
    let others = (digits.wrapping_add(u64::from_ne_bytes([0x76; 8])) | digits) & HIGH_BITS;
    let count = others.trailing_zeros() as usize / 8;
    if count == 0 {
        return Some((0, 0));
    }

    // Leading zeros make eight digits of them. Neighbours then become numbers of two digits, of four, and of eight. The first
    // digit is in the lowest bits.
    let eight = digits << (64 - 8 * count);
    let pairs = (eight * 10 + (eight >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some(((fours * 10_000 + (fours >> 32)) & 0xffff_ffff, count))
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

            let unescaped = plain.filter(|at| text[*at] == b'"').map(|at| (at, text[..at].contains(&b',')));
            prop_assert_eq!(end_of_unescaped(&text), unescaped);
        }

        #[test]
        fn leading_digits_are_one_number(number in any::<u64>(), after in proptest::collection::vec(any::<u8>(), 8..12)) {
            let mut text = number.to_string().into_bytes();
            text.extend(after);
            let count = text.iter().take(8).take_while(|byte| byte.is_ascii_digit()).count();
            let digits = str::from_utf8(&text[..count]).unwrap();
            prop_assert_eq!(leading_digits(&text), Some((digits.parse().unwrap(), count)));
        }

        #[test]
        fn a_byte_that_is_no_digit_ends_the_number(at in 0_usize..8, byte in any::<u8>()) {
            let mut text = *b"12345678";
            text[at] = byte;
            let count = if byte.is_ascii_digit() { 8 } else { at };
            let number = str::from_utf8(&text[..count]).unwrap().parse().unwrap_or(0);
            prop_assert_eq!(leading_digits(&text), Some((number, count)));
            prop_assert_eq!(leading_digits(&text[1..]), None);
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
