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
    exchange::{ClockReading, Prices},
    exposition::{
        self, Pieces, Shown, Whole,
        families::AccountFacts,
        own::{OwnFacts, Reload},
    },
    log,
    moment::Moment,
    quotation::{self, Quotation},
    standing::{Holding, Standing, Subject},
};

/// What is known now.
#[derive(Debug, Default)]
pub struct Ledger {
    book: ArcSwap<Book>,
    own: ArcSwap<Own>,
    /// How often anything has changed. If this is the same after as before, what was read between is
    /// still what is known.
    changes: AtomicU64,
    latest: ArcSwapOption<Latest>,
}

/// What is known of no account.
#[derive(Clone, Debug, Default)]
struct Own {
    /// The clocks of hosts.
    clocks: BTreeMap<String, HostClock>,
    /// `None` where the configuration is read but once.
    reload: Option<Reload>,
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
struct Book {
    /// Sorted by name.
    accounts: Vec<Arc<ArcSwap<Account>>>,
    /// `None` if prices are not asked for.
    market: Option<Arc<ArcSwap<Market>>>,
}

impl Book {
    fn accounts(&self) -> impl Iterator<Item = Arc<Account>> {
        self.accounts.iter().map(|slot| slot.load_full())
    }

    fn market(&self) -> Option<Arc<Market>> {
        self.market.as_ref().map(|slot| slot.load_full())
    }
}

/// How prices are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pricing {
    /// From this age on they are unknown.
    pub max_age: Duration,
    /// The deadline of their poller's next sign of life.
    pub alive_until: Moment,
    /// Whether what is known of them is known of these.
    pub recalls: bool,
}

/// What is known of an account. Immutable: its poller puts a new one in its place.
#[derive(Clone, Debug)]
pub struct Account {
    /// What holds whatever the wallet.
    pub facts: AccountFacts,
    /// Its wallets, in the order of [`crate::exchange::Wallet`].
    pub wallets: Vec<Wallet>,
    /// Until when its poller must have given another sign of life to pass for alive.
    pub alive_until: Moment,
    pieces: Pieces,
}

/// What is known of a wallet, and the text that says so.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// What is known.
    pub standing: Standing,
    /// When it is polled next: not in slots that a refused key leaves out.
    pub next_poll: Option<Moment>,
    pieces: Pieces,
    counted: Option<Counted>,
}

/// How many currencies have no price, and of what that was counted.
#[derive(Clone, Debug)]
struct Counted {
    holdings: Arc<[Holding]>,
    /// Those with a price.
    currencies: Arc<[SmolStr]>,
    unusable: u64,
    unpriced: u64,
}

/// What is known of prices, and the text that says so. Immutable: their poller puts a new one in its
/// place.
#[derive(Clone, Debug)]
pub struct Market {
    /// What is known.
    pub quotation: Quotation,
    /// Until when its poller must have given another sign of life to pass for alive.
    pub alive_until: Moment,
    /// How often its poller was started again after a panic.
    pub poller_restarts: u64,
    pieces: Pieces,
}

/// The exporter's own metrics change with every breath; they are read again after this.
const OWN_MAX_AGE: Duration = Duration::from_millis(100);

/// The newest exposition.
#[derive(Debug)]
struct Latest {
    whole: Whole,
    /// After so many changes it was strung together.
    changes: u64,
    /// From then on it is not the newest any more, whatever has changed, on [`Moment::elapsed`].
    until: Duration,
}

impl Ledger {
    /// A ledger of `accounts`, without prices.
    #[must_use]
    pub fn new(accounts: Vec<Account>) -> Self {
        let ledger = Self::default();
        ledger.rewrite(&|_| false, accounts, None);
        ledger
    }

    /// The same, with prices of which nothing is known yet, and which are unknown from `max_age` on.
    /// `alive_until` is the deadline of their poller's first sign of life.
    #[must_use]
    pub fn with_prices(self, max_age: Duration, alive_until: Moment) -> Self {
        self.rewrite(&|_| true, Vec::new(), Some(Pricing { max_age, alive_until, recalls: false }));
        self
    }

