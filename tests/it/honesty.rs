//! A number that is shown was read from the exchange, for that account, and is as old as it says: answers that lie by
//! their rows, their time, their connection or their clock are not believed.

mod clock;

use std::{sync::Arc, time::Duration};

use crate::common::golden::assert_golden;
use crate::common::in_process::{FREE, POLLS, SUSPECT, TestPoller, UP, account, exposition, key_source};
use crate::common::proxy::{Proxy, ProxyMode, http_response};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, sample, until};
use serde_json::json;
use xt_balance_exporter::{
    exchange::{ApiVersion, BaseUrl, ExchangeHosts, Wallet},
    simulator::{self, Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatorConfig},
    snapshot::wallet::{Thresholds, WatchedCurrency},
};

const LAST_GOOD_USDT: Option<f64> = Some(500.5);
const PRESENT: &str = "xt_watch_present{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
const REJECTED: &str = "xt_rows_rejected_total{account=\"main\",wallet=\"spot\"}";
const KEYS: [(&str, &str); 2] = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];

fn simulated_account() -> SimulatedAccount {
    SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(simulator::SimulatedWallet::Spot, "usdt", "500.5", "1")
        .with_balance(simulator::SimulatedWallet::Spot, "btc", "0.25", "0")
        .with_balance(simulator::SimulatedWallet::FuturesUsdt, "usdt", "500.5", "1")
        .with_balance(simulator::SimulatedWallet::FuturesUsdt, "btc", "0.25", "0")
}

fn exchange() -> Exchange {
    exchange_with(SimulatorConfig::default())
}

fn exchange_with(mut rules: SimulatorConfig) -> Exchange {
    rules.asset_calls_per_second = 100;
    Exchange::new(rules, vec![simulated_account()])
}

/// The account `main`, its one wallet read by this version of the API.
fn wallet_poller(api: ApiVersion, wallet: Wallet, url: &str) -> TestPoller {
    let base = |url: &str| vec![BaseUrl::parse(url).unwrap()];
    let mut config = account("main", &[url], key_source(ACCESS_KEY, SECRET_KEY));
    config.hosts = ExchangeHosts {
        api,
        base_urls: base(url),
        futures_usdt: base(&format!("{url}/fapi")),
        futures_coin: base(&format!("{url}/dapi")),
        ..ExchangeHosts::default()
    };
    config.wallets = vec![wallet];
    let thresholds = Some(Thresholds { warn: 500.0, page: 250.0 });
    config.watch = vec![(wallet, WatchedCurrency { currency: "usdt".into(), thresholds })];
    TestPoller::for_accounts(vec![config]).remove(0)
}

const WALLETS_BY_API: [(ApiVersion, Wallet); 3] =
    [(ApiVersion::V1, Wallet::Spot), (ApiVersion::V4, Wallet::Spot), (ApiVersion::V4, Wallet::FuturesUsdt)];

/// The value of `series`, which names the spot wallet, for the wallet that is read.
fn value(poller: &TestPoller, wallet: Wallet, series: &str) -> Option<f64> {
    poller.sample(&series.replace("spot", wallet.label()))
}

/// A row with amounts in the form of every version of the API.
fn row(name: &str, free: &str) -> Effect {
    let amounts = json!({
        "available": free, "freeze": "0", "availableAmount": free, "frozenAmount": "0",
        "walletBalance": free, "availableBalance": free, "openOrderMarginFrozen": "0", "isolatedMargin": "0",
        "crossedMargin": "0",
    });
    Effect::Row { currency: name.to_owned(), value: amounts }
}

fn drop_usdt() -> Effect {
    Effect::DropCurrency("usdt".to_owned())
}

// Rows that cannot be read.

#[tokio::test]
async fn while_a_row_has_no_usable_name_a_missing_watched_currency_is_unknown_and_not_zero() {
    let long = "x".repeat(70);
    for (api, wallet) in WALLETS_BY_API {
        for name in ["", " ", "\u{feff}", "us\ndt", "usdt\u{0}", "us\u{200b}dt", &long] {
            let exchange = exchange();
            exchange.simulator.inject_fault(Fault::new(drop_usdt()));
            exchange.simulator.inject_fault(Fault::new(row(name, "7")));
            let mut poller = wallet_poller(api, wallet, &exchange.url());
            assert!(poller.poll().await, "{name:?}: {:?}", poller.failure());
            let values = [FREE, PRESENT, UP, REJECTED].map(|series| value(&poller, wallet, series));
            assert_eq!(values, [None, None, Some(1.0), Some(1.0)], "{api:?} {wallet} {name:?}");
        }
    }
}

