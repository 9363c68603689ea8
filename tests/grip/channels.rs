//! Channels that lose nothing, in the example `grip-chat` behind a real Pushpin.

mod browser;
mod chat;
mod faults;
mod latency;
mod links;
mod permissions;
mod refused;
mod table;
mod verdict;
