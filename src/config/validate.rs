//! Turns unvalidated accounts into [`AccountConfig`]s. An error names each setting as the user wrote it: as a flag or
//! as a key of the file. Depends on neither clap nor YAML.

use std::{collections::BTreeSet, fmt, time::Duration};

use humantime::format_duration;
use smol_str::SmolStr;
use zeroize::Zeroizing;

use super::{
    AccountConfig, Config, ConfigError, PricesConfig,
    hosts::{
        FUTURES_COIN_BASE_URLS, FUTURES_USDT_BASE_URLS, USER_CENTER_BASE_URL, default_base_urls,
        is_other_exchange,
    },
    load::{self, ConfiguredShare},
    routes::{RouteSettingNames, RouteSettings, Routes},
    watch::{WatchEntry, parse_currency},
};
use crate::{
    clock::UnixTime,
    exchange::{ApiVersion, BaseUrl, Credentials, Egress, ExchangeHosts, KeySource, Route, Wallet},
    quoting::quote_currency,
    shard::Shard,
    snapshot::{
        positions::FuturesRisk,
        store::AccountLabels,
        wallet::{CurrencyFilter, WatchedCurrency},
    },
};

const NAME_MAX_BYTES: usize = 64;
/// Each position takes seven series.
const MAX_POSITIONS: u64 = 10_000;
const MIN_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
/// Long enough to mean never, short enough that sums do not overflow.
const MAX_DURATION: Duration = Duration::from_hours(8784);

/// The names of the settings, for errors.
pub(super) struct SettingNames {
    pub api: &'static str,
    pub base_url: &'static str,
    pub futures_usdt: &'static str,
    pub futures_coin: &'static str,
    pub user_center: &'static str,
    pub route: RouteSettingNames,
    pub wallet: &'static str,
    pub futures_risk: &'static str,
    pub watch: &'static str,
    pub interval: &'static str,
    pub timeout: &'static str,
    pub max_age: &'static str,
    pub share: &'static str,
}

/// The flag for the share, which also applies to a file that sets none.
pub(super) const SHARE_FLAG: &str = "--limits.share";

/// When to poll.
#[derive(Clone, Copy)]
pub(super) struct UnvalidatedTiming {
    pub interval: Duration,
    pub timeout: Duration,
    /// `None` stands for three intervals.
    pub max_age: Option<Duration>,
}

/// Base URLs. `None` stands for XT's own; an empty list is an error.
#[derive(Clone, Copy)]
pub(super) struct UnvalidatedUrls<'a> {
    pub base: Option<&'a [String]>,
    pub futures_usdt: Option<&'a [String]>,
    pub futures_coin: Option<&'a [String]>,
    pub user_center: Option<&'a str>,
}

/// Which currencies to show.
#[derive(Clone, Copy, Default)]
pub(super) struct UnvalidatedCurrencies<'a> {
    pub only: &'a [String],
    pub exclude: &'a [String],
    pub hide_zero: bool,
}

/// How positions are read. `None` stands for the defaults.
#[derive(Clone, Copy, Default)]
pub(super) struct UnvalidatedRisk {
    pub is_enabled: bool,
    pub max_positions: Option<u64>,
    /// The distances to liquidation that warn and page.
    pub distances: Option<(f64, f64)>,
}

/// An account before validation. Only its name and its labels have been checked.
pub(super) struct UnvalidatedAccount<'a> {
    /// Prefix of every error.
    pub context: String,
    pub settings: &'static SettingNames,
    pub name: &'a str,
    pub labels: AccountLabels,
    /// `None` stands for the default version.
    pub api: Option<ApiVersion>,
    pub urls: UnvalidatedUrls<'a>,
    pub routes: RouteSettings<'a>,
    pub egress: Egress,
    pub wallets: Vec<Wallet>,
    pub watch: Vec<WatchEntry>,
    pub currencies: UnvalidatedCurrencies<'a>,
    pub risk: UnvalidatedRisk,
    pub timing: UnvalidatedTiming,
}

/// Checks the name of an account. The error is the predicate of a sentence.
pub(super) fn check_account_name(name: &str) -> Result<(), String> {
    let is_valid = (1..=NAME_MAX_BYTES).contains(&name.len())
        && !name.chars().any(char::is_control)
        && name.trim() == name;
    is_valid.then_some(()).ok_or_else(|| {
        format!("must have 1 to {NAME_MAX_BYTES} bytes, no control characters and no surrounding spaces")
    })
}

