//! What is known now, of every account: the one place that pollers write and the web reads.
//! A reader takes an account whole, the old state or the new, and waits for nobody.
//! Knows neither who asks the exchange nor who serves the text.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use smol_str::SmolStr;

use crate::{
    clock::Timestamp,
    exchange::{ClockReading, PriceTable},
    exposition::{
        self, CachedFamilies, Exposition, VisibleFamilies,
        metrics::AccountFacts,
        process_metrics::{ExporterFacts, ReloadStatus},
    },
    log,
    snapshot::prices::{self, PriceSnapshot},
    snapshot::wallet::{Holding, WalletConfig, WalletSnapshot},
};

/// What is known now.
#[derive(Debug, Default)]
pub struct Store {
    registry: ArcSwap<Registry>,
    exporter: ArcSwap<ExporterState>,
    /// How often anything has changed. If this is the same after as before, what was read between is
    /// still what is known.
    changes: AtomicU64,
    cached: ArcSwapOption<CachedScrape>,
}

/// What is known of no account.
#[derive(Clone, Debug, Default)]
struct ExporterState {
    /// The clocks of hosts.
    clocks: BTreeMap<String, HostClock>,
    /// `None` where the configuration is read but once.
    reload: Option<ReloadStatus>,
}

/// The clock of a host as it was last read, and until when it is shown, on [`Moment::elapsed`]: a host that is asked in
/// no poll any more has none.
#[derive(Clone, Copy, Debug)]
struct HostClock {
    reading: ClockReading,
    shown_until: Duration,
}

/// A page for each account, and one for prices: put in the place of others as one.
#[derive(Debug, Default)]
struct Registry {
    /// Sorted by name.
    accounts: Vec<Arc<ArcSwap<AccountEntry>>>,
    /// `None` if prices are not asked for.
    prices: Option<Arc<ArcSwap<PriceEntry>>>,
}

impl Registry {
    fn accounts(&self) -> impl Iterator<Item = Arc<AccountEntry>> {
        self.accounts.iter().map(|slot| slot.load_full())
    }

    fn prices(&self) -> Option<Arc<PriceEntry>> {
        self.prices.as_ref().map(|slot| slot.load_full())
    }
}

/// How prices are asked for.
#[derive(Clone, Copy, Debug)]
pub struct PriceConfig {
    /// From this age on they are unknown.
    pub max_age: Duration,
    /// The deadline of their poller's next sign of life.
    pub heartbeat_deadline: Timestamp,
    /// Whether what is known of them is known of these.
    pub keeps_prices: bool,
}

/// What is known of an account. Immutable: its poller puts a new one in its place.
#[derive(Clone, Debug)]
pub struct AccountEntry {
    /// What holds whatever the wallet.
    pub facts: AccountFacts,
    /// Its wallets, in the order of [`crate::exchange::Wallet`].
    pub wallets: Vec<WalletEntry>,
    /// Until when its poller must have given another sign of life to pass for alive.
    pub heartbeat_deadline: Timestamp,
    families: CachedFamilies,
}

/// What is known of a wallet, and the text that says so.
#[derive(Clone, Debug)]
pub struct WalletEntry {
    /// What is known.
    pub snapshot: WalletSnapshot,
    /// When it is polled next: not in slots that a refused key leaves out.
    pub next_poll: Option<Timestamp>,
    families: CachedFamilies,
    unpriced_cache: Option<UnpricedCache>,
}

/// How many currencies have no price, and of what that was counted.
#[derive(Clone, Debug)]
struct UnpricedCache {
    holdings: Arc<[Holding]>,
    /// Those with a price.
    currencies: Arc<[SmolStr]>,
    unusable: u64,
    unpriced: u64,
}

/// What is known of prices, and the text that says so. Immutable: their poller puts a new one in its
/// place.
#[derive(Clone, Debug)]
pub struct PriceEntry {
    /// What is known.
    pub snapshot: PriceSnapshot,
    /// Until when its poller must have given another sign of life to pass for alive.
    pub heartbeat_deadline: Timestamp,
    /// How often its poller was started again after a panic.
    pub poller_restarts: u64,
    families: CachedFamilies,
}

