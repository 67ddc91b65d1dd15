//! What the last polls found, as data: each wallet, its positions, the prices, the last hour of watched balances, and the
//! store that pollers write and scrapes read.
//! Depends on neither the text format, HTTP nor a clock.

pub mod history;
pub mod positions;
pub mod prices;
pub mod store;
pub mod wallet;