    /// Keeps the accounts whose names are `kept`, adds `new` ones, and prices if there are to be any. A
    /// reader sees all of it or nothing. Not for two at once.
    pub fn rewrite(&self, kept: &dyn Fn(&str) -> bool, mut new: Vec<Account>, prices: Option<Pricing>) {
        let old = self.book.load();
        let mut accounts: Vec<_> =
            old.accounts.iter().filter(|slot| kept(&slot.load().facts.name)).cloned().collect();
        let market = prices.map(|prices| {
            let pages: Vec<_> = accounts.iter().map(|slot| slot.load_full()).collect();
            let wallets = pages.iter().map(|page| &**page).chain(&new).flat_map(|page| &page.wallets);
            let subjects = wallets.map(|wallet| &*wallet.standing.subject);
            let mut quotation = Quotation::new(prices.max_age, subjects);
            if let Some(known) = old.market().filter(|_| prices.recalls) {
                quotation.good.clone_from(&known.quotation.good);
                quotation.trouble.clone_from(&known.quotation.trouble);
            }
            let pieces = Pieces::of_prices(&quotation, None);
            let poller_restarts = old.market().map_or(0, |known| known.poller_restarts);
            Market { quotation, alive_until: prices.alive_until, poller_restarts, pieces }
        });
        if let Some(market) = &market {
            for account in &mut new {
                account.count(market);
            }
        }
        accounts.extend(new.into_iter().map(|account| Arc::new(ArcSwap::from_pointee(account))));
        accounts.sort_unstable_by(|a, b| a.load().facts.name.cmp(&b.load().facts.name));
        let market = market.map(|market| Arc::new(ArcSwap::from_pointee(market)));
        self.book.store(Arc::new(Book { accounts, market }));
        self.changed();
    }

