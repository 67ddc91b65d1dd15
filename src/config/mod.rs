//! The validated configuration: accounts, and how their prices are read. A [`Config`] satisfies the
//! invariants in its fields' docs, so no other module validates again. `flags` and `file` read the input; the types here
//! depend on neither.

mod egress;
mod examples;
mod file;
mod flags;
mod hosts;
#[cfg(test)]
mod key_tests;
mod labels;
mod load;
mod paths;
mod routes;
#[cfg(test)]
mod share_tests;
#[cfg(test)]
mod tests;
mod validate;
mod watch;

use std::{fmt, time::Duration};

pub use hosts::is_other_exchange;

use crate::{
    exchange::{Credentials, Egress, ExchangeHosts, Share, Wallet},
    shard::Shard,
    snapshot::{
        positions::FuturesRisk,
        store::AccountLabels,
        wallet::{CurrencyFilter, WatchedCurrency},
    },
};

/// All accounts of this process and their prices. Together they stay within the process's share of the exchange's rate limits.
#[derive(Debug)]
pub struct Config {
    /// The part of the accounts that this process watches.
    pub shard: Shard,
    /// At least one, unless the shard has none; names differ.
    pub accounts: Vec<AccountConfig>,
    /// How prices are read; `None` if they are not.
    pub prices: Option<PricesConfig>,
    /// The process's part of the exchange's rate limits.
    pub share: Share,
    /// The default egress group, and those of the file; names and addresses differ.
    pub egress: Vec<Egress>,
}

impl Default for Config {
    /// A configuration without accounts.
    fn default() -> Self {
        let (shard, egress) = (Shard::default(), vec![Egress::default()]);
        Self { shard, accounts: Vec::new(), prices: None, share: Share::ALL, egress }
    }
}

/// How the prices for all accounts are read.
#[derive(Clone, Debug, PartialEq)]
pub struct PricesConfig {
    /// The endpoints of this process's first account. All accounts are on the same exchange.
    pub hosts: ExchangeHosts,
    /// Time from one read to the next.
    pub poll_interval: Duration,
    /// Timeout of one read; shorter than the interval.
    pub poll_timeout: Duration,
    /// Age from which prices count as unknown; at least the interval.
    pub max_age: Duration,
}

/// One account to watch.
#[derive(Debug)]
pub struct AccountConfig {
    /// The `account` label: 1 to 64 bytes, no control characters, no surrounding white space.
    pub name: Box<str>,
    /// Further labels of `xt_account_info`: at most ten, none that the exporter or Prometheus uses itself.
    pub labels: AccountLabels,
    /// API version, and base URLs for each of `wallets`.
    pub hosts: ExchangeHosts,
    /// Key pair that signs the requests.
    pub credentials: Credentials,
    /// Wallets to read, in the order of [`Wallet`]; at least one, without duplicates.
    pub wallets: Vec<Wallet>,
    /// Currencies that are always shown in a wallet; sorted.
    pub watch: Vec<(Wallet, WatchedCurrency)>,
    /// Which other currencies are shown.
    pub filter: CurrencyFilter,
    /// How the open positions of its futures wallets, at least one, are read; `None` if they are not.
    pub futures_risk: Option<FuturesRisk>,
    /// Time from one poll to the next.
    pub poll_interval: Duration,
    /// Timeout of one poll, failover included; shorter than the interval.
    pub poll_timeout: Duration,
    /// Age from which balances count as unknown; at least the interval.
    pub max_age: Duration,
}

impl AccountConfig {
    /// The wallets whose open positions are read.
    pub fn position_wallets(&self) -> impl Iterator<Item = Wallet> {
        self.wallets.iter().copied().filter(|wallet| self.futures_risk.is_some() && wallet.has_positions())
    }
}

/// The first error in a configuration: what is wrong, where, and how to fix it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    /// Writes one line of bounded length without control characters. A longer text loses its middle: its start
    /// names the place and its end the fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD_CHARS: usize = 300;
        const TAIL_CHARS: usize = 200;
        let mut text = String::with_capacity(self.0.len());
        for c in self.0.chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        let count = text.chars().count();
        if count <= HEAD_CHARS + TAIL_CHARS {
            return f.write_str(&text);
        }
        let head: String = text.chars().take(HEAD_CHARS).collect();
        let tail: String = text.chars().skip(count - TAIL_CHARS).collect();
        write!(f, "{head} … {tail}")
    }
}

impl std::error::Error for ConfigError {}
