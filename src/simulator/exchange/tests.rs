//! The exchange without sockets: exact windows, limits and locks.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use hyper::{HeaderMap, header::HeaderValue};
use tokio::time::Instant;

use super::{
    super::{
        account::SimulatedAccount,
        call_log::{
            CallOutcome::{self, Accepted, Refused},
            RefusalCause,
        },
        config::SimulatorConfig,
        endpoint::SimulatedEndpoint,
        fault::{Effect, Fault},
    },
    ExchangeState, IncomingCall,
};

const NONCE: i64 = 1_562_919_832_183;
const SIGNED: &str = "accesskey=myAccessKey&nonce=1562919832183\
    &signature=84b2653615cbb0bbc19af3f4fdb609f3a60530651b75e2aa788029c5dfe7e452";
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const REMOTE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// An exchange, and calls at milliseconds since its start.
struct TestExchange {
    exchange: ExchangeState,
    start: Instant,
}

impl TestExchange {
    fn new(mut config: SimulatorConfig) -> Self {
        config.clock_start_ms = Some(NONCE);
        let account = |name: &str| SimulatedAccount::new(name, &format!("{name}AccessKey"), "mySecretKey");
        let start = Instant::now();
        Self { exchange: ExchangeState::new(config, vec![account("my"), account("other")], start), start }
    }

    /// An exchange that accepts one signature for all calls.
    fn with_reusable_signature() -> Self {
        Self::new(SimulatorConfig {
            strict_nonce: false,
            nonce_window: Duration::from_hours(1),
            ..SimulatorConfig::default()
        })
    }

    fn call(&mut self, endpoint: SimulatedEndpoint, query: &str, ip: IpAddr, ms: u64) -> CallOutcome {
        let call = IncomingCall { endpoint, query, headers: &HeaderMap::new(), ip };
        let now = self.start + Duration::from_millis(ms);
        self.exchange.answer_call(&call, now);
        self.exchange.records.back().map_or(CallOutcome::Faulted, |record| record.outcome)
    }

    fn signed(&mut self, ms: u64) -> CallOutcome {
        self.call(SimulatedEndpoint::GetBalance, SIGNED, LOCAL, ms)
    }

    fn server_time(&mut self, ms: u64) -> CallOutcome {
        self.call(SimulatedEndpoint::GetServerTime, "", LOCAL, ms)
    }
}

#[test]
fn the_nonce_window_is_exact_on_both_sides() {
    for (offset, outcome) in [
        (60_000, Accepted),
        (60_001, Refused(RefusalCause::Nonce)),
        (-60_000, Accepted),
        (-60_001, Refused(RefusalCause::Nonce)),
    ] {
        let mut test =
            TestExchange::new(SimulatorConfig { clock_offset_ms: offset, ..SimulatorConfig::default() });
        assert_eq!(test.signed(0), outcome, "{offset}");
    }
    assert_eq!(TestExchange::new(SimulatorConfig::default()).signed(60_001), Refused(RefusalCause::Nonce));
}

/// Both are signed with the key pair of the other vectors, at `NONCE` and with a window of 5000.
#[test]
fn the_windows_of_v4_are_exact_on_both_sides() {
    let spot = "72897bacbf45f2f3405208aefd60bae9be02b7344cea5df6f013d04aacb6a68f";
    let futures = "4687131059b9d182bef2338a05dddc0ae135faf999ef541e2362ee8e774fca2e";
    for (endpoint, signature, offset, outcome) in [
        (SimulatedEndpoint::V4Balances, spot, 4_999, Accepted),
        (SimulatedEndpoint::V4Balances, spot, 5_000, Refused(RefusalCause::Nonce)),
        (SimulatedEndpoint::V4Balances, spot, -1_000, Accepted),
        (SimulatedEndpoint::V4Balances, spot, -1_001, Refused(RefusalCause::Nonce)),
        (SimulatedEndpoint::FuturesUsdtBalances, futures, 4_999, Accepted),
        (SimulatedEndpoint::FuturesUsdtBalances, futures, 5_000, Refused(RefusalCause::Nonce)),
        (SimulatedEndpoint::FuturesUsdtBalances, futures, -50, Accepted),
        (SimulatedEndpoint::FuturesUsdtBalances, futures, -51, Refused(RefusalCause::Nonce)),
    ] {
        let mut test =
            TestExchange::new(SimulatorConfig { clock_offset_ms: offset, ..SimulatorConfig::default() });
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("validate-algorithms", "HmacSHA256"),
            ("validate-appkey", "myAccessKey"),
            ("validate-recvwindow", "5000"),
            ("validate-timestamp", "1562919832183"),
            ("validate-signature", signature),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        test.exchange
            .answer_call(&IncomingCall { endpoint, query: "", headers: &headers, ip: LOCAL }, test.start);
        let found = test.exchange.records.back().map(|record| record.outcome);
        assert_eq!(found, Some(outcome), "{endpoint:?} {offset}");
    }
}

