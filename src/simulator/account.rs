//! Accounts of the simulated exchange: key pairs, wallets and balances.
//!
//! Only data. Must not know limits, signatures or faults.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{
    Deserialize, Serialize,
    de::{
        IntoDeserializer as _,
        value::{Error as ValueError, StrDeserializer},
    },
};
use serde_json::Value;

use super::position::{PositionKey, SimulatedPosition};

/// An account of the exchange and the key pair that reads it.
#[derive(Clone, Debug)]
pub struct SimulatedAccount {
    /// Name of the account in faults, counts and the control pages.
    pub name: String,
    /// Public half of the key pair.
    pub access_key: String,
    /// Secret half of the key pair: it signs calls.
    pub secret_key: String,
    /// IP whitelist of the key; `None` allows every address.
    pub ips: Option<Vec<IpAddr>>,
    /// API version that accepts the key; `None` means both.
    pub api: Option<SimulatedApi>,
    /// State of the key.
    pub key: SimulatedKeyState,
    /// Permissions in the user center's list of keys, joined by `_`.
    pub scopes: String,
    /// Whether the user center's list of keys calls the key locked.
    pub is_key_locked: bool,
    /// Rows of each wallet by currency.
    pub wallets: BTreeMap<SimulatedWallet, BTreeMap<String, SimulatedBalance>>,
    /// Open positions of the futures wallets.
    pub positions: BTreeMap<SimulatedWallet, BTreeMap<PositionKey, SimulatedPosition>>,
}

impl SimulatedAccount {
    /// Creates an account without balances. Its key may read from every address.
    #[must_use]
    pub fn new(name: &str, access_key: &str, secret_key: &str) -> Self {
        Self {
            name: name.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            ips: None,
            api: None,
            key: SimulatedKeyState::Active,
            scopes: "QUERY".to_owned(),
            is_key_locked: false,
            wallets: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// Adds a balance.
    #[must_use]
    pub fn with_balance(
        self,
        wallet: SimulatedWallet,
        currency: &str,
        available: &str,
        freeze: &str,
    ) -> Self {
        self.with_row(wallet, currency, SimulatedBalance::new(available, freeze))
    }

    /// Adds a balance with its parts.
    #[must_use]
    pub fn with_row(mut self, wallet: SimulatedWallet, currency: &str, balance: SimulatedBalance) -> Self {
        self.wallets.entry(wallet).or_default().insert(currency.to_owned(), balance);
        self
    }
}

/// State of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedKeyState {
    /// The key may read.
    Active,
    /// The key is not activated yet.
    Inactive,
    /// The key has permissions, but not the permission to read.
    NotAllowedToRead,
    /// The key may read everything except futures.
    NotForFutures,
    /// The key may read everything except Earn.
    NotForEarn,
}

/// API version of the simulated exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedApi {
    /// Version 1.
    V1,
    /// Version 4 and its futures.
    V4,
}

/// Wallet of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimulatedWallet {
    /// The trading account: v1 getBalance, v1 getFunds with `account=2`, v4 balances.
    Spot,
    /// v1 getFunds with `account=1`.
    Wallet,
    /// v1 getFunds with `account=3`.
    Fiat,
    /// USDT-margined futures, under `/fapi`.
    FuturesUsdt,
    /// Coin-margined futures, under `/dapi`.
    FuturesCoin,
    /// v4 position-currency: only the frozen amount is served.
    Earn,
}

impl SimulatedWallet {
    /// Parses the name that paths and answers of `/simulator/` use, such as `futures_usdt`.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let name: StrDeserializer<ValueError> = name.into_deserializer();
        Self::deserialize(name).ok()
    }
}

/// One row of an answer: decimal texts, served unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedBalance {
    /// Amount locked in orders or withdrawals.
    pub freeze: String,
    /// Amount free to trade or withdraw.
    pub available: String,
    /// Parts of the frozen amount in v4, by field, such as `withdraw` of spot, `isolatedMargin` of futures or
    /// `DEMAND_SAVING` of earn; any JSON, served unchanged. With `None`, all of it is held by orders, futures split it among
    /// orders and margins, and earn has it in one product.
    #[serde(skip)]
    pub parts: Option<BTreeMap<String, Value>>,
    /// Whether v4's list leaves the currency out, as it does with a delisted one. The call for one currency has it.
    #[serde(skip)]
    pub is_hidden: bool,
}

impl SimulatedBalance {
    /// Creates a row with these amounts.
    #[must_use]
    pub fn new(available: &str, freeze: &str) -> Self {
        Self { freeze: freeze.to_owned(), available: available.to_owned(), parts: None, is_hidden: false }
    }

    /// Replaces the parts of the frozen amount.
    #[must_use]
    pub fn with_parts<const N: usize>(mut self, parts: [(&str, Value); N]) -> Self {
        self.parts = Some(parts.map(|(field, part)| (field.to_owned(), part)).into());
        self
    }

    /// Hides the currency from v4's list.
    #[must_use]
    pub fn hidden(mut self) -> Self {
        self.is_hidden = true;
        self
    }
}

/// Error: no account has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAccount(
    /// The requested name.
    pub String,
);

impl fmt::Display for UnknownAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the simulated exchange has no account called {}", self.0)
    }
}

impl std::error::Error for UnknownAccount {}
