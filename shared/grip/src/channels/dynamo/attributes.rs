//! Attributes of the table: names, and conversions.

use std::collections::HashMap;
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::channels::position::Position;
use crate::channels::store::{Entry, StoreError};

/// The attributes of one item of the table.
pub(super) type Attributes = HashMap<String, AttributeValue>;

/// A string attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute: seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> AttributeValue {
    AttributeValue::N(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string())
}

/// The partition of a channel's items.
pub(super) fn items(channel: &str) -> AttributeValue {
    text(format!("item#{channel}"))
}

/// The sort key of an offset: 20 digits, so that the order of the texts is that of the numbers.
pub(super) fn offset(offset: u64) -> AttributeValue {
    text(format!("{offset:020}"))
}

pub(super) fn string<'a>(from: &'a Attributes, name: &str) -> Option<&'a str> {
    from.get(name)?.as_s().ok().map(String::as_str)
}

pub(super) fn time(from: &Attributes, name: &str) -> Option<SystemTime> {
    let seconds: u64 = from.get(name)?.as_n().ok()?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The item of a history that a row of the table holds.
pub(super) fn entry(from: &Attributes) -> Option<Entry> {
    let epoch = u64::from_str_radix(string(from, "epoch")?, 16).ok()?;
    let offset = string(from, "sk")?.parse().ok()?;
    let content = string(from, "content")?.to_owned();
    Some(Entry { position: Position::new(epoch, offset), content })
}

/// A failure of the store, with the innermost causes, which the SDK's own text leaves out.
pub(super) fn failed<E: Error + 'static>(operation: &'static str) -> impl FnOnce(E) -> StoreError {
    move |error| {
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> = Some(&error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            next = cause.source();
        }
        StoreError::new(operation, causes.join(": "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_sort_keys_is_that_of_offsets() {
        let keys: Vec<_> =
            [1, 9, 10, 999, 1_000, u64::MAX].map(|n| offset(n).as_s().unwrap().clone()).to_vec();
        assert!(keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn a_row_that_this_library_did_not_write_is_no_item() {
        let row = Attributes::from([
            ("sk".to_owned(), offset(7)),
            ("epoch".to_owned(), text("00000000000000ff")),
            ("content".to_owned(), text("1")),
        ]);
        assert_eq!(entry(&row), Some(Entry { position: Position::new(255, 7), content: "1".to_owned() }));
        for name in ["sk", "epoch", "content"] {
            let mut broken = row.clone();
            broken.insert(name.to_owned(), AttributeValue::Bool(true));
            assert_eq!(entry(&broken), None, "{name}");
        }
    }
}