#[tokio::test]
async fn spaces_and_invisible_characters_around_a_name_are_removed() {
    for (api, wallet) in WALLETS_BY_API {
        for name in
            [" USDT", "usdt\u{a0}", "\u{200b}usdt", "usdt\u{feff}", "\u{2003}usdt\u{2060}", "\tusdt\n"]
        {
            let exchange = exchange();
            exchange.simulator.inject_fault(Fault::new(drop_usdt()));
            exchange.simulator.inject_fault(Fault::new(row(name, "7")));
            let mut poller = wallet_poller(api, wallet, &exchange.url());
            assert!(poller.poll().await, "{name:?}: {:?}", poller.failure());
            let values = [FREE, PRESENT, REJECTED].map(|series| value(&poller, wallet, series));
            assert_eq!(values, [Some(7.0), Some(1.0), Some(0.0)], "{api:?} {wallet} {name:?}");
        }
    }
}

// Losses that are not there.

/// Starts the daemon with two watched currencies.
fn serve(exchange: &Exchange) -> Exporter {
    let flags = [
        "--xt.api=v1",
        "--poll.interval=3s",
        "--poll.timeout=2s",
        "--balance.watch=usdt=500",
        "--balance.watch=btc",
    ];
    Exporter::serve(&exchange.url(), &flags)
}

/// Faults that make a watched balance disappear.
fn losses() -> [Effect; 5] {
    let zero = |name: &str| row(name, "0.00");
    [drop_usdt(), Effect::EmptyData, Effect::Zeros, zero("usdt"), Effect::DropCurrency("btc".to_owned())]
}

/// A balance that is lost in one poll and back in the next is held, however often the exchange says so in between.
#[test]
fn a_loss_in_a_single_answer_is_never_shown() {
    std::thread::scope(|scope| {
        for loss in losses() {
            scope.spawn(move || {
                let exchange = exchange();
                let exporter = serve(&exchange);
                until("the first poll was good", || (exporter.sample(FREE) == LAST_GOOD_USDT).then_some(()));
                exchange.simulator.inject_fault(Fault::new(loss.clone()));
                let held = until("the loss was seen", || {
                    let metrics = exporter.metrics();
                    assert_eq!(sample(&metrics, FREE), LAST_GOOD_USDT, "{loss:?}");
                    (sample(&metrics, SUSPECT) == Some(1.0)).then_some(metrics)
                });
                exchange.simulator.clear_faults();
                assert_eq!(sample(&held, UP), Some(0.0), "the last balances are held");
                let failures = held.lines().filter(|line| line.starts_with("xt_poll_failures_total{"));
                assert!(
                    failures.clone().count() > 0 && failures.clone().all(|line| line.ends_with(" 0")),
                    "{held}"
                );
                until("the next poll was good", || {
                    let metrics = exporter.metrics();
                    assert_eq!(sample(&metrics, FREE), LAST_GOOD_USDT, "{loss:?}");
                    (sample(&metrics, UP) == Some(1.0)).then_some(())
                });
                assert_eq!(exporter.sample(SUSPECT), Some(1.0));
            });
        }
    });
}

#[test]
fn a_first_answer_without_a_watched_currency_must_be_confirmed() {
    std::thread::scope(|scope| {
        for loss in losses() {
            scope.spawn(move || {
                let exchange = exchange();
                exchange.simulator.inject_fault(Fault::new(loss.clone()));
                let exporter = serve(&exchange);
                until("the first poll has ended", || {
                    let metrics = exporter.metrics();
                    assert_eq!(sample(&metrics, FREE), None, "{loss:?}");
                    (sample(&metrics, POLLS) == Some(1.0)).then_some(())
                });
                exchange.simulator.clear_faults();
                let first = until("a balance is shown", || exporter.sample(FREE));
                assert_eq!(Some(first), LAST_GOOD_USDT, "{loss:?}");
            });
        }
    });
}

