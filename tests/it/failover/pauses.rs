//! After a limit reply nothing is sent, for as long as the exchange or its documents ask for.

use std::{sync::Arc, time::Duration};

use super::{LAST_GOOD_USDT, asset_calls, body, clock_calls, exchange_with_high_limits, main_account};
use crate::common::{
    Exchange,
    in_process::{FREE, PAUSED, POLLS, TestPoller, account, advance_clock, key_source, to_millis},
    proxy::{Proxy, ProxyMode, http_response},
    sample,
};
use tokio::task::JoinSet;
use xt_balance_exporter::{
    clock::UnixTime,
    simulator::{Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig},
};

#[tokio::test]
async fn after_a_limit_reply_nothing_is_sent_for_ten_minutes_or_as_long_as_was_asked_for() {
    for (retry_after, minutes) in [(None, 10), (Some("5"), 10), (Some("1200"), 20)] {
        let exchange = exchange_with_high_limits(vec![main_account()]);
        let mut poller = TestPoller::new(&[&exchange.url()]);
        assert!(poller.poll().await, "{:?}", poller.failure());
        let limited = Effect::Status {
            status: 429,
            body: String::new(),
            content_type: None,
            retry_after: retry_after.map(str::to_owned),
            location: None,
        };
        exchange.simulator.inject_fault(Fault::new(limited).for_calls(1));
        let begin = poller.clock.now().unix;
        assert!(!poller.poll().await);
        let end = poller.clock.now().unix;
        assert!(poller.failure().unwrap().text.contains("HTTP 429"));
        assert_eq!((poller.sample(FREE), poller.failures()), (LAST_GOOD_USDT, vec![("rate_limited", 1.0)]));
        let until = UnixTime::EPOCH + Duration::from_secs_f64(poller.sample(PAUSED).unwrap());
        let span = Duration::from_mins(minutes);
        // What is read of a number of seconds is rounded.
        let rounding = Duration::from_millis(1);
        assert!(begin + span <= until + rounding && until <= end + span + rounding, "{until:?}");

        let sent = exchange.simulator.call_log().records.len();
        advance_clock(span.saturating_sub(Duration::from_secs(20))).await;
        exchange.simulator.set_clock_offset_ms(to_millis(span));
        assert!(!poller.poll().await);
        assert_eq!(exchange.simulator.call_log().records.len(), sent, "nothing is sent");
        assert_eq!(poller.sample(POLLS), Some(2.0), "and no poll is counted");
        advance_clock(Duration::from_secs(20)).await;
        assert!(poller.poll().await, "{:?}", poller.failure());
        assert_eq!((poller.sample(FREE), poller.sample(PAUSED)), (LAST_GOOD_USDT, Some(0.0)));
    }
}

#[tokio::test]
async fn limit_replies_to_two_accounts_within_a_minute_pause_all() {
    let names = ["a", "b", "c"];
    let keys = |name: &str| (format!("{name}Key"), format!("{name}Secret"));
    let simulated_accounts = names.map(|name| SimulatedAccount::new(name, &keys(name).0, &keys(name).1));
    let exchange = Exchange::new(SimulatorConfig::default(), simulated_accounts.to_vec());
    let url = exchange.url();
    let accounts = names.map(|name| account(name, &[&url], key_source(&keys(name).0, &keys(name).1)));
    let mut pollers = TestPoller::for_accounts(accounts.into());
    for name in ["a", "b"] {
        exchange.simulator.inject_fault(Fault::new(Effect::from_status(429)).for_account(name));
    }
    for poller in &mut pollers {
        assert!(!poller.poll().await);
    }
    let calls = exchange.simulator.call_log();
    assert_eq!(names.map(|name| calls.accounts[name].total()), [1, 1, 0]);
    let text = pollers[0].text();
    for name in names {
        let until = sample(&text, &PAUSED.replace("main", name));
        assert!(until.is_some_and(|until| until > 0.0), "{name}: {until:?}");
    }
}