/// Keeps the accounts of `shard`, adds prices to them if there is a `prices_timing`, and checks the rate limits of the
/// process.
pub(super) fn build_config(
    mut accounts: Vec<AccountConfig>,
    shard: Shard,
    prices_timing: Option<UnvalidatedTiming>,
    taken: ConfiguredShare,
    settings: &SettingNames,
) -> Result<Config, ConfigError> {
    check_keys_of_others(&accounts, settings)?;
    load::check_divided_keys(&accounts, shard)?;
    accounts.retain(|account| shard.contains(&account.name));
    let prices = match prices_timing {
        Some(timing) => build_prices(&accounts, timing, settings)?,
        None => None,
    };
    let config = Config { shard, accounts, prices, share: taken.share, ..Config::default() };
    load::check_limits(&config, taken)?;
    Ok(config)
}

/// Rejects the key of an account in one of its own texts, and names the setting.
fn check_own_key(account: &AccountConfig, settings: &SettingNames) -> Result<(), ConfigError> {
    let shown = list_shown_texts(account, settings);
    match shown.iter().find(|(_, text)| account.credentials.pair().is_in(text)) {
        // No context, because that holds the account's name.
        Some((setting, _)) => Err(ConfigError(format!(
            "{setting} contains the access key or the secret key, and is shown in metrics, pages and logs: write something else there"
        ))),
        None => Ok(()),
    }
}

/// Rejects the key of an account in a text of another one. All texts are searched at once, because there may be thousands of
/// accounts.
fn check_keys_of_others(accounts: &[AccountConfig], settings: &SettingNames) -> Result<(), ConfigError> {
    let shown = accounts.iter().flat_map(|account| list_shown_texts(account, settings));
    let shown: BTreeSet<String> = shown.map(|(_, text)| text).collect();
    let shown = Zeroizing::new(shown.into_iter().collect::<Vec<_>>().join("\n").to_lowercase());
    match accounts.iter().position(|account| account.credentials.pair().is_in_lower_case(&shown)) {
        // No name, because that may be the key.
        Some(index) => Err(ConfigError(format!(
            "an account's name, labels, currencies, base URLs or egress group contain the access key or the secret key of accounts[{index}], and are shown in metrics, pages and logs: write something else there"
        ))),
        None => Ok(()),
    }
}

/// The texts of an account that metrics, pages and logs show, each with its setting.
fn list_shown_texts(account: &AccountConfig, settings: &SettingNames) -> Vec<(&'static str, String)> {
    let labels = account.labels.iter().flat_map(|(name, value)| [name, value]);
    let watched = account.watch.iter().map(|(_, watched)| watched.currency.as_str());
    let filtered = account.filter.only.iter().chain(&account.filter.exclude);
    let egress = account.hosts.egress().map(|egress| &*egress.name);
    let name = std::iter::once(("the account's name", account.name.to_string()));
    name.chain(labels.map(|text| ("labels", text.to_string())))
        .chain(watched.map(|name| (settings.watch, name.to_owned())))
        .chain(filtered.map(|name| ("currencies", name.to_string())))
        .chain(egress.map(|name| ("egress", name.to_owned())))
        .chain(account.hosts.all().map(|base| (settings.base_url, base.to_string())))
        .collect()
}

fn build_prices(
    accounts: &[AccountConfig],
    timing: UnvalidatedTiming,
    settings: &SettingNames,
) -> Result<Option<PricesConfig>, ConfigError> {
    let Some(first) = accounts.first() else { return Ok(None) };
    if let Some(other) = accounts.iter().find(|account| is_other_exchange(&account.hosts, &first.hosts)) {
        return Err(ConfigError(format!(
            "prices come from one exchange, but the {} of accounts '{}' and '{}' belong to different exchanges: run one exporter per exchange, or remove prices",
            settings.base_url, first.name, other.name,
        )));
    }
    let (poll_interval, poll_timeout, max_age) =
        timing.validate(settings).map_err(|why| ConfigError(format!("prices: {why}")))?;
    Ok(Some(PricesConfig { hosts: first.hosts.clone(), poll_interval, poll_timeout, max_age }))
}

