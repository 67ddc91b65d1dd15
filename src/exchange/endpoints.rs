//! Where the wallets of an account are asked for. Sends nothing.

use super::{api_version::ApiVersion, balance::Wallet, base_url::BaseUrl};

/// The version of the API an account speaks, and the base URLs of its wallets in order of preference.
/// All of them are of one exchange: a key of one must not reach another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoints {
    /// The version of the API.
    pub api: ApiVersion,
    /// Of all wallets but futures; they also tell the time of the others. Not empty.
    pub base_urls: Vec<BaseUrl>,
    /// Of USDT-margined futures; not empty if that wallet is read.
    pub futures_usdt: Vec<BaseUrl>,
    /// Of coin-margined futures; not empty if that wallet is read.
    pub futures_coin: Vec<BaseUrl>,
}

impl Endpoints {
    /// Every base URL, of whichever wallet.
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

/// The first of the wallets that have their base URLs in common with `wallet`.
#[must_use]
pub(super) fn representative_wallet(wallet: Wallet) -> Wallet {
    match wallet {
        Wallet::Spot | Wallet::Wallet | Wallet::Fiat => Wallet::Spot,
        Wallet::FuturesUsdt | Wallet::FuturesCoin => wallet,
    }
}
