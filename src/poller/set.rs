//! Who polls: pollers are readied, set to work, exchanged when the configuration changes, and missed when they
//! die. What is known of an account outlives its poller if it is still the same account.
//! Knows no file, no signal and no HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
};

use super::{PollContext, PollSpec, Poller, PricePoller, Schedule, restart::Restarts};
use crate::{
    clock::Clock,
    config::{self, AccountConfig, Config, PricesConfig},
    exchange::{self, Client, PACE_SPAN, PriceClient, Session},
    snapshot::store::{AccountEntry, PriceConfig, Store},
    snapshot::wallet::{WalletConfig, WalletSnapshot},
};

/// The pollers at work. They end with it.
#[derive(Debug)]
pub struct PollerSet {
    context: PollContext,
    polls: Handle,
    tasks: JoinSet<StoppedPoller>,
    running: Vec<RunningPoller>,
    /// How many have had their place among the slots.
    poller_count: u32,
}

/// A poller at work.
#[derive(Debug)]
struct RunningPoller {
    id: Id,
    post: PollerKind,
    /// Gives up what it does and returns when this is dropped.
    _stop: oneshot::Sender<Infallible>,
}

/// What a poller polls, and how.
#[derive(Debug)]
enum PollerKind {
    Account(Box<str>, Arc<PollSpec>),
    Prices(PricesConfig),
}

/// A poller back from work.
#[derive(Debug)]
enum StoppedPoller {
    Account(Box<Poller>),
    Prices(Box<PricePoller>),
}

/// What a new configuration has changed: how many accounts, and whether prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadSummary {
    /// There were none of these names.
    pub new: usize,
    /// Something else is to be done with them.
    pub changed: usize,
    /// They are not to be polled any more.
    pub gone: usize,
    /// All is as it was.
    pub unchanged: usize,
    /// Prices are asked for otherwise, or not any more.
    pub prices: bool,
}

/// Readies a poller for each of `accounts` and one for `prices` if they are wanted, their polls spread
/// evenly over the slots, and the ledger they write into. Nothing is sent yet.
#[must_use]
pub fn create_pollers(
    accounts: Vec<AccountConfig>,
    prices: Option<PricesConfig>,
    exchange: &Arc<Client>,
    clock: Clock,
) -> (Vec<Poller>, Option<PricePoller>, Arc<Store>) {
    let context = PollContext { exchange: Arc::clone(exchange), store: Arc::default(), clock };
    let begins = clock.now().elapsed + exchange.startup_delay();
    let mut places = 0..;
    let mut place = || phase(places.next().unwrap_or_default());
    let readied = accounts.into_iter().map(|account| context.poller(account, begins, place(), None));
    let (pollers, pages): (Vec<_>, _) = readied.unzip();
    let (prices, pricing) = prices.map(|plan| context.price_poller(plan, begins, place(), None)).unzip();
    context.store.replace_accounts(&|_| false, pages, pricing);
    (pollers, prices, context.store)
}

/// Where in its slot the poller in this place polls, from 0 to 1. Steps of the golden ratio spread
/// any number of neighbours evenly, also those that alone have a slot of this length.
fn phase(place: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (f64::from(place) * GOLDEN).fract()
}

/// `first`, or when the poller before would have polled, if that is sooner and still to come.
fn earlier_due(first: Duration, due: Option<Duration>, now: Duration) -> Duration {
    due.filter(|due| *due > now).map_or(first, |due| due.min(first))
}

impl PollerSet {
    /// Nobody yet, to poll in the runtime `polls`.
    #[must_use]
    pub fn new(exchange: Arc<Client>, clock: Clock, polls: Handle) -> Self {
        let context = PollContext { exchange, store: Arc::default(), clock };
        Self { context, polls, tasks: JoinSet::new(), running: Vec::new(), poller_count: 0 }
    }