impl UnvalidatedTiming {
    /// Returns interval, timeout and maximum age.
    fn validate(self, settings: &SettingNames) -> Result<(Duration, Duration, Duration), String> {
        let SettingNames { interval: interval_name, timeout: timeout_name, max_age: max_age_name, .. } =
            *settings;
        let Self { interval, timeout, max_age } = self;
        if interval.max(timeout).max(max_age.unwrap_or_default()) > MAX_DURATION {
            return Err(format!("{interval_name}, {timeout_name} and {max_age_name} must be under a year"));
        }
        if interval < MIN_INTERVAL {
            return Err(format!(
                "{interval_name} is {}, but must be at least {}",
                format_duration(interval),
                format_duration(MIN_INTERVAL)
            ));
        }
        if timeout.is_zero() || timeout >= interval {
            return Err(format!(
                "{timeout_name} is {}, but must be above 0 and shorter than {interval_name} ({}): lower {timeout_name} or raise {interval_name}",
                format_duration(timeout),
                format_duration(interval),
            ));
        }
        let max_age = max_age.unwrap_or(interval * 3);
        if max_age < interval {
            return Err(format!(
                "{max_age_name} is {}, but must be at least {interval_name} ({}), or values would disappear between polls: raise {max_age_name}",
                format_duration(max_age),
                format_duration(interval),
            ));
        }
        Ok((interval, timeout, max_age))
    }
}

