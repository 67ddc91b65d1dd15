//! The base URLs of an account's wallets. Sends nothing.

use std::collections::BTreeSet;

use super::{api_version::ApiVersion, balance::Wallet, base_url::BaseUrl, egress::Egress, route::Route};

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
    /// The base URL of the user center, which lists the permissions of keys. No poll uses it. Empty for v1, and if the
    /// base URLs are not XT's own and no user center is set.
    pub user_center: Vec<BaseUrl>,
}

impl ExchangeHosts {
    /// Every base URL of every wallet, without the user center.
    pub fn all(&self) -> impl Iterator<Item = &BaseUrl> {
        self.base_urls.iter().chain(&self.futures_usdt).chain(&self.futures_coin)
    }

    /// The same hosts with a route for each base URL.
    ///
    /// # Errors
    /// The first error of `choose`.
    pub fn with_routes<E>(self, mut choose: impl FnMut(&BaseUrl) -> Result<Route, E>) -> Result<Self, E> {
        let mut route = |urls: Vec<BaseUrl>| {
            let urls = urls.into_iter().map(|base| Ok(base.clone().with_route(choose(&base)?)));
            urls.collect::<Result<Vec<_>, E>>()
        };
        Ok(Self {
            api: self.api,
            base_urls: route(self.base_urls)?,
            futures_usdt: route(self.futures_usdt)?,
            futures_coin: route(self.futures_coin)?,
            user_center: route(self.user_center)?,
        })
    }

    /// The different routes of all base URLs, as in `via proxy proxy.example.com:3128`.
    #[must_use]
    pub fn routes(&self) -> BTreeSet<String> {
        self.all().map(|base| base.route().to_string()).collect()
    }

    /// The egress group that all calls leave by; `None` if there are no base URLs.
    #[must_use]
    pub fn egress(&self) -> Option<&Egress> {
        self.base_urls.first().map(|base| &base.route().egress)
    }

    /// The different routes in one text; `None` if none has a proxy.
    #[must_use]
    pub fn proxy_routes(&self) -> Option<Box<str>> {
        let has_proxy = self.all().any(|base| base.route().proxy.is_some());
        has_proxy.then(|| self.routes().into_iter().collect::<Vec<_>>().join(", ").into())
    }

    /// Warnings about files with a proxy's password that other users could read when they were first read.
    #[must_use]
    pub fn proxy_warnings(&self) -> BTreeSet<&str> {
        self.all().filter_map(|base| base.route().proxy.as_ref()?.warning()).collect()
    }

    /// The base URLs of `wallet`.
    #[must_use]
    pub fn for_wallet(&self, wallet: Wallet) -> &[BaseUrl] {
        match wallet {
            Wallet::Spot | Wallet::Wallet | Wallet::Fiat | Wallet::Earn => &self.base_urls,
            Wallet::FuturesUsdt => &self.futures_usdt,
            Wallet::FuturesCoin => &self.futures_coin,
        }
    }
}

/// The first of the wallets that share their base URLs with `wallet`.
#[must_use]
pub(super) fn representative_wallet(wallet: Wallet) -> Wallet {
    match wallet {
        Wallet::Spot | Wallet::Wallet | Wallet::Fiat | Wallet::Earn => Wallet::Spot,
        Wallet::FuturesUsdt | Wallet::FuturesCoin => wallet,
    }
}
