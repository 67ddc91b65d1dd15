//! The configuration is read again on SIGHUP and on POST /-/reload: all of it is in force or none of it; what is
//! known of an account stays known while it is the same account, and not a moment longer; who is to do what it
//! does already goes on undisturbed; however often that happens, the exchange's limits hold.

mod daemon;

use std::{sync::Arc, time::Duration};

use crate::common::in_process::{FREE, LOADED, MAX_AGE, POLLS, account, exposition, failures, key_source};
use crate::common::{ACCESS_KEY, Exchange, SECRET_KEY, replace, sample};
use tokio::{runtime::Handle, time::timeout};
use xt_balance_exporter::{
    clock::Clock,
    config::{AccountConfig, Config, PricesConfig},
    exchange::{self, ApiVersion, BaseUrl, KeyHalf, KeySource},
    poller::{PollerSet, ReloadSummary},
    simulator::{self, Effect, Fault, RefusalCause, SimulatedEndpoint, SimulatedWallet, SimulatorConfig},
    snapshot::wallet::{CurrencyFilter, Thresholds, WatchedCurrency},
};

const THRESHOLD: &str = "xt_balance_free_threshold{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
const SUCCESS: &str = "xt_last_success_timestamp_seconds{account=\"main\",wallet=\"spot\"}";
const RELOADED: &str = "xt_exporter_config_last_reload_successful";
const RELOADED_AT: &str = "xt_exporter_config_last_reload_success_timestamp_seconds";

/// Long enough for nothing to be polled twice in a test.
const LONG_INTERVAL: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

fn free(account: &str, currency: &str) -> String {
    format!("xt_balance_free{{account=\"{account}\",currency=\"{currency}\",wallet=\"spot\"}}")
}

/// `main` with three currencies, `next` with 7 USDT and `third` with 3, and prices of two.
fn exchange() -> Exchange {
    let main = simulator::SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(SimulatedWallet::Spot, "usdt", "3867.4", "3062.1")
        .with_balance(SimulatedWallet::Spot, "btc", "0.5", "0")
        .with_balance(SimulatedWallet::Spot, "doge", "0", "0");
    let other = |name: &str, key: &str, usdt: &str| {
        simulator::SimulatedAccount::new(name, key, "nextSecret").with_balance(
            SimulatedWallet::Spot,
            "usdt",
            usdt,
            "0",
        )
    };
    let accounts = vec![main, other("next", "nextKey", "7"), other("third", "thirdKey", "3")];
    let exchange = Exchange::new(SimulatorConfig::default(), accounts);
    exchange.simulator.set_price("btc_usdt", "60000");
    exchange.simulator.set_price("eth_usdt", "3000");
    exchange
}

fn asset_calls(exchange: &Exchange, account: &str) -> usize {
    exchange.simulator.call_log().asset_call_times(account).len()
}

/// The pollers of one process, in this one.
struct Process {
    pollers: PollerSet,
    clock: Clock,
    url: String,
}

impl Process {
    fn new(exchange: &Exchange) -> Self {
        let clock = Clock::start();
        let client = Arc::new(exchange::Client::simulated(clock).unwrap());
        let pollers = PollerSet::new(client, clock, Handle::current());
        Self { pollers, clock, url: exchange.url() }
    }

    /// The account `main`, polled but once.
    fn main(&self) -> AccountConfig {
        self.account("main", key_source(ACCESS_KEY, SECRET_KEY), LONG_INTERVAL)
    }

    fn account(&self, name: &str, keys: KeySource, poll_interval: Duration) -> AccountConfig {
        let poll_timeout = Duration::from_secs(10).min(poll_interval / 2);
        AccountConfig {
            poll_interval,
            poll_timeout,
            max_age: MAX_AGE.max(poll_interval),
            ..account(name, &[&self.url], keys)
        }
    }

    async fn apply(&mut self, accounts: Vec<AccountConfig>) -> ReloadSummary {
        self.apply_with_prices(accounts, None).await
    }

    async fn apply_with_prices(
        &mut self,
        accounts: Vec<AccountConfig>,
        prices: Option<PricesConfig>,
    ) -> ReloadSummary {
        self.pollers.apply_config(Config { accounts, prices, ..Config::default() }).await
    }

    fn prices(&self) -> PricesConfig {
        let hosts = self.main().hosts;
        PricesConfig {
            hosts,
            poll_interval: LONG_INTERVAL,
            poll_timeout: Duration::from_secs(10),
            max_age: LONG_INTERVAL,
        }
    }

    fn text(&self) -> String {
        exposition(self.pollers.store(), self.clock.now())
    }

    fn sample(&self, series: &str) -> Option<f64> {
        sample(&self.text(), series)
    }

