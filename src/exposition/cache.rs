//! The cache between the store and scrapes: text that was rendered for an earlier scrape is used again where the
//! snapshot behind it is still the same. Depends on no socket and sends nothing.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use smol_str::SmolStr;

use super::{CachedFamilies, Exposition, VisibleFamilies, assemble, process_metrics::ExporterFacts};
use crate::{
    clock::{MonotonicTime, Timestamp, UnixTime},
    exchange::{PriceTable, RateLimitUsage},
    log::dropped_lines,
    snapshot::{
        positions::PositionsSnapshot,
        prices::{PriceSnapshot, count_unpriced},
        store::{AccountEntry, AccountState, Entries, PriceEntry, Store, WalletEntry},
        wallet::{Holding, WalletSnapshot},
    },
};

/// The metrics of the process change all the time: a scrape that comes within this time gets the previous ones.
const PROCESS_METRICS_MAX_AGE: Duration = Duration::from_millis(100);

/// The least time between two looks at all entries for changes. Longer intervals let scrapes render more of the changes
/// themselves, on threads that then keep the freed memory.
const REFRESH_INTERVAL: Duration = Duration::from_millis(10);

/// Renders the store, and keeps the text of what did not change.
#[derive(Debug)]
pub struct ExpositionCache {
    store: Arc<Store>,
    rendered: ArcSwap<RenderedEntries>,
    scrape: ArcSwapOption<CachedScrape>,
}

/// The latest answer to a scrape.
#[derive(Debug)]
struct CachedScrape {
    exposition: Exposition,
    /// The store's change count when it was rendered.
    changes: u64,
    /// From then on it is out of date even if nothing changes.
    expires: MonotonicTime,
}

/// Renders `store` as of `now`, for a caller that does it only once. `process_started` is the Unix time at which the
/// process started; `None` leaves out everything about the process.
#[must_use]
pub fn render(store: &Store, now: Timestamp, process_started: Option<UnixTime>) -> Exposition {
    RenderedEntries::new(&store.entries(), &RenderedEntries::default()).assemble(store, now, process_started)
}

impl ExpositionCache {
    /// A cache of `store` that holds nothing yet.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, rendered: ArcSwap::default(), scrape: ArcSwapOption::default() }
    }

    /// The answer to a scrape: balances as of `now`, and process metrics that are at most 100 ms old.
    /// `process_started` is the Unix time at which the process started. Never waits; two scrapes at the same time may
    /// both render what changed.
    #[must_use]
    pub fn scrape(&self, now: Timestamp, process_started: UnixTime) -> Exposition {
        let changes = self.store.change_count();
        if let Some(cached) = &*self.scrape.load()
            && cached.changes == changes
            && now.monotonic < cached.expires
        {
            return cached.exposition.clone();
        }
        let exposition = self.render(now, Some(process_started));
        let expires = now.monotonic + PROCESS_METRICS_MAX_AGE;
        let expires = self.store.next_expiry(now).map_or(expires, |expiry| expiry.min(expires));
        let cached = CachedScrape { exposition: exposition.clone(), changes, expires };
        self.scrape.store(Some(Arc::new(cached)));
        exposition
    }

    /// Renders the store as of `now`; see [`render`].
    #[must_use]
    pub fn render(&self, now: Timestamp, process_started: Option<UnixTime>) -> Exposition {
        self.render_changes().assemble(&self.store, now, process_started)
    }

    /// Renders every change soon after it was made, so that scrapes find the text ready. Returns only if the store
    /// is gone.
    pub async fn follow_store(&self) {
        let mut changes = self.store.subscribe();
        loop {
            self.refresh();
            // The cached answer holds the texts that were just replaced.
            self.scrape.store(None);
            if changes.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(REFRESH_INTERVAL).await;
        }
    }

    /// Renders what changed since the last call, ahead of the next scrape.
    pub fn refresh(&self) {
        self.render_changes();
    }

    fn render_changes(&self) -> Arc<RenderedEntries> {
        let rendered = Arc::new(RenderedEntries::new(&self.store.entries(), &self.rendered.load()));
        self.rendered.store(Arc::clone(&rendered));
        rendered
    }
}

