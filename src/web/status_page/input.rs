//! The input of the page, and what every section needs of it. No markup.

use std::sync::Arc;

use super::format::{Anchor, AnchorKind};
use crate::{
    clock::Timestamp,
    exchange::{PriceTable, Wallet},
    snapshot::history::History,
    snapshot::store::{AccountEntry, PriceEntry},
    snapshot::wallet::{Holding, WalletConfig, WalletSnapshot},
};

/// Input of the status page.
#[derive(Clone, Copy, Debug)]
pub struct StatusPage<'a> {
    /// Accounts with their wallets, sorted by name.
    pub accounts: &'a [Arc<AccountEntry>],
    /// Prices; `None` if they are not enabled.
    pub prices: Option<&'a PriceEntry>,
    /// The last hour of watched balances.
    pub history: &'a History,
    /// Whether the last reload failed.
    pub misconfigured: bool,
    /// The time at which the page is true.
    pub now: Timestamp,
    /// Path of the metrics, from the root.
    pub telemetry_path: &'a str,
    /// Version of this build. A page that is open in a browser reloads itself when the version changes.
    pub version: &'a str,
    /// The order of accounts and of currencies; `None` for worth if prices are enabled, and otherwise for the name.
    pub sort: Option<SortKey>,
    /// Whether this is the page of all accounts.
    pub scope: PageScope,
}

/// What a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageScope {
    /// All accounts, with the largest balances of each.
    All,
    /// One account, with all its balances. The page is one level below the root of the server.
    Account,
}

/// The order of accounts and of currencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The highest worth in USDT first.
    Worth,
    /// By name.
    Name,
    /// The fastest fall in the last hour first. Only watched currencies have a history.
    Change,
}

impl SortKey {
    /// All of them, in the order of their links.
    pub(super) const ALL: [Self; 3] = [Self::Worth, Self::Name, Self::Change];

    /// The name in links and in the query `sort=NAME`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Worth => "worth",
            Self::Name => "name",
            Self::Change => "change",
        }
    }

    /// The key with this name.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.label() == label)
    }
}

/// What every section of a page needs.
#[derive(Clone, Copy)]
pub(super) struct PageContext<'a> {
    pub(super) now: Timestamp,
    /// `None` while prices are unknown or if they are not enabled.
    pub(super) prices: Option<&'a PriceTable>,
    /// Whether prices are enabled.
    pub(super) has_prices: bool,
    pub(super) history: &'a History,
    pub(super) sort: SortKey,
    pub(super) scope: PageScope,
}

impl<'a> PageContext<'a> {
    pub(super) fn new(page: &StatusPage<'a>) -> Self {
        let visible = page.prices.and_then(|prices| prices.snapshot.visible(page.now));
        let default_sort = if page.prices.is_some() { SortKey::Worth } else { SortKey::Name };
        Self {
            now: page.now,
            prices: visible.map(|good| &*good.prices),
            has_prices: page.prices.is_some(),
            history: page.history,
            sort: page.sort.unwrap_or(default_sort),
            scope: page.scope,
        }
    }
}

/// A link to a wallet's section.
#[derive(Clone, Copy)]
pub(super) struct WalletLink<'a> {
    pub(super) account: &'a str,
    pub(super) wallet: Wallet,
}

impl<'a> WalletLink<'a> {
    pub(super) fn new(config: &'a WalletConfig) -> Self {
        Self { account: &config.account, wallet: config.wallet }
    }

    pub(super) fn anchor(&self) -> Anchor<'a> {
        Anchor { kind: AnchorKind::Wallet(self.wallet), account: self.account }
    }
}

/// The balances that are young enough to show, sorted by currency; empty if they are too old.
pub(super) fn visible_holdings(snapshot: &WalletSnapshot, now: Timestamp) -> &[Holding] {
    snapshot.visible(now).map(|good| &*good.holdings).unwrap_or_default()
}