#[tokio::test]
async fn a_loss_that_two_polls_show_is_published_and_not_suspect_again() {
    for (loss, present) in [(drop_usdt(), 0.0), (Effect::EmptyData, 0.0), (Effect::Zeros, 1.0)] {
        let exchange = exchange();
        let mut poller = TestPoller::new(&[&exchange.url()]);
        assert!(poller.poll().await);
        let read = poller.good_at();
        exchange.simulator.inject_fault(Fault::new(loss.clone()));
        assert!(!poller.poll().await);
        assert_eq!((poller.sample(FREE), poller.sample(UP)), (LAST_GOOD_USDT, Some(0.0)), "{loss:?}");
        assert_eq!(poller.good_at(), read, "its age goes on");
        assert!(poller.poll().await);
        let values = [FREE, PRESENT, SUSPECT].map(|series| poller.sample(series));
        assert_eq!(values, [Some(0.0), Some(present), Some(1.0)], "{loss:?}");
        assert!(poller.poll().await);
        assert_eq!((poller.sample(SUSPECT), poller.failures()), (Some(1.0), vec![]), "{loss:?}");
    }
}

#[tokio::test]
async fn a_held_balance_becomes_unknown_when_it_is_too_old() {
    let exchange = exchange();
    let mut poller = TestPoller::new(&[&exchange.url()]);
    assert!(poller.poll().await);
    let read = poller.good_at();
    exchange.simulator.inject_fault(Fault::new(drop_usdt()));
    assert!(!poller.poll().await);
    assert_eq!(sample(&poller.text_at(read.later(crate::common::in_process::MAX_AGE)), FREE), None);
}

#[tokio::test]
async fn an_answer_with_only_frozen_amounts_is_not_suspect() {
    let exchange = exchange();
    let mut poller = TestPoller::new(&[&exchange.url()]);
    assert!(poller.poll().await);
    exchange.simulator.set_balance("main", simulator::SimulatedWallet::Spot, "usdt", "0", "501.5").unwrap();
    assert!(poller.poll().await);
    assert_eq!((poller.sample(FREE), poller.sample(SUSPECT)), (Some(0.0), Some(0.0)));
}

#[tokio::test]
async fn a_suspect_answer_is_confirmed_by_another_base_url_or_the_next_poll() {
    // The other says the same: it is so.
    let (one, other) = (exchange(), exchange());
    let mut poller = TestPoller::new(&[&one.url(), &other.url()]);
    assert!(poller.poll().await);
    one.simulator.inject_fault(Fault::new(drop_usdt()));
    other.simulator.inject_fault(Fault::new(drop_usdt()));
    assert!(poller.poll().await);
    assert_eq!((poller.sample(FREE), poller.sample(SUSPECT)), (Some(0.0), Some(1.0)));

    // The other still has it: it is that.
    let (one, other) = (exchange(), exchange());
    let mut poller = TestPoller::new(&[&one.url(), &other.url()]);
    assert!(poller.poll().await);
    one.simulator.inject_fault(Fault::new(Effect::Zeros));
    for polls in 1..=3 {
        assert!(poller.poll().await);
        assert_eq!((poller.sample(FREE), poller.sample(SUSPECT)), (LAST_GOOD_USDT, Some(f64::from(polls))));
    }

    // A spare alone is not believed, while the first cannot be asked.
    let (one, other) = (exchange(), exchange());
    let mut poller = TestPoller::new(&[&one.url(), &other.url()]);
    assert!(poller.poll().await);
    one.simulator.inject_fault(Fault::new(Effect::Maintenance));
    other.simulator.inject_fault(Fault::new(Effect::Zeros));
    assert!(!poller.poll().await);
    assert_eq!((poller.sample(FREE), poller.sample(SUSPECT)), (LAST_GOOD_USDT, Some(1.0)));
    other.simulator.clear_faults();
    assert!(poller.poll().await);
    assert_eq!((poller.sample(FREE), poller.sample(SUSPECT)), (LAST_GOOD_USDT, Some(1.0)));
}