    /// What they write into.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.context.store
    }

    /// Does as `config` says from now on. Whoever is to do what it does already goes on undisturbed; a poll
    /// that is under way for another is given up. A scrape sees the old accounts or the new. The limits of the
    /// exchange know nothing of it, and hold whatever comes how often. Must not be given up.
    pub async fn apply_config(&mut self, config: Config) -> ReloadSummary {
        let Config { accounts, prices } = config;
        let (kept, others) = self.kept(accounts);
        let is_other = self.prices() != prices.as_ref();
        let mut change =
            ReloadSummary { unchanged: kept.len(), prices: is_other, ..ReloadSummary::default() };
        if !is_other && others.is_empty() && kept.len() == self.accounts().count() {
            return change;
        }
        // Which prices are shown depends on all accounts.
        let (mut old, old_prices) = self.stop_changed(&kept).await;
        let begins = self.first_poll_at();
        let (mut readied, mut pages) = (Vec::new(), Vec::new());
        for account in others {
            let old = old.iter().position(|old| *old.account() == *account.name).map(|at| old.remove(at));
            *(if old.is_some() { &mut change.changed } else { &mut change.new }) += 1;
            let place = self.next_phase();
            let (poller, page) = self.context.poller(account, begins, place, old);
            readied.push(poller);
            pages.push(page);
        }
        change.gone = old.len();
        let place = self.next_phase();
        let prices = prices.map(|plan| self.context.price_poller(plan, begins, place, old_prices));
        let (prices, pricing) = prices.unzip();
        self.context.store.replace_accounts(
            &|name| kept.iter().any(|(_, kept)| **kept == *name),
            pages,
            pricing,
        );
        for poller in readied {
            self.start(poller);
        }
        if let Some(prices) = prices {
            self.start_prices(prices);
        }
        let is_asked = |host: &str| {
            self.accounts().any(|(.., plan)| plan.endpoints.all().any(|base| base.host() == host))
        };
        self.context.store.retain_clocks(&is_asked);
        change
    }

    /// Waits until a poller has died, and says so: the others go on, and `/-/healthy` tells of this one.
    /// Pollers do not end but by a panic. Returns whether any account is still polled.
    pub async fn reap(&mut self) -> bool {
        if let Some(Err(error)) = self.tasks.join_next_with_id().await {
            self.remove_dead(&error);
        }
        self.accounts().next().is_some()
    }

    /// The tasks of all pollers, and the accounts they poll; prices are of none.
    #[cfg(test)]
    pub(crate) fn running_tasks(&self) -> impl Iterator<Item = (Id, Option<&str>)> {
        self.running.iter().map(|hand| match &hand.post {
            PollerKind::Account(name, _) => (hand.id, Some(&**name)),
            PollerKind::Prices(_) => (hand.id, None),
        })
    }

    /// Lets all of them end where they are, as when the process is killed.
    #[cfg(test)]
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    /// Those whose accounts are to be polled as they are, by their names, and the accounts for which that is
    /// not so.
    fn kept(&self, accounts: Vec<AccountConfig>) -> (Vec<(Id, Box<str>)>, Vec<AccountConfig>) {
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for account in accounts {
            match self.accounts().find(|(_, name, _)| **name == *account.name) {
                Some((id, _, plan)) if *plan == PollSpec::new(&account) => kept.push((id, account.name)),
                _ => others.push(account),
            }
        }
        (kept, others)
    }

    /// Lets all but those that are `kept` come back, now.
    async fn stop_changed(&mut self, kept: &[(Id, Box<str>)]) -> (Vec<Poller>, Option<PricePoller>) {
        self.running.retain(|hand| kept.iter().any(|(id, _)| *id == hand.id));
        let (mut pollers, mut prices) = (Vec::new(), None);
        while self.tasks.len() > self.running.len() {
            match self.tasks.join_next_with_id().await {
                Some(Ok((_, StoppedPoller::Account(poller)))) => pollers.push(*poller),
                Some(Ok((_, StoppedPoller::Prices(poller)))) => prices = Some(*poller),
                Some(Err(error)) => self.remove_dead(&error),
                None => break,
            }
        }
        (pollers, prices)
    }

    /// When the first poll of a new poller may be. Whoever comes after the first may be of another exchange, one
    /// that this process was not silent for at the start.
    fn first_poll_at(&self) -> Duration {
        let now = self.context.clock.now().elapsed;
        if self.poller_count == 0 { now + self.context.exchange.startup_delay() } else { now.max(PACE_SPAN) }
    }

    /// Where in its slot the next new poller polls.
    fn next_phase(&mut self) -> f64 {
        let phase = phase(self.poller_count);
        self.poller_count = self.poller_count.wrapping_add(1);
        phase
    }

    fn accounts(&self) -> impl Iterator<Item = (Id, &str, &PollSpec)> {
        self.running.iter().filter_map(|hand| match &hand.post {
            PollerKind::Account(name, plan) => Some((hand.id, &**name, &**plan)),
            PollerKind::Prices(_) => None,
        })
    }

    fn prices(&self) -> Option<&PricesConfig> {
        self.running.iter().find_map(|hand| match &hand.post {
            PollerKind::Prices(plan) => Some(plan),
            PollerKind::Account(..) => None,
        })
    }

    fn start(&mut self, mut poller: Poller) {
        let post = PollerKind::Account(poller.account().into(), Arc::clone(&poller.plan));
        self.spawn(post, async move |stopped| {
            until(stopped, poller.run()).await;
            StoppedPoller::Account(Box::new(poller))
        });
    }

    fn start_prices(&mut self, mut poller: PricePoller) {
        let post = PollerKind::Prices(poller.plan.clone());
        self.spawn(post, async move |stopped| {
            until(stopped, poller.run()).await;
            StoppedPoller::Prices(Box::new(poller))
        });
    }

    fn spawn<W>(&mut self, post: PollerKind, work: impl FnOnce(oneshot::Receiver<Infallible>) -> W)
    where
        W: Future<Output = StoppedPoller> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let id = self.tasks.spawn_on(work(stopped), &self.polls).id();
        self.running.push(RunningPoller { id, post, _stop: stop });
    }

    fn remove_dead(&mut self, error: &JoinError) {
        let Some(place) = self.running.iter().position(|hand| hand.id == error.id()) else { return };
        let PollContext { store, clock, .. } = &self.context;
        let now = clock.now();
        match self.running.remove(place).post {
            PollerKind::Account(name, _) => {
                tracing::error!(account = %name, "the poller of this account has died, and its balances will become unknown: {error}");
                store.update(&name, |account| account.heartbeat_deadline = now);
            }
            PollerKind::Prices(_) => {
                tracing::error!("the poller of prices has died, and they will become unknown: {error}");
                store.update_prices(|market| market.heartbeat_deadline = now);
            }
        }
    }
}