    /// Every account as it is now, sorted by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.book.load().accounts().collect()
    }

    /// The account called `name` as it is now.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.slot(name).map(|slot| slot.load_full())
    }

    /// Prices as they are now; `None` if they are not asked for.
    #[must_use]
    pub fn market(&self) -> Option<Arc<Market>> {
        self.book.load().market()
    }

    /// Changes the account called `name`. `change` is made again on the newer state if another has
    /// changed the account meanwhile, so that neither change is lost.
    pub fn update(&self, name: &str, change: impl Fn(&mut Account)) {
        if let Some(slot) = self.slot(name) {
            self.change(&slot, change);
        }
    }

    /// Changes what is known of prices, and counts anew what has none. `change` may be made more than
    /// once, as in [`update`](Self::update).
    pub fn update_market(&self, change: impl Fn(&mut Market)) {
        let book = self.book.load();
        let Some(slot) = &book.market else { return };
        let before = slot.rcu(|market| {
            let mut market = Market::clone(market);
            change(&mut market);
            market
        });
        self.changed();
        // The prices stand in their place by now. Whoever changes an account from here on counts by
        // them; whoever has begun before finds the account changed, and begins again.
        if before.priced() != slot.load().priced() {
            book.accounts.iter().for_each(|account| self.change(account, |_| {}));
        }
    }

    fn change(&self, slot: &ArcSwap<Account>, change: impl Fn(&mut Account)) {
        slot.rcu(|account| {
            let market = self.market();
            let mut account = Account::clone(account);
            change(&mut account);
            if let Some(market) = &market {
                account.count(market);
            }
            account
        });
        self.changed();
    }

    fn slot(&self, name: &str) -> Option<Arc<ArcSwap<Account>>> {
        let book = self.book.load();
        let place = book.accounts.binary_search_by(|slot| (*slot.load().facts.name).cmp(name));
        place.ok().and_then(|place| book.accounts.get(place)).cloned()
    }

    /// Notes the clocks of hosts that were just asked, to be shown until `shown_until`, on [`Moment::elapsed`].
    pub fn set_clocks(&self, clocks: &[(String, ClockReading)], shown_until: Duration) {
        self.change_own(&|own| {
            for (host, reading) in clocks {
                let longest =
                    own.clocks.get(host).map_or(shown_until, |clock| clock.shown_until.max(shown_until));
                let clock = HostClock { reading: *reading, shown_until: longest };
                own.clocks.insert(host.clone(), clock);
            }
        });
    }

    /// Forgets the clocks of hosts that nobody asks any more.
    pub fn keep_clocks(&self, is_asked: &dyn Fn(&str) -> bool) {
        self.change_own(&|own| own.clocks.retain(|host, _| is_asked(host)));
    }

    /// How the configuration was last read, if it is read more than once.
    #[must_use]
    pub fn reload(&self) -> Option<Reload> {
        self.own.load().reload
    }

    /// Notes how the configuration was last read.
    pub fn set_reload(&self, reload: Reload) {
        self.change_own(&|own| own.reload = Some(reload));
    }

    fn change_own(&self, change: &dyn Fn(&mut Own)) {
        self.own.rcu(|own| {
            let mut own = Own::clone(own);
            change(&mut own);
            own
        });
        self.changed();
    }

    /// What is kept of texts is let go at once: it would hold those that have just been replaced until
    /// the next scrape.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        self.latest.store(None);
    }

    /// How often anything has changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// When the next answer becomes too old to be shown, on [`Moment::elapsed`]; `None` if none is
    /// shown as of `now`.
    #[must_use]
    pub fn next_unknown(&self, now: Moment) -> Option<Duration> {
        let book = self.book.load();
        let accounts = book.accounts().collect::<Vec<_>>();
        let standings = accounts.iter().flat_map(|account| &account.wallets).map(|wallet| &wallet.standing);
        let balances = standings.filter_map(|standing| standing.known_until(now));
        let prices = book.market().and_then(|market| market.quotation.known_until(now));
        balances.chain(prices).min()
    }

    /// What a scrape is answered with: the exposition as of `now`, strung together anew only when there
    /// is something new in it. Its balances are those of `now`; the exporter's own metrics, with
    /// `process_*` of a process that started at the Unix time `process_started`, are at most
    /// [`OWN_MAX_AGE`] old. Waits for nobody; two scrapes at once may both do the work.
    #[must_use]
    pub fn newest(&self, now: Moment, process_started: Duration) -> Whole {
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(latest) = &*self.latest.load()
            && latest.changes == changes
            && now.elapsed < latest.until
        {
            return latest.whole.clone();
        }
        let whole = self.exposition(now, Some(process_started));
        let until = now.elapsed + OWN_MAX_AGE;
        let until = self.next_unknown(now).map_or(until, |unknown| unknown.min(until));
        self.latest.store(Some(Arc::new(Latest { whole: whole.clone(), changes, until })));
        whole
    }

    /// The exposition as of `now`. `process_started` is the Unix time the process started, `None` to
    /// leave out `process_*`.
    #[must_use]
    pub fn exposition(&self, now: Moment, process_started: Option<Duration>) -> Whole {
        let book = self.book.load();
        let (accounts, market) = (book.accounts().collect::<Vec<_>>(), book.market());
        let priced = market.as_ref().is_some_and(|market| market.quotation.known(now).is_some());
        let of_market = market.as_ref().map(|market| Shown { pieces: &market.pieces, known: true, priced });
        let of_accounts = accounts.iter().flat_map(|account| account.shown(now, priced));
        let shown: Vec<_> = of_accounts.chain(of_market).collect();
        let own = self.own.load();
        let clocks = own.clocks.iter().filter(|(_, clock)| now.elapsed < clock.shown_until);
        let skews = clocks.map(|(host, clock)| (&**host, clock.reading.skew_seconds(now))).collect();
        let facts = OwnFacts {
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
    pub fn ailing(&self, now: Moment) -> Vec<String> {
        let said = |whose: &str, late: Duration| {
            format!(
                "the poller of {whose} is stuck or dead: its sign of life is {} s overdue",
                late.as_secs()
            )
        };
        let late = |account: &Arc<Account>| {
            account.overdue(now).map(|late| said(&format!("account '{}'", account.facts.name), late))
        };
        let prices = self.market().and_then(|market| market.overdue(now)).map(|late| said("prices", late));
        self.accounts().iter().filter_map(late).chain(prices).collect()
    }

    /// Names of the accounts of which some wallet has not been polled yet.
    #[must_use]
    pub fn unpolled(&self) -> Vec<Box<str>> {
        let unpolled =
            |account: &Account| account.wallets.iter().any(|wallet| wallet.standing.tally.polls == 0);
        let accounts = self.accounts();
        accounts
            .iter()
            .filter(|account| unpolled(account))
            .map(|account| account.facts.name.clone())
            .collect()
    }
}

impl Account {
    /// An account of which nothing is known yet. `alive_until` is the deadline of its poller's
    /// first sign of life.
    #[must_use]
    pub fn new(facts: AccountFacts, subjects: Vec<Arc<Subject>>, alive_until: Moment) -> Self {
        Self::standing(facts, subjects.into_iter().map(Standing::new), alive_until)
    }

    /// An account of which something may be known, a standing a wallet.
    #[must_use]
    pub fn standing(
        facts: AccountFacts,
        standings: impl IntoIterator<Item = Standing>,
        alive_until: Moment,
    ) -> Self {
        let pieces = Pieces::of_account(&facts);
        let wallets = standings.into_iter().map(Wallet::new).collect();
        Self { facts, wallets, alive_until, pieces }
    }

    /// When the next poll of the account is made, of whichever wallet.
    #[must_use]
    pub fn next_poll(&self) -> Option<Moment> {
        let next = self.wallets.iter().filter_map(|wallet| wallet.next_poll);
        next.min_by_key(|next| next.elapsed)
    }

    /// How long the sign of life of its poller is overdue; `None` if it is alive. Whoever was
    /// suspended with the machine is not late.
    #[must_use]
    pub fn overdue(&self, now: Moment) -> Option<Duration> {
        overdue(self.alive_until, now)
    }

    /// Replaces the facts, and their text if they differ.
    pub fn set_facts(&mut self, facts: AccountFacts) {
        if self.facts != facts {
            self.pieces = Pieces::of_account(&facts);
            self.facts = facts;
        }
    }

    /// Counts what has no price.
    fn count(&mut self, market: &Market) {
        if let Some(quoted) = &market.quotation.good {
            self.wallets.iter_mut().for_each(|wallet| wallet.count(&quoted.prices));
        }
    }

    /// What a scrape shows: the account's own lines, then its wallets' by label.
    fn shown(&self, now: Moment, priced: bool) -> Vec<Shown<'_>> {
        let mut wallets: Vec<_> = self.wallets.iter().collect();
        wallets.sort_unstable_by_key(|wallet| wallet.standing.subject.wallet.label());
        let wallets = wallets.into_iter().map(|wallet| {
            let known = wallet.standing.known(now).is_some();
            Shown { pieces: &wallet.pieces, known, priced }
        });
        let account = Shown { pieces: &self.pieces, known: true, priced };
        std::iter::once(account).chain(wallets).collect()
    }
}

