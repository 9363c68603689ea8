//! A store in one DynamoDB table, for functions (feature `dynamodb`).
//!
//! The table's key is `pk` and `sk`, both strings, and its TTL attribute is `ttl`:
//!
//! | What | `pk` | `sk` | Other attributes |
//! | --- | --- | --- | --- |
//! | an item | `item#CHANNEL` | the offset, 20 digits | `epoch`, `content`, `writer`, `ttl` |
//! | a member | `member#CHANNEL` | the member's id | `member`, `until`, `ttl` |
//! | a revocation | `revoked#ID` | `-` | `until`, `ttl` |
//!
//! - **Appending** is one conditional write: the item with the next offset, if no item has that offset. If two publishers
//!   try the same offset, one succeeds, and the other takes the next offset. No offset is ever left out.
//! - **The newest item of a channel has no `ttl`.** It gets a `ttl` when the next item exists. A channel that is quiet for
//!   longer than its history is kept therefore keeps its epoch and its offset, and its clients learn of no loss. A
//!   process that ends between the two writes leaves an item without `ttl`, which the next process repairs.
//! - **A write whose outcome is unknown** is looked up, by the random `writer`, before the item is written at another
//!   offset.

mod append;
mod attributes;
mod history;
mod members;

pub use append::DynamoStore;
