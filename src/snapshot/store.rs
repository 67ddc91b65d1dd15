//! The store: the last result of every account and of prices, which pollers write and everything else reads.
//! A reader gets an account whole, the old entry or the new one, and never waits.
//! Holds data only: it depends on neither the text format, HTTP nor a clock.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use smol_str::SmolStr;
use tokio::sync::watch;

use super::{
    history::History,
    positions::PositionsSnapshot,
    prices::PriceSnapshot,
    wallet::{WalletConfig, WalletSnapshot},
};
use crate::{
    clock::{MonotonicTime, Timestamp, UnixTime, Uptime},
    exchange::{ApiVersion, ClockReading, RateLimitUsage},
    shard::Shard,
};

/// The entries of all accounts, the entry of prices, and the state of the exporter itself.
#[derive(Debug, Default)]
pub struct Store {
    registry: ArcSwap<Registry>,
    exporter: ArcSwap<ExporterState>,
    /// The use of the rate limits; `None` before it is published.
    rate_limits: ArcSwapOption<RateLimitUsage>,
    history: ArcSwap<History>,
    /// Counts changes. A reader that finds the same count before and after has read a consistent state.
    changes: watch::Sender<u64>,
}

/// An entry per account, and one for prices. A reload replaces the registry in one step.
#[derive(Debug, Default)]
struct Registry {
    /// Sorted by account name.
    accounts: Vec<Arc<ArcSwap<AccountEntry>>>,
    /// `None` if prices are disabled.
    prices: Option<Arc<ArcSwap<PriceEntry>>>,
}

/// All entries, loaded together.
#[derive(Debug)]
pub struct Entries {
    /// Sorted by account name.
    pub accounts: Vec<Arc<AccountEntry>>,
    /// `None` if prices are disabled.
    pub prices: Option<Arc<PriceEntry>>,
}

/// An account's current state. Immutable: its poller replaces it with a new one.
#[derive(Clone, Debug)]
pub struct AccountEntry {
    /// The state that all wallets of the account share.
    pub state: AccountState,
    /// Its wallets, in the order of [`crate::exchange::Wallet`].
    pub wallets: Vec<WalletEntry>,
    /// The poller counts as stuck if it does not renew this deadline in time.
    pub heartbeat_deadline: Uptime,
    /// The routes to its base URLs, as in `via proxy proxy.example.com:3128`; `None` if none has a proxy.
    pub proxy_routes: Option<Box<str>>,
    /// The API version that its calls use.
    pub api: ApiVersion,
}

/// Names and values of the labels that the configuration gives an account, sorted by name.
pub type AccountLabels = Arc<[(SmolStr, SmolStr)]>;

/// The state that all wallets of an account share.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountState {
    /// The `account` label.
    pub name: Box<str>,
    /// Further labels of `xt_account_info`.
    pub labels: AccountLabels,
    /// Unix time at which a pause ends; `None` if not paused.
    pub paused_until: Option<UnixTime>,
    /// Unix time at which the key pair in use was read.
    pub credentials_loaded: UnixTime,
    /// How often the account's poller was restarted after a panic.
    pub poller_restarts: u64,
}

/// A wallet's current state.
#[derive(Clone, Debug)]
pub struct WalletEntry {
    /// The last good answer, the last failure and the counters. The same allocation until the next poll ends.
    pub snapshot: Arc<WalletSnapshot>,
    /// The open positions; `None` if they are not read. The same allocation until they are read again.
    pub positions: Option<Arc<PositionsSnapshot>>,
    /// When the wallet is polled next. Slots that a rejected key skips do not count.
    pub next_poll: Option<MonotonicTime>,
}

/// The current state of prices. Immutable: their poller replaces it with a new one.
#[derive(Clone, Debug)]
pub struct PriceEntry {
    /// The last good answer and the last failure. The same allocation until the next poll ends.
    pub snapshot: Arc<PriceSnapshot>,
    /// The poller counts as stuck if it does not renew this deadline in time.
    pub heartbeat_deadline: Uptime,
    /// How often the price poller was restarted after a panic.
    pub poller_restarts: u64,
    /// When prices are read next.
    pub next_poll: Option<MonotonicTime>,
}

/// Settings for a new price entry.
#[derive(Clone, Copy, Debug)]
pub struct NewPriceEntry {
    /// Prices of this age and older are hidden.
    pub max_age: Duration,
    /// The first heartbeat deadline of the price poller.
    pub heartbeat_deadline: Uptime,
    /// Whether the previous entry's prices stay, because they come from the same endpoints.
    pub keeps_prices: bool,
}