#[tokio::test]
async fn an_error_text_that_resembles_a_lock_pauses_no_account() {
    let names = ["a", "b", "c"];
    let keys = |name: &str| (format!("{name}Key"), format!("{name}Secret"));
    let simulated_accounts = names.map(|name| {
        SimulatedAccount::new(name, &keys(name).0, &keys(name).1).with_balance(
            SimulatedWallet::Spot,
            "usdt",
            "3867.43650012",
            "0",
        )
    });
    let exchange = Exchange::new(SimulatorConfig::default(), simulated_accounts.to_vec());
    let url = exchange.url();
    let accounts = names.map(|name| account(name, &[&url], key_source(&keys(name).0, &keys(name).1)));
    let mut pollers = TestPoller::for_accounts(accounts.into());
    for name in ["a", "b"] {
        exchange.simulator.inject_fault(Fault::new(body(r#"{"code":0,"info":"blocked"}"#)).for_account(name));
    }
    let mut good = Vec::new();
    for poller in &mut pollers {
        good.push(poller.poll().await);
    }
    assert_eq!(good, [false, false, true], "{:?}", pollers[2].failure());
    let text = pollers[0].text();
    for name in names {
        assert_eq!(sample(&text, &PAUSED.replace("main", name)), Some(0.0), "{name}");
    }
    assert_eq!(sample(&text, &FREE.replace("main", "c")), LAST_GOOD_USDT);
    let api = "xt_poll_failures_total{account=\"a\",reason=\"api\",wallet=\"spot\"}";
    assert_eq!(sample(&text, api), Some(1.0));
}

#[tokio::test]
async fn after_a_restart_a_locked_account_is_tried_once_and_no_more() {
    let exchange = Exchange::documented();
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::from_status(429)).for_endpoint(SimulatedEndpoint::GetBalance));
    for restarts in 1..=2 {
        let mut poller = TestPoller::new(&[&exchange.url()]);
        for _ in 0..3 {
            assert!(!poller.poll().await);
        }
        assert_eq!(asset_calls(&exchange), restarts);
    }
}

/// A host that is silent about its time delays all accounts once, not each after the other.
#[tokio::test]
async fn accounts_that_wait_for_the_same_clock_share_its_failure() {
    let exchange = Exchange::documented();
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::Silence).for_endpoint(SimulatedEndpoint::GetServerTime));
    let url = exchange.url();
    let accounts = (0..5).map(|n| {
        let mut account = account(&format!("a{n}"), &[&url], key_source(&format!("key{n}"), "s"));
        account.poll_timeout = Duration::from_secs(1);
        account
    });
    let mut polls = JoinSet::new();
    for mut poller in TestPoller::for_accounts(accounts.collect()) {
        polls.spawn(async move { poller.poll().await });
    }
    assert_eq!(polls.join_all().await, [false; 5]);
    assert_eq!(clock_calls(&exchange), 1);
}

// Keys.

#[tokio::test]
async fn a_date_to_retry_after_is_compared_with_the_date_of_the_same_reply() {
    let exchange = exchange_with_high_limits(vec![main_account()]);
    let proxy = Proxy::new(exchange.address);
    // The exchange's clock is decades behind this machine's.
    let (made, retry_after) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 09:19:37 GMT");
    proxy.set_mode(ProxyMode::Respond(Arc::new(move |_| {
        http_response(429, &[("Date", made), ("Retry-After", retry_after)], b"")
    })));
    let mut poller = TestPoller::new(&[&proxy.url()]);
    let begin = poller.clock.now().unix;
    assert!(!poller.poll().await);
    let until = UnixTime::EPOCH + Duration::from_secs_f64(poller.sample(PAUSED).unwrap());
    let end = poller.clock.now().unix + Duration::from_millis(1);
    let pause = Duration::from_mins(30);
    assert!(begin + pause <= until + Duration::from_millis(1) && until <= end + pause, "{until:?}");
}