/// The text of every entry.
#[derive(Debug, Default)]
struct RenderedEntries {
    /// Sorted by account name.
    accounts: Vec<Arc<RenderedAccount>>,
    prices: Option<Arc<RenderedPrices>>,
}

impl RenderedEntries {
    /// Renders `entries`. Texts that cannot have changed are taken from `old`.
    fn new(entries: &Entries, old: &Self) -> Self {
        let prices = entries.prices.as_deref().map(|entry| RenderedPrices::new(entry, old.prices.as_ref()));
        let table = entries.prices.as_deref().and_then(|entry| entry.snapshot.last_good.as_ref());
        let table = table.map(|good| &*good.prices);
        let account = |entry: &Arc<AccountEntry>| {
            let found = old.accounts.binary_search_by(|old| old.facts.name.cmp(&entry.state.name));
            RenderedAccount::new(entry, found.ok().and_then(|index| old.accounts.get(index)), table)
        };
        Self { accounts: entries.accounts.iter().map(account).collect(), prices }
    }

    /// The use of the rate limits without accounts that a reload removed after it was published.
    fn visible_usage(&self, usage: &RateLimitUsage) -> RateLimitUsage {
        let mut usage = usage.clone();
        let is_known =
            |name: &str| self.accounts.binary_search_by(|known| (*known.facts.name).cmp(name)).is_ok();
        usage.keys.retain(|(account, _)| is_known(account));
        usage
    }

    fn assemble(&self, store: &Store, now: Timestamp, process_started: Option<UnixTime>) -> Exposition {
        let prices_visible =
            self.prices.as_ref().is_some_and(|prices| prices.snapshot.visible(now).is_some());
        let prices = self.prices.as_ref();
        let prices = prices.map(|prices| VisibleFamilies {
            families: &prices.families,
            balances_visible: true,
            positions_visible: true,
            prices_visible,
        });
        let accounts = self.accounts.iter().flat_map(|account| account.visible_families(now, prices_visible));
        let visible: Vec<_> = accounts.chain(prices).collect();
        let prices_entry = self.prices.as_ref().filter(|_| process_started.is_some());
        let rate_limits = store.rate_limits().map(|usage| self.visible_usage(&usage));
        let facts = ExporterFacts {
            skews: &store.clock_skews(now),
            process_started,
            shard: store.shard(),
            reload: store.reload_status(),
            dropped_log_lines: process_started.map(|_| dropped_lines()),
            rate_limits: rate_limits.as_ref(),
            price_poller_restarts: prices_entry.map(|prices| prices.poller_restarts),
        };
        assemble(&visible, &facts)
    }
}

/// The text of an account, and the data that it shows.
#[derive(Debug)]
struct RenderedAccount {
    facts: AccountState,
    families: CachedFamilies,
    /// Sorted by wallet label.
    wallets: Vec<Arc<RenderedWallet>>,
}

impl RenderedAccount {
    fn new(entry: &AccountEntry, old: Option<&Arc<Self>>, prices: Option<&PriceTable>) -> Arc<Self> {
        let wallet = |entry: &WalletEntry| {
            let is_same_wallet =
                |old: &&Arc<RenderedWallet>| old.snapshot.config.wallet == entry.snapshot.config.wallet;
            RenderedWallet::new(entry, old.and_then(|old| old.wallets.iter().find(is_same_wallet)), prices)
        };
        let mut wallets: Vec<_> = entry.wallets.iter().map(wallet).collect();
        wallets.sort_unstable_by_key(|wallet| wallet.snapshot.config.wallet.label());
        let same_facts = old.filter(|old| old.facts == entry.state);
        if let Some(old) = same_facts
            && old.wallets.len() == wallets.len()
            && old.wallets.iter().zip(&wallets).all(|(old, new)| Arc::ptr_eq(old, new))
        {
            return Arc::clone(old);
        }
        let families =
            same_facts.map_or_else(|| CachedFamilies::for_account(&entry.state), |old| old.families.clone());
        Arc::new(Self { facts: entry.state.clone(), families, wallets })
    }