/// State that belongs to no account.
#[derive(Clone, Debug, Default)]
struct ExporterState {
    /// By host.
    clocks: BTreeMap<String, VisibleClock>,
    /// `None` for a command that reads the configuration only once.
    reload: Option<ReloadStatus>,
    /// The part of the accounts that this process watches.
    shard: Shard,
}

/// The last clock reading of a host.
#[derive(Clone, Copy, Debug)]
struct VisibleClock {
    reading: ClockReading,
    /// Hides the clocks of hosts that no poll asks any more.
    visible_until: MonotonicTime,
}

/// The result of the last configuration reload.
#[derive(Clone, Copy, Debug)]
pub struct ReloadStatus {
    /// Whether the last reload succeeded.
    pub last_succeeded: bool,
    /// Unix time of the last successful reload.
    pub last_success: UnixTime,
}

impl Store {
    /// Creates a store with `accounts` and without prices.
    #[must_use]
    pub fn new(accounts: Vec<AccountEntry>) -> Self {
        let store = Self::default();
        store.replace_accounts(&|_| false, accounts, None);
        store
    }

    /// Enables prices, which are hidden from `max_age` on.
    #[must_use]
    pub fn with_prices(self, max_age: Duration, heartbeat_deadline: Uptime) -> Self {
        let prices = NewPriceEntry { max_age, heartbeat_deadline, keeps_prices: false };
        self.replace_accounts(&|_| true, Vec::new(), Some(prices));
        self
    }

    /// Keeps the accounts for which `is_kept` holds, adds `new` ones and replaces the price entry. A reader sees all of
    /// it or nothing. Two callers must not run it at the same time.
    pub fn replace_accounts(
        &self,
        is_kept: &dyn Fn(&str) -> bool,
        new: Vec<AccountEntry>,
        prices: Option<NewPriceEntry>,
    ) {
        let old = self.registry.load();
        let kept = old.accounts.iter().filter(|slot| is_kept(&slot.load().state.name)).cloned();
        let new = new.into_iter().map(|account| Arc::new(ArcSwap::from_pointee(account)));
        let mut accounts: Vec<_> = kept.chain(new).collect();
        accounts.sort_unstable_by(|a, b| a.load().state.name.cmp(&b.load().state.name));
        let prices = prices.map(|prices| {
            let previous = old.prices.as_ref().map(|slot| slot.load_full());
            Arc::new(ArcSwap::from_pointee(PriceEntry::new(prices, &accounts, previous.as_deref())))
        });
        self.registry.store(Arc::new(Registry { accounts, prices }));
        self.drop_old_history();
        self.record_change();
    }

    /// Drops the history of balances that are not watched any more, and of accounts that are other ones than before, whose
    /// last good answers are gone too.
    fn drop_old_history(&self) {
        let accounts = self.accounts();
        let find_wallet = |account: &str, wallet| {
            let account = accounts.iter().find(|entry| *entry.state.name == *account)?;
            account.wallets.iter().find(|entry| entry.snapshot.config.wallet == wallet)
        };
        let is_kept = |account: &str, wallet, currency: &str| {
            find_wallet(account, wallet).is_some_and(|entry| {
                entry.snapshot.last_good.is_some() && entry.snapshot.config.find_watch(currency).is_some()
            })
        };
        self.history.rcu(|history| history.retain(is_kept));
    }

    /// Adds the watched balances of the last good answer of `snapshot` to the history. Call it once for each good poll.
    pub fn record_history(&self, snapshot: &WalletSnapshot) {
        if !snapshot.config.watch.is_empty() {
            self.history.rcu(|history| history.record(snapshot));
        }
    }

    /// The last hour of the watched balances.
    #[must_use]
    pub fn history(&self) -> Arc<History> {
        self.history.load_full()
    }

    /// Every entry as it is now. A reload is seen as a whole.
    #[must_use]
    pub fn entries(&self) -> Entries {
        let registry = self.registry.load();
        Entries {
            accounts: registry.accounts.iter().map(|slot| slot.load_full()).collect(),
            prices: registry.prices.as_ref().map(|slot| slot.load_full()),
        }
    }

