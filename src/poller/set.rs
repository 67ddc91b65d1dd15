//! The set of running pollers. A reload starts, replaces and stops pollers; unchanged ones keep running.
//! Depends on neither files, signals nor HTTP.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{AbortHandle, Id, JoinSet},
};

use super::{
    PollContext, PollTarget, Poller,
    account::{AccountPoller, AccountSpec, AccountTarget},
    prices::{PricePoller, PriceTarget},
    rate_limits::publish_rate_limits,
    restart::Restarts,
    schedule::Schedule,
};
use crate::{
    clock::{Clock, MonotonicTime},
    config::{self, AccountConfig, Config, PricesConfig},
    exchange::{self, Client, PACE_SPAN, PriceClient, Session},
    snapshot::{
        positions::{PositionsConfig, PositionsSnapshot},
        store::{AccountEntry, AccountState, NewPriceEntry, Store},
        wallet::{WalletConfig, WalletSnapshot},
    },
};

/// The running pollers. They stop when the set is dropped.
#[derive(Debug)]
pub struct PollerSet {
    context: PollContext,
    runtime: Handle,
    tasks: JoinSet<StoppedPoller>,
    running: Vec<RunningPoller>,
    /// The number of pollers created so far.
    poller_count: u32,
}

/// A running poller.
#[derive(Debug)]
struct RunningPoller {
    task: AbortHandle,
    spec: PollerSpec,
    /// The poller stops and returns when this is dropped.
    _stop: oneshot::Sender<Infallible>,
}

/// The settings that a running poller was created with.
#[derive(Debug)]
enum PollerSpec {
    Account(Box<str>, Arc<AccountSpec>),
    Prices(PricesConfig),
}

/// A poller that was stopped.
#[derive(Debug)]
enum StoppedPoller {
    Account(Box<AccountPoller>),
    Prices(Box<PricePoller>),
}

impl From<AccountPoller> for StoppedPoller {
    fn from(poller: AccountPoller) -> Self {
        Self::Account(Box::new(poller))
    }
}

impl From<PricePoller> for StoppedPoller {
    fn from(poller: PricePoller) -> Self {
        Self::Prices(Box::new(poller))
    }
}

/// The changes that a reload made: numbers of accounts, and whether prices changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadSummary {
    /// Accounts that had no running poller.
    pub new: usize,
    /// Accounts with other settings than before.
    pub changed: usize,
    /// Accounts that are no longer polled.
    pub removed: usize,
    /// Accounts with the same settings as before.
    pub unchanged: usize,
    /// Whether the settings of prices changed.
    pub prices_changed: bool,
}

/// The time of the first poll, and the position of its slot.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// No poll before this time.
    earliest: MonotonicTime,
    /// From 0 to 1: the part of a slot by which the poller's grid is shifted.
    phase: f64,
}

/// Creates a poller for each of `accounts` and one for `prices`, and the store that they write into. Their polls are
/// spread evenly over the slots. Nothing is sent yet.
#[must_use]
pub fn create_pollers(
    accounts: Vec<AccountConfig>,
    prices: Option<PricesConfig>,
    exchange: &Arc<Client>,
    clock: Clock,
) -> (Vec<AccountPoller>, Option<PricePoller>, Arc<Store>) {
    let context = PollContext { exchange: Arc::clone(exchange), store: Arc::default(), clock };
    let earliest = clock.now().monotonic + exchange.startup_delay();
    let mut numbers = 0..;
    let mut start = || Start { earliest, phase: phase(numbers.next().unwrap_or_default()) };
    let created = accounts.into_iter().map(|account| context.create_account_poller(account, start(), None));
    let (pollers, entries): (Vec<_>, _) = created.unzip();
    let (prices, price_config) =
        prices.map(|config| context.create_price_poller(config, start(), None)).unzip();
    context.store.replace_accounts(&|_| false, entries, price_config);
    (pollers, prices, context.store)
}

/// The phase of the poller with this number, from 0 to 1. Steps of the golden ratio spread any number of pollers evenly,
/// and also the few among them that share a slot length.
fn phase(number: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (f64::from(number) * GOLDEN).fract()
}