    /// The account's own lines, then the lines of its wallets.
    fn visible_families(
        &self,
        now: Timestamp,
        prices_visible: bool,
    ) -> impl Iterator<Item = VisibleFamilies<'_>> {
        let account = VisibleFamilies {
            families: &self.families,
            balances_visible: true,
            positions_visible: true,
            prices_visible,
        };
        let wallets = self.wallets.iter().flat_map(move |wallet| {
            let balances_visible = wallet.snapshot.visible(now).is_some();
            let families = &wallet.families;
            let balances =
                VisibleFamilies { families, balances_visible, positions_visible: true, prices_visible };
            let positions = wallet.positions.as_ref().map(|positions| VisibleFamilies {
                families: &positions.families,
                positions_visible: positions.snapshot.visible(now).is_some(),
                ..balances
            });
            std::iter::once(balances).chain(positions)
        });
        std::iter::once(account).chain(wallets)
    }
}

/// The text of a wallet, and the data that it shows.
#[derive(Debug)]
struct RenderedWallet {
    snapshot: Arc<WalletSnapshot>,
    unpriced: Option<UnpricedCount>,
    families: CachedFamilies,
    positions: Option<Arc<RenderedPositions>>,
}

impl RenderedWallet {
    fn new(entry: &WalletEntry, old: Option<&Arc<Self>>, prices: Option<&PriceTable>) -> Arc<Self> {
        let snapshot = &entry.snapshot;
        let old = old.filter(|old| Arc::ptr_eq(&old.snapshot.config, &snapshot.config));
        let positions = entry.positions.as_ref();
        let positions =
            positions.map(|new| RenderedPositions::new(new, old.and_then(|old| old.positions.as_ref())));
        let previous_count = old.and_then(|old| old.unpriced.as_ref());
        let unpriced = prices.and_then(|prices| UnpricedCount::new(snapshot, prices, previous_count));
        let has_same_count =
            unpriced.as_ref().map(|count| count.unpriced) == previous_count.map(|count| count.unpriced);
        if let Some(old) = old
            && Arc::ptr_eq(&old.snapshot, snapshot)
            && unpriced == old.unpriced
            && positions.as_ref().map(Arc::as_ptr) == old.positions.as_ref().map(Arc::as_ptr)
        {
            return Arc::clone(old);
        }
        let mut families =
            CachedFamilies::for_wallet(snapshot, old.map(|old| (&*old.snapshot, &old.families)));
        if let Some(count) = &unpriced
            && !has_same_count
        {
            families.set_unpriced(&snapshot.config, count.unpriced);
        }
        Arc::new(Self { snapshot: Arc::clone(snapshot), unpriced, families, positions })
    }
}

/// The text of a wallet's positions, and the data that it shows.
#[derive(Debug)]
struct RenderedPositions {
    snapshot: Arc<PositionsSnapshot>,
    families: CachedFamilies,
}

impl RenderedPositions {
    fn new(snapshot: &Arc<PositionsSnapshot>, old: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(old) = old.filter(|old| Arc::ptr_eq(&old.snapshot, snapshot)) {
            return Arc::clone(old);
        }
        let families =
            CachedFamilies::for_positions(snapshot, old.map(|old| (&*old.snapshot, &old.families)));
        Arc::new(Self { snapshot: Arc::clone(snapshot), families })
    }
}

/// The number of a wallet's currencies without a price, and the data it was counted from.
#[derive(Clone, Debug)]
struct UnpricedCount {
    holdings: Arc<[Holding]>,
    /// The currencies that have a price.
    currencies: Arc<[SmolStr]>,
    unusable: u64,
    unpriced: u64,
}

impl PartialEq for UnpricedCount {
    /// Whether both were counted from the same data.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.holdings, &other.holdings)
            && Arc::ptr_eq(&self.currencies, &other.currencies)
            && self.unusable == other.unusable
    }
}