/// The exporter's own metrics change with every breath; they are read again after this.
const PROCESS_METRICS_MAX_AGE: Duration = Duration::from_millis(100);

/// The newest exposition.
#[derive(Debug)]
struct CachedScrape {
    whole: Exposition,
    /// After so many changes it was strung together.
    changes: u64,
    /// From then on it is not the newest any more, whatever has changed, on [`Moment::elapsed`].
    until: Duration,
}

impl Store {
    /// A ledger of `accounts`, without prices.
    #[must_use]
    pub fn new(accounts: Vec<AccountEntry>) -> Self {
        let store = Self::default();
        store.replace_accounts(&|_| false, accounts, None);
        store
    }

    /// The same, with prices of which nothing is known yet, and which are unknown from `max_age` on.
    /// `alive_until` is the deadline of their poller's first sign of life.
    #[must_use]
    pub fn with_prices(self, max_age: Duration, alive_until: Timestamp) -> Self {
        self.replace_accounts(
            &|_| true,
            Vec::new(),
            Some(PriceConfig { max_age, heartbeat_deadline: alive_until, keeps_prices: false }),
        );
        self
    }

    /// Keeps the accounts whose names are `kept`, adds `new` ones, and prices if there are to be any. A
    /// reader sees all of it or nothing. Not for two at once.
    pub fn replace_accounts(
        &self,
        kept: &dyn Fn(&str) -> bool,
        mut new: Vec<AccountEntry>,
        prices: Option<PriceConfig>,
    ) {
        let old = self.registry.load();
        let mut accounts: Vec<_> =
            old.accounts.iter().filter(|slot| kept(&slot.load().facts.name)).cloned().collect();
        let market = prices.map(|prices| {
            let pages: Vec<_> = accounts.iter().map(|slot| slot.load_full()).collect();
            let wallets = pages.iter().map(|page| &**page).chain(&new).flat_map(|page| &page.wallets);
            let wallet_configs = wallets.map(|wallet| &*wallet.snapshot.config);
            let mut price_snapshot = PriceSnapshot::new(prices.max_age, wallet_configs);
            if let Some(known) = old.prices().filter(|_| prices.keeps_prices) {
                price_snapshot.last_good.clone_from(&known.snapshot.last_good);
                price_snapshot.last_failure.clone_from(&known.snapshot.last_failure);
            }
            let pieces = CachedFamilies::for_prices(&price_snapshot, None);
            let poller_restarts = old.prices().map_or(0, |known| known.poller_restarts);
            PriceEntry {
                snapshot: price_snapshot,
                heartbeat_deadline: prices.heartbeat_deadline,
                poller_restarts,
                families: pieces,
            }
        });
        if let Some(market) = &market {
            for account in &mut new {
                account.count_unpriced(market);
            }
        }
        accounts.extend(new.into_iter().map(|account| Arc::new(ArcSwap::from_pointee(account))));
        accounts.sort_unstable_by(|a, b| a.load().facts.name.cmp(&b.load().facts.name));
        let market = market.map(|market| Arc::new(ArcSwap::from_pointee(market)));
        self.registry.store(Arc::new(Registry { accounts, prices: market }));
        self.record_change();
    }