#[test]
fn once_polls_again_after_two_seconds_if_an_answer_must_be_confirmed() {
    let asks = |exchange: &Exchange| {
        let url = exchange.url();
        let output =
            Exporter::run(&["once", "--xt.api=v1", "--xt.base-url", &url, "--balance.watch=usdt"], &KEYS);
        let calls = exchange.simulator.call_log().records;
        let times: Vec<_> = calls
            .iter()
            .filter(|call| call.endpoint == SimulatedEndpoint::GetBalance)
            .map(|call| call.since_start)
            .collect();
        (output, times)
    };
    let exchange = exchange();
    exchange.simulator.inject_fault(Fault::new(drop_usdt()).for_calls(1));
    let (output, times) = asks(&exchange);
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!((sample(&output.stdout, FREE), times.len()), (LAST_GOOD_USDT, 2));
    assert!(times[1].saturating_sub(times[0]) >= Duration::from_secs(2), "{times:?}");

    let exchange = self::exchange();
    exchange.simulator.inject_fault(Fault::new(drop_usdt()));
    let (output, times) = asks(&exchange);
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!((sample(&output.stdout, FREE), times.len()), (Some(0.0), 2));
}

// Ages.

#[tokio::test]
async fn the_age_of_a_balance_counts_from_its_request() {
    let exchange = exchange();
    let delay = Duration::from_millis(700);
    let fault = Fault::new(Effect::Delay { ms: 700 }).for_endpoint(SimulatedEndpoint::GetBalance);
    exchange.simulator.inject_fault(fault);
    let mut poller = TestPoller::new(&[&exchange.url()]);
    assert!(poller.poll().await);
    assert!(poller.good_at().age(poller.clock.now()) >= delay);
    let timestamp =
        poller.sample("xt_last_success_timestamp_seconds{account=\"main\",wallet=\"spot\"}").unwrap();
    assert!(timestamp + delay.as_secs_f64() <= poller.clock.now().unix.as_secs_f64());
}

// Connections.

/// An answer that nobody asked for arrives while the next account waits for its own.
#[tokio::test]
async fn a_repeated_answer_is_never_read_for_another_account() {
    let names = ["a", "b"];
    let keys = |name: &str| (format!("{name}Key"), format!("{name}Secret"));
    let simulated_account = |(name, amount): (&str, &str)| {
        SimulatedAccount::new(name, &keys(name).0, &keys(name).1).with_balance(
            simulator::SimulatedWallet::Spot,
            "usdt",
            amount,
            "0",
        )
    };
    let exchange =
        Exchange::new(SimulatorConfig::default(), [("a", "1"), ("b", "2")].map(simulated_account).to_vec());
    let proxy = Proxy::new(exchange.address);
    proxy.set_mode(ProxyMode::RepeatResponse(Duration::from_millis(40)));
    exchange.simulator.inject_fault(Fault::new(Effect::Delay { ms: 120 }).for_account("b"));
    let config = names.map(|name| account(name, &[&proxy.url()], key_source(&keys(name).0, &keys(name).1)));
    let mut pollers = TestPoller::for_accounts(config.into());
    for _ in 0..2 {
        for poller in &mut pollers {
            assert!(poller.poll().await, "{:?}", poller.failure());
        }
    }
    let text = exposition(&pollers[0].store, pollers[0].clock.now());
    let free = names.map(|name| sample(&text, &FREE.replace("main", name)));
    assert_eq!(free, [Some(1.0), Some(2.0)]);
    assert_eq!(proxy.connections(), proxy.requests().len(), "a call has a connection of its own");
}

// Caches.

/// v4 asks one URL for all accounts.
#[tokio::test]
async fn a_cached_answer_is_never_read_for_another_account() {
    for cache in [
        Effect::Cached { age: Some(3_600), date_behind: None },
        Effect::Cached { age: Some(1), date_behind: None },
        Effect::Cached { age: None, date_behind: Some(3_600) },
    ] {
        let names = ["a", "b", "c"];
        let keys = |name: &str| (format!("{name}Key"), format!("{name}Secret"));
        let simulated_account = |name: &str| {
            let account = SimulatedAccount::new(name, &keys(name).0, &keys(name).1);
            account.with_balance(
                simulator::SimulatedWallet::Spot,
                "usdt",
                if name == "a" { "1" } else { "2" },
                "0",
            )
        };
        let exchange = Exchange::new(SimulatorConfig::default(), names.map(simulated_account).to_vec());
        exchange.simulator.inject_fault(Fault::new(cache.clone()));
        let config = names.map(|name| {
            let mut config = account(name, &[&exchange.url()], key_source(&keys(name).0, &keys(name).1));
            config.hosts.api = ApiVersion::V4;
            config
        });
        let mut pollers = TestPoller::for_accounts(config.into());
        let mut good = Vec::new();
        for poller in &mut pollers {
            good.push(poller.poll().await);
        }
        assert_eq!(good, [true, false, false], "{cache:?}");
        let text = exposition(&pollers[0].store, pollers[0].clock.now());
        for name in ["b", "c"] {
            let cached =
                format!("xt_poll_failures_total{{account=\"{name}\",reason=\"cached\",wallet=\"spot\"}}");
            assert_eq!(sample(&text, &cached), Some(1.0), "{cache:?}");
            assert_eq!(sample(&text, &FREE.replace("main", name)), None, "{cache:?}");
        }
    }
}