    /// Waits until `series`, which only grows, has at least this value.
    async fn wait_until_at_least(&self, series: &str, value: f64) {
        let is_reached = async {
            while self.sample(series).is_none_or(|sample| sample < value) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(crate::common::WAIT_TIMEOUT, is_reached).await;
        waited.unwrap_or_else(|_| panic!("{series} was not {value}:\n{}", self.text()));
    }

    /// Waits until `series` has this value.
    async fn wait_until_equal(&self, series: &str, value: Option<f64>) {
        let is_read = async {
            while self.sample(series) != value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(crate::common::WAIT_TIMEOUT, is_read).await;
        waited.unwrap_or_else(|_| panic!("{series} was not {value:?}:\n{}", self.text()));
    }
}

fn changed(changed: usize) -> ReloadSummary {
    ReloadSummary { changed, ..ReloadSummary::default() }
}

// What is known.

#[tokio::test]
async fn a_changed_configuration_applies_to_balances_already_read() {
    let exchange = exchange();
    let mut process = Process::new(&exchange);
    let change = process.apply(vec![process.main()]).await;
    assert_eq!(change, ReloadSummary { new: 1, ..ReloadSummary::default() });
    process.wait_until_equal(POLLS, Some(1.0)).await;
    let seen = |process: &Process| {
        ["usdt", "btc", "doge", "eth"].map(|currency| process.sample(&free("main", currency)))
    };
    let at = process.sample(SUCCESS);
    assert_eq!(seen(&process), [Some(3_867.4), Some(0.5), Some(0.0), None]);

    let mut account_config = process.main();
    account_config.watch[0].1.thresholds = Some(Thresholds { warn: 900.0, page: 450.0 });
    account_config
        .watch
        .push((exchange::Wallet::Spot, WatchedCurrency { currency: "eth".into(), thresholds: None }));
    account_config.filter =
        CurrencyFilter { hide_zero: true, exclude: vec!["btc".into()], ..CurrencyFilter::default() };
    assert_eq!(process.apply(vec![account_config]).await, changed(1));
    assert_eq!(process.sample(THRESHOLD), Some(900.0));
    assert_eq!(
        seen(&process),
        [Some(3_867.4), None, None, None],
        "eth was left out, which is to be confirmed"
    );
    assert_eq!(process.apply(vec![process.main()]).await, changed(1));
    assert_eq!(seen(&process), [Some(3_867.4), Some(0.5), Some(0.0), None]);
    assert_eq!(
        (process.sample(SUCCESS), process.sample(POLLS)),
        (at, Some(1.0)),
        "nothing else has happened"
    );

    let mut account_config = process.main();
    account_config.labels = [("team".into(), "desk-a".into())].into();
    assert_eq!(process.apply(vec![account_config]).await, changed(1));
    assert_eq!(process.sample("xt_account_info{account=\"main\",team=\"desk-a\"}"), Some(1.0));
    assert_eq!(
        (process.sample("xt_account_info{account=\"main\"}"), process.sample(FREE)),
        (None, Some(3_867.4))
    );

    let mut account_config = process.main();
    account_config.max_age = Duration::from_nanos(1);
    process.apply(vec![account_config]).await;
    assert_eq!((process.sample(FREE), process.sample(THRESHOLD)), (None, Some(500.0)), "it is too old now");
    assert_eq!(asset_calls(&exchange, "main"), 1);
}

#[tokio::test]
async fn another_account_of_the_same_name_never_shows_the_balances_of_the_previous_one() {
    let exchange = exchange();
    let other_exchange = Exchange::new(
        SimulatorConfig::default(),
        vec![simulator::SimulatedAccount::new("a", ACCESS_KEY, SECRET_KEY).with_balance(
            SimulatedWallet::Spot,
            "usdt",
            "1",
            "0",
        )],
    );
    let other = |process: &Process, place| {
        let mut other = process.main();
        match place {
            0 => return process.account("main", key_source("nextKey", "nextSecret"), LONG_INTERVAL),
            1 => other.hosts.base_urls = vec![BaseUrl::parse(&other_exchange.url()).unwrap()],
            _ => other.hosts.api = ApiVersion::V4,
        }
        other
    };
    for place in 0..3 {
        let mut process = Process::new(&exchange);
        process.apply(vec![process.main()]).await;
        process.wait_until_equal(FREE, Some(3_867.4)).await;
        assert_eq!(process.apply(vec![other(&process, place)]).await, changed(1));
        assert_eq!((process.sample(FREE), process.sample(POLLS)), (None, Some(0.0)), "{place}");
        assert_eq!(process.sample(THRESHOLD), Some(500.0));
    }
}

#[tokio::test]
async fn an_answer_that_comes_after_its_account_has_become_another_is_not_taken_for_that_one_s() {
    let exchange = exchange();
    let delay = Duration::from_secs(1);
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::Delay { ms: 1_000 }).for_endpoint(SimulatedEndpoint::GetBalance));
    let mut process = Process::new(&exchange);
    process.apply(vec![process.account("main", key_source(ACCESS_KEY, SECRET_KEY), LONG_INTERVAL)]).await;
    until_called(&exchange, "main").await;
    let other = process.account("main", key_source("nextKey", "nextSecret"), LONG_INTERVAL);
    let stopped = timeout(crate::common::WAIT_TIMEOUT, process.apply(vec![other]));
    assert_eq!(stopped.await.unwrap(), changed(1));
    tokio::time::sleep(delay * 2).await;
    assert_eq!((process.sample(FREE), process.sample(POLLS)), (None, Some(0.0)));
}

