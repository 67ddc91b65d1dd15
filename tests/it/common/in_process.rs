//! The poller of one account and the store it writes, in the process of the test: polled when the
//! test says so, read as of whatever moment the test asks for.

use std::{sync::Arc, time::Duration};

use xt_balance_exporter::{
    clock::{Clock, Timestamp},
    config::AccountConfig,
    exchange::{
        BaseUrl, Client, Credentials, Endpoints, Failure, KeyHalf, KeySource, Reason, Secret, Wallet,
    },
    exposition::cache,
    poller::{self, AccountPoller, PollStatus},
    snapshot::store::Store,
    snapshot::wallet::{CurrencyFilter, WatchedCurrency},
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
    pub poller: AccountPoller,
    pub store: Arc<Store>,
    pub clock: Clock,
}

impl Watched {
    pub fn new(urls: &[&str]) -> Self {
        Self::of(account("main", urls, given(ACCESS_KEY, SECRET_KEY)))
    }

    pub fn of(account: AccountConfig) -> Self {
        Self::all(vec![account]).remove(0)
    }

    /// Several accounts that share what the accounts of one process share.
    pub fn all(accounts: Vec<AccountConfig>) -> Vec<Self> {
        let clock = Clock::start();
        let exchange = Arc::new(Client::simulated(clock).unwrap());
        let (pollers, _, store) = poller::create_pollers(accounts, None, &exchange, clock);
        pollers.into_iter().map(|poller| Self { poller, store: Arc::clone(&store), clock }).collect()
    }

    /// Polls once. Returns whether the answer was good and believed.
    pub async fn poll(&mut self) -> bool {
        let ends = self.poller.poll_wallets().await;
        assert_eq!(ends.len(), 1);
        ends == [PollStatus::Good]
    }

    /// The exposition now.
    pub fn text(&self) -> String {
        self.text_at(self.clock.now())
    }

    pub fn text_at(&self, moment: Timestamp) -> String {
        exposition(&self.store, moment)
    }

    pub fn sample(&self, series: &str) -> Option<f64> {
        sample(&self.text(), series)
    }

    /// When the last good answer was asked for.
    pub fn good_at(&self) -> Timestamp {
        self.store.accounts()[0].wallets[0].snapshot.last_good.as_ref().expect("a good poll").at
    }

    /// How the last poll failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        let accounts = self.store.accounts();
        accounts[0].wallets[0].snapshot.last_failure.as_ref().map(|trouble| trouble.failure.clone())
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

pub fn exposition(store: &Store, moment: Timestamp) -> String {
    let parts = cache::render(store, moment, Some(moment.unix)).plain.parts;
    parts.iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

/// The spot wallet of an account, with USDT watched.
pub fn account(name: &str, urls: &[&str], keys: KeySource) -> AccountConfig {
    let credentials = Credentials::open(keys, Clock::start().now().unix).unwrap();
    AccountConfig {
        name: name.into(),
        endpoints: Endpoints {
            base_urls: urls.iter().map(|url| BaseUrl::parse(url).unwrap()).collect(),
            ..Endpoints::default()
        },
        credentials,
        wallets: vec![Wallet::Spot],
        watch: vec![(Wallet::Spot, WatchedCurrency { currency: "usdt".into(), threshold: Some(500.0) })],
        filter: CurrencyFilter::default(),
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
