//! Watched currencies that the list of v4 spot leaves out: the exporter asks for each alone before it shows 0. The list has no
//! zero balances, and it hides currencies that the exchange delisted.

use std::time::Duration;

use crate::common::in_process::{
    FREE, SUSPECT, TestPoller, UP, account, advance_clock, exposition, failures, key_source,
};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, sample};
use serde_json::json;
use xt_balance_exporter::{
    config::AccountConfig,
    exchange::{ApiVersion, Wallet},
    simulator::{
        Effect, Fault, SimulatedAccount, SimulatedBalance, SimulatedEndpoint, SimulatedWallet,
        SimulatorConfig, UnknownCurrency,
    },
    snapshot::wallet::WatchedCurrency,
};

const PRESENT: &str = "xt_watch_present{account=\"main\",currency=\"usdt\",wallet=\"spot\"}";
const SPOT: SimulatedWallet = SimulatedWallet::Spot;

fn exchange_with(config: SimulatorConfig) -> Exchange {
    let account =
        SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY).with_balance(SPOT, "btc", "0.25", "0");
    Exchange::new(config, vec![account])
}

fn exchange() -> Exchange {
    exchange_with(SimulatorConfig::default())
}

/// The account at these hosts, with USDT watched.
fn reading(urls: &[&str]) -> AccountConfig {
    let mut account = account("main", urls, key_source(ACCESS_KEY, SECRET_KEY));
    account.hosts.api = ApiVersion::V4;
    account
}

fn poller(exchange: &Exchange) -> TestPoller {
    TestPoller::for_account(reading(&[&exchange.url()]))
}

fn hide_usdt(exchange: &Exchange, free: &str) {
    exchange.simulator.set_row("main", SPOT, "usdt", SimulatedBalance::new(free, "0").hidden()).unwrap();
}

/// The calls for one currency that the exchange has seen.
fn single_calls(exchange: &Exchange) -> usize {
    let records = exchange.simulator.call_log().records;
    records.iter().filter(|record| record.endpoint == SimulatedEndpoint::V4Balance).count()
}

fn state(poller: &TestPoller) -> [Option<f64>; 4] {
    [FREE, PRESENT, UP, SUSPECT].map(|series| poller.sample(series))
}

