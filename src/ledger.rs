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

use arc_swap::ArcSwap;

use crate::{
    exposition::{self, Pieces, Shown, Whole, families::AccountFacts, own::OwnFacts},
    moment::Moment,
    standing::{Standing, Subject},
};

/// What is known now.
#[derive(Debug)]
pub struct Ledger {
    accounts: Vec<ArcSwap<Account>>,
    skews: ArcSwap<BTreeMap<String, f64>>,
    changes: AtomicU64,
}

/// What is known of an account. Immutable: its poller puts a new one in its place.
#[derive(Clone, Debug)]
pub struct Account {
    /// What holds whatever the wallet.
    pub facts: AccountFacts,
    /// Its wallets, in the order of [`crate::exchange::Wallet`].
    pub wallets: Vec<Wallet>,
    /// When the next poll is due.
    pub next_poll: Option<Moment>,
    /// Until when its poller must have given another sign of life to pass for alive.
    pub alive_until: Moment,
    pieces: Pieces,
}

/// What is known of a wallet, and the text that says so.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// What is known.
    pub standing: Standing,
    pieces: Pieces,
}

impl Ledger {
    /// A ledger of `accounts` of which nothing is known yet, kept sorted by name.
    #[must_use]
    pub fn new(accounts: Vec<Account>) -> Self {
        let mut accounts = accounts;
        accounts.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
        let accounts = accounts.into_iter().map(ArcSwap::from_pointee).collect();
        Self { accounts, skews: ArcSwap::default(), changes: AtomicU64::new(0) }
    }

    /// Every account as it is now, sorted by name.
    #[must_use]
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.accounts.iter().map(ArcSwap::load_full).collect()
    }

    /// The account called `name` as it is now.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.slot(name).map(ArcSwap::load_full)
    }

    /// Changes the account called `name`. Only its own poller may call this: of two changes made
    /// at once from the same state, one would be lost.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut Account)) {
        if let Some(slot) = self.slot(name) {
            let mut account = Account::clone(&slot.load());
            change(&mut account);
            slot.store(Arc::new(account));
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    fn slot(&self, name: &str) -> Option<&ArcSwap<Account>> {
        let place = self.accounts.binary_search_by(|slot| (*slot.load().facts.name).cmp(name));
        place.ok().and_then(|place| self.accounts.get(place))
    }

    /// Notes that the clock of `host` is `seconds` ahead of ours.
    pub fn set_skew(&self, host: &str, seconds: f64) {
        self.skews.rcu(|skews| {
            let mut skews = BTreeMap::clone(skews);
            skews.insert(host.to_owned(), seconds);
            skews
        });
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often anything has changed. If this is the same after as before, what was read between is
    /// still what is known.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// When the next answer becomes too old to be shown, on [`Moment::elapsed`]; `None` if none is
    /// shown as of `now`.
    #[must_use]
    pub fn next_unknown(&self, now: Moment) -> Option<Duration> {
        let accounts = self.accounts();
        let standings = accounts.iter().flat_map(|account| &account.wallets).map(|wallet| &wallet.standing);
        standings.filter_map(|standing| standing.known_until(now)).min()
    }

    /// The exposition as of `now`. `process_started` is the Unix time the process started, `None` to
    /// leave out `process_*`.
    #[must_use]
    pub fn exposition(&self, now: Moment, process_started: Option<Duration>) -> Whole {
        let accounts = self.accounts();
        let shown: Vec<_> = accounts.iter().flat_map(|account| account.shown(now)).collect();
        exposition::assemble(&shown, &OwnFacts { skews: &self.skews.load(), process_started })
    }

    /// Sentences about pollers that have given no sign of life in time; empty if all is well.
    #[must_use]
    pub fn ailing(&self, now: Moment) -> Vec<String> {
        let late = |account: &Arc<Account>| {
            let late = account.overdue(now)?;
            let name = &account.facts.name;
            Some(format!(
                "the poller of account '{name}' is stuck or dead: its sign of life is {} s overdue",
                late.as_secs()
            ))
        };
        self.accounts().iter().filter_map(late).collect()
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
        let pieces = Pieces::of_account(&facts);
        let wallets = subjects.into_iter().map(|subject| Wallet::new(Standing::new(subject)));
        Self { wallets: wallets.collect(), next_poll: None, alive_until, pieces, facts }
    }

    /// How long the sign of life of its poller is overdue; `None` if it is alive. Whoever was
    /// suspended with the machine is not late.
    #[must_use]
    pub fn overdue(&self, now: Moment) -> Option<Duration> {
        now.awake.checked_sub(self.alive_until.awake)
    }

    /// Replaces the facts, and their text if they differ.
    pub fn set_facts(&mut self, facts: AccountFacts) {
        if self.facts != facts {
            self.pieces = Pieces::of_account(&facts);
            self.facts = facts;
        }
    }

    /// What a scrape shows: the account's own lines, then its wallets' by label.
    fn shown(&self, now: Moment) -> Vec<Shown<'_>> {
        let mut wallets: Vec<_> = self.wallets.iter().collect();
        wallets.sort_by_key(|wallet| wallet.standing.subject.wallet.label());
        let wallets = wallets
            .into_iter()
            .map(|wallet| Shown { pieces: &wallet.pieces, known: wallet.standing.known(now).is_some() });
        let account = Shown { pieces: &self.pieces, known: true };
        std::iter::once(account).chain(wallets).collect()
    }
}

impl Wallet {
    fn new(standing: Standing) -> Self {
        Self { pieces: Pieces::of_wallet(&standing, None), standing }
    }

    /// Replaces what is known, and renders what changed of it.
    pub fn set(&mut self, standing: Standing) {
        self.pieces = Pieces::of_wallet(&standing, Some((&self.standing, &self.pieces)));
        self.standing = standing;
    }
}