    /// Every account as it is now, sorted by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<AccountEntry>> {
        self.registry.load().accounts().collect()
    }

    /// The account called `name` as it is now.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<AccountEntry>> {
        self.slot(name).map(|slot| slot.load_full())
    }

    /// Prices as they are now; `None` if they are not asked for.
    #[must_use]
    pub fn prices(&self) -> Option<Arc<PriceEntry>> {
        self.registry.load().prices()
    }

    /// Changes the account called `name`. `change` is made again on the newer state if another has
    /// changed the account meanwhile, so that neither change is lost.
    pub fn update(&self, name: &str, change: impl Fn(&mut AccountEntry)) {
        if let Some(slot) = self.slot(name) {
            self.apply_change(&slot, change);
        }
    }

    /// Changes what is known of prices, and counts anew what has none. `change` may be made more than
    /// once, as in [`update`](Self::update).
    pub fn update_prices(&self, change: impl Fn(&mut PriceEntry)) {
        let book = self.registry.load();
        let Some(slot) = &book.prices else { return };
        let before = slot.rcu(|market| {
            let mut market = PriceEntry::clone(market);
            change(&mut market);
            market
        });
        self.record_change();
        // The prices stand in their place by now. Whoever changes an account from here on counts by
        // them; whoever has begun before finds the account changed, and begins again.
        if before.priced() != slot.load().priced() {
            book.accounts.iter().for_each(|account| self.apply_change(account, |_| {}));
        }
    }

    fn apply_change(&self, slot: &ArcSwap<AccountEntry>, change: impl Fn(&mut AccountEntry)) {
        slot.rcu(|account| {
            let market = self.prices();
            let mut account = AccountEntry::clone(account);
            change(&mut account);
            if let Some(market) = &market {
                account.count_unpriced(market);
            }
            account
        });
        self.record_change();
    }

    fn slot(&self, name: &str) -> Option<Arc<ArcSwap<AccountEntry>>> {
        let book = self.registry.load();
        let place = book.accounts.binary_search_by(|slot| (*slot.load().facts.name).cmp(name));
        place.ok().and_then(|place| book.accounts.get(place)).cloned()
    }

    /// Notes the clocks of hosts that were just asked, to be shown until `shown_until`, on [`Moment::elapsed`].
    pub fn set_clocks(&self, clocks: &[(String, ClockReading)], shown_until: Duration) {
        self.update_exporter_state(&|own| {
            for (host, reading) in clocks {
                let longest =
                    own.clocks.get(host).map_or(shown_until, |clock| clock.shown_until.max(shown_until));
                let clock = HostClock { reading: *reading, shown_until: longest };
                own.clocks.insert(host.clone(), clock);
            }
        });
    }

    /// Forgets the clocks of hosts that nobody asks any more.
    pub fn retain_clocks(&self, is_asked: &dyn Fn(&str) -> bool) {
        self.update_exporter_state(&|own| own.clocks.retain(|host, _| is_asked(host)));
    }

    /// How the configuration was last read, if it is read more than once.
    #[must_use]
    pub fn reload(&self) -> Option<ReloadStatus> {
        self.exporter.load().reload
    }

    /// Notes how the configuration was last read.
    pub fn set_reload(&self, reload: ReloadStatus) {
        self.update_exporter_state(&|own| own.reload = Some(reload));
    }

    fn update_exporter_state(&self, change: &dyn Fn(&mut ExporterState)) {
        self.exporter.rcu(|own| {
            let mut own = ExporterState::clone(own);
            change(&mut own);
            own
        });
        self.record_change();
    }

    /// What is kept of texts is let go at once: it would hold those that have just been replaced until
    /// the next scrape.
    fn record_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.cached.store(None);
    }

    /// How often anything has changed.
    #[must_use]
    pub fn change_count(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// When the next answer becomes too old to be shown, on [`Moment::elapsed`]; `None` if none is
    /// shown as of `now`.
    #[must_use]
    pub fn next_expiry(&self, now: Timestamp) -> Option<Duration> {
        let book = self.registry.load();
        let accounts = book.accounts().collect::<Vec<_>>();
        let snapshots = accounts.iter().flat_map(|account| &account.wallets).map(|wallet| &wallet.snapshot);
        let balances = snapshots.filter_map(|snapshot| snapshot.visible_until(now));
        let prices = book.prices().and_then(|market| market.snapshot.visible_until(now));
        balances.chain(prices).min()
    }

    /// What a scrape is answered with: the exposition as of `now`, strung together anew only when there
    /// is something new in it. Its balances are those of `now`; the exporter's own metrics, with
    /// `process_*` of a process that started at the Unix time `process_started`, are at most
    /// [`OWN_MAX_AGE`] old. Waits for nobody; two scrapes at once may both do the work.
    #[must_use]
    pub fn scrape(&self, now: Timestamp, process_started: Duration) -> Exposition {
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(latest) = &*self.cached.load()
            && latest.changes == changes
            && now.elapsed < latest.until
        {
            return latest.whole.clone();
        }
        let whole = self.exposition(now, Some(process_started));
        let until = now.elapsed + PROCESS_METRICS_MAX_AGE;
        let until = self.next_expiry(now).map_or(until, |unknown| unknown.min(until));
        self.cached.store(Some(Arc::new(CachedScrape { whole: whole.clone(), changes, until })));
        whole
    }

    /// The exposition as of `now`. `process_started` is the Unix time the process started, `None` to
    /// leave out `process_*`.
    #[must_use]
    pub fn exposition(&self, now: Timestamp, process_started: Option<Duration>) -> Exposition {
        let book = self.registry.load();
        let (accounts, market) = (book.accounts().collect::<Vec<_>>(), book.prices());
        let priced = market.as_ref().is_some_and(|market| market.snapshot.visible(now).is_some());
        let of_market =
            market.as_ref().map(|market| VisibleFamilies { families: &market.families, known: true, priced });
        let of_accounts = accounts.iter().flat_map(|account| account.shown(now, priced));
        let shown: Vec<_> = of_accounts.chain(of_market).collect();
        let own = self.exporter.load();
        let clocks = own.clocks.iter().filter(|(_, clock)| now.elapsed < clock.shown_until);
        let skews = clocks.map(|(host, clock)| (&**host, clock.reading.skew_seconds(now))).collect();
        let facts = ExporterFacts {
            skews: &skews,
            process_started,
            reload: own.reload,
            dropped_log_lines: process_started.map(|_| log::dropped_lines()),
            price_poller_restarts: market
                .as_ref()
                .filter(|_| process_started.is_some())
                .map(|market| market.poller_restarts),
        };
        exposition::assemble(&shown, &facts)
    }

    /// Sentences about pollers that have given no sign of life in time; empty if all is well.
    #[must_use]
    pub fn stuck_pollers(&self, now: Timestamp) -> Vec<String> {
        let said = |whose: &str, late: Duration| {
            format!(
                "the poller of {whose} is stuck or dead: its sign of life is {} s overdue",
                late.as_secs()
            )
        };
        let late = |account: &Arc<AccountEntry>| {
            account.overdue(now).map(|late| said(&format!("account '{}'", account.facts.name), late))
        };
        let prices = self.prices().and_then(|market| market.overdue(now)).map(|late| said("prices", late));
        self.accounts().iter().filter_map(late).chain(prices).collect()
    }

    /// Names of the accounts of which some wallet has not been polled yet.
    #[must_use]
    pub fn unpolled_accounts(&self) -> Vec<Box<str>> {
        let unpolled =
            |account: &AccountEntry| account.wallets.iter().any(|wallet| wallet.snapshot.counters.polls == 0);
        let accounts = self.accounts();
        accounts
            .iter()
            .filter(|account| unpolled(account))
            .map(|account| account.facts.name.clone())
            .collect()
    }
}