/// `first`, or the time at which the previous poller would have polled, if that is earlier and not yet past.
fn earlier_due(first: MonotonicTime, previous: Option<MonotonicTime>, now: MonotonicTime) -> MonotonicTime {
    previous.filter(|due| *due > now).map_or(first, |due| due.min(first))
}

impl PollerSet {
    /// An empty set, whose pollers will run in `runtime`.
    #[must_use]
    pub fn new(exchange: Arc<Client>, clock: Clock, runtime: Handle) -> Self {
        let context = PollContext { exchange, store: Arc::default(), clock };
        Self { context, runtime, tasks: JoinSet::new(), running: Vec::new(), poller_count: 0 }
    }

    /// The store that the pollers write into.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.context.store
    }

    /// Replaces the pollers as `config` says. Unchanged pollers keep running, and a running poll of a changed one is
    /// dropped: its call in flight continues in the background, and its answer is not published. A scrape sees the old
    /// accounts or the new ones. Rate-limiter state survives. The future must not be dropped before it is done.
    pub async fn apply_config(&mut self, config: Config) -> ReloadSummary {
        self.context.exchange.set_shares(config.share.into());
        self.context.exchange.set_egress(&config.egress);
        let Config { shard, accounts, prices, .. } = config;
        self.context.store.set_shard(shard);
        let (kept, others) = self.find_unchanged(accounts);
        let prices_changed = self.price_config() != prices.as_ref();
        let mut summary = ReloadSummary { unchanged: kept.len(), prices_changed, ..ReloadSummary::default() };
        if !prices_changed && others.is_empty() && kept.len() == self.accounts().count() {
            return summary;
        }
        // The price poller is replaced too: which prices are visible depends on all accounts.
        let (stopped, stopped_prices) = self.stop_others(&kept).await;
        let mut stopped: HashMap<Box<str>, _> =
            stopped.into_iter().map(|poller| (poller.account().into(), poller)).collect();
        let earliest = self.earliest_first_poll();
        let (mut pollers, mut entries) = (Vec::new(), Vec::new());
        for account in others {
            let previous = stopped.remove(&account.name);
            *(if previous.is_some() { &mut summary.changed } else { &mut summary.new }) += 1;
            let start = Start { earliest, phase: self.next_phase() };
            let is_new = previous.is_none();
            let (poller, entry) = self.context.create_account_poller(account, start, previous);
            if is_new {
                poller.target.log_limits(&self.context);
            }
            pollers.push(poller);
            entries.push(entry);
        }
        summary.removed = stopped.len();
        let start = Start { earliest, phase: self.next_phase() };
        let prices = prices.map(|config| self.context.create_price_poller(config, start, stopped_prices));
        let (prices, price_config) = prices.unzip();
        let kept: HashSet<_> = kept.into_values().collect();
        let is_kept = |name: &str| kept.contains(name);
        self.context.store.replace_accounts(&is_kept, entries, price_config);
        publish_rate_limits(&self.context.exchange, &self.context.store);
        for poller in pollers {
            let spec = PollerSpec::Account(poller.account().into(), Arc::clone(&poller.target.spec));
            self.start(spec, poller);
        }
        if let Some(poller) = prices {
            self.start(PollerSpec::Prices(poller.target.config.clone()), poller);
        }
        let is_asked =
            |host: &str| self.accounts().any(|(.., spec)| spec.hosts.all().any(|base| base.host() == host));
        self.context.store.retain_clocks(&is_asked);
        summary
    }

    /// Stops all pollers. Their calls in flight continue in the background.
    pub async fn stop(&mut self) {
        self.stop_others(&HashMap::new()).await;
    }

    /// The tasks of all pollers with the accounts that they poll; `None` for prices.
    #[cfg(test)]
    pub(crate) fn running_tasks(&self) -> impl Iterator<Item = (Id, Option<&str>)> {
        self.running.iter().map(|poller| match &poller.spec {
            PollerSpec::Account(name, _) => (poller.task.id(), Some(&**name)),
            PollerSpec::Prices(_) => (poller.task.id(), None),
        })
    }

    /// Stops all pollers where they are, as if the process was killed.
    #[cfg(test)]
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
        // The client's calls in the background end with it, when the runtime gets to them.
        drop(self);
        tokio::task::yield_now().await;
    }

    /// Splits `accounts` into those whose poller keeps running, as task and name, and the others.
    fn find_unchanged(&self, accounts: Vec<AccountConfig>) -> (HashMap<Id, Box<str>>, Vec<AccountConfig>) {
        let running: HashMap<_, _> = self.accounts().map(|(task, name, spec)| (name, (task, spec))).collect();
        let (mut unchanged, mut others) = (HashMap::new(), Vec::new());
        for account in accounts {
            match running.get(&*account.name) {
                Some((task, spec)) if **spec == AccountSpec::new(&account) && !task.is_finished() => {
                    unchanged.insert(task.id(), account.name);
                }
                _ => others.push(account),
            }
        }
        (unchanged, others)
    }

    /// Stops all pollers except the `kept` ones and returns them.
    async fn stop_others(
        &mut self,
        kept: &HashMap<Id, Box<str>>,
    ) -> (Vec<AccountPoller>, Option<PricePoller>) {
        self.running.retain(|poller| kept.contains_key(&poller.task.id()));
        let (mut accounts, mut prices) = (Vec::new(), None);
        while self.tasks.len() > self.running.len() {
            match self.tasks.join_next().await {
                Some(Ok(StoppedPoller::Account(poller))) => accounts.push(*poller),
                Some(Ok(StoppedPoller::Prices(poller))) => prices = Some(*poller),
                Some(Err(error)) => tracing::error!("bug: a poller task ended unexpectedly: {error}"),
                None => break,
            }
        }
        (accounts, prices)
    }

    /// The earliest first poll of a new poller. A reload may add an account during the startup delay: it waits for the rest
    /// of the delay.
    fn earliest_first_poll(&self) -> MonotonicTime {
        let now = self.context.clock.now().monotonic;
        if self.poller_count == 0 {
            now + self.context.exchange.startup_delay()
        } else {
            now.max(MonotonicTime::START + self.context.exchange.startup_delay().max(PACE_SPAN))
        }
    }

    fn next_phase(&mut self) -> f64 {
        let phase = phase(self.poller_count);
        self.poller_count = self.poller_count.wrapping_add(1);
        phase
    }

    fn accounts(&self) -> impl Iterator<Item = (&AbortHandle, &str, &AccountSpec)> {
        self.running.iter().filter_map(|poller| match &poller.spec {
            PollerSpec::Account(name, spec) => Some((&poller.task, &**name, &**spec)),
            PollerSpec::Prices(_) => None,
        })
    }

    fn price_config(&self) -> Option<&PricesConfig> {
        self.running.iter().find_map(|poller| match &poller.spec {
            PollerSpec::Prices(config) => Some(config),
            PollerSpec::Account(..) => None,
        })
    }

    fn start<T>(&mut self, spec: PollerSpec, mut poller: Poller<T>)
    where
        T: PollTarget + Sync + 'static,
        StoppedPoller: From<Poller<T>>,
    {
        let (stop, stopped) = oneshot::channel();
        let run = async move {
            tokio::select! {
                biased;
                _ = stopped => {}
                never = poller.run() => match never {},
            }
            StoppedPoller::from(poller)
        };
        let task = self.tasks.spawn_on(run, &self.runtime);
        self.running.push(RunningPoller { task, spec, _stop: stop });
    }
}

