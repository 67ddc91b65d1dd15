//! Asking the exchange.

mod balance;
mod failure;

pub use balance::{Amount, Answer, Balance, Wallet, currency_name};
pub use failure::{Failure, Reason};