/// Works until it is stopped.
async fn until(stopped: oneshot::Receiver<Infallible>, work: impl Future<Output = Infallible>) {
    tokio::select! {
        biased;
        _ = stopped => {}
        never = work => match never {},
    }
}

impl PollContext {
    /// Readies the poller of `account`, to poll at this `phase` of its slots after `begins`, and its page. If
    /// `old` has polled the same account until now, what is known of it stays known, and the next poll is due
    /// no later than it was.
    fn poller(
        &self,
        account: AccountConfig,
        begins: Duration,
        phase: f64,
        old: Option<Poller>,
    ) -> (Poller, AccountEntry) {
        let now = self.clock.now();
        let plan = PollSpec::new(&account);
        let old = old.filter(|old| old.has_same_keys(&account));
        let AccountConfig { name, endpoints, credentials, .. } = account;
        let page = old.as_ref().and_then(|_| self.store.account(&name));
        let api = endpoints.api;
        let snapshot = |wallet_config: &Arc<WalletConfig>| {
            let wallets = page.as_ref().map(|page| page.wallets.iter()).into_iter().flatten();
            let mut snapshots = wallets.map(|known| &known.snapshot);
            match snapshots.find(|known| known.config.wallet == wallet_config.wallet) {
                Some(known) => {
                    let original = known.last_good.as_ref().and_then(|good| good.raw_body.as_ref());
                    let answer =
                        original.and_then(|answer| exchange::decode_again(api, wallet_config.wallet, answer));
                    known.with_config(Arc::clone(wallet_config), answer)
                }
                None => WalletSnapshot::new(Arc::clone(wallet_config)),
            }
        };
        let snapshots: Vec<_> = plan.wallet_configs.iter().map(snapshot).collect();
        let slot = plan.slot();
        let due = old.as_ref().map(|old| old.due);
        let first = earlier_due(begins + slot.mul_f64(phase), due, now.elapsed);
        let restarts = old.as_ref().map_or_else(Restarts::default, |old| old.restarts);
        let schedule = Schedule::new(first, slot, plan.interval, plan.timeout);
        let credentials = match old {
            Some(old) if old.plan.keys == plan.keys => old.session.credentials,
            _ => credentials,
        };
        let poller = Poller {
            session: Session::new(name, endpoints, credentials),
            plan: Arc::new(plan),
            schedule,
            due: first,
            context: self.clone(),
            last_key_error: None,
            restarts,
        };
        let alive_until = now.later(schedule.life);
        let page = AccountEntry::restored(poller.facts(now), snapshots, alive_until);
        (poller, page)
    }