impl PollContext {
    /// Creates the poller of `account` and its entry in the store. If `previous` polled the same account, its results
    /// stay, and the next poll is due no later than it was.
    fn create_account_poller(
        &self,
        account: AccountConfig,
        start: Start,
        previous: Option<AccountPoller>,
    ) -> (AccountPoller, AccountEntry) {
        let now = self.clock.now();
        let spec = AccountSpec::new(&account);
        let previous = previous.filter(|previous| previous.target.is_same_account(&account));
        let AccountConfig { name, hosts, credentials, .. } = account;
        let entry = previous.as_ref().and_then(|_| self.store.account(&name));
        let restore = |config: &Arc<WalletConfig>| restore_snapshot(entry.as_deref(), config, hosts.api);
        let snapshots: Vec<_> = spec.wallets.iter().map(restore).collect();
        let positions: Vec<_> =
            spec.positions.iter().map(|config| restore_positions(entry.as_deref(), config)).collect();
        let slot = spec.slot_length();
        let due = previous.as_ref().map(|previous| previous.due);
        let first = earlier_due(start.earliest + slot.mul_f64(start.phase), due, now.monotonic);
        let restarts = previous.as_ref().map_or_else(Restarts::default, |previous| previous.restarts);
        let credentials = match previous {
            Some(previous) if previous.target.spec.keys == spec.keys => previous.target.session.credentials,
            _ => credentials,
        };
        let mut facts = AccountState {
            name: name.clone(),
            labels: Arc::clone(&spec.labels),
            paused_until: None,
            credentials_loaded: credentials.loaded_at(),
            poller_restarts: restarts.count,
        };
        let schedule = Schedule::new(first, slot, spec.interval, spec.timeout);
        let (routes, api) = (hosts.proxy_routes(), hosts.api);
        let target = AccountTarget::new(Session::new(name, hosts, credentials), spec);
        self.exchange.register(&target.session);
        target.update_state(self, &mut facts, now);
        let entry = AccountEntry::restored(facts, snapshots, now.uptime + schedule.heartbeat_life);
        let entry = entry.with_proxy_routes(routes).with_api(api).with_positions(positions);
        (Poller { target, context: self.clone(), schedule, due: first, restarts }, entry)
    }