impl UnvalidatedAccount<'_> {
    /// Validates everything, and reads the key files and those of its `routes`. `now` is the current Unix time. May block.
    pub(super) fn validate(
        mut self,
        keys: KeySource,
        routes: &mut Routes,
        now: UnixTime,
    ) -> Result<AccountConfig, ConfigError> {
        self.wallets.sort_unstable();
        self.check_wallets()?;
        let route = |base: &BaseUrl| {
            let route = routes.route(base, self.routes, self.settings.route)?;
            Ok::<_, String>(Route { egress: self.egress.clone(), ..route })
        };
        let hosts = self.parse_hosts()?.with_routes(route).or_else(|why| self.fail(why))?;
        let watch = self.expand_watch()?;
        let filter = self.parse_filter()?;
        let futures_risk = self.parse_risk()?;
        let (poll_interval, poll_timeout, max_age) =
            self.timing.validate(self.settings).or_else(|why| self.fail(why))?;
        let credentials = Credentials::open(keys, now).or_else(|why| self.fail(why))?;
        let account = AccountConfig {
            name: self.name.into(),
            labels: self.labels,
            hosts,
            credentials,
            wallets: self.wallets,
            watch,
            filter,
            futures_risk,
            poll_interval,
            poll_timeout,
            max_age,
        };
        check_own_key(&account, self.settings)?;
        Ok(account)
    }

    fn api(&self) -> ApiVersion {
        self.api.unwrap_or_default()
    }

    fn check_wallets(&self) -> Result<(), ConfigError> {
        let SettingNames { wallet: setting, api: api_setting, .. } = *self.settings;
        let (api, supported) = (self.api(), self.list_supported_wallets());
        if self.wallets.is_empty() {
            return self.fail(format!("{setting} is empty: list at least one of {supported}, or remove it"));
        }
        if let Some(twice) = find_duplicate(&self.wallets, |a, b| a == b) {
            return self.fail(format!("{setting} lists '{twice}' twice: remove one of them"));
        }
        match self.wallets.iter().find(|wallet| !api.wallets().any(|known| known == **wallet)) {
            Some(unsupported) => self.fail(format!(
                "{setting} lists '{unsupported}', which API {} does not have: it has {supported}. Choose one of these, or set {api_setting} to {}",
                api.label(),
                if api == ApiVersion::V1 { ApiVersion::V4.label() } else { ApiVersion::V1.label() },
            )),
            None => Ok(()),
        }
    }

    /// Names of the API version's wallets, as in `spot, wallet and fiat`.
    fn list_supported_wallets(&self) -> String {
        let names: Vec<_> = self.api().wallets().map(Wallet::label).collect();
        match names.as_slice() {
            [first @ .., last] => format!("{} and {last}", first.join(", ")),
            [] => String::new(),
        }
    }

    /// XT's own hosts are used only if no base URL is set: the key of another exchange must not reach them.
    fn parse_hosts(&self) -> Result<ExchangeHosts, ConfigError> {
        let Self { urls, .. } = self;
        let SettingNames { base_url, futures_usdt, futures_coin, .. } = *self.settings;
        self.check_v1_hosts()?;
        for (wallet, futures_url, given) in [
            (Wallet::FuturesUsdt, futures_usdt, urls.futures_usdt),
            (Wallet::FuturesCoin, futures_coin, urls.futures_coin),
        ] {
            match (urls.base, given) {
                (Some(_), None) if self.wallets.contains(&wallet) => {
                    return self.fail(format!("{base_url} is set, but {futures_url} for wallet '{wallet}' is not: set both to hosts of one exchange, or remove both to use XT's own"));
                }
                (None, Some(_)) => {
                    return self.fail(format!("{futures_url} is set, but {base_url} is not, and futures hosts have no time endpoint: set both to hosts of one exchange, or remove both to use XT's own"));
                }
                _ => {}
            }
        }
        let default_if_read = |wallet: Wallet, urls: &'static [&'static str]| -> &[&str] {
            if self.wallets.contains(&wallet) { urls } else { &[] }
        };
        let default_usdt = default_if_read(Wallet::FuturesUsdt, FUTURES_USDT_BASE_URLS);
        let default_coin = default_if_read(Wallet::FuturesCoin, FUTURES_COIN_BASE_URLS);
        Ok(ExchangeHosts {
            api: self.api(),
            base_urls: self.parse_urls(base_url, urls.base, default_base_urls(self.api()))?,
            futures_usdt: self.parse_urls(futures_usdt, urls.futures_usdt, default_usdt)?,
            futures_coin: self.parse_urls(futures_coin, urls.futures_coin, default_coin)?,
            user_center: self.parse_user_center()?,
        })
    }

    fn parse_user_center(&self) -> Result<Vec<BaseUrl>, ConfigError> {
        let name = self.settings.user_center;
        let url = match (self.urls.user_center, self.urls.base) {
            (Some(_), _) if self.api() == ApiVersion::V1 => {
                return self.fail(format!("{name} is set, but API v1 has no user center: remove it"));
            }
            (Some(given), _) => given,
            (None, None) if self.api() == ApiVersion::V4 => USER_CENTER_BASE_URL,
            (None, _) => return Ok(Vec::new()),
        };
        BaseUrl::parse(url).map(|base| vec![base]).or_else(|why| self.fail(format!("{name}: {why}")))
    }

    /// XT's hosts of v1 reject v4, so a configuration from before v4 became the default must name its version.
    fn check_v1_hosts(&self) -> Result<(), ConfigError> {
        let SettingNames { api, base_url, .. } = *self.settings;
        let v1_hosts = default_base_urls(ApiVersion::V1);
        let is_v1_host = |url: &String| v1_hosts.contains(&url.trim_end_matches('/'));
        if self.api.is_none() && self.urls.base.is_some_and(|urls| urls.iter().any(is_v1_host)) {
            return self.fail(format!("{base_url} names a host of API v1, but the default of {api} is v4: set {api} to v1, or remove {base_url} to use v4"));
        }
        Ok(())
    }

    fn parse_urls(
        &self,
        setting: &str,
        given: Option<&[String]>,
        default: &[&str],
    ) -> Result<Vec<BaseUrl>, ConfigError> {
        let urls = match given {
            Some([]) => return self.fail(format!("{setting} is empty: list at least one, or remove it")),
            Some(urls) => urls.iter().map(|url| BaseUrl::parse(url)).collect::<Result<_, _>>(),
            None => default.iter().map(|url| BaseUrl::parse(url)).collect(),
        };
        let urls: Vec<BaseUrl> = urls.or_else(|why| self.fail(format!("{setting}: {why}")))?;
        let mut texts: Vec<_> = urls.iter().map(BaseUrl::to_string).collect();
        texts.sort_unstable();
        // A suspect answer is confirmed by another host, so the same host twice would confirm itself.
        match find_duplicate(&texts, |a, b| a == b) {
            Some(_) => self.fail(format!("{setting} lists the same URL twice: remove one of them")),
            None => Ok(urls),
        }
    }

    /// Returns each watched currency with each wallet that it is watched in, sorted.
    fn expand_watch(&self) -> Result<Vec<(Wallet, WatchedCurrency)>, ConfigError> {
        let SettingNames { watch: setting, wallet: wallet_setting, .. } = *self.settings;
        let wallets = self.watch.iter().filter_map(|(wallet, _)| *wallet);
        if let Some(unread) = wallets.into_iter().find(|wallet| !self.wallets.contains(wallet)) {
            return self.fail(format!("{setting} names a currency of wallet '{unread}', which {wallet_setting} does not list: add it to {wallet_setting}, or remove the prefix '{unread}/'"));
        }
        let has_threshold = |(wallet, watched): &&WatchEntry| {
            wallet.is_some_and(|wallet| !wallet.has_free_amounts()) && watched.thresholds.is_some()
        };
        if let Some((_, watched)) = self.watch.iter().find(has_threshold) {
            let currency = quote_currency(&watched.currency);
            return self.fail(format!("{setting} has a threshold for {currency} of wallet 'earn', whose money is never free: remove the threshold"));
        }
        let with_free: Vec<_> =
            self.wallets.iter().copied().filter(|wallet| wallet.has_free_amounts()).collect();
        if let Some((_, watched)) =
            self.watch.iter().find(|(wallet, _)| wallet.is_none() && with_free.is_empty())
        {
            let currency = quote_currency(&watched.currency);
            return self.fail(format!("{setting} lists {currency} without a wallet, which leaves out wallet 'earn', and {wallet_setting} lists no other: add the prefix 'earn/'"));
        }
        let expand = |(wallet, watched): &WatchEntry| {
            let wallets = wallet.map_or_else(|| with_free.clone(), |wallet| vec![wallet]);
            let watched = watched.clone();
            wallets.into_iter().map(move |wallet| (wallet, watched.clone()))
        };
        let mut watch: Vec<_> = self.watch.iter().flat_map(expand).collect();
        watch.sort_unstable_by(|(wallet, a), (other, b)| (wallet, &a.currency).cmp(&(other, &b.currency)));
        if let Some((_, twice)) =
            find_duplicate(&watch, |(wallet, a), (other, b)| (wallet, &a.currency) == (other, &b.currency))
        {
            let currency = quote_currency(&twice.currency);
            return self.fail(format!("{setting} lists {currency} twice: remove one of them"));
        }
        Ok(watch)
    }

    fn parse_filter(&self) -> Result<CurrencyFilter, ConfigError> {
        let UnvalidatedCurrencies { only, exclude, hide_zero } = self.currencies;
        let parse = |list: &str, names: &[String]| -> Result<Vec<SmolStr>, ConfigError> {
            let names = names.iter().map(|name| parse_currency(name)).collect::<Result<_, _>>();
            names.or_else(|why| self.fail(format!("currencies.{list}: {why}: write `{list}: [usdt, btc]`")))
        };
        let (only, exclude) = (parse("only", only)?, parse("exclude", exclude)?);
        let wanted = self.watch.iter().map(|(_, watched)| &watched.currency).chain(&only);
        match wanted.into_iter().find(|name| exclude.contains(name)) {
            Some(both) => self.fail(format!(
                "currencies.exclude lists {}, but watch or currencies.only lists it too: remove it from one of them",
                quote_currency(both)
            )),
            None => Ok(CurrencyFilter { only, exclude, hide_zero }),
        }
    }

    fn parse_risk(&self) -> Result<Option<FuturesRisk>, ConfigError> {
        let SettingNames { futures_risk: setting, wallet: wallet_setting, .. } = *self.settings;
        let UnvalidatedRisk { is_enabled, max_positions, distances } = self.risk;
        if !is_enabled {
            if max_positions.is_some() || distances.is_some() {
                return self.fail(format!("max_positions and liquidation_distance need {setting}: set {setting} to true, or remove them"));
            }
            return Ok(None);
        }
        if !self.wallets.iter().any(|wallet| wallet.has_positions()) {
            return self.fail(format!("{setting} needs a futures wallet, because other wallets have no positions: add futures_usdt or futures_coin to {wallet_setting}, or remove {setting}"));
        }
        let default = FuturesRisk::default();
        let max_positions = max_positions.unwrap_or(default.max_positions as u64);
        if !(1..=MAX_POSITIONS).contains(&max_positions) {
            return self
                .fail(format!("max_positions is {max_positions}, but must be from 1 to {MAX_POSITIONS}"));
        }
        let (warn_distance, page_distance) =
            distances.unwrap_or((default.warn_distance, default.page_distance));
        // Also false for NaN.
        let is_valid = page_distance > 0.0 && page_distance <= warn_distance && warn_distance < 1.0;
        if !is_valid {
            return self.fail(format!("liquidation_distance is {{warn: {warn_distance}, page: {page_distance}}}, but both must be above 0 and below 1, and page must not be above warn: write 20 % and 10 % as `{{warn: 0.2, page: 0.1}}`"));
        }
        let max_positions = usize::try_from(max_positions).unwrap_or(usize::MAX);
        Ok(Some(FuturesRisk { max_positions, warn_distance, page_distance }))
    }

    fn fail<T>(&self, why: impl fmt::Display) -> Result<T, ConfigError> {
        Err(ConfigError(format!("{}{why}", self.context)))
    }
}

/// The first of two equal neighbours.
fn find_duplicate<T>(sorted: &[T], same: impl Fn(&T, &T) -> bool) -> Option<&T> {
    sorted.windows(2).find_map(|pair| match pair {
        [a, b] if same(a, b) => Some(a),
        _ => None,
    })
}