#[test]
fn the_fourth_asset_call_in_a_second_locks_for_ten_minutes() {
    let mut test = TestExchange::with_reusable_signature();
    assert_eq!([0, 0, 999].map(|ms| test.signed(ms)), [Accepted; 3]);
    assert_eq!(test.signed(999), Refused(RefusalCause::Limit));
    assert_eq!(test.signed(600_998), Refused(RefusalCause::Locked));
    assert_eq!(test.signed(600_999), Accepted);
    // The other account was never concerned.
    let other = SIGNED.replacen("my", "other", 1);
    let outcome = test.call(SimulatedEndpoint::GetBalance, &other, LOCAL, 1_000);
    assert_eq!(outcome, Refused(RefusalCause::Signature));
}

#[test]
fn three_asset_calls_in_every_second_are_fine() {
    let mut test = TestExchange::with_reusable_signature();
    let times = (0..30).map(|third| third * 1_000 / 3 + third % 3);
    assert!(times.map(|ms| test.signed(ms)).all(|outcome| outcome == Accepted));
}

#[test]
fn badly_signed_calls_use_up_the_limit_of_a_known_key() {
    let mut test = TestExchange::with_reusable_signature();
    for query in ["accesskey=myAccessKey", "accesskey=myAccessKey&nonce=1", "accesskey=myAccessKey&a=1&a=1"] {
        assert!(matches!(test.call(SimulatedEndpoint::GetFunds, query, LOCAL, 0), Refused(_)));
    }
    assert_eq!(test.signed(0), Refused(RefusalCause::Limit));
}

#[test]
fn calls_during_a_lock_do_not_extend_it_but_fill_the_window() {
    let mut test = TestExchange::with_reusable_signature();
    let _ = [0; 4].map(|ms| test.signed(ms));
    assert_eq!([599_500; 3].map(|ms| test.signed(ms)), [Refused(RefusalCause::Locked); 3]);
    assert_eq!(test.signed(600_000), Refused(RefusalCause::Limit));
    assert_eq!(test.signed(1_200_000), Accepted);
    assert_eq!(test.exchange.call_log(test.start).count_breaches(), 2);
}

#[test]
fn the_eleventh_other_call_in_a_second_locks_every_account_of_the_caller() {
    let mut test = TestExchange::with_reusable_signature();
    assert_eq!(test.signed(0), Accepted);
    assert_eq!([0; 10].map(|ms| test.server_time(ms)), [Accepted; 10]);
    assert_eq!(test.server_time(999), Refused(RefusalCause::Limit));
    assert_eq!(test.server_time(2_000), Refused(RefusalCause::Locked));
    let elsewhere = test.call(SimulatedEndpoint::GetBalance, SIGNED, REMOTE, 2_000);
    assert_eq!(elsewhere, Refused(RefusalCause::Locked));
    let unlocked = test.call(SimulatedEndpoint::GetServerTime, "", REMOTE, 2_000);
    assert_eq!(unlocked, Accepted);
    assert_eq!(test.server_time(600_999), Accepted);
}

#[test]
fn the_1001st_call_in_a_minute_locks_the_caller() {
    for (ms, outcome) in [(59_999, Refused(RefusalCause::Limit)), (60_000, Accepted)] {
        let mut test = TestExchange::new(SimulatorConfig {
            other_calls_per_second: 1_000,
            ..SimulatorConfig::default()
        });
        let mut spread = (0..1_000).map(|call| call * 59_999 / 1_000);
        assert!(spread.all(|ms| test.server_time(ms) == Accepted));
        assert_eq!(test.server_time(ms), outcome);
    }
}

#[test]
fn a_nonce_must_rise_and_a_refused_call_uses_none_up() {
    let mut test = TestExchange::new(SimulatorConfig::default());
    let forged = SIGNED.replace("84b2", "84b3").replace("832183", "832999");
    let outcome = test.call(SimulatedEndpoint::GetBalance, &forged, LOCAL, 0);
    assert_eq!(outcome, Refused(RefusalCause::Signature));
    assert_eq!(test.signed(1), Accepted);
    assert_eq!(test.signed(2), Refused(RefusalCause::Replay));
    let next = "accesskey=myAccessKey&nonce=1562919832184\
        &signature=eb177c57e063177bfe12108e4e45b59941207362a953a5e65bd35735691517ee";
    assert_eq!(test.call(SimulatedEndpoint::GetBalance, next, LOCAL, 1_001), Accepted);
}

#[test]
fn a_fault_does_not_hide_a_call_from_the_limits() {
    let mut test = TestExchange::with_reusable_signature();
    test.exchange.inject_fault(Fault::new(Effect::Maintenance).for_calls(4), test.start);
    assert_eq!([0; 4].map(|ms| test.signed(ms)), [CallOutcome::Faulted; 4]);
    assert_eq!(test.signed(1_000), Refused(RefusalCause::Locked));
}

#[test]
fn forgets_idle_callers_before_it_remembers_too_many() {
    let mut test = TestExchange::with_reusable_signature();
    let mut from = |number: u32, ms| {
        let ip = IpAddr::V4(Ipv4Addr::from_bits(number));
        test.call(SimulatedEndpoint::GetServerTime, "", ip, ms);
        test.exchange.callers.len()
    };
    assert_eq!((1..=4_096).map(|number| from(number, 0)).last(), Some(4_096));
    assert_eq!(from(5_000, 60_000), 1);
}
