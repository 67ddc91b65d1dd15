//! API v4 against the simulated exchange: spot and futures under the same states, limits, failover
//! and clock as v1, every reason of failure brought about over a real socket, and no key at a host
//! that was not named for it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::common::golden::{Transcript, assert_golden};
use crate::common::in_process::{PAUSED, TestPoller, key_source, v4_account};
use crate::common::proxy::{Proxy, ProxyMode, http_response};
use crate::common::{ACCESS_KEY, Exchange, Exporter, SECRET_KEY, messages, sample};
use serde_json::json;
use tokio::{net::TcpSocket, task::JoinSet};
use xt_balance_exporter::{
    config,
    exchange::{ApiVersion, BaseUrl, ExchangeHosts, Reason, Wallet},
    simulator::{
        self, Effect, Fault, LimitReply, RefusalCause, SimulatedAccount, SimulatedEndpoint,
        SimulatedKeyState, SimulatorConfig,
    },
};

const SPOT: &str = "/v4/balances";
const LIST: &str = "/future/user/v1/balance/list";

fn exchange_with(rules: SimulatorConfig, change: impl FnOnce(&mut SimulatedAccount)) -> Exchange {
    let mut account = SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY)
        .with_balance(simulator::SimulatedWallet::Spot, "usdt", "31.70995965", "0.03834082")
        .with_balance(simulator::SimulatedWallet::FuturesUsdt, "usdt", "18.58902375", "0.709475")
        .with_balance(simulator::SimulatedWallet::FuturesCoin, "btc", "2.50", "1");
    change(&mut account);
    Exchange::new(rules, vec![account])
}

fn exchange() -> Exchange {
    exchange_with(SimulatorConfig::default(), |_| {})
}

fn urls(list: &[&str]) -> Vec<BaseUrl> {
    list.iter().map(|url| BaseUrl::parse(url).unwrap()).collect()
}

/// The account with these wallets, all of them at one place.
fn wallet_poller(url: &str, wallets: &[Wallet]) -> config::AccountConfig {
    v4_account(url, wallets, key_source(ACCESS_KEY, SECRET_KEY))
}

fn series(name: &str, currency: &str, wallet: Wallet) -> String {
    format!("{name}{{account=\"main\",currency=\"{currency}\",wallet=\"{wallet}\"}}")
}

fn up(text: &str, wallet: Wallet) -> Option<f64> {
    sample(text, &format!("xt_up{{account=\"main\",wallet=\"{wallet}\"}}"))
}

/// Every reason that was counted for a wallet, with its count.
fn failures(text: &str, wallet: Wallet) -> Vec<(&'static str, f64)> {
    let count = |reason: &Reason| {
        let reason = reason.label();
        let series =
            format!("xt_poll_failures_total{{account=\"main\",reason=\"{reason}\",wallet=\"{wallet}\"}}");
        (reason, sample(text, &series).unwrap_or_else(|| panic!("no {series}")))
    };
    Reason::ALL.iter().map(count).filter(|(_, count)| *count != 0.0).collect()
}

#[test]
fn a_key_of_v4_needs_one_word_and_every_digit_arrives() {
    for v4_numbers in [false, true] {
        let exchange = exchange_with(SimulatorConfig { v4_numbers, ..SimulatorConfig::default() }, |_| {});
        let url = exchange.url();
        let (fapi, dapi) = (format!("{url}/fapi"), format!("{url}/dapi"));
        let words = [
            "once",
            "--xt.api=v4",
            "--xt.base-url",
            &url,
            "--xt.futures-usdt-base-url",
            &fapi,
            "--xt.futures-coin-base-url",
            &dapi,
            "--xt.wallet=spot",
            "--xt.wallet=futures_usdt",
            "--xt.wallet=futures_coin",
        ];
        let output = Exporter::run(&words, &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)]);
        assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
        for (currency, wallet, free, frozen) in [
            ("usdt", Wallet::Spot, 31.709_959_65, 0.038_340_82),
            ("usdt", Wallet::FuturesUsdt, 18.589_023_75, 0.709_475),
            ("btc", Wallet::FuturesCoin, 2.5, 1.0),
        ] {
            let found = ["xt_balance_free", "xt_balance_frozen"]
                .map(|name| sample(&output.stdout, &series(name, currency, wallet)));
            assert_eq!(found, [Some(free), Some(frozen)], "{wallet}: {}", output.stdout);
        }
        let calls = exchange.simulator.call_log();
        assert_eq!(
            (calls.count_breaches(), calls.unknown_requests, calls.accounts["main"].accepted),
            (0, 0, 3)
        );
        let clocks = calls.records.iter().filter(|call| call.endpoint == SimulatedEndpoint::V4Time);
        assert_eq!(clocks.count(), 1, "one host, one reading of its clock, for futures too");
    }
}

