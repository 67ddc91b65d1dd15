//! Who polls: pollers are readied, set to work, exchanged when the configuration changes, and missed when they
//! die. What is known of an account outlives its poller if it is still the same account.
//! Knows no file, no signal and no HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
};

use super::{Desk, Plan, Poller, PricePoller, Schedule, Ticks, restart::Restarts};
use crate::{
    config::{self, Account, Config, Prices},
    exchange::{self, Exchange, PACE_SPAN, Session, Ticker},
    ledger::{self, Ledger, Pricing},
    moment::Clock,
    standing::{Standing, Subject},
};

/// The pollers at work. They end with it.
#[derive(Debug)]
pub struct Crew {
    desk: Desk,
    polls: Handle,
    ticks: Ticks,
    tasks: JoinSet<Returned>,
    hands: Vec<Hand>,
    /// How many have had their place among the slots.
    places: u32,
}

/// A poller at work.
#[derive(Debug)]
struct Hand {
    id: Id,
    post: Post,
    /// Gives up what it does and returns when this is dropped.
    _stop: oneshot::Sender<Infallible>,
}

/// What a poller polls, and how.
#[derive(Debug)]
enum Post {
    Account(Box<str>, Arc<Plan>),
    Prices(Prices),
}

/// A poller back from work.
#[derive(Debug)]
enum Returned {
    Account(Box<Poller>),
    Prices(Box<PricePoller>),
}

/// What a new configuration has changed: how many accounts, and whether prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
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
pub fn pollers(
    accounts: Vec<Account>,
    prices: Option<Prices>,
    exchange: &Arc<Exchange>,
    clock: Clock,
) -> (Vec<Poller>, Option<PricePoller>, Arc<Ledger>) {
    let desk = Desk { exchange: Arc::clone(exchange), ledger: Arc::default(), clock };
    let begins = clock.now().elapsed + exchange.silence();
    let mut places = 0..;
    let mut place = || phase(places.next().unwrap_or_default());
    let readied = accounts.into_iter().map(|account| desk.poller(account, begins, place(), None));
    let (pollers, pages): (Vec<_>, _) = readied.unzip();
    let (prices, pricing) = prices.map(|plan| desk.price_poller(plan, begins, place(), None)).unzip();
    desk.ledger.rewrite(&|_| false, pages, pricing);
    (pollers, prices, desk.ledger)
}

/// Where in its slot the poller in this place polls, from 0 to 1. Steps of the golden ratio spread
/// any number of neighbours evenly, also those that alone have a slot of this length.
fn phase(place: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (f64::from(place) * GOLDEN).fract()
}

/// `first`, or when the poller before would have polled, if that is sooner and still to come.
fn no_later(first: Duration, due: Option<Duration>, now: Duration) -> Duration {
    due.filter(|due| *due > now).map_or(first, |due| due.min(first))
}

impl Crew {
    /// Nobody yet, to poll in the runtime `polls` whose `ticks` these are.
    #[must_use]
    pub fn new(exchange: Arc<Exchange>, clock: Clock, polls: Handle, ticks: Ticks) -> Self {
        let desk = Desk { exchange, ledger: Arc::default(), clock };
        Self { desk, polls, ticks, tasks: JoinSet::new(), hands: Vec::new(), places: 0 }
    }