async fn until_called(exchange: &Exchange, account: &str) {
    let called = async {
        while asset_calls(exchange, account) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(crate::common::WAIT_TIMEOUT, called).await.unwrap();
}

#[tokio::test]
async fn a_moved_key_file_keeps_the_account_and_is_read_again() {
    let exchange = exchange();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        replace(&folder.path().join(name), text);
        KeyHalf::File(folder.path().join(name))
    };
    let mut process = Process::new(&exchange);
    process.apply(vec![process.main()]).await;
    process.wait_until_equal(FREE, Some(3_867.4)).await;
    let loaded = process.sample(LOADED);
    let keys = KeySource { access: file("key", ACCESS_KEY), secret: file("secret", SECRET_KEY) };
    let moved = process.account("main", keys, LONG_INTERVAL);
    assert_eq!(process.apply(vec![moved]).await, changed(1));
    assert_eq!((process.sample(FREE), process.sample(POLLS)), (Some(3_867.4), Some(1.0)));
    assert!(process.sample(LOADED) > loaded);
}

#[tokio::test]
async fn a_key_that_works_stays_in_use_while_its_files_hold_one_that_does_not() {
    let exchange = exchange();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    replace(&path("key"), ACCESS_KEY);
    replace(&path("secret"), SECRET_KEY);
    let keys = || KeySource { access: KeyHalf::File(path("key")), secret: KeyHalf::File(path("secret")) };
    let mut process = Process::new(&exchange);
    process.apply(vec![process.account("main", keys(), SECOND)]).await;
    process.wait_until_equal(FREE, Some(3_867.4)).await;
    let calls = || exchange.simulator.call_log();
    let refused =
        || -> u64 { calls().ips.values().map(|counts| counts.count_refused(RefusalCause::AccessKey)).sum() };
    replace(&path("key"), "aKeyThatNobodyKnows");
    while refused() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let polls = process.sample(POLLS).unwrap();
    process.wait_until_at_least(POLLS, polls + 2.0).await;
    let mut account_config = process.account("main", keys(), SECOND);
    account_config.watch[0].1.thresholds = Some(Thresholds { warn: 900.0, page: 450.0 });
    assert_eq!(process.apply(vec![account_config]).await, changed(1));
    let polls = process.sample(POLLS).unwrap();
    process.wait_until_at_least(POLLS, polls + 2.0).await;
    assert_eq!((failures(&process.text()), refused()), (vec![], 1));
    assert_eq!(process.sample(THRESHOLD), Some(900.0));
}

// Who is polled.

#[tokio::test]
async fn accounts_come_and_go_and_the_others_go_on_undisturbed() {
    let exchange = exchange();
    let mut process = Process::new(&exchange);
    let next = |process: &Process| process.account("next", key_source("nextKey", "nextSecret"), SECOND);
    let third = |process: &Process| process.account("third", key_source("thirdKey", "nextSecret"), SECOND);
    process.apply(vec![process.main(), next(&process)]).await;
    process.wait_until_equal(FREE, Some(3_867.4)).await;
    process.wait_until_equal(&free("next", "usdt"), Some(7.0)).await;

    let change = process.apply(vec![third(&process), process.main()]).await;
    assert_eq!(change, ReloadSummary { new: 1, removed: 1, unchanged: 1, ..ReloadSummary::default() });
    let text = process.text();
    assert!(!text.contains("account=\"next\"") && text.contains("account=\"third\""), "{text}");
    let request = asset_calls(&exchange, "next");
    process.wait_until_equal(&free("third", "usdt"), Some(3.0)).await;
    let polls = process.sample("xt_polls_total{account=\"third\",wallet=\"spot\"}").unwrap();
    process.wait_until_at_least("xt_polls_total{account=\"third\",wallet=\"spot\"}", polls + 2.0).await;
    assert_eq!(asset_calls(&exchange, "next"), request, "it is not asked for any more");
    assert_eq!((process.sample(FREE), process.sample(POLLS)), (Some(3_867.4), Some(1.0)));
    assert_eq!(asset_calls(&exchange, "main"), 1);

    let same = process.apply(vec![process.main(), third(&process)]).await;
    assert_eq!(same, ReloadSummary { unchanged: 2, ..ReloadSummary::default() });
}