impl AccountEntry {
    /// An account of which nothing is known yet. `alive_until` is the deadline of its poller's
    /// first sign of life.
    #[must_use]
    pub fn new(facts: AccountFacts, wallet_configs: Vec<Arc<WalletConfig>>, alive_until: Timestamp) -> Self {
        Self::restored(facts, wallet_configs.into_iter().map(WalletSnapshot::new), alive_until)
    }

    /// An account of which something may be known, a standing a wallet.
    #[must_use]
    pub fn restored(
        facts: AccountFacts,
        snapshots: impl IntoIterator<Item = WalletSnapshot>,
        heartbeat_deadline: Timestamp,
    ) -> Self {
        let families = CachedFamilies::for_account(&facts);
        let wallets = snapshots.into_iter().map(WalletEntry::new).collect();
        Self { facts, wallets, heartbeat_deadline, families }
    }

    /// When the next poll of the account is made, of whichever wallet.
    #[must_use]
    pub fn next_poll(&self) -> Option<Timestamp> {
        let next = self.wallets.iter().filter_map(|wallet| wallet.next_poll);
        next.min_by_key(|next| next.elapsed)
    }

    /// How long the sign of life of its poller is overdue; `None` if it is alive. Whoever was
    /// suspended with the machine is not late.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<Duration> {
        overdue(self.heartbeat_deadline, now)
    }

    /// Replaces the facts, and their text if they differ.
    pub fn set_facts(&mut self, facts: AccountFacts) {
        if self.facts != facts {
            self.families = CachedFamilies::for_account(&facts);
            self.facts = facts;
        }
    }

    /// Counts what has no price.
    fn count_unpriced(&mut self, market: &PriceEntry) {
        if let Some(quoted) = &market.snapshot.last_good {
            self.wallets.iter_mut().for_each(|wallet| wallet.count(&quoted.prices));
        }
    }

    /// What a scrape shows: the account's own lines, then its wallets' by label.
    fn shown(&self, now: Timestamp, priced: bool) -> Vec<VisibleFamilies<'_>> {
        let mut wallets: Vec<_> = self.wallets.iter().collect();
        wallets.sort_unstable_by_key(|wallet| wallet.snapshot.config.wallet.label());
        let wallets = wallets.into_iter().map(|wallet| {
            let known = wallet.snapshot.visible(now).is_some();
            VisibleFamilies { families: &wallet.families, known, priced }
        });
        let account = VisibleFamilies { families: &self.families, known: true, priced };
        std::iter::once(account).chain(wallets).collect()
    }
}

