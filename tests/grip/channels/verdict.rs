//! Judges what the clients saw: each item of their channel once and in order, or a loss that really was one.

use std::collections::{HashMap, HashSet};

use grip::channels::Position;
use serde::Deserialize;
use serde_json::Value;

/// Everything that was ever in the histories, and what was deleted of them.
#[derive(Default)]
pub(super) struct Truth {
    /// The content of each item.
    pub(super) items: HashMap<(String, Position), Value>,
    /// Items that were deleted while the clients were running.
    pub(super) deleted: HashSet<(String, Position)>,
    /// The newest position of each channel at the end.
    pub(super) last: HashMap<String, Position>,
}

impl Truth {
    /// An item that a channel had at two positions, if there is one. All items of a channel differ.
    pub(super) fn twice(&self) -> Option<String> {
        let mut seen = HashSet::new();
        let mut contents = self.items.iter().map(|((channel, _), content)| format!("{channel} {content}"));
        contents.find(|item| !seen.insert(item.clone()))
    }
}

/// One event of one client.
#[derive(Deserialize)]
pub(super) struct Event {
    pub(super) client: usize,
    id: Option<String>,
    data: Option<Value>,
    lost: Option<String>,
    to: Option<String>,
    denied: Option<String>,
}

/// Checks all events of one client. Returns how many losses it was told of.
pub(super) fn judge(truth: &Truth, channel: &str, events: &[Event]) -> Result<usize, String> {
    let (mut position, mut losses) = (Position::START, 0);
    for event in events {
        if let Some(reason) = &event.denied {
            return Err(format!("was denied: {reason}"));
        }
        if let (Some(from), Some(to)) = (&event.lost, &event.to) {
            let (from, to) = (parse(from)?, parse(to)?);
            check_loss(truth, channel, position, from, to)?;
            (position, losses) = (to, losses + 1);
        }
        if let (Some(id), Some(data)) = (&event.id, &event.data) {
            let id = parse(id)?;
            if !id.follows(position) {
                return Err(format!("received {id} after {position}"));
            }
            let sent = truth.items.get(&(channel.to_owned(), id));
            if sent != Some(data) {
                return Err(format!("received {data} at {id}; the history had {sent:?}"));
            }
            position = id;
        }
    }

    match truth.last.get(channel) {
        Some(last) if *last == position => Ok(losses),
        last => Err(format!("ended at {position}; the channel ended at {last:?}")),
    }
}

fn parse(text: &str) -> Result<Position, String> {
    text.parse().map_err(|_| format!("received the position {text:?}"))
}

/// A loss must start where the client stood, and something of it must really have been deleted.
fn check_loss(
    truth: &Truth,
    channel: &str,
    position: Position,
    from: Position,
    to: Position,
) -> Result<(), String> {
    if from != position {
        return Err(format!("lost items after {from}, but stood at {position}"));
    }

    let is_within = |deleted: &Position| {
        let is_after = deleted.epoch() != from.epoch() || deleted.offset() > from.offset();
        let is_before = deleted.epoch() != to.epoch() || deleted.offset() <= to.offset();
        is_after && is_before
    };
    // Another epoch means that the whole history was deleted, whether the client had seen all of it or not.
    let is_new = from.epoch() != 0 && from.epoch() != to.epoch();
    let is_real =
        truth.deleted.iter().any(|(name, deleted)| name == channel && (is_new || is_within(deleted)));
    if is_real {
        return Ok(());
    }
    Err(format!("was told of a loss from {from} to {to}, where nothing was deleted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position::new(7, offset)
    }

    fn truth(deleted: &[u64]) -> Truth {
        let named = |offset: u64| ("room".to_owned(), at(offset));
        Truth {
            items: (1..=5).map(|n| (named(n), Value::from(n))).collect(),
            deleted: deleted.iter().map(|n| named(*n)).collect(),
            last: HashMap::from([("room".to_owned(), at(5))]),
        }
    }

    fn item(offset: u64) -> Event {
        let (id, data) = (Some(at(offset).to_string()), Some(Value::from(offset)));
        Event { client: 0, id, data, lost: None, to: None, denied: None }
    }

    fn lost(from: &str, to: u64) -> Event {
        Event {
            client: 0,
            id: None,
            data: None,
            lost: Some(from.to_owned()),
            to: Some(at(to).to_string()),
            denied: None,
        }
    }

    #[test]
    fn an_item_at_two_positions_is_found() {
        let mut truth = truth(&[]);
        assert_eq!(truth.twice(), None);
        truth.items.insert(("room".to_owned(), at(6)), Value::from(5));
        assert_eq!(truth.twice().as_deref(), Some("room 5"));
    }

    #[test]
    fn the_judge_accepts_order_and_real_losses_and_nothing_else() {
        let items = |list: &[u64]| list.iter().map(|n| item(*n)).collect::<Vec<_>>();
        let judged = |deleted: &[u64], events: &[Event]| judge(&truth(deleted), "room", events);

        assert_eq!(judged(&[], &items(&[1, 2, 3, 4, 5])), Ok(0));
        assert_eq!(judged(&[1, 2], &[lost("0", 2), item(3), item(4), item(5)]), Ok(1));
        for wrong in [&[1, 2, 4, 5][..], &[1, 2, 2, 3, 4, 5], &[1, 3, 2, 4, 5], &[1, 2, 3, 4], &[]] {
            assert!(judged(&[], &items(wrong)).is_err(), "{wrong:?}");
        }
        assert!(judged(&[], &[lost("0", 2), item(3), item(4), item(5)]).is_err(), "nothing was deleted");
        assert!(judged(&[1], &[item(1), lost("0", 2), item(3), item(4), item(5)]).is_err(), "it had item 1");
    }
}
