//! The tail of a job's log: how much of it the table keeps.

/// The most lines of a job's log that the table keeps.
pub const LOG_LINES: usize = 200;

/// The most bytes of a job's log that the table keeps. They are a part of the item, whose size DynamoDB bills for every
/// write.
pub const LOG_BYTES: usize = 20_000;

/// The longest line, in bytes. The rest of a longer line is dropped.
const LINE_BYTES: usize = 2_000;

/// The last lines of `log` that stay within [`LOG_LINES`] and [`LOG_BYTES`].
pub(crate) fn tail(log: &[String]) -> &[String] {
    last_lines(log, LOG_LINES, LOG_BYTES)
}

/// The last lines of `log` that stay within half of the bounds.
pub(crate) fn half_tail(log: &[String]) -> &[String] {
    last_lines(log, LOG_LINES / 2, LOG_BYTES / 2)
}

fn last_lines(log: &[String], most_lines: usize, most_bytes: usize) -> &[String] {
    let mut bytes = 0;
    let fits = |line: &&String| {
        bytes += line.len();
        bytes <= most_bytes
    };

    let lines = log.iter().rev().take(most_lines).take_while(fits).count();
    &log[log.len() - lines..]
}

/// The lines of one message, cut to the longest line and to the tail.
pub(crate) fn cut_lines(lines: &[String]) -> Vec<String> {
    let lines: Vec<_> = lines.iter().map(|line| cut(line, LINE_BYTES).to_owned()).collect();
    tail(&lines).to_vec()
}

/// The start of `text`, at most `most` bytes, cut at a character boundary.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_lines_stay() {
        let log: Vec<_> = (0..300).map(|line| line.to_string()).collect();
        assert_eq!((tail(&log).len(), &*tail(&log)[199]), (200, "299"));

        let two = vec!["x".repeat(15_000), "y".repeat(15_000)];
        assert_eq!(tail(&two), &two[1..]);
    }

    proptest! {
        #[test]
        fn a_tail_is_bounded_and_is_the_end_of_the_log(lengths in prop::collection::vec(0..3_000_usize, 0..300)) {
            let log: Vec<_> = lengths.into_iter().map(|bytes| "é".repeat(bytes / 2)).collect();
            let log = cut_lines(&log);
            let kept = tail(&log);

            prop_assert!(kept.len() <= LOG_LINES && kept.iter().map(String::len).sum::<usize>() <= LOG_BYTES);
            prop_assert!(log.ends_with(kept));
        }
    }
}