impl WalletEntry {
    fn new(snapshot: WalletSnapshot) -> Self {
        Self {
            families: CachedFamilies::for_wallet(&snapshot, None),
            snapshot,
            next_poll: None,
            unpriced_cache: None,
        }
    }

    /// Replaces what is known, and renders what changed of it.
    pub fn set(&mut self, snapshot: WalletSnapshot) {
        self.families = CachedFamilies::for_wallet(&snapshot, Some((&self.snapshot, &self.families)));
        self.snapshot = snapshot;
    }

    /// Counts what has no price among `prices`, and renders that, unless the same was counted before.
    fn count(&mut self, prices: &PriceTable) {
        let Some(good) = &self.snapshot.last_good else { return };
        let (holdings, currencies) = (&good.holdings, prices.currencies());
        let before = self.unpriced_cache.as_ref();
        let is_same = |old: &UnpricedCache| {
            Arc::ptr_eq(&old.holdings, holdings)
                && Arc::ptr_eq(&old.currencies, currencies)
                && old.unusable == good.unusable
        };
        if before.is_some_and(is_same) {
            return;
        }
        let unpriced = prices::count_unpriced(good, prices);
        if before.is_none_or(|old| old.unpriced != unpriced) {
            self.families.set_unpriced(&self.snapshot.config, unpriced);
        }
        let (holdings, currencies) = (Arc::clone(holdings), Arc::clone(currencies));
        self.unpriced_cache = Some(UnpricedCache { holdings, currencies, unusable: good.unusable, unpriced });
    }
}

impl PriceEntry {
    /// Replaces what is known, and renders what changed of it.
    pub fn set(&mut self, price_snapshot: PriceSnapshot) {
        self.families = CachedFamilies::for_prices(&price_snapshot, Some((&self.snapshot, &self.families)));
        self.snapshot = price_snapshot;
    }

    /// How long the sign of life of its poller is overdue; `None` if it is alive.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<Duration> {
        overdue(self.heartbeat_deadline, now)
    }

    /// The currencies that have a price, as an address: equal lists are one.
    fn priced(&self) -> Option<*const SmolStr> {
        self.snapshot.last_good.as_ref().map(|good| good.prices.currencies().as_ptr())
    }
}