    /// Creates the poller of prices in the same way, and the settings of its entry in the store.
    fn create_price_poller(
        &self,
        config: PricesConfig,
        start: Start,
        previous: Option<PricePoller>,
    ) -> (PricePoller, NewPriceEntry) {
        let now = self.clock.now();
        let is_same_exchange =
            |previous: &PricePoller| !config::is_other_exchange(&previous.target.config.hosts, &config.hosts);
        let previous = previous.filter(is_same_exchange);
        let slot = config.poll_interval;
        let due = previous.as_ref().map(|previous| previous.due);
        let first = earlier_due(start.earliest + slot.mul_f64(start.phase), due, now.monotonic);
        let schedule = Schedule::new(first, slot, config.poll_interval, config.poll_timeout);
        let price_config = NewPriceEntry {
            max_age: config.max_age,
            heartbeat_deadline: now.uptime + schedule.heartbeat_life,
            keeps_prices: previous.is_some(),
        };
        let client = PriceClient::new(config.hosts.clone());
        let restarts = previous.map_or_else(Restarts::default, |previous| previous.restarts);
        let target = PriceTarget { client, config };
        (Poller { target, context: self.clone(), schedule, due: first, restarts }, price_config)
    }
}

/// The snapshot of a wallet with the settings `config`: the one in `entry`, if it has the wallet, or a new one.
fn restore_snapshot(
    entry: Option<&AccountEntry>,
    config: &Arc<WalletConfig>,
    api: exchange::ApiVersion,
) -> WalletSnapshot {
    let wallets = entry.map(|entry| entry.wallets.iter()).into_iter().flatten();
    let mut snapshots = wallets.map(|wallet| &wallet.snapshot);
    match snapshots.find(|snapshot| snapshot.config.wallet == config.wallet) {
        Some(snapshot) => {
            let body = snapshot.last_good.as_ref().and_then(|good| good.raw_body.as_ref());
            let answer = body.and_then(|body| exchange::decode_again(api, config.wallet, body));
            snapshot.with_config(Arc::clone(config), answer)
        }
        None => WalletSnapshot::new(Arc::clone(config)),
    }
}

