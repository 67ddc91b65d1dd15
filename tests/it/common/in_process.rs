//! The poller of one account and the store that it writes, in the process of the test. The test decides when it polls,
//! and for which time it renders the exposition.

use std::{sync::Arc, time::Duration};

use xt_balance_exporter::{
    clock::{Clock, MonotonicTime, Timestamp, UnixTime, Uptime},
    config::AccountConfig,
    exchange::{
        ApiVersion, BaseUrl, Client, Credentials, ExchangeHosts, Failure, KeyHalf, KeySource, Reason, Secret,
        Wallet,
    },
    exposition::cache,
    poller::{self, AccountPoller, PollStatus},
    snapshot::store::Store,
    snapshot::wallet::{CurrencyFilter, Thresholds, WatchedCurrency},
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

/// The poller of one account, with its store and clock.
pub struct TestPoller {
    pub poller: AccountPoller,
    pub store: Arc<Store>,
    pub clock: Clock,
}

impl TestPoller {
    pub fn new(urls: &[&str]) -> Self {
        Self::for_account(account("main", urls, key_source(ACCESS_KEY, SECRET_KEY)))
    }

    pub fn for_account(account: AccountConfig) -> Self {
        Self::for_accounts(vec![account]).remove(0)
    }

    /// Pollers with one store, clock and client, as in one process.
    pub fn for_accounts(accounts: Vec<AccountConfig>) -> Vec<Self> {
        let clock = Clock::start();
        let exchange = Arc::new(Client::simulated(clock).unwrap());
        let (pollers, _, store) = poller::create_pollers(accounts, None, &exchange, clock);
        pollers.into_iter().map(|poller| Self { poller, store: Arc::clone(&store), clock }).collect()
    }

    /// Polls once. Returns whether the answer was good and accepted.
    pub async fn poll(&mut self) -> bool {
        let statuses = self.poller.poll_wallets().await;
        assert_eq!(statuses.len(), 1);
        statuses == [PollStatus::Good]
    }

    /// Renders the exposition now.
    pub fn text(&self) -> String {
        self.text_at(self.clock.now())
    }

    pub fn text_at(&self, now: Timestamp) -> String {
        exposition(&self.store, now)
    }

    pub fn sample(&self, series: &str) -> Option<f64> {
        sample(&self.text(), series)
    }

    /// When the poll of the last good answer began.
    pub fn good_at(&self) -> Timestamp {
        self.store.accounts()[0].wallets[0].snapshot.last_good.as_ref().expect("a good poll").at
    }

    /// The failure of the last poll.
    pub fn failure(&self) -> Option<Failure> {
        let accounts = self.store.accounts();
        accounts[0].wallets[0].snapshot.last_failure.as_ref().map(|last_failure| last_failure.failure.clone())
    }

    /// Every failure reason with a count above zero.
    pub fn failures(&self) -> Vec<(&'static str, f64)> {
        failures(&self.text())
    }
}

/// Every reason that was counted, with its count. Fails if a reason has no series.
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

/// The time `seconds` after the start of a clock, which started at the Unix time 1,700,000,000.
pub fn at(seconds: u64) -> Timestamp {
    let unix = UnixTime::from_secs(1_700_000_000);
    let start = Timestamp { monotonic: MonotonicTime::START, uptime: Uptime::START, unix };
    start.later(Duration::from_secs(seconds))
}

pub fn exposition(store: &Store, now: Timestamp) -> String {
    let parts = cache::render(store, now, Some(now.unix)).plain.parts;
    parts.iter().map(|part| String::from_utf8(part.to_vec()).unwrap()).collect()
}

/// An account of API v4 with `wallets` of the simulated exchange at `url`, and USDT of spot watched.
pub fn v4_account(url: &str, wallets: &[Wallet], keys: KeySource) -> AccountConfig {
    let urls = |path: &str| vec![BaseUrl::parse(&format!("{url}{path}")).unwrap()];
    AccountConfig {
        hosts: ExchangeHosts {
            api: ApiVersion::V4,
            base_urls: urls(""),
            futures_usdt: urls("/fapi"),
            futures_coin: urls("/dapi"),
            ..ExchangeHosts::default()
        },
        wallets: wallets.to_vec(),
        ..account("main", &[], keys)
    }
}

/// The spot wallet of an account, with USDT watched.
pub fn account(name: &str, urls: &[&str], keys: KeySource) -> AccountConfig {
    let credentials = Credentials::open(keys, Clock::start().now().unix).unwrap();
    AccountConfig {
        name: name.into(),
        hosts: ExchangeHosts {
            api: ApiVersion::V1,
            base_urls: urls.iter().map(|url| BaseUrl::parse(url).unwrap()).collect(),
            ..ExchangeHosts::default()
        },
        credentials,
        wallets: vec![Wallet::Spot],
        watch: vec![(
            Wallet::Spot,
            WatchedCurrency {
                currency: "usdt".into(),
                thresholds: Some(Thresholds { warn: 500.0, page: 250.0 }),
            },
        )],
        filter: CurrencyFilter::default(),
        futures_risk: None,
        labels: Arc::default(),
        poll_interval: Duration::from_secs(30),
        poll_timeout: TIMEOUT,
        max_age: MAX_AGE,
    }
}

/// A key pair from the environment.
pub fn key_source(access: &str, secret: &str) -> KeySource {
    let half = |text: &str| KeyHalf::Given(Secret::new(&text.to_owned().into()).unwrap());
    KeySource { access: half(access), secret: half(secret) }
}

/// Milliseconds, the unit of the simulated clock's offset.
pub fn to_millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}

/// Advances the clock. No call may be in flight, because it would time out.
pub async fn advance_clock(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Stops the clock until it is dropped, even while every task waits for a socket.
pub struct FrozenClock(
    #[expect(dead_code, reason = "dropping it ends the blocking task")] std::sync::mpsc::Sender<()>,
);

impl FrozenClock {
    pub fn new() -> Self {
        tokio::time::pause();
        let (guard, release) = std::sync::mpsc::channel();
        // A paused clock advances to the next deadline if no task can run, unless a blocking task is alive.
        tokio::task::spawn_blocking(move || release.recv());
        Self(guard)
    }
}