#[tokio::test]
async fn a_hidden_balance_is_shown_and_read_with_every_poll() {
    let exchange = exchange();
    let row = SimulatedBalance::new("700.25", "2").with_parts([("withdraw", json!("2"))]).hidden();
    exchange.simulator.set_row("main", SPOT, "usdt", row).unwrap();
    let mut poller = poller(&exchange);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(state(&poller), [Some(700.25), Some(0.0), Some(1.0), Some(0.0)]);
    let part = r#"xt_balance_frozen_part{account="main",currency="usdt",reason="withdraw",wallet="spot"}"#;
    assert_eq!(poller.sample(part), Some(2.0));
    assert_eq!(
        poller.sample(r#"xt_currencies{account="main",wallet="spot"}"#),
        Some(1.0),
        "rows of the list"
    );
    hide_usdt(&exchange, "12.5");
    assert!(poller.poll().await);
    assert_eq!(state(&poller), [Some(12.5), Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(single_calls(&exchange), 2);

    exchange.simulator.set_balance("main", SPOT, "usdt", "3", "0").unwrap();
    assert!(poller.poll().await);
    assert_eq!(state(&poller), [Some(3.0), Some(1.0), Some(1.0), Some(0.0)], "its row is back");
    assert_eq!(single_calls(&exchange), 2);
}

#[tokio::test]
async fn a_currency_that_the_account_does_not_have_is_zero_after_two_answers() {
    for unknown_currency in [UnknownCurrency::Error, UnknownCurrency::NoRow, UnknownCurrency::Zeros] {
        let exchange = exchange_with(SimulatorConfig { unknown_currency, ..SimulatorConfig::default() });
        let mut poller = poller(&exchange);
        assert!(!poller.poll().await, "the second answer confirms it");
        assert_eq!(state(&poller), [None, None, Some(0.0), Some(1.0)]);
        for _ in 0..3 {
            assert!(poller.poll().await, "{unknown_currency:?}: {:?}", poller.failure());
            assert_eq!(state(&poller), [Some(0.0), Some(0.0), Some(1.0), Some(1.0)]);
            assert_eq!(single_calls(&exchange), 2, "once for each of the first two answers");
        }
    }
}

#[tokio::test]
async fn a_missing_currency_is_asked_for_again_after_an_hour_although_the_list_is_the_same() {
    let exchange = exchange();
    let mut poller = poller(&exchange);
    assert!(!poller.poll().await && poller.poll().await);
    hide_usdt(&exchange, "9");
    assert!(poller.poll().await);
    assert_eq!((poller.sample(FREE), single_calls(&exchange)), (Some(0.0), 2));
    advance_clock(Duration::from_secs(3_601)).await;
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(state(&poller), [Some(9.0), Some(0.0), Some(1.0), Some(1.0)]);
    assert_eq!(single_calls(&exchange), 3);
}

#[tokio::test]
async fn a_row_that_vanishes_from_the_list_alone_is_no_loss() {
    let exchange = exchange();
    exchange.simulator.set_balance("main", SPOT, "usdt", "500.5", "0").unwrap();
    let mut poller = poller(&exchange);
    assert!(poller.poll().await);
    assert_eq!(
        (state(&poller), single_calls(&exchange)),
        ([Some(500.5), Some(1.0), Some(1.0), Some(0.0)], 0)
    );
    let vanish =
        Fault::new(Effect::DropCurrency("usdt".to_owned())).for_endpoint(SimulatedEndpoint::V4Balances);
    exchange.simulator.inject_fault(vanish);
    assert!(poller.poll().await);
    assert_eq!(state(&poller), [Some(500.5), Some(0.0), Some(1.0), Some(0.0)]);
    // An empty list is suspect as ever, whatever the exchange says about the one currency.
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::EmptyData).for_endpoint(SimulatedEndpoint::V4Balances));
    assert!(!poller.poll().await);
    assert_eq!(state(&poller), [Some(500.5), Some(0.0), Some(0.0), Some(1.0)]);
    let btc = FREE.replace("usdt", "btc");
    assert_eq!(poller.sample(&btc), Some(0.25), "the others are held");
}

#[tokio::test]
async fn a_hidden_balance_that_is_lost_must_be_confirmed() {
    let exchange = exchange();
    hide_usdt(&exchange, "500.5");
    let mut poller = poller(&exchange);
    assert!(poller.poll().await);
    exchange.simulator.remove_balance("main", SPOT, "usdt").unwrap();
    assert!(!poller.poll().await);
    assert_eq!(state(&poller), [Some(500.5), Some(0.0), Some(0.0), Some(1.0)]);
    assert!(poller.poll().await);
    assert_eq!((state(&poller), single_calls(&exchange)), ([Some(0.0), Some(0.0), Some(1.0), Some(1.0)], 3));
}

#[tokio::test]
async fn another_host_confirms_a_loss_with_a_call_of_its_own() {
    let hosts = [exchange(), exchange()];
    let mut poller = TestPoller::for_account(reading(&[&hosts[0].url(), &hosts[1].url()]));
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(state(&poller), [Some(0.0), Some(0.0), Some(1.0), Some(1.0)]);
    assert_eq!(hosts.each_ref().map(single_calls), [1, 1]);
}

#[tokio::test]
async fn a_call_for_one_currency_that_fails_fails_the_poll_and_shows_no_zero() {
    let other =
        r#"{"rc":0,"mc":"SUCCESS","result":{"currency":"btc","availableAmount":"5","frozenAmount":"0"}}"#;
    let unusable =
        r#"{"rc":0,"mc":"SUCCESS","result":{"currency":"usdt","availableAmount":null,"frozenAmount":"0"}}"#;
    let body = |text: &str| Effect::Body(text.to_owned());
    for (effect, reason) in [
        (Effect::Maintenance, "unavailable"),
        (Effect::Mc("FAILURE".to_owned()), "api"),
        (Effect::Mc("COMMON_002".to_owned()), "unavailable"),
        (Effect::Mc("AUTH_106".to_owned()), "auth"),
        (body(other), "decode"),
        (body(unusable), "decode"),
        (body(r#"{"rc":0,"mc":"SUCCESS","result":[1]}"#), "decode"),
        (body("<html>"), "decode"),
    ] {
        let exchange = exchange();
        exchange.simulator.set_balance("main", SPOT, "usdt", "500.5", "0").unwrap();
        let mut poller = poller(&exchange);
        assert!(poller.poll().await);
        exchange.simulator.remove_balance("main", SPOT, "usdt").unwrap();
        exchange
            .simulator
            .inject_fault(Fault::new(effect.clone()).for_endpoint(SimulatedEndpoint::V4Balance));
        assert!(!poller.poll().await);
        assert_eq!(state(&poller), [Some(500.5), Some(1.0), Some(0.0), Some(0.0)], "{effect:?}");
        assert_eq!(poller.failures(), [(reason, 1.0)], "{effect:?}: {:?}", poller.failure());
        let text = poller.failure().unwrap().text;
        assert!(text.contains("/v4/balance: "), "{text}");
        let too_old = poller.good_at().later(Duration::from_mins(2));
        assert_eq!(sample(&exposition(&poller.store, too_old), FREE), None, "{effect:?}");
    }
}

#[tokio::test]
async fn what_was_answered_before_a_failure_is_not_asked_for_again() {
    let exchange = exchange();
    let mut account = reading(&[&exchange.url()]);
    let watched = |currency: &str| WatchedCurrency { currency: currency.into(), thresholds: None };
    account.watch = ["aaa", "bbb", "ccc"].map(|currency| (Wallet::Spot, watched(currency))).into();
    let mut poller = TestPoller::for_account(account);
    let second = Fault::new(Effect::Maintenance).for_endpoint(SimulatedEndpoint::V4Balance);
    let mut expected = 0;
    for calls_before_the_failure in [1, 2] {
        // The fault begins after so many calls: a delay that changes nothing takes these.
        let delay = Fault::new(Effect::Delay { ms: 0 }).for_endpoint(SimulatedEndpoint::V4Balance);
        exchange.simulator.clear_faults();
        exchange.simulator.inject_fault(delay.for_calls(1));
        exchange.simulator.inject_fault(second.clone());
        assert!(!poller.poll().await, "{calls_before_the_failure}");
        expected += 2;
        assert_eq!(single_calls(&exchange), expected, "the next one, and the one that fails");
    }
    exchange.simulator.clear_faults();
    assert!(!poller.poll().await, "the whole answer is suspect");
    assert_eq!(single_calls(&exchange), expected + 1, "only the third");
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(failures(&poller.text()), [("unavailable", 2.0)]);
}

#[test]
fn check_finds_a_hidden_balance() {
    let exchange = exchange();
    hide_usdt(&exchange, "700");
    let url = exchange.url();
    let flags = ["check", "--xt.base-url", &url, "--balance.watch=usdt=500", "--balance.watch=gone"];
    let keys = [("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)];
    let output = Exporter::run(&flags, &keys);
    for line in [
        "WARN watch usdt: 700 free, but the exchange's list leaves it out",
        "WARN watch gone: not in the answer",
    ] {
        assert!(output.stdout.contains(line), "{}", output.stdout);
    }
}
