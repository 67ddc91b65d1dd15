//! The text of a configuration file → accounts. Whatever it says: no panic, no hang; a refusal is one sentence that
//! can be read where it is shown; what is accepted keeps every promise that the rest of the program builds on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use xt_balance_exporter::{
    clock::{Clock, UnixTime},
    config::{AccountConfig, Config, PricesConfig},
    exchange::{Client, currency_name},
    exposition::cache,
    poller,
};

use super::{exposition, is_readable};

/// The key files that inputs may name: `k`, `k2` and `s` are good, `empty`, `blank` and `binary` are not.
static KEYS: LazyLock<PathBuf> = LazyLock::new(|| {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [here.join("tests/fuzz/keys"), here.join("keys")];
    let found = folders.iter().find(|folder| folder.is_dir());
    found.cloned().unwrap_or_else(|| panic!("no key files in {folders:?}"))
});

static EXCHANGE: LazyLock<Arc<Client>> =
    LazyLock::new(|| Arc::new(Client::simulated(Clock::start()).unwrap_or_else(|error| panic!("{error}"))));

/// The longest sentence that anyone reads.
const SENTENCE_MAX_CHARS: usize = 600;

/// Has the exporter read `input` as its configuration file.
///
/// # Panics
/// If a promise is broken.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::from_yaml(text, &KEYS, &|_| None, UnixTime::from_secs(1_700_000_000)) {
        Ok(config) => valid(config),
        Err(invalid) => {
            let said = invalid.to_string();
            assert!(is_readable(&said), "{said:?}");
            assert!(said.chars().count() <= SENTENCE_MAX_CHARS, "{said}");
        }
    }
}

fn valid(config: Config) {
    let accounts = &config.accounts;
    let names: BTreeSet<_> = accounts.iter().map(|account| account.name.clone()).collect();
    assert!(!accounts.is_empty() && names.len() == accounts.len(), "names are missing or double: {names:?}");
    for account in accounts {
        valid_account(account);
    }
    if let Some(prices) = &config.prices {
        valid_times(prices.poll_interval, prices.poll_timeout, prices.max_age);
        assert!(!prices.hosts.base_urls.is_empty());
    }
    load(accounts, config.prices.as_ref());
    starts(config, &names);
}

fn valid_account(account: &AccountConfig) {
    let AccountConfig { name, hosts, wallets, watch, filter, .. } = account;
    assert!((1..=64).contains(&name.len()) && is_readable(name) && name.trim() == &**name, "{name:?}");
    assert!(wallets.iter().all(|wallet| !hosts.for_wallet(*wallet).is_empty()), "{wallets:?} of {hosts:?}");
    assert!(wallets.iter().all(|wallet| hosts.api.wallets().any(|known| known == *wallet)), "{wallets:?}");
    for url in [&hosts.base_urls, &hosts.futures_usdt, &hosts.futures_coin].into_iter().flatten() {
        let url = url.to_string();
        let is_here =
            ["http://localhost", "http://127.", "http://[::1]"].iter().any(|here| url.starts_with(here));
        assert!(url.starts_with("https://") || is_here, "{url}");
        assert!(is_readable(&url) && !url.contains(['?', '#', ' ']), "{url:?}");
        assert!(!url.split('/').nth(2).is_none_or(|host| host.contains('@')), "{url:?}");
    }
    assert!(!wallets.is_empty() && wallets.is_sorted_by(|a, b| a < b), "{wallets:?}");
    assert!(
        watch.is_sorted_by(|(wallet, a), (other, b)| (wallet, &a.currency) < (other, &b.currency)),
        "{watch:?}"
    );
    let mut thresholds = watch.iter().filter_map(|(_, watch)| watch.thresholds);
    let can_fire = |threshold: f64| threshold.is_finite() && threshold > 0.0;
    assert!(
        thresholds.all(|levels| can_fire(levels.warn) && can_fire(levels.page) && levels.page <= levels.warn),
        "{watch:?}"
    );
    let watched: Vec<_> = watch.iter().map(|(_, watch)| &watch.currency).collect();
    for currency in watched.iter().copied().chain(&filter.only).chain(&filter.exclude) {
        assert_eq!(currency_name(currency).as_ref(), Some(currency), "a name that no answer could have");
    }
    let mut wanted = watched.into_iter().chain(&filter.only);
    assert!(!wanted.any(|name| filter.exclude.contains(name)), "wanted and excluded: {filter:?}");
    valid_times(account.poll_interval, account.poll_timeout, account.max_age);
}

fn valid_times(interval: Duration, timeout: Duration, max_age: Duration) {
    let second = Duration::from_secs(1);
    assert!(interval >= second && interval <= second * 366 * 24 * 3600, "{interval:?}");
    assert!(!timeout.is_zero() && timeout < interval, "{timeout:?} of {interval:?}");
    assert!(max_age >= interval && max_age <= second * 3 * 366 * 24 * 3600, "{max_age:?} of {interval:?}");
}

/// What is asked in all and for one key stays below what the exchange locks accounts for.
fn load(accounts: &[AccountConfig], prices: Option<&PricesConfig>) {
    let mut keys = BTreeMap::new();
    for account in accounts {
        let calls = f64::from(u32::try_from(account.wallets.len()).unwrap_or(u32::MAX));
        let key = format!("{:?}", account.credentials.pair().id());
        *keys.entry(key).or_insert(0.0) += calls / account.poll_interval.as_secs_f64();
    }
    let of_prices = prices.map_or(0.0, |prices| 1.0 / prices.poll_interval.as_secs_f64());
    let (busiest, all) =
        keys.values().fold((0.0_f64, of_prices), |(busiest, all), rate| (busiest.max(*rate), all + rate));
    assert!(busiest <= 2.000_001 && all <= 15.000_001, "{busiest} calls a second for one key, {all} in all");
}

/// Readies the pollers, as the program does next; what is served before the first poll is whole.
fn starts(config: Config, names: &BTreeSet<Box<str>>) {
    let clock = Clock::start();
    let wallets: usize = config.accounts.iter().map(|account| account.wallets.len()).sum();
    let watched = config.accounts.iter().flat_map(|account| &account.watch);
    let thresholds: Vec<_> = watched.filter_map(|(_, watch)| watch.thresholds).collect();
    let warn = sorted(thresholds.iter().map(|levels| levels.warn));
    let page = sorted(thresholds.iter().map(|levels| levels.page));
    let is_priced = config.prices.is_some();
    let (pollers, prices, store) = poller::create_pollers(config.accounts, config.prices, &EXCHANGE, clock);
    assert_eq!(prices.is_some(), is_priced);
    assert_eq!(pollers.len(), names.len());
    let now = clock.now();
    assert_eq!(store.stuck_pollers(now), [""; 0]);
    assert!(store.unpolled_accounts().iter().eq(names));
    let text = cache::render(&store, now, None).plain.parts.concat();
    let text = String::from_utf8_lossy(&text);
    let samples = exposition::read(&text);
    assert_eq!(samples.of("xt_up").count(), wallets);
    assert_eq!(samples.of("xt_price_last_success_timestamp_seconds").count(), usize::from(is_priced));
    assert_eq!(samples.of("xt_price").count(), 0);
    let values = |name: &str| sorted(samples.of(name).map(|(_, value)| value));
    assert_eq!(values("xt_balance_free_threshold"), warn);
    assert_eq!(values("xt_balance_free_page_threshold"), page);
    assert_eq!(samples.of("xt_credentials_loaded_timestamp_seconds").count(), names.len());
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
