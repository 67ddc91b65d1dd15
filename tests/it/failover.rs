//! What the program does about a failure: which ones lead to the next base URL and which to silence,
//! and what it takes for an answer or a new key to be believed.

mod clock;
mod key_files;
mod pauses;

use std::{io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use crate::common::golden::Transcript;
use crate::common::in_process::{
    FREE, POLLS, TestPoller, UP, account, advance_clock, exposition, key_source, to_millis,
};
use crate::common::proxy::{Proxy, ProxyMode, http_response};
use crate::common::{ACCESS_KEY, Exchange, SECRET_KEY, get, sample};
use flate2::{Compression, write::GzEncoder};
use tokio::{net::TcpSocket, task::JoinSet};
use xt_balance_exporter::{
    simulator::{
        Effect, Fault, RefusalCause, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig,
    },
    web::Server,
};

const LAST_GOOD_USDT: Option<f64> = Some(3_867.436_500_12);

fn main_account() -> SimulatedAccount {
    SimulatedAccount::new("main", ACCESS_KEY, SECRET_KEY).with_balance(
        SimulatedWallet::Spot,
        "usdt",
        "3867.43650012",
        "3062.17437341",
    )
}

/// An exchange with a wide nonce window and high limits, for tests that advance the clock.
fn exchange_with_high_limits(accounts: Vec<SimulatedAccount>) -> Exchange {
    let window = Duration::from_hours(10);
    let rules =
        SimulatorConfig { nonce_window: window, asset_calls_per_second: 100, ..SimulatorConfig::default() };
    Exchange::new(rules, accounts)
}

fn body(text: &str) -> Effect {
    Effect::Body(text.to_owned())
}

/// An exchange where `main` has the key of always, and `next` another with 7 USDT.
fn two_keys() -> Exchange {
    let next = SimulatedAccount::new("next", "nextKey", "nextSecret").with_balance(
        SimulatedWallet::Spot,
        "usdt",
        "7",
        "0",
    );
    exchange_with_high_limits(vec![main_account(), next])
}

/// How many calls of balances the exchange has seen.
fn asset_calls(exchange: &Exchange) -> usize {
    exchange
        .simulator
        .call_log()
        .records
        .iter()
        .filter(|call| call.endpoint != SimulatedEndpoint::GetServerTime)
        .count()
}

fn clock_calls(exchange: &Exchange) -> usize {
    exchange.simulator.call_log().records.len() - asset_calls(exchange)
}

// Failover.

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_is_followed_by_the_next_within_the_same_poll() {
    // Bound and not listening: connections are refused, and no other process gets the port.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let silent = Exchange::documented();
    silent.simulator.inject_fault(Fault::new(Effect::Silence));
    let mut proofs = JoinSet::new();
    for first in [
        format!("http://{}", closed.local_addr().unwrap()),
        "https://nowhere.invalid".to_owned(),
        // It does not speak TLS.
        format!("https://{}", Proxy::decoy().address),
        silent.url(),
    ] {
        proofs.spawn(async move {
            let exchange = Exchange::documented();
            let mut poller = TestPoller::new(&[&first, &exchange.url()]);
            assert!(poller.poll().await, "{:?}", poller.failure());
            assert_eq!((poller.sample(POLLS), poller.sample(FREE)), (Some(1.0), LAST_GOOD_USDT), "{first}");
            assert_eq!(poller.failures(), [], "{first}");
        });
    }
    while let Some(proof) = proofs.join_next().await {
        proof.unwrap();
    }
    assert_eq!(silent.simulator.call_log().records.len(), 1);
}

#[tokio::test]
async fn the_next_host_is_asked_with_a_new_nonce() {
    let exchange = Exchange::documented();
    let proxy = Proxy::new(exchange.address);
    // The exchange has taken the nonce before something on the way back failed.
    proxy.set_mode(ProxyMode::ReplaceResponse(http_response(502, &[], b"Bad Gateway")));
    let mut poller = TestPoller::new(&[&proxy.url(), &exchange.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    let calls = &exchange.simulator.call_log().accounts["main"];
    assert_eq!((calls.accepted, calls.count_refused(RefusalCause::Replay)), (2, 0));
}

#[tokio::test]
async fn when_every_host_fails_the_text_names_each_and_one_failure_is_counted() {
    let exchange = Exchange::documented();
    exchange
        .simulator
        .inject_fault(Fault::new(Effect::from_status(503)).for_endpoint(SimulatedEndpoint::GetBalance));
    let proxy = Proxy::new(exchange.address);
    proxy.set_mode(ProxyMode::Respond(Arc::new(|_| Vec::new())));
    let mut poller = TestPoller::new(&[&exchange.url(), &proxy.url()]);
    assert!(!poller.poll().await);
    let text = poller.failure().unwrap().text;
    let (first, second) = text.split_once("; then ").unwrap_or_else(|| panic!("{text}"));
    assert!(first.starts_with(&format!("{}/trade/api/v1/getBalance: HTTP 503", exchange.url())), "{text}");
    assert!(second.starts_with(&format!("{}/trade/api/v1/getBalance: ", proxy.url())), "{text}");
    assert_eq!(poller.failures(), [("unavailable", 1.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_another_host_cannot_solve_ends_the_poll() {
    let code =
        |code: i64, info: &str| Effect::Code { code, info: Some(info.to_owned()), msg: None, msg_info: None };
    let mut proofs = JoinSet::new();
    for (effect, reason) in [
        (code(307, "AccessKey error"), "auth"),
        (code(308, "Sign error"), "signature"),
        (code(400, "nonce is outside the window"), "clock"),
        (code(106, "operate too frequently"), "rate_limited"),
        (code(404, "account locked"), "rate_limited"),
        (Effect::from_status(429), "rate_limited"),
        (Effect::from_status(404), "http"),
        (code(500, "price scale error"), "api"),
        (body("{}"), "decode"),
        (Effect::CutShort, "body"),
    ] {
        proofs.spawn(async move {
            let exchange = Exchange::documented();
            let next = Proxy::decoy();
            exchange.simulator.inject_fault(Fault::new(effect).for_endpoint(SimulatedEndpoint::GetBalance));
            let mut poller = TestPoller::new(&[&exchange.url(), &next.url()]);
            assert!(!poller.poll().await, "{reason}");
            assert_eq!(poller.failures(), [(reason, 1.0)]);
            assert_eq!((next.connections(), asset_calls(&exchange)), (0, 1), "{reason}");
        });
    }
    while let Some(proof) = proofs.join_next().await {
        proof.unwrap();
    }
}

/// Half of this body under its full length, then the end of the connection.
fn cut_short(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let whole = http_response(status, headers, body);
    whole[..whole.len() - body.len() / 2].to_vec()
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

/// A small body that grows to more than is read of any.
fn gzip_bomb() -> Vec<u8> {
    gzipped(&vec![b' '; 9 * 1024 * 1024])
}

/// Polls with something in front of the first of two base URLs. Returns the reasons that were counted, how the poll
/// failed, if it did, and how many connections the second base URL has seen.
async fn polled_behind(mode: ProxyMode) -> (Vec<(&'static str, f64)>, Option<String>, usize) {
    let exchange = Exchange::documented();
    let (proxy, next) = (Proxy::new(exchange.address), Proxy::new(exchange.address));
    proxy.set_mode(mode);
    let mut account = account("main", &[&proxy.url(), &next.url()], key_source(ACCESS_KEY, SECRET_KEY));
    // Half of it is for the first. More than any answer here takes, and what must be waited out for one without an end.
    account.poll_timeout = Duration::from_secs(20);
    let mut poller = TestPoller::for_account(account);
    let good = poller.poll().await;
    assert_eq!(good, poller.failures().is_empty());
    assert!(good || poller.failure().is_some_and(|failure| failure.text.starts_with(&proxy.url())));
    (poller.failures(), poller.failure().map(|failure| failure.text), next.connections())
}

const PAGE: &[u8] = b"<html><head><title>Sorry</title></head><body>Sorry</body></html>";

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_an_answer_decides_however_its_body_ends() {
    let envelope = br#"{"code":307,"info":"AccessKey error"}"#;
    let gzip = [("Content-Encoding", "gzip")];
    let bomb = gzip_bomb();
    let mut proofs = JoinSet::new();
    for (status, reason) in [
        (500, None),
        (502, None),
        (503, None),
        (429, Some("rate_limited")),
        (418, Some("rate_limited")),
        (404, Some("http")),
        (200, Some("body")),
        (206, Some("body")),
    ] {
        let bomb = http_response(status, &gzip, &bomb);
        for (what, mode) in [
            ("cut short", ProxyMode::Respond(Arc::new(move |_| cut_short(status, &[], PAGE)))),
            (
                "cut short after one brace",
                ProxyMode::Respond(Arc::new(move |_| cut_short(status, &[], b"{}"))),
            ),
            ("a cut envelope", ProxyMode::Respond(Arc::new(move |_| cut_short(status, &[], envelope)))),
            ("not gzip", ProxyMode::Respond(Arc::new(move |_| http_response(status, &gzip, PAGE)))),
            ("cut gzip", ProxyMode::Respond(Arc::new(move |_| cut_short(status, &gzip, &gzipped(PAGE))))),
            ("a gzip bomb", ProxyMode::Respond(Arc::new(move |_| bomb.clone()))),
            ("no end", ProxyMode::PartialResponse(cut_short(status, &[], PAGE))),
        ] {
            let reason = if (what, status / 100) == ("no end", 2) { None } else { reason };
            proofs.spawn(async move {
                let (counted, _, call_count) = polled_behind(mode).await;
                let expected: Vec<_> = reason.into_iter().map(|reason| (reason, 1.0)).collect();
                assert_eq!(counted, expected, "{status} {what}");
                // The clock of the second base URL, and its balances.
                assert_eq!(call_count, if reason.is_some() { 0 } else { 2 }, "{status} {what}");
            });
        }
    }
    while let Some(proof) = proofs.join_next().await {
        proof.unwrap();
    }
}

#[tokio::test]
async fn the_error_names_the_status_and_the_problem_of_the_body() {
    let bomb = http_response(418, &[("Content-Encoding", "gzip")], &gzip_bomb());
    let mut transcript = Transcript::default();
    for (case, mode) in [
        ("status 429, cut short", ProxyMode::Respond(Arc::new(|_| cut_short(429, &[], PAGE)))),
        (
            "not gzip",
            ProxyMode::Respond(Arc::new(|_| http_response(404, &[("Content-Encoding", "gzip")], PAGE))),
        ),
        ("a gzip bomb", ProxyMode::Respond(Arc::new(move |_| bomb.clone()))),
        ("status 429, and silence", ProxyMode::PartialResponse(cut_short(429, &[], PAGE))),
    ] {
        let (_, failure, _) = polled_behind(mode).await;
        transcript.add(case, &failure.unwrap());
    }
    transcript.assert("failures_body");
}

/// Polls accounts whose first base URL gives one of these answers. With a reason, the poll must fail for it
/// without a call to the second base URL. Without a reason, the poll must read the second base URL.
async fn assert_answers_count(answers: Vec<(Vec<u8>, Option<&'static str>)>) {
    let mut proofs = JoinSet::new();
    for (answer, reason) in answers {
        proofs.spawn(async move {
            let shown = String::from_utf8_lossy(&answer).into_owned();
            let (counted, _, call_count) =
                polled_behind(ProxyMode::Respond(Arc::new(move |_| answer.clone()))).await;
            let counted = counted.first().map(|(reason, _)| *reason);
            // The clock of the second base URL, and its balances.
            assert_eq!((counted, call_count), (reason, if reason.is_some() { 0 } else { 2 }), "{shown}");
        });
    }
    while let Some(proof) = proofs.join_next().await {
        proof.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_exchanges_leads_to_the_next_host() {
    const REFUSED: &str = r#"{"code":307,"info":"AccessKey error"}"#;
    let page = std::str::from_utf8(PAGE).unwrap();
    let in_a_page = format!("<html><body><pre>{REFUSED}</pre></body></html>");
    let before_a_page = format!("{REFUSED}\n{page}");
    let with_a_mark = format!("\u{feff}{page}");
    let redirect = [("Location", "https://blocked.example/")];
    let answers = [
        (401, &[][..], page),
        (403, &[], page),
        (403, &[], ""),
        (403, &[], r#"{"message":"Forbidden"}"#),
        (403, &[], r#"{"code":403,"message":"Forbidden"}"#),
        (403, &[], r#"{"title":"Error 1020: Access denied","status":403,"error_code":1020}"#),
        (403, &[], r#"{"rc":1,"mc":"AUTH_101","ma":[],"result":null}"#),
        (403, &[], r#"["code",307]"#),
        (403, &[], "error code: 1010"),
        (403, &[], &in_a_page),
        (403, &[], &before_a_page),
        (403, &[], &with_a_mark),
        (451, &[], page),
        (451, &[], r#"{"error":"not available in your country"}"#),
        (400, &[], page),
        (405, &[], page),
        (407, &[], page),
        (302, &redirect, ""),
        (203, &[], r#"{"code":200,"data":{"usdt":{"available":"1","freeze":"0"}}}"#),
        (200, &[], page),
        (200, &[], &in_a_page),
        (200, &[], &with_a_mark),
        (200, &[], "Access denied"),
        (200, &[], ""),
    ];
    let whole = answers.map(|(status, headers, body)| http_response(status, headers, body.as_bytes()));
    let broken = [401, 403, 451].map(|status| cut_short(status, &[], REFUSED.as_bytes()));
    assert_answers_count(whole.into_iter().chain(broken).map(|answer| (answer, None)).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_or_a_limit_is_never_tried_at_the_next_host() {
    let page = std::str::from_utf8(PAGE).unwrap();
    let answers = [
        (401, r#"{"code":307,"info":"AccessKey error"}"#, "auth"),
        (403, r#"{"code":307,"info":"IP 1.2.3.4 is not in the whitelist"}"#, "auth"),
        (403, r#"{"code":308,"info":"Sign error"}"#, "signature"),
        (403, " \n{\"code\":404,\"msg\":\"请检查accesskey是否有效\",\"data\":null}", "auth"),
        (403, r#"{"code":404,"info":"account locked"}"#, "rate_limited"),
        (451, r#"{"code":451,"info":"not available in your country"}"#, "api"),
        (429, page, "rate_limited"),
        (429, "", "rate_limited"),
        (418, page, "rate_limited"),
        (429, r#"{"code":307,"info":"AccessKey error"}"#, "rate_limited"),
        (404, page, "http"),
        (410, page, "http"),
        (200, r#"{"code":200,"data":{"usdt""#, "decode"),
        (200, "null", "decode"),
    ];
    let answers =
        answers.map(|(status, body, reason)| (http_response(status, &[], body.as_bytes()), Some(reason)));
    assert_answers_count(answers.into()).await;
}

#[tokio::test]
async fn a_host_that_is_blocked_for_every_call_is_followed_by_the_next() {
    let (first, second) = (Exchange::documented(), Exchange::documented());
    first.simulator.inject_fault(Fault::new(Effect::from_status(403)));
    let mut poller = TestPoller::new(&[&first.url(), &second.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!((poller.sample(FREE), poller.failures()), (LAST_GOOD_USDT, vec![]));
    let call_count = first.simulator.call_log().records.len();
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(
        first.simulator.call_log().records.len(),
        call_count,
        "the one that works is asked first from then on"
    );

    // What the second says of the key counts, and is not lost behind the block.
    second.simulator.inject_fault(Fault::new(Effect::Revoked));
    let mut poller = TestPoller::new(&[&first.url(), &second.url()]);
    assert!(!poller.poll().await);
    assert_eq!(poller.failures(), [("auth", 1.0)]);
    second.simulator.clear_faults();
    second.simulator.inject_fault(Fault::new(Effect::from_status(451)));
    let mut poller = TestPoller::new(&[&first.url(), &second.url()]);
    assert!(!poller.poll().await);
    assert_eq!(poller.failures(), [("http", 1.0)]);
}

#[tokio::test]
async fn the_host_that_worked_is_asked_first_for_ten_minutes() {
    let exchange = exchange_with_high_limits(vec![main_account()]);
    let (first, second) = (Proxy::new(exchange.address), Proxy::new(exchange.address));
    let request_counts = || (first.requests().len(), second.requests().len());
    first.set_mode(ProxyMode::Respond(Arc::new(|_| http_response(503, &[], b""))));
    let mut poller = TestPoller::new(&[&first.url(), &second.url()]);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(request_counts(), (2, 2), "the clock and the balances of each");
    first.set_mode(ProxyMode::Relay);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(request_counts(), (2, 3));
    advance_clock(Duration::from_mins(9)).await;
    exchange.simulator.set_clock_offset_ms(to_millis(Duration::from_mins(9)));
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(request_counts(), (2, 4), "also when the first is well again");
    advance_clock(Duration::from_mins(1)).await;
    exchange.simulator.set_clock_offset_ms(to_millis(Duration::from_mins(10)));
    assert!(poller.poll().await);
    assert_eq!(request_counts(), (3, 4), "until it is given another chance");
    assert!(poller.poll().await);
    assert_eq!(request_counts(), (4, 4), "and takes it");
    assert_eq!(poller.failures(), []);
}

#[tokio::test]
async fn when_the_spare_host_fails_the_first_is_asked_in_the_same_poll() {
    let exchange = Exchange::documented();
    let (first, second) = (Proxy::new(exchange.address), Proxy::new(exchange.address));
    let down = ProxyMode::Respond(Arc::new(|_| http_response(503, &[], b"")));
    first.set_mode(down.clone());
    let mut poller = TestPoller::new(&[&first.url(), &second.url()]);
    assert!(poller.poll().await);
    first.set_mode(ProxyMode::Relay);
    second.set_mode(down);
    assert!(poller.poll().await, "{:?}", poller.failure());
    assert_eq!(poller.failures(), []);
}

// The same answer again.

#[tokio::test]
async fn the_same_body_again_updates_only_the_time() {
    const REJECTED: &str = "xt_rows_rejected_total{account=\"main\",wallet=\"spot\"}";
    let exchange = Exchange::documented();
    let proxy = Proxy::new(exchange.address);
    let assert_answer = |free: &str, status: u16| {
        let rows = format!(
            r#""usdt":{{"available":"{free}","freeze":"1"}},"btc":{{"available":"NaN","freeze":"0"}}"#
        );
        let answer = http_response(status, &[], format!(r#"{{"code":200,"data":{{{rows}}}}}"#).as_bytes());
        proxy.set_mode(ProxyMode::Respond(Arc::new(move |_| answer.clone())));
    };
    let mut poller = TestPoller::new(&[&proxy.url()]);
    let mut seen = Vec::new();
    for (free, status) in [("900", 200), ("900", 200), ("900", 503), ("900", 200), ("901", 200), ("900", 200)]
    {
        advance_clock(Duration::from_secs(30)).await;
        assert_answer(free, status);
        let good = poller.poll().await;
        assert_eq!(good, status == 200, "{:?}", poller.failure());
        let age = poller.good_at().age(poller.clock.now());
        assert_eq!(age < Duration::from_secs(30), good, "a good answer is as new as its poll: {age:?}");
        seen.push((poller.sample(FREE), poller.sample(REJECTED), poller.sample(UP)));
    }
    let row = |free: f64, rejected: f64, up: f64| (Some(free), Some(rejected), Some(up));
    let expected = [
        row(900.0, 1.0, 1.0),
        row(900.0, 2.0, 1.0),
        row(900.0, 2.0, 0.0),
        row(900.0, 3.0, 1.0),
        row(901.0, 4.0, 1.0),
        row(900.0, 5.0, 1.0),
    ];
    assert_eq!(seen, expected);
}

// Connections.

#[tokio::test]
async fn every_call_has_a_connection_of_its_own() {
    let exchange = Exchange::documented();
    let proxy = Proxy::new(exchange.address);
    let mut poller = TestPoller::new(&[&proxy.url()]);
    for polls in 1..=2 {
        assert!(poller.poll().await, "{:?}", poller.failure());
        // The clock is read by the first poll alone.
        assert_eq!((proxy.connections(), proxy.requests().len()), (polls + 1, polls + 1));
    }
}

// Pauses.
// A poller that is stuck.

#[tokio::test]
async fn a_stuck_poller_is_reported_and_the_others_continue() {
    let exchange = two_keys();
    let url = exchange.url();
    let mut stuck = account("stuck", &[&url], key_source("nextKey", "nextSecret"));
    let mut well = account("main", &[&url], key_source(ACCESS_KEY, SECRET_KEY));
    (stuck.poll_interval, well.poll_interval) = (Duration::from_secs(2), Duration::from_secs(2));
    let mut pollers = TestPoller::for_accounts(vec![stuck, well]);
    let (store, clock) = (Arc::clone(&pollers[0].store), pollers[0].clock);
    let run = |mut poller: TestPoller| tokio::spawn(async move { poller.poller.run().await });
    let stuck = run(pollers.remove(0));
    let _well = run(pollers.remove(0));
    let polls = |name: &str| sample(&exposition(&store, clock.now()), &POLLS.replace("main", name)).unwrap();
    while polls("stuck") == 0.0 || polls("main") == 0.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(store.stuck_pollers(clock.now()), [""; 0]);
    // A task that is never run again is what a poller stuck in a loop or a lock looks like.
    stuck.abort();
    let alive_until = |name: &str| {
        let accounts = store.accounts();
        accounts.iter().find(|account| &*account.state.name == name).unwrap().heartbeat_deadline
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = Arc::new(Server::new(Arc::clone(&store), clock, "/metrics".to_owned(), 40));
    let _site = tokio::spawn(site.serve(vec![listener], std::future::pending()));
    let ask =
        |path| async move { tokio::task::spawn_blocking(move || get(address, path, &[])).await.unwrap() };
    assert_eq!(ask("/-/healthy").await.status, 200);

    // More time than any poller may stay silent, gone by at once.
    tokio::time::pause();
    let left = alive_until("stuck").checked_duration_since(clock.now().uptime);
    tokio::time::advance(left.unwrap_or_default()).await;
    tokio::time::resume();
    while alive_until("main") <= clock.now().uptime {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let health = ask("/-/healthy").await;
    assert_eq!(health.status, 503);
    assert!(health.text().contains("'stuck'"), "{}", health.text());
    assert!(!health.text().contains("'main'"), "{}", health.text());
    let before = polls("main");
    while polls("main") <= before {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