    /// Every account as it is now, sorted by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<AccountEntry>> {
        self.entries().accounts
    }

    /// The account called `name` as it is now.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<AccountEntry>> {
        self.find_cell(name).map(|slot| slot.load_full())
    }

    /// Prices as they are now; `None` if they are disabled.
    #[must_use]
    pub fn prices(&self) -> Option<Arc<PriceEntry>> {
        self.registry.load().prices.as_ref().map(|slot| slot.load_full())
    }

    /// Changes the account called `name`, if it exists. If another change of the account comes between, `change` runs
    /// again on the newer entry, so that neither change is lost. A new heartbeat alone is not a change for readers.
    pub fn update_account(&self, name: &str, change: impl Fn(&mut AccountEntry)) {
        let Some(slot) = self.find_cell(name) else { return };
        let mut is_visible = false;
        slot.rcu(|old| {
            let mut account = AccountEntry::clone(old);
            change(&mut account);
            is_visible = !account.is_same_but_heartbeat(old);
            account
        });
        if is_visible {
            self.record_change();
        }
    }

    /// Changes the price entry, if prices are enabled. `change` may run more than once, as in [`update_account`](Self::update_account).
    pub fn update_prices(&self, change: impl Fn(&mut PriceEntry)) {
        let registry = self.registry.load();
        let Some(slot) = &registry.prices else { return };
        let mut is_visible = false;
        slot.rcu(|old| {
            let mut prices = PriceEntry::clone(old);
            change(&mut prices);
            is_visible = !prices.is_same_but_heartbeat(old);
            prices
        });
        if is_visible {
            self.record_change();
        }
    }

    fn find_cell(&self, name: &str) -> Option<Arc<ArcSwap<AccountEntry>>> {
        let registry = self.registry.load();
        let found = registry.accounts.binary_search_by(|slot| (*slot.load().state.name).cmp(name));
        found.ok().and_then(|index| registry.accounts.get(index)).cloned()
    }

    /// Stores clock readings by host. They are visible until `visible_until`.
    pub fn set_clocks(&self, clocks: &[(String, ClockReading)], visible_until: MonotonicTime) {
        self.update_exporter_state(&|state| {
            for (host, reading) in clocks {
                let latest = state
                    .clocks
                    .get(host)
                    .map_or(visible_until, |clock| clock.visible_until.max(visible_until));
                state.clocks.insert(host.clone(), VisibleClock { reading: *reading, visible_until: latest });
            }
        });
    }

    /// Removes the clocks of hosts for which `is_asked` does not hold.
    pub fn retain_clocks(&self, is_asked: &dyn Fn(&str) -> bool) {
        self.update_exporter_state(&|state| state.clocks.retain(|host, _| is_asked(host)));
    }

    /// The clock of each host minus this machine's as of `now`, in seconds, by host.
    #[must_use]
    pub fn clock_skews(&self, now: Timestamp) -> BTreeMap<String, f64> {
        let state = self.exporter.load();
        let visible = state.clocks.iter().filter(|(_, clock)| now.monotonic < clock.visible_until);
        visible.map(|(host, clock)| (host.clone(), clock.reading.skew_seconds(now))).collect()
    }

    /// The result of the last reload; `None` for a command that reads the configuration only once.
    #[must_use]
    pub fn reload_status(&self) -> Option<ReloadStatus> {
        self.exporter.load().reload
    }

    /// The part of the accounts that this process watches.
    #[must_use]
    pub fn shard(&self) -> Shard {
        self.exporter.load().shard
    }

    /// Stores the part of the accounts that this process watches.
    pub fn set_shard(&self, shard: Shard) {
        if self.shard() != shard {
            self.update_exporter_state(&|state| state.shard = shard);
        }
    }

    /// Stores the result of a reload.
    pub fn set_reload_status(&self, status: ReloadStatus) {
        self.update_exporter_state(&|state| state.reload = Some(status));
    }

    /// The use of the rate limits as it was last published; `None` for a command that publishes none.
    #[must_use]
    pub fn rate_limits(&self) -> Option<Arc<RateLimitUsage>> {
        self.rate_limits.load_full()
    }

    /// Publishes the use of the rate limits. This is not a change for readers: it happens all the time.
    pub fn set_rate_limits(&self, usage: RateLimitUsage) {
        self.rate_limits.store(Some(Arc::new(usage)));
    }

    fn update_exporter_state(&self, change: &dyn Fn(&mut ExporterState)) {
        self.exporter.rcu(|state| {
            let mut state = ExporterState::clone(state);
            change(&mut state);
            state
        });
        self.record_change();
    }

    fn record_change(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// The number of changes so far.
    #[must_use]
    pub fn change_count(&self) -> u64 {
        *self.changes.borrow()
    }

    /// A receiver that is notified of changes from now on. It may merge several changes into one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// When the next visible answer becomes too old; `None` if nothing is visible as of `now`.
    #[must_use]
    pub fn next_expiry(&self, now: Timestamp) -> Option<MonotonicTime> {
        let Entries { accounts, prices } = self.entries();
        let wallets = accounts.iter().flat_map(|account| &account.wallets);
        let until = |wallet: &WalletEntry| {
            let positions = wallet.positions.as_ref().and_then(|positions| positions.visible_until(now));
            [wallet.snapshot.visible_until(now), positions]
        };
        let answers = wallets.flat_map(until).flatten();
        answers.chain(prices.and_then(|prices| prices.snapshot.visible_until(now))).min()
    }

    /// A sentence for each poller whose heartbeat is overdue; empty if all pollers are alive.
    #[must_use]
    pub fn stuck_pollers(&self, now: Timestamp) -> Vec<String> {
        let describe = |poller: &str, overdue: Duration| {
            format!("the poller of {poller} is stuck: its heartbeat is {} s overdue", overdue.as_secs())
        };
        let Entries { accounts, prices } = self.entries();
        let account = |account: &Arc<AccountEntry>| {
            account
                .overdue(now)
                .map(|overdue| describe(&format!("account '{}'", account.state.name), overdue))
        };
        let prices = prices.and_then(|prices| prices.overdue(now)).map(|overdue| describe("prices", overdue));
        accounts.iter().filter_map(account).chain(prices).collect()
    }

    /// Names of the accounts that have a wallet without a finished poll.
    #[must_use]
    pub fn unpolled_accounts(&self) -> Vec<Box<str>> {
        let is_unpolled =
            |account: &AccountEntry| account.wallets.iter().any(|wallet| wallet.snapshot.counters.polls == 0);
        let accounts = self.accounts();
        let unpolled = accounts.iter().filter(|account| is_unpolled(account));
        unpolled.map(|account| account.state.name.clone()).collect()
    }
}

