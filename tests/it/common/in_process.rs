//! The poller of one account and the ledger it writes, in the process of the test: polled when the
//! test says so, read as of whatever moment the test asks for.

use std::{sync::Arc, time::Duration};

use xt_balance_exporter::{
    config::Account,
    exchange::{BaseUrl, Exchange, Failure, KeyHalf, KeySource, Keyring, Reason, Secret, Venue, Wallet},
    ledger::Ledger,
    moment::{Clock, Moment},
    poll::{self, PollEnd, Poller},
    standing::{Filter, Watch},
};

use super::{ACCESS_KEY, SECRET_KEY, sample};

pub const TIMEOUT: Duration = Duration::from_secs(10);
pub const MAX_AGE: Duration = Duration::from_mins(2);
pub const FREE: &str = "xt_balance_free{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
pub const UP: &str = "xt_up{account=\"main\",wallet=\"spot\"}";
pub const POLLS: &str = "xt_polls_total{account=\"main\",wallet=\"spot\"}";
pub const SUSPECT: &str = "xt_suspect_snapshots_total{account=\"main\",wallet=\"spot\"}";
pub const PAUSED: &str = "xt_paused_until_timestamp_seconds{account=\"main\"}";
pub const LOADED: &str = "xt_credentials_loaded_timestamp_seconds{account=\"main\"}";

/// One account under watch.
pub struct Watched {
    pub poller: Poller,
    pub ledger: Arc<Ledger>,
    pub clock: Clock,
}

impl Watched {
    pub fn new(urls: &[&str]) -> Self {
        Self::of(account("main", urls, given(ACCESS_KEY, SECRET_KEY)))
    }

    pub fn of(account: Account) -> Self {
        Self::all(vec![account]).remove(0)
    }

    /// Several accounts that share what the accounts of one process share.
    pub fn all(accounts: Vec<Account>) -> Vec<Self> {
        let clock = Clock::start();
        let exchange = Arc::new(Exchange::simulated(clock).unwrap());
        let (pollers, _, ledger) = poll::pollers(accounts, None, &exchange, clock);
        pollers.into_iter().map(|poller| Self { poller, ledger: Arc::clone(&ledger), clock }).collect()
    }

    /// Polls once. Returns whether the answer was good and believed.
    pub async fn poll(&mut self) -> bool {
        let ends = self.poller.poll_each().await;
        assert_eq!(ends.len(), 1);
        ends == [PollEnd::Good]
    }

    /// The exposition now.
    pub fn text(&self) -> String {
        self.text_at(self.clock.now())
    }

    pub fn text_at(&self, moment: Moment) -> String {
        exposition(&self.ledger, moment)
    }

    pub fn sample(&self, series: &str) -> Option<f64> {
        sample(&self.text(), series)
    }

    /// When the last good answer was asked for.
    pub fn good_at(&self) -> Moment {
        self.ledger.accounts()[0].wallets[0].standing.good.as_ref().expect("a good poll").at
    }

    /// How the last poll failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        let accounts = self.ledger.accounts();
        accounts[0].wallets[0].standing.trouble.as_ref().map(|trouble| trouble.failure.clone())
    }

    /// Every reason that was counted, with its count.
    pub fn failures(&self) -> Vec<(&'static str, f64)> {
        failures(&self.text())
    }
}

/// Every reason that was counted, with its count. That all the others are there, at zero, is
/// looked at on the way.
pub fn failures(exposition: &str) -> Vec<(&'static str, f64)> {
    let count = |reason: &Reason| {
        let series = format!(
            "xt_poll_failures_total{{account=\"main\",reason=\"{}\",wallet=\"spot\"}}",
            reason.label()
        );
        (reason.label(), sample(exposition, &series).unwrap_or_else(|| panic!("no {series}")))
    };
    Reason::ALL.iter().map(count).filter(|(_, count)| *count != 0.0).collect()
}

pub fn exposition(ledger: &Ledger, moment: Moment) -> String {
    let parts = ledger.exposition(moment, Some(moment.unix)).plain.parts;
    parts.iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

/// The spot wallet of an account, with USDT watched.
pub fn account(name: &str, urls: &[&str], keys: KeySource) -> Account {
    let keyring = Keyring::open(keys, Clock::start().now().unix).unwrap();
    Account {
        name: name.into(),
        venue: Venue {
            base_urls: urls.iter().map(|url| BaseUrl::parse(url).unwrap()).collect(),
            ..Venue::default()
        },
        keyring,
        wallets: vec![Wallet::Spot],
        watch: vec![(Wallet::Spot, Watch { currency: "usdt".into(), threshold: Some(500.0) })],
        filter: Filter::default(),
        poll_interval: Duration::from_secs(30),
        poll_timeout: TIMEOUT,
        max_age: MAX_AGE,
    }
}

/// A key pair as the environment gives it.
pub fn given(access: &str, secret: &str) -> KeySource {
    let half = |text: &str| KeyHalf::Given(Secret::new(&text.to_owned().into()).unwrap());
    KeySource { access: half(access), secret: half(secret) }
}

/// Milliseconds, as the simulated exchange's clock is set in: it does not leap by itself.
pub fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}

/// Leaps ahead while nothing is under way that could time out.
pub async fn leap(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// A clock that stands still while this is held, even while all wait for a socket.
pub struct Frozen(#[expect(dead_code, reason = "its end is what counts")] std::sync::mpsc::Sender<()>);

impl Frozen {
    pub fn new() -> Self {
        tokio::time::pause();
        let (held, release) = std::sync::mpsc::channel();
        // A paused clock leaps to the next deadline when there is nothing to run, unless a blocking
        // task is alive.
        tokio::task::spawn_blocking(move || release.recv());
        Self(held)
    }
}