/// How long ago, of the time timers go by, `alive_until` was; `None` if it is still to come.
fn overdue(alive_until: Timestamp, now: Timestamp) -> Option<Duration> {
    now.uptime.checked_sub(alive_until.uptime)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{
        exchange::{self, v1},
        snapshot::wallet::{CurrencyFilter, PollOutcome, PollResult, tests::answer},
    };

    const MAX_AGE: Duration = Duration::from_secs(90);
    const UNPRICED: &str = "xt_unpriced_currencies{account=\"a\",wallet=\"spot\"} ";

    fn at(seconds: u64) -> Timestamp {
        let elapsed = Duration::from_secs(seconds);
        Timestamp { elapsed, uptime: elapsed, unix: Duration::from_secs(1_700_000_000) + elapsed }
    }

    fn store() -> Store {
        let facts = AccountFacts {
            name: "a".into(),
            paused_until: None,
            credentials_loaded: Duration::from_secs(1),
            poller_restarts: 0,
        };
        let wallet_config = WalletConfig {
            account: "a".into(),
            wallet: exchange::Wallet::Spot,
            watch: Vec::new(),
            filter: CurrencyFilter::default(),
            max_age: MAX_AGE,
        };
        Store::new(vec![AccountEntry::new(facts, vec![Arc::new(wallet_config)], at(0))])
            .with_prices(MAX_AGE, at(0))
    }

    /// Reads these rows into the account at second `now`.
    fn poll(account: &mut AccountEntry, now: u64, rows: &[(&str, &str, &str)]) {
        for wallet in &mut account.wallets {
            let took = Duration::ZERO;
            let outcome = PollOutcome::Answer { sent: at(now), answer: Some(answer(rows)) };
            let ended = PollResult { at: at(now), took, is_suspect: false, outcome };
            wallet.set(wallet.snapshot.apply(ended));
        }
    }

    /// Reads prices of these currencies at second `now`.
    fn quote(store: &Store, now: u64, currencies: &[&str]) {
        let markets: Vec<_> =
            currencies.iter().map(|name| format!(r#""{name}_usdt":{{"price":{now}.5}}"#)).collect();
        let body = format!("{{{}}}", markets.join(","));
        store.update_prices(|market| {
            let prices = v1::decode_prices(200, body.as_bytes()).map(|prices| (at(now), prices));
            market.set(market.snapshot.apply(at(now), prices));
        });
    }

    fn text(store: &Store, now: u64) -> String {
        String::from_utf8_lossy(&store.exposition(at(now), None).plain.parts.concat()).into_owned()
    }

    /// What follows `series` in the exposition.
    fn value(store: &Store, now: u64, series: &str) -> Option<String> {
        text(store, now).lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned)
    }

    const ROWS: &[(&str, &str, &str)] = &[
        ("aleo(iou)", "5", "0"),
        ("btc", "0", "1"),
        ("doge", "0", "0"),
        ("eth", "2", "0"),
        ("usdt", "9", "0"),
    ];

    #[test]
    fn prices_and_what_has_none_are_shown_while_they_are_known() {
        let store = store();
        assert_eq!(value(&store, 1, "xt_price_last_success_timestamp_seconds ").as_deref(), Some("0"));
        assert!(!text(&store, 1).contains("xt_price{"));
        store.update("a", |account| poll(account, 10, ROWS));
        assert_eq!(value(&store, 10, UNPRICED), None, "as long as there are no prices");
        assert_eq!(store.next_expiry(at(10)), Some(Duration::from_secs(100)));

        quote(&store, 5, &["btc", "usdc"]);
        assert_eq!(value(&store, 10, UNPRICED).as_deref(), Some("2"), "aleo(iou) and eth");
        let shown = text(&store, 10);
        for (currency, price) in [("btc", "5.5"), ("usdc", "5.5"), ("usdt", "1")] {
            let line = format!("xt_price{{currency=\"{currency}\",quote=\"usdt\"}} {price}\n");
            assert!(shown.contains(&line), "{line} in\n{shown}");
        }
        assert_eq!(
            value(&store, 10, "xt_price_last_success_timestamp_seconds ").as_deref(),
            Some("1700000005")
        );
        assert_eq!(store.next_expiry(at(10)), Some(Duration::from_secs(95)), "prices are the older");

        assert_eq!(value(&store, 94, UNPRICED).as_deref(), Some("2"));
        let unknown = text(&store, 95);
        assert!(!unknown.contains("xt_price{") && !unknown.contains(UNPRICED), "{unknown}");
        assert!(unknown.contains("xt_price_last_success_timestamp_seconds 1700000005\n"), "{unknown}");
        assert!(unknown.contains("xt_balance_free{"), "balances are another matter");
        quote(&store, 98, &["btc", "usdc"]);
        assert_eq!(value(&store, 99, UNPRICED).as_deref(), Some("2"));
        assert_eq!(value(&store, 100, UNPRICED), None, "now it is the balances that are too old");
        assert!(text(&store, 100).contains("xt_price{"));
    }

    #[test]
    fn what_has_no_price_is_counted_anew_when_either_side_changes() {
        let store = store();
        let count = || value(&store, 50, UNPRICED);
        quote(&store, 1, &["btc", "eth"]);
        store.update("a", |account| poll(account, 2, ROWS));
        assert_eq!(count().as_deref(), Some("1"));
        quote(&store, 3, &["btc"]);
        assert_eq!(count().as_deref(), Some("2"));
        store.update("a", |account| poll(account, 4, &[("btc", "1", "0")]));
        assert_eq!(count().as_deref(), Some("0"));
        quote(&store, 5, &["eth"]);
        assert_eq!(count().as_deref(), Some("1"));
    }

    /// One change overtakes another between the other's look at the state and its being put in place.
    #[test]
    fn two_changes_at_once_are_both_kept_and_leave_no_stale_count() {
        let store = store();
        quote(&store, 1, &["btc", "eth", "aleo(iou)"]);
        let tries = Cell::new(0);
        store.update("a", |account| {
            poll(account, 2, ROWS);
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                quote(&store, 3, &["btc"]);
            }
        });
        assert_eq!(value(&store, 50, UNPRICED).as_deref(), Some("2"), "by the newer prices");

        tries.set(0);
        store.update("a", |account| {
            account.wallets.iter_mut().for_each(|wallet| wallet.next_poll = Some(at(60)));
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                store.update("a", |account| poll(account, 4, &[("xt", "1", "0")]));
            }
        });
        assert_eq!(store.account("a").and_then(|account| account.next_poll()), Some(at(60)));
        assert_eq!(value(&store, 50, UNPRICED).as_deref(), Some("1"));

        tries.set(0);
        store.update_prices(|market| {
            market.heartbeat_deadline = at(70);
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                quote(&store, 5, &["xt"]);
            }
        });
        assert_eq!(store.prices().map(|market| market.heartbeat_deadline), Some(at(70)));
        assert_eq!(value(&store, 50, UNPRICED).as_deref(), Some("0"));
    }

    #[test]
    fn texts_that_did_not_change_are_not_made_anew() {
        let store = store();
        let place = |name: &str| {
            crate::exposition::metrics::FAMILIES.iter().position(|family| family.name == name).unwrap_or(0)
        };
        let prices = || store.prices().map(|market| market.families.plain(place("xt_price")).as_ptr());
        let unpriced = || {
            let account = store.account("a");
            let wallet = account.as_ref().and_then(|account| account.wallets.first());
            wallet.map(|wallet| wallet.families.plain(place("xt_unpriced_currencies")).as_ptr())
        };
        quote(&store, 1, &["btc"]);
        store.update("a", |account| poll(account, 2, ROWS));
        let (first, count) = (prices(), unpriced());
        store.update_prices(|market| {
            let prices =
                v1::decode_prices(200, br#"{"btc_usdt":{"price":1.50}}"#).map(|prices| (at(3), prices));
            market.set(market.snapshot.apply(at(3), prices));
        });
        store.update("a", |account| poll(account, 4, ROWS));
        assert_eq!((prices(), unpriced()), (first, count));
        quote(&store, 5, &["btc"]);
        assert_eq!(unpriced(), count, "only values have changed");
        assert_ne!(prices(), first);
    }

    #[test]
    fn the_poller_of_prices_is_missed_like_any_other() {
        let store = store();
        store.update("a", |account| account.heartbeat_deadline = at(1_000));
        store.update_prices(|market| market.heartbeat_deadline = at(100));
        assert_eq!(store.stuck_pollers(at(99)), [""; 0]);
        assert_eq!(
            store.stuck_pollers(at(107)),
            ["the poller of prices is stuck or dead: its sign of life is 7 s overdue"]
        );
    }
}