impl AccountEntry {
    /// An account without a finished poll.
    #[must_use]
    pub fn new(facts: AccountState, wallets: Vec<Arc<WalletConfig>>, heartbeat_deadline: Uptime) -> Self {
        Self::restored(facts, wallets.into_iter().map(WalletSnapshot::new), heartbeat_deadline)
    }

    /// An account with the results of earlier polls, one snapshot per wallet.
    #[must_use]
    pub fn restored(
        state: AccountState,
        snapshots: impl IntoIterator<Item = WalletSnapshot>,
        heartbeat_deadline: Uptime,
    ) -> Self {
        let entry = |snapshot| WalletEntry { snapshot: Arc::new(snapshot), positions: None, next_poll: None };
        let wallets = snapshots.into_iter().map(entry).collect();
        Self { state, wallets, heartbeat_deadline, proxy_routes: None, api: ApiVersion::default() }
    }

    /// The same account with these routes to its base URLs.
    #[must_use]
    pub fn with_proxy_routes(self, proxy_routes: Option<Box<str>>) -> Self {
        Self { proxy_routes, ..self }
    }

    /// The same account with this API version.
    #[must_use]
    pub fn with_api(self, api: ApiVersion) -> Self {
        Self { api, ..self }
    }

    /// The same account with the positions of its wallets.
    #[must_use]
    pub fn with_positions(mut self, positions: impl IntoIterator<Item = PositionsSnapshot>) -> Self {
        for snapshot in positions {
            let wallet = snapshot.config.wallet;
            if let Some(entry) = self.wallets.iter_mut().find(|entry| entry.snapshot.config.wallet == wallet)
            {
                entry.positions = Some(Arc::new(snapshot));
            }
        }
        self
    }

    fn is_same_but_heartbeat(&self, other: &Self) -> bool {
        self.state == other.state
            && self.wallets.len() == other.wallets.len()
            && self.wallets.iter().zip(&other.wallets).all(|(wallet, other)| {
                Arc::ptr_eq(&wallet.snapshot, &other.snapshot)
                    && wallet.positions.as_ref().map(Arc::as_ptr) == other.positions.as_ref().map(Arc::as_ptr)
                    && wallet.next_poll == other.next_poll
            })
    }

    /// When the next wallet of the account is polled.
    #[must_use]
    pub fn next_poll(&self) -> Option<MonotonicTime> {
        self.wallets.iter().filter_map(|wallet| wallet.next_poll).min()
    }