/// A fault at a wallet, and what is to be made of it.
struct Case {
    wallet: Wallet,
    fault: ExchangeFault,
    reason: &'static str,
}

enum ExchangeFault {
    /// The simulated exchange does it.
    Exchange(Effect),
    /// Something in front of it answers this.
    ProxyReply(Vec<u8>),
}

fn mc(code: &str) -> ExchangeFault {
    ExchangeFault::Exchange(Effect::Mc(code.to_owned()))
}

fn error(code: &str, msg: &str) -> ExchangeFault {
    ExchangeFault::Exchange(Effect::Error { code: code.to_owned(), msg: msg.to_owned() })
}

fn body(text: &str) -> ExchangeFault {
    ExchangeFault::Exchange(Effect::Body(text.to_owned()))
}

fn page(status: u16) -> ExchangeFault {
    let body = "<html>Sorry</html>".to_owned();
    ExchangeFault::Exchange(Effect::Status {
        status,
        body,
        content_type: None,
        retry_after: None,
        location: None,
    })
}

fn row(value: serde_json::Value) -> ExchangeFault {
    ExchangeFault::Exchange(Effect::Row { currency: "x".to_owned(), value })
}

#[rustfmt::skip] // a row a case
fn cases() -> Vec<Case> {
    const TIMES: &str = "The request time 1682869381327 exceeds the specified time 1682869381269 limit by 5 second";
    let spot = |fault, reason| Case { wallet: Wallet::Spot, fault, reason };
    let futures = |fault, reason| Case { wallet: Wallet::FuturesUsdt, fault, reason };
    vec![
        spot(mc("AUTH_001"), "signature"),
        spot(mc("AUTH_007"), "signature"),
        spot(mc("AUTH_103"), "signature"),
        spot(mc("AUTH_101"), "auth"),
        spot(mc("AUTH_102"), "auth"),
        spot(mc("AUTH_104"), "auth"),
        spot(mc("AUTH_106"), "auth"),
        spot(mc("AUTH_105"), "clock"),
        spot(mc("COMMON_002"), "unavailable"),
        spot(mc("COMMON_003"), "unavailable"),
        spot(page(503), "unavailable"),
        spot(page(404), "http"),
        spot(mc("FUND_017"), "api"),
        spot(mc("NEW_001"), "api"),
        spot(ExchangeFault::Exchange(Effect::Reset), "connect"),
        spot(ExchangeFault::ProxyReply(Vec::new()), "connect"),
        spot(ExchangeFault::Exchange(Effect::CutShort), "body"),
        spot(ExchangeFault::Exchange(Effect::Endless), "body"),
        spot(ExchangeFault::Exchange(Effect::GzipBomb { mebibytes: 64 }), "body"),
        spot(ExchangeFault::Exchange(Effect::Deep { levels: 100_000 }), "decode"),
        spot(body(r#"{"code":200,"data":{},"info":"success"}"#), "decode"),
        spot(row(json!(null)), "decode"),
        spot(ExchangeFault::Exchange(Effect::Silence), "timeout"),
        futures(error("403", "invalid signature"), "signature"),
        futures(error("403", TIMES), "clock"),
        futures(error("403", "ip is not on the whitelist"), "auth"),
        futures(error("400", "the appkey does not exist"), "auth"),
        futures(error("400", "Connection refused: /10.0.26.71:8080"), "unavailable"),
        futures(page(502), "unavailable"),
        futures(page(401), "auth"),
        futures(page(403), "http"),
        futures(error("invalid_coin", "invalid coin"), "api"),
        futures(ExchangeFault::Exchange(Effect::Reset), "connect"),
        futures(ExchangeFault::Exchange(Effect::Endless), "body"),
        futures(ExchangeFault::Exchange(Effect::Deep { levels: 100_000 }), "decode"),
        futures(row(json!(["usdt"])), "decode"),
        futures(ExchangeFault::Exchange(Effect::Silence), "timeout"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_v4_has_its_reason_and_the_last_good_balances_are_held() {
    let (mut left, mut proofs) = (cases().into_iter().enumerate(), JoinSet::new());
    let mut texts = vec![String::new(); left.len()];
    loop {
        // Not all at once: on a machine that is choked by them, requests grow too old on their way.
        while proofs.len() < 6
            && let Some((row, case)) = left.next()
        {
            proofs.spawn(async move { (row, run_case(case).await) });
        }
        let Some(proof) = proofs.join_next().await else { break };
        let (row, text) = proof.unwrap();
        texts[row] = text;
    }
    assert_golden("failures_v4", &texts.join("\n"));
}

/// Returns the wallet, the reason and the text after host and path.
async fn run_case(Case { wallet, fault, reason }: Case) -> String {
    let exchange = exchange();
    let proxy = Proxy::new(exchange.address);
    let url = if let ExchangeFault::ProxyReply(_) = fault { proxy.url() } else { exchange.url() };
    let (endpoint, path, usdt) = match wallet {
        Wallet::Spot => (SimulatedEndpoint::V4Balances, SPOT.to_owned(), 31.709_959_65),
        _ => (SimulatedEndpoint::FuturesUsdtBalances, format!("/fapi{LIST}"), 18.589_023_75),
    };
    let patience = if reason == "timeout" { 5 } else { 10 };
    let account = wallet_poller(&url, &[wallet]);
    let account = config::AccountConfig { poll_timeout: Duration::from_secs(patience), ..account };
    let mut poller = TestPoller::for_account(account);
    let free = series("xt_balance_free", "usdt", wallet);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(poller.sample(&free), Some(usdt));

    match fault {
        ExchangeFault::Exchange(effect) => {
            exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(endpoint));
        }
        ExchangeFault::ProxyReply(answer) => {
            proxy.set_mode(ProxyMode::Respond(Arc::new(move |_| answer.clone())));
        }
    }
    assert!(!poller.poll().await, "no failure: {reason}");
    let failure = poller.failure().unwrap();
    assert_eq!(failure.reason.label(), reason, "{failure}");
    let place = format!("{url}{path}: ");
    let error_text = failure.text.strip_prefix(&place).unwrap_or_else(|| panic!("{failure}"));
    let text = poller.text();
    assert_eq!((up(&text, wallet), sample(&text, &free)), (Some(0.0), Some(usdt)), "{error_text}");
    assert_eq!(failures(&text, wallet), [(reason, 1.0)], "{error_text}");
    let old = poller.text_at(poller.good_at().later(crate::common::in_process::MAX_AGE));
    assert_eq!(
        (sample(&old, &free), sample(&old, &free.replace("free", "frozen"))),
        (None, None),
        "{error_text}"
    );

    exchange.simulator.clear_faults();
    proxy.set_mode(ProxyMode::Relay);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((up(&poller.text(), wallet), poller.sample(&free)), (Some(1.0), Some(usdt)));
    format!("{wallet} {reason}: {error_text}")
}

#[tokio::test]
async fn failures_below_http_have_their_reasons_in_v4() {
    let plain = Proxy::decoy();
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    for (url, reason) in [
        ("https://nowhere.invalid".to_owned(), "dns"),
        (format!("https://{}", plain.address), "tls"),
        (format!("http://{}", nobody.local_addr().unwrap()), "connect"),
    ] {
        for wallet in [Wallet::Spot, Wallet::FuturesCoin] {
            let mut poller = TestPoller::for_account(wallet_poller(&url, &[wallet]));
            assert!(!poller.poll().await);
            assert_eq!(failures(&poller.text(), wallet), [(reason, 1.0)], "{url} {wallet}");
        }
    }
}

/// Nothing is sent for ten minutes, as with v1.
#[tokio::test(flavor = "multi_thread")]
async fn every_limit_reply_pauses_the_account() {
    let limited = |status| Effect::Status {
        status,
        body: r#"{"rc":1,"mc":"AUTH_103"}"#.to_owned(),
        content_type: None,
        retry_after: None,
        location: None,
    };
    let gateway = Effect::Mc("GATEWAY_0003".to_owned());
    let too_many = Effect::Error { code: "429".to_owned(), msg: "too many requests".to_owned() };
    for (wallet, effect) in
        [(Wallet::Spot, limited(429)), (Wallet::Spot, gateway), (Wallet::FuturesUsdt, too_many)]
    {
        let exchange = exchange();
        let mut poller = TestPoller::for_account(wallet_poller(&exchange.url(), &[wallet]));
        exchange.simulator.inject_fault(Fault::new(effect.clone()).for_account("main"));
        assert!(!poller.poll().await);
        assert_eq!(failures(&poller.text(), wallet), [("rate_limited", 1.0)], "{effect:?}");
        exchange.simulator.clear_faults();
        let now = poller.clock.now();
        let left = poller.sample(PAUSED).unwrap() - now.unix.as_secs_f64();
        assert!((590.0..=600.5).contains(&left), "{left}");
        let before = exchange.simulator.call_log().records.len();
        assert!(!poller.poll().await, "it is paused");
        assert_eq!(exchange.simulator.call_log().records.len(), before);
    }
}

#[tokio::test]
async fn a_real_limit_is_understood() {
    for limit_reply in [LimitReply::Code, LimitReply::Status429] {
        let rules = SimulatorConfig { v4_calls_per_second: 0, limit_reply, ..SimulatorConfig::default() };
        let exchange = exchange_with(rules, |_| {});
        let mut poller = TestPoller::for_account(wallet_poller(&exchange.url(), &[Wallet::Spot]));
        assert!(!poller.poll().await);
        assert_eq!(failures(&poller.text(), Wallet::Spot), [("rate_limited", 1.0)]);
    }
}

#[tokio::test]
async fn the_time_of_a_request_is_the_exchanges_for_futures_too() {
    for offset in [-90_000_i32, 90_000] {
        let exchange = exchange_with(
            SimulatorConfig { clock_offset_ms: offset.into(), ..SimulatorConfig::default() },
            |_| {},
        );
        for wallet in [Wallet::FuturesUsdt, Wallet::Spot] {
            let mut poller = TestPoller::for_account(wallet_poller(&exchange.url(), &[wallet]));
            assert!(poller.poll().await, "{offset} {wallet}: {:?}", poller.failure());
            let skew = poller.sample(&format!("xt_clock_skew_seconds{{host=\"{}\"}}", exchange.address));
            let error = skew.unwrap() - f64::from(offset) / 1_000.0;
            assert!(error.abs() < 1.0, "{skew:?}");
        }
        assert_eq!(exchange.simulator.call_log().accounts["main"].count_refused(RefusalCause::Nonce), 0);
    }
}

/// A call whose way there is the slow one: the time was told at its end, not halfway through it.
#[tokio::test]
async fn a_slow_call_for_the_time_makes_no_request_of_the_future() {
    let exchange = exchange();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let simulator = exchange.simulator.clone();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 4_096]).unwrap(), 0);
        thread::sleep(Duration::from_millis(1_500));
        let time = simulator.server_time_ms();
        let body = format!(r#"{{"rc":0,"mc":"SUCCESS","ma":[],"result":{{"serverTime":{time}}}}}"#);
        stream.write_all(&http_response(200, &[], body.as_bytes())).unwrap();
    });
    let mut account = wallet_poller(&exchange.url(), &[Wallet::FuturesUsdt]);
    account.hosts.base_urls = urls(&[&url]);
    let mut poller = TestPoller::for_account(account);
    assert!(poller.poll().await, "{:?}", poller.failure());
    let skew = poller.sample(&format!("xt_clock_skew_seconds{{host=\"{}\"}}", &url[7..]));
    assert!(skew.is_some_and(|skew| skew > 0.7), "the time was not read, or not late: {skew:?}");
}