impl Wallet {
    fn new(standing: Standing) -> Self {
        Self { pieces: Pieces::of_wallet(&standing, None), standing, next_poll: None, counted: None }
    }

    /// Replaces what is known, and renders what changed of it.
    pub fn set(&mut self, standing: Standing) {
        self.pieces = Pieces::of_wallet(&standing, Some((&self.standing, &self.pieces)));
        self.standing = standing;
    }

    /// Counts what has no price among `prices`, and renders that, unless the same was counted before.
    fn count(&mut self, prices: &Prices) {
        let Some(good) = &self.standing.good else { return };
        let (holdings, currencies) = (&good.holdings, prices.currencies());
        let before = self.counted.as_ref();
        let is_same = |old: &Counted| {
            Arc::ptr_eq(&old.holdings, holdings)
                && Arc::ptr_eq(&old.currencies, currencies)
                && old.unusable == good.unusable
        };
        if before.is_some_and(is_same) {
            return;
        }
        let unpriced = quotation::unpriced(good, prices);
        if before.is_none_or(|old| old.unpriced != unpriced) {
            self.pieces.set_unpriced(&self.standing.subject, unpriced);
        }
        let (holdings, currencies) = (Arc::clone(holdings), Arc::clone(currencies));
        self.counted = Some(Counted { holdings, currencies, unusable: good.unusable, unpriced });
    }
}

impl Market {
    /// Replaces what is known, and renders what changed of it.
    pub fn set(&mut self, quotation: Quotation) {
        self.pieces = Pieces::of_prices(&quotation, Some((&self.quotation, &self.pieces)));
        self.quotation = quotation;
    }

    /// How long the sign of life of its poller is overdue; `None` if it is alive.
    #[must_use]
    pub fn overdue(&self, now: Moment) -> Option<Duration> {
        overdue(self.alive_until, now)
    }

    /// The currencies that have a price, as an address: equal lists are one.
    fn priced(&self) -> Option<*const SmolStr> {
        self.quotation.good.as_ref().map(|good| good.prices.currencies().as_ptr())
    }
}