#[tokio::test]
async fn an_account_that_is_polled_less_often_is_polled_no_later_the_next_time() {
    let exchange = exchange();
    let mut process = Process::new(&exchange);
    process.apply(vec![process.account("main", key_source(ACCESS_KEY, SECRET_KEY), 2 * SECOND)]).await;
    process.wait_until_equal(POLLS, Some(1.0)).await;
    process.apply(vec![process.main()]).await;
    process.wait_until_at_least(POLLS, 2.0).await;
    let account = process.pollers.store().account("main").unwrap();
    let next = account.next_poll().unwrap().saturating_duration_since(process.clock.now().monotonic);
    assert!(next > 5 * SECOND, "and from then on once an hour: {next:?}");
}

#[tokio::test]
async fn the_clock_of_a_host_that_is_no_longer_called_is_removed() {
    let (exchange, other) = (exchange(), exchange());
    let skew = |exchange: &Exchange| format!("xt_clock_skew_seconds{{host=\"{}\"}}", exchange.address);
    let mut process = Process::new(&exchange);
    process.apply(vec![process.main()]).await;
    process.wait_until_equal(FREE, Some(3_867.4)).await;
    assert!(process.sample(&skew(&exchange)).is_some());
    let mut elsewhere = process.account("main", key_source(ACCESS_KEY, SECRET_KEY), SECOND);
    elsewhere.hosts.base_urls = vec![BaseUrl::parse(&other.url()).unwrap()];
    process.apply(vec![elsewhere]).await;
    assert_eq!(process.sample(&skew(&exchange)), None);
    process.wait_until_equal(FREE, Some(3_867.4)).await;
    assert!(process.sample(&skew(&other)).is_some());
}

// Prices.

#[tokio::test]
async fn prices_follow_the_accounts_without_being_read_again() {
    let exchange = exchange();
    let priced = |process: &Process, currency: &str| {
        process.sample(&format!("xt_price{{currency=\"{currency}\",quote=\"usdt\"}}"))
    };
    let unpriced = "xt_unpriced_currencies{account=\"main\",wallet=\"spot\"}";
    let readings = || {
        let arrivals = exchange.simulator.call_log().records;
        arrivals.iter().filter(|call| call.endpoint == SimulatedEndpoint::GetTickers).count()
    };
    let mut process = Process::new(&exchange);
    let mut only_btc = process.main();
    only_btc.filter.only = vec!["btc".into()];
    let soon = PricesConfig { poll_interval: SECOND, poll_timeout: SECOND / 2, ..process.prices() };
    process.apply_with_prices(vec![only_btc], Some(soon)).await;
    process.wait_until_equal("xt_price{currency=\"btc\",quote=\"usdt\"}", Some(60_000.0)).await;
    process.wait_until_equal(unpriced, Some(0.0)).await;
    assert_eq!(priced(&process, "eth"), None, "no account shows it");

    // The poller of prices stands still while the other currencies become of interest.
    let later = process.prices();
    let mut only_btc = process.main();
    only_btc.filter.only = vec!["btc".into()];
    process.apply_with_prices(vec![only_btc], Some(later.clone())).await;
    let read = readings();
    assert_eq!(process.apply_with_prices(vec![process.main()], Some(later)).await, changed(1));
    assert_eq!((priced(&process, "btc"), priced(&process, "eth")), (Some(60_000.0), Some(3_000.0)));
    assert_eq!(process.sample(unpriced), Some(0.0), "counted by the prices that are known");

    let without = process.apply(vec![process.main()]).await;
    assert_eq!(without, ReloadSummary { unchanged: 1, prices_changed: true, ..ReloadSummary::default() });
    let text = process.text();
    assert!(!text.contains("xt_price") && !text.contains("xt_unpriced"), "{text}");
    assert!(process.pollers.store().prices().is_none());
    assert!(readings() <= read + 1, "it was not read for this");

    let soon = PricesConfig { poll_interval: SECOND, poll_timeout: SECOND / 2, ..process.prices() };
    process.apply_with_prices(vec![process.main()], Some(soon)).await;
    assert_eq!(process.sample(unpriced), None, "what was known of prices was let go");
    process.wait_until_equal(unpriced, Some(0.0)).await;
    assert_eq!(process.sample(POLLS), Some(1.0), "balances were not disturbed by any of it");
}