impl UnpricedCount {
    /// Counts, unless `previous` was counted from the same data. `None` if the wallet has no good answer.
    fn new(snapshot: &WalletSnapshot, prices: &PriceTable, previous: Option<&Self>) -> Option<Self> {
        let good = snapshot.last_good.as_ref()?;
        let (holdings, currencies) = (Arc::clone(&good.holdings), Arc::clone(prices.currencies()));
        let count = Self { holdings, currencies, unusable: good.unusable, unpriced: 0 };
        if let Some(previous) = previous.filter(|previous| **previous == count) {
            return Some(previous.clone());
        }
        Some(Self { unpriced: count_unpriced(good, prices), ..count })
    }
}

/// The text of prices, and the data that it shows.
#[derive(Debug)]
struct RenderedPrices {
    snapshot: Arc<PriceSnapshot>,
    poller_restarts: u64,
    families: CachedFamilies,
}

impl RenderedPrices {
    fn new(entry: &PriceEntry, old: Option<&Arc<Self>>) -> Arc<Self> {
        let snapshot = &entry.snapshot;
        if let Some(old) = old
            && Arc::ptr_eq(&old.snapshot, snapshot)
            && old.poller_restarts == entry.poller_restarts
        {
            return Arc::clone(old);
        }
        let old = old.filter(|old| Arc::ptr_eq(&old.snapshot.filter, &snapshot.filter));
        let families = CachedFamilies::for_prices(snapshot, old.map(|old| (&*old.snapshot, &old.families)));
        Arc::new(Self { snapshot: Arc::clone(snapshot), poller_restarts: entry.poller_restarts, families })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::simulated::at,
        exchange::{self, v1},
        exposition::metrics::FAMILIES,
        snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, WalletConfig, tests::answer},
    };

    const MAX_AGE: Duration = Duration::from_secs(90);
    const UNPRICED: &str = "xt_unpriced_currencies{account=\"a\",wallet=\"spot\"} ";

    fn create_cache() -> ExpositionCache {
        let facts =
            AccountState { credentials_loaded: UnixTime::from_secs(1), ..AccountState::at_start("a") };
        let wallet_config = WalletConfig {
            account: "a".into(),
            wallet: exchange::Wallet::Spot,
            watch: Vec::new(),
            filter: CurrencyFilter::default(),
            max_age: MAX_AGE,
        };
        let account = AccountEntry::new(facts, vec![Arc::new(wallet_config)], at(0).uptime);
        ExpositionCache::new(Arc::new(Store::new(vec![account]).with_prices(MAX_AGE, at(0).uptime)))
    }

    /// Reads these rows into the account at second `now`.
    fn poll(account: &mut AccountEntry, now: u64, rows: &[(&str, &str, &str)]) {
        for wallet in &mut account.wallets {
            let took = Duration::ZERO;
            let outcome = PollOutcome::Answer { sent: at(now), answer: Some(answer(rows)) };
            let result = PollResult { at: at(now), took, is_suspect: false, outcome };
            wallet.set_snapshot(wallet.snapshot.apply(result));
        }
    }

    /// Reads prices of these currencies at second `now`.
    fn quote(cache: &ExpositionCache, now: u64, currencies: &[&str]) {
        let markets: Vec<_> =
            currencies.iter().map(|name| format!(r#""{name}_usdt":{{"price":{now}.5}}"#)).collect();
        let body = format!("{{{}}}", markets.join(","));
        cache.store.update_prices(|market| {
            let prices = v1::decode_prices(200, body.as_bytes()).map(|prices| (at(now), prices));
            market.set_snapshot(market.snapshot.apply(at(now), prices));
        });
    }

    fn text(cache: &ExpositionCache, now: u64) -> String {
        String::from_utf8_lossy(&cache.render(at(now), None).plain.parts.concat()).into_owned()
    }

    /// What follows `series` in the exposition.
    fn value(cache: &ExpositionCache, now: u64, series: &str) -> Option<String> {
        text(cache, now).lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned)
    }

    const ROWS: &[(&str, &str, &str)] = &[
        ("aleo(iou)", "5", "0"),
        ("btc", "0", "1"),
        ("doge", "0", "0"),
        ("eth", "2", "0"),
        ("usdt", "9", "0"),
    ];

    #[test]
    fn prices_and_unpriced_currencies_are_visible_until_they_expire() {
        let cache = create_cache();
        assert_eq!(value(&cache, 1, "xt_price_last_success_timestamp_seconds ").as_deref(), Some("0"));
        assert!(!text(&cache, 1).contains("xt_price{"));
        cache.store.update_account("a", |account| poll(account, 10, ROWS));
        assert_eq!(value(&cache, 10, UNPRICED), None, "as long as there are no prices");
        assert_eq!(cache.store.next_expiry(at(10)), Some(at(100).monotonic));

        quote(&cache, 5, &["btc", "usdc"]);
        assert_eq!(value(&cache, 10, UNPRICED).as_deref(), Some("2"), "aleo(iou) and eth");
        let shown = text(&cache, 10);
        for (currency, price) in [("btc", "5.5"), ("usdc", "5.5"), ("usdt", "1")] {
            let line = format!("xt_price{{currency=\"{currency}\",quote=\"usdt\"}} {price}\n");
            assert!(shown.contains(&line), "{line} in\n{shown}");
        }
        assert_eq!(
            value(&cache, 10, "xt_price_last_success_timestamp_seconds ").as_deref(),
            Some("1700000005")
        );
        assert_eq!(cache.store.next_expiry(at(10)), Some(at(95).monotonic), "prices are the older");

        assert_eq!(value(&cache, 94, UNPRICED).as_deref(), Some("2"));
        let unknown = text(&cache, 95);
        assert!(!unknown.contains("xt_price{") && !unknown.contains(UNPRICED), "{unknown}");
        assert!(unknown.contains("xt_price_last_success_timestamp_seconds 1700000005\n"), "{unknown}");
        assert!(unknown.contains("xt_balance_free{"), "balances are another matter");
        quote(&cache, 98, &["btc", "usdc"]);
        assert_eq!(value(&cache, 99, UNPRICED).as_deref(), Some("2"));
        assert_eq!(value(&cache, 100, UNPRICED), None, "now it is the balances that are too old");
        assert!(text(&cache, 100).contains("xt_price{"));
    }

    #[test]
    fn unpriced_currencies_follow_balances_and_prices() {
        let cache = create_cache();
        let count = || value(&cache, 50, UNPRICED);
        quote(&cache, 1, &["btc", "eth"]);
        cache.store.update_account("a", |account| poll(account, 2, ROWS));
        assert_eq!(count().as_deref(), Some("1"));
        quote(&cache, 3, &["btc"]);
        assert_eq!(count().as_deref(), Some("2"));
        cache.store.update_account("a", |account| poll(account, 4, &[("btc", "1", "0")]));
        assert_eq!(count().as_deref(), Some("0"));
        quote(&cache, 5, &["eth"]);
        assert_eq!(count().as_deref(), Some("1"));
    }

    #[test]
    fn unchanged_text_is_reused() {
        let cache = create_cache();
        let index = |name: &str| FAMILIES.iter().position(|family| family.name == name).unwrap_or(0);
        let prices = || {
            let rendered = cache.render_changes();
            rendered
                .prices
                .as_ref()
                .and_then(|prices| prices.families.chunk(index("xt_price")).map(|chunk| chunk.plain.as_ptr()))
        };
        let unpriced = || {
            let rendered = cache.render_changes();
            let wallet = rendered.accounts.first().and_then(|account| account.wallets.first());
            wallet.and_then(|wallet| {
                wallet.families.chunk(index("xt_unpriced_currencies")).map(|chunk| chunk.plain.as_ptr())
            })
        };
        quote(&cache, 1, &["btc"]);
        cache.store.update_account("a", |account| poll(account, 2, ROWS));
        let (first, count) = (prices(), unpriced());
        cache.store.update_prices(|market| {
            let prices =
                v1::decode_prices(200, br#"{"btc_usdt":{"price":1.50}}"#).map(|prices| (at(3), prices));
            market.set_snapshot(market.snapshot.apply(at(3), prices));
        });
        cache.store.update_account("a", |account| poll(account, 4, ROWS));
        assert_eq!((prices(), unpriced()), (first, count));
        quote(&cache, 5, &["btc"]);
        assert_eq!(unpriced(), count, "only values have changed");
        assert_ne!(prices(), first);
    }
}
