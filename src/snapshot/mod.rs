//! What the last polls found, as data: each wallet, the prices, and the store that pollers write and scrapes read.
//! Knows no text format, no HTTP and no clock.

pub mod prices;
pub mod store;
pub mod wallet;
