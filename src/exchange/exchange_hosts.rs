//! The base URLs of an account's wallets. Sends nothing.

use super::{api_version::ApiVersion, balance::Wallet, base_url::BaseUrl};

/// The API version of an account, and the base URLs of its wallets in order of preference. All of them belong to one
/// exchange, because a key of one exchange must not reach another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExchangeHosts {
    /// The version of the API.
    pub api: ApiVersion,
    /// The base URLs of all wallets except futures; they also serve the time for futures. Not empty.
    pub base_urls: Vec<BaseUrl>,
    /// The base URLs of USDT-margined futures; not empty if that wallet is read.
    pub futures_usdt: Vec<BaseUrl>,
    /// The base URLs of coin-margined futures; not empty if that wallet is read.
    pub futures_coin: Vec<BaseUrl>,
}

impl ExchangeHosts {
    /// Every base URL of every wallet.
    pub fn all(&self) -> impl Iterator<Item = &BaseUrl> {
        self.base_urls.iter().chain(&self.futures_usdt).chain(&self.futures_coin)
    }

    /// The base URLs of `wallet`.
    #[must_use]
    pub fn for_wallet(&self, wallet: Wallet) -> &[BaseUrl] {
        match wallet {
            Wallet::Spot | Wallet::Wallet | Wallet::Fiat => &self.base_urls,
            Wallet::FuturesUsdt => &self.futures_usdt,
            Wallet::FuturesCoin => &self.futures_coin,
        }
    }
}

/// The first of the wallets that share their base URLs with `wallet`.
#[must_use]
pub(super) fn representative_wallet(wallet: Wallet) -> Wallet {
    match wallet {
        Wallet::Spot | Wallet::Wallet | Wallet::Fiat => Wallet::Spot,
        Wallet::FuturesUsdt | Wallet::FuturesCoin => wallet,
    }
}