/// The snapshot of a wallet's positions with the settings `config`: the one in `entry`, if it has one, or a new one.
fn restore_positions(entry: Option<&AccountEntry>, config: &Arc<PositionsConfig>) -> PositionsSnapshot {
    let wallets = entry.map(|entry| entry.wallets.iter()).into_iter().flatten();
    let mut snapshots = wallets.filter_map(|wallet| wallet.positions.as_ref());
    match snapshots.find(|snapshot| snapshot.config.wallet == config.wallet) {
        Some(snapshot) => snapshot.with_config(Arc::clone(config)),
        None => PositionsSnapshot::new(Arc::clone(config)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::time::{sleep, timeout};
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        clock::UnixTime,
        exchange::{
            ApiVersion, Credentials, ExchangeHosts, KeyHalf, KeySource, Script, ScriptedResponse, Secret,
            Wallet,
        },
        snapshot::wallet::CurrencyFilter,
    };

    fn account(name: &str) -> AccountConfig {
        let half = || {
            let secret = Secret::new(&Zeroizing::new("key".to_owned()));
            KeyHalf::Given(secret.unwrap_or_else(|why| panic!("{why}")))
        };
        let credentials = Credentials::open(KeySource { access: half(), secret: half() }, UnixTime::EPOCH);
        AccountConfig {
            name: name.into(),
            labels: Arc::default(),
            hosts: ExchangeHosts::default(),
            credentials: credentials.unwrap_or_else(|why| panic!("{why}")),
            wallets: vec![Wallet::Spot],
            watch: Vec::new(),
            filter: CurrencyFilter::default(),
            futures_risk: None,
            poll_interval: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(90),
        }
    }

    fn pollers(clock: Clock) -> Result<PollerSet, String> {
        Ok(PollerSet::new(Arc::new(Client::simulated(clock)?), clock, Handle::current()))
    }

    fn config(names: &[&str]) -> Config {
        Config { accounts: names.iter().map(|name| account(name)).collect(), ..Config::default() }
    }

    #[tokio::test]
    async fn a_call_is_lent_at_the_address_of_its_account_before_the_first_poll() -> Result<(), String> {
        let clock = Clock::start();
        let exchange = Arc::new(Client::simulated(clock)?);
        let egress = exchange::Egress { name: "g".into(), address: "192.0.2.1".into(), source_address: None };
        exchange.set_egress(&[exchange::Egress::default(), egress.clone()]);
        let route = exchange::Route { egress, ..exchange::Route::default() };
        let base_urls = vec![exchange::BaseUrl::parse("https://host.test")?.with_route(route)];
        let account =
            AccountConfig { hosts: ExchangeHosts { base_urls, ..ExchangeHosts::default() }, ..account("a") };
        let key = account.credentials.pair().id();
        let _pollers = create_pollers(vec![account], None, &exchange, clock);
        let _lent = exchange.lend(Some(key)).await;
        let usage = exchange.rate_limit_usage(["a"].into_iter());
        let addresses: Vec<_> = usage.addresses.iter().map(|(name, usage)| (&**name, usage.calls)).collect();
        assert_eq!(addresses, [("default", 0), ("g", 1)]);
        assert!(usage.keys.iter().all(|(_, usage)| usage.calls == 1), "{usage:?}");
        Ok(())
    }

    #[tokio::test]
    async fn a_reload_replaces_a_poller_that_ended() -> Result<(), String> {
        let clock = Clock::start();
        let mut pollers = pollers(clock)?;
        pollers.apply_config(config(&["a", "b"])).await;
        let tasks: Vec<_> = pollers.running.iter().map(|poller| poller.task.clone()).collect();
        pollers.tasks.abort_all();
        while !tasks.iter().all(AbortHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        let summary = pollers.apply_config(config(&["b"])).await;
        assert_eq!(summary, ReloadSummary { new: 1, ..ReloadSummary::default() });
        assert_eq!(pollers.store().accounts().len(), 1);
        assert_eq!(pollers.tasks.len(), 1);
        assert!(pollers.accounts().all(|(task, ..)| !task.is_finished()));
        Ok(())
    }

    #[tokio::test]
    async fn the_startup_delay_holds_for_an_account_that_is_added_during_it() -> Result<(), String> {
        let clock = Clock::start();
        let mut pollers = pollers(clock)?;
        assert_eq!(pollers.context.exchange.startup_delay(), Duration::ZERO);
        let config_of = |name| {
            let account = AccountConfig { poll_interval: Duration::from_millis(1), ..account(name) };
            Config { accounts: vec![account], ..Config::default() }
        };
        pollers.apply_config(config_of("a")).await;
        pollers.apply_config(config_of("b")).await;
        let first = loop {
            match pollers.store().account("b").and_then(|page| page.next_poll()) {
                Some(next) => break next,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(first >= MonotonicTime::START + PACE_SPAN, "{first:?}");
        Ok(())
    }

    /// An exchange that replies to a call for balances after five seconds, with a limit reply or a refusal of the key, and
    /// counts these calls.
    fn slow_exchange(reply: &'static [u8], clock: Clock) -> (Arc<Client>, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&calls);
        let script = Script(Box::new(move |asked| {
            let counter = Arc::clone(&counter);
            Box::pin(async move {
                let (status, body): (_, &[u8]) = if asked.path.ends_with("/getServerTime") {
                    (200, br#"{"code":200,"data":{"serverTime":1700000000000}}"#)
                } else {
                    counter.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_secs(5)).await;
                    (if reply.is_empty() { 429 } else { 200 }, reply)
                };
                Ok(ScriptedResponse { status, retry_after: None, body: body.to_vec() })
            })
        }));
        (Arc::new(Client::scripted(script, clock)), calls)
    }

    const LIMIT_REPLY: &[u8] = b"";
    const REFUSAL: &[u8] = br#"{"code":307,"info":"AccessKey error"}"#;

    fn v1_account(poll_interval: Duration) -> Config {
        let base_urls = exchange::BaseUrl::parse("https://host.test").into_iter().collect();
        let hosts = ExchangeHosts { api: ApiVersion::V1, base_urls, ..ExchangeHosts::default() };
        let account = AccountConfig { hosts, poll_interval, ..account("a") };
        Config { accounts: vec![account], ..Config::default() }
    }

    /// Waits until a call was sent.
    async fn until_called(calls: &AtomicUsize) {
        while calls.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(100)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_reply_to_a_call_counts_although_a_reload_dropped_its_poll() {
        for reply in [LIMIT_REPLY, REFUSAL] {
            let clock = Clock::start();
            let (exchange, calls) = slow_exchange(reply, clock);
            let mut pollers = PollerSet::new(exchange, clock, Handle::current());
            pollers.apply_config(v1_account(Duration::from_secs(20))).await;
            until_called(&calls).await;
            for seconds in 21..31 {
                let reload = pollers.apply_config(v1_account(Duration::from_secs(seconds)));
                let summary = timeout(Duration::from_millis(1), reload).await;
                assert_eq!(
                    summary.map(|summary| summary.changed),
                    Ok(1),
                    "a reload does not wait for the call"
                );
                sleep(Duration::from_secs(2)).await;
            }
            sleep(Duration::from_mins(2)).await;
            assert_eq!(calls.load(Ordering::Relaxed), 1, "nothing was sent after the reply");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_reply_to_a_call_counts_although_all_pollers_were_stopped() {
        let clock = Clock::start();
        let (exchange, calls) = slow_exchange(LIMIT_REPLY, clock);
        let mut pollers = PollerSet::new(Arc::clone(&exchange), clock, Handle::current());
        pollers.apply_config(v1_account(Duration::from_secs(20))).await;
        until_called(&calls).await;
        assert_eq!(timeout(Duration::from_millis(1), pollers.stop()).await, Ok(()));
        assert!(timeout(Duration::from_secs(4), exchange.wait_for_abandoned_calls()).await.is_err());
        assert_eq!(timeout(Duration::from_secs(4), exchange.wait_for_abandoned_calls()).await, Ok(()));
        let saved = String::from_utf8(exchange.save_limits().to_json()).unwrap_or_default();
        assert!(saved.contains(r#"{"account":"a","#), "{saved}");
        sleep(Duration::from_mins(30)).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