#[tokio::test]
async fn an_old_date_is_detected_without_the_time_of_the_exchange() {
    let exchange = exchange();
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::from_status(404)).for_endpoint(SimulatedEndpoint::GetServerTime));
    let proxy = Proxy::new(exchange.address);
    let hour_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    proxy.set_mode(ProxyMode::AddHeaders(vec![("Date", httpdate::fmt_http_date(hour_ago))]));
    let mut poller = TestPoller::new(&[&proxy.url()]);
    assert!(!poller.poll().await);
    assert_eq!((poller.sample(FREE), poller.failures()), (None, vec![("cached", 1.0)]));
}

#[tokio::test]
async fn after_a_cached_answer_the_next_base_url_is_called() {
    let exchange = exchange();
    let proxy = Proxy::new(exchange.address);
    proxy.set_mode(ProxyMode::AddHeaders(vec![("Age", "3600".to_owned())]));
    let mut poller = TestPoller::new(&[&proxy.url(), &exchange.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((poller.sample(FREE), poller.failures()), (LAST_GOOD_USDT, vec![]));
    let requests = proxy.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.header("cache-control"), Some("no-cache, no-store"), "{request:?}");
    }
}

#[tokio::test]
async fn an_answer_with_status_203_206_or_226_is_a_failure() {
    for status in [203, 206, 226] {
        for (api, wallet) in WALLETS_BY_API {
            let exchange = exchange();
            exchange.simulator.inject_fault(Fault::new(Effect::Restatus { status }));
            let mut poller = wallet_poller(api, wallet, &exchange.url());
            assert!(!poller.poll().await, "{status} {api:?} {wallet}");
            assert_eq!(value(&poller, wallet, FREE), None, "{status} {api:?} {wallet}");
            let failed = "xt_poll_failures_total{account=\"main\",reason=\"http\",wallet=\"spot\"}";
            assert_eq!(value(&poller, wallet, failed), Some(1.0), "{status} {api:?} {wallet}");
        }
    }
}

#[test]
fn check_reports_a_cache_and_the_fix() {
    let exchange = exchange();
    let proxy = Proxy::new(exchange.address);
    proxy.set_mode(ProxyMode::AddHeaders(vec![("Age", "3600".to_owned())]));
    let output = Exporter::run(&["check", "--xt.api=v1", "--xt.base-url", &proxy.url()], &KEYS);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.contains("[cached]"), "{}", output.stdout);
    assert_golden("check_cached", &output.stdout);
}

/// What stands in a socket before it is asked for cannot be an answer either.
#[tokio::test]
async fn an_answer_to_another_call_on_the_same_connection_is_never_read() {
    let exchange = exchange();
    let proxy = Proxy::new(exchange.address);
    let answer = |amount: &str| {
        let body = format!(r#"{{"code":200,"data":{{"usdt":{{"available":"{amount}","freeze":"0"}}}}}}"#);
        http_response(200, &[], body.as_bytes())
    };
    // Two answers at once to one question.
    let twice = [answer("1"), answer("2")].concat();
    proxy.set_mode(ProxyMode::Respond(Arc::new(move |_| twice.clone())));
    let mut poller = TestPoller::new(&[&proxy.url()]);
    for _ in 0..2 {
        assert!(poller.poll().await, "{:?}", poller.failure());
        assert_eq!(poller.sample(FREE), Some(1.0));
    }
}