    /// How long the poller's heartbeat is overdue; `None` if the poller is alive. Time in which the machine was
    /// suspended does not count.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<Duration> {
        overdue(self.heartbeat_deadline, now)
    }
}

impl WalletEntry {
    /// Replaces the snapshot.
    pub fn set_snapshot(&mut self, snapshot: WalletSnapshot) {
        self.snapshot = Arc::new(snapshot);
    }
}

impl PriceEntry {
    /// An entry for the prices of `accounts`.
    fn new(config: NewPriceEntry, accounts: &[Arc<ArcSwap<AccountEntry>>], previous: Option<&Self>) -> Self {
        let accounts: Vec<_> = accounts.iter().map(|slot| slot.load_full()).collect();
        let wallets = accounts.iter().flat_map(|account| &account.wallets);
        let mut snapshot = PriceSnapshot::new(config.max_age, wallets.map(|wallet| &*wallet.snapshot.config));
        if let Some(previous) = previous.filter(|_| config.keeps_prices) {
            snapshot.last_good.clone_from(&previous.snapshot.last_good);
            snapshot.last_failure.clone_from(&previous.snapshot.last_failure);
            snapshot.market_list.clone_from(&previous.snapshot.market_list);
        }
        Self {
            snapshot: Arc::new(snapshot),
            heartbeat_deadline: config.heartbeat_deadline,
            poller_restarts: previous.map_or(0, |previous| previous.poller_restarts),
            next_poll: None,
        }
    }

    fn is_same_but_heartbeat(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot)
            && self.poller_restarts == other.poller_restarts
            && self.next_poll == other.next_poll
    }

    /// Replaces the snapshot.
    pub fn set_snapshot(&mut self, snapshot: PriceSnapshot) {
        self.snapshot = Arc::new(snapshot);
    }

    /// How long the poller's heartbeat is overdue; `None` if the poller is alive.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Option<Duration> {
        overdue(self.heartbeat_deadline, now)
    }
}

/// How long ago `deadline` was, on the clock that timers use; `None` if it is still to come.
fn overdue(deadline: Uptime, now: Timestamp) -> Option<Duration> {
    now.uptime.checked_duration_since(deadline)
}

#[cfg(test)]
impl AccountState {
    /// The state of an account that was just started, for tests.
    #[must_use]
    pub fn at_start(name: &str) -> Self {
        Self {
            name: name.into(),
            labels: Arc::default(),
            paused_until: None,
            credentials_loaded: crate::clock::simulated::at(0).unix,
            poller_restarts: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::simulated::at;

    #[test]
    fn a_heartbeat_alone_is_no_change_for_readers() {
        let state = AccountState::at_start("a");
        let store = Store::new(vec![AccountEntry::new(state, Vec::new(), at(0).uptime)])
            .with_prices(Duration::MAX, at(0).uptime);
        let before = store.change_count();
        store.update_account("a", |account| account.heartbeat_deadline = at(9).uptime);
        store.update_prices(|prices| prices.heartbeat_deadline = at(9).uptime);
        assert_eq!(store.change_count(), before);
        assert_eq!(store.account("a").map(|account| account.heartbeat_deadline), Some(at(9).uptime));
        store.update_account("a", |account| account.state.poller_restarts = 1);
        store.update_prices(|prices| prices.poller_restarts = 1);
        assert_eq!(store.change_count(), before + 2);
    }

    /// The second change comes between the first one's reading of the entry and its replacement.
    #[test]
    fn two_concurrent_changes_of_an_account_are_both_kept() {
        let facts = AccountState::at_start("a");
        let store = Store::new(vec![AccountEntry::new(facts, Vec::new(), at(0).uptime)]);
        let tries = Cell::new(0);
        store.update_account("a", |account| {
            account.heartbeat_deadline = at(60).uptime;
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                store.update_account("a", |account| account.state.poller_restarts = 1);
            }
        });
        let account = store.account("a");
        let state = account.map(|account| (account.heartbeat_deadline, account.state.poller_restarts));
        assert_eq!(state, Some((at(60).uptime, 1)));
        assert_eq!(tries.get(), 2);
    }

    #[test]
    fn an_overdue_heartbeat_of_the_price_poller_is_reported() {
        let store = Store::new(Vec::new()).with_prices(Duration::from_secs(90), at(0).uptime);
        store.update_prices(|prices| prices.heartbeat_deadline = at(100).uptime);
        assert_eq!(store.stuck_pollers(at(99)), [""; 0]);
        assert_eq!(store.stuck_pollers(at(107)).len(), 1);
    }
}