/// How long ago, of the time timers go by, `alive_until` was; `None` if it is still to come.
fn overdue(alive_until: Moment, now: Moment) -> Option<Duration> {
    now.awake.checked_sub(alive_until.awake)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{
        exchange::{self, v1},
        standing::{Ended, Filter, PollOutcome, tests::answer},
    };

    const MAX_AGE: Duration = Duration::from_secs(90);
    const UNPRICED: &str = "xt_unpriced_currencies{account=\"a\",wallet=\"spot\"} ";

    fn at(seconds: u64) -> Moment {
        let elapsed = Duration::from_secs(seconds);
        Moment { elapsed, awake: elapsed, unix: Duration::from_secs(1_700_000_000) + elapsed }
    }

    fn ledger() -> Ledger {
        let facts = AccountFacts {
            name: "a".into(),
            paused_until: None,
            credentials_loaded: Duration::from_secs(1),
            poller_restarts: 0,
        };
        let subject = Subject {
            account: "a".into(),
            wallet: exchange::Wallet::Spot,
            watch: Vec::new(),
            filter: Filter::default(),
            max_age: MAX_AGE,
        };
        Ledger::new(vec![Account::new(facts, vec![Arc::new(subject)], at(0))]).with_prices(MAX_AGE, at(0))
    }

    /// Reads these rows into the account at second `now`.
    fn poll(account: &mut Account, now: u64, rows: &[(&str, &str, &str)]) {
        for wallet in &mut account.wallets {
            let took = Duration::ZERO;
            let outcome = PollOutcome::Answer { sent: at(now), answer: Some(answer(rows)) };
            let ended = Ended { at: at(now), took, is_suspect: false, outcome };
            wallet.set(wallet.standing.after(ended));
        }
    }

    /// Reads prices of these currencies at second `now`.
    fn quote(ledger: &Ledger, now: u64, currencies: &[&str]) {
        let markets: Vec<_> =
            currencies.iter().map(|name| format!(r#""{name}_usdt":{{"price":{now}.5}}"#)).collect();
        let body = format!("{{{}}}", markets.join(","));
        ledger.update_market(|market| {
            let prices = v1::prices(200, body.as_bytes()).map(|prices| (at(now), prices));
            market.set(market.quotation.after(at(now), prices));
        });
    }

    fn text(ledger: &Ledger, now: u64) -> String {
        String::from_utf8_lossy(&ledger.exposition(at(now), None).plain.parts.concat()).into_owned()
    }

    /// What follows `series` in the exposition.
    fn value(ledger: &Ledger, now: u64, series: &str) -> Option<String> {
        text(ledger, now).lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned)
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
        let ledger = ledger();
        assert_eq!(value(&ledger, 1, "xt_price_last_success_timestamp_seconds ").as_deref(), Some("0"));
        assert!(!text(&ledger, 1).contains("xt_price{"));
        ledger.update("a", |account| poll(account, 10, ROWS));
        assert_eq!(value(&ledger, 10, UNPRICED), None, "as long as there are no prices");
        assert_eq!(ledger.next_unknown(at(10)), Some(Duration::from_secs(100)));

        quote(&ledger, 5, &["btc", "usdc"]);
        assert_eq!(value(&ledger, 10, UNPRICED).as_deref(), Some("2"), "aleo(iou) and eth");
        let shown = text(&ledger, 10);
        for (currency, price) in [("btc", "5.5"), ("usdc", "5.5"), ("usdt", "1")] {
            let line = format!("xt_price{{currency=\"{currency}\",quote=\"usdt\"}} {price}\n");
            assert!(shown.contains(&line), "{line} in\n{shown}");
        }
        assert_eq!(
            value(&ledger, 10, "xt_price_last_success_timestamp_seconds ").as_deref(),
            Some("1700000005")
        );
        assert_eq!(ledger.next_unknown(at(10)), Some(Duration::from_secs(95)), "prices are the older");

        assert_eq!(value(&ledger, 94, UNPRICED).as_deref(), Some("2"));
        let unknown = text(&ledger, 95);
        assert!(!unknown.contains("xt_price{") && !unknown.contains(UNPRICED), "{unknown}");
        assert!(unknown.contains("xt_price_last_success_timestamp_seconds 1700000005\n"), "{unknown}");
        assert!(unknown.contains("xt_balance_free{"), "balances are another matter");
        quote(&ledger, 98, &["btc", "usdc"]);
        assert_eq!(value(&ledger, 99, UNPRICED).as_deref(), Some("2"));
        assert_eq!(value(&ledger, 100, UNPRICED), None, "now it is the balances that are too old");
        assert!(text(&ledger, 100).contains("xt_price{"));
    }

    #[test]
    fn what_has_no_price_is_counted_anew_when_either_side_changes() {
        let ledger = ledger();
        let count = || value(&ledger, 50, UNPRICED);
        quote(&ledger, 1, &["btc", "eth"]);
        ledger.update("a", |account| poll(account, 2, ROWS));
        assert_eq!(count().as_deref(), Some("1"));
        quote(&ledger, 3, &["btc"]);
        assert_eq!(count().as_deref(), Some("2"));
        ledger.update("a", |account| poll(account, 4, &[("btc", "1", "0")]));
        assert_eq!(count().as_deref(), Some("0"));
        quote(&ledger, 5, &["eth"]);
        assert_eq!(count().as_deref(), Some("1"));
    }

    /// One change overtakes another between the other's look at the state and its being put in place.
    #[test]
    fn two_changes_at_once_are_both_kept_and_leave_no_stale_count() {
        let ledger = ledger();
        quote(&ledger, 1, &["btc", "eth", "aleo(iou)"]);
        let tries = Cell::new(0);
        ledger.update("a", |account| {
            poll(account, 2, ROWS);
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                quote(&ledger, 3, &["btc"]);
            }
        });
        assert_eq!(value(&ledger, 50, UNPRICED).as_deref(), Some("2"), "by the newer prices");

        tries.set(0);
        ledger.update("a", |account| {
            account.wallets.iter_mut().for_each(|wallet| wallet.next_poll = Some(at(60)));
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                ledger.update("a", |account| poll(account, 4, &[("xt", "1", "0")]));
            }
        });
        assert_eq!(ledger.account("a").and_then(|account| account.next_poll()), Some(at(60)));
        assert_eq!(value(&ledger, 50, UNPRICED).as_deref(), Some("1"));

        tries.set(0);
        ledger.update_market(|market| {
            market.alive_until = at(70);
            tries.set(tries.get() + 1);
            if tries.get() == 1 {
                quote(&ledger, 5, &["xt"]);
            }
        });
        assert_eq!(ledger.market().map(|market| market.alive_until), Some(at(70)));
        assert_eq!(value(&ledger, 50, UNPRICED).as_deref(), Some("0"));
    }

    #[test]
    fn texts_that_did_not_change_are_not_made_anew() {
        let ledger = ledger();
        let place = |name: &str| {
            crate::exposition::families::FAMILIES.iter().position(|family| family.name == name).unwrap_or(0)
        };
        let prices = || ledger.market().map(|market| market.pieces.plain(place("xt_price")).as_ptr());
        let unpriced = || {
            let account = ledger.account("a");
            let wallet = account.as_ref().and_then(|account| account.wallets.first());
            wallet.map(|wallet| wallet.pieces.plain(place("xt_unpriced_currencies")).as_ptr())
        };
        quote(&ledger, 1, &["btc"]);
        ledger.update("a", |account| poll(account, 2, ROWS));
        let (first, count) = (prices(), unpriced());
        ledger.update_market(|market| {
            let prices = v1::prices(200, br#"{"btc_usdt":{"price":1.50}}"#).map(|prices| (at(3), prices));
            market.set(market.quotation.after(at(3), prices));
        });
        ledger.update("a", |account| poll(account, 4, ROWS));
        assert_eq!((prices(), unpriced()), (first, count));
        quote(&ledger, 5, &["btc"]);
        assert_eq!(unpriced(), count, "only values have changed");
        assert_ne!(prices(), first);
    }

    #[test]
    fn the_poller_of_prices_is_missed_like_any_other() {
        let ledger = ledger();
        ledger.update("a", |account| account.alive_until = at(1_000));
        ledger.update_market(|market| market.alive_until = at(100));
        assert_eq!(ledger.ailing(at(99)), [""; 0]);
        assert_eq!(
            ledger.ailing(at(107)),
            ["the poller of prices is stuck or dead: its sign of life is 7 s overdue"]
        );
    }
}