    /// Readies the poller of prices in the same way.
    fn price_poller(
        &self,
        plan: PricesConfig,
        begins: Duration,
        phase: f64,
        old: Option<PricePoller>,
    ) -> (PricePoller, PriceConfig) {
        let now = self.clock.now();
        let old = old.filter(|old| !config::is_other_exchange(&old.plan.endpoints, &plan.endpoints));
        let slot = plan.poll_interval;
        let due = old.as_ref().map(|old| old.due);
        let first = earlier_due(begins + slot.mul_f64(phase), due, now.elapsed);
        let schedule = Schedule::new(first, slot, plan.poll_interval, plan.poll_timeout);
        let alive_until = now.later(schedule.life);
        let pricing = PriceConfig {
            max_age: plan.max_age,
            heartbeat_deadline: alive_until,
            keeps_prices: old.is_some(),
        };
        let ticker = PriceClient::new(plan.endpoints.clone());
        let restarts = old.map_or_else(Restarts::default, |old| old.restarts);
        (PricePoller { ticker, plan, schedule, due: first, context: self.clone(), restarts }, pricing)
    }
}

impl Poller {
    /// Whether `account` is the one it polls, and not another of the same name: one of the same exchange, with
    /// the same key or one that has taken its place.
    fn has_same_keys(&self, account: &AccountConfig) -> bool {
        let (here, there) = (&self.plan.endpoints, &account.endpoints);
        let key = self.session.credentials.pair().id();
        here.api == there.api
            && !config::is_other_exchange(here, there)
            && (self.plan.keys == *account.credentials.source() || key == account.credentials.pair().id())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        exchange::{Credentials, Endpoints, KeyHalf, KeySource, Secret, Wallet},
        snapshot::wallet::CurrencyFilter,
    };

    fn account(name: &str) -> AccountConfig {
        let half = || {
            let secret = Secret::new(&Zeroizing::new("key".to_owned()));
            KeyHalf::Given(secret.unwrap_or_else(|why| panic!("{why}")))
        };
        let credentials = Credentials::open(KeySource { access: half(), secret: half() }, Duration::ZERO);
        AccountConfig {
            name: name.into(),
            endpoints: Endpoints::default(),
            credentials: credentials.unwrap_or_else(|why| panic!("{why}")),
            wallets: vec![Wallet::Spot],
            watch: Vec::new(),
            filter: CurrencyFilter::default(),
            poll_interval: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(90),
        }
    }

    fn pollers(clock: Clock) -> Result<PollerSet, String> {
        Ok(PollerSet::new(Arc::new(Client::simulated(clock)?), clock, Handle::current()))
    }

    fn config(names: &[&str]) -> Config {
        Config { accounts: names.iter().map(|name| account(name)).collect(), prices: None }
    }

    #[tokio::test]
    async fn who_has_died_is_missed_until_the_next_configuration_begins_it_anew() -> Result<(), String> {
        let clock = Clock::start();
        let mut pollers = pollers(clock)?;
        pollers.apply_config(config(&["a", "b"])).await;
        let ailing = |pollers: &PollerSet| pollers.store().stuck_pollers(clock.now()).len();
        assert_eq!(ailing(&pollers), 0);

        pollers.tasks.abort_all();
        assert!(pollers.reap().await, "there is another");
        assert!(!pollers.reap().await);
        assert_eq!(ailing(&pollers), 2);
        assert_eq!(
            pollers.apply_config(config(&["b"])).await,
            ReloadSummary { new: 1, ..ReloadSummary::default() }
        );
        assert_eq!(ailing(&pollers), 0, "of a nobody knows any more");
        assert_eq!(pollers.store().accounts().len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn the_silence_at_the_start_holds_for_who_is_added_in_it() -> Result<(), String> {
        let clock = Clock::start();
        let mut pollers = pollers(clock)?;
        assert_eq!(pollers.context.exchange.startup_delay(), Duration::ZERO, "as with one on this machine");
        let at_once = |name| {
            let account = AccountConfig { poll_interval: Duration::from_millis(1), ..account(name) };
            Config { accounts: vec![account], prices: None }
        };
        pollers.apply_config(at_once("a")).await;
        pollers.apply_config(at_once("b")).await;
        let first = loop {
            match pollers.store().account("b").and_then(|page| page.next_poll()) {
                Some(next) => break next.elapsed,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(first >= PACE_SPAN, "{first:?}");
        Ok(())
    }

    #[tokio::test]
    async fn who_dies_while_others_are_called_back_is_missed_and_not_forgotten() -> Result<(), String> {
        let clock = Clock::start();
        let mut pollers = pollers(clock)?;
        pollers.apply_config(config(&["a", "b"])).await;
        pollers.tasks.abort_all();
        // Let the deaths be known before those that are called back.
        tokio::task::yield_now().await;
        pollers.apply_config(config(&["a"])).await;
        assert_eq!(pollers.store().accounts().len(), 1);
        pollers.reap().await;
        assert_eq!(pollers.store().stuck_pollers(clock.now()).len(), 1);
        assert!(pollers.accounts().next().is_none());
        Ok(())
    }
}