    /// What they write into.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.desk.ledger
    }

    /// Does as `config` says from now on. Whoever is to do what it does already goes on undisturbed; a poll
    /// that is under way for another is given up. A scrape sees the old accounts or the new. The limits of the
    /// exchange know nothing of it, and hold whatever comes how often. Must not be given up.
    pub async fn follow(&mut self, config: Config) -> Change {
        let Config { accounts, prices } = config;
        let (kept, others) = self.kept(accounts);
        let is_other = self.prices() != prices.as_ref();
        let mut change = Change { unchanged: kept.len(), prices: is_other, ..Change::default() };
        if !is_other && others.is_empty() && kept.len() == self.accounts().count() {
            return change;
        }
        // Which prices are shown depends on all accounts.
        let (mut old, old_prices) = self.call_back(&kept).await;
        let begins = self.begins();
        let (mut readied, mut pages) = (Vec::new(), Vec::new());
        for account in others {
            let old = old.iter().position(|old| *old.account() == *account.name).map(|at| old.remove(at));
            *(if old.is_some() { &mut change.changed } else { &mut change.new }) += 1;
            let place = self.place();
            let (poller, page) = self.desk.poller(account, begins, place, old);
            readied.push(poller);
            pages.push(page);
        }
        change.gone = old.len();
        let place = self.place();
        let prices = prices.map(|plan| self.desk.price_poller(plan, begins, place, old_prices));
        let (prices, pricing) = prices.unzip();
        self.desk.ledger.rewrite(&|name| kept.iter().any(|(_, kept)| **kept == *name), pages, pricing);
        for poller in readied {
            self.set_to_work(poller);
        }
        if let Some(prices) = prices {
            self.set_prices_to_work(prices);
        }
        let is_asked =
            |host: &str| self.accounts().any(|(.., plan)| plan.venue.all().any(|base| base.host() == host));
        self.desk.ledger.keep_clocks(&is_asked);
        change
    }

    /// Waits until a poller has died, and says so: the others go on, and `/-/healthy` tells of this one.
    /// Pollers do not end but by a panic. Returns whether any account is still polled.
    pub async fn bury(&mut self) -> bool {
        if let Some(Err(error)) = self.tasks.join_next_with_id().await {
            self.has_died(&error);
        }
        self.accounts().next().is_some()
    }

    /// The tasks of all pollers, and the accounts they poll; prices are of none.
    #[cfg(test)]
    pub(crate) fn at_work(&self) -> impl Iterator<Item = (Id, Option<&str>)> {
        self.hands.iter().map(|hand| match &hand.post {
            Post::Account(name, _) => (hand.id, Some(&**name)),
            Post::Prices(_) => (hand.id, None),
        })
    }

    /// Lets all of them end where they are, as when the process is killed.
    #[cfg(test)]
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    /// Those whose accounts are to be polled as they are, by their names, and the accounts for which that is
    /// not so.
    fn kept(&self, accounts: Vec<Account>) -> (Vec<(Id, Box<str>)>, Vec<Account>) {
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for account in accounts {
            match self.accounts().find(|(_, name, _)| **name == *account.name) {
                Some((id, _, plan)) if *plan == Plan::of(&account) => kept.push((id, account.name)),
                _ => others.push(account),
            }
        }
        (kept, others)
    }

    /// Lets all but those that are `kept` come back, now.
    async fn call_back(&mut self, kept: &[(Id, Box<str>)]) -> (Vec<Poller>, Option<PricePoller>) {
        self.hands.retain(|hand| kept.iter().any(|(id, _)| *id == hand.id));
        let (mut pollers, mut prices) = (Vec::new(), None);
        while self.tasks.len() > self.hands.len() {
            match self.tasks.join_next_with_id().await {
                Some(Ok((_, Returned::Account(poller)))) => pollers.push(*poller),
                Some(Ok((_, Returned::Prices(poller)))) => prices = Some(*poller),
                Some(Err(error)) => self.has_died(&error),
                None => break,
            }
        }
        (pollers, prices)
    }

    /// When the first poll of a new poller may be. Whoever comes after the first may be of another exchange, one
    /// that this process was not silent for at the start.
    fn begins(&self) -> Duration {
        let now = self.desk.clock.now().elapsed;
        if self.places == 0 { now + self.desk.exchange.silence() } else { now.max(PACE_SPAN) }
    }

    /// Where in its slot the next new poller polls.
    fn place(&mut self) -> f64 {
        let phase = phase(self.places);
        self.places = self.places.wrapping_add(1);
        phase
    }

    fn accounts(&self) -> impl Iterator<Item = (Id, &str, &Plan)> {
        self.hands.iter().filter_map(|hand| match &hand.post {
            Post::Account(name, plan) => Some((hand.id, &**name, &**plan)),
            Post::Prices(_) => None,
        })
    }

    fn prices(&self) -> Option<&Prices> {
        self.hands.iter().find_map(|hand| match &hand.post {
            Post::Prices(plan) => Some(plan),
            Post::Account(..) => None,
        })
    }

    fn set_to_work(&mut self, mut poller: Poller) {
        let post = Post::Account(poller.account().into(), Arc::clone(&poller.plan));
        let ticks = self.ticks;
        self.spawn(post, async move |stopped| {
            until(stopped, poller.run(ticks)).await;
            Returned::Account(Box::new(poller))
        });
    }

    fn set_prices_to_work(&mut self, mut poller: PricePoller) {
        let post = Post::Prices(poller.plan.clone());
        let ticks = self.ticks;
        self.spawn(post, async move |stopped| {
            until(stopped, poller.run(ticks)).await;
            Returned::Prices(Box::new(poller))
        });
    }

    fn spawn<W>(&mut self, post: Post, work: impl FnOnce(oneshot::Receiver<Infallible>) -> W)
    where
        W: Future<Output = Returned> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let id = self.tasks.spawn_on(work(stopped), &self.polls).id();
        self.hands.push(Hand { id, post, _stop: stop });
    }

    fn has_died(&mut self, error: &JoinError) {
        let Some(place) = self.hands.iter().position(|hand| hand.id == error.id()) else { return };
        let Desk { ledger, clock, .. } = &self.desk;
        let now = clock.now();
        match self.hands.remove(place).post {
            Post::Account(name, _) => {
                tracing::error!(account = %name, "the poller of this account has died, and its balances will become unknown: {error}");
                ledger.update(&name, |account| account.alive_until = now);
            }
            Post::Prices(_) => {
                tracing::error!("the poller of prices has died, and they will become unknown: {error}");
                ledger.update_market(|market| market.alive_until = now);
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

impl Desk {
    /// Readies the poller of `account`, to poll at this `phase` of its slots after `begins`, and its page. If
    /// `old` has polled the same account until now, what is known of it stays known, and the next poll is due
    /// no later than it was.
    fn poller(
        &self,
        account: Account,
        begins: Duration,
        phase: f64,
        old: Option<Poller>,
    ) -> (Poller, ledger::Account) {
        let now = self.clock.now();
        let plan = Plan::of(&account);
        let old = old.filter(|old| old.is_of(&account));
        let Account { name, venue, keyring, .. } = account;
        let page = old.as_ref().and_then(|_| self.ledger.account(&name));
        let api = venue.api;
        let standing = |subject: &Arc<Subject>| {
            let wallets = page.as_ref().map(|page| page.wallets.iter()).into_iter().flatten();
            let mut standings = wallets.map(|known| &known.standing);
            match standings.find(|known| known.subject.wallet == subject.wallet) {
                Some(known) => {
                    let original = known.good.as_ref().and_then(|good| good.original.as_ref());
                    let answer = original.and_then(|answer| exchange::reread(api, subject.wallet, answer));
                    known.seen_by(Arc::clone(subject), answer)
                }
                None => Standing::new(Arc::clone(subject)),
            }
        };
        let standings: Vec<_> = plan.subjects.iter().map(standing).collect();
        let slot = plan.slot();
        let due = old.as_ref().map(|old| old.due);
        let first = no_later(begins + slot.mul_f64(phase), due, now.elapsed);
        let restarts = old.as_ref().map_or_else(Restarts::default, |old| old.restarts);
        let schedule = Schedule::new(first, slot, plan.interval, plan.timeout);
        let keyring = match old {
            Some(old) if old.plan.keys == plan.keys => old.session.keyring,
            _ => keyring,
        };
        let poller = Poller {
            session: Session::new(name, venue, keyring),
            plan: Arc::new(plan),
            schedule,
            due: first,
            desk: self.clone(),
            complaint: None,
            restarts,
        };
        let alive_until = now.later(schedule.life);
        let page = ledger::Account::standing(poller.facts(now), standings, alive_until);
        (poller, page)
    }

    /// Readies the poller of prices in the same way.
    fn price_poller(
        &self,
        plan: Prices,
        begins: Duration,
        phase: f64,
        old: Option<PricePoller>,
    ) -> (PricePoller, Pricing) {
        let now = self.clock.now();
        let old = old.filter(|old| !config::are_apart(&old.plan.venue, &plan.venue));
        let slot = plan.poll_interval;
        let due = old.as_ref().map(|old| old.due);
        let first = no_later(begins + slot.mul_f64(phase), due, now.elapsed);
        let schedule = Schedule::new(first, slot, plan.poll_interval, plan.poll_timeout);
        let alive_until = now.later(schedule.life);
        let pricing = Pricing { max_age: plan.max_age, alive_until, recalls: old.is_some() };
        let ticker = Ticker::new(plan.venue.clone());
        let restarts = old.map_or_else(Restarts::default, |old| old.restarts);
        (PricePoller { ticker, plan, schedule, due: first, desk: self.clone(), restarts }, pricing)
    }
}

impl Poller {
    /// Whether `account` is the one it polls, and not another of the same name: one of the same exchange, with
    /// the same key or one that has taken its place.
    fn is_of(&self, account: &Account) -> bool {
        let (here, there) = (&self.plan.venue, &account.venue);
        let key = self.session.keyring.pair().id();
        here.api == there.api
            && !config::are_apart(here, there)
            && (self.plan.keys == *account.keyring.source() || key == account.keyring.pair().id())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        exchange::{KeyHalf, KeySource, Keyring, Secret, Venue, Wallet},
        standing::Filter,
    };

    fn account(name: &str) -> Account {
        let half = || {
            let secret = Secret::new(&Zeroizing::new("key".to_owned()));
            KeyHalf::Given(secret.unwrap_or_else(|why| panic!("{why}")))
        };
        let keyring = Keyring::open(KeySource { access: half(), secret: half() }, Duration::ZERO);
        Account {
            name: name.into(),
            venue: Venue::default(),
            keyring: keyring.unwrap_or_else(|why| panic!("{why}")),
            wallets: vec![Wallet::Spot],
            watch: Vec::new(),
            filter: Filter::default(),
            poll_interval: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(90),
        }
    }

    fn crew(clock: Clock) -> Result<Crew, String> {
        Ok(Crew::new(Arc::new(Exchange::simulated(clock)?), clock, Handle::current(), Ticks::begin()))
    }

    fn config(names: &[&str]) -> Config {
        Config { accounts: names.iter().map(|name| account(name)).collect(), prices: None }
    }

    #[tokio::test]
    async fn who_has_died_is_missed_until_the_next_configuration_begins_it_anew() -> Result<(), String> {
        let clock = Clock::start();
        let mut crew = crew(clock)?;
        crew.follow(config(&["a", "b"])).await;
        let ailing = |crew: &Crew| crew.ledger().ailing(clock.now()).len();
        assert_eq!(ailing(&crew), 0);

        crew.tasks.abort_all();
        assert!(crew.bury().await, "there is another");
        assert!(!crew.bury().await);
        assert_eq!(ailing(&crew), 2);
        assert_eq!(crew.follow(config(&["b"])).await, Change { new: 1, ..Change::default() });
        assert_eq!(ailing(&crew), 0, "of a nobody knows any more");
        assert_eq!(crew.ledger().accounts().len(), 1);
        Ok(())
    }

    #[tokio::test]
    async fn the_silence_at_the_start_holds_for_who_is_added_in_it() -> Result<(), String> {
        let clock = Clock::start();
        let mut crew = crew(clock)?;
        assert_eq!(crew.desk.exchange.silence(), Duration::ZERO, "as with one on this machine");
        let at_once = |name| {
            let account = Account { poll_interval: Duration::from_millis(1), ..account(name) };
            Config { accounts: vec![account], prices: None }
        };
        crew.follow(at_once("a")).await;
        crew.follow(at_once("b")).await;
        let first = loop {
            match crew.ledger().account("b").and_then(|page| page.next_poll()) {
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
        let mut crew = crew(clock)?;
        crew.follow(config(&["a", "b"])).await;
        crew.tasks.abort_all();
        // Let the deaths be known before those that are called back.
        tokio::task::yield_now().await;
        crew.follow(config(&["a"])).await;
        assert_eq!(crew.ledger().accounts().len(), 1);
        crew.bury().await;
        assert_eq!(crew.ledger().ailing(clock.now()).len(), 1);
        assert!(crew.accounts().next().is_none());
        Ok(())
    }
}