#[tokio::test]
async fn futures_are_read_although_spot_cannot_tell_the_time() {
    for effect in [Effect::Maintenance, Effect::Silence, Effect::from_status(404)] {
        // Our own clock is ahead by more than futures forgive.
        let exchange =
            exchange_with(SimulatorConfig { clock_offset_ms: -300, ..SimulatorConfig::default() }, |_| {});
        exchange.simulator.inject_fault(Fault::new(effect.clone()).for_endpoint(SimulatedEndpoint::V4Time));
        let account = wallet_poller(&exchange.url(), &[Wallet::FuturesUsdt]);
        let account = config::AccountConfig { poll_timeout: Duration::from_secs(8), ..account };
        let mut poller = TestPoller::for_account(account);
        assert!(poller.poll().await, "{effect:?}: {:?}", poller.failure());
    }
}

#[tokio::test]
async fn each_wallet_goes_to_its_own_hosts_and_fails_over_among_them() {
    let exchange = exchange();
    let [spot, usdt, coin, spare] = [(); 4].map(|()| Proxy::new(exchange.address));
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let closed = format!("http://{}/dapi", nobody.local_addr().unwrap());
    let wallets = [Wallet::Spot, Wallet::FuturesUsdt, Wallet::FuturesCoin];
    let hosts = ExchangeHosts {
        api: ApiVersion::V4,
        base_urls: urls(&[&spot.url()]),
        futures_usdt: urls(&[&format!("{}/fapi", usdt.url())]),
        futures_coin: urls(&[&closed, &format!("{}/dapi", spare.url()), &format!("{}/dapi", coin.url())]),
        ..ExchangeHosts::default()
    };
    let account = config::AccountConfig { hosts, ..wallet_poller(&exchange.url(), &wallets) };
    let mut poller = TestPoller::for_account(account);
    for _ in 0..2 {
        assert_eq!(poller.poller.run_once().await, (3, 0), "{}", poller.text());
    }
    let paths = |proxy: &Proxy| -> Vec<String> {
        proxy.requests().iter().map(|request| request.target().to_owned()).collect()
    };
    assert_eq!(paths(&spot), ["/v4/public/time", SPOT, SPOT]);
    assert_eq!(paths(&usdt), [format!("/fapi{LIST}"), format!("/fapi{LIST}")]);
    assert_eq!(paths(&spare), [format!("/dapi{LIST}"), format!("/dapi{LIST}")]);
    assert_eq!(coin.connections(), 0);
    for proxy in [&spot, &usdt, &spare] {
        for request in proxy.requests() {
            let is_signed = request.header("validate-signature").is_some();
            assert_eq!(is_signed, !request.target().contains("public"), "{request:?}");
            assert_eq!(request.header("validate-appkey").is_some(), is_signed, "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_key_without_permission_for_futures_still_reads_spot() {
    let exchange =
        exchange_with(SimulatorConfig::default(), |account| account.key = SimulatedKeyState::NotForFutures);
    let mut poller =
        TestPoller::for_account(wallet_poller(&exchange.url(), &[Wallet::Spot, Wallet::FuturesUsdt]));
    assert_eq!(poller.poller.run_once().await, (2, 1));
    let text = poller.text();
    assert_eq!((up(&text, Wallet::Spot), up(&text, Wallet::FuturesUsdt)), (Some(1.0), Some(0.0)));
    assert_eq!(failures(&text, Wallet::FuturesUsdt), [("auth", 1.0)]);
}

#[tokio::test]
async fn an_unusable_row_affects_no_other_row() {
    let exchange = exchange();
    let odd = json!({"availableAmount": "NaN", "availableBalance": "NaN", "frozenAmount": "0"});
    let odd = Effect::Row { currency: "odd".to_owned(), value: odd };
    exchange.simulator.inject_fault(Fault::new(odd));
    let wallets = [Wallet::Spot, Wallet::FuturesUsdt];
    let mut poller = TestPoller::for_account(wallet_poller(&exchange.url(), &wallets));
    assert_eq!(poller.poller.run_once().await, (2, 0));
    for wallet in wallets {
        let rejected = format!("xt_rows_rejected_total{{account=\"main\",wallet=\"{wallet}\"}}");
        assert_eq!(poller.sample(&rejected), Some(1.0), "{wallet}");
        assert!(poller.sample(&series("xt_balance_free", "usdt", wallet)).is_some(), "{wallet}");
    }
}

// check

fn check(exchange: &Exchange, words: &[&str]) -> crate::common::Output {
    let url = exchange.url();
    let words = [&["check", "--xt.base-url", &url], words].concat();
    Exporter::run(&words, &[("XT_ACCESS_KEY", ACCESS_KEY), ("XT_SECRET_KEY", SECRET_KEY)])
}

#[test]
fn check_succeeds_with_a_key_of_v4() {
    let exchange = exchange();
    let (fapi, dapi) = (format!("{}/fapi", exchange.url()), format!("{}/dapi", exchange.url()));
    let words = [
        "--xt.api=v4",
        "--xt.wallet=spot",
        "--xt.wallet=futures_usdt",
        "--xt.wallet=futures_coin",
        "--xt.futures-usdt-base-url",
        &fapi,
        "--xt.futures-coin-base-url",
        &dapi,
    ];
    let output = check(&exchange, &words);
    assert_eq!(output.status.code(), Some(0), "{}", output.stdout);
    assert_golden("check_v4", &output.stdout);
}

#[test]
fn check_names_the_other_version_when_a_key_is_refused_and_tries_it_nowhere() {
    let mut transcript = Transcript::default();
    for (accepted_version, flag) in
        [(simulator::SimulatedApi::V4, "--xt.api=v1"), (simulator::SimulatedApi::V1, "--xt.api=v4")]
    {
        let exchange =
            exchange_with(SimulatorConfig::default(), |account| account.api = Some(accepted_version));
        let output = check(&exchange, &[flag]);
        assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
        assert!(output.stdout.contains("[auth]"), "{}", output.stdout);
        transcript.add_output(flag, &output);
        let calls = exchange.simulator.call_log();
        let expected = (3, 0);
        assert_eq!(
            (calls.records.len(), calls.unknown_requests),
            expected,
            "the balances once, the clock before and after"
        );
    }
    transcript.assert("check_other_version");
}

#[test]
fn the_first_log_line_names_the_other_version_when_a_key_is_refused() {
    for (accepted_version, flags, other) in [
        // The default is v4.
        (simulator::SimulatedApi::V1, &[][..], "v1"),
        (simulator::SimulatedApi::V4, &["--xt.api=v1"], "v4"),
    ] {
        let exchange =
            exchange_with(SimulatorConfig::default(), |account| account.api = Some(accepted_version));
        let exporter = Exporter::serve(&exchange.url(), flags);
        let line = exporter.stderr.wait_for(messages::POLL_FAILED);
        assert!(line.contains(&format!("{}{other}", messages::OTHER_VERSION)), "{line}");
    }
}

#[test]
fn check_names_the_permission_that_futures_need() {
    let exchange =
        exchange_with(SimulatorConfig::default(), |account| account.key = SimulatedKeyState::NotForFutures);
    let fapi = format!("{}/fapi", exchange.url());
    let words =
        ["--xt.api=v4", "--xt.wallet=spot", "--xt.wallet=futures_usdt", "--xt.futures-usdt-base-url", &fapi];
    let output = check(&exchange, &words);
    assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
    assert!(output.stdout.contains("ok   wallet spot: "), "{}", output.stdout);
    assert_golden("check_no_futures_permission", &output.stdout);
}
